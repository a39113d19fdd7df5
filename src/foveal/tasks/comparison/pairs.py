"""Pairs of rated pictures: First, Second or Similar, drawn for training or all of them for evaluation.

Two pictures are Similar where their scores differ by at most the threshold; otherwise First or Second says which one's
score is larger. Everything is computed on the pictures sorted by score: the pictures within a threshold of one and behind it are
neighbours there, so that the pairs of a label can be counted, and any of them drawn by its number, without making the
others. Scores are compared as whole numbers, see ``scores``.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveal.errors import UserError
from foveal.tasks.comparison.scores import decimal_text, exact, whole_units

Label = Literal["First", "Second", "Similar"]
#: A pair's label is an index in this list.
LABELS: tuple[Label, ...] = ("First", "Second", "Similar")
FIRST, SECOND, SIMILAR = range(3)
#: Largest number of pairs in a block of ``AllPairs``.
BLOCK = 65_536


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs as three columns of one length.

    Attributes:
        first: Index of the picture on the left, or shown first, among the rated pictures.
        second: Index of the other.
        label: Index in ``LABELS``.
    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    label: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.label)

    def __iter__(self) -> Iterator[tuple[int, int, Label]]:
        """The pairs one after the other, each with its label's name."""
        for a, b, label in zip(self.first.tolist(), self.second.tolist(), self.label.tolist(), strict=True):
            yield a, b, LABELS[label]

    def take(self, chosen: ArrayLike | slice) -> Pairs:
        """The pairs of these indices, or of a slice."""
        at = chosen if isinstance(chosen, slice) else np.asarray(chosen, np.intp)
        return Pairs(self.first[at], self.second[at], self.label[at])

    def counts(self) -> dict[Label, int]:
        """How many pairs have each label."""
        counts = np.bincount(self.label, minlength=len(LABELS))
        return {name: int(n) for name, n in zip(LABELS, counts, strict=True)}


@dataclass(frozen=True, eq=False)
class ByScore:
    """Pictures sorted by score, and for each the end of the range that is within the threshold.

    Attributes:
        order: (n,) index of the picture at each place; pictures of one score stay in their own order.
        place: (n,) the reverse: place of each picture.
        end: (n,) for each place the first place, up to n, whose score is more than the threshold larger.
    """

    order: NDArray[np.int32]
    place: NDArray[np.int32]
    end: NDArray[np.int32]

    def labels(self, first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.int8]:
        """Labels of pairs of pictures, given by their indices."""
        a, b = self.place[first], self.place[second]
        similar = np.maximum(a, b) < self.end[np.minimum(a, b)]
        return np.where(similar, SIMILAR, np.where(a > b, FIRST, SECOND)).astype(np.int8)


def by_score(scores: Sequence[Fraction], threshold: float | str | Fraction) -> ByScore:
    """Sorts pictures by score.

    Raises:
        UserError: The threshold is no number, or negative.
    """
    *values, limit = whole_units([*scores, check_threshold(threshold)])
    order = sorted(range(len(values)), key=values.__getitem__)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return ByScore(np.array(order, np.int32), place, _ends([values[i] for i in order], limit))


def check_threshold(threshold: float | str | Fraction) -> Fraction:
    """The threshold as an exact number.

    Raises:
        UserError: It is no number, or negative.
    """
    try:
        value = exact(threshold)
    except ValueError as error:
        raise UserError(f"threshold: {error}; give the largest difference of scores that is Similar.") from None
    if value < 0:
        raise UserError(f"threshold: {decimal_text(value)} is negative; give 0 or more.")
    return value


def _ends(values: Sequence[int], difference: int) -> NDArray[np.int32]:
    """For each of rising values, how many of them are at most so much larger; all smaller ones count too."""
    return np.array([bisect_right(values, v + difference) for v in values], np.int32)


def pair_total(pictures: int) -> int:
    """Number of pairs of so many pictures, n (n - 1) / 2: 604,450 of 1,100."""
    return pictures * (pictures - 1) // 2


# ------------------------------------------------------------------------------------------------------ all pairs


@dataclass(frozen=True, eq=False)
class AllPairs:
    """Each pair of n pictures once, in blocks that are made one after the other; see ``all_pairs``.

    Attributes:
        scale: The pictures in the order of their scores.
        seed: Decides which picture of a pair comes first.
    """

    scale: ByScore
    seed: int = 42

    def __len__(self) -> int:
        return pair_total(len(self.scale.order))

    def __iter__(self) -> Iterator[Pairs]:
        """Blocks of at most ``BLOCK`` pairs."""
        for start in range(0, len(self), BLOCK):
            yield self.take(np.arange(start, min(start + BLOCK, len(self))))

    def take(self, numbers: ArrayLike) -> Pairs:
        """The pairs of these numbers, 0 to ``len`` - 1: (0, 1), (0, 2), ... (0, n-1), (1, 2), ... before the coin."""
        k, n = np.asarray(numbers, np.int64), len(self.scale.order)
        if len(k) and not 0 <= k.min() <= k.max() < len(self):
            raise IndexError(f"there are {len(self)} pairs")
        row = np.arange(n, dtype=np.int64)
        starts = row * n - row * (row + 1) // 2
        low = np.searchsorted(starts[: max(n - 1, 1)], k, side="right") - 1
        high = k - starts[low] + low + 1
        heads = _coins(k, self.seed)
        first = np.where(heads, low, high).astype(np.int32)
        second = np.where(heads, high, low).astype(np.int32)
        return Pairs(first, second, self.scale.labels(first, second))


def all_pairs(scores: Sequence[Fraction], threshold: float | str | Fraction, seed: int = 42) -> AllPairs:
    """All n (n - 1) / 2 pairs of pictures.

    A coin that depends on the seed and the pair's number decides which picture comes first, so that the position says
    nothing about the scores.

    Args:
        scores: The pictures' scores.
        threshold: Largest difference that is Similar.
        seed: Seed of the coins.

    Raises:
        UserError: The threshold is no number, or negative.
    """
    return AllPairs(by_score(scores, threshold), seed)


def _coins(numbers: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """A fair coin for each number: the highest bit of SplitMix64 (Steele, Lea and Flood 2014, OOPSLA) at its place."""
    start = int.from_bytes(hashlib.blake2b(f"{seed}/coins".encode(), digest_size=8).digest(), "little")
    # Arithmetic of 64 bits without sign, which wraps around as it is meant to.
    z = np.uint64(start) + (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    coins: NDArray[np.bool_] = ((z ^ (z >> np.uint64(31))) >> np.uint64(63)).astype(np.bool_)
    return coins


# ------------------------------------------------------------------------------------------------- training pairs


@dataclass(frozen=True, eq=False)
class _Ranges:
    """Pairs whose second picture lies in a range of places that depends on the first's place.

    Attributes:
        start: (n,) for each place the first place of its range.
        total: (n + 1,) number of pairs of all places before.
    """

    start: NDArray[np.int64]
    total: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.total[-1])

    def draw(self, number: int, rng: random.Random) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Lower and higher places of ``number`` of the pairs, drawn without replacement."""
        chosen = np.array(rng.sample(range(len(self)), number), np.int64)
        low = np.searchsorted(self.total, chosen, side="right") - 1
        return low, self.start[low] + chosen - self.total[low]


def _ranges(start: NDArray[np.integer], stop: NDArray[np.integer]) -> _Ranges:
    lengths = np.maximum(stop.astype(np.int64) - start, 0)
    return _Ranges(start.astype(np.int64), np.concatenate([[0], np.cumsum(lengths)]))


def training_pairs(
    scores: Sequence[Fraction],
    threshold: float | str | Fraction,
    number: int = 45_000,
    seed: int = 42,
    intervals: Sequence[float | str | Fraction] | None = None,
) -> Pairs:
    """Draws as many pairs of each label, in random order: 15,000 of each of 45,000.

    Where the number is not divisible by three, First, then Second, has one more. No pair occurs twice, in either order.
    Each pair of a label is as likely as any other, unless there are intervals.

    Args:
        scores: The pictures' scores.
        threshold: Largest difference that is Similar.
        number: Number of pairs.
        seed: Decides everything, with the order of the scores.
        intervals: Rising bounds of differences, the first of them the threshold or more. First and Second then are
            drawn equally often from each interval, beyond its lower and up to its upper bound (0.5 is in 0.1 to 0.5),
            and not at all from outside. None, or an empty list, takes all differences alike.

    Raises:
        UserError: There are too few pairs of a label or in an interval, or an argument is out of range.
    """
    limit = check_threshold(threshold)
    bounds = _check_bounds(intervals or (), limit)
    if number < 1:
        raise UserError(f"number: {number} is too few pairs; give at least 1.")
    scale, places, rng = by_score(scores, limit), np.arange(len(scores)), random.Random(f"{seed}/training pairs")
    similar = np.full(number // 3, SIMILAR, np.int8)
    # First and Second by turns, so that each interval has as many of both, to within one.
    different = (np.arange(number - len(similar)) % 2).astype(np.int8)
    groups = [(similar, _ranges(places + 1, scale.end), f"whose scores differ by at most {decimal_text(limit)}")]
    if bounds:
        groups += _in_intervals(scores, bounds, different)
    else:
        beyond = _ranges(scale.end, np.full(len(scores), len(scores)))
        groups.append((different, beyond, f"whose scores differ by more than {decimal_text(limit)}"))
    parts = []
    for labels, ranges, which in groups:
        _check_supply(ranges, len(labels), which, number)
        parts.append((*ranges.draw(len(labels), rng), labels))
    return _in_random_order(parts, scale, rng)


def _in_intervals(
    scores: Sequence[Fraction], bounds: Sequence[Fraction], labels: NDArray[np.int8]
) -> list[tuple[NDArray[np.int8], _Ranges, str]]:
    """For each interval of differences its share of the labels, its pairs, and which pairs these are, in words."""
    ends = [by_score(scores, bound).end for bound in bounds]
    total, parts = len(labels), len(bounds) - 1
    return [
        (
            labels[total * k // parts : total * (k + 1) // parts],
            _ranges(ends[k], ends[k + 1]),
            f"whose scores differ by {decimal_text(bounds[k])} to {decimal_text(bounds[k + 1])}",
        )
        for k in range(parts)
    ]


def _in_random_order(
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]], scale: ByScore, rng: random.Random
) -> Pairs:
    """Pairs of lower places, higher places and labels, shuffled, as pairs of pictures."""
    low, high, label = (np.concatenate(column) for column in zip(*parts, strict=True))
    # The higher place is the better picture; of Similar ones a coin decides which comes first.
    coins = np.array([rng.random() < 0.5 for _ in range(len(label))])
    higher_first = np.where(label == SIMILAR, coins, label == FIRST)
    order = list(range(len(label)))
    rng.shuffle(order)
    left, right = np.where(higher_first, high, low), np.where(higher_first, low, high)
    return Pairs(scale.order[left], scale.order[right], label).take(order)


def _check_bounds(intervals: Sequence[float | str | Fraction], threshold: Fraction) -> list[Fraction]:
    try:
        bounds = [exact(bound) for bound in intervals]
    except ValueError as error:
        raise UserError(f"intervals: {error}; give rising differences of scores.") from None
    if len(bounds) == 1:
        raise UserError("intervals: one bound makes no interval; give at least two, or none.")
    if any(a >= b for a, b in itertools.pairwise(bounds)) or (bounds and bounds[0] < threshold):
        raise UserError(
            f"intervals: {' '.join(map(decimal_text, bounds))} do not rise from the threshold "
            f"{decimal_text(threshold)} on; give rising differences, the first of them the threshold or more."
        )
    return bounds


def _check_supply(group: _Ranges, wanted: int, which: str, number: int) -> None:
    if len(group) < wanted:
        raise UserError(
            f"number: {number:,} pairs need {wanted:,} {which}, but there are {len(group):,}; ask for fewer, or change "
            "the threshold or the intervals."
        )


def shares(counts: Mapping[Label, int]) -> dict[Label, float]:
    """Share of each label among all pairs."""
    total = sum(counts.values())
    return {name: n / total if total else 0.0 for name, n in counts.items()}
