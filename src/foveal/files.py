"""Writes files in one step: a reader sees the old file or the new one, never a part of it."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from foveal.errors import UserError
from foveal.locks import lock, take

#: How the names of files and folders end that are being written.
UNFINISHED = ".unfinished"


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


def check_file(path: Path | None) -> None:
    """Checks that a file that is asked for could be written; None is none.

    Raises:
        UserError: It could not, or is a folder.
    """
    if path is not None:
        check_writable(path)
        if path.is_dir():
            raise UserError(f"{path}: is a folder; give a file's name.")


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
        UserError: The disk is full or may not be written.
    """
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
