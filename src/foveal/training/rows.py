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
    """An example with its prompt, and the prompt of its mirror where that is learned too."""

    example: Example
    prompt: Prompt
    mirror: Prompt | None = None


class TrainingRows(torch.utils.data.Dataset[Row]):
    """Examples as a map-style data set.

    Augmentation draws from ``random.Random(seed, epoch, index)``, so that a resumed run and any number of workers see
    the same rows. The trainer sets ``epoch`` before each pass.
    """

    def __init__(self, task: Task, examples: Sequence[Example], seed: int, *, mirrors: bool = False) -> None:
        self.task, self.examples, self.seed, self.epoch, self.mirrors = task, examples, seed, 0, mirrors

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Row:
        example = self.examples[index]
        source = f"{self.seed}/{self.epoch}/{index}"
        return make_row(self.task, example, self.mirrors, source)


def make_row(task: Task, example: Example, mirrors: bool, source: str | None = None) -> Row:
    """A row; with ``source``, the seed of its augmentation, which its mirror shares."""
    prompt = task.prompt(example, None if source is None else random.Random(source))
    other = task.mirror(example) if mirrors else None
    if other is None:
        return Row(example, prompt)
    return Row(example, prompt, task.prompt(other, None if source is None else random.Random(source)))
