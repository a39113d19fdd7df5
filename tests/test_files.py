from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from foveal.errors import UserError
from foveal.files import (
    as_csv,
    check_input,
    check_output,
    check_text,
    csv_cell,
    csv_text,
    disk_errors,
    new_folder,
    to_json,
    write_bytes,
    write_json,
    write_text,
)


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


def test_writing_and_replacing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "note.txt"
    write_text(path, "Maß 1\n")
    assert path.read_bytes() == b"Ma\xc3\x9f 1\n"
    write_bytes(path, b"\x00new")
    assert path.read_bytes() == b"\x00new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(path.parent) == ["note.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, step, failing(errno.ENOSPC))
    with pytest.raises(UserError, match=r"note\.txt: cannot be written: the disk is full; free some space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["note.txt"]


def test_full_disk_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "mkstemp", failing(errno.ENOSPC))
    with pytest.raises(UserError, match="the disk is full"):
        write_text(tmp_path / "note.txt", "new")
    assert os.listdir(tmp_path) == []


def test_interrupt_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "note.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["note.txt"]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "the disk is full; free some space or choose another folder"),
        (errno.EDQUOT, "quota is used up; free some space"),
        (errno.EACCES, "permission denied; choose a folder that you may write to"),
        (errno.EROFS, "read-only; choose another folder"),
        (errno.ENOTDIR, "a part of the path is a file; choose another folder"),
        (errno.EEXIST, "a file of that name is in the way; choose another name"),
        (errno.EISDIR, "a folder of that name is in the way; choose another name"),
        (errno.ENOTEMPTY, "a folder of that name is in the way; choose another name"),
        (errno.ENAMETOOLONG, "the name is too long; choose a shorter one"),
    ],
)
def test_disk_errors_become_sentences(code: int, remedy: str) -> None:
    with pytest.raises(UserError) as error, disk_errors(Path("out/x")):
        raise OSError(code, os.strerror(code))
    assert str(error.value).startswith("out/x: cannot be written: ")
    assert remedy in str(error.value)
    assert isinstance(error.value.__cause__, OSError)


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(OSError, match="Input/output"), disk_errors(Path("x")):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(KeyError), disk_errors(Path("x")):
        raise KeyError("x")


def test_things_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="folder: cannot be written: a folder of that name"):
        write_text(tmp_path / "folder", "x")
    with pytest.raises(UserError, match=r"file/x: cannot be written: a (part of the path is a file|file of that name)"):
        write_text(tmp_path / "file" / "x", "x")
    with pytest.raises(UserError, match="the name is too long"):
        write_text(tmp_path / ("n" * 300), "x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_new_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "data"
    with new_folder(target) as folder:
        assert folder.parent == target.parent
        (folder / "a.txt").write_text("a")
        assert not target.exists()
    assert (target / "a.txt").read_text() == "a"
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    assert os.listdir(target.parent) == ["data"]


@pytest.mark.parametrize("error", [ValueError("x"), UserError("x"), KeyboardInterrupt()])
def test_new_folder_leaves_nothing_behind(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), new_folder(tmp_path / "data") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text("a")
        raise error
    assert os.listdir(tmp_path) == []


def test_new_folder_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(UserError, match="data: cannot be written: the disk is full"),
        new_folder(tmp_path / "data") as folder,
    ):
        (folder / "a.txt").write_text("a")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(os, "replace", failing(errno.ENOSPC))
    with pytest.raises(UserError, match="the disk is full"), new_folder(tmp_path / "data"):
        pass
    assert os.listdir(tmp_path) == []


def test_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "data"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    with (
        pytest.raises(UserError, match=r"data: exists already; choose another folder or remove it\."),
        new_folder(target),
    ):
        pytest.fail("the block was entered")
    with pytest.raises(UserError, match=r"mine\.txt: exists already"), new_folder(target / "mine.txt"):
        pytest.fail("the block was entered")
    with (
        pytest.raises(UserError, match=r"a (part of the path is a file|file of that name)"),
        new_folder(target / "mine.txt" / "data"),
    ):
        pytest.fail("the block was entered")
    assert (target / "mine.txt").read_text() == "mine"
    assert os.listdir(tmp_path) == ["data"]


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    target = tmp_path / "data"
    target.mkdir()
    with new_folder(target) as folder:
        (folder / "a.txt").write_text("a")
    assert os.listdir(target) == ["a.txt"]


def test_folder_that_fills_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "data"
    with pytest.raises(UserError, match="a folder of that name is in the way"), new_folder(target):
        target.mkdir()
        (target / "theirs.txt").write_text("theirs")
    assert os.listdir(target) == ["theirs.txt"]
    assert os.listdir(tmp_path) == ["data"]


def test_link_to_an_empty_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with new_folder(tmp_path / "link") as folder:
        (folder / "a.txt").write_text("a")
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(tmp_path / "real") == ["a.txt"]


def test_mount_point_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "out")
    with (
        pytest.raises(UserError, match=r"out: is a mount point.*choose a folder inside it"),
        new_folder(tmp_path / "out"),
    ):
        pytest.fail("the block was entered")
    assert os.listdir(tmp_path) == []


def test_place_that_may_not_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", failing(errno.EACCES))
    with pytest.raises(UserError, match="permission denied"), new_folder(tmp_path / "data"):
        pytest.fail("the block was entered")


def test_json_has_null_for_what_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1.5, float("nan")], "b": (float("inf"), None, "é"), "c": tmp_path})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": [1.5, None], "b": [None, None, "é"], "c": str(tmp_path)} and text.endswith("}\n")
    assert "é" in text


def test_json_is_strict_whatever_is_written(tmp_path: Path) -> None:
    value = {"a": float("nan"), "b": [1.5, float("inf"), {"c": float("-inf")}], "d": (0.25,)}
    assert json.loads(to_json(value), parse_constant=pytest.fail) == {
        "a": None,
        "b": [1.5, None, {"c": None}],
        "d": [0.25],
    }
    write_json(tmp_path / "x.json", value)
    assert (tmp_path / "x.json").read_text() == to_json(value, indent=2) + "\n"


def test_every_json_of_the_package_is_written_by_the_strict_writer() -> None:
    package = Path(str(files("foveal")))
    loose = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for line in path.read_text().splitlines()
        if "json.dump" in line and "allow_nan=False" not in line
    }
    # Settings and digests, in which there are no measured numbers.
    assert loose == {
        "config/trust.py", "config/values.py", "tasks/segmentation/benchmark_sizes.py", "tasks/segmentation/benchmark_memory.py", "api.py",
        "tasks/blindtest/benchmark_options.py", "asking/answer_files.py", "asking/replies.py", "asking/served.py",
    }  # fmt: skip


def test_what_killed_processes_left_is_removed_and_what_living_ones_write_and_foreign_folders_stay(tmp_path):
    for name in (".train.abcdefgh.unfinished", ".train.backup00", ".old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "picture.png").touch()
    with new_folder(tmp_path / "train") as living:
        with new_folder(tmp_path / "other"):
            assert living.is_dir() and living.name.endswith(".unfinished")
        assert living.is_dir()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".old", ".train.backup00", "other", "train"]


@pytest.mark.parametrize("write", [lambda p: write_text(p, "x"), lambda p: write_json(p, 1), check_output])
def test_only_files_and_new_names_are_written(tmp_path: Path, write: Callable[[Path], None]) -> None:
    pipe, link, gone, file = (tmp_path / n for n in ("pipe", "link", "gone", "file"))
    os.mkfifo(pipe)
    file.write_text("old")
    link.symlink_to(file)
    gone.symlink_to(tmp_path / "nothing")
    for path, what in (
        (pipe, "is a pipe, which a file cannot replace; give another name."),
        (Path("/dev/full"), "is a device, which a file cannot replace; give another name."),
        (link, f"is a link to {file}; give another name, or that of the file itself."),
        (gone, f"is a link to {tmp_path / 'nothing'}; give another name, or that of the file itself."),
    ):
        with pytest.raises(UserError) as refused:
            write(path)
        assert str(refused.value) == f"{path}: {what}"
    assert stat.S_ISFIFO(pipe.lstat().st_mode) and link.is_symlink() and file.read_text() == "old"
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode) and not (tmp_path / "nothing").exists()


def test_the_ending_of_an_output_decides(tmp_path: Path) -> None:
    check_output(tmp_path / "a.CSV", (".jsonl", ".csv"))
    for name, what in (("a.txt", "ends in '.txt'"), ("a", "has no ending"), (".csv", "has no ending")):
        with pytest.raises(UserError) as refused:
            check_output(tmp_path / name, (".jsonl", ".csv", ".parquet"))
        assert str(refused.value) == (f"{tmp_path / name}: {what}; give a file that ends in .jsonl, .csv or .parquet.")


def test_pipes_and_devices_are_no_input(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(UserError) as refused:
            check_input(path)
        assert str(refused.value) == f"{path}: is {what}; give a file, e.g. a copy of what comes from it."
    check_input(tmp_path)
    check_input(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["=1+1", "+x", "@x", "-x", "\tx", "\rx", "\nx", "＝1", "'=x", "''=x", "-1.5.2", "--1"])
def test_cells_that_spreadsheets_take_for_formulas_get_a_mark_and_read_back(text: str) -> None:
    assert csv_cell(text) == f"'{text}" and csv_text(csv_cell(text)) == text


@pytest.mark.parametrize("text", ["-1.5", "+2", "-1e-5", "-inf", "x=1", "'x", "", "a.png"])
def test_numbers_and_other_texts_stay_as_they_are(text: str) -> None:
    assert csv_cell(text) == text == csv_text(text)
    assert as_csv([[text, -1.5]]) == f"{text},-1.5\n"


def test_half_characters_are_refused_wherever_they_are() -> None:
    check_text({"a": ["😀", "\udcff", 1]}, "f")  # the last stands for a byte of a file's name
    for value in ("a\ud800", ["x", {"k": "\udfff"}], {"\ud83d": 1}):
        with pytest.raises(UserError, match=r"^f: the text '.*' has half a character \('\\ud.*'\); correct it\.$"):
            check_text(value, "f")
