"""How many masks a second does segmentation learn from when a row asks several sentences about its picture?

Run it as ``OMP_NUM_THREADS=1 python benchmarks/phrases.py``. The built-in model with a small decoder takes training steps of
the recipe ``segmentation`` (16 rows, drawing and encoding in the same process) with each value of ``data.phrases`` in turns,
so that whatever else the machine does meets all alike; medians by processor time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from foveal.asking.opening import open_model
from foveal.config.finding import find_recipe
from foveal.config.reading import read_recipe
from foveal.tasks.registry import find_task
from foveal.training.objectives import make_objective
from foveal.training.rows import TrainingRows


class Side:
    """A model with its rows, and the seconds of its steps.

    Args:
        phrases: ``data.phrases``.
        batch: Rows of a step.
    """

    def __init__(self, phrases: int, batch: int) -> None:
        recipe = read_recipe(find_recipe("segmentation"), ["--data.phrases", str(phrases), "--model.device", "cpu"])
        task: Any = find_task("segmentation")(recipe.data)
        self.phrases, self.batch, self.step = phrases, batch, 0
        segmenter: Any = open_model(task, recipe, weights=None, training=True)
        self.model = segmenter.model.train()
        self.objective = make_objective(recipe, task, segmenter)
        self.rows = TrainingRows(task, task.load("train").examples, 0)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.prepared: list[float] = []
        self.learned: list[float] = []
        self.masks = 0

    def take(self) -> None:
        """One training step."""
        start = time.process_time()
        first = self.step * self.batch
        batch = self.objective.collate([self.rows[i] for i in range(first, first + self.batch)])
        middle = time.process_time()
        self.model(**batch).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.prepared.append(middle - start)
        self.learned.append(time.process_time() - middle)
        self.masks += int(batch["amounts"].sum()) if self.step else 0
        self.step += 1


def main() -> None:
    """Prints a line for each number of phrases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phrases", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    sides = [Side(k, options.batch) for k in options.phrases]
    # The first step is a warm-up.
    for step in range(options.steps + 1):
        for side in sides if step % 2 else sides[::-1]:
            side.take()
    print(f"{torch.get_num_threads()} thread(s), {options.batch} rows a step, {options.steps} steps")
    base = 0.0
    for side in sides:
        prepared, learned = statistics.median(side.prepared[1:]), statistics.median(side.learned[1:])
        rows = side.batch / (prepared + learned)
        masks = rows * side.masks / (side.batch * options.steps)
        base = base or masks
        print(
            f"{side.phrases} phrases: {rows:.1f} rows/s, {masks:.1f} masks/s ({masks / base:.2f} times), "
            f"{1e3 * prepared:.0f} ms to prepare and {1e3 * learned:.0f} ms to learn a step"
        )


if __name__ == "__main__":
    main()
