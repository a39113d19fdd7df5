"""A strict reader of rows and columns in replies."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_DIGITS = r"(?<![\w.,+-])[0-9]{1,3}(?!\w|[.,][0-9])"
#: A number that is no part of a longer one, in brackets or not.
_NUMBER = rf"[{{(\[]?\s*({_DIGITS}|\b(?:{'|'.join(_WORDS)})\b)\s*[}})\]]?"
_KIND, _ROWS, _COLUMNS = r"(?:(?:horizontal|vertical)\s)?", r"\brows?\b", r"\bcol(?:umn)?s?\b"


def _counted(first: str, second: str) -> str:
    """Two numbers, both before or both after what they count, and not much between them."""
    near, between = r"[^0-9{}(),;.]{0,30}?", r"[^0-9{}()]{0,40}?"
    before = rf"{_NUMBER}\s*{_KIND}{first}{between}{_NUMBER}\s*{_KIND}{second}"
    after = rf"{first}{near}{_NUMBER}{between}{second}{near}{_NUMBER}(?![\s}})\]]*{_KIND}(?:{_ROWS}|{_COLUMNS}))"
    return f"(?:{before}|{after})"


#: Where two alternatives start at one place the first one holds. The groups come in pairs.
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
#: A pair in an example, as prompts give one: a model that repeats it has not answered.
_EXAMPLE = re.compile(
    r"(?:\be\.\s?g\.|\beg\b|\bfor (?:example|instance)\b|\bsuch as\b)[\s,:]*"
    r"(?:rows\s?=\s?\{[^{}]*\},?\s?columns\s?=\s?\{[^{}]*\}|\([^()]*\))",
    re.IGNORECASE,
)


def read_pair(reply: str, prompts: Iterable[str] = ()) -> str | None:
    """The rows and columns that a reply gives, as "5,6", or None.

    The last pair wins of those like "rows={5} columns={6}", "(5,6)", "{5}{6}" and "5 rows and 6 columns". Without such
    a one, the reply must be two numbers, like "5,6" or "5x6", or have no numbers but those in "5x6". Pairs of a prompt
    that the reply repeats, and of its "e.g., (5,6)", are not read.

    Args:
        reply: What the model wrote.
        prompts: Questions that it may have repeated.
    """
    reply = " ".join(reply.split())
    for prompt in prompts:
        if any(c.isdigit() for c in prompt):
            reply = re.sub(re.escape(" ".join(prompt.split())), " ", reply, flags=re.IGNORECASE)
    reply = re.sub(r"\\(?:text\w*|mathrm)\{([^{}]*)\}", r"\1", _EXAMPLE.sub(" ", reply)).replace(r"\times", "x")
    reply = re.sub(r"[*`$\\_]", "", reply)
    pairs = list(_PAIRS.finditer(reply))
    if pairs:
        found = pairs[-1]
        first, second = (_value(group) for group in _groups(found))
        return f"{second},{first}" if found["turned"] else f"{first},{second}"
    bare = _BARE.fullmatch(reply.strip(" .!:;'\"{}()[]"))
    if bare is None and len(re.findall(r"[0-9]+", reply)) == 2:
        bare = _TIMES.search(reply)
    return f"{int(bare[1])},{int(bare[2])}" if bare else None


def _groups(match: re.Match[str]) -> list[str]:
    """The two numbers of a match of ``_PAIRS``."""
    turned = match.re.groupindex["turned"]
    return [text for number, text in enumerate(match.groups(), 1) if text is not None and number != turned]


def _value(text: str) -> int:
    return int(text) if text.isdigit() else _WORDS.index(text.lower())
