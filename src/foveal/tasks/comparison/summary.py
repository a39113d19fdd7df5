"""From predictions to metrics: verdicts, the swap of the pictures, calibration, and the ranking that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from foveal.errors import UserError
from foveal.examples import Example
from foveal.results import Metric, Metrics, Prediction
from foveal.tasks.comparison.agreement import score_metrics
from foveal.tasks.comparison.measuring import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    swap_metrics,
    verdict_metrics,
)
from foveal.tasks.comparison.ranking import VERDICTS, Comparisons, Ranking, fit

#: What the task measures.
METRICS = Metrics(
    (
        Metric("accuracy", "share", "higher", of_rows=True),
        Metric("macro_accuracy", "share", "higher"),
        Metric("consistency", "share", "higher"),
        Metric("fairness", direction="higher"),
        Metric("primacy_share", "share"),
        Metric("recency_share", "share"),
        Metric("calibration_error", direction="lower"),
        Metric("brier", direction="lower", title="Brier"),
        Metric("nll", direction="lower", title="NLL"),
        Metric("pearson", direction="higher"),
        Metric("spearman", direction="higher"),
        Metric("kendall", direction="higher"),
        Metric("mae", direction="lower", title="MAE"),
        Metric("rmse", direction="lower", title="RMSE"),
    )
)

#: Precision of the strengths' normal prior: weak, but every ranking is finite, also of items that always win.
PRIOR = 0.1


def measure_verdicts(examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
    """Metrics by name; what cannot be computed from these rows is left out.

    * ``accuracy`` and the rest of ``verdict_metrics``, over all rows;
    * ``consistency``, ``fairness``, ``primacy_share``, ``recency_share`` where pairs come in both orders;
    * ``calibration_error``, ``brier``, ``nll`` where all answers have probabilities;
    * ``pearson``, ``spearman``, ``kendall``, ``mae``, ``rmse`` of the Bradley-Terry strengths of all pictures that are
      compared against their scores (see ``score_metrics``), where the rows have scores of three pictures or more and
      not all verdicts are Similar.

    Raises:
        UserError: There are no rows.
    """
    if not examples:
        raise UserError("There are no rows to measure.")
    said = {p.id: p for p in predictions}
    rows = [(e, said.get(e.id, Prediction(e.id, None, ""))) for e in examples]
    truths, values = [e.truth for e, _ in rows], [p.value for _, p in rows]
    found = dict(verdict_metrics(truths, values))
    found.pop("majority", None)
    by_pair: dict[int, dict[bool, str | None]] = {}
    for example, prediction in rows:
        if "pair" in example.fields:
            by_pair.setdefault(example.fields["pair"], {})[example.fields["swapped"]] = prediction.value
    both = [pair for pair in by_pair.values() if len(pair) == 2]
    if both:
        swapped = swap_metrics([p[False] for p in both], [p[True] for p in both])
        found |= {
            "consistency": swapped.consistency, "fairness": swapped.fairness, "primacy_share": swapped.primacy,
            "recency_share": swapped.recency,
        }  # fmt: skip
    chances = [_row(p.probabilities) for _, p in rows]
    if all(c is not None for c in chances):
        table = np.array(chances)
        found |= {
            "calibration_error": expected_calibration_error(truths, table), "brier": brier_score(truths, table),
            "nll": negative_log_likelihood(truths, table),
        }  # fmt: skip
    if all("scores" in e.fields for e in examples):
        scores = {i: s for e in examples for i, s in zip(e.fields["ids"], e.fields["scores"], strict=True)}
        try:
            ranked = rank_by(examples, [p for _, p in rows])
        except UserError:
            # A model that has learned nothing yet may say Similar to all, which must not end its training.
            ranked = None
        if ranked is not None and len(scores) > 2:
            names, ranking = ranked
            found |= score_metrics(ranking.strengths, [scores[n] for n in names])
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def rank_by(examples: Sequence[Example], predictions: Sequence[Prediction]) -> tuple[list[str], Ranking] | None:
    """Bradley-Terry strengths of all pictures that are compared; None where no reply could be read.

    Probabilities count as what they are, verdicts as certain.

    Args:
        examples: Pairs with the pictures' ``ids`` in their fields.
        predictions: In the same order.

    Raises:
        UserError: All verdicts are Similar.
    """
    names = sorted({name for e in examples for name in e.fields["ids"]})
    place = {name: i for i, name in enumerate(names)}
    first, second, outcomes = [], [], []
    for example, prediction in zip(examples, predictions, strict=True):
        weights = _row(prediction.probabilities) or _certain(prediction.value)
        if weights is not None:
            a, b = (place[name] for name in example.fields["ids"])
            first.append(a)
            second.append(b)
            outcomes.append(weights)
    if not outcomes or len(names) < 2:
        return None
    comparisons = Comparisons(len(names), np.array(first), np.array(second), np.array(outcomes, dtype=np.float64))
    return names, fit(comparisons, prior=PRIOR)


def _row(probabilities: Mapping[str, float] | None) -> list[float] | None:
    """Probabilities in the order of ``VERDICTS``."""
    return None if probabilities is None else [probabilities[v] for v in VERDICTS]


def _certain(value: str | None) -> list[float] | None:
    return None if value is None else [float(value == v) for v in VERDICTS]
