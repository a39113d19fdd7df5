"""Files that a user names: what may be read and written, and writing in one step, so that a reader sees the old file or
the new one, never a part of it."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from foveal.errors import UserError
from foveal.locks import lock, take

#: How the names of files and folders end that are being written.
UNFINISHED = ".unfinished"

#: What is no file that can be read twice or replaced, by the test of its mode.
_SPECIAL = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
#: What spreadsheets take for a formula where a cell begins with it, behind the marks that were put in front of it.
_FORMULA = re.compile("'*[=+@\t\r\n\uff1d\uff0b\uff20\uff0d-]")
#: Halves of characters, but not those that stand for the bytes of a file's name.
_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full disk, a missing permission or a read-only disk into a sentence.

    Raises:
        UserError: In place of the ``OSError``.
    """
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "the disk is full; free some space or choose another folder",
            errno.EFBIG: "a file would be larger than the system allows; raise the limit (ulimit -f) or choose another folder",
            errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
            errno.EACCES: "permission denied; choose a folder that you may write to",
            errno.EROFS: "the disk is read-only; choose another folder",
            errno.ENOTDIR: "a part of the path is a file; choose another folder",
            errno.EEXIST: "a file of that name is in the way; choose another name",
            errno.EISDIR: "a folder of that name is in the way; choose another name",
            errno.ENOTEMPTY: "a folder of that name is in the way; choose another name",
            errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
        }.get(error.errno or 0)
        if remedy is None:
            raise
        raise UserError(f"{path}: cannot be written: {remedy}.") from error


def check_writable(path: Path) -> None:
    """Checks that ``path`` could be written: the nearest existing folder must be writable.

    Raises:
        UserError: It is not writable, or is a file.
    """
    with disk_errors(path):
        place = next(p for p in (path.parent, *path.parent.parents) if p.exists())
        if not place.is_dir():
            raise UserError(f"{path}: cannot be written: {place} is a file; choose another folder.")
        if not os.access(place, os.W_OK | os.X_OK):
            raise UserError(f"{path}: cannot be written: no permission to write to {place}; choose another folder.")


def special(path: str | os.PathLike[str]) -> str:
    """``a pipe``, ``a socket`` or ``a device`` where a path is one, which reading would wait for; else an empty text."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return ""  # whoever opens it says why it cannot be
    return next((name for test, name in _SPECIAL if test(mode)), "")


def check_input(path: Path) -> None:
    """Refuses what is neither a file nor a folder: reading a pipe or a device may wait for ever.

    Raises:
        UserError: It is a pipe, a socket or a device. What is not there is not refused here.
    """
    if what := special(path):
        raise UserError(f"{path}: is {what}; give a file, e.g. a copy of what comes from it.")


def check_output(path: Path | None, endings: Sequence[str] = ()) -> None:
    """Checks, before any work, that a file that a user names can be written.

    Args:
        path: The file; None is none.
        endings: Those that it may have, each with its point; any by default.

    Raises:
        UserError: It has another ending, cannot be written, or is a folder, a link, a device, a pipe or a socket.
    """
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file's name.")
    if endings and path.suffix.lower() not in endings:
        *most, last = endings
        what = f"ends in {path.suffix!r}" if path.suffix else "has no ending"
        raise UserError(f"{path}: {what}; give a file that ends in {', '.join(most)}{' or ' if most else ''}{last}.")
    check_writable(path)
    _check_replaceable(path)


def _check_replaceable(path: Path) -> None:
    """Refuses to put a file in the place of anything but a file: root could replace a device, or break a link."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return  # nothing is there, or writing says why it cannot be
    if stat.S_ISLNK(mode):
        raise UserError(f"{path}: is a link to {os.readlink(path)}; give another name, or that of the file itself.")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{path}: is {special(path) or 'no file'}, which a file cannot replace; give another name.")


def check_text(value: Any, name: str) -> None:
    """Refuses texts that no file and no tokenizer can hold, anywhere in a value that was read from a file.

    Args:
        value: What YAML or JSON held.
        name: What the error calls it.

    Raises:
        UserError: A text has half a character (``\\ud800``). What stands for the bytes of a file's name that is no UTF-8
            (``\\udc80`` to ``\\udcff``) may be there.
    """
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if half := _HALF.search(item):
                raise UserError(f"{name}: the text {item[:40]!r} has half a character ({half[0]!r}); correct it.")
        elif isinstance(item, Mapping | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            waiting += [*item.keys(), *item.values()] if isinstance(item, Mapping) else item


def csv_cell(text: str) -> str:
    """A text as a cell of a table: with a ' in front where a spreadsheet would take it for a formula.

    Numbers stay as they are. ``csv_text`` takes the mark away again.
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def csv_text(cell: str) -> str:
    """The text that ``csv_cell`` made a cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as lines of a CSV file; texts as ``csv_cell`` makes them."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([csv_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return stream.getvalue()


def write_text(path: Path, text: str) -> None:
    """Replaces ``path`` by ``text`` (UTF-8) in one step.

    Raises:
        UserError: The disk is full or may not be written.
    """
    # A file's name that is not UTF-8 has lone surrogates here; this way they read back from JSON as they were.
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Replaces ``path`` by ``value`` in one step; numbers that are not finite become null.

    Raises:
        UserError: The disk is full or may not be written.
    """
    write_text(path, to_json(value, indent=2) + "\n")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """``value`` as JSON that any reader takes: numbers that are not finite, which JSON has not, become null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file in one step at the end, or not at all.

    Raises:
        UserError: The disk is full or may not be written, or a link, a device, a pipe or a socket is in the way.
    """
    _check_replaceable(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(UNFINISHED, f".{path.name}.", path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces ``path`` by ``data`` in one step.

    Raises:
        UserError: The disk is full or may not be written.
    """
    with replacing(path) as stream:
        stream.write(data)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that becomes ``path`` when the block ends well, and vanishes otherwise.

    What processes that were killed left there in this way is removed.

    Raises:
        UserError: ``path`` exists and is not an empty folder, is a mount point, or the disk is full.
    """
    with disk_errors(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path}: exists already; choose another folder or remove it.")
        if path.is_mount():
            raise UserError(f"{path}: is a mount point, which cannot be replaced; choose a folder inside it.")
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(target.parent)
        with _held_folder(target) as temporary:
            try:
                yield temporary
                os.chmod(temporary, 0o755)
                os.replace(temporary, target)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise


@contextmanager
def _held_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, locked, so that others see that its process lives."""
    with ExitStack() as stack:
        while True:
            temporary = Path(tempfile.mkdtemp(UNFINISHED, f".{target.name}.", target.parent))
            # Between the two lines, another process may take it for one that was left behind.
            with suppress(FileNotFoundError):
                if stack.enter_context(lock(temporary)) is not False and temporary.exists():
                    break
        yield temporary


def remove_unfinished(folder: Path) -> None:
    """Removes the folders that ``new_folder`` began here in processes that were killed; those of living ones stay."""
    for path in folder.glob(f".*{UNFINISHED}"):
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                with lock(path) as free:
                    if free:
                        shutil.rmtree(path, ignore_errors=True)


class Writing:
    """Keeps everybody else from writing a file that grows, until it is closed; a crash ends it too.

    What is locked is a hidden file beside it, for the file itself may not exist yet, or be replaced.

    Args:
        path: The file; its folder is made, and removed again in the end where it is empty.

    Raises:
        UserError: Another process, or another place of this one, is writing it; or its folder may not be written to.
    """

    def __init__(self, path: Path) -> None:
        self._lock = path.with_name(f".{path.name}.lock")
        self._made = [p for p in (path.parent, *path.parent.parents) if not p.exists()]
        with disk_errors(path):
            while True:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = self._lock.open("wb")
                if take(self._stream.fileno()) is False:
                    self._stream.close()
                    raise UserError(
                        f"{path}: another foveal is writing this file; wait for it, or choose another --out."
                    )
                # The one before may have removed it after it was opened here.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(self._stream.fileno()), self._lock.stat()):
                        return
                self._stream.close()

    def close(self) -> None:
        """Lets others write the file."""
        if self._stream.closed:
            return
        with suppress(OSError):
            self._lock.unlink()
        self._stream.close()
        with suppress(OSError):
            for folder in self._made:
                folder.rmdir()
