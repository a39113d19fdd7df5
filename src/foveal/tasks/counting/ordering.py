"""In which order objects are counted.

``reading_order`` sorts rows from top to bottom and each row from left to right. What a row is decides whether a pixel
of jitter reorders anything, so the rule is exact:

    Let h be the row height: two thirds of the objects' median height, or a twentieth of the picture's height where no
    object has a box, but at least 4 pixels. Sort the points by y. A gap between neighbours in that list separates two
    rows if and only if the stretch around it whose gaps are all no larger is longer than h.

No fixed bins are laid over the picture, so no point lies at the edge of one. The rule equals splitting at the largest gap
again and again until no row spans more than h. Two thirds, because objects of one size that touch lie
at least 0.866 heights apart in the closest packing of discs and 1 in a grid, while a third is a generous spread of one
row. So no row spans more than h, and two objects that share a row and a column overlap.

Rows that are clear stay as they are. Let every row span at most h - 2d and every two rows be more than h + 2d apart.
Move every point by at most d in y. The k-th smallest y moves by at most d, so a gap or a stretch changes by at most
2d. A gap between rows stays above h, hence separates by itself. A gap inside a row stays at most h, and all gaps
around the row are larger, so its stretch lies inside the row, spans at most h and does not separate. The rows are the
same; inside them the order is by x, which stays where neighbours in x are more than 2d apart. In between no rule can
promise that: an order that is not constant has to change somewhere.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal, get_args

import numpy as np

from foveal.tasks.counting.objects import Box, Point, Thing

Order = Literal["reading_order", "nearest_neighbor", "left_to_right", "random"]
ORDERS: Final[tuple[Order, ...]] = get_args(Order)
#: Longest row in y, in median heights of the objects.
ROW_SHARE: Final = 2 / 3
#: The same in heights of the picture, where only points are known.
PICTURE_SHARE: Final = 1 / 20
#: Shortest row height, in pixels.
LEAST_ROW: Final = 4.0
#: Neighbours whose distances differ by at most this share of the row height are equally near, ...
TIE_SHARE: Final = 0.25
#: ... and so are those whose distances differ by at most this many pixels. A pixel of jitter in x and y changes the
#: difference of two distances by at most 4 * sqrt(2) = 5.7, so it leaves neighbours that are equally near a tie.
LEAST_TIE: Final = 6.0


def order(things: Sequence[Thing], name: Order, size: tuple[int, int], seed: str = "") -> list[int]:
    """In which order things are counted.

    * ``reading_order``: rows from top to bottom, each from left to right; see the module's text.
    * ``nearest_neighbor``: starts with the first in reading order and goes on to the nearest that is left. Those whose
      distance exceeds the smallest by no more than a quarter of the row height, or 6 pixels, are equally near: of
      them, the first in reading order is next.
    * ``left_to_right``: by x, then y. A control: jitter reorders it.
    * ``random``: a shuffle that depends on the seed and on the things, not on their order in the file.

    Things at the very same point go by their boxes, then as in the file.

    Args:
        things: What is counted.
        name: The order.
        size: Width and height of the picture in pixels.
        seed: Decides ``random``; the row's id and the epoch, for instance.

    Returns:
        Indices into ``things``, each once.
    """
    match name:
        case "reading_order":
            return [i for row in reading_rows(things, size) for i in row]
        case "nearest_neighbor":
            return _nearest_neighbor(things, size)
        case "left_to_right":
            return sorted(range(len(things)), key=lambda i: _key(things[i]))
        case "random":
            shuffled = sorted(range(len(things)), key=lambda i: _key(things[i]))
            random.Random(f"order {seed}").shuffle(shuffled)
            return shuffled


def row_height(things: Sequence[Thing], size: tuple[int, int]) -> float:
    """How much of y a row may span, in pixels; see the module's text.

    Args:
        things: What is counted; those without a box do not count unless none has one.
        size: Width and height of the picture in pixels.
    """
    heights = [thing.box[3] - thing.box[1] for thing in things if thing.box is not None]
    return max(LEAST_ROW, ROW_SHARE * statistics.median(heights) if heights else PICTURE_SHARE * size[1])


def reading_rows(things: Sequence[Thing], size: tuple[int, int]) -> list[list[int]]:
    """Rows from top to bottom, each from left to right; see the module's text.

    Args:
        things: What is counted.
        size: Width and height of the picture in pixels.

    Returns:
        Indices into ``things``, each once; no row is empty.
    """
    if not things:
        return []
    down = sorted(range(len(things)), key=lambda i: (things[i].point[1], _key(things[i])))
    splits = _splits([things[i].point[1] for i in down], row_height(things, size))
    edges = [0, *(k + 1 for k, split in enumerate(splits) if split), len(down)]
    return [sorted(down[a:b], key=lambda i: _key(things[i])) for a, b in pairwise(edges)]


def _key(thing: Thing) -> tuple[Point, Box | tuple[()]]:
    """From left to right, and after that any rule that does not depend on the file."""
    return thing.point, thing.box or ()


def _splits(ys: Sequence[float], height: float) -> list[bool]:
    """For each gap between sorted values, whether the stretch around it of gaps no larger is longer than ``height``."""
    gaps = [b - a for a, b in pairwise(ys)]
    before, after = _larger(gaps), [len(gaps) - 1 - k for k in reversed(_larger(gaps[::-1]))]
    return [ys[b] - ys[a + 1] > height for a, b in zip(before, after, strict=True)]


def _larger(gaps: Sequence[float]) -> list[int]:
    """For each gap, the place of the last larger one before it; -1 where there is none."""
    places: list[int] = []
    larger: list[int] = []
    for k, gap in enumerate(gaps):
        while larger and gaps[larger[-1]] <= gap:
            larger.pop()
        places.append(larger[-1] if larger else -1)
        larger.append(k)
    return places


def _nearest_neighbor(things: Sequence[Thing], size: tuple[int, int]) -> list[int]:
    left = order(things, "reading_order", size)
    if not left:
        return []
    tie = max(LEAST_TIE, TIE_SHARE * row_height(things, size))
    points = np.array([things[i].point for i in left], dtype=np.float64)
    open_ = np.ones(len(left), dtype=bool)
    path = [0]
    open_[0] = False
    for _ in range(len(left) - 1):
        away = np.hypot(*(points - points[path[-1]]).T)
        away[~open_] = np.inf
        # Places in ``points`` are places in reading order, so the first of the near ones is the right one.
        path.append(int(np.argmax(away <= away.min() + tie)))
        open_[path[-1]] = False
    return [left[k] for k in path]
