"""Reads ReasonSeg as tables: parquet as on the Hugging Face Hub in Ricky06662/ReasonSeg_val and Ricky06662/ReasonSeg_test.

Columns: image (an encoded picture), text, mask (rows of true and false, [H, W]), image_id, img_height, img_width. A row
has one text, and does not say whether it is a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import ImageError, UserError
from foveal.examples import SPLITS, Split
from foveal.images import Encoded
from foveal.tasks.readers.annotations import OnBad, Refusals
from foveal.tasks.readers.missing import is_missing
from foveal.tasks.readers.pictures import SizedPicture, parts_of_cell
from foveal.tasks.readers.splits import RELEASED, split_named
from foveal.tasks.readers.tables import arrow_column, arrow_schema, read_columns
from foveal.tasks.segmentation.objects import Mask, Query, Source

_TEXTS = ("text", "image_id", "img_height", "img_width")
COLUMNS = ("image", "mask", *_TEXTS)
NOTES = (
    "These tables count ReasonSeg's ignored regions as meant, so that figures on them do not compare with those on the "
    "released polygons.",
    "These tables do not say which texts are phrases: all are asked as sentences.",
)


@dataclass(frozen=True)
class TableTarget:
    """The mask in a row of a table, read when it is asked for.

    Attributes:
        place: The parquet file.
        row: Counted from 0.
        size: Width and height of the picture.
    """

    place: Path
    row: int
    size: tuple[int, int]

    def whole(self) -> Mask:
        """The mask, [H, W] of 0 and 1.

        Raises:
            UserError: It is missing or has another size than the picture.
        """
        width, height = self.size
        cell = arrow_column(self.place, "mask", mapped=True)[self.row]
        rows = cell.values
        lengths = [] if rows is None else rows.value_lengths().to_pylist()
        if lengths != [width] * height or rows.flatten().null_count:
            raise UserError(f"{self.place}, row {self.row}: its mask is not {width} x {height}; correct or remove it.")
        return np.asarray(rows.flatten().to_numpy(zero_copy_only=False) != 0, dtype=np.uint8).reshape(height, width)

    def parts(self) -> Sequence[Mask]:
        """The mask, or nothing where it is empty: tables do not tell objects apart."""
        mask = self.whole()
        return [mask] if mask.any() else []


def find_tables(path: Path) -> list[Path]:
    """The parquet files that a path names: itself, or those in the folder or in its folder ``data``."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".parquet" else []
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def read_tables(path: Path, tables: Sequence[Path], split: Split, *, on_bad: OnBad = "refuse") -> Source:
    """The queries of a split: one for each row.

    Files name their split; without a name of a split they are a test split. If all files of a folder are test files, the
    folder's name decides: the only file of ReasonSeg_val is called test. Pictures and masks are read on demand.

    Args:
        path: What ``find_tables`` was asked about.
        tables: What it found.
        split: Which one.
        on_bad: At a row whose text or size cannot be used.

    Raises:
        UserError: There is no such split, a table or a row cannot be used, or nothing is left.
    """
    splits = {table: split_named(table.stem) or "test" for table in tables}
    if path.is_dir() and set(splits.values()) == {"test"}:
        folder = path.resolve()
        of_all = split_named((folder.parent if folder.name == "data" else folder).name)
        splits = dict.fromkeys(tables, of_all or "test")
    chosen = [table for table, its in splits.items() if its == split]
    if not chosen:
        only = ", ".join(s for s in SPLITS if s in splits.values())
        raise UserError(f"{path}: has no {split} split, only {only}; check data.source.")
    queries: list[Query] = []
    refusals = Refusals(on_bad)
    seen: set[str] = set()
    for table in chosen:
        for row, values in enumerate(_texts(table)):
            try:
                queries.append(_query(table, row, values, split, seen))
            except UserError as error:
                refusals.add_error(f"{table}, row {row}", error)
    if not queries:
        raise UserError(f"{path}: no row of the {split} split can be used; check data.source.")
    return Source(queries, ", ".join(map(str, chosen)), tuple(refusals.rows), NOTES)


def _query(table: Path, row: int, values: dict[str, Any], split: Split, seen: set[str]) -> Query:
    where, text = f"{table}, row {row}", values["text"]
    if not isinstance(text, str) or is_missing(text):
        raise UserError(f"{where}: has no text; write what the picture is asked or remove the row.")
    sides = values["img_width"], values["img_height"]
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise UserError(f"{where}: img_width and img_height are {sides}, not numbers of pixels; correct them.")
    size = int(sides[0]), int(sides[1])
    # One picture may be asked twice.
    name = f"{RELEASED[split]}/{values['image_id']}"
    name = f"{name}#{row}" if name in seen else name
    seen.add(name)
    picture = SizedPicture(where, Encoded(where, partial(_picture, table, row)), size=size)
    return Query(name, picture, (text.strip(),), True, size, TableTarget(table, row, size))


def _texts(path: Path) -> list[dict[str, Any]]:
    """The small columns of all rows."""
    import pyarrow  # type: ignore[import-untyped]

    schema = arrow_schema(path)
    missing = [name for name in COLUMNS if name not in schema.names]
    if missing:
        raise UserError(f"{path}: has no column {missing[0]!r}; ReasonSeg's tables have {', '.join(COLUMNS)}.")
    mask = schema.field("mask").type
    if not (pyarrow.types.is_list(mask) and pyarrow.types.is_list(mask.value_type)):
        raise UserError(f"{path}: its column mask is {mask}, not rows of true and false; write it as such.")
    return list(read_columns(path, _TEXTS).to_pylist())


def _picture(path: Path, row: int) -> bytes:
    data, _ = parts_of_cell(arrow_column(path, "image", mapped=True)[row].as_py())
    if data is None:
        raise ImageError(f"{path}, row {row}: has no picture; restore it or remove the row.")
    return data
