"""The built-in model's pre-training scenes: objects, strokes, glyphs, textures and pairs, each with its questions.

No BlindTest puzzle is among them (nothing asks how often two lines cross, whether two circles touch, which letter is
circled, for rows and columns of a table, nested squares, interlaced rings or routes), so that fine-tuning on those
shows learning and not memory. Every function takes a ``random.Random`` and is a pure function of its state.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from canvas import (
    CANVAS,
    COLOURS,
    DARK_GROUND_COLOURS,
    SHAPES,
    VIEW,
    Point,
    Question,
    Scene,
    colour,
    draw_shape,
    finish,
    ground,
    percent,
    place,
    polygon,
    stroke,
    where,
)  # fmt: skip


def cell(p: Point) -> str:
    """A point in tenths of the picture: ``"3 7"`` is x in [0.3, 0.4), y in [0.7, 0.8)."""
    return " ".join(str(min(9, max(0, int(v * 10 / CANVAS)))) for v in p)


def plural(shape: str) -> str:
    """The plural of a shape's name."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def describe(parts: list[str]) -> Question:
    """The whole scene in one answer: dense supervision, without which the tower learns ten times slower."""
    return Question("describe", "Describe the picture.", "; ".join(parts) if parts else "nothing")


def _names(rng: random.Random, dark: bool, count: int) -> list[str]:
    return rng.sample(DARK_GROUND_COLOURS if dark else list(COLOURS), count)


def objects(rng: random.Random) -> Scene:
    """Filled shapes that do not touch: totals, counts of a colour or shape, existence, colour, place, pointing."""
    image, dark = ground(rng)
    draw = ImageDraw.Draw(image)
    palette = _names(rng, dark, rng.randint(1, 4))
    kinds = rng.sample(SHAPES, rng.randint(1, 4))
    count = rng.choice((0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9, 10))
    top = 34 if count <= 5 else 22
    radii = sorted((rng.uniform(11 if count > 5 else 14, top) for _ in range(count)), reverse=True)
    centres = place(rng, count, radii)
    if centres is None:
        return objects(rng)
    items = [(rng.choice(palette), rng.choice(kinds)) for _ in range(count)]
    for (name, kind), c, r in zip(items, centres, radii, strict=True):
        draw_shape(draw, rng, kind, c, r, colour(rng, name))
    listed = sorted(range(count), key=lambda i: (int(centres[i][1] * 5 / CANVAS), centres[i][0]))[:6]
    ask = [describe([f"{items[i][0]} {items[i][1]} {cell(centres[i])}" for i in listed])]
    ask.append(Question("total", "How many shapes are in the picture?", str(count)))
    name, kind = rng.choice(palette), rng.choice(kinds)
    ask.append(
        Question("count of a colour", f"How many {name} shapes are there?", str(sum(n == name for n, _ in items)))
    )
    ask.append(
        Question("count of a shape", f"How many {plural(kind)} are there?", str(sum(k == kind for _, k in items)))
    )
    other = rng.choice(list(COLOURS)) if rng.random() < 0.3 else name
    yes = any(n == other and k == kind for n, k in items)
    ask.append(Question("exists", f"Is there a {other} {kind}? Answer with Yes/No.", "Yes" if yes else "No"))
    singles = [i for i, it in enumerate(items) if items.count(it) == 1]
    if singles:
        i = rng.choice(singles)
        name, kind = items[i]
        ask.append(Question("place", f"Where is the {name} {kind}?", where(centres[i])))
        ask.append(Question("point", f"Point to the {name} {kind}.", percent(centres[i])))
        if sum(k == kind for _, k in items) == 1:
            ask.append(Question("colour", f"What colour is the {kind}?", name))
        if sum(n == name for n, _ in items) == 1:
            ask.append(Question("shape", f"What shape is {name}?", kind))
    if count >= 2:
        if radii[0] > radii[1] * 1.15:
            ask.append(Question("largest", "What colour is the largest shape?", items[0][0]))
        order = sorted(range(count), key=lambda i: centres[i][0])
        if centres[order[1]][0] - centres[order[0]][0] > 12:
            ask.append(Question("leftmost", "Which shape is leftmost?", " ".join(items[order[0]])))
        order = sorted(range(count), key=lambda i: centres[i][1])
        if centres[order[1]][1] - centres[order[0]][1] > 12:
            ask.append(Question("topmost", "Which shape is topmost?", " ".join(items[order[0]])))
        a, b = rng.sample(list(COLOURS), 2)
        na, nb = sum(n == a for n, _ in items), sum(n == b for n, _ in items)
        if na != nb:
            ask.append(Question("more", f"Are there more {a} or more {b} shapes?", a if na > nb else b))
    return Scene([image], ask)


def _height_at(points: list[Point], x: float) -> float:
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= x <= x1:
            return y0 + (y1 - y0) * (x - x0) / max(x1 - x0, 1e-9)
    raise ValueError(f"x = {x} lies outside the line")


def profiles(rng: random.Random) -> Scene:
    """Lines from the left to the right edge, like a chart: which is higher at a mark, above or below a dot, slope."""
    image, dark = ground(rng)
    draw = ImageDraw.Draw(image)
    count = rng.choice((1, 2, 2, 2, 2, 3))
    names = _names(rng, dark, count)
    if count == 2 and not dark and rng.random() < 0.4:
        names = rng.sample(("red", "blue"), 2)
    width = rng.choice((2, 2, 3, 3, 4, 6, 8))
    left, right = rng.uniform(0, 25), CANVAS - rng.uniform(0, 25)
    lines = []
    for name in names:
        inner = sorted(rng.uniform(left + 30, right - 30) for _ in range(rng.choice((0, 1, 1, 1, 2, 3))))
        if len(inner) == 1 and rng.random() < 0.5:
            inner = [(left + right) / 2]
        points = [(x, rng.uniform(6, CANVAS - 6)) for x in (left, *inner, right)]
        stroke(draw, points, colour(rng, name), width)
        lines.append(points)
    stops5 = [left + 1 + (right - left - 2) * k / 4 for k in range(5)]
    order = sorted(range(count), key=lambda i: names[i])
    ask = [
        describe(
            [f"{names[i]} " + " ".join(str(int(_height_at(lines[i], x) * 10 / CANVAS)) for x in stops5) for i in order]
        )
    ]
    if count >= 2:
        i, j = rng.sample(range(count), 2)
        stops = {"at the left end": left, "at the right end": right, "in the middle": (left + right) / 2}
        for words, x in stops.items():
            yi, yj = _height_at(lines[i], x), _height_at(lines[j], x)
            if abs(yi - yj) > 8:
                higher = names[i] if yi < yj else names[j]
                ask.append(Question("higher", f"Which line is higher {words}, {names[i]} or {names[j]}?", higher))
        x = rng.uniform(left + 10, right - 10)
        yi, yj = _height_at(lines[i], x), _height_at(lines[j], x)
        if abs(yi - yj) > 10 and rng.random() < 0.5:
            ink = (250, 250, 250) if dark else (60, 60, 60)
            draw.polygon(polygon((x, 216), 8, 3, -math.pi / 2), fill=ink)
            higher = names[i] if yi < yj else names[j]
            ask.append(
                Question("higher at a mark", f"Which line is higher above the mark, {names[i]} or {names[j]}?", higher)
            )
    k = rng.randrange(count)
    x = rng.uniform(left + 8, right - 8)
    y = _height_at(lines[k], x)
    away = rng.choice((-1, 1)) * rng.uniform(14, 60)
    if 8 < y + away < CANVAS - 8:
        ink = (255, 255, 255) if dark else (0, 0, 0)
        draw.ellipse((x - 5, y + away - 5, x + 5, y + away + 5), fill=ink)
        side = "above" if away < 0 else "below"
        ask.append(Question("above or below", f"Is the dot above or below the {names[k]} line?", side))
    first, last = lines[k][0][1], lines[k][-1][1]
    if abs(first - last) > 12:
        word = "up" if last < first else "down"
        ask.append(Question("slope", f"From left to right, does the {names[k]} line go up or down overall?", word))
    if rng.random() < 0.3:
        corners = str(len(lines[k]) - 2)
        ask.append(Question("corners", f"How many corners does the {names[k]} line have?", corners))
    return Scene([image], ask)


def strokes(rng: random.Random) -> Scene:
    """Loose strokes and curves: their number, colours, longest, steepness, ends, and a curve's touch with a disc."""
    image, dark = ground(rng)
    draw = ImageDraw.Draw(image)
    count = rng.randint(1, 6)
    width = rng.choice((2, 3, 4, 6, 9))
    names = [rng.choice(_names(rng, dark, 3)) for _ in range(count)]
    lines: list[list[Point]] = []
    for name in names:
        c = (rng.uniform(20, 204), rng.uniform(20, 204))
        half, turn = rng.uniform(22, 85), rng.uniform(0, math.pi)
        a = (c[0] - half * math.cos(turn), c[1] - half * math.sin(turn))
        b = (c[0] + half * math.cos(turn), c[1] + half * math.sin(turn))
        if not all(4 < v < CANVAS - 4 for v in (*a, *b)):
            a, b = ((min(220, max(4, p[0])), min(220, max(4, p[1]))) for p in (a, b))
        if rng.random() < 0.3:
            bend = (c[0] + rng.uniform(-50, 50), c[1] + rng.uniform(-50, 50))
            t = [k / 12 for k in range(13)]
            points = [
                (
                    (1 - s) ** 2 * a[0] + 2 * s * (1 - s) * bend[0] + s * s * b[0],
                    (1 - s) ** 2 * a[1] + 2 * s * (1 - s) * bend[1] + s * s * b[1],
                )
                for s in t
            ]
        else:
            points = [a, b]
        stroke(draw, points, colour(rng, name), width)
        lines.append(points)
    listed = sorted(range(count), key=lambda i: min(lines[i][0][0], lines[i][-1][0]))
    ask = [describe([f"{names[i]} " + " ".join(cell(p) for p in sorted((lines[i][0], lines[i][-1]))) for i in listed])]
    ask.append(Question("strokes", "How many strokes are there?", str(count)))
    lengths = [sum(math.dist(p, q) for p, q in pairwise(ln)) for ln in lines]
    order = sorted(range(count), key=lambda i: -lengths[i])
    if count > 1 and lengths[order[0]] > 1.25 * lengths[order[1]]:
        ask.append(Question("longest", "What colour is the longest stroke?", names[order[0]]))
    name = rng.choice(names)
    ask.append(Question("strokes of a colour", f"How many {name} strokes are there?", str(names.count(name))))
    solo = [i for i in range(count) if names.count(names[i]) == 1]
    if solo:
        i = rng.choice(solo)
        (x0, y0), (x1, y1) = lines[i][0], lines[i][-1]
        dx, dy = abs(x1 - x0), abs(y1 - y0)
        if max(dx, dy) > 1.6 * min(dx, dy):
            way = "horizontal" if dx > dy else "vertical"
            ask.append(Question("direction", f"Is the {names[i]} stroke more horizontal or more vertical?", way))
        end = max((lines[i][0], lines[i][-1]), key=lambda p: p[0])
        ask.append(Question("right end", f"Point to the right end of the {names[i]} stroke.", percent(end)))
        centre, r = (rng.uniform(40, 184), rng.uniform(40, 184)), rng.uniform(14, 34)
        near = min(_distance(centre, p, q) for p, q in pairwise(lines[i]))
        if abs(near - r) > 7:
            ink = (255, 255, 255) if dark else (70, 70, 70)
            draw.ellipse((centre[0] - r, centre[1] - r, centre[0] + r, centre[1] + r), outline=ink, width=4)
            hit = "Yes" if near < r else "No"
            ask.append(Question("passes through", f"Does the {names[i]} stroke pass through the ring?", hit))
    return Scene([image], ask)


def _distance(c: Point, p: Point, q: Point) -> float:
    """Distance of the point ``c`` to the segment from ``p`` to ``q``."""
    dx, dy = q[0] - p[0], q[1] - p[1]
    t = max(0.0, min(1.0, ((c[0] - p[0]) * dx + (c[1] - p[1]) * dy) / max(dx * dx + dy * dy, 1e-9)))
    return math.dist(c, (p[0] + t * dx, p[1] + t * dy))


def textures(rng: random.Random) -> Scene:
    """Stripes, gradients, dots and noise: direction, number, brighter side, dominant colour."""
    kind = rng.choice(("stripes", "gradient", "halves", "noise"))
    a, b = rng.sample([*COLOURS, "white"], 2)
    ca, cb = colour(rng, a), colour(rng, b)
    ask: list[Question] = []
    if kind == "stripes":
        n = rng.randint(2, 9)
        turn = rng.choice((0, 90, 45, 135))
        image = Image.new("RGB", (CANVAS * 2, CANVAS * 2), cb)
        draw = ImageDraw.Draw(image)
        step = CANVAS / n
        for k in range(-n, 3 * n):
            draw.rectangle((k * step, 0, k * step + step / 2, CANVAS * 2), fill=ca)
        half = CANVAS // 2
        image = image.rotate(turn, resample=Image.Resampling.BILINEAR).crop((half, half, half + CANVAS, half + CANVAS))
        word = {0: "vertical", 90: "horizontal"}.get(turn, "diagonal")
        ask.append(Question("stripes", "Are the stripes vertical, horizontal or diagonal?", word))
        if turn in (0, 90):
            ask.append(Question("number of stripes", f"How many {a} stripes are there?", str(n)))
    elif kind == "gradient":
        angle = rng.choice(("left", "right", "top", "bottom"))
        lo, hi = rng.uniform(0, 0.35), rng.uniform(0.5, 1.0)
        ramp = np.linspace(hi, lo, CANVAS)
        plane = np.tile(ramp, (CANVAS, 1))
        plane = {"left": plane, "right": plane[:, ::-1], "top": plane.T, "bottom": plane.T[::-1]}[angle]
        tint = np.array(ca if a != "black" else (255, 255, 255), dtype=float)
        image = Image.fromarray(np.clip(plane[..., None] * tint, 0, 255).astype(np.uint8))
        ask.append(Question("brighter side", "Which side is brightest: left, right, top or bottom?", angle))
    elif kind == "halves":
        share = rng.uniform(0.15, 0.85)
        image = Image.new("RGB", (CANVAS, CANVAS), ca)
        cut = int(CANVAS * share)
        box = (cut, 0, CANVAS, CANVAS) if rng.random() < 0.5 else (0, cut, CANVAS, CANVAS)
        ImageDraw.Draw(image).rectangle(box, fill=cb)
        if abs(share - 0.5) > 0.06:
            ask.append(Question("larger area", f"Which covers more, {a} or {b}?", a if share > 0.5 else b))
        ask.append(Question("exists", f"Is there a {a} area? Answer with Yes/No.", "Yes"))
    else:
        cells = rng.choice((4, 7, 8, 14, 16, 28, 56))
        share = rng.uniform(0.1, 0.9)
        mask = np.random.default_rng(rng.randrange(2**32)).random((cells, cells)) < share
        small = np.where(mask[..., None], np.array(ca, np.uint8), np.array(cb, np.uint8))
        image = Image.fromarray(small.astype(np.uint8)).resize((CANVAS, CANVAS), Image.Resampling.NEAREST)
        if abs(mask.mean() - 0.5) > 0.06:
            ask.append(Question("larger area", f"Which covers more, {a} or {b}?", a if mask.mean() > 0.5 else b))
        size = "fine" if cells > 15 else "coarse"
        ask.append(Question("grain", "Is the pattern fine or coarse?", size))
    return Scene([image], ask)


def _pair_side(rng: random.Random, kind: str, amount: float, size: int) -> Image.Image:
    """One side of a pair: ``amount`` in [0, 1] is the quality that is compared."""
    image = Image.new("RGB", (size, size), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    name = rng.choice(("red", "blue", "green", "black", "purple"))
    if kind == "more dots":
        n = 1 + round(amount * 14)
        r = size * 0.035
        spots: list[Point] = []
        for _ in range(800):
            if len(spots) == n:
                break
            p = (rng.uniform(r * 2, size - r * 2), rng.uniform(r * 2, size - r * 2))
            if all(math.dist(p, q) > 2.4 * r for q in spots):
                spots.append(p)
                draw.ellipse((p[0] - r, p[1] - r, p[0] + r, p[1] + r), fill=colour(rng, name))
    elif kind == "a larger shape":
        r = size * (0.06 + 0.36 * amount)
        c = (rng.uniform(r, size - r), rng.uniform(r, size - r))
        draw_shape(draw, rng, rng.choice(("circle", "square", "triangle", "star")), c, r, colour(rng, name))
    elif kind == "a longer line":
        half, turn = size * (0.05 + 0.4 * amount), rng.uniform(0, math.pi)
        c = (size / 2 + rng.uniform(-6, 6), size / 2 + rng.uniform(-6, 6))
        d = (half * math.cos(turn), half * math.sin(turn))
        stroke(draw, [(c[0] - d[0], c[1] - d[1]), (c[0] + d[0], c[1] + d[1])], colour(rng, name), size * 0.025)
    elif kind == "a brighter ground":
        level = int(20 + 230 * amount)
        draw.rectangle((0, 0, size, size), fill=(level, level, level))
        draw_shape(draw, rng, rng.choice(SHAPES), (rng.uniform(40, size - 40),) * 2, size * 0.12, colour(rng, name))
    else:  # a steeper line
        turn = amount * math.pi / 2 * rng.choice((-1, 1))
        half = size * rng.uniform(0.25, 0.42)
        c, d = (size / 2, size / 2), (half * math.cos(turn), half * math.sin(turn))
        stroke(draw, [(c[0] - d[0], c[1] - d[1]), (c[0] + d[0], c[1] + d[1])], colour(rng, name), size * 0.025)
    return image


PAIR_KINDS = ("more dots", "a larger shape", "a longer line", "a brighter ground", "a steeper line")


def pairs(rng: random.Random, two: bool = True) -> Scene:
    """Two sides that differ in one quality. ``two`` gives two pictures, else one picture with both side by side."""
    kind = rng.choice(PAIR_KINDS)
    similar = rng.random() < 1 / 3
    a = rng.random()
    b = a if similar else rng.random()
    while not similar and abs(a - b) < 0.14:
        a, b = rng.random(), rng.random()
    answer = "Similar" if similar else ("First" if a > b else "Second")
    text = f"Which has {kind}, First or Second, or are they Similar?"
    if two:
        sides = [_pair_side(rng, kind, v, CANVAS) for v in (a, b)]
        return Scene(sides, [Question(f"pair: {kind}", text, answer)])
    image = Image.new("RGB", (CANVAS, CANVAS), (255, 255, 255))
    for k, v in enumerate((a, b)):
        image.paste(_pair_side(rng, kind, v, 108), (k * 116, 58))
    ImageDraw.Draw(image).line((112, 50, 112, 174), fill=(0, 0, 0), width=2)
    return Scene([image], [Question(f"pair in one: {kind}", text, answer)])


def pair_in_one(rng: random.Random) -> Scene:
    """``pairs`` side by side in one picture."""
    return pairs(rng, two=False)


#: How scenes are made, and how often, by the name of their family.
Families = dict[str, tuple[Callable[[random.Random], Scene], float]]


def make(rng: random.Random, families: Families, view: int = VIEW) -> Scene:
    """A scene of a family chosen by weight, its pictures ``view`` pixels wide; one without a question is drawn again."""
    names = list(families)
    while True:
        family = families[rng.choices(names, [families[n][1] for n in names])[0]][0]
        scene = family(rng)
        if scene.questions:
            images = [im(view) if callable(im) else finish(rng, im, view) for im in scene.images]
            return Scene(images, scene.questions, scene.maps(view) if scene.maps else None)
