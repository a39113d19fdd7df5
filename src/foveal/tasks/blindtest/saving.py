"""Writes a split of labelled pictures with a dataset card and a sample picture."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from foveal.drawing.contact_sheet import contact_sheet, save_sheet
from foveal.errors import UserError
from foveal.examples import SPLITS, Split
from foveal.files import new_folder, write_text
from foveal.metrics.formats import percent

#: A sheet of a few pictures. Its name may not contain a split's name, or `datasets` would take it for a row.
SAMPLE = "sample.png"
#: Pictures on the sheet, pictures in a row, and the side of one in pixels.
_SAMPLES, _COLUMNS, _SIDE = 12, 6, 160
#: The Hub's names for sizes of data sets, each with its upper limit.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def save_split(
    folder: Path,
    split: Split,
    rows: Iterable[tuple[Image.Image, Mapping[str, Any]]],
    *,
    dpi: int,
    head: str,
    section: Callable[[Sequence[Mapping[str, Any]]], str],
    overwrite: bool,
) -> None:
    """Writes pictures and labels as `datasets`' imagefolder reads them, and describes them in ``README.md``.

    The split's folder appears whole or not at all; other splits stay as they are. ``sample.png`` shows the first
    pictures of the first split.

    Args:
        folder: Folder of the splits.
        split: The split to write.
        rows: Pictures with their line of ``metadata.csv``, which has a ``label``; each is drawn when it is saved.
        dpi: Stored in the pictures.
        head: Beginning of a new ``README.md``; its ``size_categories``, if any, are updated.
        section: Makes the split's section of ``README.md`` from the lines of ``metadata.csv``.
        overwrite: Replace an existing split.

    Raises:
        UserError: The split exists and is not to be replaced, or the disk is full or may not be written.
    """
    target = folder / split
    if target.exists():
        if not overwrite:
            raise UserError(f"{target}: exists already; choose another folder or split, or give --overwrite true.")
        if not (target / "metadata.csv").is_file():
            raise UserError(f"{target}: is not overwritten, for it has no metadata.csv and so is not a saved split.")
    new = not folder.exists()
    # A split is replaced when the new one is complete.
    place = folder / f".{split}.new" if target.exists() else target
    if place != target:
        shutil.rmtree(place, ignore_errors=True)
    try:
        with new_folder(place) as temporary:
            lines, samples = _save_pictures(temporary, rows, dpi)
            others = [s for s in SPLITS if s != split and (folder / s / "metadata.csv").is_file()]
            if not (folder / SAMPLE).is_file() or all(SPLITS.index(split) < SPLITS.index(s) for s in others):
                save_sheet(contact_sheet(samples, _COLUMNS, _SIDE), folder / SAMPLE)
            count = len(lines) + sum(_count(folder / s / "metadata.csv") for s in others)
            _write_card(folder / "README.md", head, split, section(lines), count)
    except BaseException:
        if new:
            with suppress(OSError):
                (folder / "README.md").unlink(missing_ok=True)
                (folder / SAMPLE).unlink(missing_ok=True)
                folder.rmdir()
        raise
    if place != target:
        _replace(target, place, folder / f".{split}.old")


def _replace(target: Path, new: Path, old: Path) -> None:
    shutil.rmtree(old, ignore_errors=True)
    os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)


def _save_pictures(
    folder: Path, rows: Iterable[tuple[Image.Image, Mapping[str, Any]]], dpi: int
) -> tuple[list[dict[str, Any]], list[tuple[Image.Image, str]]]:
    """Writes the pictures and ``metadata.csv``; returns its lines, and small captioned pictures for the sample."""
    lines, samples = [], []
    for index, (image, cells) in enumerate(rows):
        name = f"{index:05d}.png"
        image.save(folder / name, dpi=(dpi, dpi))
        lines.append({"file_name": name, **cells})
        if index < _SAMPLES:
            caption = " / ".join(str(cells[key]) for key in ("label", "label_second") if cells.get(key) is not None)
            samples.append((ImageOps.contain(image, (_SIDE, _SIDE), Image.Resampling.LANCZOS), caption))
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return lines, samples


def histogram(values: Iterable[Any], title: str = "label") -> str:
    """How often each value occurs, as a Markdown table with a bar for each.

    Args:
        values: The values, sorted as text where they cannot be compared.
        title: Heading of the first column.
    """
    counts = Counter(values)
    most, total = max(counts.values()), sum(counts.values())
    try:
        ordered = sorted(counts)
    except TypeError:
        ordered = sorted(counts, key=str)
    lines = [f"| {title} | pictures | share | |", "| --- | ---: | ---: | --- |"]
    for value in ordered:
        n = counts[value]
        lines.append(f"| {value} | {n:,} | {percent(n / total, ' %')} | {'█' * max(1, round(20 * n / most))} |")
    return "\n".join(lines)


def _count(table: Path) -> int:
    with table.open(encoding="utf-8-sig", newline="") as stream:
        return sum(1 for _ in csv.reader(stream)) - 1


def _write_card(path: Path, head: str, split: Split, section: str, count: int) -> None:
    """Replaces the split's section of the dataset card and the size; the rest stays, the user's words included."""
    pieces = re.split(r"^## Split ", path.read_text(encoding="utf-8"), flags=re.MULTILINE) if path.is_file() else [head]
    sections = {p.split("\n", 1)[0].strip(): p.split("\n", 1)[1].strip() for p in pieces[1:] if "\n" in p}
    sections[split] = section.strip()
    body = [f"## Split {s}\n\n{sections[s]}\n" for s in SPLITS if s in sections]
    size = next((name for below, name in _SIZES if count < below), "1M<n<10M")
    top = re.sub(r"^size_categories:\n- .*$", f"size_categories:\n- {size}", pieces[0], count=1, flags=re.MULTILINE)
    write_text(path, "\n".join([top.rstrip() + "\n", *body]))
