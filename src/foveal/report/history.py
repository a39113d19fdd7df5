"""Reading columns out of a run's ``metrics.csv``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

History = Sequence[Mapping[str, float | str]]


def column(history: History, name: str) -> list[tuple[float, float]]:
    """(epoch, value) of the rows that have the column, by epoch; text counts as not a number.

    Rows without an epoch are numbered from 1.
    """
    points = [(_float(row.get("epoch", n)), _float(row[name])) for n, row in enumerate(history, 1) if name in row]
    return sorted((point for point in points if math.isfinite(point[0])), key=lambda point: point[0])


def headline_column(history: History, headline: str | None) -> str | None:
    """The column that holds the headline metric of the validation rows, or None where no row has one.

    The headline may come with or without its ``val_``; without one it is the first validation column that is no loss.
    """
    names = list(dict.fromkeys(name for row in history for name in row))
    if headline is not None:
        wanted = f"val_{headline.removeprefix('val_')}"
        return wanted if wanted in names else None
    return next((n for n in names if n.startswith("val_") and not n.endswith("loss")), None)


def _float(value: float | str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan
