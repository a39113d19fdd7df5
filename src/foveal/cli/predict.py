"""`foveal predict`: ask a run about pictures of your own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from foveal.config.arguments import Parser
from foveal.config.finding import recipe_or_run
from foveal.devices import prepare
from foveal.errors import UserError
from foveal.images import check_exists

#: What the keys of a recipe begin with that it takes beside its own options: it takes all.
KEYS = ""
#: Pictures on the sheet.
_SHEET_PICTURES = 60


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
        metavar="FILE.jsonl|FILE.csv|FILE.parquet",
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
        help=f"write a sheet of the first {_SHEET_PICTURES} pictures with answers",
    )
    p.add_argument(
        "--film",
        type=Path,
        metavar="FOLDER",
        help="write how each answer came about, as a GIF and a sheet (tasks that have it)",
    )
    p.add_argument("--checkpoint", default="best", help="best, last or epoch-N (default: best)")
    p.add_argument("--limit", type=int, default=0, help="at most so many pictures (default 0: all)")
    p.add_argument(
        "--skip-bad", action="store_true", help="leave unreadable pictures out and say how many, in place of stopping"
    )
    return p


def run(arguments: Sequence[str], console: Console) -> int:
    """Asks."""
    given, rest = parser().parse_own(arguments)
    if given.limit < 0:
        raise UserError("--limit: must be at least 0.")
    recipe, opened = recipe_or_run(given.target, rest)
    for place in () if given.skip_bad else given.pictures:
        check_exists(place)
    prepare(recipe.model.device)
    from foveal.asking.answer_files import facts_of, open_answers
    from foveal.cli.predicting import answer, check
    from foveal.quiet import quiet
    from foveal.tasks.registry import find_task

    quiet()
    check(given, find_task(recipe.task))
    if given.out is None:
        return answer(given, console, recipe, opened, None)
    facts = facts_of(recipe, opened, given.checkpoint, given.text)
    with open_answers(given.out, facts, recipe.evaluation.batch_size) as answers:
        return answer(given, console, recipe, opened, answers)
