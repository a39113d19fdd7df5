"""WebDataset: tar archives in which files of one key, ``0001.jpg`` and ``0001.cls``, make a row. Nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from foveal.errors import ImageError, UserError
from foveal.files import check_input
from foveal.images import SUFFIXES, Encoded
from foveal.tasks.readers.annotations import json_in
from foveal.tasks.readers.tables import Lines

#: The largest label or description that is read.
_LARGEST = 1 << 20
_TEXTS = ("cls", "txt", "text", "label", "caption")


def read_tar(path: Path) -> Lines:
    """The rows of an archive; labels are read at once, pictures when they are opened.

    A row's columns are the endings of its files, as `datasets` names them, and the values of its JSON file as
    ``json.NAME``.

    Raises:
        UserError: It is no tar archive, is packed or truncated, or a label cannot be read.
    """
    check_input(path)
    facts = path.stat()
    return _index(path, (facts.st_mtime_ns, facts.st_size))


@lru_cache(maxsize=64)
def _index(path: Path, stamp: tuple[int, int]) -> Lines:
    rows: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                stem, dot, ending = name.partition(".")
                if not member.isreg() or not dot or not stem:
                    continue  # folders, links and hidden files
                if member.issparse() or member.offset_data + member.size > stamp[1]:
                    raise tarfile.ReadError(f"{member.name} is cut off")
                key = f"{folder}/{stem}".lstrip("/")
                row = rows.setdefault(key, {})
                row |= _cells(path, member, ending.lower(), key)
    except (tarfile.TarError, OSError, EOFError) as error:
        packed = path.read_bytes()[:2] == b"\x1f\x8b" if path.is_file() and stamp[1] < _LARGEST else False
        what = "unpack it with gunzip" if packed else "fetch it again, or pack it again without compression"
        raise UserError(f"{path}: cannot be read as a tar archive ({error}); {what}.") from None
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    features: dict[str, Any] = {
        column: feature_of([row[column] for row in rows.values() if column in row]) for column in columns
    }
    values = {column: [row.get(column) for row in rows.values()] for column in columns}
    features["__key__"] = "string"
    return Lines(path, features, {**values, "__key__": list(rows)}, [f"key {key}" for key in rows])


def _cells(path: Path, member: tarfile.TarInfo, ending: str, key: str) -> Mapping[str, Any]:
    """The columns that a file of the archive fills."""
    name = f"{path}, key {key}"
    read = partial(_read, path, member.offset_data, member.size, name)
    if f".{ending.rpartition('.')[2]}" in SUFFIXES:
        return {ending: Encoded(name, read)}
    if ending not in (*_TEXTS, "json"):
        return {}
    if member.size > _LARGEST:
        raise UserError(f"{name}: {member.name} is too large for a label ({member.size:,} bytes); remove it.")
    try:
        text = read().decode("utf-8").strip()
        if ending != "json":
            return {ending: text}
        values = json_in(text, name, trouble=f"{member.name} cannot be read ({{error}}); correct or remove it.")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: {member.name} cannot be read ({error}); correct or remove it.") from None
    return {f"json.{k}": v for k, v in values.items()} if isinstance(values, dict) else {"json": values}


def feature_of(values: list[Any]) -> Any:
    """The type of a column as `datasets` would describe it."""
    filled = [value for value in values if value is not None]
    if filled and all(isinstance(value, Encoded) for value in filled):
        return {"_type": "Image"}
    if any(isinstance(value, list) for value in filled):
        return {"_type": "List"}
    if any(isinstance(value, dict) for value in filled):
        return {}
    if filled and all(isinstance(value, bool) for value in filled):
        return "bool"
    try:
        if not any(isinstance(value, float) for value in filled):
            return (
                "int64" if filled and all(str(int(value)) == str(value).lstrip("+") for value in filled) else "string"
            )
    except ValueError:
        return "string"
    return "float64"


def _read(path: Path, offset: int, size: int, name: str) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror}); check the archive.") from None
    if len(data) != size:
        raise ImageError(f"{name}: is cut off; fetch the archive again.")
    return data
