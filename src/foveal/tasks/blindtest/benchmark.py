"""Asks a model both published questions of each of BlindTest's puzzles, in free text, and compares with others."""

from __future__ import annotations

import re
import shlex
import shutil
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from foveal.asking.asker import Asker
from foveal.asking.models import AnsweringModel, LocalModel
from foveal.asking.replies import Replies
from foveal.asking.served import ServedModel
from foveal.config.checking import check as check_recipe
from foveal.config.reading import read_model_section, read_recipe
from foveal.config.sections import Evaluation, Recipe, Server
from foveal.config.values import choices
from foveal.errors import UserError
from foveal.examples import Example
from foveal.files import check_output, to_json, write_text
from foveal.images import MAX_PIXELS, Picture
from foveal.prompts import Prompt
from foveal.results import Prediction
from foveal.runs import Run, checkpoint_of, create_run, environment, is_run, open_run
from foveal.tasks.blindtest.all import PUZZLES, find_sources
from foveal.tasks.blindtest.benchmark_options import SETTINGS, Options, save
from foveal.tasks.blindtest.puzzle import Puzzle
from foveal.tasks.blindtest.scores import QUESTIONS, Answer, Scores, Table, published, score, table
from foveal.terminal import counted
from foveal.vlm.finding import is_url
from foveal.vlm.loading import load

#: Longest reply by default, of models that run here and of served ones, some of which think aloud first.
_LONGEST = (256, 2048)
#: Stands for a row's picture where only its question is wanted.
_NO_PICTURE = Picture("no picture", Image.new("RGB", (1, 1)))
_REPLIES, _RESULTS = "responses.jsonl", "results.json"


@dataclass(frozen=True)
class Asked:
    """A row of a puzzle with one of its questions.

    Attributes:
        puzzle: The puzzle's name.
        part: See ``Answer``.
        question: See ``Answer``.
        example: The row without its picture.
        rows: All rows of the puzzle, made when they are asked for.
        index: Which of them this is.
        task: The puzzle.
        kind: What the published data set calls this kind of picture, where the row tells.
    """

    puzzle: str
    part: str
    question: str
    example: Example
    rows: Sequence[Example]
    index: int
    task: Puzzle
    kind: str | None

    def prompt(self) -> Prompt:
        """The question with its picture."""
        return self.task.prompt(self.rows[self.index])


# ------------------------------------------------------------------------------------------------ what is asked


def collect(options: Options, console: Console, max_pixels: int = MAX_PIXELS) -> list[Asked]:
    """All that is to be asked, in the order of the table.

    Args:
        options: What is asked.
        console: Where puzzles without pictures are named.
        max_pixels: Pictures with more pixels than this are refused.

    Raises:
        UserError: The source is missing, malformed or lacks a puzzle that was named.
    """
    asked: list[Asked] = []
    missing = []
    for name, kind in PUZZLES.items():
        if options.puzzles and name not in options.puzzles:
            continue
        with _naming_options(name, options):
            generated = options.source == "generate"
            places = ["generate"] if generated else find_sources(options.source, name, kind.layout)
            rows = [row for place in places for row in _rows(options, name, kind, place, max_pixels)]
        if not rows:
            missing.append(name)
        groups: dict[tuple[str, str], list[Asked]] = {}
        for question in QUESTIONS:
            chosen = [row for row in rows if row.question == question]
            for i in _spread(len(chosen), options.limit):
                groups.setdefault((chosen[i].part, question), []).append(chosen[i])
        asked += [row for key in sorted(groups, key=lambda k: k[0]) for row in groups[key]]
    if not asked or (missing and options.puzzles):
        raise UserError(
            f"--source: {options.source}: holds no pictures of {', '.join(missing)}; check the path, or choose others "
            "with --puzzles."
        )
    if missing:
        console.print(f"{options.source} holds no pictures of {', '.join(missing)}; they are left out.", soft_wrap=True)
    return asked


def _spread(count: int, limit: int) -> list[int]:
    return list(range(count)) if limit in (0, count) or limit > count else [i * count // limit for i in range(limit)]


@contextmanager
def _naming_options(name: str, options: Options) -> Iterator[None]:
    """Lets a puzzle's errors about its source name this command's option.

    Raises:
        UserError: In place of the puzzle's.
    """
    try:
        yield
    except UserError as error:
        text = str(error)
        if not text.startswith("data.source: "):
            raise
        there = options.source == "generate" or Path(options.source).expanduser().exists()
        hint = f" It was read as the puzzle {name}; --puzzles leaves puzzles out." if there else ""
        raise UserError(f"--source: {text.removeprefix('data.source: ')}{hint}") from error


def _rows(options: Options, name: str, kind: type[Puzzle], place: str, max_pixels: int) -> Iterator[Asked]:
    styles = choices(typing.get_type_hints(kind.Data)["style"])
    if options.style not in styles:
        raise UserError(f"--style: {name} has no style {options.style!r}; choose from {', '.join(styles)}.")
    task = kind(
        kind.Data(
            source=place, style=options.style, image_size=options.image_size, test=options.count, seed=options.seed,
            question=options.questions, wording=options.wording,
        )
    )  # fmt: skip
    rows = task.load("test").limited(max_pixels).examples
    for index in range(len(rows)):
        example = rows[index]
        yield Asked(
            name,
            example.fields.get("shape", ""),
            example.fields.get("question", "other"),
            replace(example, images=()),
            rows,
            index,
            task,
            _published_task(kind, example),
        )


def _published_task(kind: type[Puzzle], example: Example) -> str | None:
    """Which of the published data set's nine tasks a row belongs to, or None where it does not tell."""
    names = kind.layout.hub_tasks
    if len(names) == 1:
        return names[0]
    if example.fields.get("task") in names:
        return str(example.fields["task"])
    words = [str(example.fields.get(key, "")).lower() for key in ("shape", "kind")]
    # Published grids have their kind in their names, e.g. text_grid_3x4_500_10.png.
    words.append(re.split(r"[^a-z]", example.id.lower())[0].replace("text", "word"))
    fitting = [name for name in names if any(word and word in name.lower() for word in words)]
    return fitting[0] if len(fitting) == 1 else None


# ------------------------------------------------------------------------------------------------ the whole job


@dataclass(frozen=True)
class Done:
    """A finished benchmark.

    Attributes:
        scores: The accuracies.
        table: They beside the published ones.
        folder: Where all is written.
    """

    scores: Scores
    table: Table
    folder: Path


def run(options: Options, console: Console, folder: Path | None) -> Done:
    """Asks, scores, and writes ``results.json``, ``predictions.jsonl`` and ``table.md``.

    Replies are kept in the folder's ``responses.jsonl`` as they come; the other files appear when all is done.

    Args:
        options: What is asked of whom, checked.
        console: Where progress is shown.
        folder: Where all is written, see ``resolve``; None for ``runs/benchmark-...``.

    Raises:
        UserError: Something a user can put right.
        KeyboardInterrupt: Says how to go on.
    """
    if folder is not None:
        check_output(folder / _RESULTS)
    with _naming_server_options():
        recipe, run = _recipe(options)
        rows = collect(options, console, recipe.model.max_pixels)
        model, facts = _open(recipe, run, options.checkpoint)
        begun = folder is not None and (folder / SETTINGS).is_file()
        if isinstance(model, ServedModel) and (not begun or options.served_model is None):
            options = replace(options, served_model=model.connect())
        name = options.served_model or (Path(options.model).name if Path(options.model).exists() else options.model)
        fresh = folder is None or not folder.exists()
        if folder is None:
            folder = create_run("runs", None, default_name=f"benchmark-blindtest-{Path(name).name}").path
        with Replies(folder / _REPLIES) as replies:
            save(options, folder)
            console.print(f"{counted(len(rows), 'question')} of {name}; replies are kept in {folder}", soft_wrap=True)
            started, known = time.monotonic(), len(replies)
            with _bar(console, f"asking {name}", len(rows)) as progress, _saying_how_to_go_on(replies, folder, fresh):
                predictions = _ask(rows, model, recipe.evaluation, replies, progress)
            seconds, new = time.monotonic() - started, len(replies) - known
    answers = [_answer(row, p) for row, p in zip(rows, predictions, strict=True)]
    scores = score(answers, _chances(rows))
    text = _table(scores, predictions, recipe.evaluation.max_new_tokens)
    facts |= {"served_model": options.served_model}
    _write(folder, options, facts, answers, predictions, scores, text, name)
    console.print(f"{counted(new, 'new reply', 'new replies')} in {seconds:.1f} s", soft_wrap=True)
    return Done(scores, text, folder)


@contextmanager
def _naming_server_options() -> Iterator[None]:
    """Lets errors about keys of a recipe's section ``model.server`` name this command's options.

    Raises:
        UserError: In place of the other.
    """
    try:
        yield
    except UserError as error:
        text = str(error)
        for key, option in {"model.server.name": "--served_model", "model.server.api_key_env": "--api_key_env"}.items():
            text = text.replace(key, option)
        raise UserError(text) from error


def _recipe(options: Options) -> tuple[Recipe, Run | None]:
    """How the model is loaded, or reached, and asked; the run, where it is one's.

    Raises:
        UserError: An option or a setting does not suit the model.
    """
    served, run = is_url(options.model), None
    if served:
        for word in options.settings:
            name = word.split("=", 1)[0]
            if word.startswith("--") and name != "--model.max_pixels":
                raise UserError(f"{name}: has no effect on a served model; set it where the model is served.")
    for option, value in {
        "--served_model": options.served_model, "--api_key_env": options.api_key_env, "--temperature": options.temperature,
    }.items():  # fmt: skip
        if value and not served:
            raise UserError(
                f"{option}: is for served models; {options.model!r} is no address, and models that run here reply greedily."
            )
    if not served and is_run(options.model):
        run = open_run(options.model)
        recipe = read_recipe(run.recipe, options.settings)
    else:
        recipe = Recipe("blindtest/all", None, read_model_section(["--model.id", options.model, *options.settings]))
    server = Server(
        options.served_model,
        options.api_key_env,
        options.temperature,
        options.concurrency,
        options.timeout,
        options.tries,
    )
    recipe = replace(
        recipe, seed=options.seed, model=replace(recipe.model, server=server),
        evaluation=Evaluation(
            method="generate", batch_size=options.batch_size, max_new_tokens=options.max_new_tokens or _LONGEST[served]
        ),
    )  # fmt: skip
    check_recipe(recipe)
    return recipe, run


def _open(recipe: Recipe, run: Run | None, checkpoint: str) -> tuple[AnsweringModel, dict[str, Any]]:
    """The model, and what it is, for the results."""
    if is_url(recipe.model.id):
        served = ServedModel(recipe)
        return served, {"url": served.url}
    weights = checkpoint_of(run, checkpoint)
    vlm = load(recipe.model, weights=weights)
    model = LocalModel(vlm, recipe, weights=weights)
    return model, {
        "model": recipe.model.id, "version": model.version, "run": str(run.path) if run is not None else None,
        "checkpoint": weights.name if weights is not None else None, "family": vlm.family, "device": str(vlm.device),
        "precision": str(model.dtype).removeprefix("torch."), "parameters": sum(p.numel() for p in vlm.model.parameters()),
    }  # fmt: skip


def _ask(
    rows: Sequence[Asked], model: AnsweringModel, options: Evaluation, replies: Replies, progress: Callable[[int], None]
) -> list[Prediction]:
    """The predictions of all rows, in their order."""
    predictions: list[Prediction] = []
    for task, group in groupby(rows, key=lambda row: row.task):
        predictions += Asker(task, model, options, replies).ask((row.rows[row.index] for row in group), progress)
    return predictions


@contextmanager
def _saying_how_to_go_on(replies: Replies, folder: Path, fresh: bool) -> Iterator[None]:
    """Adds to what stops a benchmark how many replies are kept and how it goes on; a new folder without any is removed.

    Raises:
        UserError: In place of the other.
        KeyboardInterrupt: In place of the other.
    """
    try:
        yield
    except (KeyboardInterrupt, UserError) as error:
        remedy = ""
        if fresh and not len(replies):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            again = f"foveal benchmark blindtest --resume {shlex.quote(str(folder))}"
            remedy = f"{len(replies):,} replies are kept; go on with: {again}"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(remedy) from None
        raise UserError(f"{error} {remedy}".rstrip()) from error


def _table(scores: Scores, predictions: Sequence[Prediction], longest: int) -> Table:
    """The table, with a note where replies were cut."""
    shown = table(scores, every=len(PUZZLES))
    cut = sum(p.extra.get("finish") == "length" for p in predictions)
    if not cut:
        return shown
    note = f"{cut:,} of {len(predictions):,} replies were cut at {longest} tokens; --max_new_tokens allows longer ones."
    return replace(shown, notes=(*shown.notes, note))


def _answer(row: Asked, p: Prediction) -> Answer:
    text = row.task.prompt(replace(row.example, images=(_NO_PICTURE,))).user
    return Answer(row.puzzle, row.part, row.question, p.id, text, p.text, p.value, p.truth, row.kind)


def _chances(asked: Sequence[Asked]) -> dict[tuple[str, str, str], float]:
    groups: dict[tuple[str, str, str], list[Asked]] = {}
    for row in asked:
        groups.setdefault((row.puzzle, row.part, row.question), []).append(row)
    return {key: rows[0].task.chance([row.example for row in rows]) for key, rows in groups.items()}


@contextmanager
def _bar(console: Console, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of questions; without a terminal nothing is shown until the end."""
    with Progress(
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=28), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), console=console, disable=not console.is_terminal, refresh_per_second=4,
    ) as progress:  # fmt: skip
        task = progress.add_task(title, total=total)
        yield lambda number: progress.advance(task, number)


def _write(
    folder: Path,
    options: Options,
    facts: Mapping[str, Any],
    answers: Sequence[Answer],
    predictions: Sequence[Prediction],
    scores: Scores,
    text: Table,
    name: str,
) -> None:
    """Writes the results, ``results.json`` last: where it is, all is."""
    lines = [{**asdict(a), "correct": a.correct} for a in answers]
    write_text(
        folder / "predictions.jsonl",
        "".join(to_json(line) + "\n" for line in lines),
    )
    write_text(folder / "table.md", text.markdown(f"BlindTest: {name}"))
    others = published()
    replies = [p.extra for p in predictions]  # what servers tell of each
    results = {
        "benchmark": "blindtest", **{k: v for k, v in facts.items() if v is not None},
        "mean": scores.mean, "puzzles": dict(scores.puzzles), "task_mean": scores.task_mean, "tasks": dict(scores.tasks),
        "scores": [{**asdict(s), "accuracy": s.accuracy, "interval_95": s.interval} for s in scores.scores],
        "published": {m: {p: others.puzzles[p][i] for p in scores.puzzles if p in others.puzzles} for i, m in enumerate(others.models)},
        "replies": {
            "asked": len(replies), "cut": sum(r.get("finish") == "length" for r in replies),
            "tokens_in": sum(r.get("tokens_in", 0) for r in replies), "tokens_out": sum(r.get("tokens_out", 0) for r in replies),
            "models": sorted({r["model"] for r in replies if r.get("model")}),
        },
        "options": asdict(options), "environment": environment(),
    }  # fmt: skip
    write_text(folder / _RESULTS, to_json(results, indent=2) + "\n")
