"""Predictions as films: how an answer came about, step by step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from foveal.drawing.contact_sheet import save_sheet
from foveal.drawing.films import film_sheet, save_gif
from foveal.errors import UserError
from foveal.examples import Example
from foveal.results import Prediction
from foveal.tasks.capabilities import Films
from foveal.tasks.task import Task


def write_films(task: Task, examples: Sequence[Example], predictions: Sequence[Prediction], folder: Path) -> int:
    """Writes ``NAME.gif`` and ``NAME.png`` (the frames side by side) of each prediction into a folder.

    NAME is the example's file name; where two share one, the later one gets a number.

    Returns:
        How many films were written.

    Raises:
        UserError: The task's answers do not come about in steps, or the folder cannot be written.
    """
    used: set[str] = set()
    for example, prediction in zip(examples, predictions, strict=True):
        frames = task.frames(example, prediction) if isinstance(task, Films) else ()
        if not frames:
            raise UserError(f"--film: the answers of {task.name} do not come about in steps here; leave --film out.")
        name = _free(re.sub(r"[^\w.-]+", "_", Path(example.id).stem).strip("._") or "film", used)
        save_gif(frames, folder / f"{name}.gif")
        save_sheet(film_sheet(frames), folder / f"{name}.png")
    return len(examples)


def _free(name: str, used: set[str]) -> str:
    """The name, shortened to what file systems take, with a number where it is taken (in whatever case)."""
    name = name[:60]
    number, free = 1, name
    while free.casefold() in used:
        number += 1
        free = f"{name}-{number}"
    used.add(free.casefold())
    return free
