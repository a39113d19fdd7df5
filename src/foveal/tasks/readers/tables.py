"""Tables (CSV, TSV, parquet, Arrow): their rows, the kinds of their columns, and the pictures in them."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

from foveal.errors import UserError
from foveal.files import check_input
from foveal.images import SUFFIXES, Encoded
from foveal.tasks.readers.pictures import bytes_of
from foveal.terminal import counted

#: Parquet files of more bytes in all are unpacked into the cache of `datasets` once, and mapped from there.
IN_MEMORY = 1 << 30
#: Number of rows by which the kind of a column is recognised.
SAMPLES = 50
Kind = Literal["image", "encoded", "path", "class", "integer", "bool", "text", "float", "list", "group", "other"]
#: The first bytes of encoded pictures.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
#: Excel's line about the mark between cells, in front of a table.
_SEPARATOR = re.compile(r'"?sep=([^\w\s"]|\t)"?[,;]*\r?\n?', re.IGNORECASE)
_TROUBLE = "cannot be read ({error}); save it as CSV in UTF-8."
_DAMAGED = "cannot be read as a table ({error}); fetch or save it again."


@dataclass(frozen=True)
class Lines:
    """Rows in memory: those of a CSV file, or the index of an archive.

    Attributes:
        place: The file.
        features: For each column its type, as ``kind_of`` takes it.
        columns: The values of each column; those of pictures are paths or encoded pictures.
        names: What messages call each row.
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
        """What messages call a row."""
        return f"{self.place}, {self.names[row]}"


def csv_lines(path: Path, trouble: str = _TROUBLE) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of each line of a CSV or TSV file, one after the other, the names of the columns first.

    Cells stand between tabs where the file ends in ``.tsv``, else between commas, semicolons or tabs, whichever gives
    the first line most cells, or as a line ``sep=;`` in front of it says. Lines without any text are left out.

    Args:
        path: The file, in UTF-8 with or without a mark at its start.
        trouble: The text of an error behind the path, with a place for the {error}.

    Raises:
        UserError: It cannot be read, quotes are not closed, two columns have one name, or a line has more
            cells than there are columns.
    """
    check_input(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            told = _SEPARATOR.fullmatch(first)
            if told is None:
                stream.seek(0)
            mark = told[1] if told else "\t" if path.suffix.lower() == ".tsv" else _separator(first)
            header: list[str] = []
            reader = csv.reader(stream, delimiter=mark, strict=True)
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                number = reader.line_num + (told is not None)
                if not header:
                    cells = header = _named(cells, path)
                elif len(cells) > len(header):
                    raise UserError(_uneven(f"{path}, line {number}", cells, header, mark))
                yield number, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: {trouble.format(error=error)}") from None


def _separator(line: str) -> str:
    """The mark between the cells of a table's first line."""
    return max(",;\t", key=lambda mark: len(next(csv.reader([line], delimiter=mark), [])))


def _named(cells: Sequence[str], path: Path) -> list[str]:
    """The names of the columns."""
    header = [name.strip() for name in cells]
    twice = sorted(name for name, count in Counter(header).items() if name and count > 1)
    if twice:
        raise UserError(f"{path}: two columns are called {twice[0]!r}; rename one.")
    return header


def _uneven(where: str, cells: Sequence[str], header: Sequence[str], mark: str = "") -> str:
    """The sentence for a line with more or fewer cells than columns."""
    more = "; a cell with a comma needs quotes around it, and a decimal a point" if mark == "," else ""
    return f"{where}: has {counted(len(cells), 'cell')}, not {len(header)}; correct the line{more}."


def csv_rows(path: Path, trouble: str = _TROUBLE) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The names of the columns of a CSV or TSV file, and the number and the cells of each line below them.

    Cells that a line lacks are empty.

    Args:
        path: The file.
        trouble: See ``csv_lines``.

    Raises:
        UserError: See ``csv_lines``.
    """
    lines = csv_lines(path, trouble)
    _, header = next(lines, (0, []))
    rest = [""] * len(header)
    return header, [(number, dict(zip(header, [*cells, *rest], strict=False))) for number, cells in lines]


def read_csv(path: Path) -> Lines:
    """A CSV or TSV file whose first line names the columns.

    Raises:
        UserError: See ``csv_lines``; or it has no names of columns, or a line has too few cells.
    """
    lines = csv_lines(path, "cannot be read as a table ({error}); save it as CSV in UTF-8.")
    _, header = next(lines, (0, []))
    if not any(header) or any(name.lower().endswith(SUFFIXES) for name in header):
        raise UserError(f"{path}: its first line must name the columns, e.g. path,label; add such a line.")
    rows = []
    for number, cells in lines:
        if len(cells) < len(header):
            raise UserError(_uneven(f"{path}, line {number}", cells, header))
        rows.append((f"line {number}", cells))
    columns = {name: [cells[i].strip() for _, cells in rows] for i, name in enumerate(header) if name}
    features = {name: _type_of_texts(values) for name, values in columns.items()}
    return Lines(path, features, columns, [name for name, _ in rows])


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


def kind_of(feature: Any, samples: Sequence[Any] = ()) -> Kind:
    """The kind of a column.

    Args:
        feature: As `datasets` describes it in JSON, e.g. ``{"_type": "Image"}``, or the name of a type in Arrow, e.g.
            ``int64``.
        samples: A few of its values.
    """
    if isinstance(feature, list):
        return "list"
    if isinstance(feature, Mapping):
        type_name = feature.get("_type")
        if type_name == "Image":
            return "image"
        if type_name == "ClassLabel":
            # Names that are the numbers themselves are none.
            return "class" if class_names(feature) else "integer"
        if type_name in ("Sequence", "List", "LargeList") or str(type_name).startswith("Array"):
            return "list"
        if type_name != "Value":
            return "group" if type_name is None else "other"
        feature = feature.get("dtype", "")
    return _kind_of_type(str(feature), [s for s in samples if s is not None and s not in ("", b"")])


def _kind_of_type(text: str, samples: Sequence[Any]) -> Kind:
    if inner := re.match(r"dictionary<values=([^,>]+)", text):
        text = inner[1]
    if text.startswith(("list", "large_list", "fixed_size_list")):
        return "list"
    if text.startswith("struct"):
        return "image" if re.fullmatch(r"struct<(bytes: \w+, path: \w+|path: \w+, bytes: \w+)>", text) else "group"
    if re.match(r"u?int\d+$", text):
        return "integer"
    if text.startswith(("float", "double", "half", "decimal")):
        return "float"
    if text in ("bool", "boolean"):
        return "bool"
    if "binary" in text:
        return "encoded" if not samples or any(bytes(s[:8]).startswith(_MAGIC) for s in samples) else "other"
    if "string" in text:
        paths = [str(s).strip().lower().endswith(SUFFIXES) for s in samples]
        return "path" if paths and all(paths) else "text"
    return "other"


def class_names(feature: Any) -> tuple[str, ...]:
    """The names of a ``ClassLabel``; none for another feature, and none where each number is its own name."""
    if not isinstance(feature, Mapping) or feature.get("_type") != "ClassLabel":
        return ()
    names = tuple(str(name) for name in feature.get("names") or ())
    return () if names == tuple(str(i) for i in range(len(names))) else names


@dataclass(frozen=True)
class ArrowFile:
    """A parquet file, or a file in Arrow's stream or file format.

    Attributes:
        place: The file.
        features: See ``Lines``.
        mapped: Whether a parquet file is unpacked into the cache and mapped, not read into memory.
        roots: Folders that pictures named by their path must lie in, see ``picture_path``.
    """

    place: Path
    features: Mapping[str, Any]
    mapped: bool = False
    roots: tuple[Path, ...] = ()

    def samples(self) -> list[Mapping[str, Any]]:
        """A few rows."""
        return list(_first_rows(self.place))

    def values(self, column: str) -> list[Any]:
        """All values of a column."""
        return list(arrow_column(self.place, column).to_pylist())

    def pictures(self, column: str) -> Sequence[str | Encoded]:
        """The pictures of a column: paths, or encoded ones that are read when asked for."""
        import pyarrow  # type: ignore[import-untyped]

        cells = arrow_column(self.place, column, mapped=self.mapped)
        if pyarrow.types.is_string(cells.type) or pyarrow.types.is_large_string(cells.type):
            return [text or "" for text in cells.to_pylist()]
        names = [self.where(i) for i in range(len(cells))]
        read = partial(_bytes_in_row, cells, self.place.parent, self.roots)
        return [Encoded(name, partial(read, i, name)) for i, name in enumerate(names)]

    def where(self, row: int) -> str:
        """What messages call a row."""
        return f"{self.place}, row {row}"


#: A file of rows.
Frame = Lines | ArrowFile


def open_arrow(path: Path, *, mapped: bool = False, roots: tuple[Path, ...] = ()) -> ArrowFile:
    """A parquet or Arrow file by its schema.

    Raises:
        UserError: It is none.
    """
    schema = arrow_schema(path)
    stored = features_of(schema)
    return ArrowFile(path, {f.name: stored.get(f.name, str(f.type)) for f in schema}, mapped, roots)


def features_of(schema: Any) -> Mapping[str, Any]:
    """The types of the columns that `datasets` stored in a schema; empty where another program wrote it."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


@contextmanager
def arrow_errors(path: Path, trouble: str = _DAMAGED) -> Iterator[None]:
    """Turns errors at a parquet or Arrow file into a sentence.

    Args:
        path: The file.
        trouble: The text of the error behind the path, with a place for the {error}.

    Raises:
        UserError: In place of the other library's error.
    """
    import pyarrow

    check_input(path)
    try:
        yield
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: {trouble.format(error=first)}") from None


def arrow_schema(path: Path, trouble: str = _DAMAGED) -> Any:
    """The names and types of the columns of a parquet or Arrow file.

    Raises:
        UserError: It is no such file; see ``arrow_errors``.
    """
    import pyarrow.parquet  # type: ignore[import-untyped]

    with arrow_errors(path, trouble):
        return pyarrow.parquet.read_schema(path) if _is_parquet(path) else _arrow_table(path).schema


def read_columns(path: Path, columns: Sequence[str], trouble: str = _DAMAGED, **options: Any) -> Any:
    """Columns of a parquet file, in memory.

    Args:
        path: The file.
        columns: Those of them that it lacks are left out.
        trouble: See ``arrow_errors``.
        options: See ``pyarrow.parquet.read_table``.

    Raises:
        UserError: It cannot be read.
    """
    import pyarrow.parquet

    with arrow_errors(path, trouble):
        return pyarrow.parquet.read_table(path, columns=list(columns), **options)


def arrow_column(path: Path, name: str, *, mapped: bool = False) -> Any:
    """A column of a parquet or Arrow file; the splits of a task that are loaded one after the other share it.

    Args:
        path: The file.
        name: Of the column.
        mapped: Whether a parquet file is unpacked into the cache of `datasets` once, and mapped from there.

    Raises:
        UserError: The file cannot be read, or has no such column.
    """
    with arrow_errors(path):
        facts = path.stat()
    return _column(path, name, mapped, (facts.st_mtime_ns, facts.st_size))


@lru_cache(maxsize=64)
def _column(path: Path, name: str, mapped: bool, stamp: tuple[int, int]) -> Any:
    if not mapped or not _is_parquet(path):
        with arrow_errors(path):
            return (read_columns(path, [name]) if _is_parquet(path) else _arrow_table(path)).column(name)
    import datasets

    try:
        with arrow_errors(path):
            return datasets.Dataset.from_parquet(str(path)).data.table.column(name)
    except datasets.exceptions.DatasetGenerationError as error:
        raise UserError(f"{path}: {_DAMAGED.format(error=str(error).strip().splitlines()[0])}") from None


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


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
    import pyarrow.parquet

    with arrow_errors(path):
        if not _is_parquet(path):
            return list(_arrow_table(path).slice(0, SAMPLES).to_pylist())
        with pyarrow.parquet.ParquetFile(path) as file:
            batch = next(file.iter_batches(SAMPLES), None)
            return [] if batch is None else list(batch.to_pylist())


def _bytes_in_row(cells: Any, folder: Path, roots: tuple[Path, ...], row: int, name: str) -> bytes:
    return bytes_of(cells[row].as_py(), name, folder, roots)
