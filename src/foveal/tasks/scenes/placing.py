"""Places for figures in a picture, where no figure may be covered beyond a share of it.

Figures take their places one after the other, each on the first free one of some that are tried. What one covers of
another is bounded by what the discs around them share.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import replace

from foveal.drawing.figures import Figure, Point, lens

#: Kept free at the border, in sides of the picture.
MARGIN = 0.012


class Places:
    """The places that are taken.

    Args:
        overlap: Largest share of a figure that others cover; 0 keeps all apart.
        gap: Kept free between figures that may not overlap, in sides of the picture.
        stacked: Whether each figure lies on all before it; if not, they are put on each other in any order later.
    """

    def __init__(self, overlap: float, gap: float, *, stacked: bool) -> None:
        self.overlap, self.gap, self.stacked = overlap, 0.0 if overlap else gap, stacked
        self.figures: list[Figure] = []
        #: Middle and reach of each figure.
        self._discs: list[tuple[float, float, float]] = []
        #: Area of each figure that may still be covered.
        self._allowed: list[float] = []

    def put(self, figure: Figure, tries: Iterable[Point]) -> bool:
        """Puts a figure on the first point where it is inside the picture and covers no more than is allowed.

        Args:
            figure: The figure, anywhere.
            tries: Points for its middle; no more of them are drawn than are needed.

        Returns:
            Whether there was one.
        """
        reach, allowed = figure.reach, self.overlap * figure.area
        low, high = reach + MARGIN, 1 - reach - MARGIN
        for x, y in tries:
            if not (low <= x <= high and low <= y <= high):
                continue
            shared = self._shared(x, y, reach + self.gap)
            if shared is None:
                continue
            left = allowed if self.stacked else allowed - sum(shared.values())
            if left >= 0:
                for i, area in shared.items():
                    self._allowed[i] -= area
                self._allowed.append(left)
                self._discs.append((x, y, reach))
                self.figures.append(replace(figure, x=x, y=y))
                return True
        return False

    def _shared(self, x: float, y: float, reach: float) -> dict[int, float] | None:
        """The area that a disc shares with each figure that it reaches; None where one is more than is allowed."""
        shared = {}
        for i, (other_x, other_y, other_reach) in enumerate(self._discs):
            distance = math.hypot(other_x - x, other_y - y)
            if distance < reach + other_reach:
                shared[i] = area = lens(reach, other_reach, distance)
                if area > self._allowed[i]:
                    return None
        return shared

    def anywhere(self, rng: random.Random, reach: float) -> Point:
        """A point where a figure of that reach is inside the picture."""
        low, high = reach + MARGIN, 1 - reach - MARGIN
        return rng.uniform(low, high), rng.uniform(low, high)

    def beside(self, rng: random.Random, reach: float, nearest: float, farthest: float) -> Point:
        """A point beside one of the figures.

        Args:
            rng: Source of randomness.
            reach: That of the figure to be placed.
            nearest: Smallest distance of the two middles, in sums of their reaches.
            farthest: The largest.
        """
        other = rng.choice(self.figures)
        angle, distance = rng.uniform(0, 2 * math.pi), rng.uniform(nearest, farthest) * (reach + other.reach)
        return other.x + distance * math.cos(angle), other.y + distance * math.sin(angle)
