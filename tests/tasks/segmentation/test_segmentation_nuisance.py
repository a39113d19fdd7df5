"""Where a figure lies, how large it is and what lies on it do not tell whether its colour and shape are asked about."""

from __future__ import annotations

import random
from typing import Any

from foveal.tasks.segmentation.generate import SceneOptions, Scenes
from nuisance import DEVIATIONS, surplus


def figures(kind: Any) -> tuple[list[dict[str, Any]], list[bool]]:
    """A figure of each scene, and whether it is meant."""
    found = Scenes(1400, "train", 5, SceneOptions(kinds=(kind,), min_objects=4, max_objects=4))
    properties, meant = [], []
    for i in range(len(found)):
        scene, request, _ = found.asked(i)
        chosen = request.select(scene.figures)
        # As many that are meant as others, or "not meant" would be right too often.
        some = [k for k in range(len(scene.figures)) if (k in chosen) == (i % 2 == 0)]
        if not some:
            continue
        which = random.Random(i).choice(some)
        figure = scene.figures[which]
        properties.append({
            "x": figure.x, "y": figure.y, "radius": figure.radius, "level": which, "shape": figure.shape,
            "colour": figure.colour, "turn": figure.turn, "pattern": str(scene.ground.pattern), "paper": scene.ground.paper,
        })  # fmt: skip
        meant.append(which in chosen)
    return properties, meant


def test_no_nuisance_tells_which_figure_is_meant() -> None:
    assert surplus(*figures("attribute")) < DEVIATIONS


def test_meant_figures_that_are_seldom_on_the_right_are_found() -> None:
    rows = [
        (figure, meant)
        for figure, meant in zip(*figures("attribute"), strict=True)
        if meant == (figure["x"] < 0.5) or figure["y"] < 0.4
    ]
    assert surplus([figure for figure, _ in rows], [meant for _, meant in rows]) > DEVIATIONS
