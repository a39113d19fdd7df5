"""Labelled pictures, whatever they were read from: holding some out, and taking a few of each class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foveal.examples import Split
from foveal.images import Picture


@dataclass(frozen=True)
class Row:
    """One labelled picture.

    Attributes:
        id: Unique in its source and the same on every machine, e.g. the path below the source's folder.
        picture: Decoded when opened.
        label: Name of its class.
        reason: What its table says about why it is of that class, as the cell has it; None where it says nothing.
    """

    id: str
    picture: Picture
    label: str
    reason: Any = None


@dataclass(frozen=True)
class Table:
    """What a reader returns.

    Attributes:
        names: All class names, in the source's own order.
        splits: The rows of each split that the source has.
        whole: The source has no splits: ``splits`` holds all its rows as ``train``, and the test rows, too, are to
            be held out of them.
        numbered: The data themselves say which number means which name, in the order of ``names``.
        origin: Where the rows came from; empty for the source as it was given.
        notes: What was guessed about the source, and why, a sentence each.
    """

    names: tuple[str, ...]
    splits: Mapping[Split, Sequence[Row]]
    whole: bool = False
    numbered: bool = False
    origin: str = ""
    notes: tuple[str, ...] = ()


def by_class(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each class that occurs, classes sorted by name."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.label, []).append(row)
    return dict(sorted(groups.items()))


def shuffled(rows: Iterable[Row], seed: int) -> list[Row]:
    """The rows in an order that depends on the seed and the ids alone; a new row leaves the others' order as it is."""
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row.id}".encode(errors="surrogateescape")).digest())


def hold_out(rows: Sequence[Row], shares: Mapping[Split, float], seed: int) -> dict[Split, list[Row]]:
    """Splits rows so that each class gives every split its share; what is left is ``train``.

    Of each class at least one row stays in ``train``, and, where there are enough, each share that is not 0 gets one.

    Args:
        rows: All rows, in the order that each split keeps.
        shares: Share of the rows for each split beside ``train``.
        seed: Decides which rows.
    """
    split_of: dict[str, Split] = {}
    for group in by_class(rows).values():
        left = shuffled(group, seed)
        wanted = {split: share for split, share in shares.items() if share > 0}
        for place, (split, share) in enumerate(wanted.items(), start=1):
            later = len(wanted) - place
            most = max(len(left) - 1 - later, min(1, len(left) - 1))
            count = min(max(1, int(len(group) * share + 0.5)), most)
            split_of |= {row.id: split for row in left[:count]}
            left = left[count:]
    result: dict[Split, list[Row]] = {"train": [], **{split: [] for split in shares}}
    for row in rows:
        result[split_of.get(row.id, "train")].append(row)
    return result


def spread(rows: Sequence[Row], limit: int, seed: int) -> list[Row]:
    """At most ``limit`` rows, as many of each class as of any other where it has them; 0 takes all."""
    if limit <= 0 or limit >= len(rows):
        return list(rows)
    queues = [shuffled(group, seed) for group in by_class(rows).values()]
    turns = [(turn, place, row.id) for place, queue in enumerate(queues) for turn, row in enumerate(queue)]
    chosen = {row_id for _, _, row_id in sorted(turns)[:limit]}
    return [row for row in rows if row.id in chosen]
