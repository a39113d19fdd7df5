"""Reads rated pictures from SCUT-FBP5500 or from tables of pictures and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from foveal.errors import UserError
from foveal.files import check_input
from foveal.images import Picture
from foveal.tasks.comparison.scores import Fold, Rated, RatedSet, check_rows, draw_folds, exact
from foveal.tasks.comparison.scut import is_scut, read_scut
from foveal.tasks.readers.annotations import OnBad
from foveal.tasks.readers.pictures import parts_of_cell, picture_path
from foveal.tasks.readers.tables import arrow_schema, csv_rows, read_columns

#: Usual names of the columns, the preferred ones first.
IMAGE_COLUMNS = (
    "image", "img", "picture", "photo", "file_name", "filename", "file", "image_path", "path", "image_name",
)  # fmt: skip
SCORE_COLUMNS = ("score", "rating", "mean_score", "mean_rating", "beauty_score", "mos", "average", "mean", "label")
TABLES = (".csv", ".tsv", ".parquet")


def read_rated(
    source: str,
    *,
    image_column: str = "",
    score_column: str = "",
    raters: int = 0,
    picture_folder: str = "",
    on_bad: OnBad = "refuse",
) -> RatedSet:
    """Rated pictures from a folder of SCUT-FBP5500, a table, or a folder that holds one.

    A folder's table is its only .csv or .tsv file, or its parquet files.

    Args:
        source: The path.
        image_column: See ``read_table``.
        score_column: See ``read_table``.
        raters: See ``exact``; SCUT-FBP5500 has its own.
        on_bad: Whether a missing picture ends it, or can only not be opened.
        picture_folder: See ``read_table``.

    Raises:
        UserError: There is nothing of the kind, or it is malformed.
    """
    path = Path(source).expanduser()
    if not source.strip() or not path.exists():
        raise UserError(f"source: {source or 'is empty'}: there is no such folder or table; check the path.")
    check_input(path)
    if path.is_dir() and is_scut(path):
        rated = read_scut(path, on_bad=on_bad)
        check_rows(rated.rows, rated.place)
        return rated
    table = path
    if path.is_dir():
        tables = sorted(
            p for p in path.iterdir() if p.suffix.lower() in (".csv", ".tsv") and not p.name.startswith(".")
        )
        parquet = any(path.glob("*.parquet")) or any(path.glob("*/*.parquet"))
        if len(tables) + parquet != 1:
            what = f"{len(tables)} .csv or .tsv tables" if tables else "no table"
            raise UserError(
                f"source: {path}: holds {what}{' beside parquet files' if parquet and tables else ''}, and is no folder "
                "of SCUT-FBP5500; give one table."
            )
        table = tables[0] if tables else path
    elif path.suffix.lower() not in TABLES:
        raise UserError(f"source: {path}: is no table; give a {', '.join(TABLES[:-1])} or {TABLES[-1]} file.")
    roots = (path if path.is_dir() else path.parent, *([Path(picture_folder).expanduser()] if picture_folder else []))
    return read_table(
        table, image_column=image_column, score_column=score_column, raters=raters, roots=roots, on_bad=on_bad
    )


def folds_of(rated: RatedSet, chosen: Sequence[int] = (), seed: int = 42) -> tuple[Fold, ...]:
    """The folds of these numbers, or all: the source's own, or five drawn ones where it has none.

    Args:
        rated: The set.
        chosen: Numbers from 1 on.
        seed: Draws folds, see ``draw_folds``.

    Raises:
        UserError: There is no fold of a number, or there are too few pictures to draw folds.
    """
    folds = {fold.number: fold for fold in rated.folds or draw_folds(rated.rows, 5, seed)}
    for number in chosen:
        if number not in folds:
            raise UserError(f"folds: there is no fold {number}; {rated.place} has {', '.join(map(str, folds))}.")
    return tuple(folds[number] for number in dict.fromkeys(chosen or folds))


def read_table(
    path: Path,
    *,
    image_column: str = "",
    score_column: str = "",
    raters: int = 0,
    roots: Sequence[Path] = (),
    on_bad: OnBad = "refuse",
) -> RatedSet:
    """The rows of a table, or of all parquet files of a folder.

    Paths are relative to the table. Parquet pictures may be paths, bytes, or both, as `datasets` saves them.

    Args:
        path: The table, or the folder of parquet files.
        image_column: The column of the pictures; found by its name by default, see ``IMAGE_COLUMNS``.
        score_column: The column of the scores; found by its name by default, see ``SCORE_COLUMNS``.
        raters: See ``exact``.
        on_bad: See ``read_rated``.
        roots: Folders that pictures named by their path must lie in, see ``picture_path``; the table's by default.

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
        for where, image, score in _cells(file, image_column, score_column):
            name, picture = _picture(image, file, where, len(rows), roots, on_bad)
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
    usual = next((lowered[c] for c in candidates if c in lowered), None)
    if chosen or usual is None:
        wrong = f"has no column {chosen!r}" if chosen else f"has no column named like {', '.join(candidates[:3])}"
        raise UserError(f"{path}: {wrong}; name one of {', '.join(names) or 'its columns'} in {option}.")
    return usual


def _cells(path: Path, image_column: str, score_column: str) -> Iterator[tuple[str, Any, Any]]:
    """What errors call each row, the cell of its picture, and its score."""
    trouble = "cannot be read ({error}); save it with `Dataset.to_parquet`."
    parquet = path.suffix.lower() == ".parquet"
    names, rows = (arrow_schema(path, trouble).names, []) if parquet else csv_rows(path)
    image = find_column(path, names, image_column, IMAGE_COLUMNS, "image_column")
    score = find_column(path, names, score_column, SCORE_COLUMNS, "score_column")
    for number, row in rows:
        yield f"{path}, line {number}", row[image].strip(), row[score]
    if parquet:
        table = read_columns(path, [image, score], trouble)
        # NumPy keeps the shortest text of a number of 32 bits.
        scores = table.column(score)
        numbers = scores.to_pylist() if scores.null_count else scores.to_numpy()
        for number, (cell, value) in enumerate(zip(table.column(image), numbers, strict=True)):
            yield f"{path}, row {number}", cell.as_py(), value


def _picture(
    cell: Any, table: Path, where: str, number: int, roots: Sequence[Path], on_bad: OnBad
) -> tuple[str, Picture]:
    """The id and the picture of a row."""
    data, name = parts_of_cell(cell)
    if name is not None and not isinstance(name, str):
        raise UserError(
            f"{where}: the picture is {type(name).__name__}, neither a path nor bytes; choose image_column."
        )
    if data:
        return name or f"{number:05d}", Picture(where, data)
    if not name and on_bad == "skip":
        return f"{number:05d}", Picture(where, b"")
    if not name:
        raise UserError(f"{where}: there is no picture; fill it in or remove the row.")
    path = picture_path(table.parent, name, where, roots)
    return name, Picture(str(path), path)
