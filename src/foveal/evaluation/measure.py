"""Measures a model on a split: predictions, the task's metrics, chance and an interval."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console

from foveal.asking.asker import Asker
from foveal.errors import UserError
from foveal.examples import Example, Loaded, evenly_spread
from foveal.metrics.formats import format_interval, format_metric
from foveal.metrics.intervals import independent_rows, wilson_interval
from foveal.progress import progress_bar
from foveal.results import Prediction, Result
from foveal.tasks.capabilities import chance_of
from foveal.tasks.task import Task
from foveal.terminal import counted


def measure(asker: Asker, loaded: Loaded, console: Console, *, label: str, samples: int = 0) -> Result:
    """Predicts the rows and computes the task's metrics.

    Args:
        asker: Asks the model.
        loaded: The rows.
        console: Where progress is shown.
        label: What tables call the measurement.
        samples: Rows, evenly spread; 0 for all.

    Raises:
        UserError: There are no rows, or one cannot be read or does not fit.
    """
    task = asker.task
    examples = [loaded.examples[i] for i in evenly_spread(len(loaded.examples), samples)]
    if not examples:
        raise UserError(f"{loaded.source}: holds no rows to measure.")
    unknown = [e.id for e in examples if e.truth is None]
    if unknown:
        have = "has" if len(unknown) == 1 else "have"
        raise UserError(
            f"{loaded.source}: {counted(len(unknown), 'row')} {have} no truth (e.g. {unknown[0]}); use foveal predict."
        )
    if remark := asker.remark(len(examples)):
        console.print(remark, markup=False, highlight=False, soft_wrap=True)
    started = time.monotonic()
    with progress_bar(console, label, len(examples)) as progress:
        predictions = list(asker.ask(examples, progress))
    seconds = time.monotonic() - started
    values = task.measure(examples, predictions)
    interval, independent = _interval(task, values, examples, predictions)
    return Result(
        label=label, source=loaded.source, rows=len(examples), values=values, headline=task.headline, metrics=task.metrics,
        chance=chance_of(task, examples), interval=interval, independent=independent, seconds=seconds,
        examples=examples, predictions=predictions,
    )  # fmt: skip


def _interval(
    task: Task, values: Mapping[str, float], examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[tuple[float, float] | None, float | None]:
    """The 95 % Wilson interval of the headline metric, where it is the share of rows that are right.

    Rows about the same pictures, such as a pair in both orders, are not independent; with the interval comes how many
    independent rows they are worth, None where all are.
    """
    if not task.metrics.of(task.headline).of_rows:
        return None, None
    rows, share = len(examples), values[task.headline]
    groups = [frozenset(p.name for p in e.images) or e.id for e in examples]
    if len(set(groups)) == rows:
        return wilson_interval(round(share * rows), rows), None
    right = [p.value is not None and p.value == e.truth for e, p in zip(examples, predictions, strict=True)]
    # Where the task has another idea of a right row, nothing is known but the number of groups.
    known = round(share * rows) == sum(right)
    independent = independent_rows(right, groups) if known else float(len(set(groups)))
    return wilson_interval(share * independent, independent), independent


def sentence(result: Result) -> str:
    """The headline metric in one line for the terminal."""
    metric = result.metrics.of(result.headline)
    text = f"{result.label}: {result.headline} {format_metric(metric, result.value, ' %')}"
    if result.interval:
        text += f" (95 % interval {format_interval(metric, result.interval, ' %')})"
    if result.chance is not None:
        text += f", chance {format_metric(metric, result.chance, ' %')}"
    worth = f" (worth {result.independent:,.0f} independent ones)" if result.independent is not None else ""
    return f"{text}, on {counted(result.rows, 'row')}{worth} of {result.source}"
