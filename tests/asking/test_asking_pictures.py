from __future__ import annotations

from pathlib import Path

from test_answer_files import write_pictures

from foveal.asking.pictures import common_folder, export_folder, find_pictures


def test_a_path_comes_once_however_it_is_named(tmp_path):
    folder = write_pictures(tmp_path / "a", 2)
    inner = write_pictures(folder / "in", 2)
    found = list(find_pictures([folder, inner / "001.png", folder, inner, tmp_path / "gone.png"]))
    assert found == [
        folder / "000.png",
        folder / "001.png",
        inner / "001.png",
        inner / "000.png",
        tmp_path / "gone.png",
    ]


def test_files_of_answers_lie_as_their_pictures_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = Path("out")
    for name in ("a/b/1.png", "a/c/1.png"):
        Path(name).parent.mkdir(parents=True)
        Path(name).touch()
    # One folder, or one picture: what lies directly in it lies directly in the other.
    assert export_folder(out, Path("a/b/1.png"), common_folder(["a"])) == Path("out/b")
    assert export_folder(out, Path("a/b/1.png"), common_folder([tmp_path / "a/b"])) == out
    assert export_folder(out, Path("a/b/1.png"), common_folder(["a/b/1.png"])) == out
    # Two of one name do not meet, wherever they are.
    both = [export_folder(out, Path(p), common_folder(["a/b/1.png", "a/c/1.png"])) for p in ("a/b/1.png", "a/c/1.png")]
    assert both == [Path("out/b"), Path("out/c")]
    assert export_folder(out, Path("/elsewhere/1.png"), common_folder(["a"])) == Path("out/elsewhere")
