"""Words as BlindTest sets them: letter beside letter at 96 pixels to the em, each with the box of its ink.

The published pictures are set in Helvetica and Open Sans, which not every installation has. Two faces stand in for
them: shapes that everyone has, fitted to the advances, the boxes and the weights of those two.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from operator import sub
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from foveal.tasks.blindtest.drawing.lettering import FONTS, font, word_mask

#: Pixels to the em, as in the published pictures' program; lengths here are in these pixels.
EM: Final = 96
#: Blank border of a word's ink, so that it can be resampled to any place in a picture.
MARGIN: Final = 64
HELVETICA: Final = "like Helvetica"
OPEN_SANS: Final = "like Open Sans"
FACES: Final = (HELVETICA, OPEN_SANS, *FONTS)

_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: Advances of Open Sans Regular, in 1/2048 em.
_ADVANCES: Final = (
    *(1296, 1327, 1292, 1493, 1139, 1057, 1491, 1511, 571, 547, 1257, 1063, 1849),
    *(1544, 1595, 1233, 1595, 1266, 1124, 1133, 1491, 1219, 1896, 1182, 1147, 1169),
    *(1139, 1255, 975, 1255, 1149, 694, 1122, 1257, 518, 518, 1075, 518, 1905),
    *(1257, 1237, 1255, 1255, 836, 977, 723, 1257, 1020, 1593, 1073, 1024, 958),
)
#: How far Open Sans's letters reach above the baseline and below it; small letters reach 52 and 0 elsewhere.
_ABOVE: Final = {
    **dict.fromkeys(_LETTERS[:26], 69),
    **dict.fromkeys("CGOQS", 70),
    **dict.fromkeys("bdfhijkl", 73),
    "t": 63,
}
_BELOW: Final = {**dict.fromkeys("abcdeostuCGOSU", 1), **dict.fromkeys("gjpqy", 23), "J": 17, "Q": 17}
#: How many times larger letters are drawn before they are fitted to a box.
_FINE: Final = 5
#: Widens a letter's strokes by this many fine pixels: Aileron is lighter than Helvetica, DejaVu Sans bolder than Open
#: Sans; the g of two storeys is a serif font's, whose thin strokes are very thin.
_BOLDER: Final = {HELVETICA: 2, OPEN_SANS: -4}
_BOLDER_G: Final = 4


class Box(NamedTuple):
    """The ink of a letter, from the pen's place on the baseline: x to the right, y downwards.

    Attributes:
        left: Its left edge.
        top: Its upper edge.
        right: Its right edge.
        bottom: Its lower edge.
        advance: How far the pen moves on.
    """

    left: int
    top: int
    right: int
    bottom: int
    advance: int


@dataclass(frozen=True)
class Word:
    """Where a word's letters are.

    Attributes:
        boxes: Its letters' boxes, from the pen's place at the beginning of the word.
        length: The sum of their advances.
        left: Left edge of all the ink.
        top: Upper edge of all the ink.
        right: Right edge of all the ink.
        bottom: Lower edge of all the ink.
        tallest: Height of the tallest box.
    """

    boxes: tuple[Box, ...]
    length: int
    left: int
    top: int
    right: int
    bottom: int
    tallest: int


@lru_cache(maxsize=1024)
def set_word(text: str, face: str) -> Word:
    """Sets a word.

    Args:
        text: Of the letters A to Z, large or small.
        face: One of ``FACES``.
    """
    boxes, pen = [], 0
    for letter in text:
        left, top, right, bottom, advance = _glyph(letter, face)[0]
        boxes.append(Box(pen + left, top, pen + right, bottom, advance))
        pen += advance
    lefts, tops, rights, bottoms, _ = zip(*boxes, strict=True)
    tallest = max(map(sub, bottoms, tops))
    return Word(tuple(boxes), pen, min(lefts), min(tops), max(rights), max(bottoms), tallest)


@lru_cache(maxsize=192)
def ink(text: str, face: str, level: int) -> Image.Image:
    """How far a word covers each pixel of the box around it and ``MARGIN`` beyond that, 0 to 255.

    Args:
        text: Of the letters A to Z, large or small.
        face: One of ``FACES``.
        level: How many times it is halved in size, 0 to 2.
    """
    word = set_word(text, face)
    # Multiples of four, so that each level has whole pixels.
    width, height = word.right - word.left + 2 * MARGIN, word.bottom - word.top + 2 * MARGIN
    whole = np.zeros((-(-height // 4) * 4, -(-width // 4) * 4), np.uint8)
    for letter, box in zip(text, word.boxes, strict=True):
        x, y = box.left - word.left + MARGIN, box.top - word.top + MARGIN
        part = whole[y : y + box.bottom - box.top, x : x + box.right - box.left]
        np.maximum(part, _glyph(letter, face)[1], out=part)
    image = Image.fromarray(whole)
    return image.reduce(2**level) if level else image


@lru_cache(maxsize=1024)
def _glyph(letter: str, face: str) -> tuple[Box, NDArray[np.uint8]]:
    """A letter's box from the pen's place, and its ink."""
    if face == HELVETICA:
        # Aileron is close to Helvetica, but its l has a tail.
        source = "DejaVuSans" if letter == "l" else "Aileron"
        box = _helvetica()[letter]
    elif face == OPEN_SANS:
        source = "DejaVuSans"
        across = _ADVANCES[_LETTERS.index(letter)] / 2048 * EM
        natural = _natural(letter, source)[0]
        left, right = (round(edge * across / natural.advance) for edge in (natural.left, natural.right))
        if letter == "g":
            source, left, right = "STIXGeneral", 2, 52
        box = Box(left, -_ABOVE.get(letter, 52), right, _BELOW.get(letter, 0), round(across))
    else:
        return _natural(letter, face)
    fine = Image.fromarray(_cropped(word_mask(letter, source, EM * _FINE))[0])
    bolder = _BOLDER_G if source == "STIXGeneral" else _BOLDER[face]
    if bolder > 0:
        fine = ImageOps.expand(fine, bolder // 2).filter(ImageFilter.MaxFilter(bolder + 1))
    else:
        fine = ImageOps.expand(fine, 1).filter(ImageFilter.MinFilter(1 - bolder))
        fine = Image.fromarray(_cropped(np.asarray(fine))[0])
    size = box.right - box.left, box.bottom - box.top
    return box, np.asarray(fine.resize(size, Image.Resampling.BOX))


def _cropped(mask: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int, int]:
    """A mask without its blank border, and the x and y of its first pixel."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    x, y = int(columns[0]), int(rows[0])
    return mask[y : int(rows[-1]) + 1, x : int(columns[-1]) + 1], x, y


@lru_cache(maxsize=1024)
def _natural(letter: str, name: str) -> tuple[Box, NDArray[np.uint8]]:
    face = font(name, EM)
    left, top = face.getbbox(letter, anchor="ls")[:2]
    mask, x, y = _cropped(word_mask(letter, name, EM))
    x, y = x + round(left), y + round(top)
    return Box(x, y, x + mask.shape[1], y + mask.shape[0], round(face.getlength(letter))), mask


@lru_cache(maxsize=1)
def _helvetica() -> dict[str, Box]:
    """Helvetica's letters, from the metrics that come with matplotlib."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "pdfcorefonts" / "Helvetica.afm"
    boxes = {}
    for cells in re.findall(
        r"WX (\d+) ; N ([A-Za-z]) ; B (-?\d+) (-?\d+) (-?\d+) (-?\d+) ;", path.read_text(encoding="latin-1")
    ):
        advance, left, low, right, high = (int(cells[i]) * EM / 1000 for i in (0, 2, 3, 4, 5))
        boxes[cells[1]] = Box(round(left), -math.ceil(high), round(right), -math.floor(low), round(advance))
    return boxes
