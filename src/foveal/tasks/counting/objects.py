"""What is counted: objects of one category in one picture.

Frame everywhere in this package: pixels of the original picture, x to the right, y downwards, the origin at the outer
corner of the top left pixel, so that a picture of width W spans 0 to W.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from foveal.images import Picture

#: How often an object is counted that is annotated several times: once, or each time (all).
Twins = Literal["once", "all"]
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
        notes: What is odd about the source, a sentence each.
    """

    queries: Sequence[Query]
    place: str
    skipped: tuple[tuple[str, str], ...] = ()
    crowds: int = 0
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[tuple[str, str], ...]:
        """(domain, category) of all that occurs, sorted."""
        return tuple(sorted({(q.domain, q.category) for q in self.queries if q.things}))


class TwinCounter:
    """Finds objects that are annotated several times: of one category, in one picture, at exactly one place.

    Args:
        twins: How often they are counted.
    """

    def __init__(self, twins: Twins) -> None:
        self.twins, self.total, self.repeats = twins, 0, 0

    def counted(self, things: Sequence[Thing]) -> tuple[Thing, ...]:
        """The objects of a query that are counted, in their order."""
        once = tuple(dict.fromkeys(things))
        self.total += len(things)
        self.repeats += len(things) - len(once)
        return once if self.twins == "once" else tuple(things)

    def notes(self, where: str, what: str) -> tuple[str, ...]:
        """A sentence with both counts, where there are twins.

        Args:
            where: What it calls the file.
            what: What is annotated, in the plural.
        """
        if not self.repeats:
            return ()
        once, every = f"{self.total - self.repeats:,} objects", f"{self.total:,}"
        now, other = (once, every) if self.twins == "once" else (f"{every} objects", f"{self.total - self.repeats:,}")
        how, change = ("counted once", "all") if self.twins == "once" else ("counted each time", "once")
        return (
            f"{where}: {self.repeats:,} {what} repeat another one exactly and are {how}: {now}, and {other} with "
            f"data.twins: {change}.",
        )
