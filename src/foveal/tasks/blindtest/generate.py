"""Generated pictures of a puzzle: scenes made by rule, each a function of the settings and its index alone."""

from __future__ import annotations

import hashlib
import random
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from PIL import Image

from foveal.examples import Split
from foveal.images import Picture
from foveal.tasks.blindtest.sources import Row


class PuzzleScene(ABC):
    """What one picture shows. Subclasses are frozen dataclasses."""

    @property
    @abstractmethod
    def label(self) -> Any:
        """What pictures are balanced over; the truth, or a finer class."""

    @property
    def truths(self) -> tuple[Any, Any]:
        """The right values of the two questions; the label twice unless a puzzle says otherwise."""
        return self.label, self.label

    @property
    def fields(self) -> Mapping[str, str]:
        """What the questions name, e.g. the two stations; written as columns of ``metadata.csv``."""
        return {}

    @property
    @abstractmethod
    def geometry(self) -> Sequence[int]:
        """Whole numbers of up to 32 bits by which the scene differs from all others of its style.

        They decide on the only split that it may be in.
        """

    @property
    @abstractmethod
    def cells(self) -> Mapping[str, Any]:
        """Further columns of ``metadata.csv``: lengths in sides of the picture, y downwards."""

    @abstractmethod
    def draw(self, size: int) -> Image.Image:
        """The picture, ``size`` pixels wide and high."""


#: Draws candidates for a scene; None is a rejected one.
Sampler = Callable[[], PuzzleScene | None]
#: A look: makes a sampler from a source of randomness, from which that one draws too, the label that the scenes must have,
#: the side of the picture in pixels and a factor on the lines' widths.
Style = Callable[[random.Random, Any, int, float], Sampler]


class Generated:
    """A puzzle whose scenes are made by rule.

    Class attributes:
        name: The task's name.
        labels: What pictures are balanced over.
        styles: The looks.
        shared: Styles with so few geometries that the splits share them.
    """

    name: ClassVar[str]
    labels: ClassVar[tuple[Any, ...]]
    styles: ClassVar[Mapping[str, Style]]
    shared: ClassVar[frozenset[str]] = frozenset()


@dataclass(frozen=True)
class Scenes:
    """A split's scenes, each a function of the settings and its index alone; calling it draws nothing.

    Attributes:
        puzzle: Whose scenes.
        style: The look.
        size: Side of the pictures in pixels.
        split: Its geometries occur in no other split, whatever the seeds, unless the style has too few of them
            (``Generated.shared``).
        seed: Of everything random.
        scale: Factor on the lines' widths.
    """

    puzzle: type[Generated]
    style: str
    size: int
    split: Split
    seed: int
    scale: float = 1.0

    def label(self, index: int) -> Any:
        """The label of a scene, known before it is made."""
        labels = self.puzzle.labels
        return labels[balanced_choice(len(labels), self.seed, self.split, index)]

    def __call__(self, index: int) -> PuzzleScene:
        """The scene of an index."""
        label = self.label(index)
        rng = random.Random(f"{self.style}/{self.seed}/{self.split}/{index}")
        sample = self.puzzle.styles[self.style](rng, label, self.size, self.scale)
        anywhere = self.style in self.puzzle.shared
        while True:
            scene = sample()
            if scene is not None and (anywhere or split_of(scene.geometry) == self.split):
                return scene

    def draw(self, index: int) -> Image.Image:
        """The picture of an index."""
        return self(index).draw(self.size)

    def row(self, index: int) -> Row:
        """The row of an index, not drawn yet."""
        scene = self(index)
        name = f"{self.puzzle.name} {self.style} {self.split} {index}"
        return Row(str(index), Picture(name, partial(scene.draw, self.size)), scene.truths, scene.fields)


def balanced_choice(choices: int, seed: int, split: Split, index: int) -> int:
    """Which of the choices row ``index`` gets: each once in every block of ``choices`` rows, in random order.

    Every prefix of a split is balanced to within one, and no even stride through it is biased.
    """
    block, place = divmod(index, choices)
    digest = hashlib.blake2b(f"{seed}/{split}/{block}".encode(), digest_size=8).digest()
    number, left = int.from_bytes(digest, "little"), list(range(choices))
    for _ in range(place):
        number, k = divmod(number, len(left))
        left.pop(k)
    return left[number % len(left)]


def split_of(values: Sequence[int]) -> Split:
    """The only split that a geometry may occur in, whatever the seed: half of all go to train, a quarter to each other.

    Args:
        values: Whole numbers of up to 32 bits that describe the geometry.
    """
    bucket = zlib.crc32(struct.pack(f"<{len(values)}i", *values)) & 3
    return "train" if bucket < 2 else "validation" if bucket == 2 else "test"
