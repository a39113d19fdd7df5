from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import open_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveal.errors import UserError
from foveal.examples import SPLITS, Example, Split
from foveal.images import Picture
from foveal.tasks.comparison.scores import Rated
from foveal.tasks.comparison.sources import read_rated
from foveal.tasks.comparison.task import MIRRORED, Comparison, ComparisonData
from foveal.tasks.readers.checking import Checked
from foveal.tasks.registry import find_task
from foveal.training.objectives import LabelObjective
from foveal.training.rows import Row, TrainingRows, make_row

SMALL: dict[str, Any] = {"pictures": 40, "image_size": 64, "train": 60, "validation": 9, "test": 20}


def make_task(**changes: Any) -> Comparison:
    return Comparison(ComparisonData(**{**SMALL, **changes}))


def pictures(task: Comparison, split: Split) -> set[str]:
    return {p.name for e in task.load(split).examples for p in e.images}


def write_table(folder: Path, rows: int = 60) -> Path:
    """A table and its pictures."""
    rng = random.Random(0)
    lines = "".join(f"p{i}.png,{rng.randrange(10, 51) / 10}\n" for i in range(rows))
    for i in range(rows):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / f"p{i}.png")
    (folder / "rated.csv").write_text(f"image,score\n{lines}")
    return folder / "rated.csv"


# ------------------------------------------------------------------------------------------------- data


def test_the_task_is_found_by_its_name() -> None:
    assert find_task("comparison") is Comparison


@pytest.mark.parametrize("source", ["generate", "table"])
@pytest.mark.parametrize("fold", [1, 2])
def test_no_picture_is_in_two_splits_and_labels_are_balanced(tmp_path: Path, source: str, fold: int) -> None:
    task = make_task(
        source=str(write_table(tmp_path)) if source == "table" else source, fold=fold, validation_share=0.25
    )
    names = [pictures(task, split) for split in SPLITS]
    assert all(len(n) > 4 for n in names)
    assert all(not a & b for a, b in itertools.combinations(names, 2))
    assert Counter(e.truth for e in task.load("train").examples) == {"First": 20, "Second": 20, "Similar": 20}
    assert Counter(e.truth for e in task.load("validation").examples) == {"First": 6, "Second": 6, "Similar": 6}
    assert len(task.load("test").examples) == 40


def test_every_truth_is_what_the_exact_scores_say(tmp_path: Path) -> None:
    task = make_task(source=str(write_table(tmp_path)), threshold=0.3, validation_share=0.25)
    for split in SPLITS:
        for e in task.load(split).examples:
            a, b = (Fraction(str(s)) for s in e.fields["scores"])
            expected = "Similar" if abs(a - b) <= Fraction(3, 10) else "First" if a > b else "Second"
            assert e.truth == expected


def test_official_folds_of_scut_without_opening_a_picture(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(real_data / "scut_fbp5500_labels")
    read = cache(read_rated)
    monkeypatch.setattr("foveal.tasks.comparison.task.read_rated", lambda source, **_: read(source))
    # The lists are at hand, the faces are not.
    monkeypatch.setattr("foveal.tasks.comparison.task.check_pictures", lambda rows, *_, **__: Checked(rows, (), ()))
    tested: list[set[str]] = []
    for fold in (1, 2):
        task = make_task(source=folder, fold=fold, threshold=0.2, train=3000, validation=300, test=400)
        loaded = [task.load(s) for s in SPLITS]
        names = [{i for e in x.examples for i in e.fields["ids"]} for x in loaded]
        assert all(not a & b for a, b in itertools.combinations(names, 2))
        assert Counter(e.truth for e in loaded[0].examples) == dict.fromkeys(MIRRORED, 1000)
        assert len(loaded[2].examples) == 800
        rows = [task.rated(s)[0] for s in SPLITS]
        assert [len(r) for r in rows] == [3960, 440, 1100]
        train, validation = (np.array([float(r.score) for r in part]) for part in rows[:2])
        quantiles = [np.quantile(part, [0.1, 0.5, 0.9]) for part in (train, validation)]
        assert np.abs(quantiles[0] - quantiles[1]).max() < 0.02, "validation has scores like the others"
        tested.append({r.id for r in rows[2]})
    assert not tested[0] & tested[1]
    every = make_task(source=folder, threshold=0.2, test=0, both_orders=False).load("test")
    assert len(every.examples) == 604_450 and "604,450 pairs of 1,100 pictures" in every.source


def test_generated_folds_have_pictures_of_their_own() -> None:
    first, second = (make_task(fold=k).load("test").examples[0].images[0].open() for k in (1, 2))
    again = make_task(fold=1).load("test").examples[0].images[0].open()
    assert first.tobytes() == again.tobytes() != second.tobytes()


def test_both_orders_double_evaluation_rows_with_mirrored_truths() -> None:
    twice, once = make_task(), make_task(both_orders=False)
    assert len(twice.load("train").examples) == len(once.load("train").examples) == 60
    for split in ("validation", "test"):
        rows, single = twice.load(split).examples, once.load(split).examples
        count = len(single)
        assert len(rows) == 2 * count
        for a, b, c in zip(rows[:count], rows[count:], single, strict=True):
            assert a.truth == c.truth == MIRRORED[b.truth] and a.id == c.id != b.id
            assert a.fields["ids"] == b.fields["ids"][::-1] and a.fields["scores"] == b.fields["scores"][::-1]
            assert a.fields["pair"] == b.fields["pair"] and (a.fields["swapped"], b.fields["swapped"]) == (False, True)
            assert [p.name for p in a.images] == [p.name for p in b.images][::-1]
        assert len({e.id for e in rows}) == len(rows)
        assert rows[-1] == rows[2 * count - 1] and rows[:2] == [rows[0], rows[1]]
        with pytest.raises(IndexError):
            rows[2 * count]


@given(st.integers(1, 20))
@settings(deadline=None, max_examples=10)
def test_an_even_number_of_evenly_spread_rows_has_both_orders_of_each_pair(half: int) -> None:
    from foveal.examples import evenly_spread

    rows = make_task().load("test").examples
    chosen = Counter(rows[i].fields["pair"] for i in evenly_spread(len(rows), 2 * half))
    assert set(chosen.values()) == {2} and len(chosen) == half


def test_all_pairs_of_the_test_pictures_on_demand() -> None:
    rows = make_task(test=0).load("test").examples
    assert len(rows) == 2 * 10 * 9 // 2
    assert len({e.fields["ids"] for e in rows}) == 90


def test_the_same_settings_give_the_same_rows_and_another_seed_others() -> None:
    def ids(**changes: int) -> list[str]:
        return [e.id for e in make_task(**changes).load("train").examples]

    assert ids() == ids() != ids(seed=43)


def test_intervals_bound_the_differences_of_training_pairs_only() -> None:
    task = make_task(intervals=[1.0, 2.0], pictures=120, train=60)
    differences = [
        abs(a - b) for e in task.load("train").examples for a, b in [e.fields["scores"]] if e.truth != "Similar"
    ]
    assert len(differences) == 40 and min(differences) > 1 and max(differences) <= 2 + 1e-9
    others = [abs(a - b) for e in task.load("test").examples for a, b in [e.fields["scores"]]]
    assert max(others) > 2


# ------------------------------------------------------------------------------------------------- questions


def test_a_mirror_is_an_involution_and_the_row_of_the_other_order() -> None:
    rows = make_task().load("test").examples
    task, half = make_task(), len(rows) // 2
    for a, b in zip(rows[:half], rows[half:], strict=True):
        turned = task.mirror(a)
        assert task.mirror(turned) == a
        assert (turned.truth, turned.fields) == (b.truth, b.fields)
        assert [p.name for p in turned.images] == [p.name for p in b.images]
    unknown = task.pair(*task.rated("test")[0][:2])
    assert unknown.truth is None and task.mirror(unknown).truth is None
    assert task.mirror(unknown).fields["ids"] == unknown.fields["ids"][::-1]


def test_a_prompt_has_both_pictures_in_order_and_the_truth_as_its_answer() -> None:
    task = make_task(asked="more dots")
    row = task.load("test").examples[0]
    prompt = task.prompt(row)
    assert [i.tobytes() for i in prompt.opened()] == [p.open().tobytes() for p in row.images]
    assert "shows more dots, the first or the second" in prompt.user and prompt.answer == row.truth
    assert make_task(wording="short").prompt(row).user == "compare"
    assert task.answers() == ("First", "Second", "Similar") and set(task.mirrored) == set(task.answers())


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_true_label_changes_no_input_tensor_but_the_choice(tiny: Callable[[str], Path], weight: float) -> None:
    task = make_task()
    vlm, encoder = open_tiny(tiny("idefics3"))
    mirrored = task.mirrored if weight else None
    objective = LabelObjective(encoder, task.answers(), vlm.family, mirrored=mirrored, weight=weight)
    examples = [task.load("train").examples[i] for i in range(3)]
    batches = []
    for truth in task.answers():
        rows = [
            make_row(task, Example(e.id, e.images, truth, e.fields), weight > 0, f"0/0/{i}")
            for i, e in enumerate(examples)
        ]
        batches.append(objective.collate(rows))
    for k, batch in enumerate(batches):
        truth = task.answers()[k]
        expected = [k] * 3 + ([task.answers().index(MIRRORED[truth])] * 3 if weight else [])
        assert batch["choice"].tolist() == expected
        assert batch.keys() == batches[0].keys()
        assert all(torch.equal(batch[key], batches[0][key]) for key in batch if key != "choice")


def test_mirrors_are_made_for_training_where_consistency_is_asked() -> None:
    task = make_task()
    examples = task.load("train").examples
    plain, both = (TrainingRows(task, examples, 0, mirrors=m)[3] for m in (False, True))
    assert isinstance(plain, Row) and plain.mirror is None and both.mirror is not None
    assert [i.tobytes() for i in both.mirror.opened()] == [i.tobytes() for i in both.prompt.opened()][::-1]
    assert both.mirror.answer == MIRRORED[both.prompt.answer or ""]


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("First", "First"), ("second.", "Second"), (" **Similar** ", "Similar"), ("Answer:First", "First"),
        ("The second picture.", "Second"), ("First, yes: first", "First"), ("(Second)", "Second"),
        ("", None), ("1", None), ("the left one", None), ("First or Second", None), ("First/Second", None),
        ("The first has more than the second", None), ("First,Similar", None), ("firstly", None), ("dissimilar", None),
        ("a first-rate picture", None), ("They are not similar", None), ("It isn't the first", None), ("seconds", None),
    ],
)  # fmt: skip
def test_a_reply_is_read_strictly(reply: str, value: str | None) -> None:
    assert make_task().parse(reply) == value


@given(st.text(max_size=40))
def test_any_reply_gives_a_verdict_or_none(reply: str) -> None:
    value = make_task().parse(reply)
    assert value is None or value.lower() in reply.lower()


@pytest.mark.parametrize(
    "sizes", [((64, 64), (64, 64)), ((30, 400), (400, 30)), ((400, 2), (5, 5)), ((1, 1), (1, 200))]
)
def test_both_pictures_are_drawn_side_by_side_whatever_their_shape(sizes: tuple[tuple[int, int], ...]) -> None:
    colours = ("red", "blue")
    images = [Picture(c, Image.new("RGB", s, c)) for c, s in zip(colours, sizes, strict=True)]
    sheet = make_task().draw(Example("x", tuple(images), "First"))
    assert sheet.height == min(256, max(h for _, h in sizes)) and sheet.width <= 4 * 256 + 11
    columns = np.asarray(sheet).astype(int)
    red = (columns[..., 0] > 200) & (columns[..., 2] < 60)
    blue = (columns[..., 2] > 200) & (columns[..., 0] < 60)
    assert red.any() and blue.any()
    assert np.flatnonzero(red.any(0)).max() < np.flatnonzero(blue.any(0)).min()


def test_chance_is_the_share_of_the_commonest_truth() -> None:
    rows = [Example(str(i), (), t) for i, t in enumerate(["First", "Second", "First", "Similar"])]
    assert make_task().chance(rows) == 0.5


def test_one_picture_is_no_comparison() -> None:
    with pytest.raises(UserError, match=r"needs two pictures; rank a folder with `foveal rank RUN FOLDER`"):
        make_task().example_of([Picture(str(Path("a.png")), Path("a.png"))])


def test_a_row_of_two_pictures_has_no_truth() -> None:
    a, b = (Rated(n, Picture(n, Image.new("RGB", (8, 8))), Fraction(0)) for n in "ab")
    row = make_task().pair(a, b)
    assert (row.id, row.truth, row.fields["ids"]) == ("a|b", None, ("a", "b"))
    assert make_task().prompt(row).answer is None


# ------------------------------------------------------------------------------------------------- wrong settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pictures", 15), ("image_size", 63), ("image_size", 4000), ("train", 0), ("validation", 0), ("test", -1), ("fold", 0),
        ("validation_share", 0.0), ("validation_share", float("nan")), ("threshold", -0.1), ("threshold", float("nan")),
        ("asked", " "), ("asked", "a\nb"), ("raters", -1),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_named(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"^data\.{key}: ") as caught:
        make_task(**{key: value})
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("changes", "split", "message"),
    [
        (
            {"train": 5000},
            "train",
            r"^data\.train: 5,000 pairs need 1,666 whose scores differ by at most 0\.4, but there are ",
        ),
        (
            {"validation": 100},
            "validation",
            r"^data\.validation: 100 pairs need 33 whose scores differ by at most 0\.4",
        ),
        ({"intervals": [0.5]}, "train", r"^data\.intervals: one bound makes no interval"),
        ({"intervals": [0.1, 1.0]}, "train", r"^data\.intervals: 0\.1 1 do not rise from the threshold 0\.4 on"),
        ({"source": "nowhere"}, "train", r"^data\.source: nowhere: there is no such folder or table; check the path\."),
    ],
)
def test_what_the_data_cannot_give_names_the_setting(changes: dict[str, Any], split: Split, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_task(**changes).load(split)


def test_a_fold_that_a_table_has_not_and_too_few_pictures(tmp_path: Path) -> None:
    source = str(write_table(tmp_path))
    with pytest.raises(UserError, match=r"^data\.fold: there is no fold 6; .*rated\.csv has 1, 2, 3, 4, 5\."):
        make_task(source=source, fold=6).load("train")
    with pytest.raises(
        UserError, match=r"fold 1, validation: 2 pictures are too few for pairs; raise data\.validation_share"
    ):
        make_task(source=source, validation_share=0.02).load("validation")
    with pytest.raises(UserError, match=r"^data\.fold: 19 rated pictures are too few for 5 folds; give at least 20\."):
        make_task(source=str(write_table(tmp_path, 19))).load("train")


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_pictures_that_cannot_be_used_are_refused_before_or_left_out_of_all_pairs(tmp_path: Path, damage: str) -> None:
    source = str(write_table(tmp_path))
    names = {split: pictures(make_task(source=source, validation_share=0.25), split) for split in SPLITS}
    bad = Path(min(names["train"]))
    if damage == "cut":
        bad.write_bytes(bad.read_bytes()[:45])
    else:
        bad.unlink()
    with pytest.raises(UserError, match=rf"{bad.name}: .*`data\.on_bad: skip` leaves such pictures out\.$"):
        make_task(source=source, validation_share=0.25).load("train")
    task = make_task(source=source, validation_share=0.25, on_bad="skip")
    assert [name for name, _ in task.load("train").refused] == [str(bad)]
    assert pictures(task, "train") == names["train"] - {str(bad)}
    assert pictures(task, "test") == names["test"]
