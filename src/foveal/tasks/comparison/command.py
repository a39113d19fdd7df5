"""`foveal rank`: rank pictures by a run's comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foveal.config.arguments import Parser
from foveal.config.finding import recipe_or_run
from foveal.drawing.contact_sheet import save_sheet
from foveal.errors import UserError
from foveal.files import as_csv, check_output, to_json, write_text
from foveal.images import LeftOut, Picture, find_images
from foveal.progress import progress_bar
from foveal.quiet import quiet
from foveal.tasks.comparison.rank import Place, rank_pictures, strip
from foveal.tasks.comparison.task import Comparison

#: What the keys of a recipe begin with that it takes beside its own options: it takes all.
KEYS = ""
_SHOWN = 40
#: Endings of the ranking's table.
_TABLES = (".csv", ".jsonl")


def parser() -> Parser:
    """The command's own options; a recipe's keys come beside them."""
    p = Parser(prog="foveal rank", description="Ranks pictures by comparisons that a run of the task comparison makes.")
    p.add_argument("target", metavar="RUN|RECIPE", help="a run of the task comparison, or a recipe of it")
    p.add_argument("pictures", nargs="+", metavar="PICTURE|FOLDER", help="two pictures or more, or folders of them")
    p.add_argument(
        "--comparisons", type=int, default=0, metavar="N", help="pairs to ask about (default: six for each picture)"
    )
    p.add_argument("--out", type=Path, metavar="FILE.csv|FILE.jsonl", help="write the ranking as a table")
    p.add_argument("--sheet", type=Path, metavar="FILE.png", help="write the ranking as a strip of pictures")
    p.add_argument("--checkpoint", default="best", help="best, last or epoch-N (default: best)")
    p.add_argument("--limit", type=int, default=0, help="at most so many pictures (default 0: all)")
    p.add_argument("--seed", type=int, default=0, help="of the first pairs (default 0)")
    p.add_argument("--one-order", action="store_true", help="ask each pair in one order only: half the work, less sure")
    return p


def run(arguments: Sequence[str], console: Console) -> int:
    """Ranks."""
    given, rest = parser().parse_own(arguments)
    recipe, ranking_run = recipe_or_run(given.target, rest)
    if recipe.task != Comparison.name:
        raise UserError(f"{given.target}: is of the task {recipe.task}; a ranking needs a run of {Comparison.name}.")
    if given.comparisons < 0 or given.limit < 0:
        raise UserError("--comparisons and --limit: must be at least 0.")
    left = LeftOut()
    files = _pictures(given.pictures, given.limit, recipe.model.max_pixels, left)
    if left.count:
        console.print(left.sentence(), markup=False, soft_wrap=True)
    number = _comparisons(given.comparisons, len(files))
    check_output(given.out, _TABLES)
    check_output(given.sheet, (".png",))
    quiet()
    from foveal.asking.opening import open_asker  # imports torch, which takes seconds

    asker, model = open_asker(recipe, ranking_run, given.checkpoint)
    task = asker.task
    assert isinstance(task, Comparison)
    with progress_bar(console, f"comparing with {model}", number) as progress:
        places = rank_pictures(
            task, lambda rows: list(asker.ask(rows)), files, number, both_orders=not given.one_order,
            seed=given.seed, progress=progress,
        )  # fmt: skip
    _print(places, console)
    if given.out:
        write_text(given.out, _table(places, given.out.suffix.lower()))
        console.print(f"Ranking: {given.out}", soft_wrap=True)
    if given.sheet:
        save_sheet(strip(places), given.sheet)
        console.print(f"Strip: {given.sheet}", soft_wrap=True)
    return 0


def _pictures(names: Sequence[str], limit: int, max_pixels: int, left: LeftOut) -> list[Path]:
    """The picture files that are ranked, all of which can be opened; ``left`` counts other files in their folders."""
    files: list[Path] = []
    for name in names:
        files += find_images(name, left) if Path(name).is_dir() else [Path(name)]
    files = list(dict.fromkeys(files))[: limit or None]
    for file in files:
        Picture(str(file), file, max_pixels).open()
    if len(files) < 2:
        raise UserError(f"{files[0]}: is the only picture; a ranking needs at least two.")
    return files


def _comparisons(wanted: int, files: int) -> int:
    """How many pairs are asked about: as many as wanted, or six for each picture."""
    pairs = files * (files - 1) // 2
    usual = min(6 * files, pairs)
    number = min(wanted or usual, pairs)
    if number < files - 1:
        raise UserError(
            f"--comparisons: {number} cannot link {files} pictures; give at least {files - 1}, better {usual}."
        )
    return number


def _print(places: Sequence[Place], console: Console) -> None:
    table = Table("rank", "picture", "strength", "95 % interval", "compared")
    for place in places[:_SHOWN]:
        low, high = place.ranked.lower, place.ranked.upper
        table.add_row(
            str(place.ranked.rank), str(place.path), f"{place.ranked.strength:+.2f}", f"{low:+.2f} to {high:+.2f}",
            str(place.compared),
        )  # fmt: skip
    console.print(table)
    if len(places) > _SHOWN:
        console.print(f"… and {len(places) - _SHOWN:,} more")


def _table(places: Sequence[Place], ending: str) -> str:
    """The ranking as CSV or as JSON lines."""
    columns = ("rank", "picture", "strength", "low", "high", "compared")
    rows = [(p.ranked.rank, str(p.path), p.ranked.strength, p.ranked.lower, p.ranked.upper, p.compared) for p in places]
    if ending == ".jsonl":
        return "".join(to_json(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
    return as_csv([columns, *([f"{v:.4f}" if isinstance(v, float) else v for v in row] for row in rows)])
