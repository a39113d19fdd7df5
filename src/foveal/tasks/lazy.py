"""Rows that are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

Item = TypeVar("Item")
Row = TypeVar("Row")


@dataclass(frozen=True)
class Made(Sequence[Row], Generic[Item, Row]):
    """What a function makes of the items of a sequence, one at a time and never kept.

    Attributes:
        items: What the rows are made of; may be lazy itself.
        make: Makes a row; a method of a picklable object, so that data workers can have it.
    """

    items: Sequence[Item]
    make: Callable[[Item], Row]

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.make(self.items[index])
