"""Checks the pictures of a split before it is used: what cannot be opened is refused, or left out and named."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from foveal.errors import ImageError
from foveal.images import LARGEST_OF_16, Picture
from foveal.tasks.readers.annotations import OnBad

Row = TypeVar("Row")
#: Up to so many pictures are decoded; of more only the headers are checked.
FULL_CHECK: Final = 20_000
#: A picture of 16 bits whose largest value is below this uses less than a quarter of the range.
_DARK: Final = 1 << 14


@dataclass(frozen=True)
class Checked(Generic[Row]):
    """The rows of a split whose pictures can be used.

    Attributes:
        rows: In their order; the sequence that was given where all can be used.
        refused: (picture or row, reason) of what was left out.
        notes: What is odd about the pictures, a sentence each.
    """

    rows: Sequence[Row]
    refused: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def check_pictures(
    rows: Sequence[Row], pictures: Callable[[Row], Sequence[Picture]], *, max_pixels: int, on_bad: OnBad = "refuse",
    key: str = "data.on_bad", row_name: Callable[[Row], str] | None = None,
    also: Callable[[Picture], None] = lambda picture: None,
) -> Checked[Row]:  # fmt: skip
    """The rows whose pictures can be opened; a picture of several rows is checked once.

    Args:
        rows: Of one split.
        pictures: The pictures of a row, each with a name of its own.
        max_pixels: Pictures with more pixels cannot be used.
        on_bad: Whether one that cannot be used ends it, or its rows are left out.
        key: The setting that says so.
        row_name: Names what was left out by its row; by default by its picture.
        also: A further check, which raises an ``ImageError``.

    Raises:
        ImageError: A picture cannot be used, and ``on_bad`` is refuse, or no row is left.
    """
    each = {picture.name: picture for row in rows for picture in pictures(row)}
    pixels = len(each) <= FULL_CHECK

    def complaint(picture: Picture) -> tuple[str | None, int | None]:
        limited = picture.limited(max_pixels)
        try:
            also(limited)
            if pixels:
                return None, limited.open().info.get(LARGEST_OF_16)
            limited.check(pixels=False)
        except ImageError as error:
            return str(error), None
        return None, None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = dict(zip(each, pool.map(complaint, each.values()), strict=True))
    bad = {name: reason for name, (reason, _) in found.items() if reason is not None}
    good = [row for row in rows if not any(picture.name in bad for picture in pictures(row))] if bad else rows
    if bad and (on_bad == "refuse" or not good):
        first = next(iter(bad.values()))
        more = f" {len(bad) - 1} more pictures cannot be used either." if len(bad) > 1 else ""
        if on_bad == "skip":
            raise ImageError(f"{first} None of the {len(each):,} pictures can be used.")
        raise ImageError(f"{first}{more} `{key}: skip` leaves such pictures out.")
    refused = [(name, reason.removeprefix(f"{name}: ")) for name, reason in bad.items()]
    if row_name is not None:
        refused = [
            (row_name(row), bad[picture.name]) for row in rows for picture in pictures(row) if picture.name in bad
        ]
    return Checked(good, tuple(refused), _dark([largest for _, largest in found.values() if largest is not None]))


def _dark(largest: Sequence[int]) -> tuple[str, ...]:
    """A sentence about pictures of 16 bits that hold fewer.

    Args:
        largest: The largest value of each picture of 16 bits.
    """
    dark = [value for value in largest if value < _DARK]
    if not dark:
        return ()
    bits = max(max(dark).bit_length(), 1)
    return (
        f"{len(dark):,} of {len(largest):,} pictures with 16 bits are nearly black: their largest value is "
        f"{max(dark):,} of 65,535, as {bits} bits have. Values are read as they are; if these are {bits} bits, multiply "
        f"them by {2 ** (16 - bits)} or save 8 bits.",
    )
