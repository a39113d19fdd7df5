from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet
import pytest
from PIL import Image

from stand_in import completion, serving


@pytest.fixture
def pictures(place, squares):
    """A folder with a good picture, a truncated one and an empty one."""
    folder = place / "pictures"
    folder.mkdir()
    shutil.copy(squares / "test/red/0.png", folder / "a.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:200])
    (folder / "c.png").touch()
    return Path("pictures")


def test_answers_of_a_run_of_files_and_folders(run, pictures, squares, command):
    files = ["pictures/a.png", squares / "test/blue", "--limit", 2]
    said = command("predict", run, *files, "--out", "new/deep/a.jsonl", "--sheet", "new/a.png")
    assert said.code == 0 and said.err == "" and "pictures/a.png" in said.out
    rows = [json.loads(line) for line in Path("new/deep/a.jsonl").read_text().splitlines()]
    assert [r["id"] for r in rows] == ["pictures/a.png", str(squares / "test/blue/0.png")]
    assert all(abs(sum(r["probabilities"].values()) - 1) < 1e-6 and "truth" not in r for r in rows)
    assert Image.open("new/a.png").width > 100


def test_a_recipes_model_can_be_asked_as_it_is(place, pictures, command):
    said = command("predict", "r.yaml", "--model.image_size", 28, "pictures/a.png")
    assert said.code == 0 and not Path("runs").exists()


def test_unreadable_pictures_stop_or_are_left_out(run, pictures, command):
    message = command("predict", run, pictures, "--out", "a.jsonl").sentence()
    assert message.startswith("pictures/b.png: the picture is damaged or truncated")
    assert not Path("a.jsonl").exists()
    said = command("predict", run, pictures, "--skip-bad", "--out", "a.jsonl")
    assert said.code == 0 and "left out: pictures/b.png: the picture is damaged" in said.out
    assert "left out: pictures/c.png: the file is empty" in said.out
    assert "2 of 3 pictures could not be read and were left out" in said.out
    rows = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert [(r["id"], "error" in r) for r in rows] == [(f"pictures/{n}.png", n != "a") for n in "abc"]
    message = command("predict", run, "pictures/b.png", "pictures/c.png", "--skip-bad").sentence()
    assert message.startswith("None of the 2 pictures can be read; the first: pictures/b.png: ")


def test_the_same_command_continues_a_file_and_leaves_a_complete_one(run, squares, command):
    folder = squares / "train"  # 12 pictures, batches of 8
    words = ("predict", run, folder, "--out")
    assert command(*words, "whole.jsonl").code == 0
    whole = Path("whole.jsonl").read_bytes()
    said = command(*words, "whole.jsonl")
    assert said.code == 0 and "has 12 answers and is complete; there is nothing new to ask." in said.out
    assert command(*words, "part.jsonl", "--limit", 8).code == 0
    said = command(*words, "part.jsonl")
    assert "part.jsonl: has 8 answers; 4 more are asked." in said.out and "12 answers: " in said.out
    assert Path("part.jsonl").read_bytes() == whole
    assert command(*words, "a.parquet").code == 0
    rows = pyarrow.parquet.read_table("a.parquet").to_pylist()
    kept = [json.loads(line) for line in whole.splitlines()]
    assert [(r["picture"], r["prediction"], dict(r["probabilities"])) for r in rows] == [
        (k["id"], k["value"], k["probabilities"]) for k in kept
    ]
    message = command(*words, "whole.jsonl", "--model.image_size", 14).sentence()
    assert "was made with another recipe or other settings; choose another --out, or delete whole.jsonl." in message
    assert Path("whole.jsonl").read_bytes() == whole


def test_answers_that_are_files_are_written(run, pictures, command, monkeypatch):
    from foveal import plugins
    from foveal.tasks.capabilities import Export
    from foveal.tasks.classification.task import Classification

    class Exporting(Export, Classification):
        def export(self, example, prediction, folder):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{Path(example.id).stem}.txt"
            path.write_text(prediction.value)
            return [path]

    monkeypatch.setattr(plugins, "find", lambda kind, name: Exporting)
    assert command("predict", run, pictures, "--skip-bad", "--files", "new/files").code == 0
    assert [p.name for p in Path("new/files").iterdir()] == ["a.txt"]


def test_odd_names_of_files(run, pictures, command):
    odd = [
        b"odd[/[red] y.png",
        b"odd[/x].png",
        "odd[/ünï 日本.png".encode(),
        b"odd[/latin-gr\xfcn.png",
        b"odd[/-dash.png",
    ]
    folder = Path("odd[")
    folder.mkdir()
    for name in odd:
        shutil.copy(b"pictures/a.png", name)
    said = command("predict", run, folder, "--out", "a.jsonl", "--sheet", "a.png")
    assert said.code == 0 and "odd[/[red] y.png" in said.out and "odd[/x].png" in said.out
    names = [json.loads(line)["id"] for line in Path("a.jsonl").read_text().splitlines()]
    assert sorted(os.fsencode(n) for n in names) == sorted(odd)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("runs/x", "The following arguments are required: PICTURE|FOLDER; `foveal predict --help` tells more."),
        ("", "The following arguments are required: RUN|RECIPE, PICTURE|FOLDER;"),
        ("runs/x nope.png", "nope.png: there is no such picture; check the path."),
        ("runs/x r.yaml", "r.yaml: not a picture in a known format ("),
        ("runs/x empty", "empty: the folder holds no pictures ("),
        ("runs/x pictures/a.png --limit -1", "--limit: must be at least 0."),
        ("runs/x pictures/a.png --limt 1", "There is no option --limt; did you mean --limit?"),
        ("runs/x pictures/a.png --out empty", "empty: is a folder; give a file's name."),
        ("runs/x pictures/a.png --out r.yaml/a.jsonl", "cannot be written: r.yaml is a file; choose another folder."),
        ("runs/x pictures/a.png --sheet r.yaml/a.png", "cannot be written: r.yaml is a file; choose another folder."),
        ("runs/x pictures/a.png --files r.yaml", "r.yaml: is a file; give a folder's name."),
        (
            "runs/x pictures/a.png --files new",
            "--files: the answers of classification are no files; leave --files out.",
        ),
        ("runs/x pictures/a.png --film new", "--film: the answers of classification do not come about in steps; leave"),
        ("runs/x pictures/a.png --text red", "text: classification takes no words about a picture; leave it out."),
        (
            "runs/x pictures/a.png --out r.yaml",
            "r.yaml: ends in '.yaml'; give a file that ends in .jsonl, .csv or .parquet.",
        ),
        ("runs/x pictures/a.png --checkpoint epoch-7", "has no checkpoint 'epoch-7'; choose one of "),
        (
            "runs/x pictures/a.png --model.max_pixels 100",
            "28 x 28 pixels are more than the limit of 100; shrink the picture",
        ),
        (
            "pictures runs/x",
            "pictures: holds no run (it has no recipe.yaml); give the folder of a run, e.g. runs/NAME.",
        ),
        ("builtin pictures/a.png", "There is no recipe 'builtin'; there are "),
    ],
)
def test_one_sentence_and_nothing_left(place, run, pictures, command, words, what):
    (place / "empty").mkdir()
    before = sorted(str(p) for p in place.rglob("*"))
    assert what in command("predict", *words.split()).sentence()
    assert sorted(str(p) for p in place.rglob("*")) == before


def test_a_server_is_asked_in_place_of_a_model(place, squares, command):
    with serving(answer=lambda _: completion("red")) as server:
        folder = squares / "test"
        said = command("predict", "r.yaml", "--model.id", f"{server.url}/v1", folder, "--out", "a.jsonl")
        assert said.code == 0
        rows = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
        assert server.count == len(rows) > 1
        assert all(r["value"] == "red" and r["confidence"] is None and r["finish"] == "stop" for r in rows)
        words = ("predict", "r.yaml", "--model.id", server.url, folder, "--evaluation.method", "score")
        assert command(*words).sentence().startswith("evaluation.method: score needs a model that runs here, for a")
    message = command("predict", "r.yaml", "--model.id", server.url, folder).sentence()
    assert message.startswith(f"{server.url}/v1: the server cannot be reached (")
