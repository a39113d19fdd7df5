"""Line charts and the reliability diagram as inline SVG text: pure functions, no plotting library, nothing to load.

Pixels of a chart run to the right and downwards from its top left corner. Colours come from the page's CSS variables
(``--series-0``, ``--ink``, ...) with a fallback that is readable on white, so that a chart follows the colour scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from foveal.metrics.calibration import Bin
from foveal.metrics.formats import brief, number, percent, scientific
from foveal.report.charts import COLOURS, MARKERS, Chart, Series

#: How values are written, and the numbers of the y axis, by a chart's unit.
_WRITTEN: dict[str, tuple[Callable[[float], str], Callable[[float], str]]] = {
    "share": (percent, lambda value: f"{100 * value:.4g}%"),
    "number": (brief, number),
    "rate": (scientific, scientific),
}
#: Average width of a character in 12 px text, in pixels; wide enough for every common sans serif.
_CHARACTER = 6.8


@dataclass(frozen=True)
class Scale:
    """A linear map from values to pixels; ``low`` lies at ``start`` and ``high`` at ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def nice_step(span: float, count: int = 5) -> float:
    """The round distance (1, 2, 2.5 or 5 times a power of ten) that divides ``span`` into at most ``count`` parts.

    After P. Heckbert, "Nice numbers for graph labels", Graphics Gems (1990).
    """
    if not (math.isfinite(span) and span > 0):
        raise ValueError(f"{span} is no distance")
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    factor = next((f for f in (1.0, 2.0, 2.5, 5.0) if rough <= f * power * (1 + 1e-9)), 10.0)
    return factor * power


def covering_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers, equally spaced, the first at or below ``low`` and the last at or above ``high``."""
    step = nice_step(high - low, count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def inner_ticks(low: float, high: float, count: int = 6, *, whole: bool = False) -> list[float]:
    """Round numbers, equally spaced, from ``low`` to ``high``; ``whole`` ones are integers."""
    step = nice_step(high - low, count)
    if whole:
        step = max(1.0, float(math.ceil(step - 1e-9)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def value_range(values: Sequence[float], floor: float | None, ceiling: float | None) -> tuple[float, float]:
    """The smallest and the largest value, drawn apart where they are the same, without leaving the given bounds."""
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        pad = abs(low) * 0.1 or 0.5
        low, high = low - pad, high + pad
    if floor is not None and min(values) >= floor:
        low = max(low, floor)
    if ceiling is not None and max(values) <= ceiling:
        high = min(high, ceiling)
    return low, high


def line_chart(chart: Chart, *, width: int = 360, height: int = 230) -> str:
    """An accessible line chart with axes, grid, legend and the last value of each line.

    Args:
        chart: What is drawn; without any finite point the chart says so in words.
        width: Of the drawing, in pixels at its natural size; the page may scale it.
        height: Likewise.

    Returns:
        An ``<svg>`` element.
    """
    title = f"{chart.title} by epoch"
    lines = [s for s in chart.series if s.points]
    points = [p for s in lines for p in s.finite()]
    if not points:
        return _message(title, "No finite values" if lines else "No values yet", width, height)
    value_text, tick_text = _WRITTEN[chart.unit]
    reference = chart.reference if chart.reference and math.isfinite(chart.reference[1]) else None
    legend, rows = _legend(lines, reference, value_text, width)

    y_ticks = _y_ticks(chart, [y for _, y in points] + ([reference[1]] if reference else []), height)
    labels = [tick_text(tick) for tick in y_ticks]
    left, right = 14 + _CHARACTER * max(map(len, labels)), width - 12
    y = Scale(y_ticks[0], y_ticks[-1], height - 38, 14 + 18 * rows)
    x, x_ticks = _x_axis([x for x, _ in points], left + 6, right - 6)

    parts = [_open(_describe(title, lines, reference, value_text), width, height), *legend]
    for tick, label in zip(y_ticks, labels, strict=True):
        parts.append(_grid_line(left, right, y(tick), first=tick == y_ticks[0]))
        parts.append(_text(left - 7, y(tick) + 3.8, label, anchor="end"))
    parts += [_text(x(tick), y.start + 17, number(tick), anchor="middle") for tick in x_ticks]
    parts.append(_text((left + right) / 2, height - 4, "epoch", anchor="middle"))
    if reference:
        at = y(reference[1])
        parts.append(_dashed(left, at, right, at, "var(--muted, #59636e)"))
    for s in lines:
        parts += _line(s, x, y, value_text)
    return "".join([*parts, "</svg>"])


def _y_ticks(chart: Chart, values: Sequence[float], height: int) -> list[float]:
    """The numbers of the y axis, which do not leave 0 to 1 for shares unless values do."""
    floor, ceiling = (0.0, 1.0) if chart.unit == "share" else (None, None)
    reached = [*values, 0.0] if chart.from_zero else values
    return covering_ticks(*value_range(reached, floor, ceiling), count=5 if height >= 200 else 3)


def _x_axis(values: Sequence[float], start: float, end: float) -> tuple[Scale, list[float]]:
    """The axis of epochs; a single one stands in the middle."""
    low, high = min(values), max(values)
    if low == high:
        return Scale(low - 1, high + 1, start, end), [low]
    return Scale(low, high, start, end), inner_ticks(low, high, whole=all(float(x).is_integer() for x in values))


def reliability_chart(bins: Sequence[Bin], *, title: str, width: int = 460, height: int = 320) -> str:
    """Bars of the accuracy of each bin of confidence against the diagonal; the number of rows stands on each.

    Args:
        bins: Bins of ``calibration.reliability``.
        title: What a screen reader calls the chart.
        width: Of the drawing, in pixels at its natural size; the page may scale it.
        height: Likewise.

    Returns:
        An ``<svg>`` element.
    """
    full = [b for b in bins if b.rows]
    if not full:
        return _message(title, "No values yet", width, height)
    x, y = Scale(0, 1, 52, width - 12), Scale(0, 1, height - 40, 18)
    words = "; ".join(f"confidence {percent(b.confidence)}, accuracy {percent(b.accuracy)}" for b in full)
    parts = [_open(f"{title}: {words}", width, height)]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_grid_line(x(0), x(1), y(tick), first=tick == 0))
        parts.append(_text(x(0) - 7, y(tick) + 3.8, f"{100 * tick:g}%", anchor="end"))
        parts.append(_text(x(tick), y(0) + 16, f"{100 * tick:g}%", anchor="end" if tick == 1 else "middle"))
    parts.append(_text((x(0) + x(1)) / 2, height - 6, "confidence (the numbers are rows)", anchor="middle"))
    parts += [_reliability_bar(b, x, y) for b in full]
    parts.append(_dashed(x(0), y(0), x(1), y(1), "var(--ink, #1c2126)"))
    parts += [_rows_on_bar(b, x, y) for b in full]
    return "".join([*parts, "</svg>"])


def _reliability_bar(b: Bin, x: Scale, y: Scale) -> str:
    left, top = x(b.lower) + 1, y(b.accuracy)
    rows = f"{b.rows:,} row{'' if b.rows == 1 else 's'}"
    hover = f"{rows}: confidence {percent(b.confidence)}, accuracy {percent(b.accuracy)}"
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{x(b.upper) - left - 1:.1f}" height="{y(0) - top:.1f}" '
        f'fill="{_colour(0)}" opacity="0.75"><title>{escape(hover)}</title></rect>'
    )


def _rows_on_bar(b: Bin, x: Scale, y: Scale) -> str:
    rows = str(b.rows) if b.rows < 1000 else f"{b.rows / 1000:.{1 if b.rows < 9950 else 0}f}k"
    # A halo of paper keeps a number readable where the diagonal passes behind it.
    return (
        f'<text x="{x((b.lower + b.upper) / 2):.1f}" y="{y(b.accuracy) - 4:.1f}" text-anchor="middle" font-size="10" '
        'fill="var(--ink, #1c2126)" stroke="var(--paper, #ffffff)" stroke-width="3" paint-order="stroke">'
        f"{rows}</text>"
    )


def _grid_line(left: float, right: float, y: float, *, first: bool) -> str:
    stroke = "var(--axis, #8b949e)" if first else "var(--rule, #e2e6ea)"
    return f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{stroke}"/>'


def _dashed(x1: float, y1: float, x2: float, y2: float, stroke: str) -> str:
    return (
        f'<line class="reference" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{stroke}" stroke-width="1.5" stroke-dasharray="5 4"/>'
    )


def _line(s: Series, x: Scale, y: Scale, value_text: Callable[[float], str]) -> list[str]:
    """The polyline of a series, broken at gaps, and its markers."""
    colour = _colour(s.colour)
    parts, piece = [], list[str]()
    for px, py in [*s.points, (math.nan, math.nan)]:
        if math.isfinite(py):
            piece.append(f"{x(px):.1f},{y(py):.1f}")
            continue
        if len(piece) > 1:
            parts.append(
                f'<polyline points="{" ".join(piece)}" fill="none" stroke="{colour}" stroke-width="2" '
                'stroke-linejoin="round" stroke-linecap="round"/>'
            )
        piece = []
    finite = s.finite()
    for px, py in finite if len(finite) <= MARKERS else []:
        hover = f"{s.label + ', ' if s.label else ''}epoch {number(px)}: {value_text(py)}"
        parts.append(
            f'<circle cx="{x(px):.1f}" cy="{y(py):.1f}" r="2.6" fill="{colour}"><title>{escape(hover)}</title></circle>'
        )
    return parts


def _legend(
    lines: Sequence[Series], reference: tuple[str, float] | None, value_text: Callable[[float], str], width: int
) -> tuple[list[str], int]:
    """The legend's elements and how many rows it takes."""
    items: list[tuple[str, str, str]] = []
    for s in lines:
        if not s.label:
            continue
        finite = s.finite()
        missing = len(s.points) - len(finite)
        text = f"{s.label} {value_text(finite[-1][1])}" if finite else s.label
        items.append((text + (f" ({missing} not finite)" if missing else ""), _colour(s.colour), ""))
    if reference:
        items.append((f"{reference[0]} {value_text(reference[1])}", "var(--muted, #59636e)", ' stroke-dasharray="5 4"'))
    parts, at, row = [], 2.0, 0
    for text, colour, dash in items:
        wide = 24 + _CHARACTER * len(text) + 10
        if at > 2 and at + wide > width:
            at, row = 2.0, row + 1
        base = 13 + 18 * row
        parts.append(
            f'<line x1="{at:.1f}" x2="{at + 18:.1f}" y1="{base - 4}" y2="{base - 4}" '
            f'stroke="{colour}" stroke-width="2"{dash}/>'
        )
        parts.append(_text(at + 24, base, text, ink=True))
        at += wide
    return parts, row + 1


def _describe(
    title: str, lines: Sequence[Series], reference: tuple[str, float] | None, value_text: Callable[[float], str]
) -> str:
    parts = []
    for s in lines:
        values = [value_text(y) for _, y in s.finite()]
        if len(values) > 1:
            parts.append(f"{s.label} from {values[0]} to {values[-1]}".strip())
        elif values:
            parts.append(f"{s.label} {values[0]}".strip())
    if reference:
        parts.append(f"{reference[0]} {value_text(reference[1])}")
    return f"{title}: {'; '.join(parts)}"


def _message(title: str, message: str, width: int, height: int) -> str:
    body = _text(width / 2, height / 2, message, anchor="middle")
    return f"{_open(f'{title}: {message}', width, height)}{body}</svg>"


def _open(description: str, width: int, height: int) -> str:
    return (
        f'<svg class="chart" role="img" aria-label="{escape(description)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-size="12">'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", ink: bool = False) -> str:
    fill = "var(--ink, #1c2126)" if ink else "var(--muted, #59636e)"
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'


def _colour(index: int) -> str:
    return f"var(--series-{index % len(COLOURS)}, {COLOURS[index % len(COLOURS)]})"
