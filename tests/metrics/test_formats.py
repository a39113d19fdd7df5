import math

import pytest

from foveal.metrics.formats import (
    brief,
    decimals,
    format_change,
    format_interval,
    format_metric,
    number,
    percent,
    scientific,
)
from foveal.results import Metric, Metrics

METRICS = Metrics(
    tuple(Metric(name, "share") for name in ("accuracy", "recall", "f1", "yes_share", "exact_accuracy", "unparsable"))
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
    assert format_metric(METRICS.of(name), value) == text


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
    assert format_change(METRICS.of(name), before, after) == text


def test_intervals():
    assert format_interval(METRICS.of("accuracy"), (0.97025, 0.98119)) == "97.0 to 98.1%"
    assert format_interval(METRICS.of("accuracy"), (0.98, 0.9999)) == "98.0 to >99.9%"
    assert format_interval(METRICS.of("mae"), (2.0, 2.6)) == "2 to 2.6"


def test_a_sentence_writes_its_own_sign():
    assert percent(2999 / 3000, " %") == ">99.9 %"
    assert percent(0.0001, " %") == "<0.1 %"
    assert format_metric(METRICS.of("accuracy"), 0.979, " %") == "97.9 %"
    assert format_interval(METRICS.of("accuracy"), (0.97025, 0.9999), " %") == "97.0 to >99.9 %"


def test_numbers():
    assert number(-12345) == "−12,345"
    assert brief(0.060691) == "0.0607"
    assert brief(1234.5) == "1,230"
    assert scientific(0.0) == "0"
    assert scientific(0.001) == "1e−3"
    assert scientific(math.nan) == "–"
    assert percent(-0.031) == "−3.1%"


def test_nearly_all_and_nearly_nothing_are_never_all_or_nothing() -> None:
    assert [percent(k / 3000) for k in (0, 1, 2999, 3000)] == ["0.0%", "<0.1%", ">99.9%", "100.0%"]
    assert [percent(x, " %", 0) for x in (0, 0.001, 0.97, 0.9999, 1)] == [
        "0 %", "<1 %", "97 %", ">99 %", "100 %",
    ]  # fmt: skip
    assert [decimals(x) for x in (0, 1, 0.97126, 1 / 30_000, 29_999 / 30_000, 2.00001)] == [
        "0.0000", "1.0000", "0.9713", "0.00003", "0.99997", "2.0000",
    ]  # fmt: skip
