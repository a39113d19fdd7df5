from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from foveal.tasks.blindtest.wording import match_question, read_loosely

SUBWAY = (
    "How many single-colored paths go from <from> to <to>? Answer with a number in curly brackets, e.g., {3}",
    "Count the one-colored routes that go from <from> to <to>. Answer with a number in curly brackets, e.g., {3}.",
)
SHAPES = ("How many <shape> are in the image? Answer with only the number.", "Count the <shape> in the image, <shape>.")


@pytest.mark.parametrize(
    ("text", "questions", "expected"),
    [
        (SUBWAY[0].replace("<from>", "A").replace("<to>", "B"), SUBWAY, ("first", {"from": "A", "to": "B"})),
        (
            "Count the one-colored routes that go from Station to Tottenham to C. "
            "Answer with a number in curly brackets, e.g. {3}",
            SUBWAY,
            (None, {}),
        ),
        (
            " count the one-colored routes  that go\nfrom Bottom to Oslo . Answer with a number in curly brackets,"
            "e.g.,{3}\n",
            SUBWAY,
            ("second", {"from": "Bottom", "to": "Oslo"}),
        ),
        (SHAPES[0].replace("<shape>", "circles"), SHAPES, ("first", {"shape": "circles"})),
        ("Count the pentagons in the image, pentagons.", SHAPES, ("second", {"shape": "pentagons"})),
        ("Count the pentagons in the image, circles.", SHAPES, (None, {})),
        ("Which letter is being circled", ("Which letter is being circled?", "x"), (None, {})),
        ("anything", (), (None, {})),
    ],
)
def test_matching_questions(text: str, questions: Sequence[str], expected: Any) -> None:
    assert match_question(text, questions) == expected


def truth(text: str) -> int:
    if text not in ("0", "1", "2"):
        raise ValueError(f"the label is {text!r}")
    return int(text)


def grid(text: str) -> tuple[int, int]:
    if not (match := re.fullmatch(r"(\d+)x(\d+)", text)):
        raise ValueError(f"the label is {text!r}")
    return int(match[1]), int(match[2])


def word(text: str) -> str:
    if text not in ("Yes", "No", "a"):
        raise ValueError(f"the label is {text!r}")
    return text


@pytest.mark.parametrize(
    ("text", "read", "value"),
    [
        *((t, truth, 2) for t in ("2", " 2 ", "{2}", "'2'", "2.0", "2.", "[2]", "{2}.")),
        *((t, word, "Yes") for t in ("Yes", "yes", "YES", "{yes}", "Yes.")),
        *((t, word, "a") for t in ("A", "a", "{A}", '"a"')),
        *(
            (t, grid, (5, 6))
            for t in ("5,6", "(5, 6)", "5x6", "rows={5} columns={6}", "{5}{6}", "columns={6}, rows={5}")
        ),
    ],
)
def test_reading_labels_loosely(text: str, read: Any, value: Any) -> None:
    assert read_loosely(text, read) == value


@pytest.mark.parametrize(
    ("text", "read"), [("", truth), ("1 or 2", truth), ("-1", truth), ("12", grid), ("1,2,3", grid)]
)
def test_what_is_no_label(text: str, read: Any) -> None:
    with pytest.raises(ValueError, match="the label is"):
        read_loosely(text, read)
