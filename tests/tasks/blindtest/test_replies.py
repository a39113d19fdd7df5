from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.tasks.blindtest.grids import Grids
from foveal.tasks.blindtest.replies import read_number, read_pair

QUESTION = "How many? Answer with a number in curly brackets, e.g., {5}."


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("{2}", 2),
        (" { 2 } ", 2),
        ("The answer is {1}.", 1),
        ("First I thought {1}, but it is {2}.", 2),
        ("3 lines, 4 points: {1}", 1),
        (r"$\boxed{2}$", 2),
        ("{12}", 12),
        ("{7}", 7),  # no possible answer, but an answer: wrong, not unparsable
        ("2", 2),
        ("2.", 2),
        (" 2 \n", 2),
        ("**2**", 2),
        ("There are 2 points. So: 2", 2),
        ("Two", 2),
        ("zero.", 0),
        ("{two}", 2),
        ("{2", 2),
        (f"{QUESTION} The answer is {{1}}", 1),
        (f"{QUESTION.upper()}\n1", 1),
        ("Put your answer in curly brackets, e.g., {2}. The answer is {1}", 1),
        ("e.g. {2}: 0", 0),
        # No answer:
        ("", None),
        (QUESTION, None),
        ("How many?  Answer with a number\nin curly brackets, e.g., {5}.", None),
        ("Put your answer in curly brackets, e.g., {2}.", None),
        ("for example {2}", None),
        ("1 or 2", None),
        ("1-2", None),
        ("There are two points", None),
        ("-1", None),
        ("{-1}", None),
        ("1.5", None),
        ("{}", None),
        ("{x}", None),
        ("²", None),
        ("٢", None),
        ("I cannot tell.", None),
        ("9" * 5000, None),
    ],
)
def test_reading_a_number(reply: str, number: int | None) -> None:
    assert read_number(reply, [QUESTION, "count"]) == number


@given(st.text(), st.integers(0, 999_999_999), st.text())
def test_reading_never_fails_and_the_last_braces_win(before: str, number: int, after: str) -> None:
    assert read_number(before) is None or isinstance(read_number(before), int)
    if not re.search(r"\{\s*[0-9]", after) and not re.search(
        r"g[\s,:.]*$|example[\s,:]*$|instance[\s,:]*$|as[\s,:]*$", before
    ):
        assert read_number(f"{before} {{{number}}} {after}") == number


PAIR_QUESTIONS = [Grids.first.text, Grids.second.text]


@pytest.mark.parametrize(
    "reply",
    [
        "rows={5} columns={6}",
        "rows=5 columns=6",
        "Rows = {5}, Columns = {6}.",
        "rows: 5\ncolumns: 6",
        "**Rows:** 5\n**Columns:** 6",
        "columns={6} rows={5}",
        "(5,6)",
        "The answer is (5, 6).",
        "{5}{6}",
        "{5} {6}",
        "{5}, {6}",
        "{5,6}",
        "[5, 6]",
        "5 rows and 6 columns",
        "There are 5 rows, 6 columns, and 30 cells.",
        "There are five rows and six columns.",
        "The table has {5} rows and {6} columns.",
        "6 columns by 5 rows",
        "I see 5 horizontal rows and 6 vertical columns",
        "The number of rows in the grid is 5 and the number of columns in the grid is 6.",
        "Number of rows and columns: 5 rows and 6 columns",
        "Rows and columns: {5} rows and {6} columns.",
        "Columns and rows: 6 columns, 5 rows",
        "5x6",
        "5 × 6",
        "It is a 5x6 grid.",
        "5 by 6",
        "5,6",
        "5, 6.",
        "5 6",
        "$5 \\times 6$",
        "\\text{rows}=5, \\text{columns}=6",
        "rows={4} columns={4}, no: rows={5} columns={6}",
        "There are 3 rows and 4 columns... Let me count again: (5,6)",
        "Row 1 has 6 columns. In all, rows={5} columns={6}",
        "For example, rows={3} columns={4}: here it is rows={5} columns={6}",
        "e.g., (3,4). My answer: (5,6)",
    ],
)
def test_replies_that_are_read(reply: str) -> None:
    assert read_pair(reply, PAIR_QUESTIONS) == "5,6"


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "5",
        "{5}",
        "rows={5}",
        "five",
        "For example, rows={5} columns={6}",
        "Answer with only the numbers in a pair (row, column), e.g., (5,6)",
        "Row 1 has 6 columns. Row 2 has 6 columns.",
        "5,6,7",
        "5.5 rows and 6 columns",
        "a 5x6 or a 6x6 grid",
        "2005x6000",
        "-5,6",
        "rows and columns",
        "between 5 and 6",
    ],
)
def test_replies_that_are_not_guessed_at(reply: str) -> None:
    assert read_pair(reply, PAIR_QUESTIONS) is None
