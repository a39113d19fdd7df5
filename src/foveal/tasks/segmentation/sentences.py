"""Sentences about figures as data: a small grammar, which figures a sentence means, and whether that is beyond doubt.

A sentence names what is looked for (a colour, a shape, what it is not) and how it is picked: all of them, the largest,
the leftmost, the only one of its colour. The words are few, so that a small tokenizer writes them in few tokens.

Frame: sides of the picture, x to the right, y downwards.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from foveal.drawing.figures import COLOURS, Figure

Kind = Literal["attribute", "comparison", "place", "oddity"]
KINDS: Final[tuple[Kind, ...]] = ("attribute", "comparison", "place", "oddity")

#: What a shape is called in a sentence, by its name in ``figures.SHAPES``. Hearts are left out: three tokens.
NOUNS: Final = {
    "circles": "circle", "squares": "square", "triangles": "triangle", "stars": "star", "rings": "ring",
    "crosses": "cross", "diamonds": "diamond",
}  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """By what figures are compared.

    Attributes:
        value: Its number for a figure: the figure with the smallest is meant.
        margin: By how much that is smaller than any other's where nobody can doubt it.
    """

    value: Callable[[Figure], float]
    margin: float


def _extent(figure: Figure) -> float:
    left, top, right, bottom = figure.box
    return math.log((right - left) * (bottom - top)) / 2


def _area(figure: Figure) -> float:
    return math.log(figure.area) / 2


#: Sizes that are compared differ by at least 20 %: a smaller difference is hard to see between two shapes.
_TWENTY_PERCENT: Final = math.log(1.2)


def _size(sign: int) -> tuple[Measure, ...]:
    """By area and by box: a ring or a star is larger by one than by the other."""
    return (
        Measure(lambda f: sign * _area(f), _TWENTY_PERCENT),
        Measure(lambda f: sign * _extent(f), _TWENTY_PERCENT),
    )


def _side(side: int) -> tuple[Measure, ...]:
    """By the middle, and by the side of the box (0 left, 1 top, 2 right, 3 bottom)."""
    sign = 1 if side < 2 else -1
    return (
        Measure(lambda f: sign * (f.y if side % 2 else f.x), 0.06),
        Measure(lambda f: sign * f.box[side], 0.03),
    )


def _corner(x: int, y: int) -> tuple[Measure, ...]:
    """By the distance from a corner: straight, the farther way alone, both ways together, and up to the figure."""

    def straight(f: Figure) -> float:
        return math.hypot(f.x - x, f.y - y)

    return (
        Measure(straight, 0.08),
        Measure(lambda f: max(abs(f.x - x), abs(f.y - y)), 0.05),
        Measure(lambda f: abs(f.x - x) + abs(f.y - y), 0.08),
        Measure(lambda f: straight(f) - f.reach, 0.04),
    )


#: Corners by their name, in sides of the picture.
CORNERS: Final = {"top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1)}
#: Words that pick one of several, with all that must agree on which one.
ORDERS: Final[dict[str, tuple[Measure, ...]]] = {
    "largest": _size(-1),
    "smallest": _size(1),
    "leftmost": _side(0),
    "topmost": _side(1),
    "rightmost": _side(2),
    "bottommost": _side(3),
    **{name: _corner(*place) for name, place in CORNERS.items()},
}
#: Picks that are no word of order. ``THE`` is the only one there is; ``ALONE`` and ``PAIR`` go by all figures' colours.
THE, ALL, ALONE, PAIR = "the", "all", "alone", "pair"
#: The picks of each kind of sentence.
PICKS: Final[dict[Kind, tuple[str, ...]]] = {
    "attribute": (THE, ALL),
    "comparison": ("largest", "smallest"),
    "place": ("leftmost", "topmost", "rightmost", "bottommost", *CORNERS),
    "oddity": (ALONE, PAIR),
}


@dataclass(frozen=True)
class Request:
    """What is looked for among figures.

    Attributes:
        pick: Which of those that match; one of ``PICKS``.
        colour: Theirs; any where empty.
        shape: Theirs, as in ``NOUNS``; any where empty.
        without: A colour or a shape that they do not have; empty where nothing is left out.
    """

    pick: str
    colour: str = ""
    shape: str = ""
    without: str = ""

    @property
    def kind(self) -> Kind:
        """The kind of sentence."""
        return next(kind for kind in KINDS if self.pick in PICKS[kind])

    @property
    def text(self) -> str:
        """The request as a phrase, e.g. the largest red shape that is not a circle."""
        return f"all {self._named(True)}" if self.pick == ALL else self._one()

    @property
    def sentence(self) -> str:
        """The request as a whole sentence, e.g. What is the largest red shape that is not a circle?"""
        if self.pick == ALL:
            return f"What are the {self._named(True)}?"
        return f"What {'are' if self.pick == PAIR else 'is'} {self._one()}?"

    def _one(self) -> str:
        if self.pick == ALONE:
            return "the only shape of its colour"
        if self.pick == PAIR:
            return "the two shapes of one colour"
        return f"the {self._named(False)}" if self.pick == THE else f"the {self.pick} {self._named(False)}"

    def _named(self, plural: bool) -> str:
        noun = (self.shape or "shapes") if plural else NOUNS.get(self.shape, "shape")
        words = [self.colour, noun] if self.colour else [noun]
        if self.without:
            what = self.without if self.without in COLOURS else plural * self.without or f"a {NOUNS[self.without]}"
            words.append(f"that {'are' if plural else 'is'} not {what}")
        return " ".join(words)

    def matching(self, figures: Sequence[Figure]) -> tuple[int, ...]:
        """Indices of the figures that have the colour and the shape and not what is left out."""
        return tuple(
            i
            for i, f in enumerate(figures)
            if self.colour in ("", f.colour) and self.shape in ("", f.shape) and self.without not in (f.colour, f.shape)
        )

    def select(self, figures: Sequence[Figure]) -> tuple[int, ...]:
        """Indices of the figures that are meant, ascending; see ``clear`` for where that is beyond doubt."""
        matching = self.matching(figures)
        if self.pick in (ALONE, PAIR):
            colours = Counter(f.colour for f in figures)
            return tuple(i for i in matching if colours[figures[i].colour] == (1 if self.pick == ALONE else 2))
        if self.pick in ORDERS and matching:
            return (min(matching, key=lambda i: ORDERS[self.pick][0].value(figures[i])),)
        return matching

    def clear(self, figures: Sequence[Figure]) -> bool:
        """Whether the request has one right answer, which may be that nothing is meant, and needs each of its words.

        What is left out must make a difference: without those words, another figure is meant as clearly. A word of
        order needs two figures to choose from, which every measure puts in the same order. "all" means two at
        least, "the" one at most.
        """
        meant = self.select(figures)
        if self.without:
            plain = replace(self, without="")
            if meant == plain.select(figures) or (meant and self.pick in ORDERS and not plain.clear(figures)):
                return False
        if self.pick == PAIR:
            most = max(Counter(f.colour for f in figures).values(), default=0)
            return most <= 2 and len(meant) in (0, 2)
        if not meant:
            return True
        if self.pick == ALL:
            return len(meant) > 1
        return len(meant) == 1 and (self.pick not in ORDERS or self._ordered(figures, meant[0]))

    def _ordered(self, figures: Sequence[Figure], meant: int) -> bool:
        """Whether a figure comes first by all measures, with their margins."""
        if self.pick in CORNERS:
            # Nobody calls a figure top right whose middle lies in another quarter, or almost.
            x, y = CORNERS[self.pick]
            if max(abs(figures[meant].x - x), abs(figures[meant].y - y)) > 0.42:
                return False
        others = [figures[i] for i in self.matching(figures) if i != meant]
        return bool(others) and all(
            m.value(figures[meant]) + m.margin <= min(m.value(f) for f in others) for m in ORDERS[self.pick]
        )
