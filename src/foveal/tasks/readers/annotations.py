"""Annotations in JSON, among them COCO's, read with checks, and the records that cannot be used."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from foveal.errors import UserError
from foveal.files import check_input, check_text

#: What happens at an object or picture that cannot be used: an error, or it is left out and reported.
OnBad = Literal["refuse", "skip"]
Id = int | str
_NO_JSON = "is no JSON ({error}); get the file again."


class Refusals:
    """Records that cannot be used: they stop the reading, or are left out and noted.

    Args:
        on_bad: Which of the two.

    Attributes:
        rows: (where, reason) of all that was left out.
    """

    def __init__(self, on_bad: OnBad) -> None:
        self.on_bad = on_bad
        self.rows: list[tuple[str, str]] = []

    def add(self, where: str, reason: str, sentence: str = "") -> None:
        """Notes a record that cannot be used.

        Args:
            where: The object or file.
            reason: The end of a sentence with a remedy.
            sentence: The text of the error; where and reason by default.

        Raises:
            UserError: ``on_bad`` is refuse.
        """
        if self.on_bad == "refuse":
            raise UserError(sentence or f"{where}: {reason}")
        self.rows.append((where, reason))

    def add_error(self, where: str, error: UserError) -> None:
        """Notes a record whose reading raised an error.

        Raises:
            UserError: The error itself, where ``on_bad`` is refuse.
        """
        if self.on_bad == "refuse":
            raise error
        self.rows.append((where, str(error).removeprefix(f"{where}: ")))


@dataclass(frozen=True)
class CocoImage:
    """A picture of a COCO file.

    Attributes:
        file_name: As the file has it.
        size: Width and height in pixels.
        where: What errors call the record.
    """

    file_name: str
    size: tuple[int, int]
    where: str


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        UserError: The file is missing, unreadable or malformed, or holds something else.
    """
    content = json_in(read_bytes(path), str(path))
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds {kind(content)} where an object with keys is needed; get the file again.")
    return content


def read_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        UserError: The file is missing or unreadable.
    """
    check_input(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions.") from None
    except ValueError as error:
        raise UserError(f"{str(path)!r}: cannot be a path ({error}); check the path.") from None


def json_in(text: str | bytes, name: str, *, fallback: str = "", trouble: str = _NO_JSON) -> Any:
    """The value that JSON text holds.

    Args:
        text: Bytes are UTF-8, with or without a mark at their start.
        name: What errors call it.
        fallback: An encoding for bytes that are no UTF-8; there is none by default.
        trouble: What the error says behind the name, with a place for the {error}.

    Raises:
        UserError: It is no JSON, is nested too deeply, or a text has half a character.
    """
    try:
        if isinstance(text, bytes):
            encoded = text
            try:
                text = encoded.decode("utf-8-sig")
            except UnicodeDecodeError:
                if not fallback:
                    raise
                text = encoded.decode(fallback)
        value = json.loads(text)
    except RecursionError:
        raise UserError(f"{name}: {trouble.format(error='it is nested too deeply')}") from None
    except ValueError as error:
        raise UserError(f"{name}: {trouble.format(error=error)}") from None
    if "\\u" in text:  # the only way that half a character gets into a text
        check_text(value, name)
    return value


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {bool: "true or false", str: "text", list: "a list", dict: "an object", type(None): "nothing"}
    return names.get(type(value), "a number")


def records(content: Mapping[str, Any], key: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The objects in the list ``content[key]``, each with what errors call it.

    Raises:
        UserError: The key is missing, or holds anything else.
    """
    rows = content.get(key)
    if not isinstance(rows, list):
        what = f"is {kind(rows)}, not a list" if key in content else "is missing"
        raise UserError(f"{path}: {key!r} {what}; give a COCO detection file (images, annotations, categories).")
    for number, record in enumerate(rows):
        if not isinstance(record, dict):
            raise UserError(f"{path}, {key}[{number}]: is {kind(record)}, not an object; correct or remove it.")
    return [(f"{path}, {key}[{number}]", record) for number, record in enumerate(rows)]


def coco_images(content: Mapping[str, Any], path: Path) -> dict[Id, CocoImage]:
    """The pictures of a COCO file by their ids, in its order.

    Raises:
        UserError: A record is malformed, or two have one id.
    """
    images: dict[Id, CocoImage] = {}
    for where, record in records(content, "images", path):
        key, name = id_in(record, "id", where), text_in(record, "file_name", where)
        if key in images:
            raise UserError(
                f"{where}: the id {key!r} is that of {images[key].file_name}, too; give each picture its own."
            )
        images[key] = CocoImage(name, (side_in(record, "width", where), side_in(record, "height", where)), where)
    return images


def coco_categories(content: Mapping[str, Any], path: Path) -> dict[Id, str]:
    """The names of the categories of a COCO file by their ids, in its order.

    Raises:
        UserError: A record is malformed, or two of other names have one id.
    """
    names: dict[Id, str] = {}
    for where, record in records(content, "categories", path):
        key, name = id_in(record, "id", where), text_in(record, "name", where)
        if names.setdefault(key, name) != name:
            raise UserError(f"{where}: the id {key!r} is that of {names[key]!r}, too; give each category its own.")
    return names


def id_in(record: Mapping[str, Any], key: str, where: str) -> int | str:
    """The id under ``key``: a whole number or text.

    Raises:
        UserError: It is missing, or neither.
    """
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UserError(f"{where}: {key} is {kind(value)}, not a number or name; correct it.")
    return value


def text_in(record: Mapping[str, Any], key: str, where: str) -> str:
    """The text under ``key``, without blanks around it.

    Raises:
        UserError: It is missing, empty or no text.
    """
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: {key} is {'empty' if value == '' else kind(value)}, not text; correct it.")
    return value.strip()


def side_in(record: Mapping[str, Any], key: str, where: str) -> int:
    """A picture's width or height under ``key``, in pixels.

    Raises:
        UserError: It is missing, no whole number, or not positive.
    """
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value >= 1 and value % 1 == 0):
        what = value if isinstance(value, int | float) and not isinstance(value, bool) else kind(value)
        raise UserError(f"{where}: {key} is {what}, not a number of pixels; correct it.")
    return int(value)


def are_shares(values: Iterable[float]) -> bool:
    """Whether coordinates lie within 0 and 1 and are not all whole: shares of a picture's sides, not pixels."""
    given = list(values)
    return bool(given) and all(0 <= v <= 1 for v in given) and not all(float(v).is_integer() for v in given)


def check_pixels(values: Iterable[float], where: str) -> None:
    """Refuses coordinates that are shares of the picture's sides.

    Raises:
        UserError: See ``are_shares``.
    """
    if are_shares(values):
        raise UserError(
            f"{where}: all points lie within 0 and 1, as shares of the picture's sides, where pixels are needed; multiply "
            "them by the picture's width and height."
        )


def reaches_beyond(xs: Iterable[float], ys: Iterable[float], size: tuple[int, int]) -> bool:
    """Whether coordinates leave a picture by more than a slip of the pen: two pixels and a twentieth of the side."""
    return any(
        min(along) < -max(2.0, 0.05 * side) or max(along) > side + max(2.0, 0.05 * side)
        for along, side in zip((list(xs), list(ys)), size, strict=True)
    )


def beyond_note(where: str, what: str, found: int, total: int) -> tuple[str, ...]:
    """A sentence about outlines of which ``reaches_beyond`` holds; none where there are none."""
    if not found:
        return ()
    return (
        f"{where}: {found:,} of {total:,} {what} reach more than a twentieth of the side beyond their pictures and are cut "
        "there; check that they are of these pictures at this size.",
    )


def numbers(value: Any, length: int) -> tuple[float, ...] | None:
    """The numbers of a list; None where it is not a list of ``length`` finite numbers."""
    if not isinstance(value, list) or len(value) != length:
        return None
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in value):
        return None
    try:
        finite = tuple(float(v) for v in value)
    except OverflowError:
        return None
    return finite if all(map(math.isfinite, finite)) else None
