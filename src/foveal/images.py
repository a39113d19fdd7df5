"""Pictures: safe decoding with a pixel limit, and references that are decoded when they are opened.

Coordinate frame of the whole project: pixels of the decoded picture after its EXIF orientation was applied, x to the
right, y downwards, the origin at the outer corner of the top left pixel.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from foveal.errors import ImageError, UserError
from foveal.files import special

#: A file or the bytes of one.
Source = str | os.PathLike[str] | bytes
#: Pictures with more pixels than this are refused unless the caller allows more (a decompression bomb is one).
MAX_PIXELS = 64_000_000
#: One side may be so many times the other. Models scale the shorter side up or lay the picture in a square: of a line
#: of pixels they would make a picture that fills the memory.
MAX_RATIO = 200
#: Key in ``info`` of a picture that was decoded from 16 bits: its largest value there, of 65,535.
LARGEST_OF_16 = "largest of 16 bits"
_ORIENTATION = 0x0112
#: EXIF orientations that lay a picture on its side.
_TURNED = (5, 6, 7, 8)
#: Endings of picture files.
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".jfif", ".jpe", ".jif", ".jfi", ".pjpeg", ".pjp", ".apng", ".dib", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
#: Files and folders that systems and programs add, in lower case; what begins with a dot is hidden in any case.
_SYSTEM = frozenset(
    {
        "@eadir", "@__thumb", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "__macosx", "__pycache__",
        "$recycle.bin", "recycler", "system volume information", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini",
        "icon\r",
    }
)  # fmt: skip
#: Formats that are opened, whatever a file is called. Pillow knows more, among them one that starts Ghostscript.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "TIFF")
#: The errors that Pillow raises at damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, struct.error, EOFError, IndexError, KeyError, OverflowError)


def decode(source: Source, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens a picture completely, upright and in RGB.

    Transparent pixels are laid on white.

    Args:
        source: A file or the bytes of one.
        name: How an error calls the picture; the path by default.
        max_pixels: Largest width times height that is decoded; the header is checked before any pixel is.

    Raises:
        ImageError: The file is missing, no picture, truncated, of zero size, larger than ``max_pixels`` or has
            32-bit pixels, or is no more than a line (see ``MAX_RATIO``).
    """
    name = _name(source, name)
    with _opened(source, name, max_pixels) as image:
        deep = any("16" in str(tile[3]) for tile in image.tile)
        image.load()
    upright = upright_rgb(image, name=name)
    if deep and LARGEST_OF_16 not in upright.info:  # colours: Pillow has cut off their lower bytes
        upright.info[LARGEST_OF_16] = max(int(high) for _, high in upright.getextrema()) * 257  # type: ignore[misc]
    return upright


def check_header(source: Source, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> None:
    """Checks a picture without decoding its pixels; takes what ``decode`` takes.

    Raises:
        ImageError: The file is missing, no picture, of zero size, larger than ``max_pixels`` or no more than a line.
    """
    with _opened(source, _name(source, name), max_pixels):
        pass


def check_exists(path: str | os.PathLike[str]) -> None:
    """Refuses a picture or folder that is not there.

    Raises:
        ImageError: There is none.
    """
    if not os.path.lexists(path):
        raise ImageError(f"{os.fspath(path)}: there is no such picture; check the path.")


def picture_size(source: Source, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of a picture as ``decode`` returns it, from its header alone.

    Raises:
        ImageError: See ``check_header``.
    """
    with _opened(source, _name(source, name), max_pixels) as image:
        width, height = image.size
        turned = False
        with suppress(Exception):  # what ``upright_rgb`` ignores, too: EXIF data that cannot be read
            turned = image.getexif().get(_ORIENTATION) in _TURNED
    return (height, width) if turned else (width, height)


def _name(source: Source, name: str | None) -> str:
    return name or (f"<{len(source)} bytes>" if isinstance(source, bytes) else os.fspath(source))


@contextmanager
def _opened(source: Source, name: str, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """The picture with its header checked; errors of Pillow inside the block become an ``ImageError``."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow's own limit for all threads, which only ever grows
    if not isinstance(source, bytes) and (what := special(source)):
        raise ImageError(f"{name}: is {what}, no picture; replace or remove it.")
    try:
        stream = io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")  # noqa: SIM115
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such picture; check the path.") from None
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror}); check the path and its permissions.") from None
    except ValueError as error:
        raise ImageError(f"{name!r}: cannot be a path ({error}); check the path.") from None
    with stream, _damage_told(name, max_pixels):
        if not stream.read(1):
            raise ImageError(f"{name}: the file is empty; replace or remove it.")
        image = Image.open(stream, formats=FORMATS)
        _check_size(image, name, max_pixels)
        yield image


def _too_large(max_pixels: int) -> str:
    return f"are more than the limit of {max_pixels:,}; shrink the picture or raise model.max_pixels."


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"{name}: the picture has no pixels ({width} x {height}); replace or remove it.")
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width} x {height} pixels {_too_large(max_pixels)}")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ImageError(
            f"{name}: {width:,} x {height:,} pixels are too narrow for a model, one side is more than {MAX_RATIO} "
            "times the other; cut the picture."
        )


@contextmanager
def _damage_told(name: str, max_pixels: int) -> Iterator[None]:
    """Errors of Pillow inside the block become an ``ImageError``."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{name}: its pixels {_too_large(max_pixels)}") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{name}: not a picture in a known format ({', '.join(FORMATS)}); replace or remove it."
        ) from None
    except _DAMAGE as error:
        raise ImageError(f"{name}: the picture is damaged or truncated ({error}); replace or remove it.") from None


def upright_rgb(image: Image.Image, *, name: str = "<picture>") -> Image.Image:
    """The picture with its EXIF orientation applied, transparency on white, 16-bit gray scaled to 8, in mode RGB.

    EXIF data that cannot be read leaves the picture as it lies.

    Raises:
        ImageError: The pixels are 32-bit numbers, which have no agreed black and white.
    """
    with suppress(*_DAMAGE):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        gray = (values + 128) // 257
        gray[values == image.info.get("transparency", -1)] = 255
        scaled = Image.fromarray(gray.astype(np.uint8)).convert("RGB")
        scaled.info[LARGEST_OF_16] = int(values.max())
        return scaled
    if image.mode in ("I", "F"):
        raise ImageError(f"{name}: pixels of 32 bits have no agreed black and white; save it with 8 or 16 bits.")
    if image.mode in ("RGBa", "La"):  # colours multiplied by their opacity
        image = image.convert(image.mode.upper())
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(paper, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


@dataclass(frozen=True)
class Encoded:
    """The encoded bytes of a picture inside a table or an archive, read on demand.

    Attributes:
        name: What errors call the picture.
        read: Returns the bytes.
    """

    name: str
    read: Callable[[], bytes]

    def __call__(self) -> Image.Image:
        """The picture, upright and in RGB.

        Raises:
            ImageError: See ``decode``.
        """
        return decode(self.read(), name=self.name)


@dataclass(frozen=True)
class Picture:
    """A picture that is decoded when it is opened.

    Attributes:
        name: Its name in errors and reports, usually its path.
        source: A path, encoded bytes, a decoded image, a function that draws it, or another picture.
        max_pixels: A picture with more pixels is refused.
        edit: Changes the picture after it was decoded.
    """

    name: str
    source: Source | Image.Image | Callable[[], Image.Image] | Picture
    max_pixels: int = MAX_PIXELS
    edit: Callable[[Image.Image], Image.Image] | None = None

    def open(self) -> Image.Image:
        """The picture, upright and in RGB.

        Raises:
            ImageError: See ``decode``.
        """
        image = self._opened()
        return image if self.edit is None else self.edit(image)

    def _opened(self) -> Image.Image:
        if isinstance(self.source, Picture):
            return self.source.open()
        if isinstance(self.source, Image.Image):
            with _damage_told(self.name, self.max_pixels):
                _check_size(self.source, self.name, self.max_pixels)
                self.source.load()  # of a file that is still open
                return upright_rgb(self.source, name=self.name)
        if isinstance(self.source, Encoded):
            return decode(self.source.read(), name=self.name, max_pixels=self.max_pixels)
        if callable(self.source):
            drawn = self.source()
            if not isinstance(drawn, Image.Image):
                raise TypeError(f"{self.name}: its function returned {type(drawn).__name__}, no picture of Pillow")
            return drawn if drawn.mode == "RGB" else upright_rgb(drawn, name=self.name)
        return decode(self.source, name=self.name, max_pixels=self.max_pixels)

    def header_size(self) -> tuple[int, int] | None:
        """Width and height without decoding where that is possible; None where the picture is drawn or edited.

        Raises:
            ImageError: See ``check_header``.
        """
        if self.edit is not None:
            return None
        if isinstance(self.source, Picture):
            return self.source.header_size()
        if isinstance(self.source, Image.Image):
            return self.source.size
        source = self.source.read() if isinstance(self.source, Encoded) else self.source
        if not isinstance(source, str | bytes | os.PathLike):
            return None
        return picture_size(source, name=self.name, max_pixels=self.max_pixels)

    def limited(self, max_pixels: int) -> Picture:
        """The same picture with another limit."""
        source = self.source.limited(max_pixels) if isinstance(self.source, Picture) else self.source
        return replace(self, source=source, max_pixels=max_pixels)

    def edited(self, edit: Callable[[Image.Image], Image.Image]) -> Picture:
        """The picture with a change that is made when it is opened.

        Args:
            edit: Gets the picture upright and in RGB, and returns another.
        """
        return Picture(self.name, self, self.max_pixels, edit)

    def check(self, *, pixels: bool) -> None:
        """Checks that the picture can be opened; without ``pixels`` only by the header of its file.

        Raises:
            ImageError: See ``decode``.
        """
        if pixels:
            self.open()
        elif isinstance(self.source, Picture):
            self.source.check(pixels=False)
        elif isinstance(self.source, Encoded):
            check_header(self.source.read(), name=self.name, max_pixels=self.max_pixels)
        elif isinstance(self.source, str | bytes | os.PathLike):
            check_header(self.source, name=self.name, max_pixels=self.max_pixels)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or one that a system or program adds (``@eaDir``, ``Thumbs.db``)."""
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM


class LeftOut:
    """The files that a search for pictures passes over, counted by reason; hidden ones are not."""

    def __init__(self) -> None:
        self.count = 0
        self._reasons: dict[str, tuple[int, Path]] = {}

    def add(self, reason: str, path: Path) -> None:
        """Counts a file.

        Args:
            reason: The end of "2 files ..."; e.g. ``ending in .heic``.
            path: The file.
        """
        count, first = self._reasons.get(reason, (0, path))
        self._reasons[reason] = count + 1, first
        self.count += 1

    def merge(self, other: LeftOut) -> None:
        """Counts the files of another search, too."""
        for reason, (count, first) in other._reasons.items():
            mine, earlier = self._reasons.get(reason, (0, first))
            self._reasons[reason] = mine + count, earlier
        self.count += other.count

    def sentence(self, most: int = 6) -> str:
        """How many files were left out, and for what reasons, the most frequent ones first; empty where none were."""
        if not self.count:
            return ""
        ranked = sorted(self._reasons.items(), key=lambda item: (-item[1][0], item[0]))
        parts = [f"{count:,} {reason} (e.g. {_shown(first)})" for reason, (count, first) in ranked[:most]]
        rest = sum(count for _, (count, _) in ranked[most:])
        parts += [f"{rest:,} for other reasons"] if rest else []
        return f"{self.count:,} {'file' if self.count == 1 else 'files'} left out: {', '.join(parts)}."


def _shown(path: Path) -> str:
    """A path as text; bytes that are no UTF-8 as escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")


def check_name(path: Path, root: Path | None = None) -> None:
    """Refuses a name that is no UTF-8, which could be written to no table and shown to no model.

    Args:
        path: The file or folder.
        root: A folder around it, below which every name is checked; by default only its own is.

    Raises:
        UserError: There is such a name.
    """
    for place in (path, *(p for p in path.parents if root is not None and root in p.parents)):
        try:
            place.name.encode()
        except UnicodeEncodeError:
            raise UserError(f"{_shown(place)}: its name is not UTF-8; rename it.") from None


def find_images(folder: str | os.PathLike[str], left: LeftOut | None = None) -> list[Path]:
    """All picture files below ``folder``, sorted by path; hidden files and folders are left out.

    Args:
        folder: The folder.
        left: Counts other files that are left out.

    Raises:
        ImageError: See ``walk_images``.
    """
    return list(walk_images(folder, left))


def walk_images(folder: str | os.PathLike[str], left: LeftOut | None = None) -> Iterator[Path]:
    """``find_images``, one after the other: of no folder are more than 200,000 names in memory at once.

    Links to folders are followed, each folder once, and none back to a folder around it.

    Args:
        folder: The folder.
        left: Counts other files that are left out.

    Raises:
        ImageError: There is no such folder, one below it cannot be read, or there is no picture in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"{root}: there is no such folder; check the path.")
    empty = True
    for path in _walk((root,), LeftOut() if left is None else left, set()):
        empty = False
        yield path
    if empty:
        raise ImageError(f"{root}: the folder holds no pictures ({', '.join(SUFFIXES)}); check the path.")


def _walk(around: tuple[Path, ...], left: LeftOut, linked: set[Path]) -> Iterator[Path]:
    """The pictures below the last of the folders ``around``; ``linked`` are those that links have led to."""
    folder = around[-1]
    for name, is_folder in _sorted_entries(folder, left=left):
        path = folder / name
        if not is_folder:
            yield path
            continue
        if path.is_symlink():
            real = path.resolve()
            above = {p for place in map(Path.resolve, around) for p in (place, *place.parents)}
            if real in linked or real in above:
                left.add("that are links to a folder that is read already", path)
                continue
            linked.add(real)
        yield from _walk((*around, path), left, linked)


def _reason(entry: os.DirEntry[str]) -> str:
    """Why a file is no picture that is read."""
    if entry.is_symlink() and not os.path.exists(entry.path):
        return "that are links to nothing"
    ending = os.path.splitext(entry.name)[1].lower()
    if ending in SUFFIXES:
        return "that are no regular files"
    return f"ending in {ending}" if ending else "without an ending"


def _sorted_entries(folder: Path, most: int = 100_000, *, left: LeftOut | None = None) -> Iterator[tuple[str, bool]]:
    """Names of the pictures (False) and the folders (True) directly in a folder, in order.

    A folder with more than ``most`` of them is read again for each ``most``, so that a million names are never held.
    """
    last = ""  # comes before every name
    while True:
        names: list[tuple[str, bool]] = []
        beyond: str | None = None  # names from here on wait for the next reading
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name <= last or is_hidden(entry.name):
                        continue
                    picture = entry.name.lower().endswith(SUFFIXES) and entry.is_file()
                    if not picture and not entry.is_dir():
                        if left is not None and not last:  # a folder that is read again was counted the first time
                            left.add(_reason(entry), Path(entry.path))
                    elif not beyond or entry.name < beyond:
                        names.append((entry.name, not picture))
                    if len(names) == 2 * most:
                        names.sort()
                        beyond = names[most][0]
                        del names[most:]
        except OSError as error:
            raise ImageError(
                f"{folder}: the folder cannot be read ({error.strerror}); check the path and its permissions."
            ) from None
        names.sort()
        yield from names[:most]
        if beyond is None and len(names) <= most:
            return
        last = names[most - 1][0]
