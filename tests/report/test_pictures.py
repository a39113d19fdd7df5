from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from foveal.examples import Example
from foveal.prompts import Prompt
from foveal.report import pictures
from foveal.report.pictures import caption, write_pictures
from foveal.results import Prediction, Result
from foveal.tasks.blindtest.lines import Lines, LinesData


@pytest.fixture
def rows():
    task = Lines(LinesData(test=40, image_size=64))
    examples = list(task.load("test").examples)
    predictions = [
        Prediction(e.id, e.truth if i % 2 else 9, str(e.truth), {"0": 0.1, "1": 0.9}, e.truth)
        for i, e in enumerate(examples)
    ]
    return task, Result("a", "s", 40, {}, "accuracy", examples=examples, predictions=predictions)


def test_the_grid_has_24_marked_pictures_and_is_always_the_same(rows, tmp_path):
    task, result = rows
    write_pictures(task, result, tmp_path / "a")
    write_pictures(task, result, tmp_path / "b")
    assert (tmp_path / "a/predictions.png").read_bytes() == (tmp_path / "b/predictions.png").read_bytes()
    with Image.open(tmp_path / "a/predictions.png") as grid:
        assert grid.width == 12 + 6 * (224 + 12)
        pixels = np.asarray(grid.convert("RGB")).reshape(-1, 3)
    green, red = ((pixels == colour).all(1).sum() for colour in ((26, 116, 64), (179, 38, 30)))
    assert green > 500 and red > 500


def test_rows_that_alternate_are_all_drawn(rows, tmp_path, monkeypatch):
    task, result = rows
    shown = []
    monkeypatch.setattr(task, "prompt", lambda e: shown.append(int(e.id) % 2) or Prompt((), "?"))
    write_pictures(task, result, tmp_path)
    assert len(shown) == 24 and 6 < sum(shown) < 18


def test_fewer_rows_than_cells(rows, tmp_path):
    task, result = rows
    predictions = [replace(result.predictions[0], value=None, text=""), result.predictions[1]]
    write_pictures(task, replace(result, examples=result.examples[:2], predictions=predictions), tmp_path)
    with Image.open(tmp_path / "predictions.png") as grid:
        assert grid.width == 12 + 2 * (224 + 12)


def test_captions(rows):
    task, example = rows[0], Example("x", (), 2)
    assert caption(task, example, Prediction("x", 2, "2", {"2": 0.876}, 2)) == "2 · 88 %"
    assert caption(task, example, Prediction("x", 1, "1", None, 2)) == "1  (truth 2)"
    assert caption(task, example, Prediction("x", None, "dunno", None, 2)) == "dunno  (truth 2)"
    assert caption(task, Example("x", ()), Prediction("x", 1, "1")) == "1"


def test_the_confusion_counts_what_is_no_answer_apart(rows, tmp_path, monkeypatch):
    task, result = rows
    drawn = []
    monkeypatch.setattr(pictures, "confusion_png", lambda matrix, path: drawn.append(matrix))
    write_pictures(task, result, tmp_path)
    rows = list(zip(result.examples, result.predictions, strict=True))
    # Every second prediction is 9, which is no answer; the others are right.
    wrong = [sum(1 for e, p in rows if e.truth == t and p.value == 9) for t in (0, 1, 2)]
    right = [sum(1 for e, p in rows if e.truth == t == p.value) for t in (0, 1, 2)]
    assert drawn[0].truths == ["0", "1", "2"] and drawn[0].values == ["0", "1", "2", "other"]
    assert drawn[0].counts == [
        [right[0], 0, 0, wrong[0]], [0, right[1], 0, wrong[1]], [0, 0, right[2], wrong[2]]
    ]  # fmt: skip


def test_the_reliability_is_drawn_where_all_predictions_have_probabilities(rows, tmp_path, monkeypatch):
    task, result = rows
    drawn = []
    monkeypatch.setattr(pictures, "reliability_png", lambda bins, path: drawn.append((bins, path)))
    write_pictures(task, result, tmp_path)
    bins, path = drawn[0]
    full = [b for b in bins if b.rows]
    # All are 90 % sure, and every second one is right.
    assert path == tmp_path / "reliability.png" and (tmp_path / "confusion.png").is_file()
    assert [(b.rows, b.accuracy) for b in full] == [(40, 0.5)] and full[0].confidence == pytest.approx(0.9)
    first, *rest = result.predictions
    write_pictures(task, replace(result, predictions=[replace(first, probabilities=None), *rest]), tmp_path)
    assert len(drawn) == 1
