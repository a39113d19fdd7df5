"""Progress on the terminal: one bar with images per second and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Rate(ProgressColumn):
    """Images per second over the whole bar so far."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        per_step = float(task.fields.get("images_per_step", 1))
        seconds = task.elapsed or 0.0
        done = (task.completed - float(task.fields.get("start", 0))) * per_step
        return Text(f"{done / seconds:,.0f} images/s" if seconds > 0.5 and done else "… images/s", style="cyan")


def bar(console: Console) -> Progress:
    """A progress bar with description, share, images per second, elapsed and remaining time."""
    return Progress(
        TextColumn("{task.description:<28}", markup=False), BarColumn(bar_width=28), TextColumn("{task.percentage:>3.0f} %"), Rate(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        console=console, transient=not console.is_terminal, disable=not console.is_terminal, refresh_per_second=4,
    )  # fmt: skip


@contextmanager
def counting(console: Console, title: str, total: int) -> Iterator[Any]:
    """A bar for ``total`` images; yields the function to call with each number done. Ends with a line of its rate."""
    started = time.monotonic()
    with bar(console) as progress:
        task = progress.add_task(title, total=total, note="", images_per_step=1)
        yield lambda n: progress.advance(task, n)
    seconds = time.monotonic() - started
    if not console.is_terminal:
        console.print(f"{title}: {total:,} images, {total / max(seconds, 1e-9):,.0f} images/s, {seconds:.1f} s")


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
                parts.append(f"{label} {metrics[key]:.4f}")
        self.progress.console.print("  " + "  ·  ".join(parts), soft_wrap=True)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Takes the bar away."""
        self.stop()

    def stop(self) -> None:
        """Takes the bar away, also when training failed."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
