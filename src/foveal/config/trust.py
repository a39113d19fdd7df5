"""Whether a run whose recipe runs a model's own Python code was made here, or brings that trust along from elsewhere.

A run folder is data that people pass on, and its recipe may say ``trust_remote_code`` and name a model inside the folder.
So a training notes in the user's cache which run it makes with which model; any other run has to be trusted again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from foveal.config.sections import Model
from foveal.errors import UserError

#: The key of a recipe that says so, as on the command line.
KEY: Final = "--model.trust_remote_code"
#: Files of a model's folder that are code or name it.
_CODE: Final = (".py", ".json")


def is_given(arguments: Sequence[str]) -> bool:
    """Whether the command line itself says whether the model's code is trusted."""
    return any(word.split("=", 1)[0] == KEY for word in arguments)


def check_trust(place: Path, model: Model, arguments: Sequence[str] = ()) -> None:
    """Refuses to run a model's code because a folder from elsewhere says so.

    Args:
        place: The folder whose settings are used.
        model: Its model section.
        arguments: ``--key value`` arguments of the command line.

    Raises:
        UserError: The code would be run, the command line does not say so, and the folder was not made here.
    """
    if model.trust_remote_code and not is_given(arguments) and not _note(place, model).is_file():
        raise UserError(
            f"{place}: was not made here, and its model.trust_remote_code would run Python code that comes with {model.id}; "
            f"read that code, then give {KEY} true."
        )


def remember_trust(place: Path, model: Model) -> None:
    """Notes that a folder with such settings was made here; without a cache that can be written it is asked again.

    Args:
        place: The folder.
        model: Its model section.
    """
    if model.trust_remote_code:
        note = _note(place, model)
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()


def _note(place: Path, model: Model) -> Path:
    """The file that stands for a folder, its model and the model's code, where that lies on this machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "foveal" / "trusted"
    digest = hashlib.sha256(json.dumps([str(place.resolve()), model.id, model.revision]).encode())
    folder = Path(model.id).expanduser()
    for file in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if file.suffix in _CODE and file.is_file():
            digest.update(str(file.relative_to(folder)).encode(errors="surrogateescape"))
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return cache / digest.hexdigest()
