"""Generated pictures of a puzzle: each scene is a function of the settings and its index alone."""

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
    """The content of one picture. Subclasses are frozen dataclasses."""

    @property
    @abstractmethod
    def label(self) -> Any:
        """The class over which pictures are balanced: the truth, or a finer one."""

    @property
    def truths(self) -> tuple[Any, Any]:
        """The right answers to the two questions; by default the label twice."""
        return self.label, self.label

    @property
    def fields(self) -> Mapping[str, str]:
        """Values of the questions' placeholders, e.g. the two stations; also columns of ``metadata.csv``."""
        return {}

    @property
    def noted(self) -> Mapping[str, str]:
        """What rows know of the picture beyond the questions; also columns of ``metadata.csv`` (``Layout.noted``)."""
        return {}

    @property
    @abstractmethod
    def geometry(self) -> Sequence[int]:
        """Whole numbers of up to 32 bits that identify the scene within its style, and decide on its split."""

    @property
    @abstractmethod
    def cells(self) -> Mapping[str, Any]:
        """Further columns of ``metadata.csv``: lengths in sides of the picture, y downwards."""

    @abstractmethod
    def draw(self, size: int) -> Image.Image:
        """The picture, ``size`` pixels wide and high."""


#: Draws a candidate for a scene; None where it is rejected.
Sampler = Callable[[], PuzzleScene | None]
#: Makes a sampler from a source of randomness (which the sampler uses too), the label of the scenes, the side of the
#: picture in pixels and a factor on the lines' widths.
Style = Callable[[random.Random, Any, int, float], Sampler]


class Generated:
    """A puzzle with generated scenes.

    Class attributes:
        name: The task's name.
        labels: The classes over which pictures are balanced.
        weights: How often each of them comes, in whole numbers; all equally often where there are none.
        styles: The styles by name.
        shared: Styles with so few geometries that the splits share them.
    """

    name: ClassVar[str]
    labels: ClassVar[tuple[Any, ...]]
    weights: ClassVar[tuple[int, ...]] = ()
    styles: ClassVar[Mapping[str, Style]]
    shared: ClassVar[frozenset[str]] = frozenset()


def block_of(puzzle: type[Generated]) -> tuple[Any, ...]:
    """The labels of a block of rows, each as often as its weight says."""
    labels, weights = puzzle.labels, puzzle.weights
    if not weights:
        return labels
    return tuple([label for label, weight in zip(labels, weights, strict=True) for _ in range(weight)])


@dataclass(frozen=True)
class Scenes:
    """A split's scenes by index.

    Attributes:
        puzzle: The puzzle.
        style: The style's name.
        size: Side of the pictures in pixels.
        split: The split. Its geometries occur in no other split, whatever the seeds, unless the style has too few of
            them (``Generated.shared``).
        seed: Seed of everything random.
        scale: Factor on the lines' widths.
    """

    puzzle: type[Generated]
    style: str
    size: int
    split: Split
    seed: int
    scale: float = 1.0

    def label(self, index: int) -> Any:
        """The label of the scene at an index."""
        labels = block_of(self.puzzle)
        return labels[balanced_choice(len(labels), self.seed, self.split, index)]

    def __call__(self, index: int) -> PuzzleScene:
        """The scene at an index; nothing is drawn."""
        label = self.label(index)
        rng = random.Random(f"{self.style}/{self.seed}/{self.split}/{index}")
        sample = self.puzzle.styles[self.style](rng, label, self.size, self.scale)
        shared = self.style in self.puzzle.shared
        while True:
            scene = sample()
            if scene is not None and (shared or split_of(scene.geometry) == self.split):
                return scene

    def draw(self, index: int) -> Image.Image:
        """The picture at an index."""
        return self(index).draw(self.size)

    def row(self, index: int) -> Row:
        """The row at an index; its picture is drawn when it is opened."""
        scene = self(index)
        name = f"{self.puzzle.name} {self.style} {self.split} {index}"
        return Row(
            str(index), Picture(name, partial(scene.draw, self.size)), scene.truths, {**scene.fields, **scene.noted}
        )


def balanced_choice(choices: int, seed: int, split: Split, index: int) -> int:
    """The choice for row ``index``: each occurs once in every block of ``choices`` rows, in random order.

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
    """The split of a geometry, whatever the seed: train for half of all, validation and test for a quarter each.

    Args:
        values: Whole numbers of up to 32 bits that identify the geometry.
    """
    bucket = zlib.crc32(struct.pack(f"<{len(values)}i", *values)) & 3
    return "train" if bucket < 2 else "validation" if bucket == 2 else "test"
