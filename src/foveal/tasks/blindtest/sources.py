"""Reads a puzzle's pictures with their labels from disk or the Hub, in any of their layouts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from foveal.errors import UserError
from foveal.examples import SPLITS, Split
from foveal.images import SUFFIXES, Encoded, Picture, check_name, is_hidden
from foveal.tasks.blindtest.wording import COLUMNS, Which, match_question, read_loosely
from foveal.tasks.lazy import Lazy
from foveal.tasks.readers.pictures import bytes_of, picture_path
from foveal.tasks.readers.splits import SPLIT_NAMES, split_files, split_folders, subfolders
from foveal.tasks.readers.tables import arrow_schema, class_names, csv_rows, features_of, read_columns

#: Files that are fetched from the Hub: those that can be read here.
_FETCHED = ("*.parquet", "*.csv", *(f"*{s}" for s in SUFFIXES), *(f"*{s.upper()}" for s in SUFFIXES))


@dataclass(frozen=True)
class Row:
    """A picture with its answers.

    Attributes:
        id: Unique within its split.
        picture: The picture, decoded when opened.
        truths: The right answers to the two questions.
        fields: Values of the questions' placeholders; ``text`` is a question that comes with the row.
        which: The only question that the row is for, or None.
    """

    id: str
    picture: Picture
    truths: tuple[Any, Any]
    fields: Mapping[str, str] = field(default_factory=dict)
    which: Which | None = None


@dataclass(frozen=True)
class Label:
    """A label of a published picture, from its name or its line in a table.

    Attributes:
        truths: The right answers to the two questions.
        fields: Values of the questions' placeholders.
        suffix: Added to the row's id where a picture has several rows.
    """

    truths: tuple[Any, Any]
    fields: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True)
class Layout:
    """How a puzzle's pictures are named and labelled on disk and on the Hub.

    Attributes:
        truth: Parses a label; raises ValueError with the reason where it is invalid.
        published: Matches the names of published pictures.
        labels: A picture's labels, from the match of its name and its line in the table beside the folder (None without
            a table); raises ValueError with the reason where they are invalid or the table is needed.
        columns: The columns of that table that ``labels`` needs.
        fields: Columns of ``metadata.csv`` with the values of the questions' placeholders.
        noted: Further columns that rows keep where they are there, each with a check that returns the text or raises
            ValueError with the reason.
        two_truths: Whether the questions have different answers; then ``metadata.csv`` has a column label_second.
        hub_tasks: The puzzle's names in the column ``task`` of XAI/vlmsareblind.
    """

    truth: Callable[[str], Any]
    published: re.Pattern[str]
    labels: Callable[[re.Match[str], Mapping[str, str] | None], Sequence[Label]]
    columns: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    noted: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    two_truths: bool = False
    hub_tasks: tuple[str, ...] = ()


def agreed(named: str, cells: Mapping[str, str] | None, column: str, truth: Callable[[str], Any]) -> Any:
    """The truth in a picture's name, checked against its line in a table.

    Raises:
        ValueError: The two differ, or one is no label.
    """
    value = truth(named)
    if cells is not None and truth(cells[column]) != value:
        raise ValueError(f"{column} is {cells[column]}, but the name of {cells['file']} says {named}")
    return value


def load_rows(
    source: str,
    split: Split,
    layout: Layout,
    questions: Sequence[str] = (),
    only: Which | None = None,
    picture_folder: str = "",
) -> tuple[Sequence[Row], str]:
    """The rows of a split on disk or on the Hub, and where they came from.

    Layouts, in the order in which they are tried:

    * a ``.parquet`` file or a folder of them with the columns of XAI/vlmsareblind; it serves as the test split, and each
      row comes with its question;
    * a ``.parquet`` file or a folder of them as `datasets` saves it, with the columns image and label;
    * ``SPLIT/metadata.csv`` with file_name and label, as ``foveal data make`` writes it;
    * ``SPLIT/LABEL/*.png``;
    * a flat folder of the published pictures, which serves as the test split. Their labels are in their names, or in a
      CSV file beside the folder that has its name. Where both have a label they must agree.

    Args:
        source: A path; or, where nothing has that path, OWNER/NAME of a data set on the Hub.
        split: The split.
        layout: The puzzle's layout.
        questions: The puzzle's two published questions, with which the rows' questions are compared.
        only: Leaves out rows with the other question.
        picture_folder: Folder of the pictures that a table names, where they lie elsewhere.

    Raises:
        UserError: The source or the split does not exist, or a row is malformed.
    """
    path, origin = locate(source)
    elsewhere = (Path(picture_folder).expanduser(),) if picture_folder else ()
    place = _Source(path, origin, layout, questions, only, elsewhere)
    if path.is_file() and path.suffix == ".parquet":
        return place.rows_of_file(split), origin
    if path.is_dir():
        return place.rows_of_folder(split)
    raise UserError(
        f"data.source: {path}: there is no such folder, .parquet file or data set on the Hub (OWNER/NAME); "
        "check the path."
    )


def locate(source: str) -> tuple[Path, str]:
    """The path of a source, and what messages call it; see ``foveal.hub.locate``."""
    from foveal import hub  # its client takes a while to import

    return hub.locate(source, _FETCHED)


@dataclass(frozen=True)
class _Source:
    """A file or folder that exists, and how it is read; see ``load_rows``."""

    path: Path
    origin: str
    layout: Layout
    questions: Sequence[str]
    only: Which | None
    elsewhere: tuple[Path, ...]

    def rows_of_file(self, split: Split) -> Sequence[Row]:
        published = _is_published(self.path)
        serves = "test" if published else SPLIT_NAMES.get(re.split("[-_.]", self.path.stem)[0], "test")
        if split != serves:
            raise UserError(
                f"data.source: {self.path}: serves as the {serves} split; give a folder that has a {split} split too."
            )
        return self._published_rows([self.path]) if published else self._saved_rows([self.path])

    def rows_of_folder(self, split: Split) -> tuple[Sequence[Row], str]:
        path = self.path
        published = [t for t in sorted({*path.glob("*.parquet"), *path.glob("*/*.parquet")}) if _is_published(t)]
        if published and split == "test":
            return self._published_rows(published), self.origin
        tables = {s: [t for t in split_files(path, s, ".parquet") if t not in published] for s in SPLITS}
        if tables[split]:
            return self._saved_rows(tables[split]), self.origin
        remote = self.origin != str(path)
        folders = split_folders(path, path / "data")
        if split in folders:
            folder = folders[split][0]
            has_table = (folder / "metadata.csv").is_file()
            rows = (
                _from_metadata(folder, self.layout, self.elsewhere)
                if has_table
                else _from_label_folders(folder, self.layout)
            )
            return rows, self.origin if remote else str(folder)
        if there := [s for s in SPLITS if tables[s] or s in folders]:
            raise UserError(
                f"data.source: {self.origin if remote else path / split}: there is no {split} split, only "
                f"{', '.join(there)}; "
                + ("give a data set that has one." if remote else "make it with `foveal data make`.")
            )
        return self._loose_pictures(split, bool(published)), self.origin

    def _loose_pictures(self, split: Split, published: bool) -> list[Row]:
        pictures = sorted(p for p in self.path.iterdir() if self.layout.published.match(p.name))
        if not pictures and not published:
            raise UserError(
                f"data.source: {self.origin}: holds neither a folder or .parquet file named {split} nor published "
                "pictures; check the path, or give `generate`."
            )
        if split != "test":
            raise UserError(
                f"data.source: {self.origin}: published pictures serve as the test split, there is no {split} split; "
                "use a folder that `foveal data make` wrote, or give `generate`."
            )
        return _from_names(self.path, pictures, self.layout)

    def _published_rows(self, paths: Sequence[Path]) -> _ParquetRows:
        """The puzzle's rows of XAI/vlmsareblind, each with its question."""
        layout, only = self.layout, self.only
        if not layout.hub_tasks:
            raise UserError(f"data.source: {self.origin}: has no pictures of this puzzle; give another source.")
        rows: list[Row] = []
        places: list[int] = []
        tables, number, place = [], 0, 0
        for path in paths:
            for cells in _read_parquet(path, ("task", "prompt", "groundtruth")).to_pylist():
                if cells["task"] in layout.hub_tasks:
                    prompt = str(cells["prompt"] or "").strip()
                    which, values = match_question(prompt, self.questions)
                    if only is None or which in (None, only):
                        where = f"{self.origin}, row {number}"
                        if not prompt:
                            raise UserError(f"{where}: prompt is empty; fill it in or remove the row.")
                        truth = _checked(
                            str(cells["groundtruth"] or ""), lambda text: read_loosely(text, layout.truth), where
                        )
                        fields = {**values, "text": prompt, "task": str(cells["task"])}
                        rows.append(Row(str(number), Picture(where, ""), (truth, truth), fields, which))
                        places.append(place)
                    place += 1
                number += 1
            # Only this puzzle's pictures are kept in memory; they come in the order of the rows above.
            tables.append(_read_parquet(path, ["image"], filters=[("task", "in", list(layout.hub_tasks))]))
        if not rows:
            asked = f" that asks the {only} question" if only else ""
            raise UserError(
                f"data.source: {self.origin}: has no row of {' or '.join(layout.hub_tasks)}{asked}; give another source"
                + (", or set data.question to both." if only else ".")
            )
        return _ParquetRows(_images(tables, self.origin), (paths[0].parent, *self.elsewhere), rows, places)

    def _saved_rows(self, paths: Sequence[Path]) -> _ParquetRows:
        """The rows of files as `datasets` saves them."""
        layout, source = self.layout, self.origin
        tables = []
        for path in paths:
            extra = [name for name in layout.noted if name in arrow_schema(path).names]
            tables.append(_read_parquet(path, ("image", *_columns(layout), *extra)))
        images = _images(tables, source)
        rows: list[Row] = []
        for table in tables:
            cells = table.drop_columns(["image"])
            noted = features_of(table.schema)
            names = {column: class_names(noted.get(column)) for column in _columns(layout)}
            for row in cells.to_pylist():
                where = f"{source}, row {len(rows)}"
                for column, known in names.items():
                    if known and isinstance(row[column], int) and 0 <= row[column] < len(known):
                        row[column] = known[row[column]]
                rows.append(_row(str(len(rows)), Picture(where, ""), row, layout, where))
        return _ParquetRows(images, (paths[0].parent, *self.elsewhere), rows, range(len(rows)))


def _checked(text: str, truth: Callable[[str], Any], where: str) -> Any:
    try:
        return truth(text)
    except ValueError as error:
        raise UserError(f"{where}: {error}; correct or remove it.") from None


def _columns(layout: Layout) -> tuple[str, ...]:
    return ("label", *(("label_second",) if layout.two_truths else ()), *layout.fields)


def _row(name: str, picture: Picture, cells: Mapping[str, Any], layout: Layout, where: str) -> Row:
    """A row from a table with the columns of a saved split."""
    first = _checked(str(cells["label"]), layout.truth, where)
    second = _checked(str(cells["label_second"]), layout.truth, where) if layout.two_truths else first
    fields = {key: str(cells[key]) for key in layout.fields}
    fields |= {key: _checked(str(cells[key]), read, where) for key, read in layout.noted.items() if cells.get(key)}
    return Row(name, picture, (first, second), fields)


def _from_metadata(folder: Path, layout: Layout, elsewhere: tuple[Path, ...]) -> list[Row]:
    table = folder / "metadata.csv"
    rows = []
    for number, cells in _read_csv(table, ("file_name", *_columns(layout))):
        where = f"{table}, line {number}"
        path = picture_path(folder, cells["file_name"], where, (folder, *elsewhere))
        if not path.is_file():
            raise UserError(f"{where}: there is no picture {path}; restore it or remove the line.")
        rows.append(_row(cells["file_name"], Picture(str(path), path), cells, layout, where))
    return rows


def _read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Rows with their line numbers; each has all the columns."""
    header, rows = csv_rows(path, "cannot be read ({error}); make the data set again.")
    for column in columns:
        if column not in header:
            raise UserError(f"{path}: has no column {column!r}; it must have {', '.join(columns)}.")
        for number, row in rows:
            if not row[column]:
                raise UserError(f"{path}, line {number}: {column} is empty; fill it in or remove the line.")
    return rows


def _from_label_folders(folder: Path, layout: Layout) -> list[Row]:
    if layout.two_truths or layout.fields:
        raise UserError(
            f"{folder}: folders named by label do not tell {', '.join(_columns(layout)[1:])}; use a metadata.csv "
            "as `foveal data make` writes it."
        )
    rows = []
    for label in subfolders(folder):
        value = _checked(label.name, layout.truth, str(label))
        for path in sorted(p for p in label.iterdir() if p.suffix.lower() in SUFFIXES and not is_hidden(p.name)):
            check_name(path)
            rows.append(Row(f"{label.name}/{path.name}", Picture(str(path), path), (value, value)))
    if not rows:
        raise UserError(f"{folder}: holds neither metadata.csv nor folders of pictures named by label; make it again.")
    return rows


def _from_names(folder: Path, pictures: Sequence[Path], layout: Layout) -> list[Row]:
    table = folder.with_name(folder.name + ".csv")
    listed: dict[str, tuple[int, Mapping[str, str]]] = {}
    if table.is_file():
        listed = {cells["file"]: (n, cells) for n, cells in _read_csv(table, ("file", *layout.columns))}
    rows = []
    for path in pictures:
        match = layout.published.match(path.name)
        assert match is not None
        number, cells = listed.get(path.name, (0, None))
        try:
            labels = layout.labels(match, cells)
        except ValueError as error:
            where = f"{table}, line {number}" if cells else str(path)
            raise UserError(f"{where}: {error}; correct or remove it.") from None
        for label in labels:
            name = f"{path.name}/{label.suffix}" if label.suffix else path.name
            rows.append(Row(name, Picture(str(path), path), label.truths, label.fields))
    return rows


@dataclass(frozen=True)
class _ParquetRows(Lazy[Row]):
    """Rows whose pictures are in a parquet table, as encoded bytes or file paths, as `datasets` stores them.

    Attributes:
        images: The column of pictures.
        roots: Folders that pictures lie in, the table's own first; see ``picture_path``.
        rows: The rows without their pictures.
        places: Index of each row's picture in the column.
    """

    images: Any
    roots: tuple[Path, ...]
    rows: Sequence[Row]
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> Row:
        """See ``Lazy.row``."""
        row = self.rows[index]
        name = row.picture.name
        return replace(row, picture=Picture(name, Encoded(name, partial(self._bytes, index))))

    def _bytes(self, index: int) -> bytes:
        cell = self.images[self.places[index]].as_py()
        return bytes_of(cell, self.rows[index].picture.name, self.roots[0], self.roots)


def _read_parquet(path: Path, columns: Sequence[str], **options: Any) -> Any:
    trouble = f"is no parquet file with the columns {' and '.join(columns)} ({{error}})."
    table = read_columns(path, columns, trouble, **options)
    if set(table.column_names) != set(columns):
        raise UserError(f"{path}: has no columns {' and '.join(columns)}; it has {table.column_names}.")
    return table


def _images(tables: Sequence[Any], source: str) -> Any:
    import pyarrow  # type: ignore[import-untyped]

    images = pyarrow.concat_tables([t.select(["image"]) for t in tables]).column("image")
    if not (pyarrow.types.is_struct(images.type) or pyarrow.types.is_binary(images.type)):
        raise UserError(
            f"{source}: the column image holds {images.type}, no pictures; save it with `Dataset.to_parquet`."
        )
    return images


def _is_published(path: Path) -> bool:
    try:
        return set(COLUMNS) <= set(arrow_schema(path).names)
    except UserError:
        return False  # reading it raises the error again
