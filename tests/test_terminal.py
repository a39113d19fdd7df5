from __future__ import annotations

import io

import pytest
from rich.table import Table

from foveal.terminal import Terminal, counted, visible


def test_control_characters_of_names_are_shown_and_never_obeyed() -> None:
    stream = io.StringIO()
    console = Terminal(file=stream, force_terminal=True, width=80, markup=False, highlight=False)
    table = Table("picture")
    table.add_row("a\x1b[2J\u202eb.png")
    console.print(table)
    console.print("left out: \x1b]0;title\x07\x9b1m.png", soft_wrap=True)
    assert "a\\x1b[2J\\u202eb.png" in stream.getvalue()
    assert "left out: \\x1b]0;title\\x07\\x9b1m.png\n" in stream.getvalue()


def test_styles_of_our_own_still_reach_the_terminal() -> None:
    stream = io.StringIO()
    Terminal(file=stream, force_terminal=True, color_system="standard").print("[red]x[/red]")
    assert stream.getvalue() == "\x1b[31mx\x1b[0m\n"


def test_line_ends_and_tabs_stay_unless_asked_for() -> None:
    assert visible("a\tb\nc\r") == "a\tb\nc\\x0d"
    assert visible("a\nb", lines=True) == "a\\nb"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 pictures"), (1, "1 picture"), (2, "2 pictures"), (1234, "1,234 pictures")]
)
def test_numbers_agree_with_their_nouns(number: int, text: str) -> None:
    assert counted(number, "picture") == text
    assert counted(2, "reply", "replies") == "2 replies"
