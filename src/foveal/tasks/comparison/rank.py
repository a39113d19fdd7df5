"""Ranks pictures by a model's comparisons; each next pair is the one expected to add most information."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.comparison.metrics import outcome_weights
from foveal.tasks.comparison.pairing import ActivePairing
from foveal.tasks.comparison.ranking import VERDICTS, Ranked
from foveal.tasks.comparison.scores import Rated
from foveal.tasks.comparison.task import Comparison

_GAP, _CELL = 12, 132


@dataclass(frozen=True)
class Place:
    """A picture's place.

    Attributes:
        path: The picture.
        ranked: Its rank, strength and interval.
        compared: In how many pairs it was.
    """

    path: Path
    ranked: Ranked
    compared: int


def rank_pictures(
    task: Comparison, ask: Callable[[Sequence[Example]], list[Prediction]], paths: Sequence[Path], comparisons: int,
    *, batch: int = 16, both_orders: bool = True, seed: int = 0, progress: Callable[[int], None] | None = None,
) -> list[Place]:  # fmt: skip
    """Compares pictures and ranks them, the strongest first.

    Args:
        task: Makes the questions.
        ask: Answers them, in their order.
        paths: The pictures, two or more.
        comparisons: How many pairs to ask about: from one less than there are pictures, which links them, to all.
        batch: Pairs to ask about between two fits.
        both_orders: Ask each pair in both orders and average, which evens out a preference for a place.
        seed: Decides the first pairs, and between pairs of equal gain.
        progress: Called with the number of pairs done since the last call.

    Raises:
        UserError: There are too few pictures or comparisons, or no reply could be read.
    """
    if len(paths) < 2:
        raise UserError("A ranking needs at least two pictures.")
    rows = [Rated(str(p), Picture(str(p), p), Fraction(0)) for p in paths]
    pairing = ActivePairing(len(rows), comparisons, batch=batch, seed=seed)
    compared = np.zeros(len(rows), int)
    while pairs := pairing.next():
        examples = [task.pair(rows[a], rows[b]) for a, b in pairs]
        outcomes = _outcomes(ask(examples))
        if both_orders:
            turned = _outcomes(ask([task.mirror(e) for e in examples]))
            outcomes = (outcomes + turned[:, ::-1]) / 2
        pairing.answer(outcomes)
        for a, b in pairs:
            compared[[a, b]] += 1
        if progress is not None:
            progress(len(pairs))
    return [Place(paths[r.item], r, int(compared[r.item])) for r in pairing.ranking().ranked()]


def _outcomes(predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    """The weights of ``VERDICTS``, [N, 3]; zeros where the reply could not be read."""
    return np.array([outcome_weights(p) or [0.0] * len(VERDICTS) for p in predictions], dtype=np.float64)


def strip(places: Sequence[Place], columns: int = 10, limit: int = 60) -> Image.Image:
    """The ranking as pictures, in reading order: rank, strength with its 95 % interval, and the file's name.

    Args:
        places: See ``rank_pictures``.
        columns: Pictures in a row.
        limit: Most pictures; of more, the first and the last are drawn, half of the limit each.
    """
    if len(places) > limit:
        places = [*places[: limit // 2], *places[-(limit - limit // 2) :]]
    columns = min(columns, len(places))
    rows = -(-len(places) // columns)
    font = ImageFont.load_default(12)
    height = _CELL + 52
    sheet = Image.new("RGB", (_GAP + columns * (_CELL + _GAP), _GAP + rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for k, place in enumerate(places):
        left, top = _GAP + k % columns * (_CELL + _GAP), _GAP + k // columns * height
        picture = Picture(str(place.path), place.path).open()
        picture.thumbnail((_CELL, _CELL))
        sheet.paste(picture, (left + (_CELL - picture.width) // 2, top + (_CELL - picture.height) // 2))
        r = place.ranked
        draw.text((left, top + _CELL + 2), f"{r.rank}.  {r.strength:+.2f}", fill="#1c2126", font=font)
        low, high = r.lower, r.upper
        draw.text((left, top + _CELL + 17), f"{low:+.2f} to {high:+.2f}", fill="#5b6670", font=font)
        draw.text((left, top + _CELL + 32), _fitted(_printable(place.path.name), draw, font), fill="#5b6670", font=font)
    return sheet


def _fitted(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, cut in the middle where it is wider than a picture."""
    keep = len(text)
    while keep > 4 and draw.textlength(_cut(text, keep), font=font) > _CELL:
        keep -= 1
    return _cut(text, keep)


def _printable(name: str) -> str:
    """A file's name with a question mark for what cannot be drawn: line ends, control and half characters."""
    return "".join(c if c.isprintable() else "?" for c in name)


def _cut(text: str, keep: int) -> str:
    return text if keep >= len(text) else f"{text[: keep // 2]}…{text[len(text) - (keep - keep // 2 - 1) :]}"
