"""What every synthetic pre-training scene is drawn with: a canvas, named colours, grounds, shapes and strokes.

Coordinates are pixels of the 224 x 224 drawing canvas, x to the right and y downwards. ``finish`` shrinks it to the
pixels that the built-in model sees, so that every edge is anti-aliased as in a resized photograph.
"""

from __future__ import annotations

import colorsys
import math
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]
CANVAS = 224
VIEW = 112
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (235, 20, 25), "blue": (20, 40, 235), "green": (20, 150, 45), "yellow": (240, 205, 20),
    "orange": (250, 135, 15), "purple": (140, 40, 180), "black": (15, 15, 15), "gray": (130, 130, 130),
}  # fmt: skip
DARK_GROUND_COLOURS = ("red", "yellow", "orange", "white", "green", "purple")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "bar")


@dataclass(frozen=True)
class Question:
    """One question about a scene.

    Attributes:
        kind: Names the skill, for the table of scores.
        text: What is asked.
        answer: Ends with the cells of ``points``.
        points: What the answer points at, in its order, in parts of the picture's width and height.
    """

    kind: str
    text: str
    answer: str
    points: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Scene:
    """One or two pictures and the questions that they answer.

    Attributes:
        images: Canvases; or functions that draw a picture so many pixels wide.
        questions: With their answers.
        maps: What lies on each patch of a picture of so many pixels, for the dense losses; None where that is not known.
    """

    images: list[Any]
    questions: list[Question] = field(default_factory=list)
    maps: Any = None


def colour(rng: random.Random, name: str) -> tuple[int, int, int]:
    """The named colour with jitter; one time in four the pure red and blue that plotting libraries draw."""
    if name == "red" and rng.random() < 0.3:
        return (255, 0, 0)
    if name == "blue" and rng.random() < 0.3:
        return (0, 0, 255)
    base = (240, 240, 240) if name == "white" else COLOURS[name]
    return tuple(min(255, max(0, c + rng.randint(-18, 18))) for c in base)  # type: ignore[return-value]


def ground(rng: random.Random, dark: float = 0.15) -> tuple[Image.Image, bool]:
    """A ground: mostly white, else a light or dark tint or a faint texture. Returns it and whether it is dark."""
    u = rng.random()
    if u < dark:
        level = rng.randint(0, 45)
        tint = tuple(max(0, level + rng.randint(-8, 8)) for _ in range(3))
        return Image.new("RGB", (CANVAS, CANVAS), tint), True
    if u < dark + 0.55:
        return Image.new("RGB", (CANVAS, CANVAS), (255, 255, 255)), False
    h, s = rng.random(), rng.random() * 0.12
    r, g, b = colorsys.hsv_to_rgb(h, s, rng.uniform(0.88, 1.0))
    base = Image.new("RGB", (CANVAS, CANVAS), (int(r * 255), int(g * 255), int(b * 255)))
    if u > 0.88:
        seed = rng.randrange(2**32)
        cells = rng.choice((4, 8, 28, 112))
        noise = np.random.default_rng(seed).integers(0, 40, (cells, cells), dtype=np.uint8)
        layer = Image.fromarray(noise).resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)
        base = Image.fromarray(np.asarray(base) - np.minimum(np.asarray(base), np.asarray(layer)[..., None]))
    return base, False


def finish(rng: random.Random, image: Image.Image, view: int, noise: float = 0.1) -> Image.Image:
    """Brings the canvas to ``view`` pixels with one of three filters, now and then blurred or with noise."""
    method = rng.choice((Image.Resampling.LANCZOS, Image.Resampling.BOX, Image.Resampling.BICUBIC))
    small = image.resize((view, view), method)
    if rng.random() < noise:
        if rng.random() < 0.5:
            small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
        else:
            sigma = rng.uniform(2, 14)
            grain = np.random.default_rng(rng.randrange(2**32)).normal(0, sigma, (view, view, 1))
            small = Image.fromarray(np.clip(np.asarray(small) + grain, 0, 255).astype(np.uint8))
    return small


def polygon(centre: Point, radius: float, corners: int, turn: float) -> list[Point]:
    """Corners of a regular polygon, clockwise on the canvas, the first at angle ``turn`` (radians)."""
    x, y = centre
    step = 2 * math.pi / corners
    return [(x + radius * math.cos(turn + k * step), y + radius * math.sin(turn + k * step)) for k in range(corners)]


def draw_shape(
    draw: ImageDraw.ImageDraw, rng: random.Random, shape: str, centre: Point, radius: float, ink: tuple[int, int, int]
) -> None:
    """Draws one of ``SHAPES`` inside the circle of ``radius`` pixels around ``centre``."""
    x, y = centre
    up = -math.pi / 2 + rng.uniform(-0.25, 0.25)
    if shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    elif shape == "ring":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink, width=max(3, int(radius * 0.25)))
    elif shape == "square":
        draw.polygon(polygon(centre, radius * 1.1, 4, up + math.pi / 4), fill=ink)
    elif shape == "diamond":
        draw.polygon(
            [(x, y - radius * 1.15), (x + radius * 0.7, y), (x, y + radius * 1.15), (x - radius * 0.7, y)], fill=ink
        )
    elif shape == "triangle":
        draw.polygon(polygon(centre, radius * 1.1, 3, up), fill=ink)
    elif shape == "star":
        outer, inner = polygon(centre, radius * 1.2, 5, up), polygon(centre, radius * 0.5, 5, up + math.pi / 5)
        draw.polygon([p for pair in zip(outer, inner, strict=True) for p in pair], fill=ink)
    elif shape == "cross":
        w = max(2, int(radius * 0.5))
        draw.line((x - radius, y, x + radius, y), fill=ink, width=w)
        draw.line((x, y - radius, x, y + radius), fill=ink, width=w)
    else:  # bar
        draw.polygon(
            [
                (x - radius, y - radius * 0.35), (x + radius, y - radius * 0.35),
                (x + radius, y + radius * 0.35), (x - radius, y + radius * 0.35),
            ],
            fill=ink,
        )  # fmt: skip


def stroke(draw: ImageDraw.ImageDraw, points: list[Point], ink: tuple[int, int, int], width: float) -> None:
    """A polyline of ``width`` canvas pixels with rounded joints."""
    w = max(1, round(width))
    draw.line(points, fill=ink, width=w, joint="curve")


def place(rng: random.Random, count: int, radii: list[float], margin: float = 3.0) -> list[Point] | None:
    """Centres for discs that do not touch, or None where 60 tries for one of them found no room."""
    centres: list[Point] = []
    for k in range(count):
        r = radii[k]
        for _ in range(60):
            p = (rng.uniform(r + margin, CANVAS - r - margin), rng.uniform(r + margin, CANVAS - r - margin))
            if all(math.dist(p, q) > r + radii[j] + margin for j, q in enumerate(centres)):
                centres.append(p)
                break
        else:
            return None
    return centres


def where(p: Point) -> str:
    """The picture's third in which ``p`` lies: "top left" to "bottom right", the middle one "centre"."""
    col, row = min(2, int(p[0] * 3 / CANVAS)), min(2, int(p[1] * 3 / CANVAS))
    words = [w for w in (("top", "", "bottom")[row], ("left", "", "right")[col]) if w]
    return " ".join(words) or "centre"


def percent(p: Point) -> str:
    """A point as the model writes it: hundredths of the picture's width and height, e.g. ``(34, 71)``."""
    return f"({min(99, int(p[0] * 100 / CANVAS))}, {min(99, int(p[1] * 100 / CANVAS))})"
