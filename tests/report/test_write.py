from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from foveal.config.sections import Model, Recipe
from foveal.errors import UserError
from foveal.report.write import read_result, write_measurement, write_page, write_result
from foveal.results import Prediction, Result
from foveal.tasks.blindtest.lines import Lines, LinesData

TASK = Lines(LinesData(test=6, image_size=64))


@pytest.fixture(scope="module")
def result() -> Result:
    examples = list(TASK.load("test").examples)
    predictions = [
        Prediction(e.id, e.truth if i else 9, str(e.truth), {"0": 0.25, "1": 0.75}, e.truth)
        for i, e in enumerate(examples)
    ]
    values = {"accuracy": 5 / 6, "unparsable": math.nan}
    return Result(
        "after", "somewhere", 6, values, "accuracy", TASK.metrics, 1 / 3, (0.4, 0.97), 2.0, examples, predictions
    )


def test_a_measurement_is_read_back_without_its_rows(result: Result, tmp_path: Path) -> None:
    write_result(result, tmp_path, {"split": "test"})
    back = read_result(tmp_path, TASK.metrics)
    assert math.isnan(back.values["unparsable"]) and list(back.values) == ["accuracy", "unparsable"]
    assert (back.label, back.source, back.rows, back.headline) == ("after", "somewhere", 6, "accuracy")
    assert (back.value, back.chance, back.interval, back.seconds) == (5 / 6, 1 / 3, (0.4, 0.97), 2.0)
    assert back.metrics is TASK.metrics and back.examples == back.predictions == ()


def test_the_files_hold_what_they_always_did(result: Result, tmp_path: Path) -> None:
    write_measurement(TASK, result, tmp_path, {"checkpoint": "epoch-1", "split": "test"})
    names = ["confusion.png", "predictions.jsonl", "predictions.png", "reliability.png", "results.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    table = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert table == {
        "checkpoint": "epoch-1", "split": "test", "label": "after", "source": "somewhere", "rows": 6,
        "headline": "accuracy", "metrics": {"accuracy": 5 / 6, "unparsable": None}, "chance": 1 / 3,
        "interval_95": [0.4, 0.97], "seconds": 2.0, "images_per_second": 3.0,
    }  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    truth = result.examples[0].truth
    assert len(rows) == 6 and rows[0] == {
        "id": result.examples[0].id, "value": 9, "text": str(truth), "confidence": 0.75,
        "probabilities": {"0": 0.25, "1": 0.75}, "truth": truth, "correct": False,
    }  # fmt: skip


def test_old_files_with_nan_can_be_read(tmp_path: Path) -> None:
    table = {"label": "a", "source": "s", "rows": 1, "headline": "mae", "metrics": {"mae": math.nan}, "chance": None}
    (tmp_path / "results.json").write_text(json.dumps(table | {"interval_95": None, "seconds": 0.1}))
    assert math.isnan(read_result(tmp_path, TASK.metrics).value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"metrics": {"a": "x"}}', None])
def test_damaged_files_are_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match=r"results\.json: cannot be read \(.*remove it, and it is measured again\."):
        read_result(tmp_path, TASK.metrics)


def test_the_page_has_pictures_and_facts_and_its_curves_lie_beside_it(result: Result, tmp_path: Path) -> None:
    recipe = Recipe(task="blindtest/lines", data=TASK.data, model=Model(id="builtin"))
    write_page(tmp_path / "new/report.html", TASK, recipe, [result], title="Lines", facts={"seed": "7"})
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["report.html"]
    text = (tmp_path / "new/report.html").read_text()
    assert text.count("<img ") == 6 and "1 of 6 wrong" in text and "task: blindtest/lines" in text
    assert text.index("<dt>Command</dt>") < text.index("<dt>Seed</dt><dd>7</dd>")
    history = [{"epoch": 1.0, "val_accuracy": 0.5}]
    write_page(tmp_path / "page.html", TASK, recipe, [result], title="Lines", facts={}, history=history)
    assert (tmp_path / "curves.png").is_file()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        write_page(tmp_path / "file/report.html", TASK, recipe, [result], title="Lines", facts={})
