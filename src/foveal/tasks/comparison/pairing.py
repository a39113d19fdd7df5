"""Active pairing: chooses which two items to compare next, so that few comparisons rank many items.

First a ring in random order, which links all items. Then, after every batch of answers, the strengths are fitted with
a prior, and the posterior is taken as the normal distribution of Laplace's approximation, N(s, C). Asking about
(i, j) adds to the posterior precision the rank-one term w x x', where x = e_i - e_j and w is the Fisher information of
one answer at the expected difference. By the matrix determinant lemma the entropy falls by

    log(1 + w v) / 2,    v = x' C x, the variance of the difference,

which is the D-optimal criterion (Chaloner and Verdinelli, "Bayesian experimental design: a review", Statistical
Science 10 (1995), 273-304): a pair is worth asking where the difference is uncertain and so is the answer. Within a
batch each chosen pair counts as answered (C loses w C x x' C / (1 + w v)), so that the next ones differ from it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.tasks.comparison.ranking import VERDICTS, Comparisons, Ranking, fit, outcome_information

Floats = NDArray[np.float64]
Pair = tuple[int, int]
#: Precision of the strengths' normal prior, see ``ranking.fit``.
PRIOR: Final = 0.3


def ring(items: int, seed: int) -> list[Pair]:
    """Pairs of neighbours in a circle of the items in random order: n pairs, 1 for two items.

    Any n - 1 of them link all items.
    """
    order = list(range(items))
    random.Random(f"ring {seed}").shuffle(order)
    pairs = list(zip(order, order[1:] + order[:1], strict=True))
    return pairs[:1] if items == 2 else pairs


def best_pairs(
    ranking: Ranking, count: int, *, without: NDArray[np.bool_] | None = None, seed: int | Sequence[int] = 0
) -> list[Pair]:
    """The pairs to ask next, the most informative first.

    Args:
        ranking: The fit so far; with a prior where some items are not linked.
        count: Number of pairs; fewer come where fewer are left.
        without: [n, n], true for pairs not to ask (in either order).
        seed: Decides between pairs of equal gain, and which item is shown first.

    Returns:
        Different pairs; which item is shown first is random, so that a preference for a position evens out.
    """
    rng = np.random.default_rng(seed)
    n = len(ranking.strengths)
    items = np.arange(n)
    information = outcome_information(ranking.probabilities(*np.meshgrid(items, items, indexing="ij")))
    closed = np.tri(n, dtype=bool) if without is None else np.tri(n, dtype=bool) | without | without.T
    information[closed] = -1  # so that log1p's argument, which orders as the logarithm does, is negative
    # A share of 1e-9 breaks ties and nothing else; it is drawn once, so that the same seed gives the same pairs.
    information *= 1 + 1e-9 * rng.random((n, n))
    covariance, pairs = ranking.covariance.copy(), []
    for _ in range(count):
        variances = np.diagonal(covariance)
        gain = information * np.maximum(variances[:, None] + variances - 2 * covariance, 1e-300)
        i, j = divmod(int(gain.argmax()), n)
        w = float(information[i, j])
        if w < 0:
            break
        column = covariance[:, i] - covariance[:, j]
        covariance -= np.outer(column, column) * (w / (1 + w * (column[i] - column[j])))
        information[i, j] = -1
        pairs.append((i, j) if rng.random() < 0.5 else (j, i))
    return pairs


class ActivePairing:
    """Ranks items by asking: ask about the pairs of ``next``, pass the answers to ``answer``, until ``next`` is empty.

    Each pair is asked about once, in one order, for a model repeats its answer to the same question.

    Args:
        items: Number of items.
        comparisons: Number of pairs to ask about; all pairs at the most.
        batch: Number of pairs between two fits.
        seed: Decides the ring, between pairs of equal gain, and which item is shown first.

    Raises:
        UserError: There are fewer than two items, too few comparisons to link them, or no batch.
    """

    def __init__(self, items: int, comparisons: int, *, batch: int = 16, seed: int = 0) -> None:
        if items < 2:
            raise UserError(f"{items} items give no ranking; bring at least two.")
        if comparisons < items - 1:
            raise UserError(
                f"{comparisons} comparisons cannot link {items} items; allow at least {items - 1}, better {4 * items}."
            )
        if batch < 1:
            raise UserError(f"A batch of {batch} cannot be; give 1 or more.")
        self.items, self.batch, self.seed = items, batch, seed
        self.comparisons = min(comparisons, items * (items - 1) // 2)
        self._asked: list[Pair] = []
        self._outcomes: list[Floats] = []
        self._start = ring(items, seed)[: self.comparisons]
        self._taken = np.zeros((items, items), dtype=bool)
        self._open: list[Pair] = []

    def next(self) -> list[Pair]:
        """Pairs to ask about, (shown first, shown second); empty when done. The same until ``answer`` is called.

        Raises:
            UserError: The ring was asked and no answer could be read.
        """
        if self._open:
            return list(self._open)
        done = len(self._asked)
        count = min(self.batch, self.comparisons - done)
        if done < len(self._start):
            self._open = self._start[done : done + count]
        elif count > 0:
            self._open = best_pairs(self.ranking(), count, without=self._taken, seed=(self.seed, done))
        return list(self._open)

    def answer(self, outcomes: Sequence[str] | Floats) -> None:
        """Takes the answers to the pairs of ``next``.

        Args:
            outcomes: One of ``VERDICTS`` for each pair, or weights or probabilities of them [pairs, 3]. A row of zeros
                is an answer that could not be read: its pair is used up without any information.

        Raises:
            ValueError: There are not as many as pairs, or one is no answer.
        """
        if isinstance(outcomes, np.ndarray):
            weights = outcomes.astype(np.float64)
        else:
            weights = np.eye(3)[[VERDICTS.index(v) for v in outcomes]]
        if weights.shape != (len(self._open), 3):
            raise ValueError(f"{len(weights)} answers to {len(self._open)} pairs")
        for (i, j), row in zip(self._open, weights, strict=True):
            self._asked.append((i, j))
            self._outcomes.append(row)
            self._taken[i, j] = self._taken[j, i] = True
        self._open = []

    def ranking(self) -> Ranking:
        """The strengths that fit the answers so far.

        Raises:
            UserError: No answer could be read.
        """
        rows = [(i, j, w) for (i, j), w in zip(self._asked, self._outcomes, strict=True) if w.any()]
        if not rows:
            raise UserError("No comparison has an answer that could be read, so there is nothing to rank.")
        first, second = (np.array([r[k] for r in rows], dtype=np.int64) for k in (0, 1))
        # Half wins, for Davidson's nu has no maximum while all is Similar.
        return fit(Comparisons(self.items, first, second, np.stack([r[2] for r in rows])), ties="half", prior=PRIOR)
