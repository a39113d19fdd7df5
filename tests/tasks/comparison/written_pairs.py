"""Reads the files of pairs that Foveal writes."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from foveal.tasks.comparison.pairs import LABELS, Pairs
from foveal.tasks.comparison.scores import exact


@dataclass(frozen=True)
class PairFile:
    """The pictures in the order in which they come first, their scores, and the pairs of their places."""

    names: tuple[str, ...]
    scores: tuple[Fraction, ...]
    pairs: Pairs


def read_pairs(path: Path, raters: int = 0) -> PairFile:
    """A file of pairs; ``raters`` as in ``exact``."""
    scores: dict[str, Fraction] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        for side in "12":
            score = exact(row[f"score{side}"], raters)
            assert scores.setdefault(row[f"img{side}"], score) == score
    places = {name: place for place, name in enumerate(scores)}
    columns = [[places[row["img1"]], places[row["img2"]], LABELS.index(row["label"])] for row in rows]
    first, second, label = np.array(columns).T
    return PairFile(tuple(scores), tuple(scores.values()), Pairs(first, second, label))
