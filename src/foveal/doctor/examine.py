"""The whole examination: the machine first, then the recipe's job as far as it can be done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from foveal import __version__
from foveal.config.finding import RECIPES
from foveal.config.reading import read_recipe
from foveal.config.sections import Recipe
from foveal.doctor import machine
from foveal.doctor.checks import Check, Checks, sentence
from foveal.errors import UserError
from foveal.runs import Run
from foveal.tasks.registry import find_task

#: The recipe that is examined where none is named: the quickstart's, which trains the built-in model ...
DEFAULT = RECIPES / "quickstart.yaml"
#: ... on a handful of pictures.
SMALL = ("--data.train", "24", "--data.validation", "6", "--data.test", "6", "--training.batch_size", "8")


@dataclass(frozen=True)
class Target:
    """What is examined.

    Attributes:
        name: As it was called on the command line.
        recipe: The recipe, or None where it cannot be read.
        run: The run that it belongs to.
        trouble: Why the recipe cannot be read.
    """

    name: str
    recipe: Recipe | None
    run: Run | None = None
    trouble: UserError | None = None


@dataclass(frozen=True)
class Examination:
    """What the checks came to.

    Attributes:
        name: What was examined.
        checks: All checks, in order.
        seconds: How long it took.
    """

    name: str
    checks: tuple[Check, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not any(c.state == "fail" for c in self.checks)


def read_target(name: str, path: Path | None, arguments: list[str], run: Run | None = None) -> Target:
    """A recipe with its changes; one that is wrong in its file is examined as far as it goes.

    Args:
        name: What to call it.
        path: Its file; None for the default.
        arguments: ``--key value`` pairs from the command line.
        run: The run that it belongs to.

    Raises:
        UserError: The command line is wrong.
    """
    if path is None:
        given = {a.split("=", 1)[0] for a in arguments if a.startswith("--")}
        pairs = zip(SMALL[::2], SMALL[1::2], strict=True)
        start = [word for pair in pairs if pair[0] not in given for word in pair]
        return Target(name, read_recipe(DEFAULT, [*start, *arguments]))
    try:
        return Target(name, read_recipe(path, arguments), run)
    except UserError as error:
        if arguments and not str(error).startswith(f"{path}:"):
            _read_alone(path, error)
        return Target(name, None, run, error)


def _read_alone(path: Path, error: UserError) -> None:
    """Raises ``error`` if the recipe has another one, or none, without the command line's changes."""
    try:
        read_recipe(path)
    except UserError as alone:
        if str(alone) == str(error):
            return
    raise error


def examine(target: Target, show: Callable[[Check], None] = lambda _: None) -> Examination:
    """Does every check that can be done; none ends in a traceback.

    Args:
        target: What is examined.
        show: Called with each check as soon as it is done.
    """
    started = time.monotonic()
    checks = Checks(show)
    recipe = target.recipe
    checks.attempt("packages", lambda: machine.packages(checks))
    checks.attempt("torchvision", lambda: machine.torchvision(checks))
    device = checks.attempt("torch", lambda: machine.devices(checks, recipe.model.device if recipe else "auto"))
    checks.attempt("memory", lambda: machine.memory(checks))
    checks.attempt("disk", lambda: machine.disk(checks, recipe.output if recipe else "runs"))
    needs = checks.attempt("hub", lambda: _needs(recipe)) or []
    reached = checks.attempt("hub", lambda: machine.reach_hub(checks, needs))
    if recipe is None:
        text, remedy = sentence(target.trouble) if target.trouble else ("there is none.", "give a recipe.")
        checks.add("recipe", "fail", text, remedy)
    else:
        checks.add("recipe", "pass", f"{target.name}: task {recipe.task}, model {recipe.model.id}, {recipe.objective}")
        if device is None:
            checks.add("job", "skip", "neither data nor model were looked at: there is no device.")
        else:
            blocked = [n for n in needs if not n.cached and not reached]
            with _offline(not reached):
                checks.attempt("job", lambda: _job(recipe, target.run, device, checks, blocked))
    return Examination(target.name, tuple(checks.done), time.monotonic() - started)


def _needs(recipe: Recipe | None) -> list[machine.Need]:
    if recipe is None:
        return []
    return machine.hub_needs(recipe, find_task(recipe.task))


def _job(recipe: Recipe, run: Run | None, device: Any, checks: Checks, blocked: list[machine.Need]) -> None:
    # Imported here, where a package that is broken becomes a line.
    from foveal.doctor.job import Job
    from foveal.quiet import quiet

    quiet()
    Job(recipe, run, device, checks, blocked).examine()


@contextmanager
def _offline(switch: bool) -> Iterator[None]:
    """Keeps the Hub's client from asking a Hub that does not answer, which it would do for minutes."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or switch
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def report(examination: Examination) -> dict[str, Any]:
    """The examination for a JSON file."""
    return {
        "foveal": __version__,
        "examined": examination.name,
        "passed": examination.passed,
        "seconds": round(examination.seconds, 2),
        "checks": [asdict(c) for c in examination.checks],
    }
