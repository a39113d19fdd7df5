"""Pictures in the cells of tables and beside annotations, and pictures whose size is known."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from foveal.errors import ImageError
from foveal.images import Encoded, Picture, picture_size


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
        self._compare(image.size)
        return image

    def check(self, *, pixels: bool) -> None:
        """Checks that the picture can be opened and has the size, without ``pixels`` only by the header of its file.

        Raises:
            ImageError: See ``open``.
        """
        source = self.source.read() if isinstance(self.source, Encoded) and not pixels else self.source
        if not pixels and isinstance(source, str | bytes | os.PathLike):
            self._compare(picture_size(source, name=self.name, max_pixels=self.max_pixels))
        else:
            super().check(pixels=pixels)

    def _compare(self, size: tuple[int, int]) -> None:
        if size != self.size:
            raise ImageError(
                f"{self.name}: is {size[0]} x {size[1]} pixels, but its annotations are for "
                f"{self.size[0]} x {self.size[1]}; use the picture that was annotated, unturned and unscaled."
            )


def find_picture(name: str, folders: Iterable[Path]) -> Path | None:
    """The file of that name in the first of the folders that has it; None, too, for names that no file can have."""
    # Path.is_file raises where a name is too long or holds a zero byte.
    return next((folder / name for folder in folders if os.path.isfile(folder / name)), None)


def parts_of_cell(cell: Any) -> tuple[bytes | None, Any]:
    """The bytes of a picture's file and its path, as a table's cell has them; None or an empty path for what it lacks.

    Args:
        cell: A path, bytes, or both with the keys bytes and path, as `datasets` saves them.
    """
    if isinstance(cell, Mapping):
        return cell.get("bytes") or None, cell.get("path")
    return (cell or None, None) if isinstance(cell, bytes) else (None, cell)


def bytes_of(cell: Any, name: str, folder: Path, *, confined: bool) -> bytes:
    """The encoded picture of a table's cell: its bytes, or those of the file that it names.

    Args:
        cell: See ``parts_of_cell``.
        name: What messages call the row.
        folder: What paths are relative to.
        confined: See ``picture_path``.

    Raises:
        ImageError: There is no picture, or its file cannot be read.
    """
    data, path = parts_of_cell(cell)
    if data:
        return bytes(data)
    if not path:
        raise ImageError(f"{name}: has no picture; restore or remove it.")
    file = picture_path(folder, path, name, confined=confined)
    try:
        return file.read_bytes()
    except OSError as error:
        what = f"its picture {file} cannot be read ({error.strerror})"
        raise ImageError(f"{name}: {what}; restore or remove it.") from None


def picture_path(folder: Path, path: str | None, name: str, *, confined: bool) -> Path:
    """The file that a cell of a table names.

    Args:
        folder: What paths are relative to.
        path: The cell; None where the row has none, as a key of an archive that lacks the file.
        name: What messages call the row.
        confined: Whether the file must lie in the folder, as that of a table from elsewhere must.

    Raises:
        ImageError: The cell is empty, or names a file elsewhere.
    """
    if not path or not path.strip() or "\0" in path:
        raise ImageError(f"{name}: has no picture; restore or remove it.")
    if confined and (Path(path).is_absolute() or ".." in Path(path).parts):
        raise ImageError(
            f"{name}: its picture {path!r} lies outside the data set, where none is opened; remove the row."
        )
    return folder / path
