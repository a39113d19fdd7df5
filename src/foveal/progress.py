"""Progress on the terminal: one bar with images per second and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from foveal.terminal import counted


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
def progress_bar(console: Console, title: str, total: int) -> Iterator[Any]:
    """A bar for ``total`` images; yields the function to call with each number done. Ends with a line of its rate."""
    started = time.monotonic()
    with bar(console) as progress:
        task = progress.add_task(title, total=total, note="", images_per_step=1)
        yield lambda n: progress.advance(task, n)
    seconds = time.monotonic() - started
    if not console.is_terminal:
        console.print(
            f"{title}: {counted(total, 'image')}, {total / max(seconds, 1e-9):,.0f} images/s, {seconds:.1f} s"
        )
