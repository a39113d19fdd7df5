"""The options of `foveal benchmark blindtest`, and how a benchmark that was begun goes on with the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from foveal.errors import UserError
from foveal.files import write_text
from foveal.tasks.blindtest.puzzle import Puzzle

#: The file in a benchmark's folder that holds its options.
SETTINGS = "benchmark.json"


@dataclass(frozen=True)
class Options:
    """What is asked of whom.

    Attributes:
        model: The folder of a run; ``builtin``, a model's folder or Hub id; or the address of a server.
        source: ``generate``; a folder with a folder for each puzzle; or what each puzzle's ``data.source`` takes.
        puzzles: Their names; empty for all.
        questions: Which of the two are asked.
        wording: As published, or short as models are trained on it.
        style: Look of generated pictures.
        count: Generated pictures of each puzzle.
        image_size: Their side in pixels.
        limit: Rows of each puzzle and question, evenly spread; 0 for all.
        settings: ``--model.key value`` words.
        checkpoint: Which of a run's.
        max_new_tokens: Longest reply; None for the default.
        temperature: Of served models.
        seed: Of generated pictures, and of a served model's choices.
        served_model: The model's name on its server.
        batch_size: Questions at a time, of a model that runs here.
        concurrency: Requests at a time, to a served one.
        timeout: Seconds within which a server's reply must be whole.
        tries: How often a request is sent before it is given up.
        api_key_env: Environment variable that holds the server's key.
    """

    model: str
    source: str = "generate"
    puzzles: tuple[str, ...] = ()
    questions: Literal["first", "second", "both"] = "both"
    wording: Literal["published", "short"] = "published"
    style: str = "paper"
    count: int = 300
    image_size: int = 224
    limit: int = 0
    settings: tuple[str, ...] = ()
    checkpoint: str = "best"
    max_new_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0
    served_model: str | None = None
    batch_size: int = 16
    concurrency: int = 8
    timeout: float = 300.0
    tries: int = 8
    api_key_env: str | None = None


#: Options that change how fast it goes, or who may ask, and not what comes out: they may differ when it goes on.
_FREE: Final = ("batch_size", "concurrency", "timeout", "tries", "api_key_env")


def all_puzzles() -> dict[str, type[Puzzle]]:
    """The puzzles by name, in the order of the published tables."""
    from foveal.tasks.blindtest.all import PUZZLES

    return PUZZLES


def check(options: Options) -> Options:
    """Refuses options that are out of range; returns them.

    Raises:
        UserError: Names the option and the remedy.
    """
    known = all_puzzles()
    for name in options.puzzles:
        if name not in known:
            raise UserError(f"--puzzles: there is no puzzle {name!r}; there are {', '.join(known)}.")
    if len(set(options.puzzles)) < len(options.puzzles):
        raise UserError("--puzzles: name each puzzle once.")
    for option, value, low in (
        ("--count", options.count, 1), ("--image_size", options.image_size, 32), ("--limit", options.limit, 0),
        ("--max_new_tokens", options.max_new_tokens or 1, 1), ("--temperature", options.temperature, 0),
        ("--seed", options.seed, 0), ("--batch_size", options.batch_size, 1), ("--concurrency", options.concurrency, 1),
        ("--tries", options.tries, 1),
    ):  # fmt: skip
        if not value >= low:
            raise UserError(f"{option}: must be at least {low}, not {value}.")
    if options.concurrency > 1000:
        raise UserError(f"--concurrency: must be at most 1000, not {options.concurrency}.")
    if not options.timeout > 0:
        raise UserError(f"--timeout: must be more than 0, not {options.timeout:g}.")
    return options


def _stored(folder: Path) -> Options:
    """The options of a benchmark that was begun.

    Raises:
        UserError: The folder holds none.
    """
    file = folder / SETTINGS
    try:
        stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        known = {f.name for f in fields(Options)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items() if k in known}
        return Options(**values)
    except (OSError, ValueError, TypeError, AttributeError):
        raise UserError(f"{folder}: holds no benchmark that was begun (no {SETTINGS}); give its folder.") from None


def resolve(given: Mapping[str, Any], out: Path | None, resume: Path | None) -> tuple[Options, Path | None]:
    """The options, checked, and the folder, where one is named.

    Args:
        given: Options that were given, by name.
        out: The folder of a new benchmark, or of one that was begun with the same options.
        resume: The folder of a benchmark that was begun; options that are not given are as they were.

    Raises:
        UserError: The folder holds something else, or a benchmark with other options; or no model is named.
    """
    if out is not None and resume is not None:
        raise UserError("--resume: names the folder already; leave --out away.")
    if resume is not None:
        before = _stored(resume)
        return check(_same(before, replace(before, **given), resume)), resume
    if "model" not in given:
        raise UserError(
            "--model is required: a run's folder, a model (builtin, a folder, a Hub id), or http://SERVER/v1."
        )
    options = Options(**given)
    if out is not None and out.is_dir() and any(out.iterdir()):
        before = _stored(out)
        if options.served_model is None:
            options = replace(options, served_model=before.served_model)
        options = _same(before, options, out)
    return check(options), out


def _same(before: Options, now: Options, folder: Path) -> Options:
    """The options, checked to ask the same as before.

    Raises:
        UserError: They do not.
    """
    for f in fields(Options):
        was, wanted = getattr(before, f.name), getattr(now, f.name)
        if f.name == "settings" and was != wanted:
            raise UserError(f"{folder}: holds a benchmark with other --model.KEY settings; choose another --out.")
        if f.name not in _FREE and was != wanted:
            raise UserError(
                f"{folder}: holds a benchmark with --{f.name} {_word(was)}, not {_word(wanted)}; choose another --out."
            )
    return now


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "at its default"
    return "at its default" if value is None else str(value)


def save(options: Options, folder: Path) -> None:
    """Writes the options where ``resolve`` finds them.

    Raises:
        UserError: The disk is full or may not be written.
    """
    write_text(folder / SETTINGS, json.dumps(asdict(options), indent=2, ensure_ascii=False) + "\n")
