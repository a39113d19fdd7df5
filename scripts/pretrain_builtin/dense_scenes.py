"""Scenes for the tower's dense stage: what lies on each patch of a picture, so that every patch is a lesson.

Each family draws one kind of content and writes its truth into ``Maps``. Figures are those of the counting and segmentation
scenes, from other seeds; no puzzle of BlindTest is among them. Coordinates are sides of the picture.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import glyphs
from canvas import COLOURS as INKS
from canvas import SHAPES as PLAIN_SHAPES
from canvas import colour as ink_of
from canvas import draw_shape, polygon
from foveal.drawing.figures import COLOURS, SHAPES, Figure, drawn, make_ground
from foveal.tasks.counting.pointing import CELLS
from foveal.tasks.scenes.placing import Places

Point = tuple[float, float]
#: Names of one shape in the two sets of figures.
_SAME = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "cross": "crosses",
    "ring": "rings",
}
SHAPE_NAMES = (*SHAPES, "bars", "pentagons", "hexagons", "outlined squares", "ellipses")
COLOUR_NAMES = (*COLOURS, "gray", "white", "cyan", "brown")
GLYPHS = glyphs.DIGITS + glyphs.LETTERS
#: Yes or no at each patch: a figure's middle; that it is marked; a stroke; two strokes crossing; an end; a corner; a glyph.
BITS = ("centre", "marked", "stroke", "crossing", "end", "corner", "glyph")
#: One of several at each patch, with the number of choices. ``owner`` is the shape of the figure that covers the patch,
#: ``glyph`` the character with most ink in it, ``column`` and ``row`` the cell of a figure's middle as counting writes it:
#: without them, the states of patches tell what is there and not where in the picture.
CLASSES = {
    "shape": len(SHAPE_NAMES), "colour": len(COLOUR_NAMES), "owner": len(SHAPE_NAMES) + 1, "owner_colour": len(COLOUR_NAMES) + 1,
    "direction": 12, "glyph": len(GLYPHS), "column": CELLS, "row": CELLS,
}  # fmt: skip
#: Numbers at a figure's middle: its place in the patch, in patches, and the logarithm of ten times its radius.
VALUES = ("dx", "dy", "size")
NONE = -100
#: More inks for strokes and outlines, beside those of the figures.
_MORE = {"gray": (130, 130, 130), "white": (245, 245, 245), "cyan": (20, 200, 220), "brown": (130, 80, 40)}


class Maps:
    """What is true of each of ``side`` x ``side`` patches; what nothing is known of is not learned.

    Attributes:
        bits: [patches, len(BITS)] of 0, 1 and NaN.
        classes: [patches, len(CLASSES)] of indices and ``NONE``.
        values: [patches, len(VALUES)], NaN where there is none.
        part: [patches] of the number of the thing that covers a patch, 0 for the ground, ``NONE`` where several do.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        n = side * side
        self.bits = np.full((n, len(BITS)), np.nan, np.float32)
        self.classes = np.full((n, len(CLASSES)), NONE, np.int64)
        self.values = np.full((n, len(VALUES)), np.nan, np.float32)
        self.part = np.full(n, NONE, np.int64)

    def at(self, x: float, y: float) -> int:
        """The patch of a point."""
        last = self.side - 1
        return min(last, max(0, int(y * self.side))) * self.side + min(last, max(0, int(x * self.side)))

    def known(self, *bits: str) -> None:
        """Says that these bits are 0 wherever nothing else is written."""
        for bit in bits:
            self.bits[:, BITS.index(bit)] = 0

    def put(self, bit: str, x: float, y: float) -> int:
        """Writes a bit at a point; returns its patch."""
        patch = self.at(x, y)
        self.bits[patch, BITS.index(bit)] = 1
        return patch

    def choose(self, name: str, patches: int | NDArray[np.intp], value: int) -> None:
        """Writes a class at patches."""
        self.classes[patches, list(CLASSES).index(name)] = value

    def centre(self, x: float, y: float, radius: float, shape: str, colour: str) -> int:
        """Writes a figure's middle. Of two in one patch the later one counts; returns the patch."""
        patch = self.put("centre", x, y)
        self.choose("shape", patch, SHAPE_NAMES.index(shape))
        self.choose("colour", patch, COLOUR_NAMES.index(colour))
        self.choose("column", patch, min(CELLS - 1, int(x * CELLS)))
        self.choose("row", patch, min(CELLS - 1, int(y * CELLS)))
        row, column = divmod(patch, self.side)
        self.values[patch] = x * self.side - column - 0.5, y * self.side - row - 0.5, math.log(10 * radius)
        return patch


def shares(layer: Image.Image, side: int, count: int) -> NDArray[np.float32]:
    """How much of each patch each number of an "L" picture covers.

    Returns:
        [patches, count] of shares, which sum to 1.
    """
    a = np.asarray(layer)
    k = a.shape[0] // side
    blocks = a.reshape(side, k, side, k).swapaxes(1, 2).reshape(side * side, k * k)
    return np.stack([(blocks == i).mean(1, dtype=np.float32) for i in range(count)], 1)


def _owners(maps: Maps, layer: Image.Image, kinds: list[tuple[str, str]]) -> None:
    """Writes which thing covers most of each patch; numbers of the layer are 1 and more, in the order of ``kinds``."""
    share = shares(layer, maps.side, len(kinds) + 1)
    most, best = share.argmax(1), share.max(1)
    shape = np.array([0, *(1 + SHAPE_NAMES.index(s) for s, _ in kinds)])
    colour = np.array([0, *(1 + COLOUR_NAMES.index(c) for _, c in kinds)])
    clear = best > 0.55
    names = list(CLASSES)
    maps.classes[clear, names.index("owner")] = shape[most[clear]]
    maps.classes[clear, names.index("owner_colour")] = colour[most[clear]]
    maps.part[clear] = most[clear]


def figures(rng: random.Random, size: int, side: int) -> tuple[Image.Image, Maps]:
    """Figures on a ground, sparse or crowded, often of few shapes and colours, now and then with marks on some."""
    count = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 18, 24))
    largest = rng.uniform(0.05, 0.13) if count > 6 else rng.uniform(0.06, 0.2)
    largest = min(largest, math.sqrt(0.33 / max(1, count) / math.pi) * 1.2)
    shapes, colours = (
        rng.sample(list(SHAPES), rng.choice((1, 2, 3, 8))),
        rng.sample(list(COLOURS), rng.choice((1, 2, 3, 8))),
    )
    places = Places(rng.choice((0.0, 0.25)), 0.01, stacked=True)
    for _ in range(count):
        shape = rng.choice(shapes)
        radius = largest / rng.uniform(1, 1.5)
        swing = math.radians(SHAPES[shape].swing)
        figure = Figure(shape, rng.choice(colours), 0.5, 0.5, radius, rng.uniform(-swing, swing))
        places.put(figure, (places.anywhere(rng, figure.reach) for _ in range(40)))
    image = drawn(make_ground(rng), places.figures, size)
    maps = figure_maps(places.figures, size, side)
    if places.figures and rng.random() < 0.4:
        image = _marks(rng, image, places.figures, maps)
    return image, maps


def figure_maps(shown: Sequence[Figure], size: int, side: int) -> Maps:
    """The maps of a picture of figures without marks."""
    maps = Maps(side)
    maps.known(*BITS)
    layer = Image.new("L", (size, size), 0)
    canvas = ImageDraw.Draw(layer)
    for i, f in enumerate(shown):
        left, top, right, bottom = f.box
        # The middle that counting points at: that of a triangle's box is not the middle of its circle.
        maps.centre((left + right) / 2, (top + bottom) / 2, f.radius, f.shape, f.colour)
        f.cover(canvas, size, i + 1)
    _owners(maps, layer, [(f.shape, f.colour) for f in shown])
    return maps


def _marks(rng: random.Random, image: Image.Image, shown: list[Figure], maps: Maps) -> Image.Image:
    """Lays a half-clear disc on some figures, as counting marks what is counted."""
    size = image.width
    tint = rng.choice([fill for fill, _ in COLOURS.values()] + [(0, 255, 255)] * 2)
    alpha, scale = rng.choice((0.2, 0.3, 0.4, 0.5, 0.8)), rng.uniform(1.1, 1.7)
    veil = Image.new("L", (size * 2, size * 2), 0)
    canvas = ImageDraw.Draw(veil)
    for f in shown:
        if rng.random() < 0.5:
            x, y = ((v + rng.uniform(-0.2, 0.2) * f.radius) * size * 2 for v in (f.x, f.y))
            r = f.radius * scale * size * 2 * 0.8
            canvas.ellipse((x - r, y - r, x + r, y + r), fill=round(255 * alpha))
            left, top, right, bottom = f.box
            maps.put("marked", (left + right) / 2, (top + bottom) / 2)
    return Image.composite(Image.new("RGB", image.size, tint), image, veil.reduce(2))


def _turned(points: list[Point], x: float, y: float, turn: float, wide: float, high: float) -> list[Point]:
    c, s = math.cos(turn), math.sin(turn)
    return [(x + a * wide * c - b * high * s, y + a * wide * s + b * high * c) for a, b in points]


def _ground(rng: random.Random, size: int) -> tuple[Image.Image, bool]:
    """White, a pale or patterned ground, or a dark one; and whether it is dark."""
    u = rng.random()
    if u < 0.5:
        return Image.new("RGB", (size, size), (255, 255, 255)), False
    if u < 0.8:
        return drawn(make_ground(rng), [], size), False
    level = rng.randint(0, 45)
    return Image.new("RGB", (size, size), (level, level, level)), True


def _ink(rng: random.Random, dark: bool) -> tuple[str, tuple[int, int, int]]:
    names = (
        ("red", "yellow", "orange", "green", "pink", "white", "cyan")
        if dark
        else tuple(n for n in COLOUR_NAMES if n != "white")
    )
    name = rng.choice(names)
    if name in INKS and name not in ("gray", "black") and rng.random() < 0.5:
        return name, ink_of(rng, name)
    base = COLOURS[name][0] if name in COLOURS else _MORE[name]
    return name, tuple(min(255, max(0, v + rng.randint(-14, 14))) for v in base)  # type: ignore[return-value]


def outlines(rng: random.Random, size: int, side: int) -> tuple[Image.Image, Maps]:
    """Plain and outlined shapes of many sizes, which may touch, overlap or lie in each other; also nested and in rows."""
    fine = 2
    image, dark = _ground(rng, size * fine)
    draw, maps = ImageDraw.Draw(image), Maps(side)
    maps.known("centre", "stroke", "glyph", "end", "marked")
    strokes = Image.new("L", (size, size), 0)
    lines = ImageDraw.Draw(strokes)
    filled = rng.random() < 0.35
    width = rng.choice((1, 2, 3, 4, 6)) / 112
    name, ink = _ink(rng, dark)
    one = rng.random() < 0.5
    shape = rng.choice(
        ("circle", "square", "triangle", "star", "cross", "diamond", "pentagons", "hexagons", "bar", "ellipses")
    )
    for _ in range(rng.randint(1, 8)):
        if not one:
            name, ink = _ink(rng, dark)
        if rng.random() < 0.4:
            shape = rng.choice(("circle", "square", "triangle", "pentagons", "hexagons", "ellipses"))
        r = rng.uniform(0.05, 0.28)
        x, y = rng.uniform(r, 1 - r), rng.uniform(r, 1 - r)
        s = size * fine
        if filled and shape in PLAIN_SHAPES:
            draw_shape(draw, rng, shape, (x * s, y * s), r * s, ink)
            maps.centre(x, y, r, {"bar": "bars", "diamond": "diamonds"}.get(shape, _SAME.get(shape, "")), name)
            continue
        if shape in ("circle", "ellipses"):
            tall = r if shape == "circle" else r * rng.uniform(0.4, 0.75)
            corners = [(math.cos(k * math.pi / 16), math.sin(k * math.pi / 16)) for k in range(32)]
            points = _turned(corners, x, y, rng.uniform(0, math.pi), r, tall)
            kind = "rings" if shape == "circle" else "ellipses"
        else:
            sides = {"triangle": 3, "pentagons": 5, "hexagons": 6}.get(shape, 4)
            turn = (
                rng.uniform(0, 2 * math.pi) if rng.random() < 0.4 else -math.pi / 2 + (math.pi / 4 if sides == 4 else 0)
            )
            points = polygon((x, y), r, sides, turn)
            kind = {3: "triangles", 4: "outlined squares", 5: "pentagons", 6: "hexagons"}[sides]
        closed = [*points, points[0], points[1]]
        if filled:
            draw.polygon([(a * s, b * s) for a, b in points], fill=ink)
        else:
            draw.line([(a * s, b * s) for a, b in closed], fill=ink, width=max(1, round(width * s)), joint="curve")
            _direction(lines, closed[:-1], size, width)
        maps.centre(x, y, r, kind, name)
    _directions(maps, strokes)
    return image.reduce(fine), maps


def _direction(canvas: ImageDraw.ImageDraw, points: list[Point], size: int, width: float) -> None:
    """Draws each piece of a line with the number of its direction, one of twelve, above 0."""
    for (ax, ay), (bx, by) in pairwise(points):
        angle = math.atan2(by - ay, bx - ax) % math.pi
        number = 1 + int(angle / math.pi * 12 + 0.5) % 12
        canvas.line((ax * size, ay * size, bx * size, by * size), fill=number, width=max(1, round(width * size)))


def _directions(maps: Maps, layer: Image.Image) -> None:
    """Writes where strokes are, and their direction where there is one."""
    share = shares(layer, maps.side, 13)
    there = share[:, 1:].sum(1)
    maps.bits[there > 0.02, BITS.index("stroke")] = 1
    maps.bits[(there > 0) & (there <= 0.02), BITS.index("stroke")] = np.nan
    main = share[:, 1:].max(1)
    maps.classes[(there > 0.02) & (main > 0.8 * there), list(CLASSES).index("direction")] = (share[:, 1:].argmax(1))[
        (there > 0.02) & (main > 0.8 * there)
    ]


def crossing(a: Point, b: Point, c: Point, d: Point) -> Point | None:
    """Where two segments cross inside both; None where they do not."""
    rx, ry, sx, sy = b[0] - a[0], b[1] - a[1], d[0] - c[0], d[1] - c[1]
    det = rx * sy - ry * sx
    if abs(det) < 1e-9:
        return None
    t, u = ((c[0] - a[0]) * sy - (c[1] - a[1]) * sx) / det, ((c[0] - a[0]) * ry - (c[1] - a[1]) * rx) / det
    return (a[0] + t * rx, a[1] + t * ry) if 0 <= t <= 1 and 0 <= u <= 1 else None


def _polyline(rng: random.Random) -> list[Point]:
    """A straight, bent, curved or stepped line of at least two points."""
    kind = rng.random()
    m = 0.04
    if kind < 0.35:  # across the picture, like in a chart
        xs = sorted(
            [
                rng.uniform(m, 0.2),
                rng.uniform(0.8, 1 - m),
                *(rng.uniform(0.2, 0.8) for _ in range(rng.choice((0, 1, 1, 2, 3)))),
            ]
        )
        points = [(x, rng.uniform(m, 1 - m)) for x in xs]
    elif kind < 0.55:  # along a lattice, in right angles
        n = rng.randint(5, 16)
        x, y = rng.randrange(n), rng.randrange(n)
        points = [((x + 0.5) / n, (y + 0.5) / n)]
        for _ in range(rng.randint(1, 6)):
            if rng.random() < 0.5:
                x = rng.randrange(n)
            else:
                y = rng.randrange(n)
            points.append(((x + 0.5) / n, (y + 0.5) / n))
        points = [p for i, p in enumerate(points) if i == 0 or p != points[i - 1]]
        if len(points) < 2:
            return _polyline(rng)
    else:
        points = [(rng.uniform(m, 1 - m), rng.uniform(m, 1 - m)) for _ in range(2 if kind < 0.85 else 3)]
        if kind > 0.85:
            (ax, ay), (bx, by), (cx, cy) = points
            ts = [k / 12 for k in range(13)]
            points = [
                (
                    (1 - t) ** 2 * ax + 2 * t * (1 - t) * bx + t * t * cx,
                    (1 - t) ** 2 * ay + 2 * t * (1 - t) * by + t * t * cy,
                )
                for t in ts
            ]
    return points


def strokes(rng: random.Random, size: int, side: int) -> tuple[Image.Image, Maps]:
    """Lines of all kinds: where they run and in which direction and colour, cross, bend and end, and which is which."""
    fine = 2
    image, dark = _ground(rng, size * fine)
    draw, maps = ImageDraw.Draw(image), Maps(side)
    maps.known("centre", "stroke", "crossing", "end", "corner", "glyph", "marked")
    way, owner = Image.new("L", (size, size), 0), Image.new("L", (size, size), 0)
    ways, owners = ImageDraw.Draw(way), ImageDraw.Draw(owner)
    width = rng.choice((1, 1, 1.5, 2, 3, 4)) / 112
    lines = [_polyline(rng) for _ in range(rng.choice((1, 2, 2, 2, 3, 4, 6)))]
    inks = [_ink(rng, dark) for _ in lines]
    s = size * fine
    for i, (points, (_, ink)) in enumerate(zip(lines, inks, strict=True)):
        draw.line([(x * s, y * s) for x, y in points], fill=ink, width=max(1, round(width * s)), joint="curve")
        _direction(ways, points, size, width)
        owners.line([(x * size, y * size) for x, y in points], fill=i + 1, width=max(1, round(width * size)))
        for p in (points[0], points[-1]):
            maps.put("end", *p)
        for (ax, ay), (bx, by), (cx, cy) in zip(points, points[1:], points[2:], strict=False):
            turn = abs(math.remainder(math.atan2(cy - by, cx - bx) - math.atan2(by - ay, bx - ax), 2 * math.pi))
            if turn > 0.35:
                maps.put("corner", bx, by)
    for one, other in combinations(range(len(lines)), 2):
        for (a, b), (c, d) in ((p, q) for p in pairwise(lines[one]) for q in pairwise(lines[other])):
            point = crossing(a, b, c, d)
            if point is not None:
                maps.put("crossing", *point)
    _directions(maps, way)
    share = shares(owner, side, len(lines) + 1)[:, 1:]
    there, main = share.sum(1), share.max(1)
    clear = (there > 0.02) & (main > 0.95 * there)
    maps.part[clear] = 1 + share.argmax(1)[clear]
    colours = np.array([1 + COLOUR_NAMES.index(name) for name, _ in inks])
    maps.classes[clear, list(CLASSES).index("owner_colour")] = colours[share.argmax(1)[clear]]
    return image.reduce(fine), maps


def letters(rng: random.Random, size: int, side: int) -> tuple[Image.Image, Maps]:
    """Printed and drawn characters: one large one, a word, or some anywhere; each patch of a character knows which it is."""
    maps = Maps(side)
    maps.known("glyph", "centre", "marked")
    level = rng.randint(0, 60) if rng.random() < 0.35 else rng.randint(215, 255)
    image = Image.new("RGB", (size, size), (level,) * 3)
    boxes: list[tuple[float, float, float]] = []
    layout = rng.random()
    if layout < 0.3:
        side_of = rng.uniform(0.4, 1.0)
        boxes = [(rng.uniform(0, 1 - side_of), rng.uniform(0, 1 - side_of), side_of)]
    elif layout < 0.7:
        n = rng.randint(3, 12)
        step = 0.96 / n
        y, s = rng.uniform(0.02, 0.98 - min(0.9, 1.6 * step)), min(0.9, step * rng.uniform(1.1, 1.6))
        boxes = [(0.02 + k * step + (step - s) / 2, y, s) for k in range(n)]
    else:
        n = rng.randint(2, 5)
        cells = rng.sample([(i, j) for i in range(n) for j in range(n)], rng.randint(1, min(12, n * n)))
        boxes = [((i + rng.uniform(0, 0.15)) / n, (j + rng.uniform(0, 0.15)) / n, 0.85 / n) for i, j in cells]
    name, ink = _ink(rng, level < 128)
    layer, texts = Image.new("L", (size, size), 0), [rng.choice(GLYPHS) for _ in boxes]
    for number, ((x, y, s), text) in enumerate(zip(boxes, texts, strict=True), 1):
        pixels = max(8, round(s * size))
        if text in glyphs.DIGITS and rng.random() < 0.5:
            mask = glyphs._drawn_digit(rng, text, pixels * 2, rng.uniform(0.05, 0.14) * pixels * 2).reduce(2)
        else:
            mask = glyphs._printed(rng, text, pixels * 2).reduce(2)
        if rng.random() < 0.2:
            name, ink = _ink(rng, level < 128)
        place = (round(x * size), round(y * size))
        image.paste(Image.new("RGB", mask.size, ink), place, mask)
        layer.paste(number, place, mask.point([0] * 100 + [255] * 156))
        box = mask.getbbox()
        if box is None:
            continue
        middle = ((place[0] + (box[0] + box[2]) / 2) / size, (place[1] + (box[1] + box[3]) / 2) / size)
        if 0 <= middle[0] < 1 and 0 <= middle[1] < 1:
            maps.choose("colour", maps.put("glyph", *middle), COLOUR_NAMES.index(name))
    share = shares(layer, side, len(boxes) + 1)[:, 1:]
    there = share.sum(1) > 0.04
    which = np.array([GLYPHS.index(text) for text in texts])[share.argmax(1)]
    maps.classes[there, list(CLASSES).index("glyph")] = which[there]
    return image, maps


#: How pictures are made, and how often.
FAMILIES = {figures: 0.5, outlines: 0.12, strokes: 0.22, letters: 0.16}


def make(rng: random.Random, size: int, side: int) -> tuple[Image.Image, Maps]:
    """A picture of ``size`` pixels and its maps of ``side`` x ``side`` patches."""
    return rng.choices(list(FAMILIES), list(FAMILIES.values()))[0](rng, size, side)
