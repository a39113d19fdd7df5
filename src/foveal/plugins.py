"""What other packages add: tasks, commands and objectives, each named in an entry point of a group of its own."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
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
