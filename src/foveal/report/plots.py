"""Plots as PNG files, by matplotlib without its global state."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from foveal.files import write_bytes
from foveal.metrics.calibration import Bin
from foveal.metrics.formats import number
from foveal.metrics.intervals import wilson_interval
from foveal.report.charts import COLOURS, MARKERS, Chart, Confusion, reliability_title

_MUTED, _INK = "#59636e", "#1c2126"
#: Columns up to which the cells of a confusion matrix carry their counts.
_NUMBERED = 20
#: Longest name of a class beside a confusion matrix.
_NAME = 26


def curves_png(charts: Sequence[Chart], path: Path) -> None:
    """Draws charts side by side; without any, an empty one of the loss.

    Raises:
        UserError: The disk is full or may not be written.
    """
    charts = charts or [Chart("Loss", [])]
    figure = Figure(figsize=(4.6 * len(charts), 3.4), layout="constrained")
    for axes, chart in zip(figure.subplots(1, len(charts), squeeze=False)[0], charts, strict=True):
        _draw_lines(axes, chart)
    _save(figure, path)


def _draw_lines(axes: Axes, chart: Chart) -> None:
    axes.set_title(chart.title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel("epoch")
    for line in chart.series:
        marker = "o" if len(line.points) <= MARKERS else ""
        xs, ys = zip(*line.points, strict=True)
        axes.plot(xs, ys, color=COLOURS[line.colour], label=line.label, marker=marker, markersize=3.5)
    if chart.unit == "share":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if chart.reference is not None:
        label, height = chart.reference
        axes.axhline(height, color=_MUTED, linestyle="--", linewidth=1.2, label=label)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#e2e6ea")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def confusion_png(matrix: Confusion, path: Path) -> None:
    """Draws a confusion matrix, shaded by the share of each row.

    Up to 20 columns the cells carry their counts. More are shaded by the square root of the share; labels shrink, and of
    hundreds some are left out.

    Raises:
        ValueError: The counts do not have the names' shape.
        UserError: The disk is full or may not be written.
    """
    counts, rows, columns = np.asarray(matrix.counts), matrix.truths, matrix.values
    if counts.shape != (len(rows), len(columns)) or counts.size == 0:
        raise ValueError(f"a matrix of shape {counts.shape} does not fit {len(rows)} truths and {len(columns)} values")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = min(max(3.0, 1.8 + 0.52 * len(columns)), 14.0)
    figure = Figure(figsize=(side + 0.9, side * len(rows) / len(columns) + 0.9), layout="constrained")
    axes = figure.subplots()
    numbered = len(columns) <= _NUMBERED
    # Of many classes only shades tell, and a confusion of 5 % must not look like none.
    shading = axes.imshow(shares, cmap="Blues", norm=PowerNorm(1.0 if numbered else 0.5, vmin=0, vmax=1))
    _label_classes(axes, rows, columns, pitch=72 * 0.85 * side / len(columns))
    if numbered:
        for (row, place), count in np.ndenumerate(counts):
            ink = "white" if shares[row, place] > 0.55 else _INK if count else "#aab4bf"
            axes.text(place, row, number(float(count)), ha="center", va="center", fontsize=9, color=ink)
    bar = figure.colorbar(shading, ax=axes, fraction=0.046, format=PercentFormatter(1.0))
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    _save(figure, path)


def _label_classes(axes: Axes, rows: Sequence[str], columns: Sequence[str], pitch: float) -> None:
    """Names beside the rows and columns, which are ``pitch`` points apart: as many as do not touch."""
    small, step = min(9.0, max(5.0, 0.75 * pitch)), max(1, math.ceil(6 / pitch))
    turn = 90 if len(columns) > _NUMBERED else 45 if max(map(len, columns)) > 4 else 0
    axes.set_xticks(
        range(0, len(columns), step), [_shortened(c) for c in columns[::step]], fontsize=small, rotation=turn,
        ha="right" if turn == 45 else "center", rotation_mode="anchor" if turn == 45 else "default",
    )  # fmt: skip
    axes.set_yticks(range(0, len(rows), step), [_shortened(r) for r in rows[::step]], fontsize=small)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def reliability_png(bins: Sequence[Bin], path: Path) -> None:
    """Draws the accuracy of each bin of confidence against the diagonal, with 95 % Wilson intervals, and the bins' rows.

    Args:
        bins: Bins of ``calibration.reliability``, at least one with rows.
        path: The PNG file.

    Raises:
        UserError: The disk is full or may not be written.
    """
    full = [b for b in bins if b.rows]
    figure = Figure(figsize=(5.0, 5.9), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
    axes.set_title(reliability_title(bins), loc="left", fontsize=11, fontweight="bold")
    _draw_accuracies(axes, full)
    # Bars may fill the whole panel.
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    _draw_rows(below, full)
    for part in (axes, below):
        part.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _draw_accuracies(axes: Axes, bins: Sequence[Bin]) -> None:
    middles, widths = _places(bins)
    axes.bar(middles, [b.accuracy for b in bins], widths, color=COLOURS[0], alpha=0.75)
    low, high = zip(*(wilson_interval(round(b.accuracy * b.rows), b.rows) for b in bins), strict=True)
    axes.vlines(middles, low, high, color=_INK, linewidth=1, label="95 % interval")
    axes.plot([0, 1], [0, 1], color=_MUTED, linestyle="--", linewidth=1.2, label="accuracy = confidence")
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _draw_rows(axes: Axes, bins: Sequence[Bin]) -> None:
    middles, widths = _places(bins)
    axes.bar(middles, [b.rows for b in bins], widths, color=_MUTED, alpha=0.55)
    for middle, b in zip(middles, bins, strict=True):
        axes.annotate(
            f"{b.rows:,}", (middle, b.rows), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=7,
            rotation=90 if max(x.rows for x in bins) > 999 else 0,
        )  # fmt: skip
    axes.margins(y=0.5)
    axes.set_ylabel("rows")
    axes.set_xlabel("confidence: probability of the answer")
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))


def _places(bins: Sequence[Bin]) -> tuple[list[float], list[float]]:
    return [(b.lower + b.upper) / 2 for b in bins], [(b.upper - b.lower) * 0.92 for b in bins]


def _shortened(name: str) -> str:
    # Names of one kind often begin alike and end apart.
    return name if len(name) <= _NAME else f"{name[: _NAME // 2]}…{name[-(_NAME // 2 - 1) :]}"


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    # No software name and no date: the same numbers give the same file.
    figure.savefig(stream, format="png", dpi=140, bbox_inches="tight", pad_inches=0.12, metadata={"Software": None})
    write_bytes(path, stream.getvalue())
