"""Tables of one JSON object in a line, e.g. the ``metadata.jsonl`` that `datasets` reads beside pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foveal.errors import UserError
from foveal.tasks.readers.annotations import json_in, kind, read_bytes
from foveal.tasks.readers.shards import feature_of
from foveal.tasks.readers.tables import Lines


def read_json_lines(path: Path) -> Lines:
    """The rows of a file of JSON lines; a column that a line lacks is None there.

    Raises:
        UserError: It cannot be read, or a line is no JSON object.
    """
    rows: list[tuple[str, dict[str, Any]]] = []
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        if not line.strip(b"\xef\xbb\xbf \t"):
            continue
        row = json_in(line, f"{path}, line {number}")
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: is {kind(row)}, not an object with keys; correct or remove it.")
        rows.append((f"line {number}", row))
    columns = {
        name: [row.get(name) for _, row in rows] for name in dict.fromkeys(key for _, row in rows for key in row)
    }
    features = {name: _feature(values) for name, values in columns.items()}
    return Lines(path, features, columns, [name for name, _ in rows])


def _feature(values: list[Any]) -> Any:
    """The type of a column; a text of digits is text here, for JSON has numbers."""
    filled = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in filled):
        return "string"
    return feature_of(values) if filled else "null"
