"""Polygons and other annotations drawn as masks.

ReasonSeg's ground truth is what its authors' code makes of its polygons (``utils/data_processing.py`` of LISA,
https://github.com/dvlab-research/LISA), and its published figures are measured against that. The rules are in
``rasterise``. Lines and fills are Pillow's, which differ from those of OpenCV, which that code uses, by a few pixels of
the outline.

COCO's polygons are drawn as its own tools draw them, without outline and pixel for pixel (``fill``): results on RefCOCO
are measured against those masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from foveal.errors import UserError
from foveal.tasks.segmentation.objects import IGNORE, Mask
from foveal.tasks.segmentation.rle import area, box, decode

Points = tuple[tuple[float, float], ...]
#: Coordinates beyond this are no slip of the pen at the picture's edge but damage, and would take long to draw.
FARTHEST: Final = 100_000


@dataclass(frozen=True)
class Shape:
    """An annotated outline.

    Attributes:
        label: What it is: ``flag`` is not drawn, with ``ignore`` in it (in any case) it is ignored, all else is meant.
        points: Its corners in pixels of the picture; the last one is joined to the first. They may lie outside of the
            picture. Two make a line, one a dot.

    Raises:
        UserError: There are no points, or one is not finite or is farther than ``FARTHEST`` from the origin.
    """

    label: str
    points: Points

    def __post_init__(self) -> None:
        if not self.points:
            raise UserError(f"the shape {self.label!r} has no points; draw it or remove it.")
        for x, y in self.points:
            # A comparison with nan is false.
            if not (abs(x) <= FARTHEST and abs(y) <= FARTHEST):
                raise UserError(
                    f"the shape {self.label!r} has a point at ({x}, {y}), which is no place in a picture; correct or "
                    "remove it."
                )

    @property
    def sides(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The x and the y of all corners."""
        return tuple(x for x, _ in self.points), tuple(y for _, y in self.points)

    def is_outside(self, size: tuple[int, int]) -> bool:
        """Whether not even the rectangle around it, as it is drawn, touches a picture of this width and height."""
        return any(
            max(map(int, along)) < 0 or min(map(int, along)) >= side
            for along, side in zip(self.sides, size, strict=True)
        )

    @property
    def is_flag(self) -> bool:
        """Whether it only marks the annotation and is never drawn."""
        return self.label.lower() == "flag"

    @property
    def is_ignored(self) -> bool:
        """Whether its pixels are neither target nor background."""
        return "ignore" in self.label.lower()


def rasterise(shapes: Sequence[Shape], size: tuple[int, int]) -> Mask:
    """The mask that shapes make together, as ReasonSeg's evaluation draws it.

    Shapes labelled ``flag`` are left out. Coordinates are cut to whole numbers towards zero and name pixels. A shape is
    what it encloses by the even-odd rule together with its outline, one pixel wide. Shapes are painted from the one with
    most pixels in the picture to the one with fewest, so that small ones lie on large ones; of equal ones the first in
    the list lies on top. Those with ``ignore`` in their label are painted with 255, all others with 1.

    Args:
        shapes: In the order of the file.
        size: Width and height of the picture in pixels.

    Returns:
        [H, W] of 0, 1 and 255.
    """
    return _paint([(shape, _draw(shape.points, size)) for shape in shapes if not shape.is_flag], size)


@dataclass(frozen=True)
class PolygonTarget:
    """What polygons enclose.

    Attributes:
        size: Width and height of the picture in pixels.
        shapes: In the order of the file.
    """

    size: tuple[int, int]
    shapes: tuple[Shape, ...]

    def whole(self) -> Mask:
        """See ``rasterise``."""
        return rasterise(self.shapes, self.size)

    def parts(self) -> Sequence[Mask]:
        """Each shape that is neither flag nor ignored, see ``Target``.

        A part is the shape's own fill and outline, also where another part lies on it, without the pixels that are
        ignored in ``whole``. What has no pixel left is left out.
        """
        painted = [(shape, _draw(shape.points, self.size)) for shape in self.shapes if not shape.is_flag]
        ignored = _paint(painted, self.size) == IGNORE
        masks = [(drawn & ~ignored).astype(np.uint8) for shape, drawn in painted if not shape.is_ignored]
        return _from_left_to_right(masks)


@dataclass(frozen=True)
class RleTarget:
    """Masks as run lengths, one for each object.

    Attributes:
        size: Width and height of the picture in pixels.
        rles: See ``rle.decode``; each of the picture's size. They may overlap.

    Raises:
        UserError: One is malformed or has another size than the picture.
    """

    size: tuple[int, int]
    rles: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        for number, rle in enumerate(self.rles, 1):
            area(rle, name=f"mask {number}")
            if (rle["size"][1], rle["size"][0]) != tuple(self.size):
                raise UserError(
                    f"mask {number}: has {rle['size'][1]} x {rle['size'][0]} pixels and its picture {self.size[0]} x "
                    f"{self.size[1]}; give the mask of this picture at its original size."
                )

    def whole(self) -> Mask:
        """The union of the masks, [H, W] of 0 and 1."""
        mask = np.zeros((self.size[1], self.size[0]), dtype=np.uint8)
        for rle in self.rles:
            mask |= decode(rle)
        return mask

    def parts(self) -> Sequence[Mask]:
        """Each mask, without those that are empty, see ``Target``."""
        return _from_left_to_right([decode(rle).astype(np.uint8) for rle in self.rles])


def _draw(points: Points, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill and outline of a polygon where it lies in the picture, [H, W]."""
    corners = [(int(x), int(y)) for x, y in points]
    canvas = Image.new("L", size)
    draw = ImageDraw.Draw(canvas)
    # Pillow's fill of a line is wider than the line.
    if len(set(corners)) > 2:
        draw.polygon(corners, fill=1)
    # Pillow leaves out an outline that has the colour of the fill, so it is drawn as a line.
    draw.line([*corners, corners[0]], fill=1)
    drawn: NDArray[np.bool_] = np.asarray(canvas) != 0
    return drawn


def _paint(painted: Sequence[tuple[Shape, NDArray[np.bool_]]], size: tuple[int, int]) -> Mask:
    """Lays shapes on each other, large ones first; of equal ones the last in the list first."""
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    for number in sorted(range(len(painted)), key=lambda k: (int(painted[k][1].sum()), k), reverse=True):
        shape, drawn = painted[number]
        mask[drawn] = IGNORE if shape.is_ignored else 1
    return mask


def _from_left_to_right(masks: Iterable[Mask]) -> list[Mask]:
    """The masks that are not empty, by the left edges of their boxes and then by their tops."""
    placed = [(bounds[:2], mask) for mask in masks if (bounds := box(mask)) is not None]
    return [mask for _, mask in sorted(placed, key=lambda one: one[0])]


#: Corners are rounded to so many places along each pixel.
FINE: Final = 5
_Corners = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class CocoTarget:
    """What the polygons of one COCO annotation enclose together.

    Attributes:
        size: Width and height of the picture in pixels.
        polygons: The corners of each in pixels; the last one is joined to the first.
    """

    size: tuple[int, int]
    polygons: tuple[_Corners, ...]

    def whole(self) -> Mask:
        """The union of the polygons, [H, W] of 0 and 1."""
        mask = np.zeros((self.size[1], self.size[0]), dtype=np.uint8)
        for corners in self.polygons:
            mask |= fill(corners, self.size)
        return mask

    def parts(self) -> Sequence[Mask]:
        """The same, or nothing where it is empty: an annotation is one object, however many polygons it has."""
        mask = self.whole()
        return [mask] if mask.any() else []


def fill(corners: _Corners, size: tuple[int, int]) -> Mask:
    """The pixels whose middle a polygon encloses by the even-odd rule.

    The rules are those of ``rleFrPoly`` in https://github.com/cocodataset/cocoapi, ``common/maskApi.c``. Corners and edges
    are first laid on a grid of ``FINE`` places along each pixel; where the edge of the polygon passes
    a middle by less than that, the grid decides.

    Args:
        corners: In pixels, three or more; the last one is joined to the first. They may lie outside of the picture.
        size: Width and height of the picture in pixels.

    Returns:
        [H, W] of 0 and 1.
    """
    width, height = size
    # Cut towards zero, as a cast to int in C does.
    grid = (np.asarray(corners, dtype=np.float64) * FINE + 0.5).astype(np.int64)
    edges = [_crossings(start, end) for start, end in pairwise([*grid, grid[0]])]
    columns, rows = (np.concatenate(parts) for parts in zip(*edges, strict=True))
    inside = (columns >= 0) & (columns < width)
    changes = np.zeros((height + 1, width), dtype=np.uint8)
    np.bitwise_xor.at(changes, (np.clip(rows[inside], 0, height), columns[inside]), 1)
    return np.bitwise_xor.accumulate(changes[:height], axis=0)


def _crossings(start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where an edge on the grid crosses the middles of columns: these, and the first row whose middle lies below it."""
    along = int(abs(end[1] - start[1]) > abs(end[0] - start[0]))  # the axis with a grid place for each step
    if start[along] > end[along]:
        start, end = end, start
    steps = np.arange(end[along] - start[along] + 1)
    if steps.size == 1:  # two corners on one place of the grid
        return steps[:0], steps[:0]
    slope = (end[1 - along] - start[1 - along]) / (end[along] - start[along])
    across = (start[1 - along] + slope * steps + 0.5).astype(np.int64)
    x, y = (across, start[1] + steps) if along else (start[0] + steps, across)
    left, top = np.minimum(x[1:], x[:-1]), np.minimum(y[1:], y[:-1])
    middle = (x[1:] != x[:-1]) & (left % FINE == FINE // 2)
    # A place below the middle of its row belongs to the next one.
    return left[middle] // FINE, -((FINE // 2 - top[middle]) // FINE)
