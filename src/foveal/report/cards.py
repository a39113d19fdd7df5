"""The pictures of a report: each with its thumbnail, the answer, the truth and the probabilities, as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from foveal.drawing.thumbnails import data_uri, thumbnail
from foveal.metrics.formats import percent

if TYPE_CHECKING:
    from foveal.report.page import Shown

#: Answers with a bar of their own; the others of a larger set share one.
BARS = 5
_LONGEST = 300

State = Literal["wrong", "unparsable", "right", "unknown"]


@dataclass(frozen=True)
class Bar:
    """An answer's probability; ``share`` is in per cent."""

    label: str
    text: str
    share: float
    chosen: bool


@dataclass(frozen=True)
class Cell:
    """What the page writes about a ``Shown``; ``picture`` is a data URI, ``width`` and ``height`` are in pixels."""

    state: State
    picture: str
    width: int
    height: int
    alt: str
    question: str
    answer: str
    truth: str | None
    runner_up: str
    bars: list[Bar]
    note: str


def cell(item: Shown, place: int, *, single: bool) -> Cell:
    """A picture as the page shows it.

    Args:
        item: The picture and what is said about it.
        place: Its number on the page, from 1.
        single: Whether all pictures share one question, which then stands elsewhere.
    """
    small = thumbnail(item.image) if item.image else None
    return Cell(
        state=item.state,
        picture=data_uri(small) if small else "",
        width=small.width if small else 0,
        height=small.height if small else 0,
        alt=f"Picture {place}" if single else f"Picture {place}: {_short(item.question)}",
        question="" if single else _short(item.question),
        answer=_short(item.answer),
        truth=None if item.truth is None else _short(item.truth),
        runner_up=_runner_up(item),
        bars=_bars(item),
        note=_short(item.note),
    )


def _runner_up(item: Shown) -> str:
    """The second likeliest answer with its probability; empty where none was computed."""
    found = {answer: p for answer, p in (item.probabilities or {}).items() if math.isfinite(p)}
    if len(found) < 2:
        return ""
    second = sorted(found, key=lambda answer: -found[answer])[1]
    return f"{_short(second)} · {percent(found[second])}"


def _bars(item: Shown) -> list[Bar]:
    """A bar for each answer; of many answers the likeliest, the one chosen and the true one, and one for the rest."""
    found = dict(item.probabilities or ({} if item.probability is None else {item.answer: item.probability}))
    found = {answer: p for answer, p in found.items() if math.isfinite(p)}
    kept = list(found)
    if len(found) > BARS:
        needed = [a for a in (item.answer, item.truth) if a in found]
        likely = sorted(found, key=lambda a: -found[a])
        kept = sorted(list(dict.fromkeys([*needed, *likely]))[: BARS - 1], key=lambda a: -found[a])
    bars = [_bar(a, found[a], chosen=a == item.answer) for a in kept]
    if others := len(found) - len(kept):
        rest = max(0.0, sum(found.values()) - sum(found[a] for a in kept))
        bars.append(_bar(f"{others} others", rest, chosen=False))
    return bars


def _bar(label: str, probability: float, *, chosen: bool) -> Bar:
    return Bar(_short(label), percent(probability), round(100 * min(max(probability, 0.0), 1.0), 2), chosen)


def ratio(shown: Sequence[Shown]) -> str:
    """Width over height of the pictures' frames: the pictures' own where it is common to all, else a square."""
    ratios = {round(item.image.width / item.image.height, 2) for item in shown if item.image}
    ratio = ratios.pop() if len(ratios) == 1 else 1.0
    return f"{min(max(ratio, 0.5), 2.5):g}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"
