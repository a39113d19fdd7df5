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
from foveal.tasks.comparison.pairs import LABELS, Label, Pairs, by_score
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

    def disagreeing(self, threshold: float | str | Fraction) -> int:
        """How many of the labels are not what the scores give with this threshold.

        Raises:
            UserError: The file has no scores, or the threshold is no number.
        """
        if not self.scores:
            raise UserError("The pairs have no scores with which their labels could be compared.")
        expected = by_score(self.scores, threshold).labels(self.pairs.first, self.pairs.second)
        return int((expected != self.pairs.label).sum())


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
    known: dict[str, int] = {}
    scores: list[Fraction] = []
    texts: list[str] = []
    codes: dict[str, int] = {name: code for code, name in enumerate(LABELS)}
    for where, cells, scored in _lines(path):
        pair = []
        for name, text in (cells[:2], cells[2:4]):
            if not name:
                raise UserError(f"{where}: a picture's name is empty; fill it in or remove the line.")
            index = known.setdefault(name, len(known))
            if scored and index == len(scores):
                try:
                    scores.append(exact(text, raters))
                except ValueError as error:
                    raise UserError(f"{where}: the score {error}; correct or remove it.") from None
                texts.append(text)
            elif scored and text != texts[index] and _other(text, raters) != scores[index]:
                raise UserError(
                    f"{where}: {name} has the score {text or 'of nothing'}, but {texts[index]} in an earlier line; "
                    "correct one of them."
                )
            pair.append(index)
        if pair[0] == pair[1]:
            raise UserError(f"{where}: {cells[0]} is compared with itself; remove the line.")
        label = codes.get(cells[4])
        if label is None:
            raise UserError(f"{where}: the label is {cells[4]!r}, not {', '.join(LABELS)}; correct or remove it.")
        first.append(pair[0])
        second.append(pair[1])
        labels.append(label)
    if not labels:
        raise UserError(f"{path}: holds no pairs; make it again.")
    pairs = Pairs(np.array(first, np.int32), np.array(second, np.int32), np.array(labels, np.int8))
    return PairFile(tuple(known), tuple(scores), pairs)


def _other(text: str, raters: int) -> Fraction | None:
    try:
        return exact(text, raters)
    except ValueError:
        return None


def _lines(path: Path) -> Iterator[tuple[str, tuple[str, str, str, str, str], bool]]:
    """Where each line stands; img1, score1, img2, score2 and label; and whether the file has scores."""
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
        scores = (row[score1], row[score2]) if scored else ("", "")
        yield where, (row[img1], scores[0], row[img2], scores[1], row[label].strip()), scored
