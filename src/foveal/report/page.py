"""A run or an evaluation as one HTML page that needs nothing but itself.

The page holds its style, its charts (SVG) and its pictures (thumbnails), makes no request and runs no script, so that
it can be mailed, archived and opened anywhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import takewhile
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image

import foveal
from foveal.examples import Example
from foveal.files import write_text
from foveal.metrics.calibration import Bin, calibration_error, reliability_of
from foveal.metrics.formats import (
    brief,
    capitalised,
    format_change,
    format_interval,
    format_metric,
    is_share,
    metric_title,
    number,
    percent,
    scientific,
)
from foveal.report.cards import State, cell, ratio
from foveal.report.history import History, column, headline_column
from foveal.report.svg import Series, line_chart, reliability_chart
from foveal.results import Prediction

#: Pictures in a report, unless the caller asks for another number.
LIMIT = 96
#: Mistakes that stand before the other pictures.
MISTAKES = 12
_UNFOLDED = 8
_TIME_COLUMNS = ("timestamp",)


@dataclass(frozen=True)
class Measured:
    """One measurement: a column of the table of metrics.

    Attributes:
        label: When it was made: ``before training``, ``after training (best)``.
        source: On what: ``3,000 held-out generated pictures, seed 0``.
        rows: How many rows were measured.
        metrics: Metric to value, in the order of the table.
        headline: Key of the metric that counts.
        chance: What blind guessing reaches on the headline metric, or None where that is not defined.
        interval: Bounds that hold the headline metric with 95 % confidence, or None where unknown.
    """

    label: str
    source: str
    rows: int
    metrics: Mapping[str, float]
    headline: str
    chance: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Shown:
    """A picture with what was asked, what is true and what the model said.

    Attributes:
        image: The picture, of any size; None where there is none to show.
        question: What the model was asked.
        truth: The right answer, or None where it is unknown.
        answer: What the model answered; the whole reply where no answer could be found in it.
        probability: The model's probability of ``answer``, or None where none was computed.
        correct: Whether the answer is right. None means unknown where ``truth`` is None too, and otherwise that the
            reply could not be parsed.
        probabilities: Each answer's probability, where a closed set was scored.
        note: Anything else worth a line, e.g. the row's id.
    """

    image: Image.Image | None
    question: str
    truth: str | None
    answer: str
    probability: float | None
    correct: bool | None
    probabilities: Mapping[str, float] | None = None
    note: str = ""

    @property
    def state(self) -> State:
        """How the answer is judged."""
        if self.correct is not None:
            return "right" if self.correct else "wrong"
        return "unknown" if self.truth is None else "unparsable"


@dataclass(frozen=True)
class Overview:
    """What the page says about all rows of the last measurement, of which ``shown`` are a few.

    Attributes:
        bins: Confidence against accuracy; empty without probabilities.
        rows: How many rows have each truth, where truths are words or whole numbers.
    """

    bins: Sequence[Bin] = ()
    rows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All that a page shows; whatever is empty is left out of it.

    Attributes:
        title: Heading of the page.
        task: Name of the task.
        model: Id of the model.
        facts: How it was made: command, time, machine, seed, parameters trained.
        measured: Measurements from the first to the last.
        history: Rows of ``metrics.csv``.
        shown: Pictures, in any order.
        label_mask: The first example as the loss saw it.
        recipe: The recipe's YAML.
        overview: The last measurement's rows in numbers.
    """

    title: str
    task: str
    model: str
    facts: Mapping[str, str]
    measured: Sequence[Measured]
    history: History
    shown: Sequence[Shown]
    label_mask: str = ""
    recipe: str = ""
    overview: Overview = Overview()


def overview(examples: Sequence[Example], predictions: Sequence[Prediction]) -> Overview:
    """The overview of a measurement; predictions in the order of the examples."""
    return Overview(
        reliability_of(examples, predictions), Counter(str(e.truth) for e in examples if isinstance(e.truth, str | int))
    )


def order_shown(shown: Sequence[Shown]) -> list[Shown]:
    """The most instructive pictures first.

    Wrong ones come first (the most confident on top), then unparsable ones, then right ones (the least confident on
    top), and those without a truth last. Equals keep their order; an unknown confidence comes last in its group.
    """

    def key(item: Shown) -> tuple[int, float]:
        rank = ("wrong", "unparsable", "right", "unknown").index(item.state)
        if item.probability is None or not math.isfinite(item.probability):
            return rank, math.inf
        return rank, -item.probability if item.state == "wrong" else item.probability if item.state == "right" else 0.0

    return sorted(shown, key=key)


def counts(shown: Sequence[Shown]) -> str:
    """``12 of 48 wrong, 1 unparsable``."""
    states: list[State] = [item.state for item in shown]
    judged = len(states) - states.count("unknown")
    said = [f"{states.count('wrong'):,} of {judged:,} wrong"] if judged else []
    if unparsable := states.count("unparsable"):
        said.append(f"{unparsable:,} unparsable")
    if unknown := states.count("unknown"):
        said.append(f"{unknown:,} without a known truth")
    return ", ".join(said)


def compared(measured: Sequence[Measured]) -> tuple[int, int] | None:
    """Places of the first measurement and of the last one on the same rows, or None where there are no two such."""
    for last in range(len(measured) - 1, 0, -1):
        a, b = measured[0], measured[last]
        if (a.source, a.rows, a.headline) == (b.source, b.rows, b.headline):
            return 0, last
    return None


def render(report: Report, *, limit: int = LIMIT) -> str:
    """The page as HTML text.

    Args:
        report: What to show.
        limit: Largest number of pictures, the most instructive ones.
    """
    ordered = order_shown(report.shown)
    questions = {item.question for item in ordered}
    cells = [cell(item, n, single=len(questions) == 1) for n, item in enumerate(ordered[:limit], 1)]
    # The order has them in front already.
    sure = takewhile(lambda item: item.state == "wrong" and item.probabilities is not None, ordered[:limit][:MISTAKES])
    mistakes = len(list(sure))
    return _template().render(
        report=report,
        version=foveal.__version__,
        result=_result(report.measured),
        tables=_tables(report.measured, per_class=not (classes := _class_table(report))),
        classes=classes,
        reliability=_reliability(report.overview.bins),
        charts=_charts(report),
        epochs=_epochs(report.history),
        selection=_selection(report, ordered, limit) if ordered else "",
        mistakes=cells[:mistakes],
        cells=cells[mistakes:],
        question=questions.pop() if len(questions) == 1 else "",
        ratio=ratio(ordered[:limit]),
    )


def _selection(report: Report, ordered: Sequence[Shown], limit: int) -> str:
    """What is shown of what, and in which order; a selection must not pass for a sample."""
    said = [f"{counts(ordered)}."]
    rows = report.measured[-1].rows if report.measured else 0
    if min(len(ordered), limit) < rows:
        said = [f"{counts(ordered[:limit])}: chosen from {rows:,} rows for what they show, not at random."]
    elif limit < len(ordered):
        said.append(f"The first {limit:,} are shown.")
    if ordered[0].state == "wrong":
        said.append("Wrong answers come first, the most confident on top.")
    return " ".join(said)


def write(path: Path, report: Report, *, limit: int = LIMIT) -> None:
    """Writes the page in one step.

    Raises:
        UserError: The disk is full or may not be written.
    """
    write_text(path, render(report, limit=limit))


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files("foveal.report").joinpath("page.html.j2").read_text(encoding="utf-8"))


# --- the result ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """A measurement on the headline metric; positions are in per cent of the track, None without a track."""

    label: str
    value: str
    interval: str
    at: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class _Result:
    """The first thing a reader sees."""

    metric: str
    value: str
    label: str
    change: str
    since: str
    chance: str
    chance_at: float | None
    lines: list[_Line]


def _result(measured: Sequence[Measured]) -> _Result | None:
    if not measured:
        return None
    last = measured[-1]
    name = last.headline
    alike = [m for m in measured if m.headline == name and name in m.metrics]
    if not alike:
        return None
    final, pair, change, since = alike[-1], compared(measured), "", ""
    if pair and measured[pair[1]] is final and name in measured[pair[0]].metrics:
        change = format_change(name, measured[pair[0]].metrics[name], final.metrics[name])
        since = f"{format_metric(name, measured[pair[0]].metrics[name])} {measured[pair[0]].label}"
    track = is_share(name) and all(0 <= m.metrics[name] <= 1 for m in alike)

    def place(value: float | None) -> float | None:
        return None if value is None or not track or not math.isfinite(value) else 100 * min(max(value, 0.0), 1.0)

    lines = [
        _Line(
            label=m.label,
            value=format_metric(name, m.metrics[name]),
            interval=format_interval(name, m.interval) if m.interval else "",
            at=place(m.metrics[name]),
            low=place(m.interval[0]) if m.interval else None,
            high=place(m.interval[1]) if m.interval else None,
        )
        for m in alike
    ]
    return _Result(
        metric=metric_title(name),
        value=format_metric(name, final.metrics[name]),
        label=final.label,
        change=change,
        since=since,
        chance="" if final.chance is None else format_metric(name, final.chance),
        chance_at=place(final.chance),
        lines=lines,
    )


@dataclass(frozen=True)
class _Row:
    """A metric over all measurements; ``change`` is None where nothing is compared."""

    title: str
    note: str
    headline: bool
    values: list[str]
    notes: list[str]
    change: str | None


@dataclass(frozen=True)
class _Table:
    """Rows of metrics; ``folded`` ones open on demand."""

    caption: str
    rows: list[_Row]
    folded: bool


def _tables(measured: Sequence[Measured], *, per_class: bool) -> list[_Table]:
    """All metrics: those of the whole, then, if they are wanted, those of a class (``recall/two``), folded where they are many."""
    names = list(dict.fromkeys(name for m in measured for name in (m.headline, *m.metrics)))
    names = [name for name in names if any(name in m.metrics for m in measured)]
    whole = [name for name in names if "/" not in name or any(m.headline == name for m in measured)]
    parts = [name for name in names if name not in whole]
    if not per_class:
        parts = []
    if len(parts) <= _UNFOLDED:
        whole, parts = whole + parts, []
    tables = [("Metrics", whole, False), ("Metrics of each class", parts, True)]
    return [_Table(caption, [_row(n, measured) for n in rows], folded) for caption, rows, folded in tables if rows]


@dataclass(frozen=True)
class _Classes:
    """Classes against metrics; ``cells`` hold the value and, where it is known, the one before."""

    caption: str
    headings: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]
    folded: bool


def _class_table(report: Report) -> _Classes | None:
    """The metrics of each class in the last measurement, where there are two for each or more."""
    if not report.measured:
        return None
    pair, last = compared(report.measured), report.measured[-1]
    earlier = report.measured[pair[0]] if pair and report.measured[pair[1]] is last else None
    split = [name.partition("/") for name in last.metrics if "/" in name and name != last.headline]
    bases, classes = (list(dict.fromkeys(parts)) for parts in ((b for b, _, _ in split), (c for _, _, c in split)))
    if len(bases) < 2:
        return None
    known = report.overview.rows
    counted = all(c in known for c in classes)

    def figure(name: str) -> tuple[str, str]:
        before = earlier.metrics.get(name) if earlier else None
        value = format_metric(name, last.metrics[name]) if name in last.metrics else ""
        return value, "" if before is None or not value else f"from {format_metric(name, before)}"

    rows = [
        (c, [*([(f"{known[c]:,}", "")] if counted else []), *(figure(f"{base}/{c}") for base in bases)])
        for c in classes
    ]
    headings = ["rows"] * counted + [metric_title(base) for base in bases]
    return _Classes(f"Metrics of each class, {last.label}", headings, rows, len(classes) > _UNFOLDED)


def _row(name: str, measured: Sequence[Measured]) -> _Row:
    pair, change = compared(measured), None
    if pair:
        before, after = measured[pair[0]].metrics.get(name), measured[pair[1]].metrics.get(name)
        change = "" if before is None or after is None else format_change(name, before, after)
    headed = [m for m in measured if m.headline == name]
    chances = {None if m.chance is None else format_metric(name, m.chance) for m in headed} - {None}
    note = ["95% interval"] if any(m.interval for m in headed) else []
    note += [f"chance {chance}" for chance in chances] if len(chances) == 1 else []
    notes = []
    for m in measured:
        said = [format_interval(name, m.interval)] if m in headed and m.interval else []
        if m in headed and m.chance is not None and len(chances) > 1:
            said.append(f"chance {format_metric(name, m.chance)}")
        notes.append(", ".join(said))
    return _Row(
        title=metric_title(name),
        note=", ".join(note),
        headline=bool(headed),
        values=[format_metric(name, m.metrics[name]) if name in m.metrics else "" for m in measured],
        notes=notes,
        change=change,
    )


# --- the curves ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chart:
    title: str
    svg: Markup


def _charts(report: Report) -> list[_Chart]:
    """Loss, headline metric and learning rate by epoch, each where the history has it."""
    history, charts = report.history, list[_Chart]()

    def add(title: str, svg: str) -> None:
        charts.append(_Chart(title, Markup(svg)))

    losses = [
        Series("validation", column(history, "val_loss"), 0),
        Series("training", column(history, "train_loss"), 1),
    ]
    if any(s.points for s in losses):
        add("Loss", line_chart(losses, title="Loss by epoch", y_format=brief, include=[0.0]))

    last = report.measured[-1] if report.measured else None
    name = headline_column(history, last.headline if last else None)
    if name is not None:
        metric, share = name.removeprefix("val_"), is_share(name)
        heading = metric_title(metric)
        heading = capitalised(heading)
        chart = line_chart(
            [Series("validation", column(history, name), 0), Series("training", column(history, f"train_{metric}"), 1)],
            title=f"{heading} by epoch",
            y_format=percent if share else brief,
            tick_format=(lambda v: f"{100 * v:.4g}%") if share else number,
            reference=None if last is None or last.chance is None else ("chance", last.chance),
            floor=0.0 if share else None,
            ceiling=1.0 if share else None,
        )
        add(heading, chart)
    if rates := column(history, "learning_rate"):
        rate = [Series("", rates, 2)]
        add("Learning rate", line_chart(rate, title="Learning rate by epoch", y_format=scientific, include=[0.0]))
    return charts


def _reliability(bins: Sequence[Bin]) -> _Chart | None:
    """The reliability diagram."""
    if not bins:
        return None
    rows = sum(b.rows for b in bins)
    title = f"ECE {calibration_error(bins):.3f} on {rows:,} row{'' if rows == 1 else 's'}"
    return _Chart(title, Markup(reliability_chart(bins, title=f"Accuracy by confidence, {title}")))


def _epochs(history: History) -> tuple[list[str], list[list[str]]]:
    """The history as a table: its headings and rows, as text; metrics of single classes only where they are few."""
    names = list(dict.fromkeys(name for row in history for name in row if name not in _TIME_COLUMNS))
    whole = [name for name in names if "/" not in name]
    names = names if len(names) - len(whole) <= _UNFOLDED else whole

    def text(name: str, value: float | str | None) -> str:
        return "" if value is None else value if isinstance(value, str) else format_metric(name, value)

    return [metric_title(name) for name in names], [[text(n, row.get(n)) for n in names] for row in history]
