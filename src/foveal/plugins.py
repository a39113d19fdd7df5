"""What other packages add: tasks, commands and objectives, each named in an entry point of a group of its own."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from foveal.errors import UserError

#: Group of entry points by what it holds.
Kind = Literal["task", "command", "objective"]
_GROUPS: dict[Kind, str] = {
    "task": "foveal.tasks", "command": "foveal.commands", "objective": "foveal.objectives",
}  # fmt: skip


@cache
def _points(kind: Kind) -> dict[str, EntryPoint]:
    """Entry points of a kind by name.

    Raises:
        UserError: Two packages bring one name.
    """
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=_GROUPS[kind]):
        if points.setdefault(point.name, point).value != point.value:
            raise UserError(f"Two packages bring a {kind} named {point.name!r}; uninstall one.")
    return dict(sorted(points.items()))


def names(kind: Kind) -> tuple[str, ...]:
    """The names of a kind, sorted; nothing is imported."""
    return tuple(_points(kind))


def summary(kind: Kind, name: str) -> str:
    """One line about an object of a kind: the first of its module's docstring, behind a colon if it has one.

    The module is read; neither it nor a package that it is in is imported, so that a list of help texts costs nothing.
    """
    parts = _points(kind)[name].module.split(".")
    folders: Sequence[str] | None = None  # where the next part is looked for
    file: str | None = None
    for end in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:end]), folders)
        if spec is None:
            return ""
        folders, file = spec.submodule_search_locations, spec.origin
    try:
        line = (ast.get_docstring(ast.parse(Path(file or "").read_text(encoding="utf-8"))) or "").partition("\n")[0]
    except (OSError, SyntaxError, ValueError):
        return ""
    return (line.partition(": ")[2] or line).rstrip(".")


def find_command(name: str) -> Any:
    """The command of that name, mostly a module.

    It has ``run(arguments, console)``, which returns the exit code; ``parser()``, whose options shells complete; and, if it
    takes keys of a recipe beside them, ``KEYS``, what those begin with. The first line of its docstring is its summary. A
    dot stands for the space in a name of two words: ``data.pairs`` is ``foveal data pairs``.

    Raises:
        UserError: See ``find``; or it cannot be run.
    """
    command = find("command", name)
    for function in ("run", "parser"):
        if not callable(getattr(command, function, None)):
            raise UserError(f"The command {name!r} has no function {function}; correct its package's entry points.")
    return command


def find(kind: Kind, name: str) -> Any:
    """The object of that name; no other is imported.

    Raises:
        UserError: There is none (the message names the nearest), or its module cannot be imported, for whatever reason.
    """
    points = _points(kind)
    if name not in points:
        near = difflib.get_close_matches(name, points, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(points)}."
        raise UserError(f"There is no {kind} {name!r}; {hint}")
    point = points[name]
    try:
        return point.load()
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a plug-in is somebody else's code, which may fail in any way
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        owner = f" of the package {point.dist.name}" if point.dist is not None else ""
        raise UserError(
            f"The {kind} {name!r} ({point.value}{owner}) cannot be imported: {type(error).__name__}: {reason}; correct or "
            "uninstall it."
        ) from error
