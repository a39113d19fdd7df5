from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from foveal.tasks.comparison.generate import Synthetic

RECIPE = """\
task: comparison
data: {{pictures: 16, image_size: 64, train: 6, validation: 3, test: 3, wording: short}}
model: {{id: {model}, device: cpu}}
training: {{epochs: 1, batch_size: 6, learning_rate: 1e-3, precision: float32, evaluate: false}}
evaluation: {{batch_size: 8, shown: 1}}
objective: label
"""


@pytest.fixture(scope="session")
def folds(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training on one fold. Tests must not write to it."""
    from foveal.config.reading import read_recipe
    from foveal.training.folds import train_folds

    folder = tmp_path_factory.mktemp("folds")
    (folder / "r.yaml").write_text(RECIPE.format(model=tiny("idefics3")))
    words = ["--output", str(folder), "--name", "k"]
    return train_folds(read_recipe(folder / "r.yaml", words), [1], Console(quiet=True))


@pytest.fixture
def here(folds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with five pictures, a recipe, and runs: `k` of folds, `x` of the comparison."""
    shutil.copytree(folds, tmp_path / "runs" / "k", symlinks=True)
    shutil.copytree(folds / "fold-1", tmp_path / "runs" / "x", symlinks=True)
    shutil.copy(folds.parent / "r.yaml", tmp_path)
    (tmp_path / "pictures").mkdir()
    for k, row in enumerate(Synthetic("dots", 5, image_size=64)):
        row.picture.open().save(tmp_path / "pictures" / f"{k}.png")
    (tmp_path / "one").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "one" / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    shutil.copy(tmp_path / "one" / "a.png", tmp_path / "bad")
    (tmp_path / "bad" / "z.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_ranked_with_a_table_and_a_strip(here: Path, command) -> None:
    said = command("rank", "runs/x", "pictures", "--out", "r.csv", "--sheet", "r.png")
    assert said.code == 0 and said.err == ""
    with Path("r.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["rank", "picture", "strength", "low", "high", "compared"]
    assert sorted(r["picture"] for r in rows) == [f"pictures/{k}.png" for k in range(5)]
    assert [int(r["rank"]) for r in rows] == [1, 2, 3, 4, 5]
    strengths = [float(r["strength"]) for r in rows]
    assert strengths == sorted(strengths, reverse=True) and abs(sum(strengths)) < 1e-3
    assert all(float(r["low"]) < float(r["strength"]) < float(r["high"]) for r in rows)
    assert {r["compared"] for r in rows} == {"4"}, "all ten pairs, as five pictures have no more"
    with Image.open("r.png") as sheet:
        assert sheet.size == (12 + 5 * 144, 12 + 184)
    for row in rows:
        assert row["picture"] in said.out


def test_the_ending_decides_how_the_ranking_is_written(here: Path, command) -> None:
    words = ("rank", "runs/x", "pictures", "--limit", 3, "--out")
    assert command(*words, "r.jsonl").code == 0
    rows = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    assert [r["rank"] for r in rows] == [1, 2, 3] and sorted(r["picture"] for r in rows) == [
        f"pictures/{k}.png" for k in range(3)
    ]
    assert (
        command(*words, "r.parquet").sentence()
        == "r.parquet: ends in '.parquet'; give a file that ends in .csv or .jsonl."
    )
    assert (
        command(*words, "r.csv", "--sheet", "r.jpg").sentence()
        == "r.jpg: ends in '.jpg'; give a file that ends in .png."
    )
    Path("r.csv").symlink_to("/dev/full")
    assert command(*words, "r.csv").sentence() == (
        "r.csv: is a link to /dev/full; give another name, or that of the file itself."
    )


def test_the_same_seed_ranks_alike_and_pictures_may_be_named(here: Path, command) -> None:
    words = ("rank", "runs/x", "pictures/0.png", "pictures/1.png", "pictures/0.png", "one", "--comparisons", 2)
    texts = []
    for name in ("a.csv", "b.csv"):
        assert command(*words, "--seed", 4, "--one-order", "--out", name).code == 0
        texts.append(Path(name).read_text())
    assert texts[0] == texts[1] and len(texts[0].splitlines()) == 4
    assert sum(int(line.rsplit(",", 1)[1]) for line in texts[0].splitlines()[1:]) == 4


def test_a_recipes_model_ranks_as_it_is_and_a_limit_holds(here: Path, command) -> None:
    said = command("rank", "r.yaml", "pictures", "--limit", 3, "--out", "r.csv", "--evaluation.batch_size", 2)
    assert said.code == 0 and len(Path("r.csv").read_text().splitlines()) == 4
    assert not (here / "runs" / "comparison").exists()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("", "The following arguments are required: RUN|RECIPE, PICTURE|FOLDER"),
        ("runs/x", "The following arguments are required: PICTURE|FOLDER"),
        ("runs/xx pictures", "runs/xx: there is no such run or recipe; did you mean runs/x?"),
        ("runs/k pictures", "runs/k: holds runs of folds; name one of them, e.g. runs/k/fold-1."),
        ("other.yaml pictures", "other.yaml: is of the task blindtest/lines; a ranking needs a run of comparison."),
        ("runs/x nowhere", "nowhere: there is no such picture; check the path."),
        ("runs/x one", "one/a.png: is the only picture; a ranking needs at least two."),
        ("runs/x pictures --limit 1", "pictures/0.png: is the only picture; a ranking needs at least two."),
        ("runs/x bad", "bad/z.png: "),
        ("runs/x empty", "empty: the folder holds no pictures ("),
        ("runs/x pictures --comparisons 3", "--comparisons: 3 cannot link 5 pictures; give at least 4, better 10."),
        ("runs/x pictures --comparisons -1", "--comparisons and --limit: must be at least 0."),
        ("runs/x pictures --comparisons many", "Argument --comparisons: invalid int value: 'many'"),
        ("runs/x pictures --comparison 3", "There is no option --comparison; did you mean --comparisons?"),
        ("runs/x pictures --out pictures", "pictures: is a folder; give a file's name."),
        ("runs/x pictures --sheet r.yaml/x.png", "cannot be written: r.yaml is a file; choose another folder."),
        ("runs/x pictures --checkpoint epoch-9", "runs/x: has no checkpoint 'epoch-9'; choose one of "),
        ("runs/x pictures --model.max_pixels 100", "64 x 64 pixels are more than the limit of 100; "),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(here: Path, command, words: str, what: str) -> None:
    Path("other.yaml").write_text("task: blindtest/lines\n")
    before = sorted(str(p) for p in here.rglob("*"))
    assert what in command("rank", *words.split()).sentence()
    assert sorted(str(p) for p in here.rglob("*")) == before


def test_a_run_of_comparisons_predicts_no_single_picture(here: Path, command) -> None:
    assert command("predict", "runs/x", "one").sentence() == (
        "A comparison needs two pictures; rank a folder with `foveal rank RUN FOLDER`."
    )


# ------------------------------------------------------------------------------------------------- folds


def test_a_fold_is_measured_by_its_name_or_its_number(here: Path, command) -> None:
    words = ("--samples", 2, "--checkpoint", "last")
    said = command("evaluate", "runs/k/fold-1", *words, "--as", "named")
    assert said.code == 0 and said.err == ""
    said = command("evaluate", "runs/k", "--fold", 1, *words, "--as", "numbered")
    assert said.code == 0 and "runs/k/fold-1/evaluation/numbered/report.html" in said.out
    named, numbered = (
        json.loads(Path(f"runs/k/fold-1/evaluation/{n}/results.json").read_text()) for n in ("named", "numbered")
    )
    assert named["metrics"] == numbered["metrics"] and named["rows"] == 2
    assert "consistency" in named["metrics"], "two of the rows are one pair in both orders"
    assert "generated: dots, seed 42, fold 1, test" in named["source"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("evaluate runs/k", "runs/k: holds runs of folds; name one of them, e.g. runs/k/fold-1."),
        ("evaluate runs/k --fold 2", "--fold: runs/k holds no run fold-2; give the folder that --folds left."),
        ("evaluate runs/x --fold 1", "--fold: runs/x holds no run fold-1; give the folder that --folds left."),
        ("evaluate runs/k --fold one", "Argument --fold: invalid int value: 'one'"),
        ("train --resume runs/k", "runs/k: holds runs of folds; name one of them, e.g. runs/k/fold-1."),
        ("train --resume runs/k/fold-1 --folds all", "--resume continues a run as its own recipe says; "),
        ("train r.yaml --folds", "Argument --folds: expected one argument"),
        ("train r.yaml --folds 0", "--folds: '0' is neither all nor numbers such as 1,3; folds are numbered from 1."),
        ("train r.yaml --fold 1", "There is no option --fold; did you mean --folds?"),
        ("train other.yaml --folds all", "--folds: the task blindtest/lines has no folds; leave the option out."),
        (
            "train r.yaml --folds 1 --name k --seed 7",
            "runs/k/fold-1: was trained with seed 1, not 8; choose another --name",
        ),
        ("train r.yaml --folds 1 --name x", "runs/x: holds another run; choose another --name"),
    ],
)
def test_wrong_folds_are_one_sentence_and_leave_nothing(here: Path, command, words: str, what: str) -> None:
    Path("other.yaml").write_text("task: blindtest/lines\n")
    before = sorted(str(p) for p in here.rglob("*"))
    assert what in command(*words.split()).sentence()
    assert sorted(str(p) for p in here.rglob("*")) == before


def test_folds_on_the_command_line_continue_where_they_ended(here: Path, command) -> None:
    said = command("train", "r.yaml", "--folds", "1", "--name", "k")
    assert said.code == 0 and "Fold 1, seed 1: runs/k/fold-1, is finished" in said.out
    assert "Summary: runs/k/summary.json" in said.out and "accuracy" in said.out
