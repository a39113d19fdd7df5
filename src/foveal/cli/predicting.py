"""What `foveal predict` does once its words are read."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foveal.asking.answer_files import AnswerFile
from foveal.asking.answered import Answered, Kept, Tally
from foveal.asking.asker import Asker
from foveal.asking.opening import open_asker
from foveal.asking.pictures import common_folder, export_answers, find_pictures, stream
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.files import check_output
from foveal.images import LeftOut
from foveal.metrics.formats import percent
from foveal.progress import progress_bar
from foveal.report.films import write_films
from foveal.report.pictures import write_sheet
from foveal.runs import Run
from foveal.tasks.capabilities import Export, Films, check_words, description_of
from foveal.tasks.task import Task

#: Rows of the table, and pictures on the sheet.
TABLE_ROWS, SHEET_PICTURES = 40, 60


def pictures(given: argparse.Namespace, left: LeftOut | None = None) -> Iterator[Path]:
    """The picture files that are asked about, one after the other; ``left`` counts other files in their folders."""
    return islice(find_pictures(given.pictures, left), given.limit or None)


def check(given: argparse.Namespace, kind: type[Task]) -> None:
    """Refuses, before anything is loaded, options that cannot be written to or do not fit the task."""
    for folder in (given.film, given.files):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: is a file; give a folder's name.")
    check_output(given.sheet, (".png",))
    check_words(kind, given.text)
    if given.film is not None and not issubclass(kind, Films):
        raise UserError(f"--film: the answers of {kind.name} do not come about in steps; leave --film out.")
    if given.files is not None and not issubclass(kind, Export):
        raise UserError(f"--files: the answers of {kind.name} are no files; leave --files out.")


def answer(
    given: argparse.Namespace, console: Console, recipe: Recipe, opened: Run | None, answers: AnswerFile | None
) -> int:
    """Asks about the pictures that have no answer yet, and shows and writes all that was wished.

    Args:
        given: The command's own options.
        console: Where answers are printed.
        recipe: The recipe.
        opened: The run, where it is one.
        answers: The file of answers, if any.

    Raises:
        UserError: See ``stream``; or no picture can be read.
    """
    # The walk is short beside the model's work, and tells how long that will take.
    left = LeftOut()
    total = sum(1 for p in pictures(given, left) if answers is None or p not in answers)
    if left.count:
        console.print(left.sentence(), markup=False, soft_wrap=True)
    if answers is not None and answers.tally.rows:
        there = f"{given.out}: has {answers.tally.rows:,} answers"
        if total == 0:
            answers.finish()
            console.print(f"{there} and is complete; there is nothing new to ask.", soft_wrap=True)
            print_counts(console, answers.tally)
            return 0
        console.print(f"{there}; {total:,} more are asked.", soft_wrap=True)
    asker, model = open_asker(recipe, opened, given.checkpoint)
    try:
        tally, kept = ask(given, console, asker, answers, f"asking {model}", total)
    except KeyboardInterrupt:
        if answers is None:
            raise
        raise KeyboardInterrupt(f"the same command continues {given.out}") from None
    if not kept.number and tally.rows == tally.bad:
        raise UserError(f"None of the {total} pictures can be read; the first: {kept.bad[0].error}")
    print_answers(console, asker.task, kept)
    print_counts(console, tally)
    write(given, console, asker.task, kept)
    return 0


def ask(
    given: argparse.Namespace, console: Console, asker: Asker, answers: AnswerFile | None, title: str, total: int
) -> tuple[Tally, Kept]:
    """Asks about all pictures behind a progress bar."""
    kept = Kept(None if given.film else max(TABLE_ROWS, SHEET_PICTURES), TABLE_ROWS)
    base = common_folder(given.pictures)
    with progress_bar(console, title, total) as progress:

        def each(batch: list[Answered]) -> None:
            kept.add(batch)
            if given.files:
                export_answers(asker.task, batch, given.files, base)
            progress(len(batch))

        tally = stream(asker, pictures(given), answers, text=given.text, skip_bad=given.skip_bad, each=each)
    return tally, kept


def print_answers(console: Console, task: Task, kept: Kept) -> None:
    """Prints the first answers with their probabilities, and the reasons of pictures that were left out."""
    table = Table("picture", "answer", "probability")
    for example, p in kept.answers[:TABLE_ROWS]:
        probability = "" if p.confidence is None else percent(p.confidence, " %")
        table.add_row(str(Path(example.id)), description_of(task, p), probability)
    console.print(table)
    if kept.number > TABLE_ROWS:
        console.print(f"… and {kept.number - TABLE_ROWS:,} more")
    for a in kept.bad:
        reason = (a.error or "").removeprefix(f"{a.path}: ")
        console.print(f"left out: {a.path}: {reason}", markup=False, soft_wrap=True)


def print_counts(console: Console, tally: Tally) -> None:
    """Prints how often each answer came, and how many pictures were left out."""
    for line in tally.sentences():
        console.print(line, markup=False, soft_wrap=True)


def write(given: argparse.Namespace, console: Console, task: Task, kept: Kept) -> None:
    """Writes the sheet and the films, and says where everything is."""
    if given.out:
        console.print(f"Answers: {given.out}", soft_wrap=True)
    if given.files:
        console.print(f"Files: in {given.files}", soft_wrap=True)
    if given.sheet:
        first = kept.answers[:SHEET_PICTURES]
        write_sheet(task, [e for e, _ in first], [p for _, p in first], given.sheet)
        console.print(f"Sheet: {given.sheet}", soft_wrap=True)
    if given.film:
        made = write_films(task, [e for e, _ in kept.answers], [p for _, p in kept.answers], given.film)
        console.print(f"Films: {made} in {given.film}", soft_wrap=True)
