"""Measures a model on a split: predictions, the task's metrics, chance, an interval; written to the run's folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from foveal.asking.asker import Predictor
from foveal.errors import UserError
from foveal.examples import Example, Loaded, evenly_spread
from foveal.files import write_text
from foveal.metrics.formats import is_share
from foveal.metrics.intervals import wilson_interval
from foveal.progress import counting
from foveal.report.page import Measured, Shown, order_shown
from foveal.results import Prediction
from foveal.tasks.capabilities import chance_of, description_of, drawing_of
from foveal.tasks.task import Task

#: Headline metrics that are shares of rows, for which a binomial interval holds.
_OF_ROWS = ("accuracy", "exact_accuracy")


@dataclass(frozen=True)
class Result:
    """One measurement.

    Attributes:
        label: What the table calls it, e.g. ``before training``.
        source: Where the rows came from.
        rows: How many were measured.
        metrics: By the task's own names.
        headline: The metric that counts.
        chance: What guessing reaches on it, or None.
        interval: 95 % Wilson interval of the headline, where it is a share of rows.
        seconds: Time that predicting took.
        examples: The rows.
        predictions: In the same order.
    """

    label: str
    source: str
    rows: int
    metrics: Mapping[str, float]
    headline: str
    chance: float | None
    interval: tuple[float, float] | None
    seconds: float
    examples: Sequence[Example]
    predictions: Sequence[Prediction]

    def row(self) -> Measured:
        """The result as a row of the report's table."""
        return Measured(
            self.label, self.source, self.rows, dict(self.metrics), self.headline, self.chance, self.interval
        )

    def sentence(self) -> str:
        """One line for the terminal."""
        value = self.metrics[self.headline]
        text = f"{self.label}: {self.headline} {_figure(self.headline, value)}"
        if self.interval:
            text += f" (95 % interval {100 * self.interval[0]:.1f} to {100 * self.interval[1]:.1f} %)"
        if self.chance is not None:
            text += f", chance {_figure(self.headline, self.chance)}"
        return f"{text}, on {self.rows:,} rows of {self.source}"


def _figure(name: str, value: float) -> str:
    return f"{100 * value:.1f} %" if is_share(name) else f"{value:.4g}"


def measure(
    task: Task, predictor: Predictor, loaded: Loaded, console: Console, *, label: str, samples: int = 0
) -> Result:
    """Predicts the rows and computes the task's metrics.

    Raises:
        UserError: There are no rows, or one cannot be read or does not fit.
    """
    chosen = [loaded.examples[i] for i in evenly_spread(len(loaded.examples), samples)]
    if not chosen:
        raise UserError(f"{loaded.source}: holds no rows to measure.")
    unknown = [e.id for e in chosen if e.truth is None]
    if unknown:
        raise UserError(f"{loaded.source}: {len(unknown)} rows have no truth (e.g. {unknown[0]}); use foveal predict.")
    started = time.monotonic()
    with counting(console, label, len(chosen)) as progress:
        predictions = list(predictor.predict(chosen, progress))
    seconds = time.monotonic() - started
    metrics = task.measure(chosen, predictions)
    interval = None
    if task.headline in _OF_ROWS:
        interval = wilson_interval(round(metrics[task.headline] * len(chosen)), len(chosen))
    return Result(
        label,
        loaded.source,
        len(chosen),
        metrics,
        task.headline,
        chance_of(task, chosen),
        interval,
        seconds,
        chosen,
        predictions,
    )


def save(result: Result, folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes ``results.json`` and ``predictions.jsonl``.

    Raises:
        UserError: The disk is full or may not be written.
    """
    lines = [json.dumps(prediction_row(p), ensure_ascii=False, default=str) for p in result.predictions]
    write_text(folder / "predictions.jsonl", "\n".join(lines) + "\n")
    table = {
        **facts, "label": result.label, "source": result.source, "rows": result.rows, "headline": result.headline,
        "metrics": dict(result.metrics), "chance": result.chance, "interval_95": result.interval,
        "seconds": round(result.seconds, 3), "images_per_second": round(result.rows / max(result.seconds, 1e-9), 2),
    }  # fmt: skip
    write_text(folder / "results.json", json.dumps(table, indent=2, ensure_ascii=False) + "\n")


def read_measured(folder: Path) -> list[Measured]:
    """The table's row of a measurement that ``save`` wrote before; nothing where there is none."""
    file = folder / "results.json"
    if not file.is_file():
        return []
    found = json.loads(file.read_text(encoding="utf-8"))
    interval = tuple(found["interval_95"]) if found["interval_95"] else None
    return [
        Measured(
            found["label"],
            found["source"],
            found["rows"],
            found["metrics"],
            found["headline"],
            found["chance"],
            interval,
        )
    ]


def prediction_row(p: Prediction) -> dict[str, Any]:
    """A prediction as a JSON object; what is unknown is left out."""
    row: dict[str, Any] = {"id": p.id, "value": p.value, "text": p.text, "confidence": p.confidence}
    row |= {"probabilities": dict(p.probabilities)} if p.probabilities else {}
    row |= {"truth": p.truth, "correct": p.value == p.truth} if p.truth is not None else {}
    # A task whose answers are right by degrees says itself what counts as correct.
    return row | dict(p.extra)


def is_correct(example: Example, prediction: Prediction) -> bool | None:
    """Whether an answer is right, None where that is not known; a task may say so itself in ``Prediction.extra``."""
    if example.truth is None or prediction.value is None:
        return None
    said = prediction.extra.get("correct")
    return bool(said) if said is not None else bool(prediction.value == example.truth)


def _shown_answer(task: Task, prediction: Prediction) -> str:
    """The reply; behind the value, where it was scored after the model's reasons or is no word or number."""
    value, text = prediction.value, prediction.text
    scored = prediction.probabilities is not None and str(value) != text
    if value is None or not text or not (scored or not isinstance(value, str | int | float)):
        return text
    return f"{description_of(task, prediction)} ({text})"


def showcase(task: Task, examples: Sequence[Example], predictions: Sequence[Prediction], limit: int) -> list[Shown]:
    """Pictures for the report: the wrong ones first, then right ones, those the model was least sure of first."""
    light = [
        Shown(
            image=None, question="", truth=None if e.truth is None else str(e.truth),
            answer=_shown_answer(task, p), probability=p.confidence, correct=is_correct(e, p),
            probabilities=p.probabilities, note=str(i),
        )
        for i, (e, p) in enumerate(zip(examples, predictions, strict=True))
    ]  # fmt: skip
    ordered = order_shown(light)
    wrong = [s for s in ordered if s.correct is not True and s.truth is not None][: limit * 2 // 3]
    others = [s for s in ordered if s.correct is True or s.truth is None][: limit - len(wrong)]
    out = []
    for s in [*wrong, *others]:
        i = int(s.note)
        example, prediction = examples[i], predictions[i]
        out.append(
            Shown(
                image=drawing_of(task, example, prediction), question=task.prompt(example).user, truth=s.truth, answer=s.answer,
                probability=s.probability, correct=s.correct, probabilities=s.probabilities, note=example.id,
            )
        )  # fmt: skip
    return out
