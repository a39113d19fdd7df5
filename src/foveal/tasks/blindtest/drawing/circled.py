"""Draws a word with an ellipse around one of its letters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from foveal.drawing.figures import Colour
from foveal.tasks.blindtest.drawing.canvas import as_image, packed, palette
from foveal.tasks.blindtest.drawing.colours import BLACK, WHITE
from foveal.tasks.blindtest.drawing.filters import RESAMPLING, Filter
from foveal.tasks.blindtest.drawing.typesetting import EM, MARGIN, ink, set_word

#: Lengths are whole numbers of this part of the picture's side.
UNITS: Final = 10_000
RED: Final[Colour] = (255, 0, 0)
#: How soft a filter makes the ellipse's edges, in pixels from its middle.
_RAMP: Final[dict[Filter, float]] = {"box": 0.5, "bilinear": 0.75, "bicubic": 0.5}


@dataclass(frozen=True)
class Look:
    """How a scene is drawn, apart from its lengths.

    Attributes:
        face: One of ``FACES``.
        ink: Colour of the word.
        red: Colour of the ellipse.
        ground: Colour of the background.
        kernel: Filter of the edges.
        blur: Standard deviation of a Gaussian blur on top, in ``UNITS``.
    """

    face: str
    ink: Colour = BLACK
    red: Colour = RED
    ground: Colour = WHITE
    kernel: Filter = "bicubic"
    blur: int = 0


@dataclass(frozen=True)
class CircledWord:
    """A word and an ellipse; lengths are in ``UNITS`` of the side, y downwards.

    Attributes:
        word: The word.
        pen: x and y of the word's beginning on the baseline.
        em: Size of the font.
        stretch: How much wider than it is the font is drawn, in percent.
        centre: x and y of the ellipse's centre.
        radii: Half of its width and height, to the middle of the line.
        width: Width of its line.
        look: How it is drawn.
    """

    word: str
    pen: tuple[int, int]
    em: int
    stretch: int
    centre: tuple[int, int]
    radii: tuple[int, int]
    width: int
    look: Look

    def draw(self, size: int) -> Image.Image:
        """The picture, ``size`` pixels wide and high."""
        scale, look = size / UNITS, self.look
        word, x, y = _word(self.word, look.face, self.pen, self.em, self.stretch, size, look.kernel, look.blur * scale)
        ramp = math.hypot(_RAMP[look.kernel], 1.5 * look.blur * scale)
        (cx, cy), (a, b) = self.centre, self.radii
        ring, left, top = _ring(size, cx * scale, cy * scale, a * scale, b * scale, self.width * scale, ramp)
        # Only the part of the picture that is not blank is painted.
        x0, y0 = min(x, left), min(y, top)
        x1, y1 = max(x + word.shape[1], left + ring.shape[1]), max(y + word.shape[0], top + ring.shape[0])
        canvas = np.full((y1 - y0, x1 - x0), packed(look.ground), np.uint32)
        levels = palette(look.ground, look.ink)
        canvas[y - y0 : y - y0 + word.shape[0], x - x0 : x - x0 + word.shape[1]] = levels.take(word)
        below = canvas[top - y0 : top - y0 + ring.shape[0], left - x0 : left - x0 + ring.shape[1]]
        old = below.view(np.uint8).reshape(*below.shape, 4)
        # Towards red by the ring's share, rounded.
        change = _floats(look.red) - old
        change *= ring[..., None]
        change += old
        change += np.float32(0.5)
        old[...] = change
        image = Image.new("RGB", (size, size), look.ground)
        image.paste(as_image(canvas), (x0, y0))
        return image


@lru_cache(maxsize=64)
def _word(
    text: str, face: str, pen: tuple[int, int], em: int, stretch: int, size: int, kernel: Filter, blur: float
) -> tuple[NDArray[np.uint8], int, int]:
    """How far a word covers the pixels around it, 0 to 255, and the x and y of the first of them.

    The blur is in pixels; for the rest see ``CircledWord``.
    """
    word = set_word(text, face)
    down = em / UNITS * size / EM
    across = down * stretch / 100
    level = 2 if down <= 0.2 else 1 if down <= 0.4 else 0
    left = pen[0] / UNITS * size + (word.left - MARGIN) * across
    top = pen[1] / UNITS * size + (word.top - MARGIN) * down
    # A pixel more all around for the filter, where the margin has room for it.
    more = int(MARGIN * min(across, down) >= 2)
    x0 = max(0, math.floor(left + MARGIN * across) - more)
    x1 = min(size, math.ceil(left + (MARGIN + word.right - word.left) * across) + more)
    y0 = max(0, math.floor(top + MARGIN * down) - more)
    y1 = min(size, math.ceil(top + (MARGIN + word.bottom - word.top) * down) + more)
    across, down = across * 2**level, down * 2**level
    source = ink(text, face, level)
    # Where a pixel is wider than the margin, the word may be off by less than a pixel.
    box = (
        max(0.0, (x0 - left) / across),
        max(0.0, (y0 - top) / down),
        min(source.width, (x1 - left) / across),
        min(source.height, (y1 - top) / down),
    )
    share = source.resize((x1 - x0, y1 - y0), RESAMPLING[kernel], box)
    if blur:
        share = share.filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(share), x0, y0


def _ring(
    size: int, x: float, y: float, a: float, b: float, width: float, ramp: float
) -> tuple[NDArray[np.float32], int, int]:
    """How far the line of an ellipse covers the pixels around it, 0 to 1, and the x and y of the first of them.

    It depends on a pixel's distance from the ellipse alone. The nearest point is sought on the circle of curvature at a
    first guess, and moved onto the ellipse; lines as narrow as the published ones err by less than 0.03 of the share.
    """
    reach = width / 2 + ramp
    x0, x1 = max(0, math.floor(x - a - reach)), min(size, math.ceil(x + a + reach))
    y0, y1 = max(0, math.floor(y - b - reach)), min(size, math.ceil(y + b + reach))
    # In the first quadrant, in half axes; nowhere zero.
    u = (np.abs(np.arange(x0, x1) + (0.5 - x)) / a + 1e-4).astype(np.float32)
    v = (np.abs(np.arange(y0, y1) + (0.5 - y)) / b + 1e-4).astype(np.float32)[:, None]
    squared = u * u + v * v
    near = np.float32(1) / np.sqrt(squared)
    cosine, sine = u * near, v * near
    cosine2, sine2 = cosine * cosine, sine * sine
    # The centre of curvature, and the way from it to the pixel, in half axes.
    focus = a * a - b * b
    middle_x, middle_y = cosine2 * cosine * np.float32(focus / a / a), sine2 * sine * np.float32(-focus / b / b)
    along, up = u - middle_x, v - middle_y
    bend = cosine2 * np.float32(b * b) + sine2 * np.float32(a * a)
    length = along * along * np.float32(a * a) + up * up * np.float32(b * b) + np.float32(1e-9)
    ratio = bend * np.sqrt(bend / length) * np.float32(1 / (a * b))
    cosine, sine = np.maximum(middle_x + along * ratio, 0), np.maximum(middle_y + up * ratio, np.float32(1e-6))
    onto = np.float32(1) / np.sqrt(cosine * cosine + sine * sine)
    cosine *= onto
    sine *= onto
    cosine -= u
    sine -= v
    distance = np.sqrt(cosine * cosine * np.float32(a * a) + sine * sine * np.float32(b * b))
    distance *= np.float32(-0.5 / ramp)
    share = np.minimum(np.maximum(distance + np.float32(0.5 + width / 4 / ramp), 0), 1)
    if width < 2 * ramp:  # A line that is thinner than its edges are soft is pale.
        share -= np.maximum(distance + np.float32(0.5 - width / 4 / ramp), 0)
    return share, x0, y0


@lru_cache(maxsize=1024)
def _floats(colour: Colour) -> NDArray[np.float32]:
    return np.array((*colour, 255), np.float32)
