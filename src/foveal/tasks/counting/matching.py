"""Which predicted point stands for which object, and precision, recall and F1 of points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foveal.tasks.counting.marking import PICTURE_SHARE
from foveal.tasks.counting.objects import Point, Thing

#: Largest distance of a point from its object's, in extents of the object.
RADIUS: Final = 0.5


@dataclass(frozen=True)
class Matching:
    """Predicted points and objects, one to one.

    Attributes:
        pairs: Places of predicted points and of the objects that they stand for, sorted.
        predicted: How many points were predicted.
        truths: How many objects there are.
        distances: Of each pair, in pixels.
    """

    pairs: tuple[tuple[int, int], ...]
    predicted: int
    truths: int
    distances: tuple[float, ...]

    @property
    def scores(self) -> PointScores:
        """Precision, recall and F1 of this picture."""
        return PointScores(len(self.pairs), self.predicted, self.truths)


@dataclass(frozen=True)
class PointScores:
    """Numbers of matched points, of predicted ones and of objects, and what follows from them."""

    matched: int
    predicted: int
    truths: int

    @property
    def precision(self) -> float:
        """Share of the predicted points that stand for an object; NaN where none was predicted."""
        return self.matched / self.predicted if self.predicted else math.nan

    @property
    def recall(self) -> float:
        """Share of the objects that were pointed at; NaN where there are none."""
        return self.matched / self.truths if self.truths else math.nan

    @property
    def f1(self) -> float:
        """2 matched / (predicted + truths), the harmonic mean of both; 1 where there was nothing to find or found."""
        total = self.predicted + self.truths
        return 2 * self.matched / total if total else 1.0


def pooled(matchings: Iterable[Matching]) -> PointScores:
    """Scores over all points of all pictures together, in which crowded pictures weigh more."""
    all_ = list(matchings)
    return PointScores(sum(len(m.pairs) for m in all_), sum(m.predicted for m in all_), sum(m.truths for m in all_))


def match_points(
    predicted: Sequence[Point], things: Sequence[Thing], size: tuple[int, int], radius: float = RADIUS
) -> Matching:
    """The best one-to-one matching of predicted points to objects.

    A point may stand for an object whose point is no farther than ``radius`` times the object's extent (the geometric
    mean of its box's sides; without a box, 0.06 of the geometric mean of the picture's sides). Of all matchings it has
    the most pairs, and of those the least sum of distances. So a second point on an object matches nothing, and
    unlike in greedy matching no point takes what is another's only object.

    Args:
        predicted: In pixels of the picture; also those of an unfinished count.
        things: The objects.
        size: Width and height of the picture in pixels.
        radius: Largest distance, in extents of the object.
    """
    if not predicted or not things:
        return Matching((), len(predicted), len(things), ())
    pointed = np.array(predicted, dtype=np.float64)
    there = np.array([thing.point for thing in things], dtype=np.float64)
    unit = PICTURE_SHARE * math.sqrt(size[0] * size[1])
    reach = radius * np.array([unit if (extent := thing.extent) is None else extent for thing in things])
    away = np.hypot(pointed[:, None, 0] - there[None, :, 0], pointed[:, None, 1] - there[None, :, 1])
    near = away <= reach[None]
    pairs = []
    for rows, columns in _components(near):
        block = np.ix_(rows, columns)
        chosen = _assign(away[block], near[block])
        pairs += [(rows[i], columns[j]) for i, j in chosen]
    pairs.sort()
    return Matching(tuple(pairs), len(predicted), len(things), tuple(float(away[i, j]) for i, j in pairs))


def _components(near: NDArray[np.bool_]) -> list[tuple[list[int], list[int]]]:
    """Rows and columns of each connected part of the graph that have any edge."""
    parts = []
    seen = np.zeros(near.shape[0], dtype=bool)
    for start in range(near.shape[0]):
        if seen[start] or not near[start].any():
            continue
        rows, columns, fresh = {start}, set[int](), [start]
        while fresh:
            new = set(np.flatnonzero(near[fresh].any(axis=0)).tolist()) - columns
            columns |= new
            fresh = [] if not new else list(set(np.flatnonzero(near[:, sorted(new)].any(axis=1)).tolist()) - rows)
            rows.update(fresh)
        seen[list(rows)] = True
        parts.append((sorted(rows), sorted(columns)))
    return parts


def _assign(away: NDArray[np.float64], near: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Most pairs among the near ones, and of those the least sum of distances.

    The Hungarian method with potentials (Kuhn 1955; Jonker and Volgenant 1987). A pair that is not near costs more
    than all distances together, so as few of those as possible are taken; they are dropped at the end.
    """
    if away.shape[0] > away.shape[1]:
        return [(i, j) for j, i in _assign(away.T, near.T)]
    n, m = away.shape
    cost = np.where(near, away, 1.0 + 2 * n * float(away[near].max()))
    # Place m stands for the row that is being added; owner[j] is the row of column j.
    u, v = np.zeros(n), np.zeros(m + 1)
    owner = np.full(m + 1, -1)
    for row in range(n):
        owner[m] = row
        least = np.full(m, np.inf)
        source = np.full(m, m)
        open_ = np.ones(m, dtype=bool)
        path = [m]
        column = m
        while owner[column] >= 0:
            reduced = cost[owner[column]] - u[owner[column]] - v[:m]
            better = open_ & (reduced < least)
            least[better], source[better] = reduced[better], column
            column = int(np.argmin(np.where(open_, least, np.inf)))
            step = least[column]
            u[owner[path]] += step
            v[path] -= step
            least[open_] -= step
            open_[column] = False
            path.append(column)
        while column != m:
            owner[column] = owner[source[column]]
            column = int(source[column])
    return [(int(owner[j]), j) for j in range(m) if owner[j] >= 0 and near[owner[j], j]]
