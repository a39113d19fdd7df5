"""Synthetic scenes to count in: figures of one kind among others, with known boxes, made while a model learns.

A scene depends on the seed, the split and its index alone. Its number of targets is any from ``min_objects`` to
``max_objects``, each once in every block of as many scenes. Figures may overlap, but no more of one is covered than
``overlap`` says, so that all can be counted.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

from PIL import Image

from foveal.config.checking import check_ranges
from foveal.drawing.figures import COLOURS, SHAPES, Figure, Ground, Point, drawn, make_ground
from foveal.examples import Split
from foveal.images import Picture
from foveal.tasks.counting.objects import Query, Thing
from foveal.tasks.lazy import Lazy
from foveal.tasks.scenes.placing import Places

#: Most targets, and most other figures: more would be too small in a small picture.
MOST_OBJECTS, MOST_DISTRACTORS = 60, 20
#: Radii of the figures in sides of the picture, and the share of the picture that all of them may fill.
SMALLEST, LARGEST, FILLED = 0.042, 0.1, 0.3
#: Largest ratio of two radii in a scene.
SPREAD = 1.35
#: Kept free between figures that may not overlap, in sides of the picture.
GAP = 0.01
#: Places that are tried for a figure before all are made smaller.
TRIES = 60


@dataclass(frozen=True)
class SceneOptions:
    """What scenes are like."""

    min_objects: int = 0
    """Fewest objects that are to be counted."""
    max_objects: int = 20
    """Most objects that are to be counted, up to 60."""
    image_size: int = 224
    """Width and height of the pictures in pixels."""
    distractors: int = 6
    """Most objects of other kinds, up to 20; a scene has any number from 0 on."""
    overlap: float = 0.25
    """Largest share of an object that others cover; 0 keeps all apart."""
    same_colour: float = 0.0
    """Share of the other kinds that have the targets' colour and another shape; the rest are like the targets in shape, in
    colour or in nothing."""

    def check(self) -> None:
        """Refuses options that are out of range.

        Raises:
            UserError: One is.
        """
        check_ranges(
            self, "", min_objects=(0, MOST_OBJECTS), max_objects=(self.min_objects, MOST_OBJECTS), image_size=(32, 2048),
            distractors=(0, MOST_DISTRACTORS), overlap=(0, 0.5), same_colour=(0, 1),
        )  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """Figures on a ground.

    Attributes:
        category: What is counted, e.g. red circles.
        figures: From the lowest one upwards, targets and others.
        ground: What they lie on.
    """

    category: str
    figures: tuple[Figure, ...]
    ground: Ground

    @property
    def targets(self) -> tuple[Figure, ...]:
        """The figures that are counted."""
        return tuple(f for f in self.figures if f.kind == self.category)

    def things(self, size: int) -> tuple[Thing, ...]:
        """The targets with their boxes, in a picture ``size`` pixels wide and high."""
        boxes = [
            (left * size, top * size, right * size, bottom * size)
            for left, top, right, bottom in (f.box for f in self.targets)
        ]
        return tuple(Thing(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), box) for box in boxes)

    def draw(self, size: int) -> Image.Image:
        """The picture, ``size`` pixels wide and high."""
        return drawn(self.ground, self.figures, size)


@dataclass(frozen=True)
class Scenes(Lazy[Query]):
    """Queries about scenes, made when they are asked for.

    Attributes:
        length: How many there are.
        split: No two splits have a scene in common.
        seed: Decides all scenes.
        options: What they are like; see ``SceneOptions.check``.
    """

    length: int
    split: Split
    seed: int = 0
    options: SceneOptions = field(default_factory=SceneOptions)

    def __len__(self) -> int:
        return self.length

    def row(self, index: int) -> Query:
        """See ``Lazy.row``."""
        scene, size = self.scene(index), self.options.image_size
        picture = Picture(f"scene {self.split}/{index}", partial(scene.draw, size))
        return Query(f"{index:05d}", picture, scene.category, scene.things(size), (size, size))

    def objects(self, index: int) -> int:
        """The number of targets of a scene, without making it."""
        low, high = self.options.min_objects, self.options.max_objects
        block, place = divmod(index, high - low + 1)
        return _shuffled(low, high, f"{self.seed}/{self.split}/{block}")[place]

    def scene(self, index: int) -> Scene:
        """The scene of an index."""
        rng = random.Random(f"{self.seed}/{self.split}/scene {index}")
        return make_scene(rng, self.objects(index), self.options)


@lru_cache(256)
def _shuffled(low: int, high: int, seed: str) -> tuple[int, ...]:
    """The numbers from ``low`` to ``high`` in random order."""
    numbers = list(range(low, high + 1))
    random.Random(seed).shuffle(numbers)
    return tuple(numbers)


def make_scene(rng: random.Random, number: int, options: SceneOptions) -> Scene:
    """A scene with so many targets."""
    kinds = [(shape, colour) for shape in SHAPES for colour in COLOURS]
    target = rng.choice(kinds)
    others = [_other(rng, target, kinds, options.same_colour) for _ in range(rng.randint(1, 3))]
    wanted = [target] * number + [rng.choice(others) for _ in range(rng.randint(0, options.distractors))]
    rng.shuffle(wanted)
    radius = _radius(rng, len(wanted))
    figures = None
    while figures is None:
        figures = _placed(rng, wanted, radius, options.overlap)
        radius *= 0.92
    return Scene(f"{target[1]} {target[0]}", figures, make_ground(rng))


def _other(
    rng: random.Random, target: tuple[str, str], kinds: Sequence[tuple[str, str]], same_colour: float
) -> tuple[str, str]:
    """Another kind: often of the target's shape or of its colour, so that both have to be looked at."""
    # Nothing is drawn for a share of 0, so that scenes of earlier versions stay as they are.
    alike = "colour" if same_colour and rng.random() < same_colour else rng.choice(("shape", "colour", "any"))
    return rng.choice(
        [
            kind
            for kind in kinds
            if kind != target
            and (alike != "shape" or kind[0] == target[0])
            and (alike != "colour" or kind[1] == target[1])
        ]
    )


def _radius(rng: random.Random, number: int) -> float:
    """A scene's typical radius: any that leaves room, so that a few figures, too, may be small."""
    most = min(LARGEST, math.sqrt(FILLED / (math.pi * max(number, 1))))
    least = min(SMALLEST, most)
    return float(least * (most / least) ** rng.random())


def _placed(
    rng: random.Random, wanted: Sequence[tuple[str, str]], radius: float, overlap: float
) -> tuple[Figure, ...] | None:
    """Figures of the wanted kinds, each over those before it; None where one found no place."""
    places = Places(overlap, GAP, stacked=True)
    for shape, colour in wanted:
        figure_radius = radius * SPREAD ** rng.uniform(-0.5, 0.5)
        turn = math.radians(rng.uniform(-1, 1) * SHAPES[shape].swing)
        figure = Figure(shape, colour, 0.5, 0.5, figure_radius, turn)
        if not places.put(figure, (_point(rng, places, figure.reach) for _ in range(TRIES))):
            return None
    return tuple(places.figures)


def _point(rng: random.Random, places: Places, reach: float) -> Point:
    """Anywhere in the picture; or, where figures may overlap, now and then beside one that is there."""
    if places.overlap and places.figures and rng.random() < 0.3:
        return places.beside(rng, reach, 0.7, 1.1)
    return places.anywhere(rng, reach)
