"""What the readers of annotated pictures share: JSON with sentences instead of tracebacks, and pictures of a known size."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from foveal.errors import ImageError, UserError
from foveal.images import Picture, check_header

#: What is done at an object or picture that cannot be used: stop with a sentence, or leave it out and report it.
OnBad = Literal["refuse", "skip"]
_ORIENTATION = 0x0112
#: EXIF orientations that lay a picture on its side.
_TURNED = (5, 6, 7, 8)


@dataclass(frozen=True)
class SizedPicture(Picture):
    """A picture whose annotations say how large it is; that is checked when it is opened.

    Attributes:
        size: Width and height in pixels.
    """

    size: tuple[int, int] = (0, 0)

    def open(self) -> Image.Image:
        """The picture, upright and in RGB.

        Raises:
            ImageError: See ``decode``; or its size is not the annotated one.
        """
        image = super().open()
        if image.size != self.size:
            raise ImageError(
                f"{self.name}: is {image.width} x {image.height} pixels, but its annotations are for "
                f"{self.size[0]} x {self.size[1]}; use the picture that was annotated, unturned and unscaled."
            )
        return image


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as ``decode`` returns it, from its header alone.

    Raises:
        ImageError: The file is missing, no picture, of zero size or too large.
    """
    check_header(path)
    with Image.open(path) as image:
        width, height = image.size
        turned = False
        with suppress(Exception):  # what ``upright_rgb`` ignores, too: EXIF data that cannot be read
            turned = image.getexif().get(_ORIENTATION) in _TURNED
    return (height, width) if turned else (width, height)


def is_file(path: Path) -> bool:
    """Whether there is such a file; no, too, for names that no file can have."""
    return os.path.isfile(path)


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        UserError: The file is missing, unreadable or malformed, or holds something else.
    """
    found = json_in(read_bytes(path), str(path))
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds {kind(found)} where an object with keys is needed; get the file again.")
    return found


def read_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        UserError: The file is missing or unreadable.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions.") from None
    except ValueError as error:
        raise UserError(f"{str(path)!r}: cannot be a path ({error}); check the path.") from None


def json_in(text: str | bytes, name: str, *, fallback: str = "") -> Any:
    """The value that JSON text holds.

    Args:
        text: Bytes are UTF-8, with or without a mark at their start.
        name: What errors call it.
        fallback: An encoding for bytes that are no UTF-8; there is none by default.

    Raises:
        UserError: It is no JSON.
    """
    try:
        return json.loads(_decoded(text, fallback) if isinstance(text, bytes) else text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: is no JSON ({error}); get the file again.") from None


def _decoded(text: bytes, fallback: str) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        if not fallback:
            raise
        return text.decode(fallback)


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {bool: "true or false", str: "text", list: "a list", dict: "an object", type(None): "nothing"}
    return names.get(type(value), "a number")


def records(content: Mapping[str, Any], key: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The objects in the list ``content[key]``, each with what errors call it.

    Raises:
        UserError: The key is missing, or holds anything else.
    """
    found = content.get(key)
    if not isinstance(found, list):
        what = f"is {kind(found)}, not a list" if key in content else "is missing"
        raise UserError(f"{path}: {key!r} {what}; give a COCO detection file (images, annotations, categories).")
    for number, record in enumerate(found):
        if not isinstance(record, dict):
            raise UserError(f"{path}, {key}[{number}]: is {kind(record)}, not an object; correct or remove it.")
    return [(f"{path}, {key}[{number}]", record) for number, record in enumerate(found)]


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
        said = value if isinstance(value, int | float) and not isinstance(value, bool) else kind(value)
        raise UserError(f"{where}: {key} is {said}, not a number of pixels; correct it.")
    return int(value)


def numbers(value: Any, length: int) -> tuple[float, ...] | None:
    """The list's finite numbers, or None where it is no list of ``length`` such."""
    if not isinstance(value, list) or len(value) != length:
        return None
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in value):
        return None
    try:
        found = tuple(float(v) for v in value)
    except OverflowError:
        return None
    return found if all(map(math.isfinite, found)) else None


def rank(seed: int, name: str) -> bytes:
    """A sorting key for names: random, but the same on every machine and whatever other names there are."""
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
