from __future__ import annotations

import csv
from pathlib import Path

import pytest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table of sixty scores, and some that are wrong."""
    monkeypatch.chdir(tmp_path)
    lines = [f"{i:02d}.png,{10 + i * 37 % 41}e-1" for i in range(60)]
    Path("rated.csv").write_text("image,score\n" + "\n".join(lines) + "\n")
    Path("wrong.csv").write_text("image,score\n" + "\n".join([*lines[:5], "x.png,high"]) + "\n")
    Path("few.csv").write_text("image,score\n" + "\n".join(lines[:8]) + "\n")
    Path("named.csv").write_text("who,beauty\n" + "\n".join(lines) + "\n")
    Path("full").mkdir()
    Path("full/file").touch()
    return tmp_path


def read(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_pairs_of_two_folds(here: Path, command) -> None:
    said = command("data", "pairs", "--source", "rated.csv", "--folder", "out", "--number", 90, "--folds", "[1, 4]")
    assert said.code == 0 and said.err == "" and "Made: out" in said.out
    names = [f"{part}_fold{k}_{n}.csv" for part, n in (("eval", 66), ("train", 90)) for k in (1, 4)]
    assert sorted(p.name for p in Path("out").iterdir()) == ["README.md", *names]
    for k in (1, 4):
        train, test = read(f"out/train_fold{k}_90.csv"), read(f"out/eval_fold{k}_66.csv")
        assert list(train[0]) == ["img1", "img2", "score1", "score2", "label"]
        assert [sum(r["label"] == name for r in train) for name in ("First", "Second", "Similar")] == [30, 30, 30]
        pictures = [{r[c] for r in rows for c in ("img1", "img2")} for rows in (train, test)]
        assert not pictures[0] & pictures[1] and len(pictures[1]) == 12


def test_the_same_command_writes_the_same_files(here: Path, command) -> None:
    for name in ("a", "b"):
        words = ("--folder", name, "--number", "30", "--folds", "[2]", "--threshold", "0.5", "--seed", "7")
        assert command("data", "pairs", "--source", "rated.csv", *words).code == 0
    for path in Path("a").iterdir():
        assert path.read_bytes() == (Path("b") / path.name).read_bytes()


def test_help_shows_the_keys(here: Path, command) -> None:
    said = command("data", "pairs", "--help")
    assert said.code == 0
    for key in ("--source", "--folder", "--threshold", "--intervals", "--split", "--raters"):
        assert key in said.out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("--source rated.csv", "folder is required"),
        ("--folder out", "source is required"),
        ("--source nowhere --folder out", "source: nowhere: there is no such folder or table; check the path."),
        (
            "--source full --folder out",
            "source: full: holds no table, and is no folder of SCUT-FBP5500; give one table.",
        ),
        ("--source rated.csv --folder full", "full: exists already; choose another folder or remove it."),
        ("--source rated.csv --folder rated.csv/x", "cannot be written: rated.csv is a file; choose another folder."),
        ("--source rated.csv --folder out", "number: 45,000 pairs need 15,000 whose scores differ by at most 0.2"),
        ("--source rated.csv --folder out --number 0", "number: 0 is too few pairs; give at least 1."),
        ("--source rated.csv --folder out --number many", "--number: "),
        ("--source rated.csv --folder out --threshold -1", "threshold: -1 is negative; give 0 or more."),
        ("--source rated.csv --folder out --folds [6]", "folds: there is no fold 6; rated.csv has 1, 2, 3, 4, 5."),
        ("--source rated.csv --folder out --number 9 --intervals [0.5]", "intervals: one bound makes no interval; "),
        ("--source rated.csv --folder out --split evil", "--split: 'evil' is not possible; did you mean 'eval'?"),
        ("--source rated.csv --folder out --thresold 1", "did you mean --threshold?"),
        ("--source few.csv --folder out", "folds: 8 rated pictures are too few for 5 folds; give at least 20."),
        (
            "--source wrong.csv --folder out",
            "wrong.csv, line 7: the score 'high' is no number like 2.5; correct or remove it.",
        ),
        ("--source named.csv --folder out", "named.csv: "),
        ("--source rated.csv --folder out --raters 7 --number 9", "is no mean of 7 whole ratings"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(here: Path, command, words: str, what: str) -> None:
    before = sorted(str(p) for p in here.rglob("*"))
    assert what in command("data", "pairs", *words.split()).sentence()
    assert sorted(str(p) for p in here.rglob("*")) == before


def test_columns_of_other_names_are_named(here: Path, command) -> None:
    words = ("--image_column", "who", "--score-column", "beauty", "--number", 9, "--folds", "[1]", "--split", "train")
    assert command("data", "pairs", "--source", "named.csv", "--folder", "out", *words).code == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["README.md", "train_fold1_9.csv"]
