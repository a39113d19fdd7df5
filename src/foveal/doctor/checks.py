"""What a check found, and how checks are run so that none ends in a traceback."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from foveal.errors import UserError

State = Literal["pass", "warn", "fail", "skip"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Check:
    """One line of the examination.

    Attributes:
        name: What was looked at.
        state: pass; warn (it works, with a drawback); fail; skip (not looked at, because of another failure).
        text: What was found.
        remedy: What to do about it; empty where there is nothing to do.
        facts: The same in numbers, for the JSON file.
    """

    name: str
    state: State
    text: str
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


class Checks:
    """The checks that were done, in order.

    Args:
        show: Called with each as soon as it is done.
    """

    def __init__(self, show: Callable[[Check], None] = lambda _: None) -> None:
        self.done: list[Check] = []
        self._show = show

    def add(self, name: str, state: State, text: str, remedy: str = "", **facts: Any) -> None:
        """Notes a check."""
        check = Check(name, state, text, remedy, facts)
        self.done.append(check)
        self._show(check)

    def attempt(self, name: str, work: Callable[[], Value]) -> Value | None:
        """What ``work`` returns; an error becomes a failed check, and None."""
        try:
            return work()
        except UserError as error:
            text, remedy = sentence(error)
            self.add(name, "fail", text, remedy)
        except Exception as error:
            lines = [line for line in str(error).strip().splitlines() if line.strip()]
            self.add(
                name,
                "fail",
                f"{type(error).__name__}: {lines[0] if lines else 'no further text'}",
                "this is no mistake that Foveal knows of; --json FILE writes where it happened.",
                traceback=traceback.format_exc(),
            )
        return None


def sentence(error: UserError) -> tuple[str, str]:
    """An error's sentence as what is wrong and what to do about it, which stands behind its last semicolon."""
    what, semicolon, remedy = str(error).rpartition("; ")
    return (f"{what}.", remedy) if semicolon else (remedy, "")


def gigabytes(count: float) -> str:
    """A number of bytes for people: two digits that matter, as GB (MB below 0.1 GB)."""
    if abs(count) < 1e8:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e9:.1f} GB" if abs(count) < 1e11 else f"{count / 1e9:.0f} GB"
