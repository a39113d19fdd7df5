"""Holds rows out of training; the choice depends on the seed and the rows' names alone, not on the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from foveal.examples import Split

Row = TypeVar("Row")
#: Takes names, shares and a seed, and returns the split of each name that is held out.
Draw = Callable[[Sequence[str], Mapping[Split, float], int], Mapping[str, Split]]


def rank(seed: int, name: str) -> bytes:
    """A random sorting key for a name; it depends on nothing but the seed and the name."""
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()


def short_rank(seed: int, name: str) -> bytes:
    """Another such key, of eight bytes."""
    return hashlib.blake2b(f"{seed}/{name}".encode(errors="surrogateescape"), digest_size=8).digest()


def origin(file: str) -> str:
    """The name of the original picture: NAME of ``NAME.rf.HASH.jpg``, the names of Roboflow's versions of it."""
    return Path(file).name.split(".rf.")[0]


def at_least_one(names: Sequence[str], shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
    """Each split's share of the names, at least one where there are enough, and at least one name is left over."""
    left = sorted(names, key=lambda name: rank(seed, name))
    wanted = {split: share for split, share in shares.items() if share > 0}
    drawn: dict[str, Split] = {}
    for place, (split, share) in enumerate(wanted.items(), start=1):
        later = len(wanted) - place
        most = max(len(left) - 1 - later, min(1, len(left) - 1))
        count = min(max(1, int(len(names) * share + 0.5)), most)
        drawn |= dict.fromkeys(left[:count], split)
        left = left[count:]
    return drawn


def below_half(names: Sequence[str], shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
    """Each split's share of the names, at least one, and of two equal shares so few that some names are left over."""
    left = sorted(names, key=lambda name: rank(seed, name))
    drawn: dict[str, Split] = {}
    for split, share in shares.items():
        count = min(max(1, round(share * len(names))), (len(names) - 1) // 2)
        drawn |= dict.fromkeys(left[:count], split)
        left = left[count:]
    return drawn


def spread_by(values: Mapping[str, Any]) -> Draw:
    """Sorts the names by value, cuts them into runs and draws one name of each, so that both parts have like values.

    At least two names are drawn, and two left over.
    """

    def draw(names: Sequence[str], shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
        ((split, share),) = shares.items()
        count = min(max(2, round(share * len(names))), len(names) - 2)
        ordered = sorted(names, key=lambda name: (values[name], short_rank(seed, name)))
        runs = (ordered[k * len(names) // count : (k + 1) * len(names) // count] for k in range(count))
        return {min(run, key=lambda name: short_rank(seed, name)): split for run in runs}

    return draw


def hold_out(
    rows: Iterable[Row],
    shares: Mapping[Split, float],
    seed: int,
    *,
    name: Callable[[Row], str],
    group: Callable[[Row], Hashable] = lambda row: "",
    draw: Draw = at_least_one,
) -> dict[Split, list[Row]]:
    """Splits rows; what is not drawn is ``train``.

    Args:
        rows: All rows, in the order that each split keeps.
        shares: Share of the names for each split beside ``train``.
        seed: Decides, with the names, which rows are drawn.
        name: The name of a row; rows of one name stay together.
        group: Every split gets its share of each group, e.g. of the rows of a class.
        draw: Draws the names of a group.

    Returns:
        The rows of ``train`` and of each split of ``shares``.
    """
    rows = list(rows)
    groups: dict[Hashable, dict[str, None]] = {}
    for row in rows:
        groups.setdefault(group(row), {})[name(row)] = None
    split_of: dict[str, Split] = {}
    for names in groups.values():
        split_of |= draw(list(names), shares, seed)
    parts: dict[Split, list[Row]] = {"train": [], **{split: [] for split in shares}}
    for row in rows:
        parts[split_of.get(name(row), "train")].append(row)
    return parts
