from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.errors import ImageError, UserError
from foveal.tasks.comparison.pairs import all_pairs, by_score, pair_total, training_pairs
from foveal.tasks.comparison.scores import RatedSet
from foveal.tasks.comparison.scut import NAMES, is_scut, newer_name, older_name, read_scut

ZIP = "SCUT-FBP5500_v2/train_test_files/5_folders_cross_validations_files"
ROWS = {f"CF{i}.jpg": Fraction(100 + i, 60) for i in range(1, 6)} | {"AM7.jpg": Fraction(200, 60)}


def write_lists(root: Path, *, layout: str = "github", folds: int = 3) -> Path:
    """Lists of six pictures, two tested in each fold, in a layout's folders and names."""
    name = older_name if layout == "github" else str
    for k in range(1, folds + 1):
        folder = (
            root / ("data" if layout == "github" else ZIP) / (str(k) if layout == "github" else f"cross_validation_{k}")
        )
        folder.mkdir(parents=True)
        test = list(ROWS)[2 * k - 2 : 2 * k]
        for part, names in (("test", test), ("train", [n for n in ROWS if n not in test])):
            lines = "".join(f"{name(n)} {float(ROWS[n]):.6f}\n" for n in names)
            (folder / f"{part}_{k}.txt").write_text(lines)
    if layout == "zip":
        files = root / "SCUT-FBP5500_v2" / "train_test_files"
        (files / "All_labels.txt").write_text("".join(f"{n} {float(s):.6f}\n" for n, s in ROWS.items()))
        (files / "split_of_60%training and 40%testing").mkdir()
        (files / "split_of_60%training and 40%testing" / "train.txt").write_text("CF1.jpg 9\n")
    return root


@pytest.fixture(scope="module")
def labels(real_data: Path) -> RatedSet:
    return read_scut(real_data / "scut_fbp5500_labels")


# ------------------------------------------------------------------------------------------------- the real lists


def test_official_folds_are_disjoint_and_test_all_5500_pictures(labels: RatedSet) -> None:
    assert [f.number for f in labels.folds] == [1, 2, 3, 4, 5]
    everything = {r.id for r in labels.rows}
    assert len(labels.rows) == len(everything) == 5500
    assert Counter(r.id for f in labels.folds for r in f.test) == Counter(everything)
    for fold in labels.folds:
        train, test = {r.id for r in fold.train}, {r.id for r in fold.test}
        assert (len(fold.train), len(fold.test)) == (len(train), len(test)) == (4400, 1100)
        assert not train & test and train | test == everything


def test_both_namings_name_the_same_5500_scores(real_data: Path) -> None:
    folder = real_data / "scut_fbp5500_labels"
    newer = dict(line.split() for line in (folder / "All_labels.txt").read_text().splitlines())
    older = [line.split() for k in range(1, 6) for line in (folder / f"data/{k}/test_{k}.txt").read_text().splitlines()]
    assert len(newer) == len(older) == 5500
    assert all(newer[str(newer_name(name))] == score for name, score in older)
    assert [older_name(n) for n in newer] == [name for name, _ in older]
    assert Counter(n[:2] for n in newer) == {"AF": 2000, "AM": 2000, "CF": 750, "CM": 750}


def test_facts_of_the_scores(labels: RatedSet) -> None:
    scores = [r.score for r in labels.rows]
    assert all((60 * s).denominator == 1 for s in scores)
    assert len(set(scores)) == 211
    assert (round(float(min(scores)), 3), float(max(scores))) == (1.017, 4.75)
    values = np.array(scores, float)
    assert (round(values.mean(), 3), round(values.std(), 3)) == (2.991, 0.688)


#: Share of all pairs of the 5,500 pictures whose scores differ by at most so much.
SHARES = {
    "0": 0.00756,
    "0.05": 0.05267,
    "0.1": 0.09736,
    "0.2": 0.18453,
    "0.25": 0.22633,
    "0.3": 0.26682,
    "0.5": 0.41282,
}


def similar_pairs(scores: list[Fraction], threshold: str) -> int:
    """How many of all pairs of pictures are Similar."""
    end = by_score(scores, threshold).end.astype(np.int64)
    return int((end - np.arange(1, len(end) + 1)).sum())


def test_shares_of_pairs_within_thresholds(labels: RatedSet) -> None:
    scores = [r.score for r in labels.rows]
    counts = [similar_pairs(scores, threshold) for threshold in SHARES]
    # The slow reference: a histogram of whole sixtieths, all pairs of its bins.
    sixtieths = np.array([int(60 * r.score) for r in labels.rows])
    histogram = np.bincount(sixtieths).astype(np.int64)
    ordered = np.correlate(histogram, histogram, "full")[len(histogram) - 1 :]
    for (threshold, share), count in zip(SHARES.items(), counts, strict=True):
        steps = int(Fraction(threshold) * 60)
        assert count == (ordered[0] - 5500) // 2 + ordered[1 : steps + 1].sum()
        assert round(count / pair_total(5500), 5) == share


def test_all_604450_pairs_of_each_test_list(labels: RatedSet) -> None:
    assert pair_total(1100) == 604_450
    for fold in labels.folds:
        scores = [r.score for r in fold.test]
        pairs = all_pairs(scores, "0.1")
        counts = pairs.take(range(len(pairs))).counts()
        assert len(pairs) == sum(counts.values()) == 604_450
        assert counts["Similar"] == similar_pairs(scores, "0.1")
        # A fair coin's First and Second are within four standard deviations of each other.
        assert abs(counts["First"] - counts["Second"]) < 4 * (604_450 - counts["Similar"]) ** 0.5


@pytest.mark.parametrize("threshold", ["0", "0.1", "0.5"])
def test_45000_training_pairs_have_15000_of_each_label(labels: RatedSet, threshold: str) -> None:
    for fold in labels.folds:
        scores = [r.score for r in fold.train]
        pairs = training_pairs(scores, threshold, 45_000, 42 + fold.number)
        assert pairs.counts() == {"First": 15_000, "Second": 15_000, "Similar": 15_000}
        low, high = np.minimum(pairs.first, pairs.second), np.maximum(pairs.first, pairs.second)
        assert (low < high).all() and len(np.unique(low.astype(np.int64) * 4400 + high)) == 45_000
        sixtieths = np.array([int(60 * s) for s in scores])
        difference = sixtieths[pairs.first] - sixtieths[pairs.second]
        limit = int(Fraction(threshold) * 60)
        expected = np.where(np.abs(difference) <= limit, 2, np.where(difference > 0, 0, 1))
        assert (pairs.label == expected).all()
        # Training pictures occur 20 times on average; nearly all occur.
        assert len(np.unique([pairs.first, pairs.second])) > 4300


def test_labels_at_the_threshold_differ_from_those_of_floats(labels: RatedSet) -> None:
    rows = labels.folds[0].test
    scores = [r.score for r in rows]
    floats = np.array(scores, float)
    a, b = np.triu_indices(len(rows), 1)
    similar = by_score(scores, "0.1").labels(a, b) == 2
    wrong = similar != (np.abs(floats[a] - floats[b]) <= 0.1)
    assert wrong.sum() > 1000
    assert {abs(scores[i] - scores[j]) for i, j in zip(a[wrong], b[wrong], strict=True)} == {Fraction(1, 10)}


def test_opening_a_picture_without_the_pictures_says_so(labels: RatedSet) -> None:
    with pytest.raises(ImageError, match=r"CF437\.jpg: there is no such picture"):
        labels.rows[0].picture.open()


# --------------------------------------------------------------------------------------------------- names, layouts


def test_names_map_both_ways() -> None:
    for old, new in NAMES.items():
        assert newer_name(f"{old}12.jpg") == newer_name(f"{new}12.jpg") == f"{new}12.jpg"
        assert older_name(f"{new}12.jpg") == older_name(f"{old}12.jpg") == f"{old}12.jpg"
    assert newer_name("FTW437.JPG") == "CF437.jpg"
    assert newer_name("face.jpg") is older_name("face.jpg") is None


@pytest.mark.parametrize("layout", ["github", "zip"])
def test_both_layouts_are_read_alike(tmp_path: Path, layout: str) -> None:
    root = write_lists(tmp_path / "with a space and 60%", layout=layout)
    rated = read_scut(root)
    assert {r.id: r.score for r in rated.rows} == ROWS
    assert [[r.id for r in f.test] for f in rated.folds] == [
        ["CF1.jpg", "CF2.jpg"],
        ["CF3.jpg", "CF4.jpg"],
        ["CF5.jpg", "AM7.jpg"],
    ]
    assert all(len(f.train) == 4 for f in rated.folds)


def test_both_layouts_side_by_side_must_agree(tmp_path: Path) -> None:
    write_lists(write_lists(tmp_path), layout="zip")
    assert len(read_scut(tmp_path).folds) == 3
    path = tmp_path / "data/2/test_2.txt"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    with pytest.raises(UserError, match=r"test_2\.txt and .*test_2\.txt differ; give the folder of one of them"):
        read_scut(tmp_path)


@pytest.mark.parametrize("layout", ["github", "zip"])
@pytest.mark.parametrize("names", [older_name, newer_name])
def test_pictures_are_found_under_either_name(tmp_path: Path, layout: str, names: object) -> None:
    write_lists(tmp_path, layout=layout)
    folder = tmp_path / "SCUT-FBP5500_v2" / "Images"
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(ROWS):
        Image.new("RGB", (10 + i, 8)).save(folder / str(names(name)))  # type: ignore[operator]
    assert [r.picture.open().size for r in read_scut(tmp_path).rows] == [(10 + i, 8) for i in range(6)]
    (folder / str(names("CF3.jpg"))).unlink()  # type: ignore[operator]
    with pytest.raises(
        UserError, match=r"line \d+: .*Images holds neither CF3\.jpg nor ftw3\.jpg; restore the picture"
    ):
        read_scut(tmp_path)


def test_labels_without_folds_have_none(tmp_path: Path) -> None:
    (tmp_path / "All_labels.txt").write_text("CF1.jpg 2\n\nCM2.jpg 2.5\n")
    rated = read_scut(tmp_path)
    assert is_scut(tmp_path) and rated.folds == ()
    assert [(r.id, r.score) for r in rated.rows] == [("CF1.jpg", 2), ("CM2.jpg", Fraction(5, 2))]


def test_what_archives_bring_along_is_not_read(tmp_path: Path) -> None:
    write_lists(tmp_path)
    (tmp_path / "__MACOSX/data/1").mkdir(parents=True)
    (tmp_path / "__MACOSX/data/1/test_1.txt").write_bytes(b"\x00\xff")
    (tmp_path / "data/1/._test_1.txt").write_bytes(b"\x00\xff")
    assert len(read_scut(tmp_path).rows) == 6


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("face.jpg 2.5", r"line 3: 'face\.jpg 2\.5' is not a picture's name and score"),
        ("ftw9.jpg", r"line 3: 'ftw9\.jpg' is not"),
        ("ftw9.jpg high", r"line 3: the score 'high' is no number like 2\.5; correct or remove it"),
        ("ftw9.jpg 2.51", r"line 3: the score 2\.51 is no mean of 60 whole ratings"),
        ("CF1.jpg 1.683333", r"line 3: CF1\.jpg is in the list already \(.*test_1\.txt, line 1\); remove one"),
        ("ftw3.jpg 1.716667", r"CF3\.jpg is in .*train_1\.txt, line 1 too"),
    ],
)
def test_a_bad_line_is_refused_with_its_file_and_number(tmp_path: Path, line: str, message: str) -> None:
    path = write_lists(tmp_path) / "data/1/test_1.txt"
    path.write_text(path.read_text() + line)
    with pytest.raises(UserError, match=message):
        read_scut(tmp_path)


def test_a_picture_tested_in_two_folds_is_refused(tmp_path: Path) -> None:
    write_lists(tmp_path)
    train, test = tmp_path / "data/2/train_2.txt", tmp_path / "data/2/test_2.txt"
    train.write_text(train.read_text().replace("ftw1.jpg 1.683333\n", ""))
    test.write_text(test.read_text() + "ftw1.jpg 1.683333\n")
    with pytest.raises(UserError, match=r"test_2\.txt, line 3: CF1\.jpg is in .*test_1\.txt, line 1 too"):
        read_scut(tmp_path)


def test_scores_of_one_picture_must_agree(tmp_path: Path) -> None:
    write_lists(tmp_path)
    path = tmp_path / "data/2/train_2.txt"
    path.write_text(path.read_text().replace("ftw1.jpg 1.683333", "ftw1.jpg 1.7"))
    with pytest.raises(UserError, match=r"train_2\.txt, line 1: the score of CF1\.jpg is not the one in .*test_1\.txt"):
        read_scut(tmp_path)


def test_missing_lists_are_named(tmp_path: Path) -> None:
    assert not is_scut(tmp_path)
    with pytest.raises(UserError, match=r"holds neither train_1\.txt and test_1\.txt"):
        read_scut(tmp_path)
    (write_lists(tmp_path) / "data/3/train_3.txt").unlink()
    with pytest.raises(UserError, match=r"fold 3 has no train_3\.txt"):
        read_scut(tmp_path)
    (tmp_path / "data/3/train_3.txt").write_text("")
    with pytest.raises(UserError, match=r"train_3\.txt: is empty"):
        read_scut(tmp_path)


def test_a_picture_that_is_missing_among_others_can_be_left_to_the_check(tmp_path: Path) -> None:
    write_lists(tmp_path)
    (tmp_path / "Images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "Images" / "CF1.jpg")
    with pytest.raises(UserError, match="holds neither"):
        read_scut(tmp_path)
    rated = read_scut(tmp_path, on_bad="skip")
    assert len(rated.rows) == 6 and rated.rows[0].picture.source == tmp_path / "Images" / "CF1.jpg"
