"""Reads a puzzle's pictures with their labels from disk or the Hub, in any of their layouts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foveal.errors import ImageError, UserError
from foveal.examples import SPLITS, Split
from foveal.images import SUFFIXES, Picture
from foveal.tasks.blindtest.wording import COLUMNS, Which, match_question, read_loosely
from foveal.tasks.lazy import Lazy
from foveal.tasks.readers.pictures import parts_of_cell
from foveal.tasks.readers.splits import SPLIT_NAMES, split_files, split_folders
from foveal.tasks.readers.tables import arrow_schema, class_names, csv_rows, features_of, read_columns


@dataclass(frozen=True)
class Row:
    """A picture with its answers.

    Attributes:
        id: Names it within its split.
        picture: The picture, decoded when opened.
        truths: The right values of the two questions.
        fields: What the questions name; ``text`` is a question of the row's own.
        which: The only question that the row is for, or None.
    """

    id: str
    picture: Picture
    truths: tuple[Any, Any]
    fields: Mapping[str, str] = field(default_factory=dict)
    which: Which | None = None


@dataclass(frozen=True)
class Label:
    """What a published picture's name, or its line in a table, says.

    Attributes:
        truths: The right values of the two questions.
        fields: What the questions name.
        suffix: Tells rows of one picture apart.
    """

    truths: tuple[Any, Any]
    fields: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True)
class Layout:
    """How a puzzle's pictures are named and labelled on disk and on the Hub.

    Attributes:
        truth: Checks a label's text and gives its value; raises ValueError with what is wrong with it.
        published: Matches published pictures' names.
        labels: From that match, and the picture's line in the table beside the folder (None without such a table),
            the picture's labels; raises ValueError with what is wrong with it, or that the table is needed.
        columns: The columns that ``labels`` needs in that table.
        fields: Columns of ``metadata.csv`` that the questions name.
        two_truths: Whether the questions have different answers; then ``metadata.csv`` has a column label_second.
        hub_tasks: What the puzzle is called in the column ``task`` of XAI/vlmsareblind.
        hub_truth: As ``truth``, for that data set's column ``groundtruth``; None reads its spellings by ``truth``, see
            ``read_loosely``.
    """

    truth: Callable[[str], Any]
    published: re.Pattern[str]
    labels: Callable[[re.Match[str], Mapping[str, str] | None], Sequence[Label]]
    columns: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    two_truths: bool = False
    hub_tasks: tuple[str, ...] = ()
    hub_truth: Callable[[str], Any] | None = None


def agreed(named: str, cells: Mapping[str, str] | None, column: str, truth: Callable[[str], Any]) -> Any:
    """The truth that a picture's name tells, which its line in a table must not contradict.

    Raises:
        ValueError: It does, or is none.
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
) -> tuple[Sequence[Row], str]:
    """The rows of a split on disk or on the Hub, and where they came from.

    Layouts, in the order in which they are looked for:

    * a ``.parquet`` file or a folder of them with the columns of XAI/vlmsareblind; it serves as the test split, and each
      row brings its own question;
    * a ``.parquet`` file or a folder of them as `datasets` saves it, with the columns image and label;
    * ``SPLIT/metadata.csv`` with file_name and label, as ``foveal data make`` writes it;
    * ``SPLIT/LABEL/*.png``;
    * a flat folder of the published pictures, which serves as the test split. Their labels are in their names, or in a
      CSV file that has the name of the folder and lies beside it. Where both tell a label they must agree.

    Args:
        source: A path; or, where there is nothing of that path, OWNER/NAME of a data set on the Hub.
        split: The split.
        layout: The puzzle's.
        questions: The puzzle's two published questions, with which rows' own are compared.
        only: Leaves out rows that bring the other question.

    Raises:
        UserError: There is no such source or split, or a row is malformed.
    """
    path, origin = locate(source)
    remote = origin != str(path)
    if path.is_file() and path.suffix == ".parquet":
        own = SPLIT_NAMES.get(re.split("[-_.]", path.stem)[0], "test")
        published = _is_published(path)
        if split != ("test" if published else own):
            raise UserError(
                f"data.source: {path}: serves as the {'test' if published else own} split; give a folder that has a "
                f"{split} split too."
            )
        if published:
            return _from_published([path], layout, questions, only, origin), origin
        return _from_parquet([path], layout, origin), origin
    if not path.is_dir():
        raise UserError(
            f"data.source: {path}: there is no such folder, .parquet file or data set on the Hub (OWNER/NAME); "
            "check the path."
        )
    published_tables = [t for t in sorted({*path.glob("*.parquet"), *path.glob("*/*.parquet")}) if _is_published(t)]
    if published_tables and split == "test":
        return _from_published(published_tables, layout, questions, only, origin), origin

    folders = split_folders(path, path / "data")

    def find(split: Split) -> tuple[list[Path], Path | None]:
        tables = [t for t in split_files(path, split, ".parquet") if t not in published_tables]
        return tables, next(iter(folders.get(split, ())), None)

    tables, folder = find(split)
    if tables:
        return _from_parquet(tables, layout, origin), origin
    if folder is not None:
        has_table = (folder / "metadata.csv").is_file()
        rows = (_from_metadata if has_table else _from_label_folders)(folder, layout)
        return rows, origin if remote else str(folder)
    there = [s for s in SPLITS if any(find(s))]
    if there:
        raise UserError(
            f"data.source: {origin if remote else path / split}: there is no {split} split, only {', '.join(there)}; "
            + ("give a data set that has one." if remote else "make it with `foveal data make`.")
        )
    flat = sorted(p for p in path.iterdir() if layout.published.match(p.name))
    if not flat and not published_tables:
        raise UserError(
            f"data.source: {origin}: holds neither a folder or .parquet file named {split} nor published pictures; "
            "check the path, or give `generate`."
        )
    if split != "test":
        raise UserError(
            f"data.source: {origin}: published pictures serve as the test split, there is no {split} split; "
            "use a folder that `foveal data make` wrote, or give `generate`."
        )
    return _from_names(path, flat, layout), origin


def locate(source: str) -> tuple[Path, str]:
    """The folder or file of a source, fetched from the Hub where it is no path, and what to call it.

    Raises:
        UserError: It is on the Hub only, and cannot be had from there.
    """
    path = Path(source).expanduser()
    if not path.exists():
        from foveal.tasks.blindtest import hub

        if hub.is_source(source):
            folder = hub.fetch(source)
            return folder, f"{source} (Hub, commit {folder.name[:7]})"
    return path, str(path)


def _checked(text: str, truth: Callable[[str], Any], where: str) -> Any:
    try:
        return truth(text)
    except ValueError as error:
        raise UserError(f"{where}: {error}; correct or remove it.") from None


def _columns(layout: Layout) -> tuple[str, ...]:
    """The columns of a saved split that hold labels and fields."""
    return ("label", *(("label_second",) if layout.two_truths else ()), *layout.fields)


def _row(name: str, picture: Picture, cells: Mapping[str, Any], layout: Layout, where: str) -> Row:
    """A row from the cells of a table that has the columns of a saved split."""
    first = _checked(str(cells["label"]), layout.truth, where)
    second = _checked(str(cells["label_second"]), layout.truth, where) if layout.two_truths else first
    return Row(name, picture, (first, second), {key: str(cells[key]) for key in layout.fields})


def _from_metadata(folder: Path, layout: Layout) -> list[Row]:
    table = folder / "metadata.csv"
    rows = []
    for number, cells in _read_csv(table, ("file_name", *_columns(layout))):
        where = f"{table}, line {number}"
        path = folder / cells["file_name"]
        if not path.is_file():
            raise UserError(f"{where}: there is no picture {path}; restore it or remove the line.")
        rows.append(_row(cells["file_name"], Picture(str(path), path), cells, layout, where))
    return rows


def _read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Rows with their line numbers, checked to have the columns."""
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
    for label in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        value = _checked(label.name, layout.truth, str(label))
        for path in sorted(p for p in label.iterdir() if p.suffix.lower() in SUFFIXES):
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
    """Rows whose pictures are in a parquet table, as encoded bytes or paths of files, as `datasets` has them.

    Attributes:
        images: The column of pictures.
        rows: The rows without their pictures.
        places: Where each row's picture is in the column.
    """

    images: Any
    rows: Sequence[Row]
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> Row:
        """See ``Lazy.row``."""
        row = self.rows[index]
        data, path = parts_of_cell(self.images[self.places[index]].as_py())
        source = data or path
        if not source:
            raise ImageError(f"{row.picture.name}: has no picture; restore or remove it.")
        return replace(row, picture=Picture(row.picture.name, source))


def _read_parquet(path: Path, columns: Sequence[str], **options: Any) -> Any:
    trouble = f"is no parquet file with the columns {' and '.join(columns)} ({{error}})."
    table = read_columns(path, columns, trouble, **options)
    if set(table.column_names) != set(columns):
        raise UserError(f"{path}: has no columns {' and '.join(columns)}; it has {table.column_names}.")
    return table


def _images(tables: Sequence[Any], source: str) -> Any:
    """The tables' pictures as one column."""
    import pyarrow  # type: ignore[import-untyped]

    images = pyarrow.concat_tables([t.select(["image"]) for t in tables]).column("image")
    if not (pyarrow.types.is_struct(images.type) or pyarrow.types.is_binary(images.type)):
        raise UserError(
            f"{source}: the column image holds {images.type}, no pictures; save it with `Dataset.to_parquet`."
        )
    return images


def _from_parquet(paths: Sequence[Path], layout: Layout, source: str) -> _ParquetRows:
    needed = ("image", *_columns(layout))
    tables = [_read_parquet(path, needed) for path in paths]
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
    return _ParquetRows(images, rows, range(len(rows)))


# ------------------------------------------------------------------------------------------------ XAI/vlmsareblind


def _is_published(path: Path) -> bool:
    """Whether a parquet file has the columns of XAI/vlmsareblind."""
    try:
        return set(COLUMNS) <= set(arrow_schema(path).names)
    except UserError:
        return False  # what is wrong with it is said when it is read


def _from_published(
    paths: Sequence[Path],
    layout: Layout,
    questions: Sequence[str],
    only: Which | None,
    source: str,
) -> _ParquetRows:
    """A puzzle's rows of XAI/vlmsareblind, each with the question that it asks."""
    if not layout.hub_tasks:
        raise UserError(f"data.source: {source}: has no pictures of this puzzle; give another source.")
    read = layout.hub_truth or (lambda text: read_loosely(text, layout.truth))
    rows: list[Row] = []
    places: list[int] = []
    tables, number, place = [], 0, 0
    for path in paths:
        for cells in _read_parquet(path, ("task", "prompt", "groundtruth")).to_pylist():
            if cells["task"] in layout.hub_tasks:
                prompt = str(cells["prompt"] or "").strip()
                which, values = match_question(prompt, questions)
                if only is None or which in (None, only):
                    where = f"{source}, row {number}"
                    if not prompt:
                        raise UserError(f"{where}: prompt is empty; fill it in or remove the row.")
                    truth = _checked(str(cells["groundtruth"] or ""), read, where)
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
            f"data.source: {source}: has no row of {' or '.join(layout.hub_tasks)}{asked}; give another source"
            + (", or set data.question to both." if only else ".")
        )
    return _ParquetRows(_images(tables, source), rows, places)
