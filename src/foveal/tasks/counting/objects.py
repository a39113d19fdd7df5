"""What is counted: objects of one category in one picture.

Frame everywhere in this package: pixels of the original picture, x to the right, y downwards, the origin at the outer
corner of the top left pixel, so that a picture of width W spans 0 to W.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foveal.images import Picture

Point = tuple[float, float]
#: Left, top, right, bottom.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thing:
    """One object.

    Attributes:
        point: Where it is pointed at: the centre of its box, or the annotated point.
        box: Its box, clipped to the picture; None where only a point is annotated.
    """

    point: Point
    box: Box | None = None

    @property
    def extent(self) -> float | None:
        """Geometric mean of the box's sides in pixels, or None."""
        if self.box is None:
            return None
        left, top, right, bottom = self.box
        return float(((right - left) * (bottom - top)) ** 0.5)


@dataclass(frozen=True)
class Query:
    """A picture, and which of its objects are counted.

    Attributes:
        id: Unique within the split, e.g. ``Fruits/apple_12.jpg/apples``.
        picture: Decoded when opened.
        category: What is counted, in words.
        things: The objects, in the order of the file; empty where there are none.
        size: Width and height of the picture in pixels.
        domain: Where the category belongs, e.g. an OmniCount domain; empty where there is none.
        extra: Further facts, JSON-serialisable.
    """

    id: str
    picture: Picture
    category: str
    things: Sequence[Thing]
    size: tuple[int, int]
    domain: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """One split as a reader read it.

    Attributes:
        queries: What is counted in which picture, in the order of the files.
        place: Where they came from, in words.
        skipped: (where, reason) of each object or picture that was left out.
        crowds: Annotations of crowds that were left out: they do not say how many objects there are.
    """

    queries: Sequence[Query]
    place: str
    skipped: tuple[tuple[str, str], ...] = ()
    crowds: int = 0

    @property
    def classes(self) -> tuple[tuple[str, str], ...]:
        """(domain, category) of all that occurs, sorted."""
        return tuple(sorted({(q.domain, q.category) for q in self.queries if q.things}))
