"""Synthetic scenes to segment: figures on a ground, and a sentence that means some of them, with exact masks.

A scene and its sentence depend on the seed, the split and the index alone. Every sentence has one right answer, known
from the figures' geometry; with ``empty_share`` some mean nothing that is there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from foveal.config.checking import check_ranges
from foveal.drawing.figures import COLOURS, SHAPES, Figure, Ground, Point, drawn, fineness, make_ground
from foveal.errors import UserError
from foveal.examples import Split
from foveal.images import Picture
from foveal.tasks.lazy import Lazy
from foveal.tasks.scenes.placing import Places
from foveal.tasks.segmentation.objects import Mask, Query
from foveal.tasks.segmentation.sentences import KINDS, NOUNS, ORDERS, PICKS, Kind, Request

Wording = Literal["phrase", "sentence", "mixed"]
#: Share of whole sentences in each wording.
SENTENCES: Final[dict[Wording, float]] = {"phrase": 0.0, "sentence": 1.0, "mixed": 0.5}

#: Most figures: more would leave no room for sizes that differ.
MOST_OBJECTS: Final = 8
#: Share of the picture that ``max_objects`` figures of the smallest radius may fill, so that any number finds room.
FILLED: Final = 0.22
#: Kept free between figures that may not overlap, in sides of the picture.
GAP: Final = 0.012
#: A pixel that is covered wholly. Its half, too, is a whole number, and no other share of a pixel is rounded to that.
WHOLE: Final = 254
#: Places that are tried for a figure before others, smaller on the whole, are made.
TRIES: Final = 40
#: Fillings of a form of sentence that are tried in a scene, and scenes before another form is tried.
FILLINGS, SCENES = 6, 100


@dataclass(frozen=True)
class Form:
    """What a sentence names, before colours and shapes are chosen.

    Attributes:
        pick: One of ``sentences.PICKS``.
        colour: Whether it names a colour.
        shape: Whether it names a shape.
        without: Whether it names a colour or a shape that is not meant.
    """

    pick: str
    colour: bool = False
    shape: bool = False
    without: bool = False

    @property
    def emptiable(self) -> bool:
        """Whether it can mean nothing in a picture that has figures."""
        return self.colour or self.shape or self.pick not in ORDERS

    def filled(self, rng: random.Random, figures: Sequence[Figure], empty: bool) -> Request:
        """A request with colours and shapes of the figures; if ``empty``, now and then with another.

        Where nothing has the colour and the shape, there is nothing to leave out.
        """
        colours = sorted({f.colour for f in figures})
        shapes = sorted({f.shape for f in figures})
        if empty:
            colours.append(rng.choice(list(COLOURS)))
            shapes.append(rng.choice(list(NOUNS)))
        colour = rng.choice(colours) if self.colour else ""
        shape = rng.choice(shapes) if self.shape else ""
        request = Request(self.pick, colour, shape)
        first = request.select(figures)
        if not (self.without and first):
            return request
        # Only what would be meant otherwise is worth leaving out.
        named = [
            *(() if self.colour else [figures[first[0]].colour]),
            *(() if self.shape else [figures[first[0]].shape]),
        ]
        return replace(request, without=rng.choice(named))


def _forms(kind: Kind) -> tuple[Form, ...]:
    if kind == "oddity":
        return tuple(Form(pick) for pick in PICKS[kind])
    named = [Form("", True, True), Form("", True), Form("", False, True)]
    if kind != "attribute":
        named.append(Form(""))
    if kind == "comparison":
        named += [Form("", without=True), Form("", True, without=True), Form("", False, True, without=True)]
    return tuple(replace(form, pick=pick) for pick in PICKS[kind] for form in named)


#: The forms of each kind of sentence, all equally frequent.
FORMS: Final[dict[Kind, tuple[Form, ...]]] = {kind: _forms(kind) for kind in KINDS}


@dataclass(frozen=True)
class SceneOptions:
    """What scenes and their sentences are like."""

    image_size: int = 168
    """Width and height of the pictures in pixels."""
    min_objects: int = 3
    """Fewest figures in a picture."""
    max_objects: int = 6
    """Most figures in a picture, up to 8."""
    smallest: float = 0.08
    """Smallest radius of a figure, in sides of the picture."""
    largest: float = 0.2
    """Largest radius of a figure, in sides of the picture."""
    overlap: float = 0.1
    """Largest share of a figure that others cover; 0 keeps all apart."""
    kinds: tuple[Kind, ...] = KINDS
    """Kinds of sentences: attribute (the red circle), comparison (the largest circle), place (the leftmost circle) and
    oddity (the only shape of its colour)."""
    wording: Wording = "mixed"
    """Phrases, whole sentences (What is the red circle?), or either by chance."""
    empty_share: float = 0.0
    """Share of sentences that mean nothing in their picture."""

    def check(self) -> None:
        """Refuses options that are out of range.

        Raises:
            UserError: One is.
        """
        within = partial(check_ranges, self, "")
        within(image_size=(64, 2048), min_objects=(3, MOST_OBJECTS), max_objects=(self.min_objects, MOST_OBJECTS))
        within(smallest=(0.03, math.floor(1000 * math.sqrt(FILLED / (math.pi * self.max_objects))) / 1000))
        # Sizes that differ by 20 % by every measure need some room between the smallest and the largest.
        within(largest=(2 * self.smallest, 0.3), overlap=(0, 0.5), empty_share=(0, 1))
        if not self.kinds:
            raise UserError(f"kinds: none at all is not a kind of sentence; give one or more of {', '.join(KINDS)}.")


@dataclass(frozen=True)
class Scene:
    """Figures on a ground.

    Attributes:
        figures: From the lowest one upwards.
        ground: What they lie on.
    """

    figures: tuple[Figure, ...]
    ground: Ground

    def draw(self, size: int) -> Image.Image:
        """The picture, ``size`` pixels wide and high."""
        return drawn(self.ground, self.figures, size)

    def covered(self, meant: Collection[int], size: int) -> NDArray[np.uint8]:
        """How much of each pixel some figures cover, as far as no other figure lies on them.

        Args:
            meant: The figures' indices.
            size: Width and height in pixels.

        Returns:
            [size, size], 0 to ``WHOLE``.
        """
        factor = fineness(size)
        large = Image.new("L", (size * factor, size * factor))
        canvas = ImageDraw.Draw(large)
        for i, figure in enumerate(self.figures):
            if i in meant:
                figure.cover(canvas, size * factor, WHOLE)
            elif i > min(meant, default=i):
                figure.cover(canvas, size * factor, 0)
        return np.asarray(large.reduce(factor))


@dataclass(frozen=True)
class SceneTarget:
    """Some figures of a scene, as a ``Target``.

    Attributes:
        scene: All figures.
        meant: Indices of those that are meant, ascending.
        size: Width and height of the masks in pixels.
    """

    scene: Scene
    meant: tuple[int, ...]
    size: int

    def whole(self) -> Mask:
        """All that is visible of the figures, [size, size]: 1 where they cover at least half of a pixel, else 0."""
        return (self.scene.covered(self.meant, self.size) >= WHOLE // 2).astype(np.uint8)

    def parts(self) -> tuple[Mask, ...]:
        """What is visible of each figure, by the left edge of its box, then by its top.

        No pixel is in two parts, and all of them together are the whole: where two meant figures share a pixel, it is
        of the one that covers more of it.
        """
        if len(self.meant) < 2:
            return tuple(self.whole() for _ in self.meant)
        covered = np.stack([self.scene.covered((i,), self.size) for i in self.meant])
        owner = np.where(self.whole(), covered.argmax(0), len(self.meant))
        masks = [(owner == k).astype(np.uint8) for k in range(len(self.meant))]
        return tuple(sorted(masks, key=lambda mask: (int(mask.any(0).argmax()), int(mask.any(1).argmax()))))


@dataclass(frozen=True)
class Scenes(Lazy[Query]):
    """Queries about scenes, made when they are asked for; their pictures and masks are drawn later still.

    Attributes:
        length: How many there are.
        split: No two splits have a scene in common.
        seed: Decides all scenes.
        options: What they are like; see ``SceneOptions.check``.
        phrases: Different sentences about each scene; fewer where nothing more can be asked. The first is always the same.
    """

    length: int
    split: Split
    seed: int = 0
    options: SceneOptions = field(default_factory=SceneOptions)
    phrases: int = 1

    def __len__(self) -> int:
        return self.length

    def row(self, index: int) -> Query:
        """See ``Lazy.row``."""
        scene, request, is_sentence = self.asked(index)
        picture = Picture(f"scene {self.split}/{index}", partial(scene.draw, self.options.image_size))
        query = self._query(index, scene, picture, request, is_sentence)
        if self.phrases == 1:
            return query
        rng = random.Random(f"{self.seed}/{self.split}/segmentation {index} more")
        requests = more_requests(rng, scene.figures, request, self.phrases - 1, self.options)
        share = SENTENCES[self.options.wording]
        more = (self._query(index, scene, picture, one, rng.random() < share) for one in requests)
        return replace(query, more=tuple(more))

    def _query(self, index: int, scene: Scene, picture: Picture, request: Request, is_sentence: bool) -> Query:
        size = self.options.image_size
        meant = request.select(scene.figures)
        return Query(
            id=f"{self.split}-{index:06d}",
            picture=picture,
            texts=(request.sentence if is_sentence else request.text,),
            is_sentence=is_sentence,
            size=(size, size),
            target=SceneTarget(scene, meant, size),
            extra={
                "kind": request.kind,
                "request": request.text,
                "figures": len(scene.figures),
                "explanation": explanation(scene.figures, meant),
            },
        )

    def asked(self, index: int) -> tuple[Scene, Request, bool]:
        """The scene of an index, what is asked about it, and whether in a whole sentence."""
        rng = random.Random(f"{self.seed}/{self.split}/segmentation {index}")
        empty = rng.random() < self.options.empty_share
        is_sentence = rng.random() < SENTENCES[self.options.wording]
        figures, request = make_request(rng, rng.choice(self.options.kinds), empty, self.options)
        return Scene(figures, make_ground(rng)), request, is_sentence


def explanation(figures: Sequence[Figure], meant: Sequence[int]) -> str:
    """What is meant, in words: colour and shape of each, from left to right and without repeats; empty for nothing."""
    ordered = sorted((figures[i] for i in meant), key=lambda f: (f.x - f.reach, f.y - f.reach))
    return " and ".join(dict.fromkeys(f"{f.colour} {NOUNS[f.shape]}" for f in ordered))


def make_request(
    rng: random.Random, kind: Kind, empty: bool, options: SceneOptions
) -> tuple[tuple[Figure, ...], Request]:
    """Figures, and a request about them that has one right answer.

    Args:
        rng: Decides all.
        kind: The kind of sentence.
        empty: Whether the answer is that nothing is meant.
        options: What the figures are like.
    """
    while True:
        form = rng.choice([form for form in FORMS[kind] if form.emptiable or not empty])
        largest = options.largest
        for _ in range(SCENES):
            loose = _loose(rng, options, largest)
            # Placing takes longest: figures about which nothing can be asked are not placed.
            if kind != "place" and _ask(rng, form, loose, empty) is None:
                continue
            figures = _placed(rng, loose, options.overlap)
            if figures is None:
                largest = max(0.95 * largest, options.smallest)
                continue
            request = _ask(rng, form, figures, empty)
            if request is not None:
                return figures, request


def more_requests(
    rng: random.Random, figures: Sequence[Figure], first: Request, count: int, options: SceneOptions
) -> list[Request]:
    """Further requests about figures, each with one right answer, all different; fewer where few are found.

    Args:
        rng: Decides all.
        figures: What is asked about.
        first: What is asked anyway.
        count: How many are wanted.
        options: Their kinds, and the share that means nothing.
    """
    found: list[Request] = []
    while len(found) < count:
        # Kinds in an order of chance, each tried some times, so that those that seldom fit are as frequent as they can be.
        for kind in rng.sample(options.kinds, len(options.kinds)):
            request = _other(rng, kind, figures, (first, *found), rng.random() < options.empty_share)
            if request is not None:
                found.append(request)
                break
        else:
            break
    return found


def _other(
    rng: random.Random, kind: Kind, figures: Sequence[Figure], asked: Collection[Request], empty: bool
) -> Request | None:
    """A request of a kind that is not asked yet; None where none was found."""
    forms = [form for form in FORMS[kind] if form.emptiable or not empty]
    for form in rng.sample(forms, len(forms)):
        request = _ask(rng, form, figures, empty)
        if request is not None and request not in asked:
            return request
    return None


def _ask(rng: random.Random, form: Form, figures: Sequence[Figure], empty: bool) -> Request | None:
    """A request of a form that has one right answer, one that means nothing if ``empty``; None where there is none."""
    for _ in range(FILLINGS):
        request = form.filled(rng, figures, empty)
        if bool(request.without) == form.without and empty == (not request.select(figures)) and request.clear(figures):
            return request
    return None


def _loose(rng: random.Random, options: SceneOptions, largest: float) -> list[Figure]:
    """Figures of a few colours and shapes, all in the middle."""
    number = rng.randint(options.min_objects, options.max_objects)
    figures = []
    for colour, shape in zip(_dealt(rng, list(COLOURS), number), _dealt(rng, list(NOUNS), number), strict=True):
        radius = options.smallest * (largest / options.smallest) ** rng.random()
        turn = math.radians(rng.uniform(-1, 1) * SHAPES[shape].swing)
        figures.append(Figure(shape, colour, 0.5, 0.5, radius, turn))
    return figures


def _dealt(rng: random.Random, names: Sequence[str], number: int) -> list[str]:
    """So many of a few of the names: about equally often each, or any of them by chance."""
    few = rng.sample(names, rng.randint(2, min(number, len(names))))
    if rng.random() < 0.5:
        return rng.choices(few, k=number)
    dealt = [few[i % len(few)] for i in range(number)]
    rng.shuffle(dealt)
    return dealt


def _placed(rng: random.Random, loose: Sequence[Figure], overlap: float) -> tuple[Figure, ...] | None:
    """The figures in places of their own, from the lowest one upwards; None where one found no place."""
    places = Places(overlap, GAP, stacked=False)
    # The largest first: the others find their places between them.
    for figure in sorted(loose, key=lambda f: f.radius, reverse=True):
        if not places.put(figure, (_point(rng, places, figure.reach) for _ in range(TRIES))):
            return None
    rng.shuffle(places.figures)
    return tuple(places.figures)


def _point(rng: random.Random, places: Places, reach: float) -> Point:
    """Anywhere in the picture; or, where figures may overlap, now and then beside one that is there.

    By chance alone, few would touch.
    """
    point = places.anywhere(rng, reach)
    if places.overlap and places.figures and rng.random() < 0.5:
        return places.beside(rng, reach, 0.8, 1.0)
    return point
