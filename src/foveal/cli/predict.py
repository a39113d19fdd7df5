"""`foveal predict`: ask a run about pictures of your own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foveal.cli.arguments import Parser, recipe_or_run, split_words
from foveal.devices import prepare
from foveal.errors import ImageError, UserError

_OWN = ("--out", "--sheet", "--film", "--checkpoint", "--limit")
_FLAGS = ("-h", "--help", "--skip-bad")
_TABLE_ROWS = 40


def parser() -> Parser:
    """The command's own options; a recipe's keys come beside them."""
    p = Parser(prog="foveal predict", description="Asks a run about pictures; prints answers with their probabilities.")
    p.add_argument("target", metavar="RUN|RECIPE", help="a run's folder, or a recipe (asks its model as it is)")
    p.add_argument(
        "pictures", nargs="+", metavar="PICTURE|FOLDER", help="picture files, or folders that are searched for them"
    )
    p.add_argument("--out", type=Path, metavar="FILE.jsonl", help="write a line of JSON for each picture")
    p.add_argument("--sheet", type=Path, metavar="FILE.png", help="write a sheet of the pictures with their answers")
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
    from foveal.evaluation.evaluate import open_predictor
    from foveal.evaluation.measure import prediction_row
    from foveal.evaluation.showing import write_sheet
    from foveal.files import check_writable, write_text
    from foveal.images import find_images
    from foveal.tasks.task import Task
    from foveal.training.progress import counting
    from foveal.training.train import quiet

    quiet()
    files: list[Path] = []
    for name in given.pictures:
        files += find_images(name) if Path(name).is_dir() else [Path(name)]
    files = files[: given.limit or None]
    if given.film is not None and given.film.exists() and not given.film.is_dir():
        raise UserError(f"{given.film}: is a file; give a folder's name.")
    for path in (given.out, given.sheet):
        if path is not None:
            check_writable(path)
            if path.is_dir():
                raise UserError(f"{path}: is a folder; give a file's name.")
    task, predictor, model = open_predictor(recipe, found, given.checkpoint)
    if given.film is not None and type(task).frames is Task.frames:
        raise UserError(f"--film: the answers of {task.name} do not come about in steps; leave --film out.")
    good, bad = [], []
    for path in files:
        example = task.example_from_image(path)
        try:
            example.images[0].open()
        except ImageError as error:
            if not given.skip_bad:
                raise
            bad.append((path, str(error)))
            continue
        good.append(example)
    if not good:
        raise UserError(f"None of the {len(files)} pictures can be read; the first: {bad[0][1]}")
    with counting(console, f"asking {model}", len(good)) as progress:
        predictions = list(predictor.predict(good, progress))
    table = Table("picture", "answer", "probability")
    for p in predictions[:_TABLE_ROWS]:
        answer = p.text if p.value is None else str(p.value)
        table.add_row(p.id, answer, "" if p.confidence is None else f"{100 * p.confidence:.1f} %")
    console.print(table)
    if len(predictions) > _TABLE_ROWS:
        console.print(f"… and {len(predictions) - _TABLE_ROWS:,} more")
    for path, why in bad:
        console.print(f"left out: {path}: {why.removeprefix(f'{path}: ')}", markup=False, soft_wrap=True)
    if given.out:
        write_text(
            given.out,
            "".join(json.dumps(prediction_row(p), ensure_ascii=False, default=str) + "\n" for p in predictions),
        )
        console.print(f"Answers: {given.out}", soft_wrap=True)
    if given.sheet:
        shown = 60
        write_sheet(task, good[:shown], predictions[:shown], given.sheet)
        console.print(f"Sheet: {given.sheet}", soft_wrap=True)
    if given.film:
        from foveal.evaluation.films import write_films

        made = write_films(task, good, predictions, given.film)
        console.print(f"Films: {made} in {given.film}", soft_wrap=True)
    return 0
