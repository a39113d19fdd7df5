"""The training rows: examples turned into prompts, with randomness that depends on nothing but (seed, epoch, row)."""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch

from foveal.errors import UserError
from foveal.examples import Example
from foveal.prompts import Prompt
from foveal.tasks.capabilities import MirroredPairs, WeightedRows
from foveal.tasks.task import Task


@dataclass(frozen=True)
class Row:
    """An example with its prompt, the prompt of its mirror where that is learned too, and how much both count."""

    example: Example
    prompt: Prompt
    mirror: Prompt | None = None
    weight: float = 1.0


class TrainingRows(torch.utils.data.Dataset[Row]):
    """Examples as a map-style data set.

    Augmentation draws from ``random.Random(seed, epoch, index)``, so that a resumed run and any number of workers see
    the same rows. The trainer sets ``epoch`` before each pass.

    Where the task names groups, an epoch has as many rows as ever, but as many of each group as of any other. The rows
    of all epochs are numbered through: of G groups, row s is of group s mod G and takes that group's next member, in an
    order that is shuffled once. So no member comes again before all others of its group have come, from one epoch to the
    next as well, and a row is known from its number alone.

    Raises:
        UserError: A row's weight is not more than 0 (when the row is taken).
    """

    def __init__(self, task: Task, examples: Sequence[Example], seed: int, *, mirrors: bool = False) -> None:
        self.task, self.examples, self.seed, self.epoch, self.mirrors = task, examples, seed, 0, mirrors
        groups = task.groups(examples) if isinstance(task, WeightedRows) else None
        self.members = [] if groups is None else members(groups, seed)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Row:
        example = self.examples[self.drawn(index)]
        weight = self.task.weight(example) if isinstance(self.task, WeightedRows) else 1.0
        if not 0 < weight < math.inf:
            raise UserError(f"{example.id}: the row's weight must be more than 0, not {weight:g}.")
        source = f"{self.seed}/{self.epoch}/{index}"
        return replace(make_row(self.task, example, self.mirrors, source), weight=weight)

    def drawn(self, index: int) -> int:
        """Which example this epoch's row of that number is."""
        if not self.members:
            return index
        # Out of range must stay an IndexError, by which a loop over the rows ends.
        slot = self.epoch * len(self) + range(len(self))[index]
        group = self.members[slot % len(self.members)]
        return group[slot // len(self.members) % len(group)]


def members(groups: Sequence[Hashable], seed: int) -> list[list[int]]:
    """The indices of each group's members, shuffled; groups in the order in which they first occur."""
    by_group: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        by_group.setdefault(group, []).append(index)
    for place, own in enumerate(by_group.values()):
        random.Random(f"{seed}/members/{place}").shuffle(own)
    return list(by_group.values())


def make_row(task: Task, example: Example, mirrors: bool, source: str | None = None) -> Row:
    """A row; with ``source``, the seed of its augmentation, which its mirror shares."""
    prompt = task.prompt(example, None if source is None else random.Random(source))
    other = task.mirror(example) if mirrors and isinstance(task, MirroredPairs) else None
    if other is None:
        return Row(example, prompt)
    return Row(example, prompt, task.prompt(other, None if source is None else random.Random(source)))
