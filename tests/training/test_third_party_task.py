from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image
from small import foveal

MODULE = '''
from dataclasses import dataclass
from pathlib import Path

from foveal.images import Picture
from foveal.prompts import Prompt
from foveal.examples import Example, Loaded
from foveal.tasks.task import Task


@dataclass
class ColoursData:
    """What to read."""

    folder: str
    """Folder of pictures named after their colour."""


class Colours(ClosedAnswers, BlindGuess, Task):
    name = "colours"
    summary = "Which colour fills the picture?"
    Data = ColoursData

    def load(self, split):
        files = sorted(Path(self.data.folder, split).glob("*.png"))
        return Loaded([Example(f.name, (Picture(f.name, f),), f.stem.split("_")[0]) for f in files], self.data.folder)

    def prompt(self, example, rng=None):
        return Prompt((example.images[0].open(),), "Which colour is this?", answer=example.truth)

    def answers(self):
        return ("red", "green", "blue")

    def parse(self, reply, example=None):
        return reply if reply in self.answers() else None

    def measure(self, examples, predictions):
        right = sum(e.truth == p.value for e, p in zip(examples, predictions, strict=True))
        return {"accuracy": right / len(examples)}

    def chance(self, examples):
        return 1 / 3
'''

RECIPE = """
task: colours
data:
  folder: pictures
training:
  epochs: 4
  batch_size: 8
  optimizer: muon
  learning_rate: 1e-3
evaluation:
  before: true
  shown: 6
"""


@pytest.mark.slow
def test_task_of_a_package_outside_the_tree_trains_evaluates_predicts_and_reports(tmp_path):
    package = tmp_path / "site"
    info = package / "my_colours-0.1.dist-info"
    info.mkdir(parents=True)
    (package / "my_colours.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-colours\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[foveal.tasks]\ncolours = my_colours:Colours\n")
    for split, count in (("train", 16), ("validation", 4), ("test", 4)):
        folder = tmp_path / "pictures" / split
        folder.mkdir(parents=True)
        for name, ink in (("red", (230, 20, 20)), ("green", (20, 160, 40)), ("blue", (20, 40, 230))):
            for i in range(count):
                Image.new("RGB", (40, 40), tuple(min(255, c + i) for c in ink)).save(folder / f"{name}_{i}.png")
    (tmp_path / "recipe.yaml").write_text(RECIPE)

    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    run = lambda *words: foveal(*words, cwd=tmp_path, PYTHONPATH=path)  # noqa: E731
    listed = run("tasks")
    assert "colours" in listed.stdout and "Which colour fills the picture?" in listed.stdout, listed.stderr
    trained = run("train", "recipe.yaml", "--name", "mine")
    assert trained.returncode == 0, trained.stderr
    results = json.loads((tmp_path / "runs/mine/evaluation/test/results.json").read_text())
    assert results["metrics"]["accuracy"] >= 11 / 12 and results["chance"] == pytest.approx(1 / 3)
    assert "colours" in (tmp_path / "runs/mine/report.html").read_text()
    evaluated = run("evaluate", "runs/mine", "--split", "validation", "--checkpoint", "last")
    assert evaluated.returncode == 0 and "accuracy" in evaluated.stdout, evaluated.stderr
    predicted = run("predict", "runs/mine", "pictures/test/blue_0.png", "--out", "answers.jsonl")
    assert predicted.returncode == 0, predicted.stderr
    assert json.loads(Path(tmp_path / "answers.jsonl").read_text())["value"] == "blue"
