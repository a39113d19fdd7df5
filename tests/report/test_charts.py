from __future__ import annotations

from foveal.metrics.calibration import reliability
from foveal.report.charts import confusion, reliability_title, training_charts
from foveal.results import Metric, Metrics, Prediction

METRICS = Metrics((Metric("macro_f1", "share", "higher", "macro F1"), Metric("mae", direction="lower", title="MAE")))


def test_loss_headline_and_learning_rate_are_charts() -> None:
    history = [
        {"epoch": 1.0, "train_loss": 0.5, "val_loss": 0.6, "val_macro_f1": 0.25, "learning_rate": 1e-3},
        {"epoch": 2.0, "train_loss": 0.4, "val_loss": 0.7, "val_macro_f1": 0.5, "learning_rate": 1e-4},
    ]
    loss, metric, rate = training_charts(history, METRICS, "macro_f1", 0.1)
    assert (loss.title, loss.unit, loss.from_zero, loss.reference) == ("Loss", "number", True, None)
    assert [(s.label, s.points, s.colour) for s in loss.series] == [
        ("validation", [(1.0, 0.6), (2.0, 0.7)], 0), ("training", [(1.0, 0.5), (2.0, 0.4)], 1)
    ]  # fmt: skip
    assert (metric.title, metric.unit, metric.from_zero, metric.reference) == (
        "Macro F1", "share", False, ("chance", 0.1)
    )  # fmt: skip
    assert [(s.label, s.points) for s in metric.series] == [("validation", [(1.0, 0.25), (2.0, 0.5)])]
    assert (rate.title, rate.unit, rate.from_zero) == ("Learning rate", "rate", True)
    assert [(s.label, s.points, s.colour) for s in rate.series] == [("", [(1.0, 1e-3), (2.0, 1e-4)], 2)]


def test_what_the_history_lacks_is_left_out() -> None:
    assert training_charts([], METRICS, "mae") == []
    (chart,) = training_charts([{"epoch": 1.0, "val_mae": 3.0}], METRICS)
    assert (chart.title, chart.unit, chart.reference) == ("MAE", "number", None)


def test_the_title_of_the_reliability_says_the_error_and_the_rows() -> None:
    assert reliability_title(reliability([0.75] * 2000, [True] * 1000 + [False] * 1000)) == "ECE 0.250 on 2,000 rows"
    assert reliability_title(reliability([1.0], [True])) == "ECE 0.000 on 1 row"


def test_the_confusion_has_a_column_for_what_is_no_answer() -> None:
    predictions = [Prediction("", value, "") for value in ("a", "b", None, "c", "b")]
    matrix = confusion(["a", "a", "a", "b", "z"], predictions, ["a", "b", "b", "d"])
    assert matrix.truths == ["a", "b", "z"] and matrix.values == ["a", "b", "d", "other"]
    assert matrix.counts == [[1, 1, 0, 1], [0, 0, 0, 1], [0, 1, 0, 0]]
    assert confusion(["a", "b"], predictions[:2], ["a", "b"]).values == ["a", "b"]
