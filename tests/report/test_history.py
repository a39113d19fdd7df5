import math

from foveal.report.history import column, headline_column

ROWS = [
    {"epoch": 2.0, "train_loss": 0.5, "val_loss": 0.6, "val_accuracy": 0.8},
    {"epoch": 1.0, "train_loss": 0.9, "note": "first"},
]


def test_column_is_sorted_by_epoch_and_skips_rows_without_it():
    assert column(ROWS, "train_loss") == [(1.0, 0.9), (2.0, 0.5)]
    assert column(ROWS, "val_loss") == [(2.0, 0.6)]
    assert column(ROWS, "absent") == []
    assert column([], "train_loss") == []


def test_text_is_not_a_number_and_a_missing_epoch_is_counted():
    assert math.isnan(column(ROWS, "note")[0][1])
    assert column([{"loss": 3.0}, {"loss": 2.0}], "loss") == [(1.0, 3.0), (2.0, 2.0)]
    assert column([{"epoch": "?", "loss": 3.0}], "loss") == []


def test_headline_column():
    assert headline_column(ROWS, "accuracy") == "val_accuracy"
    assert headline_column(ROWS, "val_accuracy") == "val_accuracy"
    assert headline_column(ROWS, None) == "val_accuracy"
    assert headline_column(ROWS, "mae") is None
    assert headline_column([], None) is None
