"""Metrics of verdicts (First, Similar, Second), of their dependence on position, of probabilities, and of scores.

A verdict of None is a reply that could not be read. It counts as wrong and as inconsistent; the places that it favours, and
what it says of the ranking, are not known: these are measured on what could be read, and left out where nothing could.

Fitted strengths have a scale of their own, so errors in points of the human scale need a map from one to the other: a
straight line by least squares. Its two numbers must not come from the item that is measured. Either they come from other
pictures (``Scale.fit`` on a train fold), or each item's come from all other items (leave one out, the default).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveal.errors import UserError
from foveal.examples import Example
from foveal.metrics import calibration
from foveal.metrics.confusion import accuracy, balanced_accuracy, confusion_matrix, recalls, unparsable
from foveal.results import Metric, Metrics, Prediction
from foveal.tasks.comparison.ranking import VERDICTS, Comparisons, Ranking, fit

Floats = NDArray[np.float64]
Verdict = str | None
#: The verdict on (A, B) that says the same of (B, A).
MIRRORED: Final = {"First": "Second", "Similar": "Similar", "Second": "First"}

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


def _both(x: ArrayLike, y: ArrayLike, least: int) -> tuple[Floats, Floats]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < least:
        raise UserError(f"{a.size} strengths and {b.size} scores cannot be compared; give {least} or more of each.")
    if not (np.isfinite(a) & np.isfinite(b)).all():
        raise UserError(
            f"Item {int((~np.isfinite(a) | ~np.isfinite(b)).argmax())} has no finite strength or score; leave it out."
        )
    return a, b


def average_ranks(values: ArrayLike) -> Floats:
    """Ranks from 1 for the smallest, [n]; equal values share the mean of their ranks."""
    _, which, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[which], dtype=np.float64)


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Product-moment correlation; NaN where either is constant.

    Raises:
        UserError: There are fewer than two items, not as many of one as of the other, or one is not finite. The same
            holds for all functions of strengths and scores.
    """
    a, b = _both(x, y, 2)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Rank correlation: ``pearson`` of ``average_ranks``."""
    a, b = _both(x, y, 2)
    return pearson(average_ranks(a), average_ranks(b))


def kendall(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's tau-b: (C - D) / sqrt((N - X) (N - Y)).

    C and D count pairs of items in the same and in opposite order, X and Y those equal in x and in y, N all. (M. G.
    Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945), 239-251.) NaN where either is constant.
    Takes time in n^2 and memory in n.
    """
    a, b = _both(x, y, 2)
    balance = untied_a = untied_b = 0
    for i in range(len(a) - 1):
        of_a, of_b = np.sign(a[i + 1 :] - a[i]), np.sign(b[i + 1 :] - b[i])
        balance += int(of_a @ of_b)
        untied_a += int(np.count_nonzero(of_a))
        untied_b += int(np.count_nonzero(of_b))
    return balance / math.sqrt(untied_a * untied_b) if untied_a and untied_b else float("nan")


@dataclass(frozen=True)
class Scale:
    """A straight line from strengths to human scores.

    Attributes:
        offset: The score of strength 0, in points.
        slope: Points for one unit of strength.
    """

    offset: float
    slope: float

    @classmethod
    def fit(cls, strengths: ArrayLike, scores: ArrayLike) -> Scale:
        """Least squares; the mean score and no slope where all strengths are equal."""
        s, y = _both(strengths, scores, 1)
        centred = s - s.mean()
        spread = float(centred @ centred)
        slope = float(centred @ y) / spread if np.ptp(s) > 0 else 0.0
        return cls(float(y.mean() - slope * s.mean()), slope)

    def __call__(self, strengths: ArrayLike) -> Floats:
        """Scores in points, of the strengths' shape."""
        return np.asarray(self.offset + self.slope * np.asarray(strengths, dtype=np.float64))


def leave_one_out(strengths: ArrayLike, scores: ArrayLike) -> Floats:
    """Each item's score in points, [n], by the line through all other items.

    The residual behind such a line is e / (1 - h) for the residual e of the line through all and the leverage h (R. D.
    Cook and S. Weisberg, "Residuals and Influence in Regression", 1982, section 2.2). Where all others have one
    strength, the line is level at their mean.
    """
    s, y = _both(strengths, scores, 3)
    if np.ptp(s) == 0:
        return np.asarray((y.sum() - y) / (len(y) - 1))
    centred = s - s.mean()
    leverage = 1 / len(s) + centred**2 / (centred @ centred)
    alone = 1 - leverage < 1e-12
    residual = np.divide(y - Scale.fit(s, y)(s), 1 - leverage, out=np.zeros_like(y), where=~alone)
    return np.asarray(np.where(alone, (y.sum() - y) / (len(y) - 1), y - residual), dtype=np.float64)


def score_metrics(strengths: ArrayLike, scores: ArrayLike, scale: Scale | None = None) -> dict[str, float]:
    """How well strengths agree with human scores.

    Args:
        strengths: Fitted strengths, [n]; the correlations take them as they are.
        scores: Human scores, [n].
        scale: The line to the human scale, fitted on other pictures; None for ``leave_one_out``.

    Returns:
        ``pearson``, ``spearman``, ``kendall`` (tau-b), and in points of the human scale ``mae``, the mean absolute error,
        and ``rmse``, the square root of the mean squared one.

    Raises:
        UserError: There are fewer than three items, not as many of one as of the other, or one is not finite.
    """
    s, y = _both(strengths, scores, 3)
    error = (leave_one_out(s, y) if scale is None else scale(s)) - y
    return {
        "pearson": pearson(s, y),
        "spearman": spearman(s, y),
        "kendall": kendall(s, y),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
    }


# -------------------------------------------------------------------- verdicts


def verdict_confusion(truths: Sequence[str], values: Sequence[Verdict]) -> NDArray[np.int64]:
    """Truth (row) against verdict (column) in the order of ``VERDICTS``; the fourth column counts unreadable replies."""
    return confusion_matrix(truths, values, VERDICTS)


def verdict_metrics(truths: Sequence[str], values: Sequence[Verdict]) -> dict[str, float]:
    """Accuracy and its parts.

    Args:
        truths: The right one of ``VERDICTS`` for each pair.
        values: The verdicts.

    Returns:
        ``accuracy``; ``macro_accuracy``, the mean of the per-class accuracies of the classes that occur; ``accuracy_first``,
        ``accuracy_similar`` and ``accuracy_second``, the shares of such pairs that were found (recall), NaN for a class
        that does not occur; ``unparsable``.

    Raises:
        UserError: There are no pairs.
    """
    if not truths:
        raise UserError("There are no pairs to measure; give at least one.")
    matrix = verdict_confusion(truths, values)
    parts = {f"accuracy_{name.lower()}": float(share) for name, share in zip(VERDICTS, recalls(matrix), strict=True)}
    return {
        "accuracy": accuracy(matrix),
        "macro_accuracy": balanced_accuracy(matrix),
        **parts,
        "unparsable": unparsable(matrix),
    }


# -------------------------------------------------------------------- position


@dataclass(frozen=True)
class Swapped:
    """How verdicts change when the two pictures change places.

    Attributes:
        consistency: Share of pairs whose second verdict mirrors the first.
        fairness: Preference fairness, -1 to 1: 0 where neither place is favoured, -1 where the first picture always is
            (primacy), 1 where the second always is (recency).
        primacy: Share of pairs in which the first place was favoured.
        recency: Share in which the second was.
        unparsable: Share with an unreadable reply in either order.
    """

    consistency: float
    fairness: float
    primacy: float
    recency: float
    unparsable: float


def swap_metrics(values: Sequence[Verdict], swapped: Sequence[Verdict]) -> Swapped:
    """Position consistency and preference fairness (Shi et al. 2024, "Judging the Judges", arXiv 2406.07791).

    An inconsistent pair favours the first place if its verdicts are First and First, or First and Similar in either
    order; the second place with Second in place of First. With P and R such pairs of n, p = P / (P + R) and
    r = R / (P + R), the raw fairness R r - P p is scaled linearly from its extremes, -n and n, to -1 and 1. As
    R^2 - P^2 = (R - P) (R + P), that is (R - P) / n. A pair with an unreadable reply is in n and in neither P nor R, as
    it is in the authors' code (github.com/Slimshilin/Position-Bias-Analyzer-Demo), which these formulas follow; there it
    is left out of the consistency, where here it counts as inconsistent.

    Args:
        values: Verdicts on (A, B).
        swapped: Verdicts on (B, A), in the same order of pairs.

    Raises:
        UserError: There are no pairs.
    """
    pairs = Counter(zip(values, swapped, strict=True))
    count = pairs.total()
    if not count:
        raise UserError("There are no pairs to measure; give at least one.")
    consistent = sum(pairs[name, mirrored] for name, mirrored in MIRRORED.items())
    primacy, recency = (
        pairs[place, place] + pairs[place, "Similar"] + pairs["Similar", place] for place in ("First", "Second")
    )
    unread = sum(k for pair, k in pairs.items() if not all(v in MIRRORED for v in pair))
    return Swapped(
        consistent / count, (recency - primacy) / count, primacy / count, recency / count, unread / count
    )  # fmt: skip


# -------------------------------------------------------------------- probabilities


def probability_metrics(truths: Sequence[str], probabilities: ArrayLike) -> dict[str, float]:
    """Calibration and scores of probabilities.

    Args:
        truths: The right one of ``VERDICTS`` for each pair.
        probabilities: Of ``VERDICTS``, [N, 3]; of equal ones the earlier verdict is the prediction.

    Returns:
        ``calibration_error`` over 15 bins of equal width, ``brier`` (0 to 2) and ``nll`` (nats).

    Raises:
        UserError: There are no pairs, or probabilities do not sum to 1.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.shape != (len(truths), len(VERDICTS)) or not len(truths):
        raise UserError(f"{len(truths)} truths and probabilities of shape {p.shape}; give three for each truth.")
    p, classes = calibration.checked(p), np.array([VERDICTS.index(t) for t in truths], dtype=np.int64)
    return {
        "calibration_error": calibration.calibration_error(calibration.reliability(p.max(1), p.argmax(1) == classes)),
        "brier": calibration.brier_score(p, classes),
        "nll": calibration.negative_log_likelihood(p, classes),
    }


# -------------------------------------------------------------------- the task's metrics


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
    by_id = {p.id: p for p in predictions}
    ordered = [by_id.get(e.id, Prediction(e.id, None, "")) for e in examples]
    truths = [e.truth for e in examples]
    measured = verdict_metrics(truths, [p.value for p in ordered]) | _position_metrics(examples, ordered)
    if all(p.probabilities is not None and p.value is not None for p in ordered):
        measured |= probability_metrics(truths, np.array([outcome_weights(p) for p in ordered], np.float64))
    measured |= _ranking_metrics(examples, ordered)
    return {name: float(value) for name, value in measured.items() if math.isfinite(value)}


def _position_metrics(examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
    """Metrics of the pairs that come in both orders; none where there are none."""
    by_pair: dict[int, dict[bool, Verdict]] = {}
    for example, prediction in zip(examples, predictions, strict=True):
        if "pair" in example.fields:
            by_pair.setdefault(example.fields["pair"], {})[example.fields["swapped"]] = prediction.value
    both = [pair for pair in by_pair.values() if len(pair) == 2]
    if not both:
        return {}
    swapped = swap_metrics([p[False] for p in both], [p[True] for p in both])
    if swapped.unparsable == 1:  # a model that says nothing is not fair
        return {"consistency": swapped.consistency}
    return {
        "consistency": swapped.consistency, "fairness": swapped.fairness, "primacy_share": swapped.primacy,
        "recency_share": swapped.recency,
    }  # fmt: skip


def _ranking_metrics(examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
    """``score_metrics`` of the strengths that follow from the verdicts; none where nothing can be ranked."""
    if not all("scores" in e.fields for e in examples):
        return {}
    scores = {i: s for e in examples for i, s in zip(e.fields["ids"], e.fields["scores"], strict=True)}
    try:
        ranked = rank_by(examples, predictions)
    except UserError:
        # Before it has learned anything, a model may say Similar to all pairs; training must go on.
        return {}
    if ranked is None or len(scores) < 3:
        return {}
    names, ranking = ranked
    return score_metrics(ranking.strengths, [scores[name] for name in names])


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
        weights = outcome_weights(prediction)
        if weights is not None:
            a, b = (place[name] for name in example.fields["ids"])
            first.append(a)
            second.append(b)
            outcomes.append(weights)
    if not outcomes or len(names) < 2:
        return None
    comparisons = Comparisons(len(names), np.array(first), np.array(second), np.array(outcomes, dtype=np.float64))
    return names, fit(comparisons, prior=PRIOR)


def outcome_weights(prediction: Prediction) -> list[float] | None:
    """The probabilities of ``VERDICTS``, or 1 for the verdict; None where the reply could not be read."""
    if prediction.probabilities is not None:
        return [prediction.probabilities[v] for v in VERDICTS]
    return None if prediction.value is None else [float(prediction.value == v) for v in VERDICTS]
