"""Counts pictures that two splits share, byte for byte, for a test on pictures of the training is too optimistic, and
those that have two labels."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from foveal.errors import ImageError
from foveal.examples import SPLITS, Split
from foveal.images import Encoded
from foveal.tasks.classification.rows import Row

#: Pictures are compared up to this number of rows.
LIMIT = 100_000


def shared_pictures(parts: Mapping[Split, Sequence[Row]], of: Split) -> tuple[str, ...]:
    """A sentence for each split that shares pictures with ``of``, and one about the same picture with two labels.

    Pictures that cannot be read are not compared.

    Args:
        parts: The rows of each split.
        of: The split that is compared with the others.
    """
    if sum(map(len, parts.values())) > LIMIT:
        return (f"Identical pictures in two splits were not looked for: there are more than {LIMIT:,} rows.",)
    marks = _marks(parts)
    notes = _contradictions(parts, marks, of)
    for other in parts:
        if other == of:
            continue
        early, late = sorted((of, other), key=SPLITS.index)
        first = {mark: row for mark, row in zip(marks[early], parts[early], strict=True) if mark}
        both = [
            (row, first[m]) for m, row in zip(marks[late], parts[late], strict=True) if m is not None and m in first
        ]
        if both:
            verb = "is" if len(both) == 1 else "are"
            notes.append(
                f"{len(both)} of {len(parts[late])} pictures of the {late} split {verb} in {early} too, byte for byte, "
                f"e.g. {both[0][0].id} as {both[0][1].id}."
            )
    return tuple(notes)


def _contradictions(
    parts: Mapping[Split, Sequence[Row]], marks: Mapping[Split, Sequence[bytes | None]], of: Split
) -> list[str]:
    """A sentence about pictures, one of them in ``of``, that are the same byte for byte, but have two labels."""
    known: dict[bytes, list[Row]] = {}
    for split in sorted(parts, key=lambda split: split != of):
        for mark, row in zip(marks[split], parts[split], strict=True):
            if mark is not None and (split == of or mark in known):
                known.setdefault(mark, []).append(row)
    torn = [rows for rows in known.values() if len({row.label for row in rows}) > 1]
    if not torn:
        return []
    first = torn[0][0]
    other = next(row for row in torn[0] if row.label != first.label)
    what = "1 picture has two labels" if len(torn) == 1 else f"{len(torn):,} pictures have two labels"
    return [
        f"{what}, though the files are the same byte for byte, e.g. {first.id} ({first.label}) and {other.id} "
        f"({other.label}): one of them is wrong."
    ]


def _marks(parts: Mapping[Split, Sequence[Row]]) -> dict[Split, list[bytes | None]]:
    """A hash of each picture; None for files whose length no other one has, which are not read."""
    # Threads speed up reading from a disk, but not reading from memory.
    count = min(8, os.cpu_count() or 1) if any(not _is_encoded(row) for rows in parts.values() for row in rows) else 1
    with ThreadPoolExecutor(count) as pool:
        each: Callable[..., Iterable[Any]] = pool.map if count > 1 else map
        sizes = {split: list(each(_size, rows)) for split, rows in parts.items()}
        counts = Counter(size for lengths in sizes.values() for size in lengths)

        def mark(row: Row, size: int) -> bytes | None:
            return _hash(row) if size == -1 or (size >= 0 and counts[size] > 1) else None

        return {split: list(each(mark, rows, sizes[split])) for split, rows in parts.items()}


def _is_encoded(row: Row) -> bool:
    return isinstance(row.picture.source, Encoded)


def _size(row: Row) -> int:
    """Length of a picture's file in bytes; -1 where it must be read to know, -2 where it cannot be compared."""
    source = row.picture.source
    if isinstance(source, Encoded):
        return -1
    try:
        return Path(source).stat().st_size if isinstance(source, str | os.PathLike) else -2
    except (OSError, ValueError):
        return -2


def _hash(row: Row) -> bytes | None:
    source = row.picture.source
    try:
        if isinstance(source, Encoded):
            data = source.read()
        elif isinstance(source, str | os.PathLike):
            data = Path(source).read_bytes()
        else:
            return None
    except (OSError, ImageError):
        return None
    return hashlib.blake2b(data, digest_size=16).digest()
