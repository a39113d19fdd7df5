"""`foveal predict`: ask a run about pictures of your own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from foveal.cli.arguments import Parser, recipe_or_run, split_words
from foveal.devices import prepare
from foveal.errors import UserError

if TYPE_CHECKING:
    from foveal.asking.answer_files import Answered, Tally

_OWN = ("--out", "--sheet", "--film", "--files", "--text", "--checkpoint", "--limit")
_FLAGS = ("-h", "--help", "--skip-bad")
_TABLE_ROWS = 40
_SHEET_CELLS = 60


def parser() -> Parser:
    """The command's own options; a recipe's keys come beside them."""
    p = Parser(prog="foveal predict", description="Asks a run about pictures; prints answers with their probabilities.")
    p.add_argument("target", metavar="RUN|RECIPE", help="a run's folder, or a recipe (asks its model as it is)")
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
        "--files", type=Path, metavar="FOLDER", help="write what the answers amount to, e.g. masks (tasks that have it)"
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
    recipe, found = recipe_or_run(given.target, rest)
    prepare(recipe.model.device)
    from foveal.asking.answer_files import facts_of, open_answers
    from foveal.asking.pictures import common_folder, export_folder, find_pictures, stream
    from foveal.evaluation.evaluate import open_predictor
    from foveal.files import check_writable
    from foveal.progress import counting
    from foveal.quiet import quiet
    from foveal.report.pictures import write_sheet
    from foveal.tasks.capabilities import Export, Films, check_words, description_of
    from foveal.tasks.registry import find_task

    quiet()
    for folder in (given.film, given.files):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: is a file; give a folder's name.")
    if given.sheet is not None:
        check_writable(given.sheet)
        if given.sheet.is_dir():
            raise UserError(f"{given.sheet}: is a folder; give a file's name.")
    kind = find_task(recipe.task)
    check_words(kind, given.text)
    if given.film is not None and not issubclass(kind, Films):
        raise UserError(f"--film: the answers of {kind.name} do not come about in steps; leave --film out.")
    if given.files is not None and not issubclass(kind, Export):
        raise UserError(f"--files: the answers of {kind.name} are no files; leave --files out.")
    answers = None
    if given.out is not None:
        facts = facts_of(recipe, found, given.checkpoint, given.text)
        answers = open_answers(given.out, facts, recipe.evaluation.batch_size)
    pictures = islice(find_pictures(given.pictures), given.limit or None)
    # The walk is short beside the asking, and tells how long that will take.
    total = sum(1 for p in pictures if answers is None or p not in answers)
    if answers is not None and answers.tally.rows:
        there = f"{given.out}: has {answers.tally.rows:,} answers"
        if total == 0:
            answers.finish()
            console.print(f"{there} and is complete; there is nothing new to ask.", soft_wrap=True)
            _tell_counts(console, answers.tally)
            return 0
        console.print(f"{there}; {total:,} more are asked.", soft_wrap=True)
    task, predictor, model = open_predictor(recipe, found, given.checkpoint)
    shown: list[Answered] = []
    bad: list[Answered] = []
    kept: list[Answered] = []
    most = max(_TABLE_ROWS, _SHEET_CELLS)
    done = 0
    base = common_folder(given.pictures)

    def each(batch: list[Answered]) -> None:
        nonlocal done
        for a in batch:
            if a.prediction is None:
                bad.extend([a] if len(bad) < _TABLE_ROWS else [])
                continue
            done += 1
            shown.extend([a] if len(shown) < most else [])
            kept.extend([a] if given.film else [])
            if given.files:
                assert isinstance(task, Export)
                task.export(a.example, a.prediction, export_folder(given.files, a.path, base))
        progress(len(batch))

    pictures = islice(find_pictures(given.pictures), given.limit or None)
    try:
        with counting(console, f"asking {model}", total) as progress:
            tally = stream(task, predictor, pictures, answers, text=given.text, skip_bad=given.skip_bad, each=each)
    except KeyboardInterrupt:
        if answers is None:
            raise
        raise KeyboardInterrupt(f"the same command continues {given.out}") from None
    if not done and tally.rows == tally.bad:
        raise UserError(f"None of the {total} pictures can be read; the first: {bad[0].error}")
    table = Table("picture", "answer", "probability")
    for a in shown[:_TABLE_ROWS]:
        assert a.prediction is not None
        p = a.prediction
        table.add_row(
            str(a.path), description_of(task, p), "" if p.confidence is None else f"{100 * p.confidence:.1f} %"
        )
    console.print(table)
    if done > _TABLE_ROWS:
        console.print(f"… and {done - _TABLE_ROWS:,} more")
    for a in bad:
        assert a.error is not None
        console.print(f"left out: {a.path}: {a.error.removeprefix(f'{a.path}: ')}", markup=False, soft_wrap=True)
    _tell_counts(console, tally)
    if given.out:
        console.print(f"Answers: {given.out}", soft_wrap=True)
    if given.files:
        console.print(f"Files: in {given.files}", soft_wrap=True)
    if given.sheet:
        cells = shown[:_SHEET_CELLS]
        write_sheet(task, [a.example for a in cells], [a.prediction for a in cells if a.prediction], given.sheet)
        console.print(f"Sheet: {given.sheet}", soft_wrap=True)
    if given.film:
        from foveal.report.films import write_films

        made = write_films(task, [a.example for a in kept], [a.prediction for a in kept if a.prediction], given.film)
        console.print(f"Films: {made} in {given.film}", soft_wrap=True)
    return 0


def _tell_counts(console: Console, tally: Tally) -> None:
    """One line of how often each answer was given, and one of pictures left out."""
    if tally.counts and tally.rows > 1:
        words = sorted(tally.counts.items(), key=lambda item: -item[1])
        parts = [f"{word} {count:,}" for word, count in words]
        parts += [f"no answer {tally.unread:,}"] if tally.unread else []
        console.print(f"{tally.rows - tally.bad:,} answers: {', '.join(parts)}", markup=False, soft_wrap=True)
    if tally.bad:
        console.print(f"{tally.bad:,} of {tally.rows:,} pictures could not be read and were left out", soft_wrap=True)
