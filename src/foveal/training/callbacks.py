"""What happens at the beginnings and ends of a training, its epochs and its steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import Progress
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from foveal.config.sections import Recipe
from foveal.metrics.formats import decimals
from foveal.progress import bar
from foveal.training.epochs import Epoch
from foveal.training.rows import TrainingRows


class EpochFlow(TrainerCallback):  # type: ignore[misc]
    """When to measure, to save and to stop; tells the rows their epoch, which decides on augmentation.

    Args:
        recipe: The resolved recipe.
        epoch: The running epoch, which the trainer sums up.
        rows: The training rows.
        stops: Whether the training shall stop early.
    """

    def __init__(self, recipe: Recipe, epoch: Epoch, rows: TrainingRows, stops: Callable[[], bool]) -> None:
        self.recipe, self.epoch, self.rows, self.stops = recipe, epoch, rows, stops

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The data set draws this epoch's augmentation; on the resumed epoch too."""
        self.rows.epoch = int(state.epoch or 0)
        self.epoch.started = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, train_dataloader: Any, **_: Any
    ) -> None:
        """Measurements and checkpoints inside an epoch."""
        self.epoch.steps += 1
        every, parts = self.recipe.training.save_steps, self.recipe.training.measurements
        in_epoch = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
        position = state.global_step % in_epoch
        if position == 0 or state.global_step >= state.max_steps:
            return  # an epoch's end measures before it saves, so that no checkpoint lacks its measurement
        measure = parts > 1 and position * parts // in_epoch > (position - 1) * parts // in_epoch
        if measure or (every and state.global_step % every == 0):
            self.epoch.checkpoint, self.epoch.is_best = "step", False
            control.should_save = True
            control.should_evaluate |= measure

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The next one is an epoch's, unless a step says otherwise."""
        self.epoch.checkpoint = "epoch"

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measure, and save where it is due; ``_determine_best_metric`` adds the best."""
        if state.global_step == self.epoch.measured:
            return  # it stopped early at a measurement inside the epoch, which was saved with it
        epoch, training = math.ceil(round(state.epoch or 0.0, 6)), self.recipe.training
        control.should_evaluate = True
        control.should_save |= epoch % training.save_epochs == 0 or state.global_step >= state.max_steps
        control.should_save |= training.save_steps > 0 and state.global_step % training.save_steps == 0

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stops early; what it stops at is the last checkpoint."""
        stops = self.stops()
        control.should_training_stop |= stops
        control.should_save |= stops


class TrainingBar(TrainerCallback):  # type: ignore[misc]
    """The bar of a training, with the running loss; without a terminal, a line for each epoch."""

    def __init__(self, console: Console, headline: str, images_per_step: int) -> None:
        self.console, self.headline, self.images_per_step = console, headline, images_per_step
        self.progress: Progress | None = None
        self.task: Any = None
        self.started = 0.0
        self.first_step = 0
        self.began = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Shows the bar."""
        self.began = True
        if not state.is_world_process_zero:
            return
        self.started, self.first_step = time.monotonic(), state.global_step
        self.progress = bar(self.console)
        self.progress.start()
        self.task = self.progress.add_task(
            "training", total=state.max_steps, completed=state.global_step, note="",
            images_per_step=self.images_per_step, start=state.global_step,
        )  # fmt: skip

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Moves the bar."""
        if self.progress is not None:
            self.progress.update(self.task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """The running loss."""
        if self.progress is not None and logs and "loss" in logs:
            self.progress.update(self.task, note=f"loss {logs['loss']:.4f}")

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """A line for each epoch."""
        if self.progress is None:
            return
        seconds = time.monotonic() - self.started
        rate = (state.global_step - self.first_step) * self.images_per_step / max(seconds, 1e-9)
        parts = [f"epoch {state.epoch:g}", f"step {state.global_step:,}", f"{rate:,.0f} images/s"]
        for key, label in (("eval_loss", "validation loss"), (f"eval_{self.headline}", self.headline)):
            if metrics and key in metrics:
                parts.append(f"{label} {decimals(metrics[key])}")
        self.progress.console.print("  " + "  ·  ".join(parts), soft_wrap=True)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Takes the bar away."""
        self.stop()

    def stop(self) -> None:
        """Takes the bar away, also when training failed."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
