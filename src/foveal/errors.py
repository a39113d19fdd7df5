"""The one kind of error that a user can cause and is shown as a sentence, never as a traceback."""

from __future__ import annotations


class UserError(Exception):
    """What went wrong, where (file, row, key) and the remedy, in one sentence.

    The command line prints the message and exits with code 2. Library users catch it like any exception.
    """


class ImageError(UserError):
    """A picture that cannot be used: missing, truncated, empty, too large or not a picture."""
