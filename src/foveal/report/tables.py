"""The numbers of a page: the headline, the metrics, those of each class, and the epochs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from foveal.metrics.formats import format_change, format_interval, format_metric
from foveal.report.history import History
from foveal.results import Metrics, Result

#: Metrics of single classes up to which they stand open.
_UNFOLDED = 8


def compared(results: Sequence[Result]) -> tuple[Result, Result] | None:
    """The first measurement and the last one on the same rows, or None where there are no two such."""
    for last in results[:0:-1]:
        first = results[0]
        if (first.source, first.rows, first.headline) == (last.source, last.rows, last.headline):
            return first, last
    return None


# --- the headline -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Track:
    """A measurement on the headline metric; positions are in per cent of the track, None without a track."""

    label: str
    value: str
    interval: str
    at: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Headline:
    """The first thing a reader sees; ``change`` and ``since`` are empty where nothing is compared."""

    metric: str
    value: str
    label: str
    change: str
    since: str
    chance: str
    chance_at: float | None
    tracks: list[Track]


def headline(results: Sequence[Result]) -> Headline | None:
    """The headline metric of the last measurement and of the earlier ones that have it."""
    if not results:
        return None
    name, metrics = results[-1].headline, results[-1].metrics
    alike = [r for r in results if r.headline == name and name in r.values]
    if not alike:
        return None
    metric, final, change, since = metrics.of(name), alike[-1], "", ""
    pair = compared(results)
    if pair and pair[1] is final and name in pair[0].values:
        change = format_change(metric, pair[0].value, final.value)
        since = f"{format_metric(metric, pair[0].value)} {pair[0].label}"
    scaled = metric.unit == "share" and all(0 <= r.value <= 1 for r in alike)
    return Headline(
        metric=metrics.title(name), value=format_metric(metric, final.value), label=final.label, change=change, since=since,
        chance="" if final.chance is None else format_metric(metric, final.chance),
        chance_at=_place(final.chance) if scaled else None, tracks=[_track(r, scaled) for r in alike],
    )  # fmt: skip


def _track(result: Result, scaled: bool) -> Track:
    metric, interval = result.metrics.of(result.headline), result.interval
    return Track(
        label=result.label,
        value=format_metric(metric, result.value),
        interval=format_interval(metric, interval) if interval else "",
        at=_place(result.value) if scaled else None,
        low=_place(interval[0]) if interval and scaled else None,
        high=_place(interval[1]) if interval and scaled else None,
    )


def _place(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else 100 * min(max(value, 0.0), 1.0)


# --- metrics ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A metric over all measurements; ``change`` is None where nothing is compared."""

    title: str
    note: str
    headline: bool
    values: list[str]
    notes: list[str]
    change: str | None


@dataclass(frozen=True)
class Table:
    """Rows of metrics; ``folded`` ones open on demand."""

    caption: str
    rows: list[Row]
    folded: bool


def metric_tables(results: Sequence[Result], *, per_class: bool) -> list[Table]:
    """All metrics: those of the whole, then, if they are wanted, those of a class (``recall/two``), folded where many."""
    names = list(dict.fromkeys(name for r in results for name in (r.headline, *r.values)))
    names = [name for name in names if any(name in r.values for r in results)]
    whole = [name for name in names if "/" not in name or any(r.headline == name for r in results)]
    parts = [name for name in names if name not in whole] if per_class else []
    if len(parts) <= _UNFOLDED:
        whole, parts = whole + parts, []
    tables = [("Metrics", whole, False), ("Metrics of each class", parts, True)]
    return [Table(caption, [_row(n, results) for n in rows], folded) for caption, rows, folded in tables if rows]


def _row(name: str, results: Sequence[Result]) -> Row:
    metric, pair, change = results[-1].metrics.of(name), compared(results), None
    if pair:
        before, after = (r.values.get(name) for r in pair)
        change = "" if before is None or after is None else format_change(metric, before, after)
    headed = [r for r in results if r.headline == name]
    chances = {format_metric(metric, r.chance) for r in headed if r.chance is not None}
    note = ["95% interval"] if any(r.interval for r in headed) else []
    note += [f"chance {chance}" for chance in chances] if len(chances) == 1 else []
    notes = []
    for r in results:
        parts = [format_interval(metric, r.interval)] if r in headed and r.interval else []
        if r in headed and r.chance is not None and len(chances) > 1:
            parts.append(f"chance {format_metric(metric, r.chance)}")
        notes.append(", ".join(parts))
    return Row(
        title=results[-1].metrics.title(name),
        note=", ".join(note),
        headline=bool(headed),
        values=[format_metric(metric, r.values[name]) if name in r.values else "" for r in results],
        notes=notes,
        change=change,
    )


@dataclass(frozen=True)
class ClassTable:
    """Classes against metrics; a row holds for each heading the value and, where it is known, the one before."""

    caption: str
    headings: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]
    folded: bool


def class_tables(results: Sequence[Result]) -> list[ClassTable]:
    """The metrics of each class in the last measurement, where there are two or more.

    What has no class in common stands in tables of its own: the IoU of kinds of questions, say, and that of baselines.
    """
    if not results:
        return []
    last = results[-1]
    by_base: dict[str, list[str]] = {}
    for base, slash, part in (name.partition("/") for name in last.values if name != last.headline):
        if slash:
            by_base.setdefault(base, []).append(part)
    if len(by_base) < 2:
        return []
    groups: list[tuple[list[str], list[str]]] = []
    for base, parts in by_base.items():
        near = [group for group in groups if not set(group[1]).isdisjoint(parts)]
        bases = [*(b for group in near for b in group[0]), base]
        classes = list(dict.fromkeys([*(c for group in near for c in group[1]), *parts]))
        groups = [*(group for group in groups if group not in near), (bases, classes)]
    return [_class_table(results, bases, classes) for bases, classes in groups]


def _class_table(results: Sequence[Result], bases: Sequence[str], classes: Sequence[str]) -> ClassTable:
    last, pair = results[-1], compared(results)
    earlier = pair[0].values if pair and pair[1] is last else {}
    sizes = Counter(str(e.truth) for e in last.examples if isinstance(e.truth, str | int))
    sized = all(c in sizes for c in classes)

    def values(name: str) -> tuple[str, str]:
        if name not in last.values:
            return "", ""
        metric = last.metrics.of(name)
        before = f"from {format_metric(metric, earlier[name])}" if name in earlier else ""
        return format_metric(metric, last.values[name]), before

    rows = [
        (c, [*([(f"{sizes[c]:,}", "")] if sized else []), *(values(f"{base}/{c}") for base in bases)]) for c in classes
    ]
    headings = ["rows"] * sized + [last.metrics.title(base) for base in bases]
    return ClassTable(f"Metrics of each class, {last.label}", headings, rows, len(classes) > _UNFOLDED)


# --- epochs -------------------------------------------------------------------------------------------------------


def epoch_table(history: History, metrics: Metrics) -> tuple[list[str], list[list[str]]]:
    """The history as a table: its headings and rows, as text; metrics of single classes only where they are few."""
    names = list(dict.fromkeys(name for row in history for name in row if name != "timestamp"))
    whole = [name for name in names if "/" not in name]
    names = names if len(names) - len(whole) <= _UNFOLDED else whole

    def text(name: str, value: float | str | None) -> str:
        return "" if value is None else value if isinstance(value, str) else format_metric(metrics.of(name), value)

    return [metrics.title(name) for name in names], [[text(n, row.get(n)) for n in names] for row in history]
