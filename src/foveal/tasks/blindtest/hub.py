"""Data sets of puzzles on the Hugging Face Hub: sending one there, and fetching one with its copy in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from foveal import hub
from foveal.errors import UserError
from foveal.hub import TROUBLE, is_name, is_source, reach, reason, status
from foveal.images import SUFFIXES
from foveal.tasks.blindtest.saving import SAMPLE

__all__ = ["check_name", "fetch", "is_name", "is_source", "push"]

#: What else an upload ends with.
_UPLOAD_TROUBLE: tuple[type[Exception], ...] = (*TROUBLE, ValueError, RuntimeError)
#: What the readers can use; other files of a repository are not fetched.
_FETCHED = ["*.parquet", "*.csv", *(f"*{s}" for s in SUFFIXES), *(f"*{s.upper()}" for s in SUFFIXES)]


def check_name(key: str, text: str) -> None:
    """Refuses what cannot be the name of a data set on the Hub.

    Raises:
        UserError: It cannot.
    """
    if not is_name(text):
        raise UserError(
            f"{key}: {text!r} is no name on the Hub; give OWNER/NAME, e.g. ada/lines (letters, digits, - _ and .)."
        )


@cache
def fetch(source: str) -> Path:
    """The folder of a data set on the Hub, from the cache where that is up to date or the Hub does not answer.

    A process asks once, so that all splits of a run are of one commit.

    Args:
        source: See ``foveal.hub.fetch``.

    Raises:
        UserError: See ``foveal.hub.fetch``.
    """
    return hub.fetch(source, _FETCHED)


def push(folder: Path, splits: Sequence[str], name: str, *, private: bool) -> None:
    """Sends splits and dataset cards to the Hub, into a repository that is made if it is not there.

    Of the repository's files only those splits' are replaced; nothing else that lies in the folder is sent.

    Args:
        folder: The data set.
        splits: Which folders in it, with / between parts, e.g. ``train`` or ``lines/train``; the README.md and the
            sample picture beside each are sent too.
        name: OWNER/NAME.
        private: Whether only the owner may see a repository that is made.

    Raises:
        UserError: The Hub cannot be reached or refuses; the folder stays as it is.
    """
    trouble = reach(name, None)
    # Any answer but a failure of the server's will do: the repository need not be there yet.
    if trouble is not None and (not isinstance(trouble, HfHubHTTPError) or status(trouble) >= 500):
        raise _not_pushed(folder, name, trouble) from trouble
    beside = {"README.md", *(str(PurePosixPath(s).with_name(n)) for s in splits for n in ("README.md", SAMPLE))}
    api = HfApi()
    try:
        api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=[*sorted(beside), *(f"{s}/{files}" for s in splits for files in ("metadata.csv", "*.png"))],
            delete_patterns=[f"{s}/*" for s in splits],
            commit_message=f"{', '.join(splits)}: made by `foveal data make`",
        )
    except _UPLOAD_TROUBLE as error:
        raise _not_pushed(folder, name, error) from error


def _not_pushed(folder: Path, name: str, error: Exception) -> UserError:
    """The sentence for a data set that was made and could not be sent."""
    again = "repeat the command with --overwrite"
    code = status(error) if isinstance(error, HfHubHTTPError) else 0
    if isinstance(error, OfflineModeIsEnabled):
        why, remedy = "HF_HUB_OFFLINE is set", f"unset it and {again}"
    elif get_token() is None and code in (0, 401, 403, 404) and (code or "token" in str(error).lower()):
        why, remedy = "you are not logged in", f"run `hf auth login` and {again}"
    elif code == 401:
        why, remedy = "the Hub does not accept your token", f"run `hf auth login` and {again}"
    elif code in (403, 404):
        owner = name.partition("/")[0]
        why = f"your token may not write to {owner}'s data sets"
        remedy = f"run `hf auth login` with a token that may write there, or give another owner, and {again}"
    elif code:
        why, remedy = f"the Hub answers with error {code} ({reason(error)})", f"put that right and {again}"
    elif isinstance(error, TROUBLE):
        why, remedy = f"the Hub cannot be reached ({reason(error)})", f"check the connection and {again}"
    else:
        why, remedy = f"the upload failed ({reason(error)})", f"put that right and {again}"
    return UserError(
        f"--push_to_hub: {name}: the pictures are in {folder}, but could not all be pushed, for {why}; {remedy}."
    )
