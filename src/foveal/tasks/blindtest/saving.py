"""Writes a split of pictures with their labels, a dataset card and a sample picture, whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from foveal.drawing.contact_sheet import contact_sheet
from foveal.errors import UserError
from foveal.examples import SPLITS, Split
from foveal.files import new_folder, write_bytes, write_text

#: A few pictures of the data set in one. No split's name may be in it, or `datasets` would take it for a row.
SAMPLE = "sample.png"
#: Pictures on it, pictures in a row, and the side of one in pixels.
_SHOWN, _COLUMNS, _CELL = 12, 6, 160
#: The Hub's names for sizes of data sets, each with the size that it is below.
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
        folder: Holds the splits.
        split: Which one to write.
        rows: Pictures with the cells of their line of ``metadata.csv``, ``label`` among them; drawn as they are saved.
        dpi: Noted in the pictures.
        head: Beginning of a new ``README.md``; its ``size_categories``, if it has them, are kept up to date.
        section: Text of the split's section in it, from the rows' cells.
        overwrite: Replace a split that is there.

    Raises:
        UserError: The split is there (and not to be replaced), or the disk is full or may not be written.
    """
    target = folder / split
    if target.exists():
        if not overwrite:
            raise UserError(f"{target}: exists already; choose another folder or split, or give --overwrite true.")
        if not (target / "metadata.csv").is_file():
            raise UserError(f"{target}: is not overwritten, for it has no metadata.csv and so is not a saved split.")
    fresh = not folder.exists()
    # Beside a split that is replaced, the new one is finished before the old one is touched.
    place = folder / f".{split}.new" if target.exists() else target
    if place != target:
        shutil.rmtree(place, ignore_errors=True)
    try:
        with new_folder(place) as temporary:
            cells, shown = [], []
            for index, (image, cell) in enumerate(rows):
                name = f"{index:05d}.png"
                image.save(temporary / name, dpi=(dpi, dpi))
                cells.append({"file_name": name, **cell})
                if index < _SHOWN:
                    shown.append((ImageOps.contain(image, (_CELL, _CELL), Image.Resampling.LANCZOS), _caption(cell)))
            table = io.StringIO(newline="")
            writer = csv.DictWriter(table, list(cells[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(cells)
            (temporary / "metadata.csv").write_text(table.getvalue(), encoding="utf-8")
            others = [s for s in SPLITS if s != split and (folder / s / "metadata.csv").is_file()]
            if not (folder / SAMPLE).is_file() or all(SPLITS.index(split) < SPLITS.index(s) for s in others):
                stream = io.BytesIO()
                contact_sheet(shown, _COLUMNS, _CELL).save(stream, "PNG")
                write_bytes(folder / SAMPLE, stream.getvalue())
            count = len(cells) + sum(_count(folder / s / "metadata.csv") for s in others)
            _write_card(folder / "README.md", head, split, section(cells), count)
    except BaseException:
        if fresh:
            with suppress(OSError):
                (folder / "README.md").unlink(missing_ok=True)
                (folder / SAMPLE).unlink(missing_ok=True)
                folder.rmdir()
        raise
    if place != target:
        old = folder / f".{split}.old"
        shutil.rmtree(old, ignore_errors=True)
        os.replace(target, old)
        os.replace(place, target)
        shutil.rmtree(old, ignore_errors=True)


def histogram(values: Iterable[Any], title: str = "label") -> str:
    """How often each value occurs, as a Markdown table with a bar for each.

    Args:
        values: The values; all of one kind, or they are sorted as text.
        title: What they are.
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
        lines.append(f"| {value} | {n:,} | {100 * n / total:.1f} % | {'█' * max(1, round(20 * n / most))} |")
    return "\n".join(lines)


def _caption(cell: Mapping[str, Any]) -> str:
    """What stands below a picture of the sample: its label or labels."""
    second = cell.get("label_second")
    return str(cell["label"]) if second is None else f"{cell['label']} / {second}"


def _count(table: Path) -> int:
    with table.open(encoding="utf-8-sig", newline="") as stream:
        return sum(1 for _ in csv.reader(stream)) - 1


def _write_card(path: Path, head: str, split: Split, section: str, count: int) -> None:
    """Replaces the split's section of the dataset card and the size; what else is in it, be it the user's, stays."""
    pieces = re.split(r"^## Split ", path.read_text(encoding="utf-8"), flags=re.MULTILINE) if path.is_file() else [head]
    sections = {p.split("\n", 1)[0].strip(): p.split("\n", 1)[1].strip() for p in pieces[1:] if "\n" in p}
    sections[split] = section.strip()
    body = [f"## Split {s}\n\n{sections[s]}\n" for s in SPLITS if s in sections]
    size = next((name for below, name in _SIZES if count < below), "1M<n<10M")
    top = re.sub(r"^size_categories:\n- .*$", f"size_categories:\n- {size}", pieces[0], count=1, flags=re.MULTILINE)
    write_text(path, "\n".join([top.rstrip() + "\n", *body]))
