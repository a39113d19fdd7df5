"""Nothing in a counting scene but its targets tells how many there are.

Sizes are left out: many figures find room only if they are small, so that more of them, targets or not, are smaller.
"""

from __future__ import annotations

from foveal.tasks.counting.generate import Scenes
from nuisance import DEVIATIONS, surplus


def test_no_nuisance_tells_the_number_of_targets() -> None:
    found = Scenes(1400, "train", 5)
    scenes = [found.scene(i) for i in range(len(found))]
    properties = [
        {
            "category": scene.category, "others": len(scene.figures) - len(scene.targets), "pattern": str(scene.ground.pattern), "paper": scene.ground.paper, "pitch": scene.ground.pitch,
        }
        for scene in scenes
    ]  # fmt: skip
    # Few or many: of 21 numbers each is too rare to be guessed from 700 scenes.
    assert surplus(properties, [len(scene.targets) > 10 for scene in scenes]) < DEVIATIONS


def test_a_number_of_others_that_falls_with_the_targets_is_found() -> None:
    found = Scenes(800, "train", 5)
    numbers = [found.objects(i) for i in range(len(found))]
    assert surplus([{"others": 20 - n + n % 3} for n in numbers], [n > 10 for n in numbers]) > 10
