"""The running epoch of a training, and when a training is over."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from foveal.config.sections import Training


@dataclass
class Epoch:
    """What the running epoch has summed up so far, in this process, and what its next checkpoint is.

    Attributes:
        loss: Sum of the losses of all optimizer steps.
        parts: The same of each part of the loss that has a name.
        steps: Optimizer steps.
        rows: Rows.
        started: Clock at its beginning, in seconds.
        checkpoint: Whether the next checkpoint is an epoch's or one in between.
        is_best: Whether the last measurement was the best so far.
        measured: The step of the last measurement.
    """

    loss: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    rows: int = 0
    started: float = field(default_factory=time.monotonic)
    checkpoint: Literal["epoch", "step"] = "epoch"
    is_best: bool = False
    measured: int = -1

    def begin(self) -> None:
        """Starts the sums anew."""
        self.loss, self.parts, self.steps, self.rows, self.started = 0.0, {}, 0, 0, time.monotonic()

    def add_parts(self, parts: Mapping[str, Any]) -> None:
        """Adds the named parts of a loss, scalars."""
        for name, part in parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + part.item()

    def resume(self, saved: Mapping[str, Any], *, is_main: bool) -> None:
        """Goes on from what a checkpoint kept.

        Args:
            saved: What ``sums`` returned.
            is_main: What is kept is the sum of all processes; the main one goes on with it.
        """
        self.loss, self.steps, self.rows = float(saved["loss"]) if is_main else 0.0, saved["steps"], saved["rows"]
        self.parts = {name: part if is_main else 0.0 for name, part in saved.get("parts", {}).items()}

    def sums(self, loss: float, parts: Mapping[str, float]) -> dict[str, Any]:
        """The epoch for a checkpoint, with the sums of all processes."""
        return {"loss": loss, "steps": self.steps, "rows": self.rows, "parts": dict(parts)}


def stops_early(training: Training, values: Sequence[float], *, higher_is_better: bool) -> bool:
    """Whether the validation metric has not improved for as long as ``training.early_stopping`` waits.

    Args:
        training: The recipe's section.
        values: The metric of each measurement so far.
        higher_is_better: Its direction.
    """
    if not training.early_stopping or not values:
        return False
    sign = 1 if higher_is_better else -1
    best = max(range(len(values)), key=lambda i: (sign * values[i], -i))
    return len(values) - 1 - best >= training.early_stopping


def steps_in_all(training: Training, rows: int, processes: int) -> int:
    """Optimizer steps of a whole training."""
    if training.max_steps > 0:
        return training.max_steps
    batches = math.ceil(rows / (training.batch_size * processes))
    return math.ceil(training.epochs * math.ceil(batches / training.accumulate))
