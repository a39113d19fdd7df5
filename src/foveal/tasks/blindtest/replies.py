"""Strict parsers of numbers, and of rows and columns, in replies."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_BRACES = re.compile(r"\{\s*([0-9]{1,9})\s*\}")
_NUMBER = re.compile(r"[-+]?[0-9]+(?:[.,][0-9]+)*")


def _example(what: str) -> re.Pattern[str]:
    """Matches an example like those in prompts: a model that repeats it has not answered."""
    return re.compile(
        rf"(?:\be\.\s?g\.|\beg\b|\bfor (?:example|instance)\b|\bsuch as\b)[\s,:]*(?:{what})", re.IGNORECASE
    )


_NUMBER_EXAMPLE = _example(r"\{[^{}]*\}")
_PAIR_EXAMPLE = _example(r"rows\s?=\s?\{[^{}]*\},?\s?columns\s?=\s?\{[^{}]*\}|\([^()]*\)")


def without(reply: str, texts: Iterable[str]) -> str:
    """A reply on one line, without the texts, in any case."""
    reply = " ".join(reply.split())
    for text in texts:
        reply = re.sub(re.escape(" ".join(text.split())), " ", reply, flags=re.IGNORECASE)
    return reply


def _without_numbers_of(prompts: Iterable[str], reply: str) -> str:
    return without(reply, (prompt for prompt in prompts if any(c.isdigit() for c in prompt)))


def read_number(reply: str, prompts: Iterable[str] = ()) -> int | None:
    """The one whole number in a reply, or None.

    The last number in braces counts. Without braces, the reply must contain a single number in digits, or be a single
    number word. Numbers of repeated prompts, and of their "e.g., {2}", are ignored.

    Args:
        reply: The model's reply.
        prompts: Questions that the reply may repeat.
    """
    reply = _NUMBER_EXAMPLE.sub(" ", _without_numbers_of(prompts, reply))
    in_braces = _BRACES.findall(reply)
    if in_braces:
        return int(in_braces[-1])
    word = reply.strip(" .,!:;*_`'\"{}()[]").lower()
    if word in _WORDS:
        return _WORDS.index(word)
    numbers = set(_NUMBER.findall(reply))
    number = numbers.pop() if len(numbers) == 1 else ""
    return int(number) if number.isdigit() and len(number) < 10 else None


_DIGITS = r"(?<![\w.,+-])[0-9]{1,3}(?!\w|[.,][0-9])"
#: A number that is no part of a longer one, in brackets or not.
_COUNT = rf"[{{(\[]?\s*({_DIGITS}|\b(?:{'|'.join(_WORDS)})\b)\s*[}})\]]?"
_KIND, _ROWS, _COLUMNS = r"(?:(?:horizontal|vertical)\s)?", r"\brows?\b", r"\bcol(?:umn)?s?\b"


def _counted(first: str, second: str) -> str:
    """Matches two numbers close to each other, both before or both after the words that they count."""
    near, between = r"[^0-9{}(),;.]{0,30}?", r"[^0-9{}()]{0,40}?"
    before = rf"{_COUNT}\s*{_KIND}{first}{between}{_COUNT}\s*{_KIND}{second}"
    after = rf"{first}{near}{_COUNT}{between}{second}{near}{_COUNT}(?![\s}})\]]*{_KIND}(?:{_ROWS}|{_COLUMNS}))"
    return f"(?:{before}|{after})"


#: Of two alternatives that start at one place the first counts. The groups come in pairs.
_PAIRS = re.compile(
    "|".join(
        (
            _counted(_ROWS, _COLUMNS),
            rf"(?P<turned>{_counted(_COLUMNS, _ROWS)})",
            r"[{(\[]\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*[})\]]",
            r"\{\s*([0-9]{1,3})\s*\}[\s,x×]*(?:and\s*)?\{\s*([0-9]{1,3})\s*\}",
        )
    ),
    re.IGNORECASE,
)
#: The two numbers alone, or as "5x6" in a reply that has no other numbers.
_BARE = re.compile(r"([0-9]{1,3})\s*(?:[,x×\s]|by|and)\s*([0-9]{1,3})", re.IGNORECASE)
_TIMES = re.compile(r"(?<![\w.,-])([0-9]{1,3})\s*(?:[x×]|by)\s*([0-9]{1,3})(?!\w|[.,][0-9])", re.IGNORECASE)


def read_pair(reply: str, prompts: Iterable[str] = ()) -> str | None:
    """The rows and columns in a reply, as "5,6", or None.

    The last pair counts of those like "rows={5} columns={6}", "(5,6)", "{5}{6}" and "5 rows and 6 columns". Without
    one, the reply must be two numbers, like "5,6" or "5x6", or have no numbers but those of a "5x6". Pairs of repeated
    prompts, and of their "e.g., (5,6)", are ignored.

    Args:
        reply: The model's reply.
        prompts: Questions that the reply may repeat.
    """
    reply = _PAIR_EXAMPLE.sub(" ", _without_numbers_of(prompts, reply))
    reply = re.sub(r"\\(?:text\w*|mathrm)\{([^{}]*)\}", r"\1", reply).replace(r"\times", "x")
    reply = re.sub(r"[*`$\\_]", "", reply)
    pairs = list(_PAIRS.finditer(reply))
    if pairs:
        last = pairs[-1]
        turned = last.re.groupindex["turned"]
        groups = [text for n, text in enumerate(last.groups(), 1) if text is not None and n != turned]
        first, second = (int(text) if text.isdigit() else _WORDS.index(text.lower()) for text in groups)
        return f"{second},{first}" if last["turned"] else f"{first},{second}"
    bare = _BARE.fullmatch(reply.strip(" .!:;'\"{}()[]"))
    if bare is None and len(re.findall(r"[0-9]+", reply)) == 2:
        bare = _TIMES.search(reply)
    return f"{int(bare[1])},{int(bare[2])}" if bare else None
