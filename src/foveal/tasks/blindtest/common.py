"""What the puzzles share: lazy rows, disjoint splits, metrics, and a strict reader of numbers."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from foveal.errors import UserError
from foveal.examples import Example, Split
from foveal.results import Prediction

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
#: An example in braces, as prompts give one: a model that repeats it has not answered.
_EXAMPLE = re.compile(
    r"(?:\be\.\s?g\.|\beg\b|\bfor (?:example|instance)\b|\bsuch as\b)[\s,:]*\{[^{}]*\}", re.IGNORECASE
)
_BRACES = re.compile(r"\{\s*([0-9]{1,9})\s*\}")
_NUMBER = re.compile(r"[-+]?[0-9]+(?:[.,][0-9]+)*")


def read_number(reply: str, prompts: Iterable[str] = ()) -> int | None:
    """The one whole number that a reply gives, or None.

    The last number in braces wins. Without braces, the reply must hold a single number, in digits, or be a single
    number word. Numbers of a prompt that the reply repeats, and of its "e.g., {2}", are not read.

    Args:
        reply: What the model wrote.
        prompts: Questions that it may have repeated.
    """
    reply = " ".join(reply.split())
    for prompt in prompts:
        if any(c.isdigit() for c in prompt):
            reply = re.sub(re.escape(" ".join(prompt.split())), " ", reply, flags=re.IGNORECASE)
    reply = _EXAMPLE.sub(" ", reply)
    in_braces = _BRACES.findall(reply)
    if in_braces:
        return int(in_braces[-1])
    word = reply.strip(" .,!:;*_`'\"{}()[]").lower()
    if word in _WORDS:
        return _WORDS.index(word)
    numbers = set(_NUMBER.findall(reply))
    number = numbers.pop() if len(numbers) == 1 else ""
    return int(number) if number.isdigit() and len(number) < 10 else None


def number_among(values: Sequence[int], what: str = "the label") -> Callable[[str], int]:
    """Reads a data set's label that is one of a few whole numbers.

    Args:
        values: The numbers, two or more.
        what: How an error calls the label.

    Returns:
        A picklable function from the label's text to its number, which raises ValueError where it is none of them.
    """
    return partial(_number_among, tuple(values), what)


def _number_among(values: tuple[int, ...], what: str, text: str) -> int:
    if text.strip() not in map(str, values):
        *some, last = map(str, values)
        raise ValueError(f"{what} is {text!r}, not {', '.join(some)} or {last}")
    return int(text)


def measure_labels(examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
    """Accuracy, its value on the rows of each truth that occurs (``accuracy_2``), and the share of unparsable replies.

    Rows without a prediction count as unparsable.
    """
    if not examples:
        raise UserError("There are no rows to measure.")
    values = {p.id: p.value for p in predictions}
    right: dict[Any, list[bool]] = {}
    for example in examples:
        value = values.get(example.id)
        right.setdefault(example.truth, []).append(value is not None and value == example.truth)
    return {
        "accuracy": sum(map(sum, right.values())) / len(examples),
        **{f"accuracy_{truth}": sum(hits) / len(hits) for truth, hits in sorted(right.items())},
        "unparsable": sum(values.get(e.id) is None for e in examples) / len(examples),
    }


def balanced_choice(choices: int, seed: int, split: Split, index: int) -> int:
    """Which of the choices row ``index`` gets: each once in every block of ``choices`` rows, in random order.

    Every prefix of a split is balanced to within one, and no even stride through it is biased.
    """
    block, place = divmod(index, choices)
    digest = hashlib.blake2b(f"{seed}/{split}/{block}".encode(), digest_size=8).digest()
    number, left = int.from_bytes(digest, "little"), list(range(choices))
    for _ in range(place):
        number, k = divmod(number, len(left))
        left.pop(k)
    return left[number % len(left)]


def split_of(values: Sequence[int]) -> Split:
    """The only split that a geometry may occur in, whatever the seed: half of all go to train, a quarter to each other.

    Args:
        values: Whole numbers of up to 32 bits that describe the geometry.
    """
    bucket = zlib.crc32(struct.pack(f"<{len(values)}i", *values)) & 3
    return "train" if bucket < 2 else "validation" if bucket == 2 else "test"


def check_range(key: str, value: float, low: float, high: float) -> None:
    """Refuses an option that is out of range.

    Raises:
        UserError: It is.
    """
    if not low <= value <= high:
        raise UserError(f"{key}: {value} is out of range; give {low} to {high}.")
