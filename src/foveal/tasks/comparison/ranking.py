"""Strengths from comparisons: the Bradley-Terry model, with Davidson's term for "Similar", by maximum likelihood.

Item i has a strength s_i on a logarithmic scale. With d = s_i - s_j the outcomes of asking about (i, j) have
probabilities proportional to::

    First: exp(d / 2)    Similar: nu    Second: exp(-d / 2)

(R. R. Davidson, "On extending the Bradley-Terry model to accommodate ties", JASA 65 (1970), 317-328). Without ties,
nu = 0, it is Bradley and Terry's model: P(First) = sigmoid(d). Only differences matter, so the strengths sum to 0.

The utilities d/2, log nu and -d/2 are linear in (s, log nu), so the log-likelihood is concave, and with a prior it has
one maximum. Newton's method with Armijo's rule then converges from everywhere
(Boyd and Vandenberghe, "Convex Optimization", 9.5.3). It stops once a step moves no parameter by more than 1e-8 of
the largest; the steps converge quadratically there, so what remains is rounding. Where the answers determine some
direction so badly that rounding alone makes larger steps, it stops at steps below 1e-4 that no longer halve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveal.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: The answers about two pictures; the order of all columns of outcomes.
VERDICTS: Final = ("First", "Similar", "Second")
#: How "Similar" counts: as an outcome of its own with Davidson's nu, or half a win for either.
Ties = Literal["davidson", "half"]

_STEPS: Final = 200
_SMALLEST_STEP: Final = 1e-8
_ROUNDING: Final = 1e-4
_QUANTILE_95: Final = 1.959964


@dataclass(frozen=True)
class Comparisons:
    """Answers to questions about two items each.

    Attributes:
        items: Number of items; they are numbered from 0.
        first: The item shown first, [M].
        second: The item shown second, [M].
        outcomes: Weight of each of ``VERDICTS``, float64 [M, 3]: 1 and zeros for an answer, probabilities for a
            distribution over answers, any non-negative numbers for counts.

    Raises:
        UserError: There are fewer than two items, no rows, an item outside the range or compared with itself, or an
            outcome that is negative, not finite or all zero.
    """

    items: int
    first: Ints
    second: Ints
    outcomes: Floats

    def __post_init__(self) -> None:
        rows = len(self.first)
        if self.first.shape != (rows,) or self.second.shape != (rows,) or self.outcomes.shape != (rows, 3):
            raise ValueError(f"shapes {self.first.shape}, {self.second.shape} and {self.outcomes.shape}")
        if self.items < 2 or not rows:
            raise UserError(f"{rows} comparisons of {self.items} items give no ranking; compare at least two items.")
        outside = (np.minimum(self.first, self.second) < 0) | (np.maximum(self.first, self.second) >= self.items)
        _refuse(outside, f"names an item outside 0 to {self.items - 1}; correct the row")
        _refuse(self.first == self.second, "compares an item with itself; leave the row out")
        bad = ~np.isfinite(self.outcomes).all(1) | (self.outcomes < 0).any(1) | (self.outcomes.sum(1) <= 0)
        _refuse(bad, "has outcomes that are no weights; give numbers from 0 up that are not all 0")


def _refuse(bad: NDArray[np.bool_], reason: str) -> None:
    if bad.any():
        raise UserError(f"Comparison {int(bad.argmax()) + 1} {reason}.")


@dataclass(frozen=True)
class Ranked:
    """One item's place.

    Attributes:
        item: Its number.
        rank: 1 for the strongest; items of one strength share the better rank.
        strength: Logarithmic; the mean over the items is 0.
        lower: Lower end of the 95 % interval of the strength.
        upper: Upper end.
    """

    item: int
    rank: int
    strength: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Ranking:
    """Fitted strengths.

    Attributes:
        strengths: [n], with sum 0.
        covariance: Of the strengths' errors, [n, n]: the inverse of the observed information (with the prior's
            precision added) among strengths that sum to 0. It is that of a posterior's Laplace approximation.
        nu: Davidson's parameter; 0 where nothing was Similar or ties are half wins.
    """

    strengths: Floats
    covariance: Floats
    nu: float

    @property
    def errors(self) -> Floats:
        """Standard errors of the strengths, [n]."""
        return np.sqrt(np.maximum(np.diagonal(self.covariance), 0))

    def intervals(self) -> Floats:
        """Wald intervals of the strengths, which hold 95 %, [n, 2]."""
        reach = _QUANTILE_95 * self.errors
        return np.stack([self.strengths - reach, self.strengths + reach], 1)

    def probabilities(self, first: ArrayLike, second: ArrayLike) -> Floats:
        """Probabilities of ``VERDICTS`` for questions about (first, second).

        Args:
            first: Numbers of items, of any shape.
            second: Numbers of items, of that shape.

        Returns:
            That shape with an axis of 3 behind it.
        """
        d = self.strengths[np.asarray(first)] - self.strengths[np.asarray(second)]
        return outcome_probabilities(d, self.nu)

    def ranked(self) -> list[Ranked]:
        """All items, the strongest first, items of one strength by their number."""
        s, bounds = self.strengths, self.intervals()
        rank = 1 + (s[:, None] - s > 1e-9).sum(0)
        return [
            Ranked(int(i), int(rank[i]), float(s[i]), *map(float, bounds[i]))
            for i in np.lexsort((np.arange(len(s)), rank))
        ]


def outcome_probabilities(difference: ArrayLike, nu: float) -> Floats:
    """Davidson's probabilities of ``VERDICTS``, [..., 3], for strengths that differ by s_first - s_second."""
    half = np.asarray(difference, dtype=np.float64)[..., None] / 2 * np.array([1.0, 0.0, -1.0])
    with np.errstate(divide="ignore"):
        utility = half + np.array([0.0, np.log(nu), 0.0])
    raised = np.exp(utility - utility.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


def outcome_information(probabilities: Floats) -> Floats:
    """Fisher information of one answer about d, [...], given its probabilities [..., 3].

    The variance of the score d/dd log P, which is 1/2, 0 or -1/2 plus a constant: for nu = 0 it is p (1 - p).
    """
    first, second = probabilities[..., 0], probabilities[..., 2]
    return np.asarray((first + second - (first - second) ** 2) / 4)


@dataclass(frozen=True)
class _Pairs:
    """Comparisons added up by pair: ``low`` < ``high`` are items [P], ``won`` the weights of low, tie and high [P, 3]."""

    items: int
    low: Ints
    high: Ints
    won: Floats


def _add_up(comparisons: Comparisons, ties: Ties) -> _Pairs:
    """Every pair once; the model does not depend on which item was shown first."""
    low, high = np.minimum(comparisons.first, comparisons.second), np.maximum(comparisons.first, comparisons.second)
    keys, which = np.unique(low * comparisons.items + high, return_inverse=True)
    weights = comparisons.outcomes
    turned = np.where((comparisons.first > comparisons.second)[:, None], weights[:, ::-1], weights)
    won: Floats = np.stack([np.bincount(which, weights=turned[:, k], minlength=len(keys)) for k in range(3)], 1)
    if ties == "half":
        won = won @ np.array([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]])
    return _Pairs(comparisons.items, keys // comparisons.items, keys % comparisons.items, won)


def fit(comparisons: Comparisons, *, ties: Ties = "davidson", prior: float = 0.0) -> Ranking:
    """Strengths of maximum likelihood, or of maximum posterior probability with a prior.

    Args:
        comparisons: The answers. A row with probabilities counts like that many answers of each kind, and the
            standard errors take every row as one independent answer.
        ties: How Similar counts.
        prior: Precision (1 / variance) of a normal distribution of each strength around 0, which makes every strength
            finite; 0 for none, where the answers must do that. The penalty is ``prior / 2 * sum(s^2)``:
            `choix.opt_pairwise` calls ``prior / 2`` alpha.

    Raises:
        UserError: All was Similar and nu has no maximum, or the strengths do not settle.
    """
    if prior < 0 or not np.isfinite(prior):
        raise UserError(f"prior: {prior} is no precision; give 0 for none, or a positive number.")
    pairs = _add_up(comparisons, ties)
    tied = float(pairs.won[:, 1].sum())
    decided = float(pairs.won.sum()) - tied
    if tied and not decided:
        raise UserError(
            "Every comparison says Similar, which ranks nothing; compare items that differ more, or read ties as half wins."
        )
    return _newton(pairs, prior, tied / decided)


def _newton(pairs: _Pairs, prior: float, odds: float) -> Ranking:
    n, free = pairs.items, odds > 0
    # At equal strengths nu / 2 is the odds of a tie.
    x = np.zeros(n + free)
    if free:
        x[n] = np.log(2 * odds)
    value, gradient, information = _objective(pairs, x, prior)
    moved = np.inf
    for _ in range(_STEPS):
        direction = np.linalg.solve(_pinned(information, n), -gradient)
        direction[:n] -= direction[:n].mean()
        slope = float(gradient @ direction)
        size = 1.0
        new = _objective(pairs, x + direction, prior)
        # Where the decrease is below rounding, the full step is the best that can be had.
        while not new[0] <= value + 1e-4 * size * slope and -slope * size > 1e-11 * (1 + abs(value)):
            size /= 2
            new = _objective(pairs, x + size * direction, prior)
        x = x + size * direction
        value, gradient, information = new
        last, moved = moved, float(np.abs(size * direction).max() / (1 + np.abs(x).max()))
        if moved <= _SMALLEST_STEP or last / 2 <= moved < _ROUNDING:
            break
    else:
        raise UserError(
            "The strengths do not settle, for some answers are all but impossible; give a larger prior (e.g. 0.1)."
        )
    pinned = _pinned(information, n)
    # Removes what was added in the direction of equal shifts, with the prior's share of it.
    shift = pinned[:n, :n].sum() / n
    covariance = np.linalg.inv(pinned)[:n, :n] - 1 / (n * shift)
    return Ranking(x[:n] - x[:n].mean(), (covariance + covariance.T) / 2, float(np.exp(x[n])) if free else 0.0)


def _pinned(information: Floats, n: int) -> Floats:
    """The information with weight on equal shifts of all strengths, which comparisons do not determine."""
    out = information.copy()
    out[:n, :n] += np.trace(information[:n, :n]) / n / n
    return out


def _objective(pairs: _Pairs, x: Floats, prior: float) -> tuple[float, Floats, Floats]:
    """Minus the log posterior at x = (s, log nu or nothing), its gradient and its Hessian."""
    n, low, high = pairs.items, pairs.low, pairs.high
    free = len(x) > n
    half = (x[low] - x[high]) / 2
    log_sum = np.logaddexp(half, -half)
    if free:
        log_sum = np.logaddexp(log_sum, x[n])
    first, second = np.exp(half - log_sum), np.exp(-half - log_sum)
    total = pairs.won.sum(1)
    won, tied, lost = pairs.won.T
    value = -float(np.dot(won - lost, half) - np.dot(total, log_sum)) + prior / 2 * float(x[:n] @ x[:n])

    pull = ((won - lost) - total * (first - second)) / 2
    gradient = np.zeros_like(x)
    gradient[:n] = prior * x[:n] - np.bincount(low, pull, n) + np.bincount(high, pull, n)
    # 1 - (first - second)^2 without ties, written so that it does not cancel where one outcome is certain.
    tie = np.exp(x[n] - log_sum) if free else np.zeros_like(first)
    curve = total * (first * second + tie * (first + second) / 4)
    hessian = np.zeros((len(x), len(x)))
    hessian[low, high] = hessian[high, low] = -curve
    diagonal = np.arange(n)
    hessian[diagonal, diagonal] = np.bincount(low, curve, n) + np.bincount(high, curve, n) + prior
    if free:
        value -= float(tied.sum() * x[n])
        gradient[n] = float(np.dot(total, tie) - tied.sum())
        cross = -total * (first - second) * tie / 2
        hessian[n, :n] = hessian[:n, n] = np.bincount(low, cross, n) - np.bincount(high, cross, n)
        hessian[n, n] = float(np.dot(total, tie * (first + second)))
    return value, gradient, hessian
