"""Finds out what a source of rated pictures is, and reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foveal.errors import UserError
from foveal.tasks.comparison.scores import Fold, RatedSet, check_rows, draw_folds
from foveal.tasks.comparison.scut import is_scut, read_scut
from foveal.tasks.comparison.tables import TABLES, read_table


def read_rated(source: str, *, image_column: str = "", score_column: str = "", raters: int = 0) -> RatedSet:
    """Rated pictures from a folder of SCUT-FBP5500, a table, or a folder that holds one.

    A folder's table is its only .csv or .tsv file, or its parquet files.

    Args:
        source: The path.
        image_column: See ``read_table``.
        score_column: See ``read_table``.
        raters: See ``exact``; SCUT-FBP5500 has its own.

    Raises:
        UserError: There is nothing of the kind, or it is malformed.
    """
    path = Path(source).expanduser()
    if not source.strip() or not path.exists():
        raise UserError(f"source: {source or 'is empty'}: there is no such folder or table; check the path.")
    if path.is_dir() and is_scut(path):
        found = read_scut(path)
        check_rows(found.rows, found.place)
        return found
    table = path
    if path.is_dir():
        tables = sorted(p for p in path.iterdir() if p.suffix in (".csv", ".tsv") and not p.name.startswith("."))
        parquet = any(path.glob("*.parquet")) or any(path.glob("*/*.parquet"))
        if len(tables) + parquet != 1:
            what = f"{len(tables)} .csv or .tsv tables" if tables else "no table"
            raise UserError(
                f"source: {path}: holds {what}{' beside parquet files' if parquet and tables else ''}, and is no folder "
                "of SCUT-FBP5500; give one table."
            )
        table = tables[0] if tables else path
    elif path.suffix not in TABLES:
        raise UserError(f"source: {path}: is no table; give a {', '.join(TABLES[:-1])} or {TABLES[-1]} file.")
    return read_table(table, image_column=image_column, score_column=score_column, raters=raters)


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
