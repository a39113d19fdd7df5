"""`foveal predict`: ask a run about pictures of your own."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from foveal.config.arguments import Parser, split_words
from foveal.config.finding import recipe_or_run
from foveal.devices import prepare
from foveal.errors import UserError

if TYPE_CHECKING:
    from foveal.asking.answer_files import AnswerFile
    from foveal.asking.answered import Answered, Kept, Tally
    from foveal.asking.asker import Asker
    from foveal.tasks.task import Task

_OWN = ("--out", "--sheet", "--film", "--files", "--text", "--checkpoint", "--limit")
_FLAGS = ("-h", "--help", "--skip-bad")
_TABLE_ROWS = 40
_SHEET_CELLS = 60


def parser() -> Parser:
    """The command's own options; a recipe's keys come beside them."""
    p = Parser(prog="foveal predict", description="Asks a run about pictures; prints answers with their probabilities.")
    p.add_argument(
        "target", metavar="RUN|RECIPE", help="a run's folder, or a recipe (asks its model, or server, as it is)"
    )
    p.add_argument(
        "pictures", nargs="+", metavar="PICTURE|FOLDER", help="picture files, or folders that are searched for them"
    )
    p.add_argument("--text", metavar="WORDS", help="what is asked about, for tasks that need words, e.g. a sentence")
    p.add_argument(
        "--out",
        type=Path,
        metavar="FILE.jsonl|FILE.parquet",
        help="write a row for each picture; the same command continues it after an interruption",
    )
    p.add_argument(
        "--files",
        type=Path,
        metavar="FOLDER",
        help="write the files that are made of answers, e.g. masks (tasks that have them)",
    )
    p.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE.png",
        help=f"write a sheet of the first {_SHEET_CELLS} pictures with answers",
    )
    p.add_argument(
        "--film", type=Path, metavar="FOLDER", help="write how each answer came about, as a GIF and a sheet (counting)"
    )
    p.add_argument("--checkpoint", default="best", help="best, last or epoch-N (default: best)")
    p.add_argument("--limit", type=int, default=0, help="at most so many pictures (default 0: all)")
    p.add_argument(
        "--skip-bad", action="store_true", help="leave unreadable pictures out and say how many, in place of stopping"
    )
    return p


def run(arguments: Sequence[str], console: Console) -> int:
    """Asks."""
    own, rest = split_words(arguments, _FLAGS, _OWN)
    given = parser().parse_args(own)
    if given.limit < 0:
        raise UserError("--limit: must be at least 0.")
    recipe, opened = recipe_or_run(given.target, rest)
    prepare(recipe.model.device)
    from foveal.asking.answer_files import facts_of, open_answers
    from foveal.asking.opening import open_asker
    from foveal.quiet import quiet
    from foveal.tasks.registry import find_task

    quiet()
    _check(given, find_task(recipe.task))
    answers = None
    if given.out is not None:
        facts = facts_of(recipe, opened, given.checkpoint, given.text)
        answers = open_answers(given.out, facts, recipe.evaluation.batch_size)
    # The walk is short beside the model's work, and tells how long that will take.
    total = sum(1 for p in _pictures(given) if answers is None or p not in answers)
    if answers is not None and answers.tally.rows:
        there = f"{given.out}: has {answers.tally.rows:,} answers"
        if total == 0:
            answers.finish()
            console.print(f"{there} and is complete; there is nothing new to ask.", soft_wrap=True)
            _print_counts(console, answers.tally)
            return 0
        console.print(f"{there}; {total:,} more are asked.", soft_wrap=True)
    asker, model = open_asker(recipe, opened, given.checkpoint)
    try:
        tally, kept = _ask(given, console, asker, answers, f"asking {model}", total)
    except KeyboardInterrupt:
        if answers is None:
            raise
        raise KeyboardInterrupt(f"the same command continues {given.out}") from None
    if not kept.number and tally.rows == tally.bad:
        raise UserError(f"None of the {total} pictures can be read; the first: {kept.bad[0].error}")
    _print_answers(console, asker.task, kept)
    _print_counts(console, tally)
    _write(given, console, asker.task, kept)
    return 0


def _pictures(given: argparse.Namespace) -> Iterator[Path]:
    from foveal.asking.pictures import find_pictures

    return islice(find_pictures(given.pictures), given.limit or None)


def _check(given: argparse.Namespace, kind: type[Task]) -> None:
    """Refuses, before anything is loaded, options that cannot be written to or do not fit the task."""
    from foveal.files import check_writable
    from foveal.tasks.capabilities import Export, Films, check_words

    for folder in (given.film, given.files):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: is a file; give a folder's name.")
    if given.sheet is not None:
        check_writable(given.sheet)
        if given.sheet.is_dir():
            raise UserError(f"{given.sheet}: is a folder; give a file's name.")
    check_words(kind, given.text)
    if given.film is not None and not issubclass(kind, Films):
        raise UserError(f"--film: the answers of {kind.name} do not come about in steps; leave --film out.")
    if given.files is not None and not issubclass(kind, Export):
        raise UserError(f"--files: the answers of {kind.name} are no files; leave --files out.")


def _ask(
    given: argparse.Namespace, console: Console, asker: Asker, answers: AnswerFile | None, title: str, total: int
) -> tuple[Tally, Kept]:
    """Asks about all pictures behind a progress bar."""
    from foveal.asking.answered import Kept
    from foveal.asking.pictures import common_folder, export_answers, stream
    from foveal.progress import counting

    kept = Kept(None if given.film else max(_TABLE_ROWS, _SHEET_CELLS), _TABLE_ROWS)
    base = common_folder(given.pictures)
    with counting(console, title, total) as progress:

        def each(batch: list[Answered]) -> None:
            kept.add(batch)
            if given.files:
                export_answers(asker.task, batch, given.files, base)
            progress(len(batch))

        tally = stream(asker, _pictures(given), answers, text=given.text, skip_bad=given.skip_bad, each=each)
    return tally, kept


def _print_answers(console: Console, task: Task, kept: Kept) -> None:
    from foveal.tasks.capabilities import description_of

    table = Table("picture", "answer", "probability")
    for example, p in kept.answers[:_TABLE_ROWS]:
        probability = "" if p.confidence is None else f"{100 * p.confidence:.1f} %"
        table.add_row(str(Path(example.id)), description_of(task, p), probability)
    console.print(table)
    if kept.number > _TABLE_ROWS:
        console.print(f"… and {kept.number - _TABLE_ROWS:,} more")
    for a in kept.bad:
        reason = (a.error or "").removeprefix(f"{a.path}: ")
        console.print(f"left out: {a.path}: {reason}", markup=False, soft_wrap=True)


def _print_counts(console: Console, tally: Tally) -> None:
    for line in tally.sentences():
        console.print(line, markup=False, soft_wrap=True)


def _write(given: argparse.Namespace, console: Console, task: Task, kept: Kept) -> None:
    """Writes the sheet and the films, and says where everything is."""
    if given.out:
        console.print(f"Answers: {given.out}", soft_wrap=True)
    if given.files:
        console.print(f"Files: in {given.files}", soft_wrap=True)
    if given.sheet:
        from foveal.report.pictures import write_sheet

        first = kept.answers[:_SHEET_CELLS]
        write_sheet(task, [e for e, _ in first], [p for _, p in first], given.sheet)
        console.print(f"Sheet: {given.sheet}", soft_wrap=True)
    if given.film:
        from foveal.report.films import write_films

        made = write_films(task, [e for e, _ in kept.answers], [p for _, p in kept.answers], given.film)
        console.print(f"Films: {made} in {given.film}", soft_wrap=True)
