from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.counting.model import PointOutput, heat_map
from foveal.tasks.counting.specialist import Counter
from foveal.tasks.counting.task import Counting, CountingData, MarkingData


class Seen:
    """Stands for a tower: hands over the pictures that it is given."""

    def __init__(self, grid: int) -> None:
        self.grid, self.source = grid, "seen"

    def text(self, categories: list[str]) -> torch.Tensor:
        return torch.zeros(len(categories), 1)

    def pixels(self, picture: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(picture).copy())

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels


class Perfect(torch.nn.Module):
    """Stands for a network that sees each centre which no red pixel marks.

    Args:
        points: Centres as shares of the sides.
        grid: Patches along a side.
        chance: What it says of a patch with a centre.
    """

    def __init__(self, points: list[tuple[float, float]], grid: int, chance: float) -> None:
        super().__init__()
        self.points, self.grid, self.chance = points, grid, chance
        # By its parameters a model tells where it is.
        self.level = torch.nn.Parameter(torch.zeros(1))

    def forward(self, pixels: torch.Tensor, text: torch.Tensor) -> PointOutput:
        logits, points = [], []
        for picture in pixels:
            side = len(picture)
            left = [p for p in self.points if picture[int(p[1] * side), int(p[0] * side)].tolist() != [255, 0, 0]]
            heat, offset = heat_map(left, self.grid)
            place = torch.arange(self.grid**2)
            points.append((torch.stack((place % self.grid, place // self.grid), 1) + offset) / self.grid)
            chances = torch.where(heat > 0, self.chance, 2.0**-10)
            logits.append(chances.logit())
        return PointOutput(logits=torch.stack(logits), points=torch.stack(points))


def asked(order: str, points: list[tuple[float, float]], chance: float = 0.75) -> Prediction:
    task = Counting(CountingData(order=order, marking=MarkingData(color="red", alpha=1.0), categories=["dots"]))  # type: ignore[arg-type]
    counter = Counter(task, Perfect(points, 12, chance), Seen(12))  # type: ignore[arg-type]
    picture = Image.new("RGB", (120, 120), (200, 210, 190))
    return counter.ask([task.example_of([Picture("x.png", picture)])])[0]


def test_it_points_in_the_recipes_order_at_every_patch_above_one_half_until_nothing_is_left() -> None:
    # Two rows, of which the second is a little aslant; then one far below.
    points = [(0.9, 0.21), (0.1, 0.2), (0.5, 0.24), (0.6, 0.52), (0.2, 0.5), (0.5, 0.9)]
    told = asked("reading_order", points)
    assert told.extra["points"] == [[12, 24], [60, 28.8], [108, 25.2], [24, 60], [72, 62.4], [60, 108]]
    assert (told.value, told.extra["end"], told.extra["repeats"]) == (6, "done", 0)
    # A point's chance is its patch's; that of done is that no patch has any.
    assert told.extra["step_confidence"] == [0.75] * 6 + [round((1 - 2.0**-10) ** 144, 4)]
    beside = asked("left_to_right", points)
    assert [x for x, _ in beside.extra["points"]] == [12, 24, 60, 60, 72, 108]
    # From the first in reading order, each time to the nearest that is left; 47.7 and 48.1 pixels are equally near.
    nearest = asked("nearest_neighbor", points)
    assert nearest.extra["points"] == [[12, 24], [24, 60], [60, 28.8], [72, 62.4], [108, 25.2], [60, 108]]
    assert asked("random", points).value == 6


def test_it_points_on_while_half_an_object_is_expected_though_no_patch_reaches_one_half() -> None:
    # Two chances of 0.4375 are nearly one object; one of them with what all other patches have is 0.58; 0.14 is left of none.
    told = asked("reading_order", [(0.1, 0.2), (0.5, 0.5)], chance=0.4375)
    assert (told.value, told.extra["end"], told.extra["step_confidence"][:2]) == (2, "done", [0.4375] * 2)
    less = asked("reading_order", [(0.1, 0.2)], chance=0.25)
    assert (less.value, less.extra["end"], less.extra["step_confidence"]) == (
        0, "done", [round(0.75 * (1 - 2.0**-10) ** 143, 4)],
    )  # fmt: skip
