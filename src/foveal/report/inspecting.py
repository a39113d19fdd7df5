"""Shows what a split of a task's data holds: truths, what is asked, and a sheet of pictures. Nothing imports torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from foveal.drawing.contact_sheet import contact_sheet, save_sheet
from foveal.examples import Example, Loaded, Split, evenly_spread
from foveal.metrics.formats import percent
from foveal.tasks.capabilities import drawing_of
from foveal.tasks.task import Task, load_split
from foveal.terminal import counted

#: Of more truths than this, the most frequent are listed.
_TRUTHS = 30


def inspect_split(task: Task, split: Split, console: Console, *, count: int, out: Path) -> None:
    """Prints counts, sizes and a prompt of a split, and writes a sheet of its pictures with their truths.

    Args:
        task: The task with its data section.
        split: What is looked at.
        console: Where the text goes.
        count: Most pictures on the sheet, evenly spread over the split.
        out: The sheet, a PNG file.

    Raises:
        UserError: The data are missing or malformed, or the sheet cannot be written.
    """
    loaded = load_split(task, split)
    examples = loaded.examples
    console.print(f"{task.name}, {split}: {counted(len(examples), 'row')} of {loaded.source}", soft_wrap=True)
    _print_rows(loaded, console)
    chosen = [examples[i] for i in evenly_spread(len(examples), count)]
    sizes = Counter(e.images[0].open().size for e in chosen)
    console.print("picture sizes on the sheet: " + ", ".join(f"{w} x {h} ({n})" for (w, h), n in sizes.most_common(5)))
    prompt = task.prompt(chosen[0])
    console.print(f"prompt: {prompt.user}\nanswer: {prompt.answer}", markup=False, soft_wrap=True)
    save_sheet(labelled_sheet(task, chosen), out)
    console.print(f"Sheet: {out}", soft_wrap=True)


def labelled_sheet(task: Task, examples: Sequence[Example]) -> Image.Image:
    """Pictures with their truths, and with the questions where these differ."""
    questions = [task.prompt(e).user for e in examples]
    differ = len(set(questions)) > 1
    captions = [f"{e.truth}\n{q}" if differ else str(e.truth) for e, q in zip(examples, questions, strict=True)]
    pictures = [drawing_of(task, e) for e in examples]
    return contact_sheet(list(zip(pictures, captions, strict=True)), columns=min(6, len(examples)))


def _print_rows(loaded: Loaded, console: Console) -> None:
    """Notes of the source, how many rows have each truth, and how many were left out."""
    for note in loaded.notes:
        console.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)
    table = Table("truth")
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    counts = Counter(str(e.truth) for e in loaded.examples)
    listed = counts.most_common(_TRUTHS) if len(counts) > _TRUTHS else sorted(counts.items())
    for truth, number in listed:
        table.add_row(truth, f"{number:,}", percent(number / len(loaded.examples), " %"))
    console.print(table)
    if len(counts) > len(listed):
        console.print(f"… and {counted(len(counts) - len(listed), 'more truth')}")
    if loaded.refused:
        where, reason = loaded.refused[0]
        console.print(f"{counted(len(loaded.refused), 'row')} left out, e.g. {where}: {reason}", soft_wrap=True)
