"""What every reader of counting data returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foveal.tasks.counting.objects import Query


@dataclass(frozen=True)
class Source:
    """One split as a reader found it.

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
