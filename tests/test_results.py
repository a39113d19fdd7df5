from __future__ import annotations

import math

import pytest

from foveal.examples import Example
from foveal.results import Metric, Metrics, Prediction, Result, is_correct

METRICS = Metrics(
    (
        Metric("accuracy", "share", "higher", of_rows=True),
        Metric("macro_f1", "share", "higher", "macro F1"),
        Metric("recall", "share", "higher"),
        Metric("consistency", "share", "higher"),
        Metric("m_rmse", direction="lower", title="m RMSE"),
        Metric("m_rmse_nz", direction="lower", title="m RMSE nz"),
        Metric("bce_loss", direction="lower", title="BCE loss"),
    )
)


@pytest.mark.parametrize(
    ("name", "metric", "title"),
    [
        ("accuracy", "accuracy", "accuracy"),
        ("accuracy_first", "accuracy", "accuracy first"),
        ("macro_f1", "macro_f1", "macro F1"),
        ("recall/two_lines", "recall", "recall: two_lines"),
        ("val_recall/two_lines", "recall", "val recall: two_lines"),
        ("train_macro_f1", "macro_f1", "train macro F1"),
        ("m_rmse_nz", "m_rmse_nz", "m RMSE nz"),
        ("loss", "loss", "loss"),
        ("val_loss", "loss", "val loss"),
        ("unparsable", "unparsable", "unparsable"),
        ("train_bce_loss", "bce_loss", "train BCE loss"),
        ("images_per_second", "images_per_second", "images per second"),
    ],
)
def test_a_values_name_leads_to_its_metric_and_title(name: str, metric: str, title: str) -> None:
    assert METRICS.of(name).name == metric and METRICS.title(name) == title


def test_what_is_known_of_a_metric() -> None:
    assert METRICS.of("val_recall/two") == Metric("recall", "share", "higher")
    assert METRICS.of("unparsable").unit == "share" and METRICS.of("accuracyish").unit == "number"
    assert METRICS.of("accuracyish") not in METRICS and METRICS.of("accuracyish").direction is None
    loss = METRICS.of("val_consistency_loss")
    assert (loss.unit, loss.direction) == ("number", "lower"), "the loss of a metric is no share"
    assert METRICS.title("val_consistency_loss") == "val consistency loss"


def test_a_task_may_say_itself_what_is_right() -> None:
    example = Example("a", (), 2)
    assert is_correct(example, Prediction("a", 2, "2")) is True
    assert is_correct(example, Prediction("a", 3, "3")) is False
    assert is_correct(example, Prediction("a", 3, "3", extra={"correct": True})) is True
    assert is_correct(example, Prediction("a", None, "?")) is None
    assert is_correct(Example("a", ()), Prediction("a", 2, "2")) is None


def test_a_prediction_is_a_row_of_what_is_known() -> None:
    assert Prediction("a", 2, "2").row() == {"id": "a", "value": 2, "text": "2", "confidence": None}
    row = Prediction("a", 2, "2", {"2": 0.75, "3": 0.25}, 3, {"points": [1], "correct": True}).row()
    assert row["confidence"] == 0.75 and row["truth"] == 3 and row["points"] == [1]
    assert row["correct"] is True, "the task's own judgement"


def test_the_value_of_the_headline() -> None:
    assert Result("a", "s", 1, {"mae": 2.0}, "mae").value == 2
    assert math.isnan(Result("a", "s", 1, {}, "mae").value)
