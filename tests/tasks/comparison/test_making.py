from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from written_pairs import PairFile, read_pairs

from foveal.config.keys import section_keys
from foveal.config.reading import build_section
from foveal.errors import UserError
from foveal.tasks.comparison.making import PairsMake, make_pairs
from foveal.tasks.comparison.pairs import by_score


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rated.csv"
    path.write_text("image,score\n" + "".join(f"{i}.png,{1 + i % 41 / 10:.1f}\n" for i in range(60)))
    return path


def make(source: Path, folder: Path, **options: Any) -> Path:
    return make_pairs(PairsMake(str(source), str(folder), **{"number": 60, **options}))


def wrong_labels(file: PairFile, threshold: str) -> int:
    """How many labels are not those that the scores give."""
    expected = by_score(file.scores, threshold).labels(file.pairs.first, file.pairs.second)
    return int((expected != file.pairs.label).sum())


def test_files_of_each_fold_hold_disjoint_pictures_and_their_pairs(table: Path, tmp_path: Path) -> None:
    folder = make(table, tmp_path / "pairs", threshold=0.3)
    names = [f"{part}_fold{k}_{n}.csv" for part, n in (("eval", 66), ("train", 60)) for k in range(1, 6)]
    assert sorted(p.name for p in folder.iterdir()) == sorted(["README.md", *names])
    tested: set[str] = set()
    for k in range(1, 6):
        train, test = read_pairs(folder / f"train_fold{k}_60.csv"), read_pairs(folder / f"eval_fold{k}_66.csv")
        assert train.pairs.counts() == {"First": 20, "Second": 20, "Similar": 20}
        assert not set(train.names) & set(test.names)
        assert len(test.names) == 12 and len(test.pairs) == len({frozenset((a, b)) for a, b, _ in test.pairs}) == 66
        assert wrong_labels(train, "0.3") == wrong_labels(test, "0.3") == 0
        tested |= set(test.names)
    assert len(tested) == 60


def test_the_card_states_the_counts_and_the_threshold(table: Path, tmp_path: Path) -> None:
    folder = make(table, tmp_path / "pairs", threshold=0.3, folds=[2], intervals=[0.3, 1, 4])
    card = (folder / "README.md").read_text()
    assert "| threshold | 0.3 |" in card and "differ by at most 0.3" in card and "differences between 0.3 1 4" in card
    assert "| train_fold2_60.csv | 48 | 60 | 20 (33.3 %) | 20 (33.3 %) | 20 (33.3 %) |" in card
    (line,) = re.findall(r"\| eval_fold2_66\.csv \| 12 \| 66 \| (.*) \|", card)
    counts = [int(cell.split()[0]) for cell in line.split(" | ")]
    assert counts == list(read_pairs(folder / "eval_fold2_66.csv").pairs.counts().values())
    assert str(table) in card and "drawn by the seed" in card


def test_the_same_options_write_the_same_files(table: Path, tmp_path: Path) -> None:
    first, again, other = (make(table, tmp_path / f"{i}", seed=seed, folds=[1]) for i, seed in enumerate((1, 1, 2)))
    for path in sorted(first.iterdir()):
        assert path.read_bytes() == (again / path.name).read_bytes()
        assert path.read_bytes() != (other / path.name).read_bytes()
    # Each fold has pairs of its own even where the pictures are the same.
    with (first / "train_fold1_60.csv").open() as stream:
        assert next(csv.reader(stream)) == ["img1", "img2", "score1", "score2", "label"]


@pytest.mark.parametrize(("split", "names"), [("train", ["train_fold3_60.csv"]), ("eval", ["eval_fold3_66.csv"])])
def test_one_split_alone(table: Path, tmp_path: Path, split: str, names: list[str]) -> None:
    folder = make(table, tmp_path / "pairs", split=split, folds=[3])
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", *names]


def test_official_folds_are_taken(tmp_path: Path) -> None:
    lines = [f"ftw{i}.jpg {(100 + i) / 60:.6f}\n" for i in range(12)]
    for k in (1, 2):
        place = tmp_path / "scut" / "data" / str(k)
        place.mkdir(parents=True)
        (place / f"test_{k}.txt").write_text("".join(lines[6 * k - 6 : 6 * k]))
        (place / f"train_{k}.txt").write_text("".join(lines[: 6 * k - 6] + lines[6 * k :]))
    folder = make(tmp_path / "scut", tmp_path / "pairs", number=4, threshold=0.05)
    assert {p.name for p in folder.iterdir()} == {
        "README.md",
        *(f"{part}_fold{k}_{n}.csv" for part, n in (("train", 4), ("eval", 15)) for k in (1, 2)),
    }
    file = read_pairs(folder / "eval_fold2_15.csv", raters=60)
    assert set(file.names) == {f"CF{i}.jpg" for i in range(6, 12)}
    assert wrong_labels(file, "0.05") == 0 and file.pairs.counts()["Similar"] == 12
    assert "the source's own" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": -1.0}, "threshold: -1 is negative"),
        ({"folds": [6]}, "folds: there is no fold 6"),
        ({"number": 10**6}, r"number: 1,000,000 pairs need"),
        ({"image_column": "x"}, "has no column 'x'"),
        ({"raters": 3}, r"line 3: the score 1\.1 is no mean of 3 whole ratings"),
        ({"intervals": [3.0, 1.0]}, "intervals: 3 1 do not rise"),
    ],
)
def test_wrong_options_are_refused_and_leave_no_folder(
    table: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(table, tmp_path / "pairs", **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rated.csv"]


def test_a_folder_that_is_there_is_not_replaced(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already; choose another folder or remove it"):
        make(table, tmp_path)
    with pytest.raises(UserError, match="folder: is empty"):
        make_pairs(PairsMake(str(table), " "))


def test_options_come_from_a_command_line() -> None:
    words = "--source x --folder y --folds 1 3 --threshold 0.1 --split eval --intervals 0.1 1 4 --number 90".split()
    options = build_section(PairsMake, words, section_keys(PairsMake))
    assert options == PairsMake("x", "y", [1, 3], 90, 0.1, split="eval", intervals=[0.1, 1.0, 4.0])
