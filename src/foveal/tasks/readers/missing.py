"""What programs write into a table for a value that is not there."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

#: Words for it, in lower case, as pandas reads them.
_WORDS = frozenset(
    {
        "",
        "nan",
        "-nan",
        "null",
        "(null)",
        "none",
        "nil",
        "na",
        "n/a",
        "<na>",
        "#n/a",
        "#na",
        "#n/a n/a",
        "nat",
        "#value!",
    }
)


def is_missing(value: Any, names: Collection[str] = ()) -> bool:
    """Whether a cell holds nothing: None, not a number, an empty text or a word for one.

    Args:
        value: The cell.
        names: Texts that are values, whatever they look like, e.g. the names of classes.
    """
    if isinstance(value, str):
        return value.strip().lower() in _WORDS and value.strip() not in names
    return value is None or (isinstance(value, float) and math.isnan(value))
