"""Colours of the puzzles' pictures, and random ones."""

from __future__ import annotations

import random
from typing import Final

from foveal.drawing.figures import Colour

WHITE: Final[Colour] = (255, 255, 255)
BLACK: Final[Colour] = (0, 0, 0)
#: matplotlib's ten colours.
TAB10: Final[tuple[Colour, ...]] = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207),
)  # fmt: skip
#: By how much, summed over the three channels, a colour differs from the ground's at least: as much as the palest of
#: the published pictures.
_CONTRAST: Final = 225


def near(rng: random.Random, colour: Colour, most: int) -> Colour:
    """A colour whose channels differ from another's by so much at most."""
    red, green, blue = (min(255, max(0, channel + rng.randint(-most, most))) for channel in colour)
    return red, green, blue


def gray(rng: random.Random, low: int, high: int, tinge: int = 7) -> Colour:
    """A gray of any level in a range, with a tinge."""
    level = rng.randint(low, high)
    return near(rng, (level, level, level), tinge)


def pale(rng: random.Random) -> Colour:
    """White, or any rather pale gray with a tinge."""
    return WHITE if rng.random() < 0.5 else gray(rng, 222, 248)


def dark(rng: random.Random) -> Colour:
    """Black, or any rather dark colour."""
    if rng.random() < 0.5:
        return BLACK
    red, green, blue = (rng.randint(0, 200) for _ in range(3))
    shade = min(1.0, 330 / (red + green + blue + 1))
    return round(red * shade), round(green * shade), round(blue * shade)


def random_colours(rng: random.Random, count: int, alike: float) -> tuple[tuple[Colour, ...], Colour]:
    """Colours for shapes in varied pictures, and of their ground, from which they are well apart.

    Args:
        rng: Source of randomness.
        count: How many colours.
        alike: Probability that there is only one instead, for all shapes.
    """
    ground = WHITE
    if rng.random() < 0.5:
        ground = gray(rng, 215, 248) if rng.random() < 0.8 else gray(rng, 8, 40)
    colours: list[Colour] = []
    count = 1 if rng.random() < alike else count
    while len(colours) < count:
        colour = int(256 * rng.random()), int(256 * rng.random()), int(256 * rng.random())
        if sum(abs(a - b) for a, b in zip(colour, ground, strict=True)) >= _CONTRAST:
            colours.append(colour)
    return tuple(colours), ground
