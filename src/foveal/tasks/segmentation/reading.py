"""What every reader of segmentation data returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foveal.tasks.segmentation.objects import Query


@dataclass(frozen=True)
class Source:
    """One split as a reader found it.

    Attributes:
        queries: What is asked about which picture, in the order of the files.
        place: Where they came from, in words.
        skipped: (where, reason) of each picture or annotation that was left out.
        notes: What whoever compares figures has to know about this source, one sentence each.
    """

    queries: Sequence[Query]
    place: str
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
