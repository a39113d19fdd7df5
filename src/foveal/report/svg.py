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
from foveal.metrics.formats import number, percent

_FALLBACKS = ("#1d5fc4", "#b3590a", "#5b4bb5", "#0f766e")
#: Average width of a character in 12 px text, in pixels; wide enough for every common sans serif.
_CHARACTER = 6.8
#: Series with more points than this are drawn without markers.
_MARKERS = 40


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        label: Its name in the legend; a line without a name has no place there.
        points: (x, y) by rising x; a y that is not finite leaves a gap and is counted in the legend.
        colour: Index of the colour, which stays with a meaning across charts.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: int = 0

    def finite(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [p for p in self.points if math.isfinite(p[1])]


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


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "epoch",
    y_format: Callable[[float], str] = number,
    tick_format: Callable[[float], str] | None = None,
    reference: tuple[str, float] | None = None,
    include: Sequence[float] = (),
    floor: float | None = None,
    ceiling: float | None = None,
    width: int = 360,
    height: int = 230,
) -> str:
    """An accessible line chart with axes, grid, legend and the last value of each line.

    Args:
        series: The lines; without any finite point the chart says so in words.
        title: What a screen reader calls the chart.
        x_label: Name of the x axis.
        y_format: Writes values in the legend and the points' tooltips.
        tick_format: Writes the numbers of the y axis; ``y_format`` by default.
        reference: Label and height of a dashed horizontal line.
        include: Values that the y axis reaches at least.
        floor: The y axis does not start below it, unless values lie there.
        ceiling: The y axis does not end above it, unless values lie there.
        width: Of the drawing, in pixels at its natural size; the page may scale it.
        height: Likewise.

    Returns:
        An ``<svg>`` element.
    """
    drawn = [(s, s.finite()) for s in series if s.points]
    points = [p for _, finite in drawn for p in finite]
    if not points:
        return _message(title, "No values yet" if not drawn else "No finite values", width, height)
    tick_format = tick_format or y_format
    if reference is not None and not math.isfinite(reference[1]):
        reference = None

    values = [y for _, y in points] + list(include) + ([reference[1]] if reference else [])
    y_ticks = covering_ticks(*value_range(values, floor, ceiling), count=5 if height >= 200 else 3)
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    single = x_high == x_low
    if single:
        x_low, x_high = x_low - 1, x_high + 1
    x_ticks = inner_ticks(x_low, x_high, whole=all(float(x).is_integer() for x, _ in points))
    if single:
        x_ticks = [points[0][0]]

    entries = [(s.label, finite, s) for s, finite in drawn]
    legend, rows = _legend(entries, reference, y_format, width)
    labels = [tick_format(t) for t in y_ticks]
    left = 14 + _CHARACTER * max(map(len, labels))
    top, bottom, right = 14 + 18 * rows, height - 38, width - 12
    x = Scale(x_low, x_high, left + 6, right - 6)
    y = Scale(y_ticks[0], y_ticks[-1], bottom, top)

    parts = [_open(_describe(title, entries, reference, y_format), width, height), *legend]
    for tick, label in zip(y_ticks, labels, strict=True):
        weight = "var(--axis, #8b949e)" if tick == y_ticks[0] else "var(--rule, #e2e6ea)"
        parts.append(
            f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="{weight}"/>'
        )
        parts.append(_text(left - 7, y(tick) + 3.8, label, anchor="end"))
    for tick in x_ticks:
        parts.append(_text(x(tick), bottom + 17, number(tick), anchor="middle"))
    parts.append(_text((left + right) / 2, height - 4, x_label, anchor="middle"))
    if reference:
        at = y(reference[1])
        parts.append(
            f'<line class="reference" x1="{left:.1f}" x2="{right:.1f}" y1="{at:.1f}" y2="{at:.1f}" '
            'stroke="var(--muted, #59636e)" stroke-width="1.5" stroke-dasharray="5 4"/>'
        )
    for s, _ in drawn:
        parts.extend(_line(s, x, y, x_label, y_format))
    parts.append("</svg>")
    return "".join(parts)


def reliability_chart(table: Sequence[Bin], *, title: str, width: int = 460, height: int = 320) -> str:
    """Bars of the accuracy of each bin of confidence against the diagonal; the number of rows stands on each.

    Args:
        table: Bins of ``calibration.reliability``.
        title: What a screen reader calls the chart.
        width: Of the drawing, in pixels at its natural size; the page may scale it.
        height: Likewise.

    Returns:
        An ``<svg>`` element.
    """
    full = [b for b in table if b.rows]
    if not full:
        return _message(title, "No values yet", width, height)
    x, y = Scale(0, 1, 52, width - 12), Scale(0, 1, height - 40, 18)
    said = "; ".join(f"confidence {percent(b.confidence)}, accuracy {percent(b.accuracy)}" for b in full)
    parts = [_open(f"{title}: {said}", width, height)]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        weight = "var(--axis, #8b949e)" if tick == 0 else "var(--rule, #e2e6ea)"
        parts.append(f'<line x1="{x(0):.1f}" x2="{x(1):.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="{weight}"/>')
        parts.append(_text(x(0) - 7, y(tick) + 3.8, f"{100 * tick:g}%", anchor="end"))
        parts.append(_text(x(tick), y(0) + 16, f"{100 * tick:g}%", anchor="end" if tick == 1 else "middle"))
    parts.append(_text((x(0) + x(1)) / 2, height - 6, "confidence (the numbers are rows)", anchor="middle"))
    for b in full:
        left, top = x(b.lower) + 1, y(b.accuracy)
        rows = f"{b.rows:,} row{'' if b.rows == 1 else 's'}"
        hover = f"{rows}: confidence {percent(b.confidence)}, accuracy {percent(b.accuracy)}"
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{x(b.upper) - left - 1:.1f}" height="{y(0) - top:.1f}" '
            f'fill="{_colour(0)}" opacity="0.75"><title>{escape(hover)}</title></rect>'
        )
    parts.append(
        f'<line class="reference" x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(1):.1f}" y2="{y(1):.1f}" '
        'stroke="var(--ink, #1c2126)" stroke-width="1.5" stroke-dasharray="5 4"/>'
    )
    for b in full:
        brief_rows = str(b.rows) if b.rows < 1000 else f"{b.rows / 1000:.{1 if b.rows < 9950 else 0}f}k"
        # A halo of paper keeps a number readable where the diagonal passes behind it.
        parts.append(
            f'<text x="{x((b.lower + b.upper) / 2):.1f}" y="{y(b.accuracy) - 4:.1f}" text-anchor="middle" font-size="10" '
            'fill="var(--ink, #1c2126)" stroke="var(--paper, #ffffff)" stroke-width="3" paint-order="stroke">'
            f"{brief_rows}</text>"
        )
    parts.append("</svg>")
    return "".join(parts)


def _line(s: Series, x: Scale, y: Scale, x_label: str, y_format: Callable[[float], str]) -> list[str]:
    """The polyline of a series, broken at gaps, and its markers."""
    finite = s.finite()
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
    for px, py in finite if len(finite) <= _MARKERS else []:
        hover = f"{s.label + ', ' if s.label else ''}{x_label} {number(px)}: {y_format(py)}"
        parts.append(
            f'<circle cx="{x(px):.1f}" cy="{y(py):.1f}" r="2.6" fill="{colour}"><title>{escape(hover)}</title></circle>'
        )
    return parts


def _legend(
    entries: Sequence[tuple[str, list[tuple[float, float]], Series]],
    reference: tuple[str, float] | None,
    y_format: Callable[[float], str],
    width: int,
) -> tuple[list[str], int]:
    """The legend's elements and how many rows it takes."""
    items: list[tuple[str, str, str]] = []
    for label, finite, s in entries:
        if not label:
            continue
        missing = len(s.points) - len(finite)
        text = f"{label} {y_format(finite[-1][1])}" if finite else label
        items.append((text + (f" ({missing} not finite)" if missing else ""), _colour(s.colour), ""))
    if reference:
        items.append((f"{reference[0]} {y_format(reference[1])}", "var(--muted, #59636e)", ' stroke-dasharray="5 4"'))
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
    title: str,
    entries: Sequence[tuple[str, list[tuple[float, float]], Series]],
    reference: tuple[str, float] | None,
    y_format: Callable[[float], str],
) -> str:
    """The chart in words."""
    said = []
    for label, finite, _ in entries:
        if len(finite) > 1:
            said.append(f"{label} from {y_format(finite[0][1])} to {y_format(finite[-1][1])}".strip())
        elif finite:
            said.append(f"{label} {y_format(finite[0][1])}".strip())
    if reference:
        said.append(f"{reference[0]} {y_format(reference[1])}")
    return f"{title}: {'; '.join(said)}"


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
    return f"var(--series-{index % len(_FALLBACKS)}, {_FALLBACKS[index % len(_FALLBACKS)]})"
