"""Rated pictures, their folds, and exact scores.

A score is a fraction, not a float: whether two scores are at most a threshold apart must not depend on how a decimal
is rounded. 2.5 - 2.4 <= 0.1 is false in floating point.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact
from fractions import Fraction

import numpy as np

from foveal.errors import UserError
from foveal.images import Picture
from foveal.tasks.readers.hold_out import hold_out as split_rows
from foveal.tasks.readers.hold_out import short_rank, spread_by
from foveal.terminal import counted

#: A decimal number with an exponent of few digits: a longer one would take gigabytes as a fraction.
_DECIMAL = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,2})?")
#: How far the product of a score and its number of ratings may be from a whole number, for the digits cut off.
_CUT_OFF = Fraction(1, 50)
#: Digits behind the point of a score that has no end as a decimal, as SCUT-FBP5500 prints them.
_DIGITS = 6


@dataclass(frozen=True)
class Rated:
    """A picture with a human rating, or another number, of the quality that is compared.

    Attributes:
        id: Unique in its set, and the same on every machine.
        picture: Decoded when opened.
        score: More of the quality is a larger score.
    """

    id: str
    picture: Picture
    score: Fraction


@dataclass(frozen=True)
class Fold:
    """One division of a set for cross-validation.

    Attributes:
        number: From 1 on.
        train: The pictures to learn from.
        test: The others; none of them is in ``train``.
    """

    number: int
    train: tuple[Rated, ...]
    test: tuple[Rated, ...]


@dataclass(frozen=True)
class RatedSet:
    """The rated pictures of a source.

    Attributes:
        rows: All pictures, each once, in the order of the source.
        place: Where they came from, in words.
        folds: The folds of the source; empty where it has none, see ``draw_folds``.
    """

    rows: tuple[Rated, ...]
    place: str
    folds: tuple[Fold, ...] = ()


def exact(value: str | float | Fraction | np.floating | np.integer, raters: int = 0) -> Fraction:
    """A number as the decimal that it is written as.

    Args:
        value: A decimal number's text; a float counts as its shortest text (0.1 is a tenth), in its own precision.
        raters: The number of whole ratings that it is the mean of, with digits cut off: 2.883333 of 60 raters is
            173/60. 0 takes the number as it is written.

    Raises:
        ValueError: It is no finite number, or no such mean; the text is the end of a sentence.
    """
    if isinstance(value, Fraction):
        score = value
    else:
        # The shortest digits that give the same float again; NumPy's have their own precision (float32).
        text = np.format_float_scientific(value) if isinstance(value, np.floating) else str(value).strip()
        if not _DECIMAL.fullmatch(text) or len(text) > 40:
            more = ", which has a point, no comma" if "," in text else ""
            raise ValueError(f"{text[:40]!r} is no number like 2.5{more}")
        score = Fraction(text)
    if raters < 1:
        return score
    total = round(score * raters)
    if abs(score * raters - total) > _CUT_OFF:
        raise ValueError(f"{decimal_text(score)} is no mean of {raters} whole ratings")
    return Fraction(total, raters)


def decimal_text(score: Fraction) -> str:
    """A score as decimal text: all its digits, or six behind the point where it has no end."""
    try:
        written = Context(prec=1000, traps=[Inexact]).divide(Decimal(score.numerator), Decimal(score.denominator))
    except Inexact:
        written = Decimal(round(score * 10**_DIGITS)).scaleb(-_DIGITS)
    return f"{written:f}"


def whole_units(numbers: Sequence[Fraction]) -> list[int]:
    """Scores and thresholds as whole multiples of one common unit.

    Differences of scores are compared with thresholds on these, which is exact and faster than on fractions.
    """
    unit = math.lcm(*(n.denominator for n in numbers))
    return [n.numerator * (unit // n.denominator) for n in numbers]


def check_rows(rows: Sequence[Rated], place: str, least: int = 2) -> None:
    """Refuses a set with too few pictures to compare, or with one picture twice.

    Raises:
        UserError: There are too few pictures, or one occurs twice.
    """
    if len(rows) < least:
        raise UserError(f"{place}: holds {counted(len(rows), 'rated picture')}; to compare takes {least} at least.")
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise UserError(f"{place}: the picture {row.id} is rated twice; leave one of its ratings.")
        seen.add(row.id)


def draw_folds(rows: Sequence[Rated], count: int = 5, seed: int = 42) -> tuple[Fold, ...]:
    """Divides pictures for cross-validation: each is tested in one fold, and the folds have like scores.

    Args:
        rows: All pictures.
        count: Number of folds.
        seed: Decides with the pictures' ids which is in which.

    Raises:
        UserError: There are fewer than four pictures for each fold, or fewer than two folds.
    """
    if count < 2:
        raise UserError(f"folds: {count} is too few; give at least 2.")
    if len(rows) < 4 * count:
        raise UserError(f"folds: {len(rows)} rated pictures are too few for {count} folds; give at least {4 * count}.")
    places = _dealt(rows, count, seed)
    return tuple(
        Fold(
            fold + 1,
            tuple(r for r, p in zip(rows, places, strict=True) if p != fold),
            tuple(r for r, p in zip(rows, places, strict=True) if p == fold),
        )
        for fold in range(count)
    )


def hold_out(rows: Sequence[Rated], share: float, seed: int = 42) -> tuple[tuple[Rated, ...], tuple[Rated, ...]]:
    """Divides pictures in two that have like scores, e.g. to validate on the second part of a fold's ``train``.

    Args:
        rows: All pictures.
        share: Of the pictures, for the second part; at least two stay in each, unless it is 0.
        seed: Decides with the pictures' ids which.

    Raises:
        UserError: The share is not from 0 to below 1, or there are fewer than four pictures.
    """
    if not 0 <= share < 1:
        raise UserError(f"share: {share} is no share; give a number from 0 to below 1.")
    if share == 0:
        return tuple(rows), ()
    if len(rows) < 4:
        raise UserError(f"{len(rows)} rated pictures are too few to hold some out; give at least 4.")
    draw = spread_by({row.id: row.score for row in rows})
    parts = split_rows(rows, {"validation": share}, seed, name=lambda row: row.id, draw=draw)
    return tuple(parts["train"]), tuple(parts["validation"])


def _dealt(rows: Sequence[Rated], count: int, seed: int) -> list[int]:
    """Which of ``count`` parts each row is in: each next ``count`` rows by score go one to each part."""
    ordered = sorted(range(len(rows)), key=lambda i: (rows[i].score, short_rank(seed, rows[i].id)))
    places = [0] * len(rows)
    for start in range(0, len(rows), count):
        members = ordered[start : start + count]
        # The part that begins is random, too: otherwise the same parts would always miss out in a short last round.
        turn = int.from_bytes(short_rank(seed, f"turn {start}")) % count
        for place, i in enumerate(sorted(members, key=lambda i: short_rank(seed, rows[i].id))):
            places[i] = (place + turn) % count
    return places
