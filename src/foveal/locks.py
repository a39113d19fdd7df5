"""Locks on files and folders that end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

#: What file systems answer that have no such locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EBADF, errno.ENOSYS)
_held: set[int] = set()


def take(handle: int) -> bool | None:
    """Locks an open file or folder. Returns False where another one holds it, None where there are no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


@contextmanager
def lock(path: Path) -> Iterator[bool | None]:
    """Holds a file or folder within the block; yields what ``take`` returns.

    Raises:
        OSError: There is no such file, or it may not be read.
    """
    if sys.platform == "win32":
        yield None
        return
    handle = os.open(path, os.O_RDONLY)
    _held.add(handle)
    try:
        yield take(handle)
    finally:
        if handle in _held:
            _held.remove(handle)
            os.close(handle)


def _let_go() -> None:
    """A forked process (a data worker, say) may outlive the one that holds the lock, and must not hold it on."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_let_go)
