"""Predictions as films: how an answer came about, step by step."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from foveal.errors import UserError
from foveal.evaluation.predict import spread
from foveal.evaluation.sheet import contact_sheet
from foveal.files import disk_errors, write_bytes
from foveal.tasks.task import Example, Prediction, Task

#: How long a frame is shown, and the last one, in milliseconds.
FRAME, LAST = 600, 2500
#: Most frames on a sheet.
_SHEET = 24


def write_films(task: Task, examples: Sequence[Example], predictions: Sequence[Prediction], folder: Path) -> int:
    """Writes ``NAME.gif`` and ``NAME.png`` (the frames side by side) of each prediction into a folder.

    Returns:
        How many films were written.

    Raises:
        UserError: The task's answers do not come about in steps, or the folder cannot be written.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    used: set[str] = set()
    for example, prediction in zip(examples, predictions, strict=True):
        frames = task.frames(example, prediction)
        if not frames:
            raise UserError(f"--film: the answers of {task.name} do not come about in steps here; leave --film out.")
        name = _free(re.sub(r"[^\w.-]+", "_", Path(example.id).stem).strip("._") or "film", used)
        write_bytes(folder / f"{name}.gif", gif(frames))
        shown = [frames[i] for i in spread(len(frames), _SHEET)]
        if shown[-1] is not frames[-1]:
            shown[-1] = frames[-1]
        stream = io.BytesIO()
        contact_sheet([(f, "") for f in shown], columns=min(6, len(shown)), cell=240).save(stream, "PNG")
        write_bytes(folder / f"{name}.png", stream.getvalue())
    return len(examples)


def gif(frames: Sequence[Image.Image]) -> bytes:
    """An endless GIF whose last frame is held."""
    # One palette for all frames, or pixels that do not change would flicker.
    both = Image.new("RGB", (frames[0].width, 2 * frames[0].height))
    both.paste(frames[0], (0, 0))
    both.paste(frames[-1], (0, frames[0].height))
    palette = both.quantize(256, method=Image.Quantize.MEDIANCUT)
    drawn = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    times = [*[FRAME] * (len(drawn) - 1), LAST]
    stream = io.BytesIO()
    drawn[0].save(stream, "GIF", save_all=True, append_images=drawn[1:], duration=times, loop=0, optimize=False)
    return stream.getvalue()


def _free(name: str, used: set[str]) -> str:
    """The name, with a number where it is taken."""
    number, free = 1, name
    while free in used:
        number += 1
        free = f"{name}-{number}"
    used.add(free)
    return free
