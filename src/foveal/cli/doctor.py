"""`foveal doctor`: whether this machine can do what a recipe asks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from foveal.config.arguments import Parser
from foveal.config.finding import find_recipe
from foveal.devices import prepare
from foveal.doctor.checks import Check
from foveal.doctor.examine import Target, examine, read_target, report
from foveal.errors import UserError
from foveal.files import check_output, to_json, write_text
from foveal.runs import is_run, open_run
from foveal.terminal import counted

#: What the keys of a recipe begin with that it takes beside its own options: it takes all.
KEYS = ""
_STYLE = {"pass": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}


def parser() -> Parser:
    """The command's own options; a recipe's keys come beside them."""
    p = Parser(
        prog="foveal doctor", description="Checks the machine, the data, the model, one step and one prediction of a "
        "recipe or run, with a remedy for what is wrong. Exit code 0 when nothing failed, 1 when something did.",
    )  # fmt: skip
    p.add_argument(
        "target", nargs="?", metavar="RECIPE|RUN", help="default: the built-in model on a handful of pictures"
    )
    p.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON too")
    return p


def run(arguments: Sequence[str], console: Console) -> int:
    """Examines."""
    given, settings = parser().parse_own(arguments)
    check_output(given.json, (".json",))
    target = _target(given.target, settings)
    prepare(target.recipe.model.device if target.recipe else "auto")
    result = examine(target, lambda check: _show(check, console))
    if given.json is not None:
        write_text(given.json, to_json(report(result), indent=2) + "\n")
    failed = sum(c.state == "fail" for c in result.checks)
    warned = sum(c.state == "warn" for c in result.checks)
    console.print(
        f"{'Nothing failed' if result.passed else f'{failed} failed'}, {warned} with a drawback, "
        f"of {counted(len(result.checks), 'check')} in {result.seconds:.0f} s"
    )
    return 0 if result.passed else 1


def _target(name: str | None, settings: list[str]) -> Target:
    """What is examined: the built-in model, a run, or a recipe, which may be wrong itself."""
    if name is None:
        return read_target("the built-in model", None, settings)
    if is_run(name):
        run = open_run(name)
        return read_target(name, run.recipe, settings, run)
    if Path(name).is_dir():
        open_run(name)  # says what is wrong with the folder
    path = find_recipe(name)
    if not path.exists():
        raise UserError(f"{path}: there is no such recipe or run; check the path.")
    return read_target(name, path, settings)


def _show(check: Check, console: Console) -> None:
    line = Text.assemble((check.state, _STYLE[check.state]), f"  {check.name}: ", " ".join(check.text.split()))
    console.print(line, soft_wrap=True)
    if check.remedy:
        console.print(Text.assemble(("      -> ", _STYLE[check.state]), check.remedy), soft_wrap=True)
