"""What is printed: nothing that a file's name or a text holds can steer the terminal, and numbers agree with their nouns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

#: Control characters but tabs and line ends, and those that turn the direction of a text.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Terminal(Console):
    """A console that shows control characters (``\\x1b``) where others would obey them."""

    def render_str(self, text: str, **options: Any) -> Text:
        """A text as it is shown, so that columns are as wide as it is."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of whatever is printed; only rich's own commands may steer the terminal."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text), style, control)


def visible(text: str, *, lines: bool = False) -> str:
    """The text with its control characters written out, e.g. ``\\x1b``.

    Args:
        text: Any text.
        lines: Whether line ends are written out, too.
    """
    text = _UNSEEN.sub(_written, text)
    return text.replace("\n", "\\n") if lines else text


def _written(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 picture``, ``2 pictures``, ``1,234 pictures``.

    Args:
        number: How many.
        noun: What one is called.
        plural: What several are called; the noun with an s by default.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
