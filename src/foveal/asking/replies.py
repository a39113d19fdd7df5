"""Replies, and a cache of them on disk, so that no question is asked twice."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foveal.errors import UserError
from foveal.files import disk_errors, to_json
from foveal.locks import take
from foveal.prompts import Prompt

#: Reasoning in front of an answer; a reply that is cut within it has no answer.
_THOUGHTS = re.compile(r"^\s*<think>.*?(?:</think>|$)", re.DOTALL)


@dataclass(frozen=True)
class Reply:
    """A model's reply; what a model does not report is None.

    Attributes:
        text: The text.
        finish: Why it ended: ``stop``, ``length`` (the reply was cut), ...
        model: The model's name in the server's response, which may be more exact than in the request.
        tokens_in: Length of the prompt in tokens.
        tokens_out: Length of the reply in tokens.
        confidence: Product of the probabilities of its tokens.
    """

    text: str
    finish: str | None = None
    model: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    confidence: float | None = None

    @property
    def answer(self) -> str:
        """The text without a leading ``<think>...</think>``."""
        return _THOUGHTS.sub("", self.text)

    def facts(self) -> dict[str, Any]:
        """What a server reports beside the text; empty for local models."""
        facts = {"finish": self.finish, "model": self.model, "tokens_in": self.tokens_in, "tokens_out": self.tokens_out}
        return {name: value for name, value in facts.items() if value is not None}


def _checked(reply: Reply) -> Reply:
    """The reply, if all its values are of their types.

    Raises:
        TypeError: One is not.
    """
    counts, words = (reply.tokens_in, reply.tokens_out), (reply.finish, reply.model)
    if not (
        isinstance(reply.text, str)
        and all(value is None or type(value) is int for value in counts)
        and all(value is None or isinstance(value, str) for value in words)
        and (reply.confidence is None or isinstance(reply.confidence, float))
    ):
        raise TypeError(f"{reply!r} is none")
    return reply


def reply_key(model: str, prompt: Prompt, settings: Mapping[str, Any]) -> str:
    """A digest of everything that a reply depends on: the model's name, the prompt with its pixels, the settings."""
    pictures = []
    for image in prompt.opened():
        pixels = hashlib.sha256(f"{image.mode} {image.size}".encode())
        pixels.update(image.tobytes())
        pictures.append(pixels.hexdigest())
    question = {
        "model": model, "system": prompt.system, "pictures": pictures, "user": prompt.user, "settings": dict(settings),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()


class Replies(AbstractContextManager["Replies"]):
    """A growing file of replies, a line of JSON each.

    Each line is written in one step, and an incomplete line (after a power cut, say) is dropped when the file is opened
    again. A lock keeps a second process out.

    Args:
        path: The file; it is created with its folder where it does not exist.

    Raises:
        UserError: It may not be written, or another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Reply] = {}
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if take(self._file) is False:
                raise UserError(
                    f"{path.parent}: another foveal is at work in this folder; wait for it, or choose another --out."
                )
            self._read()
        except BaseException:
            os.close(self._file)
            raise

    def _read(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._file, whole)
        for line in data[:whole].splitlines():
            # A damaged line's question is asked again.
            with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                row = json.loads(line)
                key = row.pop("key")
                self._known[key] = _checked(Reply(**row))

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Reply | None:
        """The reply of a key, or None."""
        return self._known.get(key)

    def __getitem__(self, key: str) -> Reply:
        """The reply of a key that is known."""
        return self._known[key]

    def add(self, key: str, reply: Reply) -> None:
        """Writes a reply.

        Raises:
            UserError: The disk is full.
        """
        row = asdict(reply)
        if reply.confidence is None:
            del row["confidence"]
        line = to_json({"key": key, **row}).encode(errors="backslashreplace") + b"\n"
        with disk_errors(self.path):
            before = os.lseek(self._file, 0, os.SEEK_END)
            if os.write(self._file, line) < len(line):
                os.ftruncate(self._file, before)
                raise OSError(errno.ENOSPC, "no room for the whole line")
        self._known[key] = reply

    def close(self) -> None:
        """Closes the file, so that another process can open it."""
        os.close(self._file)

    def __exit__(self, *_: object) -> None:
        self.close()
