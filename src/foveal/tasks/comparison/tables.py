"""Reads rated pictures from a table: CSV or TSV with the pictures' paths, or parquet with paths or whole pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from foveal.errors import UserError
from foveal.images import Picture
from foveal.tasks.comparison.scores import Rated, RatedSet, check_rows, exact

#: What the columns may be called where no option names them; the first that is there holds.
IMAGE_COLUMNS = (
    "image",
    "img",
    "picture",
    "photo",
    "file_name",
    "filename",
    "file",
    "image_path",
    "path",
    "image_name",
)
SCORE_COLUMNS = ("score", "rating", "mean_score", "mean_rating", "beauty_score", "mos", "average", "mean", "label")
TABLES = (".csv", ".tsv", ".parquet")


def read_table(path: Path, *, image_column: str = "", score_column: str = "", raters: int = 0) -> RatedSet:
    """The rows of a table, or of all parquet files of a folder.

    Paths are relative to the table. Parquet pictures may be paths, bytes, or both, as `datasets` saves them.

    Args:
        path: The table, or the folder of parquet files.
        image_column: The column of the pictures; found by its name by default, see ``IMAGE_COLUMNS``.
        score_column: The column of the scores; found by its name by default, see ``SCORE_COLUMNS``.
        raters: See ``exact``.

    Raises:
        UserError: There is no such table or column, or a row is malformed.
    """
    files = [path]
    if path.is_dir():
        files = sorted(p for p in (*path.glob("*.parquet"), *path.glob("*/*.parquet")) if not p.name.startswith("."))
    if not files or not all(p.is_file() for p in files):
        raise UserError(f"{path}: there is no such table ({', '.join(TABLES)}) or folder of them; check the path.")
    rows: list[Rated] = []
    places: dict[str, str] = {}
    for file in files:
        cells = _parquet_cells if file.suffix == ".parquet" else _csv_cells
        for where, image, score in cells(file, image_column, score_column):
            name, picture = _picture(image, file, where, len(rows))
            if name in places:
                raise UserError(f"{where}: the picture {name} is rated in {places[name]} already; remove one.")
            places[name] = where
            try:
                rows.append(Rated(name, picture, exact(score, raters)))
            except ValueError as error:
                raise UserError(f"{where}: the score {error}; correct or remove it.") from None
    check_rows(rows, str(path))
    return RatedSet(tuple(rows), str(path))


def find_column(path: Path, names: Sequence[str], chosen: str, candidates: Sequence[str], option: str) -> str:
    """The column that an option names, or the first that has a usual name, upper or lower case.

    Args:
        path: The table, for the error.
        names: Its columns.
        chosen: What the option says; empty where it is not given.
        candidates: Usual names.
        option: The option's name.

    Raises:
        UserError: There is none.
    """
    if chosen in names and chosen:
        return chosen
    lowered = {name.strip().lower(): name for name in reversed(names)}
    found = next((lowered[c] for c in candidates if c in lowered), None)
    if chosen or found is None:
        wrong = f"has no column {chosen!r}" if chosen else f"has no column named like {', '.join(candidates[:3])}"
        raise UserError(f"{path}: {wrong}; name one of {', '.join(names) or 'its columns'} in {option}.")
    return found


def _columns(path: Path, names: Sequence[str], image_column: str, score_column: str) -> tuple[str, str]:
    return (
        find_column(path, names, image_column, IMAGE_COLUMNS, "image_column"),
        find_column(path, names, score_column, SCORE_COLUMNS, "score_column"),
    )


def _csv_cells(path: Path, image_column: str, score_column: str) -> Iterator[tuple[str, Any, Any]]:
    """Where each row stands, its picture's path and its score."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(
            io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",", restval=""
        )
        image, score = _columns(path, list(reader.fieldnames or ()), image_column, score_column)
        for row in reader:
            yield f"{path}, line {reader.line_num}", row[image].strip(), row[score]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); save it as CSV in UTF-8.") from None


def _parquet_cells(path: Path, image_column: str, score_column: str) -> Iterator[tuple[str, Any, Any]]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        names = pyarrow.parquet.read_schema(path).names
        image, score = _columns(path, names, image_column, score_column)
        table = pyarrow.parquet.read_table(path, columns=[image, score])
        # Through NumPy, a number of 32 bits keeps its own shortest text.
        known = table.column(score)
        numbers = known.to_pylist() if known.null_count else known.to_numpy()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error}); save it with `Dataset.to_parquet`.") from None
    for number, (cell, value) in enumerate(zip(table.column(image), numbers, strict=True)):
        yield f"{path}, row {number}", cell.as_py(), value


def _picture(cell: Any, table: Path, where: str, number: int) -> tuple[str, Picture]:
    """The id and the picture of a row."""
    if isinstance(cell, dict):
        data, name = cell.get("bytes"), cell.get("path")
    else:
        data, name = (cell, None) if isinstance(cell, bytes) else (None, cell)
    if name is not None and not isinstance(name, str):
        raise UserError(
            f"{where}: the picture is {type(name).__name__}, neither a path nor bytes; choose image_column."
        )
    if data:
        return name or f"{number:05d}", Picture(where, data)
    if not name:
        raise UserError(f"{where}: there is no picture; fill it in or remove the row.")
    path = table.parent / name
    return name, Picture(str(path), path)
