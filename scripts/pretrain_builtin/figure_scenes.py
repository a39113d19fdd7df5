"""Language scenes about figures: all points of a kind in one reply, the next one that is not marked, and which one a phrase means.

Words and formats are those of the recipes of counting and segmentation, so that these learn in minutes what is theirs alone.
Seeds are others than the tasks' own, which never have a scene of these.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from PIL import Image

from build import PATCH
from canvas import Question, Scene
from dense_scenes import Maps, figure_maps
from foveal.drawing.figures import COLOURS, SHAPES, Figure, make_ground
from foveal.tasks.counting.generate import Scene as Counted
from foveal.tasks.counting.generate import SceneOptions, make_scene
from foveal.tasks.counting.marking import mark
from foveal.tasks.counting.objects import Point, Thing
from foveal.tasks.counting.ordering import order
from foveal.tasks.counting.pointing import write_points
from foveal.tasks.segmentation import generate as segmentation
from foveal.tasks.segmentation.sentences import KINDS, Kind, Request

#: Places and orders are computed in a picture of this size; answers do not depend on it.
SIDE = 168
_UNIT = (SIDE, SIDE)
#: Colours of marks beside the one that contrasts most.
_TINTS = ("cyan", "red", "lime", "blue", "yellow", "magenta", "orange", "black", "white", "purple")


def _scene(rng: random.Random, most: int) -> Counted:
    number = rng.randint(0, most)
    return make_scene(rng, number, SceneOptions(0, most, SIDE, rng.choice((0, 2, 4, 8)), rng.choice((0.0, 0.25))))


def _ordered(scene: Counted, category: str) -> list[Thing]:
    """Things of a category in reading order."""
    things = Counted(category, scene.figures, scene.ground).things(SIDE)
    return [things[i] for i in order(things, "reading_order", _UNIT)]


def _categories(rng: random.Random, scene: Counted, count: int) -> list[str]:
    """The scene's category, others that are there, and now and then one that is not."""
    others = sorted({f.kind for f in scene.figures} - {scene.category})
    rng.shuffle(others)
    asked = [scene.category, *others]
    absent = f"{rng.choice(list(COLOURS))} {rng.choice(list(SHAPES))}"
    if absent not in asked and rng.random() < 0.25:
        asked.insert(rng.randint(0, 1), absent)
    return asked[:count]


def points(rng: random.Random, most: int = 12) -> Scene:
    """All points of up to four kinds of figures, and how many there are."""
    scene = _scene(rng, most)
    ask = []
    for category in _categories(rng, scene, 4):
        places = [thing.point for thing in _ordered(scene, category)]
        ask.append(_pointing("points", f"points {category}", places))
        if rng.random() < 0.3:
            ask.append(Question("count", f"count {category}", str(len(places))))
    return Scene([scene.draw], ask, partial(_maps, scene.figures))


def _pointing(
    kind: str, text: str, places: Sequence[Point], before: str = "", size: tuple[int, int] = _UNIT
) -> Question:
    """A question whose answer ends with places, given in pixels of a picture of ``size``."""
    width, height = size
    shares = tuple((x / width, y / height) for x, y in places)
    return Question(kind, text, before + write_points(places, size, "cells"), shares)


def _maps(figures: Sequence[Figure], view: int, marked: Sequence[Point] = ()) -> Maps:
    """What lies on each patch of a picture of figures, some of them marked at their middles."""
    maps = figure_maps(figures, view, view // PATCH)
    for x, y in marked:
        maps.put("marked", x, y)
    return maps


def marked(rng: random.Random, most: int = 12) -> Scene:
    """The next one of a kind in reading order that is not marked yet, or done."""
    scene = _scene(rng, most)
    things = _ordered(scene, scene.category)
    k = rng.randint(0, len(things)) if rng.random() > 0.1 else len(things)
    style = {
        "alpha": rng.uniform(0.2, 0.9), "color": rng.choice(_TINTS) if rng.random() < 0.7 else "contrast",
        "size": rng.uniform(1.1, 1.8), "relative": "image",
    }  # fmt: skip
    moved = [_moved(rng, thing) for thing in things[:k]]

    def draw(view: int) -> Image.Image:
        scale = view / SIDE
        shown = [Thing((x * scale, y * scale)) for x, y in moved]
        return mark(scene.draw(view), shown, "disc", **style)  # type: ignore[arg-type]

    ask = []
    for category in _categories(rng, scene, 2):
        left = things[k:] if category == scene.category else _ordered(scene, category)
        ask.append(_pointing("next", f"next {category}", [thing.point for thing in left[:1]]))
    middles = [(x / SIDE, y / SIDE) for x, y in (thing.point for thing in things[:k])]
    return Scene([draw], ask, partial(_maps, scene.figures, marked=middles))


def _moved(rng: random.Random, thing: Thing) -> Point:
    """A little off its middle, as a model's own points are."""
    reach = 0.2 * (thing.extent or 0)
    x, y = (v + rng.uniform(-reach, reach) for v in thing.point)
    return min(max(x, 0), SIDE), min(max(y, 0), SIDE)


def phrases(rng: random.Random) -> Scene:
    """Which figure a phrase means: its colour, shape and place. Several phrases about one picture."""
    options = segmentation.SceneOptions()
    # Not of kind place: that takes many scenes, and about most figures a question of place can be asked, too.
    kinds: tuple[Kind, ...] = ("attribute", "comparison", "oddity")
    kind = rng.choice(kinds)
    figures, request = segmentation.make_request(rng, kind, False, options)
    asked: dict[str, Request] = {request.text: request}
    for _ in range(12):
        form = rng.choice(segmentation.FORMS[rng.choice(KINDS)])
        other = form.filled(rng, figures, False)
        if bool(other.without) == form.without and other.select(figures) and other.clear(figures):
            asked.setdefault(other.text, other)
    scene = segmentation.Scene(figures, make_ground(rng))
    ask = []
    for text, one in asked.items():
        meant = one.select(figures)
        boxes = sorted((figures[i].box for i in meant), key=lambda box: (box[0], box[1]))
        middles = [((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in boxes]
        before = f"{segmentation.explanation(figures, meant)} "
        ask.append(_pointing(f"phrase: {one.kind}", text, middles, before, (1, 1)))
    return Scene([scene.draw], ask, partial(_maps, figures))


def crowd(rng: random.Random) -> Scene:
    """``points`` of up to thirty."""
    return points(rng, 30)


def marked_crowd(rng: random.Random) -> Scene:
    """``marked`` of up to thirty."""
    return marked(rng, 30)


def one(rng: random.Random) -> Scene:
    """A single figure and nothing else: where it is."""
    return _single(rng, 0)


def pick(rng: random.Random) -> Scene:
    """A single figure of a kind beside up to three others: where it is."""
    return _single(rng, 3)


def _single(rng: random.Random, others: int) -> Scene:
    scene = make_scene(rng, 1, SceneOptions(1, 1, SIDE, others, 0.0))
    ask = []
    # Several kinds of one picture: only the question tells which place is meant.
    for category in _categories(rng, scene, 4):
        places = [thing.point for thing in _ordered(scene, category)]
        word = rng.choice(("points", "next"))
        ask.append(_pointing(word, f"{word} {category}", places if word == "points" else places[:1]))
    return Scene([scene.draw], ask, partial(_maps, scene.figures))


#: One figure of a kind or two.
few = partial(points, most=2)
