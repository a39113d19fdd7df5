"""Calibration of probabilities over a closed set of answers: calibration errors, Brier score and log-likelihood.

A row's confidence is the probability of its likeliest answer. It is calibrated where, of the rows with a confidence of
about 80 %, about 80 % are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveal.errors import UserError
from foveal.examples import Example
from foveal.results import Prediction

Floats = NDArray[np.float64]
#: Bins of a calibration error, as many as Guo et al. 2017 take.
BINS: Final = 15


@dataclass(frozen=True)
class Bin:
    """Rows of about one confidence, a bar of the reliability diagram.

    Attributes:
        lower: Lower end of the confidences, 0 to 1.
        upper: Upper end; see the function that made the bin for which end belongs to it.
        rows: How many.
        confidence: Their mean; NaN without rows.
        accuracy: The share of them that is right; NaN without rows.
    """

    lower: float
    upper: float
    rows: int
    confidence: float
    accuracy: float


def reliability(confidences: ArrayLike, right: ArrayLike, bins: int = BINS) -> list[Bin]:
    """Confidence against accuracy in bins of equal width.

    Args:
        confidences: Probability of the likeliest answer, [N], 0 to 1.
        right: Whether that answer is right, [N].
        bins: How many; bin b of B holds confidences above (b - 1) / B up to and with b / B, the first one 0 too.
    """
    given, correct = _pairs(confidences, right)
    edges = np.arange(bins + 1) / bins
    which = np.clip(np.searchsorted(edges, given, side="left") - 1, 0, bins - 1)
    return _table(given, correct, which, edges)


def adaptive_reliability(confidences: ArrayLike, right: ArrayLike, bins: int = BINS) -> list[Bin]:
    """Confidence against accuracy in bins of equally many rows, each as wide as that takes.

    After Nguyen and O'Connor 2015, "Posterior calibration and exploratory analysis for natural language processing models",
    arXiv 1508.05154. Rows of one confidence share a bin, so that the order of the rows does not matter; where many are
    equal, bins have unlike numbers of rows and there are fewer.

    Args:
        confidences: Probability of the likeliest answer, [N], 0 to 1.
        right: Whether that answer is right, [N].
        bins: How many at most; each holds its lower end, and the last one its upper end too.
    """
    given, correct = _pairs(confidences, right)
    ordered = np.sort(given)
    edges = np.unique(ordered[np.arange(bins) * len(ordered) // bins])
    which = np.searchsorted(edges, given, side="right") - 1
    return _table(given, correct, which, np.append(edges, ordered[-1]))


def calibration_error(table: Sequence[Bin]) -> float:
    """Mean distance of confidence and accuracy over bins, weighted by their rows.

    Over ``reliability`` it is the expected calibration error (ECE) of Guo et al. 2017, "On Calibration of Modern Neural
    Networks", arXiv 1706.04599, equation 5; over ``adaptive_reliability`` the adaptive one. Chance alone makes it larger
    than 0, the more so the fewer rows there are.
    """
    total = sum(b.rows for b in table)
    return sum(b.rows * abs(b.confidence - b.accuracy) for b in table if b.rows) / total


def brier_score(probabilities: ArrayLike, truths: ArrayLike) -> float:
    """Mean over rows of the squared distance of the probabilities to the truth, summed over the classes: 0 to 2.

    G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78 (1950), 1-3.

    Args:
        probabilities: Of each class, [N, K].
        truths: Index of the true class, [N].

    Raises:
        UserError: Probabilities do not sum to 1.
    """
    p, classes = checked(probabilities), np.asarray(truths, dtype=np.int64)
    return float(((p - np.eye(p.shape[1])[classes]) ** 2).sum(1).mean())


def negative_log_likelihood(probabilities: ArrayLike, truths: ArrayLike) -> float:
    """Mean of minus the natural logarithm of the truth's probability, which counts as 2.2e-16 where it is less.

    Args:
        probabilities: Of each class, [N, K].
        truths: Index of the true class, [N].

    Raises:
        UserError: Probabilities do not sum to 1.
    """
    p, classes = checked(probabilities), np.asarray(truths, dtype=np.int64)
    chosen = p[np.arange(len(p)), classes]
    return float(-np.log(np.maximum(chosen, np.finfo(np.float64).eps)).mean())


def checked(probabilities: ArrayLike) -> Floats:
    """Probabilities [N, K] as an array.

    Raises:
        UserError: Those of a row are negative, no numbers, or do not sum to 1.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    bad = (p < 0).any(1) | ~np.isclose(p.sum(1), 1, atol=1e-4)  # NaN is not close to 1 either
    if bad.any():
        row = int(bad.argmax())
        raise UserError(
            f"Row {row + 1}: its probabilities sum to {p[row].sum():.4g} and the least is {p[row].min():.4g}, but none may "
            "be negative and the sum must be 1; normalise them."
        )
    return p


def reliability_of(examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Bin]:
    """The reliability diagram of predictions, of any task; empty where one has no probabilities or no known truth.

    Args:
        examples: The rows.
        predictions: In the same order.
    """
    rows = list(zip(examples, predictions, strict=True))
    confidences = [p.confidence for _, p in rows]
    if not rows or any(c is None for c in confidences) or any(e.truth is None for e, _ in rows):
        return []
    return reliability([c for c in confidences if c is not None], [p.value == e.truth for e, p in rows])


def _pairs(confidences: ArrayLike, right: ArrayLike) -> tuple[Floats, Floats]:
    given, correct = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if given.ndim != 1 or given.shape != correct.shape or not len(given):
        raise ValueError(f"confidences of shape {given.shape} do not fit judgements of shape {correct.shape}")
    return given, correct


def _table(given: Floats, correct: Floats, which: NDArray[np.intp], edges: Floats) -> list[Bin]:
    """A bin for each two neighbouring edges, of the rows that ``which`` puts there."""
    count = len(edges) - 1
    rows = np.bincount(which, minlength=count)
    means = np.full((2, count), np.nan)
    for mean, values in zip(means, (given, correct), strict=True):
        np.divide(np.bincount(which, values, count), rows, out=mean, where=rows > 0)
    return [
        Bin(float(edges[b]), float(edges[b + 1]), int(rows[b]), float(means[0, b]), float(means[1, b]))
        for b in range(count)
    ]
