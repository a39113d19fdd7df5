"""A run that was made before the modules had their present names still opens, predicts, measures and is resumed.

``old_run`` was made by ``foveal train blindtest-lines --data.train 12 --data.validation 3 --data.test 3 --data.image_size 112
--training.epochs 1 --model.adapter lora --model.lora.r 1 --training.optimizer adamw --training.batch_size 4``; its recipe
still has the keys model.vision and model.sam, which every recipe had then.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import foveal

OLD = Path(__file__).parent / "old_run"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old", symlinks=True))


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_its_adapter_gives_the_probabilities_that_it_gave(run, command):
    assert command("evaluate", run, "--as", "again").code == 0
    for old, new in zip(rows(OLD / "evaluation/test"), rows(run / "evaluation/again"), strict=True):
        assert (new["id"], new["value"], new["truth"]) == (old["id"], old["value"], old["truth"])
        # In bfloat16 on one processor and float32 on another.
        assert new["probabilities"] == pytest.approx(old["probabilities"], abs=0.02)
    old, new = (
        json.loads((f / "results.json").read_text()) for f in (OLD / "evaluation/test", run / "evaluation/again")
    )
    same = ("headline", "metrics", "chance", "interval_95", "rows", "source", "split", "task", "model")
    assert {k: new[k] for k in same} == {k: old[k] for k in same}


def test_python_opens_it(run, tmp_path):
    from PIL import Image

    Image.new("RGB", (112, 112), "white").save(tmp_path / "blank.png")
    answer = foveal.load(run).predict(tmp_path / "blank.png")
    assert answer.response in ("0", "1", "2") and sum(answer.probabilities.values()) == pytest.approx(1)


def test_it_is_resumed_as_finished_and_keeps_its_rows(run, command):
    before = (run / "metrics.csv").read_text()
    resumed = command("train", "--resume", run)
    assert resumed.code == 0 and "finished already" in resumed.out
    assert (run / "metrics.csv").read_text() == before


def test_its_recipe_trains_anew(run, command, tmp_path):
    made = command("train", run / "recipe.yaml", "--name", "new", "--output", tmp_path, "--training.max_steps", "1")
    assert made.code == 0 and (tmp_path / "new" / "report.html").is_file(), made.err


def test_a_key_that_said_something_to_another_task_is_refused(run, command):
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("vision: vlm", "vision: sam"))
    made = command("train", recipe)
    assert made.code == 2 and "there is no key 'model.vision'" in made.err
