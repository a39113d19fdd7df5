"""Rows of a data set, before they become prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

from foveal.images import Picture

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Example:
    """One row of a task.

    Attributes:
        id: Unique within its split; names the row in predictions and errors.
        images: The row's pictures, decoded when opened.
        truth: The right value, in the form that ``Task.parse`` returns; None where it is unknown.
        fields: Whatever else the question or the drawing needs.
    """

    id: str
    images: tuple[Picture, ...]
    truth: Any = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    def limited(self, max_pixels: int) -> Example:
        """The same row; its pictures refuse to open where they have more pixels than that."""
        return replace(self, images=tuple(p.limited(max_pixels) for p in self.images))

    def decoded(self) -> Example:
        """The same row with its pictures in memory.

        Raises:
            ImageError: A picture cannot be read.
        """
        return replace(self, images=tuple(Picture(p.name, p.open()) for p in self.images))


@dataclass(frozen=True)
class Loaded:
    """One split as a task loaded it.

    Attributes:
        examples: The rows; a list, or any lazy sequence.
        source: Where they came from, for ``data.json``.
        refused: (row or file, reason) of each row that was left out by the recipe's leave.
        notes: What was guessed about the source, and what is odd about it, a sentence each, to be printed.
        whole: Whether these are all rows of a source without splits.
    """

    examples: Sequence[Example]
    source: str
    refused: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    whole: bool = False

    def limited(self, max_pixels: int) -> Loaded:
        """The same rows; their pictures refuse to open where they have more pixels than that."""
        return replace(self, examples=_Limited(self.examples, max_pixels))


@dataclass(frozen=True)
class _Limited(Sequence[Example]):
    """Rows whose pictures know the recipe's pixel limit; picklable, so that spawned data workers know it too."""

    rows: Sequence[Example]
    max_pixels: int

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            return [row.limited(self.max_pixels) for row in self.rows[index]]
        return self.rows[index].limited(self.max_pixels)

    def __iter__(self) -> Iterator[Example]:
        for row in self.rows:
            yield row.limited(self.max_pixels)


def evenly_spread(count: int, samples: int) -> list[int]:
    """Indices of ``samples`` rows evenly spread over ``count`` (all of them where samples is 0 or larger)."""
    if samples <= 0 or samples >= count:
        return list(range(count))
    return [i * count // samples for i in range(samples)]
