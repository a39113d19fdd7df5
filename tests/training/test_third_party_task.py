"""The page on tasks, taken at its word: its files, pasted into an empty package, train and report."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from PIL import Image
from small import foveal

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"


def pasted(folder: Path) -> Path:
    """An installed package of the page's files, with pictures of three colours and the recipe beside it."""
    own = PAGE.read_text().split("## A task of your own")[1]
    blocks = dict(re.findall(r"```(python|toml|yaml)\n(.*?)```", own, flags=re.DOTALL))
    package = folder / "site"
    info = package / "my_colours-0.1.dist-info"
    info.mkdir(parents=True)
    (package / "colours.py").write_text(blocks["python"])
    points = tomllib.loads(blocks["toml"])["project"]["entry-points"]
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-colours\nVersion: 0.1\n")
    lines = [line for group, of in points.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in of.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (folder / "recipe.yaml").write_text(blocks["yaml"])
    for split, count in (("train", 16), ("validation", 4), ("test", 4)):
        (folder / "pictures" / split).mkdir(parents=True)
        for name, ink in (("red", (230, 20, 20)), ("green", (20, 160, 40)), ("blue", (20, 40, 230))):
            for i in range(count):
                picture = Image.new("RGB", (40, 40), tuple(min(255, c + i) for c in ink))
                picture.save(folder / "pictures" / split / f"{name}_{i}.png")
    return package


def path_with(package: Path) -> str:
    return os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])


@pytest.mark.slow
def test_the_pages_sample_trains_evaluates_predicts_and_reports(tmp_path):
    path = path_with(pasted(tmp_path))
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


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (('name = "colours"', "name = colour"), "NameError: name 'colour' is not defined"),
        (("class Colours(ClosedAnswers, ", "class Colours("), "has answers, but is no ClosedAnswers; add"),
        (
            ("class Colours(ClosedAnswers, BlindGuess, Task)", "class Colours"),
            "is no subclass of foveal.tasks.task.Task",
        ),
    ],
)
def test_a_broken_task_is_a_sentence_and_the_others_are_listed(tmp_path, broken, sentence):
    package = pasted(tmp_path)
    module = package / "colours.py"
    text = module.read_text()
    assert broken[0] in text
    module.write_text(text.replace(*broken))
    listed = foveal("tasks", cwd=tmp_path, PYTHONPATH=path_with(package))
    assert listed.returncode == 0 and "Traceback" not in listed.stderr
    words = " ".join(listed.stdout.split())
    assert sentence in words and "classification" in words and "blindtest/lines" in words
    trained = foveal("train", "recipe.yaml", cwd=tmp_path, PYTHONPATH=path_with(package))
    assert trained.returncode == 2 and sentence in " ".join(trained.stderr.split())
