"""Glyph scenes: printed characters in many fonts, and our own drawn digits, light on dark or dark on light, any blur."""

from __future__ import annotations

import math
import random
from functools import cache
from itertools import pairwise
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from canvas import CANVAS, COLOURS, Point, Question, Scene, colour, percent
from scenes import cell, describe

DIGITS = "0123456789"
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
FONT_FILES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansMono",
    "DejaVuSansMono-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10", "cmb10",
)  # fmt: skip

#: Skeletons of the ten digits as polylines in the unit square (x right, y down), drawn for this project.
SKELETONS: dict[str, list[list[Point]]] = {
    "0": [[(0.5, 0.05), (0.78, 0.2), (0.85, 0.5), (0.78, 0.8), (0.5, 0.95), (0.22, 0.8), (0.15, 0.5), (0.22, 0.2), (0.5, 0.05)]],
    "1": [[(0.32, 0.25), (0.55, 0.06), (0.55, 0.95)]],
    "2": [[(0.2, 0.25), (0.35, 0.08), (0.62, 0.06), (0.8, 0.22), (0.76, 0.42), (0.5, 0.66), (0.18, 0.94), (0.84, 0.92)]],
    "3": [[(0.22, 0.12), (0.5, 0.05), (0.76, 0.18), (0.72, 0.38), (0.45, 0.48), (0.76, 0.58), (0.8, 0.8), (0.52, 0.95), (0.2, 0.86)]],
    "4": [[(0.62, 0.05), (0.16, 0.62), (0.86, 0.62)], [(0.64, 0.38), (0.62, 0.96)]],
    "5": [[(0.78, 0.07), (0.3, 0.07), (0.25, 0.45), (0.55, 0.4), (0.8, 0.56), (0.8, 0.78), (0.55, 0.95), (0.2, 0.87)]],
    "6": [[(0.68, 0.06), (0.38, 0.28), (0.2, 0.62), (0.3, 0.88), (0.58, 0.95), (0.8, 0.78), (0.72, 0.56), (0.46, 0.52), (0.24, 0.66)]],
    "7": [[(0.18, 0.08), (0.82, 0.08), (0.55, 0.5), (0.4, 0.95)]],
    "8": [[(0.5, 0.48), (0.26, 0.3), (0.34, 0.1), (0.62, 0.07), (0.74, 0.28), (0.5, 0.48), (0.22, 0.7), (0.32, 0.92), (0.66, 0.92), (0.78, 0.72), (0.5, 0.48)]],
    "9": [[(0.76, 0.34), (0.56, 0.5), (0.3, 0.42), (0.24, 0.2), (0.48, 0.06), (0.74, 0.16), (0.77, 0.4), (0.7, 0.7), (0.5, 0.95)]],
}  # fmt: skip


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)


def _smooth(points: list[Point]) -> list[Point]:
    """Two rounds of Chaikin's corner cutting, ends kept."""
    for _ in range(2):
        cut = [points[0]]
        for (x0, y0), (x1, y1) in pairwise(points):
            cut += [(0.75 * x0 + 0.25 * x1, 0.75 * y0 + 0.25 * y1), (0.25 * x0 + 0.75 * x1, 0.25 * y0 + 0.75 * y1)]
        points = [*cut, points[-1]]
    return points


def _drawn_digit(rng: random.Random, digit: str, size: int, width: float) -> Image.Image:
    """A digit as a pen would draw it: the skeleton jittered, sheared, turned and smoothed; an "L" mask."""
    mask = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(mask)
    turn, shear = rng.gauss(0, 0.12), rng.gauss(0.05, 0.15)
    sx, sy = rng.uniform(0.55, 1.0), rng.uniform(0.8, 1.0)
    wobble = rng.uniform(0.01, 0.05)
    bar = digit == "7" and rng.random() < 0.25
    lines = [*SKELETONS[digit], *([[(0.35, 0.5), (0.72, 0.5)]] if bar else [])]
    if digit == "1" and rng.random() < 0.4:
        lines = [[(0.5, 0.05), (0.5, 0.95)]]
    for line in lines:
        moved = []
        for x, y in line:
            x, y = (x - 0.5 + rng.gauss(0, wobble)) * sx, (y - 0.5 + rng.gauss(0, wobble)) * sy
            x -= shear * y
            x, y = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
            moved.append(((x * 0.86 + 0.5) * size, (y * 0.86 + 0.5) * size))
        points = _smooth(moved)
        draw.line(points, fill=255, width=max(1, round(width)), joint="curve")
        for x, y in (points[0], points[-1]):
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return mask


def _printed(rng: random.Random, text: str, size: int) -> Image.Image:
    """Text in one of the fonts, as large as the mask allows, turned a little; an "L" mask of size x size."""
    points = (
        int(size * rng.uniform(0.4, 0.85)) if len(text) == 1 else int(size * 1.5 / len(text) * rng.uniform(0.7, 1.0))
    )
    mask = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(mask)
    font = _font(rng.choice(FONT_FILES), max(10, min(points, size)))
    x0, y0, x1, y1 = draw.textbbox((0, 0), text, font=font)
    free_x, free_y = max(0.0, size - (x1 - x0)), max(0.0, size - (y1 - y0))
    spot = (rng.uniform(0.2, 0.8) * free_x - x0, rng.uniform(0.2, 0.8) * free_y - y0)
    draw.text(spot, text, fill=255, font=font)
    return mask.rotate(rng.gauss(0, 5), resample=Image.Resampling.BILINEAR)


def _ink(rng: random.Random, mask: Image.Image) -> Image.Image:
    """Lays a mask in ink on a ground: dark on light or light on dark, gray or coloured."""
    dark = rng.random() < 0.5
    low, high = rng.randint(0, 60), rng.randint(170, 255)
    paper, ink = ((low,) * 3, (high,) * 3) if dark else ((high if rng.random() < 0.4 else 255,) * 3, (low,) * 3)
    if rng.random() < 0.3:
        name = rng.choice(("yellow", "orange") if dark else [c for c in COLOURS if c not in ("yellow", "gray")])
        ink = colour(rng, name)
    return Image.composite(Image.new("RGB", mask.size, ink), Image.new("RGB", mask.size, paper), mask)


def character(rng: random.Random) -> Scene:
    """One large character: which it is. Half of them are drawn digits, often shrunk to 8 to 28 pixels and back."""
    if rng.random() < 0.6:
        text = rng.choice(DIGITS)
        width = rng.uniform(8, 30)
        mask = _drawn_digit(rng, text, CANVAS, width) if rng.random() < 0.75 else _printed(rng, text, CANVAS)
        asks = [
            Question(
                "digit", rng.choice(("Which digit is shown?", "What digit is this?", "Which number is this?")), text
            )
        ]
    else:
        text = rng.choice(LETTERS)
        mask = _printed(rng, text, CANVAS)
        asks = [Question("letter", rng.choice(("Which letter is shown?", "Which character is this?")), text)]
    image = _ink(rng, mask)
    if rng.random() < 0.45:
        n = rng.choice((8, 8, 12, 16, 28))
        small = image.resize((n, n), Image.Resampling.BOX)
        back = rng.choice(
            (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
        )
        image = small.resize((CANVAS, CANVAS), back)
    return Scene([image], asks)


def word(rng: random.Random) -> Scene:
    """Two to six characters: how many, the first and the last, and the whole when it is short."""
    n = rng.randint(2, 6)
    text = "".join(rng.choice(LETTERS + DIGITS * 2) for _ in range(n))
    image = _ink(rng, _printed(rng, text, CANVAS))
    ask = [describe([text]), Question("characters", "How many characters are there?", str(n))]
    ask.append(Question("first character", "What is the first character?", text[0]))
    ask.append(Question("last character", "What is the last character?", text[-1]))
    if n <= 3:
        ask.append(Question("read", "What is written here?", text))
    return Scene([image], ask)


def digit_grid(rng: random.Random) -> Scene:
    """Several digits scattered on a page: how many of one, where one is, the sum's largest digit."""
    image = Image.new("RGB", (CANVAS, CANVAS), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    spots = rng.sample([(x, y) for x in range(3) for y in range(3)], rng.randint(2, 6))
    shown: list[tuple[str, Point]] = []
    for x, y in spots:
        text = rng.choice(DIGITS)
        centre = (x * 74 + 37 + rng.uniform(-10, 10), y * 74 + 37 + rng.uniform(-10, 10))
        ink = colour(rng, rng.choice(("red", "blue", "green", "black", "purple")))
        draw.text(centre, text, fill=ink, font=_font(rng.choice(FONT_FILES), rng.randint(42, 60)), anchor="mm")
        shown.append((text, centre))
    texts = [t for t, _ in shown]
    pick = rng.choice(texts)
    listed = sorted(shown, key=lambda t: (int(t[1][1] * 3 / CANVAS), t[1][0]))
    ask = [
        describe([f"{t} {cell(c)}" for t, c in listed]),
        Question("how many digits", "How many digits are on the page?", str(len(texts))),
        Question("count of a digit", f"How many times does {pick} appear?", str(texts.count(pick))),
        Question("largest digit", "What is the largest digit?", max(texts)),
    ]
    if texts.count(pick) == 1:
        ask.append(Question("find a digit", f"Point to the digit {pick}.", percent(dict(shown)[pick])))
    return Scene([image], ask)
