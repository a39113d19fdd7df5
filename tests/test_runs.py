from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from foveal.errors import UserError
from foveal.runs import check_new_run, create_run, environment, is_run, open_run


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(call, *words: object, **named: object) -> str:
    with pytest.raises(UserError) as error:
        call(*words, **named)
    return str(error.value)


def make_run(path: Path, *checkpoints: str) -> Path:
    path.mkdir(parents=True)
    (path / "recipe.yaml").touch()
    for name in checkpoints:
        (path / "checkpoints" / name).mkdir(parents=True)
    return path


# ---------------------------------------------------------------- new runs


def test_a_named_run_is_made_and_an_empty_folder_taken(here):
    assert create_run("runs", "mine", default_name="x").path == Path("runs/mine")
    assert create_run("runs", "mine", default_name="x").path.is_dir(), "nothing was written into it yet"


def test_a_run_without_a_name_is_called_after_what_it_does_and_when():
    path = create_run("out", None, default_name="blindtest/lines-SmolVLM 2").path
    assert path.parent == Path("out")
    assert path.name[:-16] == "blindtest-lines-SmolVLM-2" and path.name[-15:].replace("-", "").isdigit()


def test_runs_that_start_in_the_same_second_get_folders_of_their_own():
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: create_run("runs", None, default_name="sweep").path, range(24)))
    assert len(set(paths)) == 24 and all(p.is_dir() for p in paths)


@pytest.mark.parametrize("name", ["", "  ", ".", "..", "../x", "a/b", "/x", "a\\b", "a\0b"])
def test_names_that_cannot_be_a_folders(here, name):
    assert (
        refusal(check_new_run, "runs", name) == f"name: {name!r} cannot be a folder's name; choose one without slashes."
    )
    assert not list(here.iterdir())


def test_a_folder_that_holds_something_is_left_alone(here):
    make_run(Path("runs/mine"))
    assert refusal(create_run, "runs", "mine", default_name="x") == (
        "runs/mine: holds another run; choose another --name, continue it with `foveal train --resume runs/mine`, or remove it."
    )
    Path("runs/other").mkdir()
    Path("runs/other/notes.txt").touch()
    assert refusal(check_new_run, "runs", "other") == "runs/other: is not empty; choose another --name, or remove it."
    Path("runs/file").touch()
    assert refusal(check_new_run, "runs", "file") == "runs/file: is a file; choose another --name, or remove it."


@pytest.mark.parametrize("name", ["mine", None])
def test_an_output_that_is_no_folder(here, name):
    Path("file").touch()
    assert "cannot be written: file is a file; choose another folder." in refusal(check_new_run, "file", name)
    assert "cannot be written: file is a file" in refusal(create_run, "file/deeper", name, default_name="x")
    assert [p.name for p in here.iterdir()] == ["file"]


def test_a_name_that_is_too_long():
    assert "is too long; choose one of at most 255 letters." in refusal(check_new_run, "runs", "ü" * 128)
    assert refusal(check_new_run, "x" * 300, "mine").endswith("the name is too long; choose a shorter one.")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(here):
    Path("closed").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    assert "no permission to write to closed" in refusal(check_new_run, "closed", "mine")


def test_a_folder_without_permission_as_the_system_tells(here, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert refusal(check_new_run, "runs", "mine").endswith("no permission to write to .; choose another folder.")
    assert not list(here.iterdir())


# ---------------------------------------------------------------- runs that there are


def test_open_run_tells_what_is_wrong(here):
    make_run(Path("runs/mine"))
    Path("empty").mkdir()
    Path("file").touch()
    assert open_run("runs/mine").path == Path("runs/mine")
    hint = "give the folder of a run, e.g. runs/NAME."
    assert refusal(open_run, "runs/none") == f"runs/none: there is no such folder; {hint}"
    assert refusal(open_run, "file") == f"file: is a file; {hint}"
    assert refusal(open_run, "empty") == f"empty: holds no run (it has no recipe.yaml); {hint}"
    assert is_run("runs/mine") and not is_run("empty") and not is_run("runs/none")


def test_checkpoints_by_name(here):
    run = open_run(make_run(here / "runs" / "mine", "epoch-1", "epoch-2", ".writing-epoch-3"))
    assert (
        refusal(run.checkpoint, "epoch-9")
        == f"{run.path}: has no checkpoint 'epoch-9'; choose one of epoch-1, epoch-2."
    )
    (run.checkpoints / "last").symlink_to("epoch-2")
    assert run.checkpoint("best") == run.checkpoint("last") == run.checkpoint("epoch-2"), (
        "best is last where none was measured"
    )
    (run.checkpoints / "best").symlink_to("epoch-1")
    assert run.checkpoint().name == "epoch-1"
    for name in ("../..", "", ".", "epoch-1/..", ".writing-epoch-3", "/"):
        assert f"has no checkpoint {name!r}; choose one of best, epoch-1, epoch-2, last." in refusal(
            run.checkpoint, name
        )


def test_a_link_whose_checkpoint_is_gone_is_no_checkpoint(here):
    run = open_run(make_run(here / "mine", "epoch-1"))
    (run.checkpoints / "last").symlink_to("epoch-7")
    assert "has no checkpoint 'best'; choose one of epoch-1." in refusal(run.checkpoint, "best")
    (run.checkpoints / "best").symlink_to("epoch-6")
    for name, where in (("best", "epoch-6"), ("last", "epoch-7")):
        assert refusal(run.checkpoint, name) == (
            f"{run.checkpoints}/{name}: its checkpoint {where} is gone; restore it, or choose another checkpoint by its name."
        )


def test_a_run_without_a_checkpoint_says_how_to_go_on(here):
    run = open_run(make_run(Path("mine")))
    assert refusal(run.checkpoint) == "mine: has no checkpoint 'best' yet; train it with `foveal train --resume mine`."


# ---------------------------------------------------------------- metrics.csv


def test_metrics_have_the_columns_of_all_rows_and_repeat_exactly(here):
    run = create_run("runs", "mine", default_name="x")
    assert run.read_metrics() == []
    rows = [
        {"epoch": 1.0, "train_loss": 0.1 + 0.2, "timestamp": "2026-01-01T00:00:00+00:00"},
        {"epoch": 2.0, "train_loss": 1e-17, "val_accuracy": 0.5},
        {"epoch": round(5 / 2, 6), "step": 5.0},
    ]
    run.rewrite_metrics(rows)
    assert run.read_metrics() == rows
    assert run.metrics.read_text().splitlines()[-1] == "2.5,,,,5"


def test_the_history_has_the_rows_of_the_table(here):
    run = create_run("runs", "mine", default_name="x")
    rows = [{"epoch": 1.0, "train_loss": 0.1 + 0.2, "step": 7}]
    run.rewrite_metrics([*rows, {"epoch": 2.0, "train_loss": float("nan"), "val_giou": 1 / 3}])
    kept = json.loads(run.history.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert kept == [*rows, {"epoch": 2.0, "train_loss": None, "val_giou": 1 / 3}]
    run.rewrite_metrics([])
    assert not run.history.exists() and not run.metrics.exists()


@pytest.mark.parametrize(("text", "reason"), [
    (b"epoch,step\nfirst,1\n", "line 2 has no number in the column epoch"),
    (b"\xff\xfe", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    (b"step\n1\n", "line 2 has no number in the column epoch"),
])  # fmt: skip
def test_a_table_that_was_edited_is_a_sentence(here, text, reason):
    run = create_run("runs", "mine", default_name="x")
    run.metrics.write_bytes(text)
    assert refusal(run.read_metrics) == (
        f"runs/mine/metrics.csv: cannot be read ({reason}); restore the file, or remove it."
    )


def test_environment_names_what_decides_a_result():
    found = environment()
    assert found["packages"]["torch"] and found["packages"]["foveal"]
    assert found["world_size"] == 1 and found["cpu"]["threads"] >= 1 and found["time"].endswith("+00:00")
