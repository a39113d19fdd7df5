"""Points, "done" and counts as text: what a model is taught to write, and a strict reading of what it writes.

Four formats of a point; lengths are shares of the picture's sides, so that a reply does not depend on its size:

* ``percent``: Molmo's (Deitke et al. 2024, arXiv 2409.17146): percent with one decimal,
  ``<point x="63.5" y="44.5" alt="apples">apples</point>``, and for several
  ``<points x1="63.5" y1="44.5" x2="12.0" y2="30.1" alt="apples">apples</points>``.
* ``plain``: the same numbers alone, ``63.5, 44.5``, and for several ``63.5, 44.5; 12.0, 30.1``.
* ``bins``: the picture cut into 100 x 100 cells, counted from 0, as two digits each: ``63 44``, and for several
  ``63 44; 12 30``. A cell is read as its middle. The shortest, and always of one length: five tokens where a token is
  a character, against ten for ``plain``. Meant for small models.
* ``cells``: the picture cut into 26 x 26 cells, as the letters of the column (from the left) and the row (from the
  top): ``k,c``, and for several ``k,c; a,z``. A cell is read as its middle. Two letters are all that there is to
  learn, where the second digits of ``bins`` are noise to a model that cannot see so finely yet.

That nothing is left to count is ``done`` in all of them.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from typing import Final, Literal, get_args

from foveal.errors import UserError
from foveal.tasks.counting.objects import Point

Form = Literal["percent", "plain", "bins", "cells"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)
_BETWEEN: Final[dict[Form, str]] = {"plain": ", ", "bins": " ", "cells": ","}
#: What is written when nothing is left to count.
DONE: Final = "done"
Done = Literal["done"]
#: Cells along each side in the format ``bins``.
BINS: Final = 100
#: Cells along each side in the format ``cells``, one for each letter.
CELLS: Final = 26

_NUMBER = r"\d{1,4}(?:\.\d{1,12})?"
_TAG: Final = re.compile(r"<(points?)\b([^<>]*)>", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(r"\s*([A-Za-z]\w*)\s*=\s*(\"[^\"]*\"|'[^']*')")
_PLACE: Final = re.compile(r"([xy])(\d*)", re.IGNORECASE | re.ASCII)
_PLAIN: Final = re.compile(rf"\(?\s*({_NUMBER})\s*%?\s*,\s*({_NUMBER})\s*%?\s*\)?", re.ASCII)
_BINS: Final = re.compile(r"\(?\s*(\d{1,2})\s*[ ,]\s*(\d{1,2})\s*\)?", re.ASCII)
_CELLS: Final = re.compile(r"\(?\s*([a-z])\s*,\s*([a-z])\s*\)?", re.ASCII | re.IGNORECASE)
_STAGE: Final = re.compile(r"</?(?:SUMMARY|CAPTION|REASONING|CONCLUSION)>", re.IGNORECASE)
_CONCLUSION: Final = re.compile(r"<CONCLUSION>(.*?)(?:</CONCLUSION>|\Z)", re.IGNORECASE | re.DOTALL)
_BRACES: Final = re.compile(r"\{\s*(\d{1,9})\s*\}", re.ASCII)
#: A whole number that is no part of a word, a decimal, a fraction, a range, a share, an ordinal or a pair.
_LONE: Final = re.compile(
    r"(?<![\w.,/\-−+#$€£])(?<!\d )(\d{1,3}(?:,\d{3})+|\d{1,9})(?![\w/%°]| \d)(?!\s*%)(?![.,:\-–−]\d)", re.ASCII
)
_MARKUP: Final = re.compile(r"<[^<>]*(?:>|\Z)")


def write_point(point: Point, size: tuple[int, int], form: Form, label: str = "") -> str:
    """A point as text.

    Args:
        point: In pixels of the picture.
        size: Width and height of the picture in pixels.
        form: The format.
        label: What is pointed at; only ``percent`` has a place for it.

    Raises:
        UserError: The point is outside the picture or no number.
    """
    x, y = _written(point, size, form)
    if form == "percent":
        text = html.escape(label)
        return f'<point x="{x}" y="{y}" alt="{text}">{text}</point>'
    return f"{x}{_BETWEEN[form]}{y}"


def write_points(points: Sequence[Point], size: tuple[int, int], form: Form, label: str = "") -> str:
    """All points as one text; that of a single point is ``write_point``'s, and that of none is ``done``.

    Args:
        points: In pixels of the picture.
        size: Width and height of the picture in pixels.
        form: The format.
        label: What is pointed at; only ``percent`` has a place for it.

    Raises:
        UserError: See ``write_point``.
    """
    if not points:
        return DONE
    if form == "percent" and len(points) > 1:
        pairs = [_written(point, size, form) for point in points]
        places = " ".join(f'x{i}="{x}" y{i}="{y}"' for i, (x, y) in enumerate(pairs, 1))
        text = html.escape(label)
        return f'<points {places} alt="{text}">{text}</points>'
    return "; ".join(write_point(point, size, form, label) for point in points)


def read_point(reply: str, size: tuple[int, int], form: Form) -> Point | Done | None:
    """The one point that a reply gives, or ``done``, or None where it gives neither.

    Strict: several points, a point and "done", numbers that are missing, negative, out of range or not finite, and a
    tag that was cut are None, never a guess. ``percent`` may have other words around its tag; in the other formats
    the point is the whole reply, but for brackets and a full stop. Of LLaVA-CoT's stages only the conclusion counts.

    Args:
        reply: What the model wrote.
        size: Width and height of the picture in pixels.
        form: The format.

    Returns:
        The point in pixels of the picture, at most half of the last digit or half a cell from the one that was written.
    """
    points = read_points(reply, size, form)
    if points is None or len(points) > 1:
        return None
    return points[0] if points else DONE


def read_points(reply: str, size: tuple[int, int], form: Form) -> list[Point] | None:
    """All points that a reply gives; see ``read_point``.

    Args:
        reply: What the model wrote; in ``percent`` its tags may be one ``<points ...>`` or several ``<point ...>``.
        size: Width and height of the picture in pixels.
        form: The format.

    Returns:
        The points in pixels of the picture, empty for "done"; None where any of them cannot be read.
    """
    text = conclusion(reply)
    if text is None:
        return None
    text = text.strip()
    if is_done(text):
        return []
    shares = _read_tags(text) if form == "percent" else _read_pairs(text, form)
    return None if shares is None else [(x * size[0], y * size[1]) for x, y in shares]


def is_done(reply: str) -> bool:
    """Whether a reply is the word "done" and nothing else, in any case, quotes and a full stop aside."""
    return reply.strip(" \t\n.!\"'`*").lower() == DONE


def conclusion(reply: str) -> str | None:
    """What counts of a reply: the last conclusion of LLaVA-CoT's four stages (Xu et al. 2024, arXiv 2411.10440).

    The conclusion ends at its closing tag, or with the reply where that is missing. A reply without any stage's tag
    counts whole.

    Returns:
        The text; None where the reply has stages and no conclusion, as one that was cut has.
    """
    conclusions = _CONCLUSION.findall(reply)
    if conclusions:
        return str(conclusions[-1])
    return None if _STAGE.search(reply) else reply


def read_number(reply: str) -> int | None:
    """The count in a reply that is asked for a number only, or None.

    The last number in braces; without braces the last whole number in digits that stands alone, so neither a part of a
    decimal, a fraction, a range, a share, a pair or a word nor negative; tags are left out. Of LLaVA-CoT's stages only
    the conclusion counts.
    """
    text = conclusion(reply)
    if text is None:
        return None
    text = _MARKUP.sub(" ", text)
    numbers = _BRACES.findall(text) or _LONE.findall(text)
    return int(numbers[-1].replace(",", "")) if numbers else None


def _written(point: Point, size: tuple[int, int], form: Form) -> tuple[str, str]:
    """Both numbers as they are written."""
    shares = [value / side for value, side in zip(point, size, strict=True)]
    if not all(math.isfinite(share) and 0 <= share <= 1 for share in shares):
        raise UserError(
            f"The point {point} is not inside its picture of {size[0]} x {size[1]} pixels; clip the boxes or points."
        )
    if form == "bins":
        x, y = (f"{min(BINS - 1, int(share * BINS)):02d}" for share in shares)
    elif form == "cells":
        x, y = (chr(ord("a") + min(CELLS - 1, int(share * CELLS))) for share in shares)
    else:
        x, y = (f"{share * 100:.1f}" for share in shares)
    return x, y


def _share(number: str) -> float | None:
    """Percent as a share, or None where it is out of range or no plain decimal."""
    if not re.fullmatch(_NUMBER, number, re.ASCII):
        return None
    value = float(number) / 100
    return value if value <= 1 else None


def _read_pairs(text: str, form: Form) -> list[Point] | None:
    points_read: list[Point] = []
    for part in text.removesuffix(".").split(";"):
        if form == "bins":
            match = _BINS.fullmatch(part.strip())
            x, y = ((int(match[k]) + 0.5) / BINS for k in (1, 2)) if match else (None, None)
        elif form == "cells":
            match = _CELLS.fullmatch(part.strip())
            x, y = ((ord(match[k].lower()) - ord("a") + 0.5) / CELLS for k in (1, 2)) if match else (None, None)
        else:
            match = _PLAIN.fullmatch(part.strip())
            x, y = (_share(match[k]) for k in (1, 2)) if match else (None, None)
        if x is None or y is None:
            return None
        points_read.append((x, y))
    return points_read


def _read_tags(text: str) -> list[Point] | None:
    tags = _TAG.findall(text)
    # A tag that is no whole one was cut or malformed.
    if not tags or len(tags) != len(re.findall(r"<points?\b", text, re.IGNORECASE)):
        return None
    points_read: list[Point] = []
    for name, attributes in tags:
        points = _read_attributes(attributes)
        if not points or (name.lower() == "point" and len(points) > 1):
            return None
        points_read += points
    return points_read


def _read_attributes(text: str) -> list[Point] | None:
    """The points of one tag in the order of their numbers; None where one lacks a part or has one twice."""
    if re.fullmatch(rf"(?:{_ATTRIBUTE.pattern})*\s*", text) is None:
        return None
    places: dict[int, dict[str, float]] = {}
    for name, quoted in _ATTRIBUTE.findall(text):
        match = _PLACE.fullmatch(name)
        if match is None:
            continue
        share = _share(quoted[1:-1].strip())
        place = places.setdefault(int(match[2] or 0), {})
        if share is None or match[1].lower() in place:
            return None
        place[match[1].lower()] = share
    if any(len(place) < 2 for place in places.values()):
        return None
    return [(place["x"], place["y"]) for _, place in sorted(places.items())]
