"""Parses labels and questions of data sets, such as XAI/vlmsareblind on the Hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

Which = Literal["first", "second"]
WHICH: tuple[Which, Which] = ("first", "second")

#: The columns that identify XAI/vlmsareblind, which has a further one.
COLUMNS = ("task", "image", "prompt", "groundtruth")


def match_question(text: str, questions: Sequence[str]) -> tuple[Which | None, dict[str, str]]:
    """Which of two questions a text is, and the values of its placeholders like ``<from>``.

    Case, the amount of white space and a full stop at the end do not matter.
    """
    for which, question in zip(WHICH, questions, strict=False):
        if match := _pattern(question).fullmatch(text.strip()):
            return which, match.groupdict()
    return None, {}


def _pattern(question: str) -> re.Pattern[str]:
    text, last = "", ""
    for token in re.findall(r"<\w+>|\w+|[^\w\s]", question.strip().rstrip(". ")):
        # White space is needed between words, and optional around signs.
        text += r"\s+" if re.match(r"[\w<]", token) and re.match(r"[\w<]", last) else r"\s*"
        if not re.fullmatch(r"<\w+>", token):
            text += re.escape(token)
        elif f"(?P{token}" in text:
            text += f"(?P={token[1:-1]})"
        else:
            text += rf"(?P{token}\S(?:.*?\S)?)"
        last = token
    return re.compile(text + r"[.\s]*", re.IGNORECASE | re.DOTALL)


def read_loosely(text: str, truth: Callable[[str], Any]) -> Any:
    """A label in one of several spellings: {2}, "2", 2.0, yes, (5, 6), rows={5} columns={6}.

    Args:
        text: The label.
        truth: Parses one spelling of a label; raises ValueError for others.

    Raises:
        ValueError: No spelling is a label.
    """
    bare = text.strip().strip("{}()[]\"'`. \t\n")
    spellings = [text.strip(), bare, bare.lower(), bare.upper(), bare.capitalize()]
    if re.fullmatch(r"\d+\.0+", bare):
        spellings.append(bare.split(".")[0])
    numbers = re.findall(r"\d+", text)
    # Rows come first unless the text names columns first.
    if re.search(r"col.*row", text, re.IGNORECASE):
        numbers.reverse()
    if len(numbers) == 2:
        spellings += [sign.join(numbers) for sign in (",", "x", ", ", " x ", " ", "×")]
        spellings.append(f"({numbers[0]}, {numbers[1]})")
    first: ValueError | None = None
    for spelling in spellings:
        try:
            return truth(spelling)
        except ValueError as error:
            first = first or error
    raise first or ValueError("the label is empty")


def number_among(values: Sequence[int], what: str = "the label") -> Callable[[str], int]:
    """A parser of labels that are one of a few whole numbers.

    Args:
        values: The numbers, two or more.
        what: Name of the label in errors.

    Returns:
        A picklable function from a label's text to its number; it raises ValueError for any other text.
    """
    return partial(_number_among, tuple(values), what)


def _number_among(values: tuple[int, ...], what: str, text: str) -> int:
    if text.strip() not in map(str, values):
        *some, last = map(str, values)
        raise ValueError(f"{what} is {text!r}, not {', '.join(some)} or {last}")
    return int(text)
