"""Agreement of fitted strengths with human scores.

Strengths have a scale of their own, so errors in points of the human scale need a map from one to the other: a straight
line by least squares. Its two numbers must not come from the item that is measured. Either they come from other
pictures (``Scale.fit`` on a train fold), or each item's come from all other items (leave one out, the default).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveal.errors import UserError

Floats = NDArray[np.float64]


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
            holds for all functions of this module.
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
    """How well strengths tell human scores.

    Args:
        strengths: Fitted ones, [n]; the correlations take them as they are.
        scores: Human ones, [n].
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
