"""What is asked: a sentence about a picture, and the pixels that it means.

Frame everywhere in this package: pixels of the original picture, x to the right, y downwards, the origin at the outer
corner of the top left pixel. A mask is a uint8 array [H, W] of the original size: 0 background, 1 meant, 255 ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from foveal.errors import ImageError
from foveal.examples import Example
from foveal.images import Picture

#: Pixels that belong neither to the target nor to the background: they count in no metric and no loss.
IGNORE: Final = 255
#: The token that stands for a mask; LISA writes ``[SEG]``.
SEG: Final = "<SEG>"
#: Columns and rows of ``place``, one for each letter.
PLACES: Final = 26
Mask = NDArray[np.uint8]


def check_square(size: tuple[int, int], name: str, max_pixels: int) -> None:
    """Checks that the square around a picture, in which models see it, keeps the pixel limit, too.

    Args:
        size: Width and height of the picture in pixels.
        name: What errors call the picture.
        max_pixels: The limit.

    Raises:
        ImageError: The square has more pixels.
    """
    side = max(size)
    if side * side > max_pixels:
        raise ImageError(
            f"{name}: {size[0]:,} x {size[1]:,} pixels are laid in a square of {side:,} x {side:,}, more than the limit of "
            f"{max_pixels:,} pixels; shrink the picture or raise model.max_pixels."
        )


def place(mask: Mask) -> str:
    """Where the middle of a mask lies: the letters of its column, from the left, and its row, from the top, e.g. ``k,c``.

    Args:
        mask: [H, W], with some pixels of 1; their mean is the middle. The columns and rows are ``PLACES`` each, on the
            square of side max(H, W) in which models see the picture.
    """
    ys, xs = np.nonzero(mask == 1)
    column, row = (chr(ord("a") + int(PLACES * (v.mean() + 0.5) / max(mask.shape))) for v in (xs, ys))
    return f"{column},{row}"


class Target(Protocol):
    """What a sentence means, drawn when it is asked for. Implementations are frozen dataclasses, so they pickle."""

    def whole(self) -> Mask:
        """Everything that is meant, in one mask [H, W] of 0, 1 and 255 (see ``IGNORE``)."""
        ...

    def parts(self) -> Sequence[Mask]:
        """Each meant object by itself, [H, W] of 0 and 1, from left to right (by the left edge of its box, then by its
        top); empty where nothing is meant. Where the annotation does not tell objects apart, one part."""
        ...


@dataclass(frozen=True)
class Query:
    """A picture, a sentence about it, and what the sentence means.

    Attributes:
        id: Unique within the split, e.g. ``val/199953_df81ec489c_o``.
        picture: Decoded when opened.
        texts: The sentence and its paraphrases; the first one is asked at evaluation.
        is_sentence: Whether the texts are whole sentences (ReasonSeg's long queries); else they are phrases.
        size: Width and height of the picture in pixels.
        target: The pixels that are meant; None where they are unknown.
        extra: Further facts, JSON-serialisable.
        more: Further queries about the same picture, learned behind this one in training.
    """

    id: str
    picture: Picture
    texts: tuple[str, ...]
    is_sentence: bool
    size: tuple[int, int]
    target: Target | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    more: tuple[Query, ...] = ()


@dataclass(frozen=True)
class Asked(Example):
    """A query's row.

    Attributes:
        more: Rows of the further queries about the same picture; not part of what tells rows apart.
    """

    more: tuple[Example, ...] = ()


def together(queries: Sequence[Query], phrases: int) -> list[Query]:
    """Each query with the next ones about the same picture, as many as make ``phrases`` with it, or all there are."""
    by_picture: dict[str, list[int]] = {}
    for i, query in enumerate(queries):
        by_picture.setdefault(query.picture.name, []).append(i)
    joined = list(queries)
    for own in by_picture.values():
        for k, i in enumerate(own):
            following = [*own[k + 1 :], *own[:k]][: phrases - 1]
            joined[i] = replace(queries[i], more=tuple(queries[j] for j in following))
    return joined


@dataclass(frozen=True)
class Source:
    """One split as a reader read it.

    Attributes:
        queries: What is asked about which picture, in the order of the files.
        place: Where they came from, in words.
        skipped: (where, reason) of each picture or annotation that was left out.
        notes: What to know when comparing results on this source, one sentence each.
    """

    queries: Sequence[Query]
    place: str
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
