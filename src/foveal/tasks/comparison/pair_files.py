"""Files of pairs: CSV with the columns img1, img2, score1, score2 and label, written and read in a stream."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from foveal.errors import UserError
from foveal.files import replacing
from foveal.tasks.comparison.pairs import LABELS, Label, Pairs
from foveal.tasks.comparison.scores import Rated, decimal_text, exact
from foveal.tasks.readers.tables import csv_lines

COLUMNS = ("img1", "img2", "score1", "score2", "label")


@dataclass(frozen=True, eq=False)
class PairFile:
    """A file of pairs as it was read.

    Attributes:
        names: The pictures, in the order in which they come first.
        scores: Their scores; empty where the file has none.
        pairs: The pairs; their indices are places in ``names``.
    """

    names: tuple[str, ...]
    scores: tuple[Fraction, ...]
    pairs: Pairs


def write_pairs(path: Path, rows: Sequence[Rated], blocks: Pairs | Iterable[Pairs]) -> dict[Label, int]:
    """Writes pairs, which appear whole or not at all; one block is held at a time.

    Scores are written with all their digits, or six behind the point where they have no end as decimals.

    Args:
        path: The file; one that is there is replaced.
        rows: The rated pictures that the pairs' indices mean.
        blocks: The pairs, e.g. an ``AllPairs``.

    Returns:
        How many pairs have each label.

    Raises:
        UserError: The disk is full or may not be written.
    """
    names = [_cell(row.id) for row in rows]
    scores = [decimal_text(row.score) for row in rows]
    counts: dict[Label, int] = dict.fromkeys(LABELS, 0)
    with replacing(path) as stream:
        stream.write((",".join(COLUMNS) + "\n").encode())
        for block in [blocks] if isinstance(blocks, Pairs) else blocks:
            lines = "".join(f"{names[a]},{names[b]},{scores[a]},{scores[b]},{c}\n" for a, b, c in block)
            stream.write(lines.encode(errors="surrogateescape"))
            for label, count in block.counts().items():
                counts[label] += count
    return counts


def _cell(text: str) -> str:
    """The text as CSV has it, in quotes where it must be."""
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="").writerow([text])
    return stream.getvalue()


def read_pairs(path: Path, raters: int = 0) -> PairFile:
    """Reads pairs; the columns may have any order and others beside them, and the scores may be missing.

    One pair may be there several times, as where several people compared it.

    Args:
        path: The file.
        raters: See ``exact``; 60 gives the scores of SCUT-FBP5500 back as they were.

    Raises:
        UserError: It cannot be read, has not the columns, or a line is malformed, of a picture with itself, or gives a
            picture another score than an earlier one does.
    """
    first, second, labels = array("i"), array("i"), array("b")
    pictures = _Pictures(raters)
    codes: dict[str, int] = {name: code for code, name in enumerate(LABELS)}
    for where, (img1, score1, img2, score2, label) in _lines(path):
        a, b = pictures.add(img1, score1, where), pictures.add(img2, score2, where)
        if a == b:
            raise UserError(f"{where}: {img1} is compared with itself; remove the line.")
        if label not in codes:
            raise UserError(f"{where}: the label is {label!r}, not {', '.join(LABELS)}; correct or remove it.")
        first.append(a)
        second.append(b)
        labels.append(codes[label])
    if not labels:
        raise UserError(f"{path}: holds no pairs; make it again.")
    pairs = Pairs(np.array(first, np.int32), np.array(second, np.int32), np.array(labels, np.int8))
    return PairFile(tuple(pictures.places), tuple(pictures.scores), pairs)


class _Pictures:
    """The pictures of a file of pairs, each with one score, in the order in which they come first."""

    def __init__(self, raters: int) -> None:
        self.raters = raters
        self.places: dict[str, int] = {}
        self.scores: list[Fraction] = []
        self.texts: list[str] = []

    def add(self, name: str, text: str | None, where: str) -> int:
        """The place of a picture.

        Args:
            name: The picture.
            text: Its score; None in a file without scores.
            where: What errors call the line.

        Raises:
            UserError: The name is empty, or the score is malformed or not the one of an earlier line.
        """
        if not name:
            raise UserError(f"{where}: a picture's name is empty; fill it in or remove the line.")
        place = self.places.setdefault(name, len(self.places))
        if text is None:
            return place
        if place == len(self.scores):
            try:
                self.scores.append(exact(text, self.raters))
            except ValueError as error:
                raise UserError(f"{where}: the score {error}; correct or remove it.") from None
            self.texts.append(text)
        elif text != self.texts[place] and not self._equals(text, self.scores[place]):
            raise UserError(
                f"{where}: {name} has the score {text or 'of nothing'}, but {self.texts[place]} in an earlier line; "
                "correct one of them."
            )
        return place

    def _equals(self, text: str, score: Fraction) -> bool:
        try:
            return exact(text, self.raters) == score
        except ValueError:
            return False


def _lines(path: Path) -> Iterator[tuple[str, tuple[str, str | None, str, str | None, str]]]:
    """What errors call each line, and its img1, score1, img2, score2 and label; the scores are None where there are none."""
    if not path.exists():
        raise UserError(f"{path}: there is no such file of pairs; check the path.")
    lines = csv_lines(path, "cannot be read ({error}); make it again.", errors="surrogateescape")
    _, header = next(lines, (0, []))
    names = [name.strip() for name in header]
    scored = "score1" in names or "score2" in names
    needed = COLUMNS if scored else ("img1", "img2", "label")
    missing = [name for name in needed if name not in names]
    if missing:
        raise UserError(f"{path}: has no column {missing[0]}; it must have {', '.join(needed)}.")
    img1, img2, label = (names.index(name) for name in ("img1", "img2", "label"))
    score1, score2 = (names.index(name) for name in ("score1", "score2")) if scored else (0, 0)
    widest = max(img1, img2, label, score1, score2)
    for number, row in lines:
        where = f"{path}, line {number}"
        if len(row) <= widest:
            raise UserError(f"{where}: has {len(row)} cells of {len(names)}; correct or remove it.")
        scores = (row[score1], row[score2]) if scored else (None, None)
        yield where, (row[img1], scores[0], row[img2], scores[1], row[label].strip())
