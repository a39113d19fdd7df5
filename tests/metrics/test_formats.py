import math

import pytest

from foveal.metrics.formats import (
    brief,
    format_change,
    format_interval,
    format_metric,
    is_share,
    metric_title,
    number,
    percent,
    scientific,
)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy", 0.97333, "97.3%"),
        ("val_accuracy", 0.5, "50.0%"),
        ("recall/two lines", 1.0, "100.0%"),
        ("f1", 0.0, "0.0%"),
        ("yes_share", 0.25, "25.0%"),
        ("exact_accuracy", 0.125, "12.5%"),
        ("unparsable", 0.0003, "<0.1%"),
        ("accuracy", 0.99967, ">99.9%"),
        ("accuracy", 0.9994, "99.9%"),
        ("accuracy", math.nan, "–"),
        ("mae", 2.25, "2.25"),
        ("mae", 3.0, "3"),
        ("rows", 3000.0, "3,000"),
        ("images_per_second", 12345.67, "12,346"),
        ("learning_rate", 2.5e-5, "2.5e−5"),
        ("spearman", -0.51234, "−0.5123"),
        ("val_loss", math.inf, "–"),
        ("loss", 1.5e30, "1.5e30"),
    ],
)
def test_format_metric(name, value, text):
    assert format_metric(name, value) == text


@pytest.mark.parametrize("name", ["learning_rate", "mae", "loss", "val_loss", "f1_of_mae", "accuracyish", "seconds"])
def test_what_is_no_share(name):
    assert not is_share(name)


@pytest.mark.parametrize(
    ("name", "before", "after", "text"),
    [
        ("accuracy", 0.487, 0.9763, "+48.9 pp"),
        ("accuracy", 0.9, 0.85, "−5.0 pp"),
        ("accuracy", 0.9, 0.90001, "±0.0 pp"),
        ("accuracy", 0.90001, 0.9, "±0.0 pp"),
        ("mae", 12.5, 2.25, "−10.25"),
        ("mae", 2.0, 2.5, "+0.5"),
        ("mae", 2.0, 2.0, "±0"),
        ("mae", math.nan, 2.0, "–"),
    ],
)
def test_format_change(name, before, after, text):
    assert format_change(name, before, after) == text


def test_intervals():
    assert format_interval("accuracy", (0.97025, 0.98119)) == "97.0 to 98.1%"
    assert format_interval("accuracy", (0.98, 0.9999)) == "98.0 to >99.9%"
    assert format_interval("mae", (2.0, 2.6)) == "2 to 2.6"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("accuracy", "accuracy"),
        ("macro_f1", "macro F1"),
        ("recall/two_lines", "recall: two_lines"),
        ("mae", "MAE"),
        ("yes_share", "yes share"),
    ],
)
def test_titles(name, title):
    assert metric_title(name) == title


def test_numbers():
    assert number(-12345) == "−12,345"
    assert brief(0.060691) == "0.0607"
    assert brief(1234.5) == "1,230"
    assert scientific(0.0) == "0"
    assert scientific(0.001) == "1e−3"
    assert scientific(math.nan) == "–"
    assert percent(-0.031) == "−3.1%"
