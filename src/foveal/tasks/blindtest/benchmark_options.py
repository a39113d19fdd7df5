"""The options of `foveal benchmark blindtest`, and how a benchmark that was begun goes on with the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from foveal.config.reading import read_model_section
from foveal.config.sections import Model
from foveal.config.trust import check_trust, remember_trust
from foveal.errors import UserError
from foveal.files import write_text

#: The file in a benchmark's folder that holds its options.
SETTINGS = "benchmark.json"


def _option(help: str, metavar: str | None = None, *, default: Any = MISSING) -> Any:
    return field(default=default, metadata={"help": help, "metavar": metavar})


@dataclass(frozen=True)
class Options:
    """What is asked of whom: the options of the command by name, and words of settings such as ``--model.key value``."""

    model: str = _option(
        "a run's folder; builtin, a model's folder or Hub id; or http(s)://SERVER/v1 of any OpenAI-compatible server",
        "RUN|ID|URL",
    )
    source: str = _option(
        "generate (default); a folder with a folder of pictures for each puzzle; or a data set of them, e.g. XAI/vlmsareblind",
        default="generate",
    )
    puzzles: tuple[str, ...] = _option("e.g. lines,grids (default: all)", "NAME,NAME", default=())
    questions: Literal["first", "second", "both"] = _option("default: both", default="both")
    wording: Literal["published", "short"] = _option(
        "short: in a word or two, as small models are trained on it", default="published"
    )
    style: str = _option("look of generated pictures (default: paper)", "STYLE", default="paper")
    count: int = _option("generated pictures of each puzzle (default 300)", "N", default=300)
    image_size: int = _option("their side in pixels (default 224)", "N", default=224)
    limit: int = _option("rows of each puzzle and question, evenly spread (default 0: all)", "N", default=0)
    seed: int = _option("of generated pictures and of a server's choices (default 0)", "N", default=0)
    settings: tuple[str, ...] = ()
    checkpoint: str = _option("of a run: best, last or epoch-N (default: best)", "NAME", default="best")
    batch_size: int = _option("questions at a time, of a model that runs here (default 16)", "N", default=16)
    max_new_tokens: int | None = _option("longest reply in tokens (default 256, of servers 2048)", "N", default=None)
    served_model: str | None = _option("the model's name on its server (default: the only one)", "NAME", default=None)
    api_key_env: str | None = _option(
        "name of the environment variable that holds the server's key; the key is never written or shown",
        "NAME",
        default=None,
    )
    temperature: float = _option("of a served model (default 0: the likeliest reply)", "T", default=0.0)
    concurrency: int = _option("requests at a time, to a server (default 8)", "N", default=8)
    timeout: float = _option("for a server's whole reply (default 300)", "SECONDS", default=300.0)
    tries: int = _option("how often a request is sent before giving up (default 8)", "N", default=8)


#: Options that change how fast it goes, or who may ask, and not what comes out: they may differ when it goes on.
_FREE: Final = ("batch_size", "concurrency", "timeout", "tries", "api_key_env")


def check(options: Options) -> Options:
    """Refuses options that are out of range; returns them.

    Raises:
        UserError: Names the option and the remedy.
    """
    from foveal.tasks.blindtest.all import PUZZLES  # takes a while to import, which --help need not wait for

    for name in options.puzzles:
        if name not in PUZZLES:
            raise UserError(f"--puzzles: there is no puzzle {name!r}; there are {', '.join(PUZZLES)}.")
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
        UserError: The folder holds something else, or a benchmark with other options, or one from elsewhere that would run
            a model's code; or no model is named.
    """
    if out is not None and resume is not None:
        raise UserError("--resume: names the folder already; leave --out away.")
    if resume is not None:
        before = _stored(resume)
        check_trust(resume, _model(before), given.get("settings", ()))
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
    remember_trust(folder, _model(options))


def _model(options: Options) -> Model:
    """The model as the options name it."""
    return read_model_section(["--model.id", options.model, *options.settings])
