"""Rows that are made when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

Item = TypeVar("Item")
Row = TypeVar("Row")


class Lazy(Sequence[Row]):
    """A sequence whose rows are made one at a time and never kept. Subclasses say how many there are."""

    @abstractmethod
    def row(self, index: int) -> Row:
        """The row of an index from 0 on."""

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self.row(i) for i in range(*index.indices(len(self)))]
        return self.row(range(len(self))[index])


@dataclass(frozen=True)
class Numbered(Lazy[Row]):
    """What a function makes of the numbers from 0 on.

    Attributes:
        length: How many there are.
        make: Makes a row; picklable, for the data loader's processes.
    """

    length: int
    make: Callable[[int], Row]

    def __len__(self) -> int:
        return self.length

    def row(self, index: int) -> Row:
        """See ``Lazy.row``."""
        return self.make(index)


@dataclass(frozen=True)
class Made(Lazy[Row], Generic[Item, Row]):
    """What a function makes of the items of a sequence.

    Attributes:
        items: What the rows are made of; may be lazy itself.
        make: Makes a row; a method of a picklable object, so that data workers can have it.
    """

    items: Sequence[Item]
    make: Callable[[Item], Row]

    def __len__(self) -> int:
        return len(self.items)

    def row(self, index: int) -> Row:
        """See ``Lazy.row``."""
        return self.make(self.items[index])
