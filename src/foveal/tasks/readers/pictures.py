"""Pictures in the cells of tables and beside annotations, and pictures whose size is known."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from foveal.errors import ImageError, UserError
from foveal.files import special
from foveal.images import Encoded, Picture, picture_size

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)


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
    """The file of that name in the first of the folders that has it; None, too, for names that no file can have.

    Raises:
        ImageError: The name leads out of the folders.
    """
    folders = list(folders)
    for folder in folders:
        file = folder / name
        # Path.is_file raises where a name is too long or holds a zero byte.
        if os.path.isfile(file):
            if not _lies_in(file, folders):
                raise ImageError(
                    f"{name!r}: leads out of {folders[0]}, and no picture elsewhere is opened; give the folder that "
                    "the pictures lie in."
                )
            return file
    return None


def _lies_in(file: Path, roots: Iterable[Path]) -> bool:
    """Whether a file's path lies in one of the folders; links are not followed."""
    path = Path(os.path.abspath(file))
    return any(path.is_relative_to(os.path.abspath(root)) for root in roots)


def parts_of_cell(cell: Any) -> tuple[bytes | None, Any]:
    """The bytes of a picture's file and its path, as a table's cell has them; None or an empty path for what it lacks.

    Args:
        cell: A path, bytes, or both with the keys bytes and path, as `datasets` saves them.
    """
    if isinstance(cell, Mapping):
        return cell.get("bytes") or None, cell.get("path")
    return (cell or None, None) if isinstance(cell, bytes) else (None, cell)


def bytes_of(cell: Any, name: str, folder: Path, roots: Sequence[Path] = ()) -> bytes:
    """The encoded picture of a table's cell: its bytes, or those of the file that it names.

    Args:
        cell: See ``parts_of_cell``.
        name: What messages call the row.
        folder: What paths are relative to.
        roots: See ``picture_path``.

    Raises:
        ImageError: There is no picture, or its file cannot be read.
    """
    data, path = parts_of_cell(cell)
    if data:
        return bytes(data)
    if not path:
        raise ImageError(f"{name}: has no picture; restore or remove it.")
    file = picture_path(folder, path, name, roots)
    if what := special(file):
        raise ImageError(f"{name}: its picture {file} is {what}; restore or remove it.")
    try:
        return file.read_bytes()
    except OSError as error:
        what = f"its picture {file} cannot be read ({error.strerror})"
        raise ImageError(f"{name}: {what}; restore or remove it.") from None


def picture_path(folder: Path, path: str | None, name: str, roots: Sequence[Path] = ()) -> Path:
    """The file that a cell of a table names.

    A table from elsewhere could name any file of this machine, and a report would show it; therefore none is opened
    that lies outside the data set, unless its folder was named by the user.

    Args:
        folder: What paths are relative to.
        path: The cell; None where the row has none, as a key of an archive that lacks the file. The backslashes of
            Windows may stand between folders.
        name: What messages call the row.
        roots: Folders that the file must lie in one of, the data set's own first, and in which a relative path is
            looked for that is not in ``folder``; by default ``folder``. Links are not followed.

    Raises:
        ImageError: The cell is empty, or names a file elsewhere.
        UserError: The cell is an address.
    """
    if not path or not path.strip() or "\0" in path:
        raise ImageError(f"{name}: has no picture; restore or remove it.")
    if _ADDRESS.match(path):
        raise UserError(f"{name}: {path} is an address, and none is fetched; save the pictures and give paths.")
    roots = roots or (folder,)
    places = [folder, *roots[1:]]
    names = [path, path.replace("\\", "/")] if "\\" in path else [path]
    files = [Path(os.path.normpath(place / name)) for name in names for place in places]
    file = next((f for f in files if os.path.lexists(f)), files[-len(places)]) if len(files) > 1 else files[0]
    if not _lies_in(file, roots):
        raise ImageError(
            f"{name}: its picture {path!r} lies outside {roots[0]}, where none is opened; move it there, or, if you "
            "trust the table, give its folder as data.picture_folder."
        )
    return file
