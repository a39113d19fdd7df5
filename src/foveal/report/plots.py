"""Plots as PNG files, by matplotlib without its global state."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from foveal.files import write_bytes
from foveal.metrics.calibration import Bin, calibration_error
from foveal.metrics.formats import capitalised, is_share, metric_title, number
from foveal.metrics.intervals import wilson_interval
from foveal.report.history import History, column, headline_column

_VALIDATION, _TRAINING, _RATE, _MUTED = "#1d5fc4", "#b3590a", "#5b4bb5", "#59636e"
#: Classes up to which the cells of a confusion matrix carry their numbers.
_NUMBERED = 20
#: Longest name of a class beside a confusion matrix.
_NAME = 26


def curves_png(history: History, path: Path, headline: str | None = None, chance: float | None = None) -> None:
    """Draws losses, the headline metric and the learning rate by epoch; what the history lacks is left out.

    Args:
        history: Rows of ``metrics.csv``.
        path: The PNG file.
        headline: The metric that counts; the first validation metric by default.
        chance: What blind guessing reaches on it, drawn as a dashed line.

    Raises:
        UserError: The disk is full or may not be written.
    """
    name = headline_column(history, headline)
    panels: list[tuple[str, list[tuple[str, str, str]], str | None]] = [
        ("Loss", [("validation", "val_loss", _VALIDATION), ("training", "train_loss", _TRAINING)], None)
    ]
    if name is not None:
        metric = name.removeprefix("val_")
        title = metric_title(metric)
        lines = [("validation", name, _VALIDATION), ("training", f"train_{metric}", _TRAINING)]
        panels.append((capitalised(title), lines, name))
    panels.append(("Learning rate", [("", "learning_rate", _RATE)], None))
    drawn = [p for p in panels if any(column(history, key) for _, key, _ in p[1])] or panels[:1]

    figure = Figure(figsize=(4.6 * len(drawn), 3.4), layout="constrained")
    for axes, (title, lines, metric_name) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set_xlabel("epoch")
        for label, key, colour in lines:
            points = column(history, key)
            if points:
                marker = "o" if len(points) <= 40 else ""
                axes.plot(*zip(*points, strict=True), color=colour, label=label, marker=marker, markersize=3.5)
        if metric_name is not None:
            if is_share(metric_name):
                axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            if chance is not None:
                axes.axhline(chance, color=_MUTED, linestyle="--", linewidth=1.2, label="chance")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color="#e2e6ea")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def confusion_png(
    matrix: Sequence[Sequence[int]] | np.ndarray,
    names: Sequence[str],
    path: Path,
    *,
    answers: Sequence[str] | None = None,
) -> None:
    """Draws a confusion matrix, shaded by the share of each row.

    Up to 20 answers the cells carry their counts. More are shaded by the square root of the share; labels shrink, and of
    hundreds some are left out.

    Args:
        matrix: Counts ``[K, A]``: a row per true class, a column per answer.
        names: The K classes.
        path: The PNG file.
        answers: The A answers where they are more than the classes (say, an ``unparsable`` one); ``names`` by default.

    Raises:
        ValueError: The matrix does not have the names' shape.
        UserError: The disk is full or may not be written.
    """
    counts = np.asarray(matrix)
    columns = list(names if answers is None else answers)
    if counts.shape != (len(names), len(columns)) or counts.size == 0:
        raise ValueError(
            f"a matrix of shape {counts.shape} does not fit {len(names)} classes and {len(columns)} answers"
        )
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = min(max(3.0, 1.8 + 0.52 * len(columns)), 14.0)
    figure = Figure(figsize=(side + 0.9, side * len(names) / len(columns) + 0.9), layout="constrained")
    axes = figure.subplots()
    numbered = len(columns) <= _NUMBERED
    # Of many classes only shades tell, and a confusion of 5 % must not look like none.
    shading = axes.imshow(shares, cmap="Blues", norm=PowerNorm(1.0 if numbered else 0.5, vmin=0, vmax=1))
    pitch = 72 * 0.85 * side / len(columns)
    small, step = min(9.0, max(5.0, 0.75 * pitch)), max(1, math.ceil(6 / pitch))
    turn = 90 if not numbered else 45 if max(map(len, columns)) > 4 else 0
    axes.set_xticks(
        range(0, len(columns), step), [_shortened(c) for c in columns[::step]], fontsize=small, rotation=turn,
        ha="right" if turn == 45 else "center", rotation_mode="anchor" if turn == 45 else "default",
    )  # fmt: skip
    axes.set_yticks(range(0, len(names), step), [_shortened(n) for n in names[::step]], fontsize=small)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if numbered:
        for row, column_, count in ((r, c, counts[r, c]) for r in range(len(names)) for c in range(len(columns))):
            shade = "white" if shares[row, column_] > 0.55 else "#1c2126" if count else "#aab4bf"
            axes.text(column_, row, number(float(count)), ha="center", va="center", fontsize=9, color=shade)
    bar = figure.colorbar(shading, ax=axes, fraction=0.046, format=PercentFormatter(1.0))
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    _save(figure, path)


def reliability_png(table: Sequence[Bin], path: Path) -> None:
    """Draws the accuracy of each bin of confidence against the diagonal, with 95 % Wilson intervals, and the bins' rows.

    Args:
        table: Bins of ``calibration.reliability``, at least one with rows.
        path: The PNG file.

    Raises:
        UserError: The disk is full or may not be written.
    """
    full = [b for b in table if b.rows]
    rows = sum(b.rows for b in full)
    figure = Figure(figsize=(5.0, 5.9), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
    axes.set_title(
        f"ECE {calibration_error(table):.3f} on {rows:,} row{'' if rows == 1 else 's'}", loc="left", fontsize=11, fontweight="bold"
    )  # fmt: skip
    middles, widths = [(b.lower + b.upper) / 2 for b in full], [(b.upper - b.lower) * 0.92 for b in full]
    accuracies = [b.accuracy for b in full]
    axes.bar(middles, accuracies, widths, color=_VALIDATION, alpha=0.75)
    bounds = [wilson_interval(round(b.accuracy * b.rows), b.rows) for b in full]
    axes.vlines(middles, *zip(*bounds, strict=True), color="#1c2126", linewidth=1, label="95 % interval")
    axes.plot([0, 1], [0, 1], color=_MUTED, linestyle="--", linewidth=1.2, label="accuracy = confidence")
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1.02)
    # Bars may fill the whole panel.
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    below.bar(middles, [b.rows for b in full], widths, color=_MUTED, alpha=0.55)
    for middle, b in zip(middles, full, strict=True):
        below.annotate(
            f"{b.rows:,}", (middle, b.rows), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=7,
            rotation=90 if max(x.rows for x in full) > 999 else 0,
        )  # fmt: skip
    below.margins(y=0.5)
    below.set_ylabel("rows")
    below.set_xlabel("confidence: probability of the answer")
    below.set_xlim(0, 1)
    below.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for part in (axes, below):
        part.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _shortened(name: str) -> str:
    # Names of one kind often begin alike and end apart.
    return name if len(name) <= _NAME else f"{name[: _NAME // 2]}…{name[-(_NAME // 2 - 1) :]}"


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    # No software name and no date: the same numbers give the same file.
    figure.savefig(stream, format="png", dpi=140, bbox_inches="tight", pad_inches=0.12, metadata={"Software": None})
    write_bytes(path, stream.getvalue())
