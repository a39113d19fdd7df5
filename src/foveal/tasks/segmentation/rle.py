"""Masks as run lengths, in COCO's format (https://github.com/cocodataset/cocoapi, ``common/maskApi.c``).

A mask is read column by column, from the top down; its runs alternate between background and mask and begin with
background, whose run may be of length 0. The compressed form writes each length as a string of printable characters
with 5 bits each, the lowest first; from the fourth on it writes the difference to the length two before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypedDict

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.images import MAX_PIXELS

#: A character is 5 bits of a number, a bit for "more follow", plus this.
_FIRST: Final = 48
_MORE: Final = 32
#: Characters of the longest number that COCO writes, a difference of 32-bit lengths.
_LONGEST: Final = 7
_Counts = NDArray[np.int64]


class Rle(TypedDict):
    """A mask as run lengths.

    Attributes:
        size: Height and width in pixels.
        counts: The run lengths, compressed.
    """

    size: list[int]
    counts: str


def encode(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> Rle:
    """The run lengths of a mask, character for character as pycocotools writes them.

    Args:
        mask: [H, W]; everything that is not 0 is the mask.

    Raises:
        ValueError: The array has other than two axes.
    """
    if mask.ndim != 2:
        raise ValueError(f"a mask with {mask.ndim} axes, not 2")
    pixels = (mask != 0).ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    edges = np.concatenate([[0], changes, [pixels.size]])
    counts = np.diff(edges)
    if pixels.size and pixels[0]:
        counts = np.concatenate([[0], counts])
    return {"size": [mask.shape[0], mask.shape[1]], "counts": _compressed(counts)}


def decode(rle: Mapping[str, Any], *, name: str = "<mask>", max_pixels: int = MAX_PIXELS) -> NDArray[np.bool_]:
    """The mask [H, W] of run lengths.

    Args:
        rle: ``size`` (height, width) and ``counts``: compressed as text or bytes, or a list of lengths.
        name: How an error calls the mask.
        max_pixels: Larger ones are refused.

    Raises:
        UserError: It is malformed, its lengths do not add up to its size, or it has more pixels than are allowed for
            pictures.
    """
    (height, width), counts = _checked(rle, name, max_pixels)
    odd = np.arange(counts.size) % 2 == 1
    return np.repeat(odd, counts).reshape((height, width), order="F")


def area(rle: Mapping[str, Any], *, name: str = "<mask>", max_pixels: int = MAX_PIXELS) -> int:
    """Number of pixels in the mask, without drawing it; takes and raises what ``decode`` does."""
    return int(_checked(rle, name, max_pixels)[1][1::2].sum())


def box(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of all that is not 0 in a mask [H, W], or None where all is 0.

    These are outer edges in pixels: one pixel at the top left has the box (0, 0, 1, 1).
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _compressed(counts: _Counts) -> str:
    values = counts.copy()
    values[3:] -= counts[1:-2]
    # Shifted by 5 bits for each character before, with the sign.
    shifted = values[:, None] >> (5 * np.arange(_LONGEST))
    low = shifted & 31
    # A number ends where nothing but its sign is left, and the last character has that sign in its highest bit.
    rest = shifted >> 5
    last = np.where(low & 16, rest == -1, rest == 0)
    length = last.argmax(axis=1)[:, None]
    place = np.arange(_LONGEST)
    characters = low + _MORE * (place < length) + _FIRST
    return bytes(characters[place <= length].astype(np.uint8)).decode("ascii")


def _checked(rle: Mapping[str, Any], name: str, max_pixels: int) -> tuple[tuple[int, int], _Counts]:
    """Height and width, and the run lengths, which fit them."""
    size, given = rle.get("size"), rle.get("counts")
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(_whole(side) for side in size):
        raise UserError(f"{name}: the size of the run lengths is not [height, width] in whole pixels; correct it.")
    height, width = (int(side) for side in size)
    if height * width > max_pixels:
        raise UserError(
            f"{name}: {width} x {height} pixels are more than the limit of {max_pixels:,}; shrink the mask or raise "
            "model.max_pixels."
        )
    if isinstance(given, str | bytes):
        counts = _uncompressed(given, name)
    elif isinstance(given, list | tuple) and all(_whole(count) for count in given):
        # A length beyond the picture would be refused below, but may not fit into 64 bits.
        counts = np.array([min(int(count), height * width + 1) for count in given], dtype=np.int64)
    else:
        raise UserError(
            f"{name}: counts is neither a compressed text nor a list of whole numbers from 0; correct it or write the "
            "mask anew."
        )
    # Each length is checked by itself, too, so that their sum cannot overflow.
    pixels = height * width
    if (counts < 0).any() or (counts > pixels).any() or counts.sum() != pixels:
        raise UserError(
            f"{name}: its run lengths do not add up to the {width} x {height} pixels of its size; correct the size or "
            "write the mask anew."
        )
    return (height, width), counts


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 0


def _uncompressed(text: str | bytes, name: str) -> _Counts:
    """The run lengths of a compressed text."""
    written = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    # From 0 to o: 6 bits above _FIRST.
    if not re.fullmatch(rb"[0-o]*", written):
        raise UserError(f"{name}: counts holds characters that no compressed run lengths have; write the mask anew.")
    if not written:
        return np.zeros(0, dtype=np.int64)
    bits = np.frombuffer(written, dtype=np.uint8).astype(np.int64) - _FIRST
    ends = np.flatnonzero(bits < _MORE)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if bits[-1] >= _MORE or lengths.max() > _LONGEST:
        raise UserError(f"{name}: counts is cut off or has a number that is too long; write the mask anew.")
    place = np.arange(bits.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((bits & 31) << (5 * place), starts)
    # The highest bit that was written is the sign.
    values -= (bits[ends] & 16) << (5 * lengths - 4)
    counts = values.copy()
    for first in (1, 2):
        counts[first::2] = np.cumsum(values[first::2])
    return counts
