"""The rows that a run was made with, by which it is known later whether its data are still the same."""

from __future__ import annotations

import csv
import io
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from PIL import Image

from foveal.errors import UserError
from foveal.examples import Example, Loaded, evenly_spread
from foveal.files import write_text
from foveal.images import Picture
from foveal.runs import Run
from foveal.tasks.lazy import Made

ROWS_FILE = "rows.csv"
#: Of more rows than this, so many are kept, evenly spread: of rows that are read, and of those that are made one by one,
#: which takes long and follows from the recipe.
MOST, MOST_MADE = 50_000, 300

#: The rows of each split in their order: (id, fingerprint).
Known = Mapping[str, Sequence[tuple[str, str]]]


def fingerprint(example: Example) -> str:
    """Eight hexadecimal digits of a row's truth, fields and the sizes of its picture files; no picture is read."""
    parts = (_plain(example.truth), _plain(example.fields), [_size(p) for p in example.images])
    return f"{zlib.crc32(repr(parts).encode(errors='backslashreplace')):08x}"


def _size(picture: Picture) -> int | str:
    source = picture.source
    if isinstance(source, Picture):
        return _size(source)
    if isinstance(source, bytes):
        return f"{len(source)} {zlib.crc32(source):08x}"
    if isinstance(source, str | os.PathLike):
        try:
            return os.stat(source).st_size
        except OSError:
            return -1
    return str(source.size) if isinstance(source, Image.Image) else ""


def _plain(value: Any) -> Any:
    """What of a value is the same in every process: numbers, texts and what is made of them."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), zlib.crc32(np.ascontiguousarray(value).tobytes())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return sorted((str(key), _plain(v)) for key, v in value.items())
    if isinstance(value, set | frozenset):
        return sorted(map(repr, map(_plain, value)))
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if is_dataclass(value):
        return [type(value).__name__, *(_plain(getattr(value, f.name)) for f in fields(value))]
    return type(value).__name__


def _most(rows: Sequence[Any]) -> int:
    while not isinstance(rows, list | tuple):
        inner = getattr(rows, "items", None) if isinstance(rows, Made) else getattr(rows, "rows", None)
        if not isinstance(inner, Sequence):
            return MOST_MADE
        rows = inner
    return MOST


def known_rows(splits: Mapping[str, Loaded]) -> Known:
    """The rows of splits."""
    return {
        name: [
            (row.id.encode(errors="backslashreplace").decode(), fingerprint(row))
            for row in (loaded.examples[i] for i in evenly_spread(len(loaded.examples), _most(loaded.examples)))
        ]
        for name, loaded in splits.items()
    }


def write_rows(run: Run, splits: Mapping[str, Loaded]) -> None:
    """Keeps the rows in the run's folder."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("split", "row", "fingerprint"))
    for name, rows in known_rows(splits).items():
        writer.writerows((name, *row) for row in rows)
    write_text(run.path / ROWS_FILE, text.getvalue())


def read_rows(run: Run) -> Known | None:
    """The rows that a run was made with; None where it did not keep them.

    Raises:
        UserError: The file is damaged.
    """
    file = run.path / ROWS_FILE
    if not file.exists():
        return None
    found: dict[str, list[tuple[str, str]]] = {}
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream, strict=True):
                found.setdefault(row["split"], []).append((row["row"], row["fingerprint"]))
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UserError(
            f"{file}: cannot be read ({error}); restore it, or remove it, and only the number of rows is compared."
        ) from error
    return found


def check_same_rows(run: Run, splits: Mapping[str, Loaded]) -> None:
    """Refuses to go on with a training whose data have changed: some rows might be tested that were trained on.

    Raises:
        UserError: Says what changed.
    """
    old = read_rows(run)
    new = known_rows(splits)
    # Where not all rows are kept, those of another number of rows are others.
    some = splits if old is None else {n: s for n, s in splits.items() if len(new[n]) < len(s.examples)}
    what = _counts(run, some) or ([] if old is None else changes(old, new))
    if what:
        raise UserError(
            f"{run.path}: its data have changed since it was begun: {'; '.join(what)}. Restore them, or train anew with "
            f"`foveal train {run.recipe} --name NEW`."
        )


def check_measured(run: Run, split: str, loaded: Loaded) -> str | None:
    """Compares the rows that are measured with those that a run was made with.

    Returns:
        What is different, as a sentence; None where nothing is.

    Raises:
        UserError: Some of them were trained on.
    """
    old = read_rows(run)
    if old is None:
        what = _counts(run, {split: loaded})
    else:
        new = known_rows({split: loaded})
        trained = {name for name, _ in old.get("train", ())} - {name for name, _ in old.get(split, ())}
        seen = [name for name, _ in new[split] if name in trained] if split != "train" else []
        if seen:
            told = f"{len(seen):,} row{'s' if len(seen) > 1 else ''} of its {split} split"
            raise UserError(
                f"{run.path}: {told} {'were' if len(seen) > 1 else 'was'} trained on {_few(seen)}: its data have changed since. "
                "Restore them, or measure on other data with --data.source."
            )
        some = {split: loaded} if len(new[split]) < len(loaded.examples) else {}
        what = _counts(run, some) or (changes({split: old[split]}, new) if split in old else [])
    return f"The {split} split has changed since the run was begun: {'; '.join(what)}." if what else None


def _counts(run: Run, splits: Mapping[str, Loaded]) -> list[str]:
    """What is known of the rows of a run that did not keep them: how many they were."""
    try:
        table = json.loads((run.path / "data.json").read_text(encoding="utf-8"))["splits"]
        old = {name: int(split["rows"]) for name, split in table.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []
    return [
        f"{name} has {len(loaded.examples):,} rows and had {old[name]:,}"
        for name, loaded in splits.items()
        if name in old and len(loaded.examples) != old[name]
    ]


def changes(old: Known, new: Known) -> list[str]:
    """What is different in the rows of splits, a few words for each kind of difference."""
    before, after = ({name: dict(rows) for name, rows in known.items()} for known in (old, new))
    moved: list[str] = []
    gone: list[str] = []
    fresh: list[str] = []
    other: list[str] = []
    for split in dict.fromkeys((*before, *after)):
        was, now = before.get(split, {}), after.get(split, {})
        for row in (r for r in was if r not in now):
            to = [s for s in after if row in after[s] and row not in before.get(s, {})]
            (moved if to else gone).append(f"{row}, {split} to {to[0]}" if to else f"{split}: {row}")
        elsewhere = {r for s in before if s != split for r in before[s] if r not in after.get(s, {})}
        fresh += [f"{split}: {row}" for row in now if row not in was and row not in elsewhere]
        other += [f"{split}: {row}" for row in now if row in was and was[row] != now[row]]
    kinds = ((gone, "gone"), (fresh, "new"), (moved, "in another split"), (other, "different in picture or label"))
    found = [_examples(rows, what) for rows, what in kinds if rows]
    if not found:
        order = [s for s in old if [r for r, _ in old[s]] != [r for r, _ in new.get(s, ())]]
        found = [f"the rows of {split} are in another order" for split in order]
    return found


def _examples(rows: Sequence[str], what: str) -> str:
    """``2 rows are new (e.g. a)``."""
    return f"{len(rows):,} row{'s are' if len(rows) > 1 else ' is'} {what} {_few(rows)}"


def _few(rows: Sequence[str]) -> str:
    return f"({rows[0]})" if len(rows) == 1 else f"(e.g. {rows[0]})"
