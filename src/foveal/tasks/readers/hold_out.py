"""Which rows are held out of training: by the seed and the rows' names alone, so the same ones on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from foveal.examples import Split

Row = TypeVar("Row")
#: Of names, shares and a seed makes the split of each name that is held out.
Draw = Callable[[Sequence[str], Mapping[Split, float], int], Mapping[str, Split]]


def rank(seed: int, name: str) -> bytes:
    """A sorting key for names: random, but the same on every machine and whatever other names there are."""
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()


def short_rank(seed: int, name: str) -> bytes:
    """The same in eight bytes and in another order."""
    return hashlib.blake2b(f"{seed}/{name}".encode(errors="surrogateescape"), digest_size=8).digest()


def origin(file: str) -> str:
    """The picture that a file is a version of: NAME of ``NAME.rf.HASH.jpg``, as Roboflow calls what it made of NAME."""
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
    """Draws one name of each stretch of the names in the order of their values, so that the parts have like values.

    At least two names are drawn, and two left over.
    """

    def draw(names: Sequence[str], shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
        ((split, share),) = shares.items()
        count = min(max(2, round(share * len(names))), len(names) - 2)
        ordered = sorted(names, key=lambda name: (values[name], short_rank(seed, name)))
        stretches = (ordered[k * len(names) // count : (k + 1) * len(names) // count] for k in range(count))
        return {min(stretch, key=lambda name: short_rank(seed, name)): split for stretch in stretches}

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
        seed: Decides with the names which.
        name: What a row is called; rows of one name stay together.
        group: Each group gives every split its share, e.g. the rows of a class.
        draw: How many are drawn, and in which order.

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
