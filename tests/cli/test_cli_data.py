from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image


def test_make_lists_its_tasks(command):
    for words in ([], ["--help"]):
        said = command("data", "make", *words)
        assert said.code == 0 and "blindtest/lines" in said.out and "classification" not in said.out
    assert "--num_images" in command("data", "make", "blindtest/lines", "--help").out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("mak", "There is no `foveal data mak`; there are make, pairs and inspect."),
        ("make blindtest/line", "There is no task 'blindtest/line'; did you mean 'blindtest/lines'?"),
        (
            "make classification",
            "The task classification makes no pictures of its own; those that do: blindtest/all, blindtest/circles, ",
        ),
        (
            "make --folder new blindtest/lines",
            "Give the task first: foveal data make TASK --folder ...; tasks: blindtest/all, blindtest/circles, ",
        ),
        ("make blindtest/lines", "--folder is required."),
        ("make blindtest/lines new", "'new' is not expected here; settings are written --key value."),
        ("make blindtest/lines --folder new --num_image 6", "There is no key --num_image; did you mean --num_images?"),
        ("make blindtest/lines --folder new --num_images six", "--num_images: must be a whole number, not 'six'."),
        ("make blindtest/lines --folder new --num_images 0", "--num_images: 0 is out of range; give 1 to "),
        ("make blindtest/lines --folder new --style papr", "--style: 'papr' is not possible; did you mean 'paper'?"),
        ("make blindtest/lines --folder r.yaml --num_images 3", "r.yaml/train: cannot be written: "),
        ("inspect", "The following arguments are required: RECIPE|RUN; `foveal data inspect --help` tells more."),
        ("inspect nope", "There is no recipe 'nope'; there are "),
        ("inspect r.yaml --count 0", "--count: must be at least 1."),
        ("inspect r.yaml --out folder", "folder: is a folder; give a file's name."),
        ("inspect r.yaml --out r.yaml/x.png", "cannot be written: r.yaml is a file; choose another folder."),
        ("inspect r.yaml --split tset", "Argument --split: invalid choice: 'tset'"),
        ("inspect r.yaml --spilt test", "There is no option --spilt; did you mean --split?"),
        ("inspect r.yaml --data.source nowhere", "nowhere: there is no such folder; check data.source."),
        ("inspect classification-folder", "data.source is required; set it in the recipe or with --data.source."),
    ],
)
def test_one_sentence_and_nothing_left(place, command, words, what):
    (place / "folder").mkdir()
    assert what in command("data", *words.split()).sentence()
    assert sorted(p.name for p in place.rglob("*")) == ["folder", "r.yaml"]


def test_make_does_not_touch_what_is_there(place, command):
    words = ["data", "make", "blindtest/lines", "--folder", "lines", "--num_images", 2, "--image_size", 64]
    assert command(*words).code == 0
    before = {p: p.read_bytes() for p in Path("lines").rglob("*") if p.is_file()}
    assert "lines/train: exists already;" in command(*words).sentence()
    assert {p: p.read_bytes() for p in Path("lines").rglob("*") if p.is_file()} == before


def test_inspect_shows_counts_prompt_and_sheet_of_a_recipe_and_of_a_run(run, command):
    for target in ("r.yaml", run):
        said = command("data", "inspect", target, "--split", "test", "--count", 3, "--out", "new/sheet.png")
        assert said.code == 0 and said.err == ""
        assert "classification, test: 6 rows of" in said.out and "33.3 %" in said.out
        assert "prompt: Which of these is shown in the picture: blue, green, red?" in said.out
        assert Image.open("new/sheet.png").width > 100


def test_inspect_says_which_rows_were_left_out(place, squares, command):
    shutil.copytree(squares, "mine")
    Path("mine/train/red/0.png").write_bytes(b"no picture")
    assert (
        "mine/train/red/0.png: not a picture"
        in command("data", "inspect", "r.yaml", "--data.source", "mine").sentence()
    )
    said = command("data", "inspect", "r.yaml", "--data.source", "mine", "--data.on_bad_image", "skip")
    assert said.code == 0 and "11 rows" in said.out and "1 row left out, e.g. train/red/0.png" in said.out


def test_brackets_in_names_of_classes_are_shown(place, command):
    for name in ("[red]", "[/red]x"):
        folder = Path("mine/train", name.replace("/", ""))
        folder.mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8)).save(folder / f"{i}.png")
    said = command("data", "inspect", "r.yaml", "--data.source", "mine")
    assert said.code == 0 and "[red]" in said.out and "[red]x" in said.out


def test_made_pictures_can_be_trained_on(place, command):
    words = ["data", "make", "blindtest/lines", "--folder", "lines", "--num_images", 2, "--image_size", 64]
    for split in ("train", "validation", "test"):
        assert command(*words, "--split", split).code == 0
    small = [
        "--data.source",
        "lines",
        "--training.max_steps",
        1,
        "--training.evaluate",
        "false",
        "--training.workers",
        0,
    ]
    said = command("train", "blindtest-lines", *small, "--evaluation.before", "false", "--name", "x")
    assert said.code == 0, said.err
    assert json.loads(Path("runs/x/data.json").read_text())["splits"]["train"]["rows"] == 6
