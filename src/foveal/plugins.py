"""What other packages add: tasks, commands and objectives, each named in an entry point of a group of its own."""

from __future__ import annotations

import ast
import difflib
import importlib.util
from functools import cache
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

    The module is read and not imported, so that a list of help texts costs nothing.
    """
    try:
        spec = importlib.util.find_spec(_points(kind)[name].module)
        source = Path(spec.origin).read_text(encoding="utf-8") if spec is not None and spec.origin else ""
        line = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    except (ImportError, OSError, SyntaxError, ValueError):
        return ""
    return (line.partition(": ")[2] or line).rstrip(".")


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
    except Exception as error:  # a plug-in is somebody else's code, which may fail in any way
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        owner = f" of the package {point.dist.name}" if point.dist is not None else ""
        raise UserError(
            f"The {kind} {name!r} ({point.value}{owner}) cannot be imported: {type(error).__name__}: {reason}; correct or "
            "uninstall it."
        ) from error
