"""Metrics of First, Similar and Second, of their dependence on position, of their probabilities, and of scores.

A verdict of None is a reply that could not be read. It counts as wrong, as inconsistent and as unstable: a model gains
nothing by it, and it is never taken for one of the three.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveal.errors import UserError
from foveal.metrics import calibration
from foveal.metrics.confusion import accuracy, balanced_accuracy, confusion_matrix, recalls, unparsable
from foveal.tasks.comparison.ranking import VERDICTS

Floats = NDArray[np.float64]
Verdict = str | None
#: The verdict on (A, B) that says the same of (B, A).
MIRRORED: Final = {"First": "Second", "Similar": "Similar", "Second": "First"}


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
        that does not occur; ``majority``, what always giving the commonest truth reaches; ``unparsable``.

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
        "majority": float(matrix.sum(1).max() / matrix.sum()),
        "unparsable": unparsable(matrix),
    }


# -------------------------------------------------------------------- position and repetition


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


def repetition_stability(trials: Sequence[Sequence[Verdict]]) -> float:
    """Mean share of the commonest verdict among repetitions of the same question (arXiv 2406.07791).

    1 where all repetitions agree. An unreadable reply is a repetition and no verdict.

    Args:
        trials: For each question the verdicts of its repetitions, in the same order of pictures.

    Raises:
        UserError: There are no questions, or one has no repetitions.
    """
    if not trials or not all(trials):
        raise UserError("Stability needs at least one question, and repetitions of each; ask them first.")
    most = [max(Counter(v for v in row if v in MIRRORED).values(), default=0) / len(row) for row in trials]
    return float(np.mean(most))


# -------------------------------------------------------------------- probabilities


def _checked(truths: Sequence[str], probabilities: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.shape != (len(truths), len(VERDICTS)) or not len(truths):
        raise UserError(f"{len(truths)} truths and probabilities of shape {p.shape}; give three for each truth.")
    place = {name: k for k, name in enumerate(VERDICTS)}
    return np.array([place[t] for t in truths], dtype=np.int64), calibration.checked(p)


def reliability(truths: Sequence[str], probabilities: ArrayLike, bins: int = calibration.BINS) -> list[calibration.Bin]:
    """Confidence against accuracy of the likeliest verdict, in bins of equal width; see ``calibration.reliability``.

    Args:
        truths: The right one of ``VERDICTS`` for each pair.
        probabilities: Of ``VERDICTS``, [N, 3]; of equal ones the earlier verdict is the prediction.
        bins: How many.

    Raises:
        UserError: There are no pairs, or probabilities do not sum to 1. The same holds for all metrics of probabilities.
    """
    classes, p = _checked(truths, probabilities)
    return calibration.reliability(p.max(1), p.argmax(1) == classes, bins)


def expected_calibration_error(truths: Sequence[str], probabilities: ArrayLike, bins: int = calibration.BINS) -> float:
    """``calibration.calibration_error`` of ``reliability``."""
    return calibration.calibration_error(reliability(truths, probabilities, bins))


def brier_score(truths: Sequence[str], probabilities: ArrayLike) -> float:
    """``calibration.brier_score`` over the three verdicts."""
    classes, p = _checked(truths, probabilities)
    return calibration.brier_score(p, classes)


def negative_log_likelihood(truths: Sequence[str], probabilities: ArrayLike) -> float:
    """``calibration.negative_log_likelihood`` of the right verdicts."""
    classes, p = _checked(truths, probabilities)
    return calibration.negative_log_likelihood(p, classes)


def calibration_metrics(truths: Sequence[str], probabilities: ArrayLike) -> dict[str, float]:
    """``ece`` (15 bins), ``brier`` and ``nll``."""
    return {
        "ece": expected_calibration_error(truths, probabilities),
        "brier": brier_score(truths, probabilities),
        "nll": negative_log_likelihood(truths, probabilities),
    }
