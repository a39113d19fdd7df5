"""The training rows: examples turned into prompts, with randomness that depends on nothing but (seed, epoch, row)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from foveal.prompts import Prompt
from foveal.tasks.task import Example, Task


@dataclass(frozen=True)
class Row:
    """An example with its prompt."""

    example: Example
    prompt: Prompt


class TrainingRows(torch.utils.data.Dataset[Row]):
    """Examples as a map-style data set.

    Augmentation draws from ``random.Random(seed, epoch, index)``, so that a resumed run and any number of workers see
    the same rows. The trainer sets ``epoch`` before each pass.
    """

    def __init__(self, task: Task, examples: Sequence[Example], seed: int) -> None:
        self.task, self.examples, self.seed, self.epoch = task, examples, seed, 0

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Row:
        example = self.examples[index]
        rng = random.Random(f"{self.seed}/{self.epoch}/{index}")
        return Row(example, self.task.prompt(example, rng))
