import math
import re
import xml.etree.ElementTree as ET

import pytest

from foveal.metrics.calibration import Bin
from foveal.report.charts import Chart, Series
from foveal.report.svg import (
    Scale,
    covering_ticks,
    inner_ticks,
    line_chart,
    nice_step,
    reliability_chart,
    value_range,
)


def parse(svg):
    return ET.fromstring(svg)


def texts(root):
    return {t.text: (float(t.get("x")), float(t.get("y"))) for t in root.iter("text")}


@pytest.mark.parametrize(
    ("span", "count", "step"), [(1, 5, 0.2), (0.64, 5, 0.2), (12, 6, 2), (99, 5, 20), (100, 4, 25), (3e-4, 3, 1e-4)]
)
def test_nice_step(span, count, step):
    assert nice_step(span, count) == pytest.approx(step)


@pytest.mark.parametrize("span", [0.0, -1.0, math.nan, math.inf])
def test_no_step_without_a_distance(span):
    with pytest.raises(ValueError, match="no distance"):
        nice_step(span)


def test_ticks():
    assert covering_ticks(0.336, 0.98) == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert covering_ticks(0, 0.3, 3) == [0.0, 0.1, 0.2, 0.3]
    assert inner_ticks(1, 12, whole=True) == [2, 4, 6, 8, 10, 12]
    assert inner_ticks(1, 2, whole=True) == [1, 2]
    assert inner_ticks(0.5, 1.5, 5) == [0.6, 0.8, 1.0, 1.2, 1.4]


def test_a_range_is_never_empty_and_keeps_its_bounds():
    assert value_range([1.0, 1.0], 0.0, 1.0) == (0.9, 1.0)
    assert value_range([0.0], 0.0, 1.0) == (0.0, 0.5)
    assert value_range([3.0], None, None) == pytest.approx((2.7, 3.3))
    assert value_range([1.5, 0.5], 0.0, 1.0) == (0.5, 1.5)


def test_scale_maps_ends_and_middle():
    y = Scale(0.0, 2.0, 190.0, 30.0)
    assert (y(0), y(1), y(2)) == (190.0, 110.0, 30.0)


def test_points_lie_where_the_axes_say():
    points = [(1.0, 0.8), (2.0, 0.35), (4.0, 0.1)]
    root = parse(line_chart(Chart("Loss", [Series("validation", points)], from_zero=True)))
    labels = texts(root)
    # The axes are read off the drawn labels (a label's baseline is 3.8 px below its tick), not from the code.
    x1, x4 = labels["1"][0], labels["4"][0]
    y0, y8 = labels["0"][1] - 3.8, labels["0.8"][1] - 3.8
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter("circle")]
    assert len(circles) == 3
    for (epoch, value), (cx, cy) in zip(points, circles, strict=True):
        assert cx == pytest.approx(x1 + (epoch - 1) / 3 * (x4 - x1), abs=0.11)
        assert cy == pytest.approx(y0 + value / 0.8 * (y8 - y0), abs=0.11)
    line = next(root.iter("polyline")).get("points")
    assert [tuple(map(float, pair.split(","))) for pair in line.split()] == circles


def test_everything_lies_inside_the_picture():
    series = [
        Series("validation", [(i / 10, math.sin(i) * 1e5) for i in range(100)]),
        Series("training", [(3.0, 0.5)], 1),
    ]
    root = parse(line_chart(Chart("t", series, reference=("chance", -2e5)), width=300, height=180))
    assert root.get("viewBox") == "0 0 300 180"
    for x, y in texts(root).values():
        assert 0 <= x <= 300
        assert 0 <= y <= 180
    for pair in " ".join(p.get("points") for p in root.iter("polyline")).split():
        x, y = map(float, pair.split(","))
        assert 0 <= x <= 300
        assert 0 <= y <= 180
    assert len(list(root.iter("circle"))) == 1  # a long line carries no markers


def test_the_reference_is_dashed_at_its_height():
    root = parse(line_chart(Chart("t", [Series("v", [(1, 0.0), (2, 1.0)])], reference=("chance", 0.5))))
    dashed = next(line for line in root.iter("line") if line.get("class") == "reference")
    ends = sorted(float(c.get("cy")) for c in root.iter("circle"))
    assert float(dashed.get("y1")) == float(dashed.get("y2")) == pytest.approx(sum(ends) / 2, abs=0.11)
    assert dashed.get("stroke-dasharray")
    assert "chance 0.5" in texts(root)


def test_a_value_that_is_not_finite_breaks_the_line_and_is_counted():
    points = [(1, 0.9), (2, 0.8), (3, math.nan), (4, 0.6), (5, 0.5), (6, math.inf)]
    root = parse(line_chart(Chart("t", [Series("train", points)])))
    assert [len(p.get("points").split()) for p in root.iter("polyline")] == [2, 2]
    assert len(list(root.iter("circle"))) == 4
    assert "train 0.5 (2 not finite)" in texts(root)
    assert "nan" not in ET.tostring(root, "unicode").lower().replace("finance", "")


@pytest.mark.parametrize(
    ("series", "message"),
    [([], "No values yet"), ([Series("v", [])], "No values yet"), ([Series("v", [(1, math.nan)])], "No finite values")],
)
def test_nothing_to_draw_is_said(series, message):
    root = parse(line_chart(Chart("Loss", series)))
    assert list(texts(root)) == [message]
    assert root.get("aria-label") == f"Loss by epoch: {message}"


def test_one_row_is_a_point_in_the_middle():
    root = parse(line_chart(Chart("t", [Series("v", [(1.0, 0.7)])])))
    circle = next(root.iter("circle"))
    assert not list(root.iter("polyline"))
    assert float(circle.get("cx")) == texts(root)["1"][0]


def test_shares_never_leave_their_bounds():
    root = parse(line_chart(Chart("t", [Series("v", [(1, 1.0), (2, 1.0)])], "share")))
    ticks = [float(t[:-1]) for t in texts(root) if re.fullmatch(r"[\d.]+%", t)]
    assert len(ticks) > 2 and max(ticks) == 100


@pytest.mark.parametrize(
    ("unit", "value", "legend"),
    [("share", 0.9996, "v >99.9%"), ("number", 0.060691, "v 0.0607"), ("rate", 2.5e-4, "v 2.5e−4")],
)
def test_the_unit_says_how_values_are_written(unit, value, legend):
    assert legend in texts(parse(line_chart(Chart("t", [Series("v", [(1, 0.0), (2, value)])], unit))))


def test_the_chart_is_described_in_words_and_escaped():
    svg = line_chart(Chart('A "title"', [Series("<b>&", [(1, 2.0), (2, 1.5)])]))
    assert "<b>" not in svg
    root = parse(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'A "title" by epoch: <b>& from 2 to 1.5'


def test_the_legend_breaks_into_rows():
    series = [Series(f"a rather long name {i}", [(1, float(i)), (2, 1.0)], i) for i in range(3)]
    labels = texts(parse(line_chart(Chart("t", series))))
    heights = {y for text, (_, y) in labels.items() if text.startswith("a rather")}
    assert len(heights) == 3


def test_the_reliability_chart_is_to_scale():
    empty = Bin(0.0, 0.5, 0, math.nan, math.nan)
    table = [empty, Bin(0.5, 0.75, 8, 0.6, 0.25), Bin(0.75, 1.0, 25_400, 0.9, 1.0)]
    svg = reliability_chart(table, title="A <title>", width=460, height=320)
    root = parse(svg)
    low, high = root.findall("rect")
    line = next(e for e in root.iter("line") if e.get("class") == "reference")
    x1, y1, x2, y2 = (float(line.get(k)) for k in ("x1", "y1", "x2", "y2"))
    assert float(low.get("height")) == pytest.approx((y1 - y2) * 0.25, abs=0.1)
    assert float(high.get("height")) == pytest.approx(y1 - y2, abs=0.1)
    assert float(low.get("x")) == pytest.approx(x1 + 0.5 * (x2 - x1) + 1, abs=0.1)
    assert float(high.get("width")) == pytest.approx((x2 - x1) / 4 - 2, abs=0.1)
    assert low.find("title").text == "8 rows: confidence 60.0%, accuracy 25.0%"
    assert {"8", "25k"} <= set(texts(root))
    assert root.get("aria-label").startswith("A <title>: confidence 60.0%, accuracy 25.0%; confidence 90.0%")
    assert "No values yet" in reliability_chart([empty], title="A")
