"""Nothing that has nothing to do with a puzzle's question tells its answer.

What belongs to the question is left out: how far the ink goes (more squares, shapes, cells, routes are more ink), the
words and the place of the ellipse (they hold the letter), the lines' own heights, and the gap of two circles.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest

from foveal.tasks.blindtest import circles, grids, letters, lines, shapes, squares, subway
from foveal.tasks.blindtest.all import PUZZLES
from foveal.tasks.blindtest.generate import PuzzleScene, Sampler, Scenes
from nuisance import DEVIATIONS, surplus

Properties = Mapping[str, Any]


def of_lines(scene: lines.Scene) -> Properties:
    """Their middle height too; where they bend and how long they are decides how often they meet."""
    look = scene.look
    return {
        "width": look.pen.width, "blur": look.pen.blur, "cap": look.pen.cap, "kernel": look.pen.kernel, "blue": look.blue,
        "red": look.red, "ground": look.ground, "top": look.red_on_top, "x": scene.x,
        "height": sum(scene.blue + scene.red),
    }  # fmt: skip


def of_circles(scene: circles.Scene) -> Properties:
    """All but the gap."""
    look, (first, second) = scene.look, scene.diameters
    return {
        "place": (scene.x, scene.y), "diameters": scene.diameters, "ratio": first / second, "angle": scene.angle,
        "kernel": look.kernel, "blur": look.blur, "colours": look.colours[0] + look.colours[1], "ground": look.ground,
        "top": look.first_on_top,
    }  # fmt: skip


def of_letters(scene: letters.Scene) -> Properties:
    """Lengths in sizes of the font, which is smaller for longer words: the word holds the letter."""
    look = scene.look
    return {
        "face": str(look.face), "stretch": scene.stretch, "width": scene.width / scene.em, "blur": look.blur,
        "kernel": look.kernel, "ink": look.ink, "red": look.red, "ground": look.ground,
    }  # fmt: skip


def of_shapes(scene: shapes.Scene) -> Properties:
    """Not the middle from left to right: of an even number one row is shifted. Nor the colours of the published ones."""
    look, (_, y) = scene.look, zip(*scene.centres, strict=True)
    return {
        "shape": scene.shape, "size": scene.size, "turn": scene.turn, "width": look.width, "blur": look.blur,
        "kernel": look.kernel, "ground": look.ground, "black": len(look.colours) == 1, "y": min(y) + max(y),
    }  # fmt: skip


def of_squares(scene: squares.Scene) -> Properties:
    """The outermost square; those inside are what is counted."""
    look, box = scene.look, scene.boxes[0]
    return {
        "box": box, "side": box[2] - box[0], "width": scene.width, "ink": look.ink, "ground": look.ground,
        "kernel": look.kernel, "blur": look.blur,
    }  # fmt: skip


def of_grids(scene: grids.Scene) -> Properties:
    """Not the words' size, which the cells force."""
    look, writing, (across, down) = scene.look, scene.writing, (scene.across, scene.down)
    return {
        "box": (across[0][0], across[-1][1], down[0][0], down[-1][1]), "width": across[1][1] - across[1][0],
        "ink": look.ink, "ground": look.ground, "kernel": look.kernel, "blur": look.blur,
        "font": writing.font if writing else "", "first": writing.words[0][0] if writing else "",
    }  # fmt: skip


def of_subway(scene: subway.Scene) -> Properties:
    """Routes of a station among them; for the length of the map see the test about neighbours."""
    look = scene.look
    return {
        "routes": len(scene.routes), "opposite": opposite(scene), "from": scene.asked[0], "to": scene.asked[1],
        "width": look.width, "first": len(scene.routes[0]), "ground": look.ground, "ink": look.ink, "origin": look.origin,
        "cell": look.cell, "em": look.em, "font": look.font, "kernel": look.kernel, "blur": look.blur,
        "colours": look.colours[0] + look.colours[1],
    }  # fmt: skip


def opposite(scene: subway.Scene) -> bool:
    return "".join(sorted(scene.asked)) in ("AC", "BD")


OF: Mapping[str, Callable[[Any], Properties]] = {
    "lines": of_lines, "circles": of_circles, "letters": of_letters, "shapes": of_shapes, "squares": of_squares,
    "grids": of_grids, "subway": of_subway,
}  # fmt: skip


def made(name: str, style: str, count: int) -> list[Any]:
    return [Scenes(PUZZLES[name], style, 224, "train", 11)(i) for i in range(count)]


@pytest.mark.parametrize(("name", "style"), [(name, style) for name, task in PUZZLES.items() for style in task.styles])
def test_no_nuisance_tells_the_answer(name: str, style: str) -> None:
    scenes = made(name, style, 1200)
    properties = [OF[name](scene) for scene in scenes]
    if (name, style) == ("shapes", "varied"):
        properties = [{**row, "first": s.look.colours[0]} for row, s in zip(properties, scenes, strict=True)]
    # The five kinds of gap, which are equally frequent, tell more than Yes and No.
    truths = [scene.label if name == "circles" else scene.truths[0] for scene in scenes]
    assert surplus(properties, truths) < DEVIATIONS


@pytest.mark.parametrize("style", ["paper", "varied"])
def test_a_maps_length_and_corners_do_not_tell_how_many_routes_join_neighbours(style: str) -> None:
    """Between opposite stations geometry forces it: twice the answer are routes from one side to the other."""
    scenes = [scene for scene in made("subway", style, 1500) if not opposite(scene)]
    properties = [
        {"routes": len(scene.routes), "length": length(scene), "corners": sum(map(len, scene.routes))}
        for scene in scenes
    ]
    assert surplus(properties, [scene.truths[0] for scene in scenes]) < DEVIATIONS


def length(scene: subway.Scene) -> int:
    return sum(abs(x - u) + abs(y - v) for route in scene.routes for (x, y), (u, v) in pairwise(route))


def leaking(rng: random.Random, number: int, size: int, scale: float) -> Sampler:
    """Squares as they must not be: the more, the larger the outermost one."""

    def sample() -> PuzzleScene:
        while True:
            scene = squares._varied(rng, number, size, scale)()
            if scene is not None and rng.random() < ((scene.boxes[0][2] - scene.boxes[0][0]) / 9200) ** (number - 2):
                return scene

    return sample


def test_a_size_that_tells_the_number_is_found() -> None:
    scenes: list[Any] = [leaking(random.Random(i), 2 + i % 4, 224, 1.0)() for i in range(1200)]
    assert surplus([of_squares(scene) for scene in scenes], [scene.label for scene in scenes]) > DEVIATIONS + 2


def test_routes_of_a_station_that_tell_the_answer_are_found() -> None:
    """As maps were drawn before: an answer that is any of the three, of those that the routes of a station leave."""
    rng, numbers, truths = random.Random(0), [], []
    for i in range(1200):
        truths.append(1 + i % 3)
        numbers.append({"routes": rng.randint(truths[-1], 3)})
    assert surplus(numbers, truths) > 10
