from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_folders import write_folders
from sklearn.utils.class_weight import compute_class_weight

from foveal.config.reading import read_recipe
from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import Picture
from foveal.tasks.classification.balance import balanced_weights, spread
from foveal.tasks.classification.rows import Row
from foveal.tasks.classification.task import Classification, ClassificationData
from foveal.training.rows import TrainingRows


@pytest.fixture
def unequal(tmp_path: Path) -> Path:
    return write_folders(
        tmp_path / "unequal", {"train/cat": 12, "train/dog": 5, "train/eel": 1, "valid/eel": 2, "test/cat": 1}
    )


def make_task(root: Path, **options: Any) -> Classification:
    return Classification(ClassificationData(source=str(root), **options))


def test_balanced_weights_equal_scikit_learns() -> None:
    rng = random.Random(0)
    for count in (1, 2, 30, 500):
        labels = rng.choices(["cat", "dog", "eel", "fox"], [50, 10, 3, 1], k=count)
        classes = np.unique(labels)
        theirs = compute_class_weight("balanced", classes=classes, y=labels)
        ours = balanced_weights(labels)
        assert list(ours) == classes.tolist()
        assert list(ours.values()) == pytest.approx(theirs.tolist(), rel=1e-12)


def test_balanced_weights_give_every_class_the_same_sum_over_the_training_rows(unequal: Path) -> None:
    task = make_task(unequal, class_weights="balanced")
    loaded = task.load("train")
    sums = Counter[str]()
    for example in loaded.examples:
        sums[example.truth] += task.weight(example)
    assert sums == pytest.approx({"cat": 6.0, "dog": 6.0, "eel": 6.0})
    assert "Rows weigh from 0.5 (cat) to 6 (eel) by their class." in loaded.notes
    assert [task.weight(e) for e in task.load("validation").examples] == [1.0, 1.0]


def test_a_limit_counts_only_the_rows_that_are_left(unequal: Path) -> None:
    task = make_task(unequal, class_weights="balanced", limit=7)
    rows = task.load("train").examples
    assert Counter(e.truth for e in rows) == {"cat": 3, "dog": 3, "eel": 1}
    assert {e.truth: task.weight(e) for e in rows} == pytest.approx({"cat": 7 / 9, "dog": 7 / 9, "eel": 7 / 3})


def test_given_weights_count_and_other_classes_weigh_1(unequal: Path) -> None:
    task = make_task(unequal, class_weights={"eel": 4.0, "dog": 0.5})
    assert {e.truth: task.weight(e) for e in task.load("train").examples} == {"cat": 1.0, "dog": 0.5, "eel": 4.0}
    plain = make_task(unequal)
    assert {plain.weight(e) for e in plain.load("train").examples} == {1.0}
    assert all(not e.fields for e in plain.load("train").examples)


def test_balanced_sampling_draws_every_class_alike_and_opens_no_picture(unequal: Path) -> None:
    task = make_task(unequal, sampling="balanced")
    examples = task.load("train").examples
    for file in unequal.rglob("*.png"):
        file.unlink()
    rows = TrainingRows(task, examples, 0)
    assert len(rows) == 18
    drawn = [examples[rows.drawn(i)] for i in range(18)]
    assert Counter(e.truth for e in drawn) == {"cat": 6, "dog": 6, "eel": 6}
    assert sorted(Counter(e.id for e in drawn if e.truth == "dog").values()) == [1, 1, 1, 1, 2]
    natural = Classification(ClassificationData(source="gone", class_names=task.data.class_names))
    assert natural.groups(examples) is None


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"class_weights": {"cow": 2.0}}, "data.class_weights: 'cow' is no class; the classes are cat, dog, eel."),
        ({"class_weights": {"cat": 0.0}}, "data.class_weights: 'cat' must weigh more than 0, not 0; to leave a class"),
        ({"class_weights": {"cat": float("nan")}}, "data.class_weights: 'cat' must weigh more than 0, not nan;"),
        ({"class_weights": "balanced", "sampling": "balanced"}, "use one of the two."),
    ],
)
def test_settings_that_cannot_be_meant_are_one_sentence(unequal: Path, options: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError) as caught:
        make_task(unequal, **options)
    assert what in str(caught.value) and "\n" not in str(caught.value)


def test_recipe_and_command_line_take_a_word_or_weights(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("task: classification\ndata: {source: x, class_weights: {cat: 2}}\n")
    assert read_recipe(path).data.class_weights == {"cat": 2.0}
    for text, value in (("balanced", "balanced"), ("none", "none"), ("{cat: 3, dog: 0.5}", {"cat": 3.0, "dog": 0.5})):
        assert read_recipe(path, ["--data.class_weights", text]).data.class_weights == value
    with pytest.raises(UserError, match="did you mean 'balanced'"):
        read_recipe(path, ["--data.class_weights", "ballanced"])


def test_a_row_without_a_known_weight_counts_1() -> None:
    task = Classification(ClassificationData(source="gone", class_names=["a", "b"], class_weights={"a": 3.0}))
    assert task.weight(Example("photo.png", (), None)) == 1.0


def rows_of(counts: list[int]) -> list[Row]:
    return [
        Row(f"{label}/{i}", Picture(f"{label}/{i}", f"{label}/{i}"), f"c{label}")
        for label, n in enumerate(counts)
        for i in range(n)
    ]


counts = st.lists(st.integers(1, 40), min_size=2, max_size=6)


@given(counts, st.integers(1, 60), st.integers(0, 3))
def test_spread_is_even(counts: list[int], limit: int, seed: int) -> None:
    rows = rows_of(counts)
    chosen = spread(rows, limit, seed)
    assert len(chosen) == min(limit, len(rows))
    have = Counter(row.label for row in chosen)
    most = max(have.values())
    for label, n in enumerate(counts):
        assert have[f"c{label}"] >= min(n, most - 1)
    assert chosen == [row for row in rows if row in chosen]


def test_spread_without_a_limit_takes_all_and_more_includes_fewer() -> None:
    rows = rows_of([7, 9])
    assert spread(rows, 0, 0) == rows
    assert spread(rows, 99, 0) == rows
    assert {r.id for r in spread(rows, 4, 0)} < {r.id for r in spread(rows, 10, 0)}
