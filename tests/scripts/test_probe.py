"""The probe finds what a tower's states hold, and no more."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "pretrain_builtin"))

import probe
from foveal.tasks.counting.generate import SceneOptions, Scenes


class Oracle(nn.Module):
    """A tower whose states are the truth of the scenes that it is asked about, in turn, or noise."""

    def __init__(self, knows: bool) -> None:
        super().__init__()
        self.knows, self.calls = knows, 0
        options = SceneOptions(0, 10, 168, 4, 0.25)
        self.figures = [
            s.figures for split, n in (("train", 300), ("test", 100))
            for s in map(Scenes(n, split, 11, options).scene, range(n))
        ]  # fmt: skip

    def forward(self, pixels: torch.Tensor) -> SimpleNamespace:
        now = self.figures[self.calls : self.calls + len(pixels)]
        self.calls += len(pixels)
        states = torch.randn(len(pixels), 144, 20) * 0.01
        if self.knows:
            table = probe.places(now, 12)
            truth = torch.cat(
                [functional.one_hot(table["shape"], 8), functional.one_hot(table["colour"], 8), table["offset"],
                 torch.ones(len(table["shape"]), 1)], 1,
            )  # fmt: skip
            states[table["scene"], table["patch"], :19] += truth
        return SimpleNamespace(last_hidden_state=states)


@pytest.mark.parametrize("knows", [True, False])
def test_a_tower_that_knows_all_gets_all_and_one_that_knows_nothing_is_at_chance(knows: bool) -> None:
    torch.manual_seed(0)
    found = probe.probe(Oracle(knows), 300, 100)
    if knows:
        # Two figures with their middles in one patch hide each other.
        assert found["shape"] > 0.98 and found["colour"] > 0.98 and found["within one patch"] > 0.99
        assert found["place"] < 0.1
    else:
        assert abs(found["shape"] - 1 / 8) < 0.06 and abs(found["colour"] - 1 / 8) < 0.06
        assert found["within one patch"] < 0.05
