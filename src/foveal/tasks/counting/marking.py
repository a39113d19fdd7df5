"""Marks on objects that are already counted, and the geometry of resizing.

Marks are drawn on the picture that the model sees, so resize first::

    resize = Resize.longest(query.size, 224)
    marked = mark(resize.image(picture), [resize.thing(thing) for thing in counted], "disc", 0.5)
"""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from foveal.drawing.figures import Colour, blend
from foveal.errors import UserError
from foveal.tasks.counting.objects import Box, Point, Thing

Style = Literal["disc", "number", "box", "mask"]
STYLES: Final[tuple[Style, ...]] = get_args(Style)
Relative = Literal["object", "image"]
Floats = NDArray[np.float64]

#: What ``contrast`` chooses from: the corners of the RGB cube but for black and white, which shade and light make too.
PALETTE: Final[tuple[Colour, ...]] = (
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255),
)  # fmt: skip
#: Extent of an object without a box, as a share of the geometric mean of the picture's sides.
PICTURE_SHARE: Final = 0.06
#: Smallest diameter of a disc, and smallest size of the digits' font, in pixels.
LEAST_DISC: Final = 5.0
#: Alphas of varied marks, their sizes in those of the recipe, the share of pictures whose marks have the colour
#: ``contrast``, and how far any other colour must be from the ground of each mark, in CIELAB.
VARIED_ALPHA: Final = (0.2, 0.9)
VARIED_SIZE: Final = (0.75, 1.25)
CONTRAST_SHARE: Final = 0.25
LEAST_CONTRAST: Final = 60.0
#: Colours that are tried before ``contrast`` is taken.
TRIES: Final = 12
LEAST_DIGITS: Final = 10
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
#: Weights of red, green and blue (ITU-R BT.601).
_LUMA: Final = np.array([0.299, 0.587, 0.114])
_TO_XYZ: Final = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


@dataclass(frozen=True)
class Resize:
    """A change of size without padding or cropping: the one place that converts points between two sizes.

    Points are in pixels with the origin at the outer corner of the top left pixel, so a point at a share of the sides
    stays at that share, and no half pixels are to be added.

    Attributes:
        size: Width and height of the original in pixels.
        target: Width and height of the result in pixels.
    """

    size: tuple[int, int]
    target: tuple[int, int]

    @classmethod
    def longest(cls, size: tuple[int, int], side: int) -> Self:
        """Brings the longest side to ``side`` pixels, be that larger or smaller.

        The other side is rounded to whole pixels and never below one, so the two scales may differ a little; ``point``
        knows both.

        Args:
            size: Width and height of the original in pixels.
            side: The longest side of the result in pixels.

        Raises:
            ValueError: A length is below one pixel.
        """
        if min(*size, side) < 1:
            raise ValueError(f"no resize of {size} to a longest side of {side}")
        scale = side / max(size)
        width, height = (max(1, math.floor(length * scale + 0.5)) for length in size)
        return cls(size, (width, height))

    def image(self, image: Image.Image) -> Image.Image:
        """The picture in the new size (Lanczos).

        Raises:
            ValueError: The picture has not the original's size.
        """
        if image.size != self.size:
            raise ValueError(f"a picture of {image.size} where one of {self.size} is resized")
        return image if self.target == self.size else image.resize(self.target, Image.Resampling.LANCZOS)

    def point(self, point: Point) -> Point:
        """A point of the original in the result."""
        return point[0] * self.target[0] / self.size[0], point[1] * self.target[1] / self.size[1]

    def back(self, point: Point) -> Point:
        """A point of the result in the original."""
        return self.inverse.point(point)

    def thing(self, thing: Thing) -> Thing:
        """An object of the original in the result."""
        if thing.box is None:
            return Thing(self.point(thing.point))
        return Thing(self.point(thing.point), (*self.point(thing.box[:2]), *self.point(thing.box[2:])))

    @property
    def inverse(self) -> Resize:
        """From the result to the original."""
        return Resize(self.target, self.size)


def mark(
    image: Image.Image, things: Sequence[Thing], style: Style = "disc", alpha: float = 0.5, *, color: str = "contrast",
    size: float = 0.5, relative: Relative = "object",
) -> Image.Image:  # fmt: skip
    """A copy of the picture with marks on things, in the order in which they were counted.

    * ``disc``: a filled disc at the point.
    * ``number``: a disc with the thing's number in that order, from 1. The digits are opaque, black or white with a
      rim of the other, so that they can be read on any ground and at any alpha.
    * ``box``: the outline of the thing's box.
    * ``mask``: the ellipse that its box encloses, filled.

    Where there is no box, or sizes are relative to the image, a square around the point stands for it, whose side is
    0.06 of the geometric mean of the picture's sides.

    Args:
        image: The picture; it is not changed.
        things: What is marked, in pixels of this picture.
        style: The kind of mark.
        alpha: How opaque marks are, above 0 and at most 1. Where marks overlap they add up.
        color: A colour as CSS has it (``red``, ``#ff0000``), or ``contrast``: for each mark the one of ``PALETTE``
            that is farthest in CIELAB from the mean colour of the unmarked picture under it.
        size: Diameter of discs in extents of the thing (the geometric mean of its box's sides); at least 5 pixels, and
            in ``number`` what the digits need.
        relative: Whether sizes follow each object or the image.

    Raises:
        UserError: An option has a value that it cannot have.
    """
    _check(alpha, color, size)
    pixels = np.array(image.convert("RGB"))
    things, unit = _sized(things, relative), PICTURE_SHARE * math.sqrt(image.width * image.height)
    areas = _areas(things, style, size, unit, image.size)
    if color == "contrast":
        colors = contrasting([_mean(pixels, area) for area in areas])
    else:
        red, green, blue = ImageColor.getrgb(color)[:3]
        colors = [(red, green, blue)] * len(areas)
    for number, (thing, area, ink) in enumerate(zip(things, areas, colors, strict=True), 1):
        _lay(pixels, area, ink, alpha)
        if style == "number":
            _write(pixels, number, thing.point, _digits(thing, size, unit, number), _mean(pixels, area))
    return Image.fromarray(pixels)


def varied_mark(
    image: Image.Image, things: Sequence[Thing], style: Style = "disc", *, size: float = 0.5,
    relative: Relative = "object", seed: str,
) -> Image.Image:  # fmt: skip
    """A copy of the picture with marks whose looks the seed decides: all of one alpha, size and colour.

    The alpha is from 0.2 to 0.9, the size within a quarter of ``size``. The colour is ``contrast`` in a quarter of the
    pictures, else any hue, vivid or pale, bright or dim, that stands out from what is under each of the marks.

    Args:
        image: See ``mark``.
        things: See ``mark``.
        style: See ``mark``.
        size: See ``mark``.
        relative: See ``mark``.
        seed: Decides the looks.
    """
    rng = random.Random(f"marks {seed}")
    alpha, size = rng.uniform(*VARIED_ALPHA), size * rng.uniform(*VARIED_SIZE)
    color = "contrast"
    if things and rng.random() >= CONTRAST_SHARE:
        pixels, unit = np.array(image.convert("RGB")), PICTURE_SHARE * math.sqrt(image.width * image.height)
        areas = _areas(_sized(things, relative), style, size, unit, image.size)
        grounds = to_lab([_mean(pixels, area) for area in areas])
        for red, green, blue in (_any_colour(rng) for _ in range(TRIES)):
            if np.linalg.norm(to_lab([(red, green, blue)]) - grounds, axis=1).min() >= LEAST_CONTRAST:
                color = f"#{red:02x}{green:02x}{blue:02x}"
                break
    return mark(image, things, style, alpha, color=color, size=size, relative=relative)


def _any_colour(rng: random.Random) -> Colour:
    """Any hue, from pale to vivid and from dim to bright."""
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.3, 1), rng.uniform(0.4, 1))
    return round(255 * red), round(255 * green), round(255 * blue)


def contrasting(colors: Sequence[ArrayLike]) -> list[Colour]:
    """For each colour the one of ``PALETTE`` that is farthest from it in CIELAB (CIE76), the first of several.

    Args:
        colors: Red, green and blue from 0 to 255, in sRGB.
    """
    if not colors:
        return []
    away = np.linalg.norm(to_lab(colors)[:, None] - _palette_lab(), axis=2)
    return [PALETTE[k] for k in away.argmax(axis=1)]


def to_lab(colors: ArrayLike | Sequence[ArrayLike]) -> Floats:
    """CIELAB of sRGB colours (IEC 61966-2-1, white D65).

    Args:
        colors: Red, green and blue from 0 to 255, N x 3.

    Returns:
        L from 0 to 100, a and b; N x 3.
    """
    share = np.asarray(colors, dtype=np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _TO_XYZ.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@cache
def _palette_lab() -> Floats:
    return to_lab(PALETTE)


def _check(alpha: float, color: str, size: float) -> None:
    if not 0 < alpha <= 1:
        raise UserError(f"Marks cannot have an alpha of {alpha}; choose one above 0 and at most 1.")
    if not 0 < size < math.inf:
        raise UserError(f"Marks cannot have a size of {size}; choose one above 0, such as 0.5.")
    if color != "contrast":
        try:
            ImageColor.getrgb(color)
        except ValueError:
            raise UserError(f"There is no colour {color!r}; write contrast, a name or #rrggbb.") from None


@dataclass(frozen=True)
class _Area:
    """A rectangle of pixels, and for each of them which share of it a mark covers."""

    rows: slice
    columns: slice
    cover: NDArray[np.float32]


def _sized(things: Sequence[Thing], relative: Relative) -> Sequence[Thing]:
    """The things, without their boxes where marks follow the image."""
    return [Thing(thing.point) for thing in things] if relative == "image" else things


def _areas(things: Sequence[Thing], style: Style, size: float, unit: float, shape: tuple[int, int]) -> list[_Area]:
    """What the mark of each thing covers."""
    return [_area(thing, style, size, unit, number, shape) for number, thing in enumerate(things, 1)]


def _area(thing: Thing, style: Style, size: float, unit: float, number: int, shape: tuple[int, int]) -> _Area:
    if style in ("disc", "number"):
        diameter = max(LEAST_DISC, size * (thing.extent or unit))
        if style == "number":
            # The rim of the digits reaches to the disc's.
            diameter = max(diameter, _digits(thing, size, unit, number) * (1.15 if number < 100 else 1.6))
        return _cover(_around(thing.point, diameter), None, shape)
    box = thing.box or _around(thing.point, unit)
    line = max(2.0, 0.08 * (thing.extent or unit)) if style == "box" else None
    return _cover(box, line, shape)


def _around(point: Point, side: float) -> Box:
    x, y = point
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


def _digits(thing: Thing, size: float, unit: float, number: int) -> int:
    """Size of the font of a thing's number, in pixels."""
    return max(LEAST_DIGITS, round(size * (thing.extent or unit) * (0.75 if number < 100 else 0.55)))


def _cover(box: Box, line: float | None, shape: tuple[int, int]) -> _Area:
    """What the ellipse in a box covers; or, with the width of a line, what its outline covers."""
    left, top, right, bottom = box
    margin = (line or 0) / 2 + 1
    columns = slice(max(0, math.floor(left - margin)), max(0, min(shape[0], math.ceil(right + margin))))
    rows = slice(max(0, math.floor(top - margin)), max(0, min(shape[1], math.ceil(bottom + margin))))
    x = np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + 0.5
    if line is None:
        return _Area(rows, columns, _ellipse(box, x, y))
    half = line / 2
    outer = _span(left - half, right + half, x) * _span(top - half, bottom + half, y)
    inner = _span(left + half, right - half, x) * _span(top + half, bottom - half, y)
    return _Area(rows, columns, outer - inner)


def _span(low: float, high: float, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of each pixel that lies between two places."""
    share: NDArray[np.float32] = np.clip(np.minimum(x + 0.5, high) - np.maximum(x - 0.5, low), 0, 1)
    return share


def _ellipse(box: Box, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cover of each pixel from its distance to the outline: exact for circles, to first order for ellipses."""
    left, top, right, bottom = box
    a, b = max((right - left) / 2, 0.5), max((bottom - top) / 2, 0.5)
    u, v = (x - (left + right) / 2) / a, (y - (top + bottom) / 2) / b
    u2, v2 = u * u, v * v
    level = u2 + v2
    slope = np.sqrt(u2 / (a * a) + v2 / (b * b))
    root = np.sqrt(level)
    # Distance = (1 - root) / |gradient of root|, and that gradient is slope / root.
    inside = (root - level) / np.maximum(slope, np.float32(1e-6))
    cover: NDArray[np.float32] = np.clip(0.5 + inside + (root < 1e-3), 0, 1)
    return cover


def _lay(pixels: NDArray[np.uint8], area: _Area, ink: Colour, alpha: float) -> None:
    """Lays a colour on the pixels, in place."""
    patch = pixels[area.rows, area.columns]
    patch[...] = blend(patch, ink, (area.cover * np.float32(alpha))[..., None])


def _mean(pixels: NDArray[np.uint8], area: _Area) -> Floats:
    """Mean colour of the pixels that are covered."""
    total = float(area.cover.sum())
    if total < 1e-6:
        return np.full(3, 127.5)
    mean: Floats = np.tensordot(area.cover, pixels[area.rows, area.columns], axes=2) / total
    return mean


def _write(pixels: NDArray[np.uint8], number: int, point: Point, size: int, ground: Floats) -> None:
    """Writes a number around a point, moved inwards where the picture would cut it."""
    digits, rim = _glyphs(str(number), size)
    height, width = digits.shape
    top = max(0, min(pixels.shape[0] - height, math.floor(point[1] - height / 2 + 0.5)))
    left = max(0, min(pixels.shape[1] - width, math.floor(point[0] - width / 2 + 0.5)))
    light = float(ground @ _LUMA) < 127.5
    rows, columns = slice(top, min(pixels.shape[0], top + height)), slice(left, min(pixels.shape[1], left + width))
    for cover, ink in ((rim, _BLACK if light else _WHITE), (digits, _WHITE if light else _BLACK)):
        _lay(pixels, _Area(rows, columns, cover[: rows.stop - top, : columns.stop - left]), ink, 1.0)


@lru_cache(maxsize=4096)
def _glyphs(text: str, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cover of the digits and of their rim."""
    font = ImageFont.load_default(size)
    rim = max(1, round(size / 12))
    left, top, right, bottom = font.getbbox(text, stroke_width=rim)
    covers: list[NDArray[np.float32]] = []
    for stroke in (0, rim):
        canvas = Image.new("L", (math.ceil(right - left), math.ceil(bottom - top)))
        ImageDraw.Draw(canvas).text((-left, -top), text, fill=255, font=font, stroke_width=stroke)
        covers.append(np.asarray(canvas, dtype=np.float32) / np.float32(255))
    return covers[0], covers[1]
