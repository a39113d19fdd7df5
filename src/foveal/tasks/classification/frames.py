"""Tables of pictures, read piece by piece: CSV and TSV with paths, parquet and Arrow with paths or encoded bytes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

from foveal.errors import ImageError, UserError
from foveal.images import SUFFIXES, Encoded

#: Parquet files of more bytes than this together are unpacked into the cache of `datasets` once, and mapped from there.
IN_MEMORY = 1 << 30
#: So many rows are looked at to tell what the columns hold.
SAMPLES = 50


class Frame(Protocol):
    """A file of rows.

    Attributes:
        place: The file.
        features: Name of each column to what ``columns.kind_of`` takes.
    """

    @property
    def place(self) -> Path: ...  # noqa: D102
    @property
    def features(self) -> Mapping[str, Any]: ...  # noqa: D102

    def samples(self) -> list[Mapping[str, Any]]:
        """A few rows."""

    def values(self, column: str) -> list[Any]:
        """All values of a column that holds no pictures."""

    def pictures(self, column: str) -> Sequence[str | Encoded]:
        """The pictures of a column: paths as they are written, or encoded ones."""

    def where(self, row: int) -> str:
        """What a message calls a row."""


@dataclass(frozen=True)
class Lines:
    """Rows in memory: those of a CSV file, or the index of an archive.

    Attributes:
        place: The file.
        features: See ``Frame``.
        columns: The values of each column; those of pictures are paths or encoded pictures.
        names: What a message calls each row.
    """

    place: Path
    features: Mapping[str, Any]
    columns: Mapping[str, Sequence[Any]]
    names: Sequence[str]

    def samples(self) -> list[Mapping[str, Any]]:
        """A few rows."""
        count = min(SAMPLES, len(self.names))
        return [{name: column[i] for name, column in self.columns.items()} for i in range(count)]

    def values(self, column: str) -> list[Any]:
        """All values of a column."""
        return list(self.columns[column])

    def pictures(self, column: str) -> Sequence[str | Encoded]:
        """The pictures of a column."""
        return self.columns[column]

    def where(self, row: int) -> str:
        """What a message calls a row."""
        return f"{self.place}, {self.names[row]}"


def read_csv(path: Path) -> Lines:
    """A CSV or TSV file whose first line names the columns; commas, semicolons or tabs are told by that line.

    Raises:
        UserError: It cannot be read, has no names of columns, or a line has too few or too many cells.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        mark = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); save it as CSV in UTF-8.") from None
    header = [name.strip() for name in lines[0][1]] if lines else []
    if not any(header) or any(name.lower().endswith(SUFFIXES) for name in header):
        raise UserError(f"{path}: its first line must name the columns, e.g. path,label; add such a line.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError(f"{path}: two columns are called {twice[0]!r}; rename one.")
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            raise UserError(f"{path}, line {number}: has {len(cells)} cells, not {len(header)}; correct the line.")
    columns = {name: [cells[i].strip() for _, cells in lines[1:]] for i, name in enumerate(header) if name}
    features = {name: _type_of_texts(values) for name, values in columns.items()}
    return Lines(path, features, columns, [f"line {number}" for number, _ in lines[1:]])


def _type_of_texts(values: Sequence[str]) -> str:
    """The type that all texts of a column can be read as."""
    filled = [value for value in values if value]
    for name, pattern in (
        ("int64", r"[+-]?(0|[1-9]\d*)"),
        ("float64", r"[+-]?(\d+\.\d*|\.?\d+)([eE][+-]?\d+)?"),
        ("bool", r"(?i)true|false"),
    ):
        if filled and all(re.fullmatch(pattern, value) for value in filled):
            # Numbers with leading zeros ("007") are names.
            return "string" if name == "float64" and all(v.isdigit() for v in filled) else name
    return "string"


@dataclass(frozen=True)
class ArrowFile:
    """A parquet file, or a file in Arrow's stream or file format.

    Attributes:
        place: The file.
        features: See ``Frame``.
        mapped: Whether a parquet file is unpacked into the cache and mapped, not read into memory.
        confined: Whether pictures that a cell names by their path must lie in the table's folder.
    """

    place: Path
    features: Mapping[str, Any]
    mapped: bool = False
    confined: bool = False

    def samples(self) -> list[Mapping[str, Any]]:
        """A few rows."""
        return list(_first_rows(self.place))

    def values(self, column: str) -> list[Any]:
        """All values of a column."""
        return list(_column(self.place, column, False, _stamp(self.place)).to_pylist())

    def pictures(self, column: str) -> Sequence[str | Encoded]:
        """The pictures of a column: paths, or encoded ones that are read when asked for."""
        import pyarrow  # type: ignore[import-untyped]

        cells = _column(self.place, column, self.mapped, _stamp(self.place))
        if pyarrow.types.is_string(cells.type) or pyarrow.types.is_large_string(cells.type):
            return [text or "" for text in cells.to_pylist()]
        folder, place = self.place.parent, str(self.place)
        names = [f"{place}, row {i}" for i in range(len(cells))]
        read = partial(_bytes_of_cell, cells, folder, self.confined)
        return [Encoded(name, partial(read, i, name)) for i, name in enumerate(names)]

    def where(self, row: int) -> str:
        """What a message calls a row."""
        return f"{self.place}, row {row}"


def open_arrow(path: Path, *, mapped: bool = False, confined: bool = False) -> ArrowFile:
    """A parquet or Arrow file by its schema.

    Raises:
        UserError: It is none.
    """
    schema = _schema(path)
    noted = features_of(schema.metadata or {})
    return ArrowFile(path, {f.name: noted.get(f.name, str(f.type)) for f in schema}, mapped, confined)


def features_of(metadata: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    """What `datasets` noted about the columns in a schema; nothing where it did not write it."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size


def _damaged(path: Path, error: Exception) -> UserError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"{path}: cannot be read as a table ({first}); fetch or save it again.")


def _schema(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        if path.suffix.lower() == ".parquet":
            return pyarrow.parquet.read_schema(path)
        return _arrow_table(path).schema
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def _arrow_table(path: Path) -> Any:
    """The table of an Arrow file, mapped; in the stream format, as `datasets` saves it, or in the file format."""
    import pyarrow

    source = pyarrow.memory_map(str(path))
    try:
        return pyarrow.ipc.open_stream(source).read_all()
    except pyarrow.ArrowInvalid:
        source.seek(0)
        return pyarrow.ipc.open_file(source).read_all()


def _first_rows(path: Path) -> list[Mapping[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        if path.suffix.lower() != ".parquet":
            return list(_arrow_table(path).slice(0, SAMPLES).to_pylist())
        with pyarrow.parquet.ParquetFile(path) as file:
            batch = next(file.iter_batches(SAMPLES), None)
            return [] if batch is None else list(batch.to_pylist())
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


@lru_cache(maxsize=64)
def _column(path: Path, name: str, mapped: bool, stamp: tuple[int, int]) -> Any:
    """A column; the splits of a task that are loaded one after the other share it."""
    import pyarrow
    import pyarrow.parquet

    try:
        if path.suffix.lower() != ".parquet":
            return _arrow_table(path).column(name)
        if not mapped:
            return pyarrow.parquet.read_table(path, columns=[name]).column(name)
        import datasets

        return datasets.Dataset.from_parquet(str(path)).data.table.column(name)
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise _damaged(path, error) from None


def picture_path(folder: Path, path: str, name: str, *, confined: bool) -> Path:
    """The file that a cell of a table names.

    Args:
        folder: What paths are relative to.
        path: The cell.
        name: What a message calls the row.
        confined: Whether the file must lie in the folder, as that of a table from elsewhere must.

    Raises:
        ImageError: The cell is empty, or names a file elsewhere.
    """
    if not path.strip() or "\0" in path:
        raise ImageError(f"{name}: has no picture; restore or remove it.")
    if confined and (Path(path).is_absolute() or ".." in Path(path).parts):
        raise ImageError(
            f"{name}: its picture {path!r} lies outside the data set, where none is opened; remove the row."
        )
    return folder / path


def _bytes_of_cell(cells: Any, folder: Path, confined: bool, row: int, name: str) -> bytes:
    """The encoded picture of a cell: its bytes, or those of the file that it names."""
    cell = cells[row].as_py()
    if isinstance(cell, dict):
        if not cell.get("bytes") and cell.get("path"):
            place = picture_path(folder, cell["path"], name, confined=confined)
            try:
                return place.read_bytes()
            except OSError as error:
                what = f"its picture {place} cannot be read ({error.strerror})"
                raise ImageError(f"{name}: {what}; restore or remove it.") from None
        cell = cell.get("bytes")
    if not cell:
        raise ImageError(f"{name}: has no picture; restore or remove it.")
    return bytes(cell)
