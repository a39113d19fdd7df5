"""Data sets of puzzles on the Hugging Face Hub: sending one there, and fetching one with its copy in the cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, constants, get_token, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from foveal.errors import UserError
from foveal.files import disk_errors
from foveal.images import SUFFIXES
from foveal.tasks.blindtest.saving import SAMPLE

#: How long the Hub may take to answer whether it is there. Its client has no limit of its own and retries for minutes.
SECONDS = 10.0
#: What goes wrong between here and the Hub: errors of files and sockets, and those of the HTTP library, which differs
#: between versions of huggingface_hub, whose own error is derived from that library's.
_TROUBLE: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__mro__[1])
#: What else an upload ends with.
_UPLOAD_TROUBLE: tuple[type[Exception], ...] = (*_TROUBLE, ValueError, RuntimeError)
#: What the readers can use; other files of a repository are not fetched.
_FETCHED = ["*.parquet", "*.csv", *(f"*{s}" for s in SUFFIXES), *(f"*{s.upper()}" for s in SUFFIXES)]
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/\w[\w.-]*", re.ASCII)


def is_name(text: str) -> bool:
    """Whether a text may be the name of a data set on the Hub: OWNER/NAME."""
    if not _NAME.fullmatch(text) or "--" in text or ".." in text or len(text) > 96:
        return False
    return not text.endswith(("-", ".", ".git", ".parquet", ".csv", ".yaml"))


def is_source(text: str) -> bool:
    """Whether a text that is no path may mean a data set on the Hub: OWNER/NAME, or OWNER/NAME@REVISION."""
    name, at, revision = text.partition("@")
    return is_name(name) and (not at or bool(revision))


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
        source: OWNER/NAME, or OWNER/NAME@REVISION (a branch, a tag or a commit).

    Raises:
        UserError: The Hub has no such data set, or cannot be reached while no complete copy is in the cache.
    """
    name, _, revision = source.partition("@")
    trouble = _reach(name, revision or None)
    try:
        with disk_errors(Path(constants.HF_HUB_CACHE)):
            folder = snapshot_download(
                name,
                repo_type="dataset",
                revision=revision or None,
                allow_patterns=_FETCHED,
                local_files_only=trouble is not None,
            )
    except LocalEntryNotFoundError as error:
        raise _not_fetched(source, trouble or error) from error
    except _TROUBLE as error:
        raise _not_fetched(source, error) from error
    if not Path(folder).is_dir():
        raise UserError(f"data.source: {source}: on the Hub it has no pictures and no tables; give another data set.")
    return Path(folder)


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
    trouble = _reach(name, None)
    # Any answer but a failure of the server's will do: the repository need not be there yet.
    if trouble is not None and (not isinstance(trouble, HfHubHTTPError) or _status(trouble) >= 500):
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


def _reach(name: str, revision: str | None) -> Exception | None:
    """Asks the Hub for a data set's commit; None, or what went wrong, after ``SECONDS`` at most."""
    try:
        HfApi().dataset_info(name, revision=revision, timeout=SECONDS, expand=["sha"])
    except _TROUBLE as error:
        return error
    return None


def _status(error: HfHubHTTPError) -> int:
    return int(error.response.status_code)


def _reason(error: Exception) -> str:
    """An error of another library in a few words."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return first if len(first) <= 160 else f"{first[:159]}…"


def _not_fetched(source: str, error: Exception) -> UserError:
    """The sentence for a data set that could not be had."""
    name, _, revision = source.partition("@")
    missing = "no complete copy of it is in the cache"
    if isinstance(error, OfflineModeIsEnabled):
        why = f"{missing}, while HF_HUB_OFFLINE keeps it from being fetched from the Hub"
        remedy = (
            f"check the path, or unset HF_HUB_OFFLINE, or fetch it before with `hf download {name} --repo-type dataset`"
        )
    elif isinstance(error, GatedRepoError):
        why = "on the Hub it needs permission"
        remedy = f"accept its terms at {constants.ENDPOINT}/datasets/{name} and run `hf auth login`"
    elif isinstance(error, RevisionNotFoundError):
        why = f"on the Hub it has no revision {revision!r}"
        remedy = "give a branch, a tag or a commit that it has"
    elif isinstance(error, RepositoryNotFoundError):
        why = "the Hub has no data set of that name that you may see"
        remedy = "check the path or the name, or run `hf auth login` if it is private"
    elif isinstance(error, HfHubHTTPError):
        why = f"the Hub answers with error {_status(error)}"
        remedy = f"try again later, or copy the data set from {constants.ENDPOINT} and give its folder"
    else:
        why = f"the Hub cannot be reached ({_reason(error)}) and {missing}"
        remedy = "check the path and the connection, or copy the data set to this machine and give its folder"
    return UserError(f"data.source: {source}: there is no such folder, and {why}; {remedy}.")


def _not_pushed(folder: Path, name: str, error: Exception) -> UserError:
    """The sentence for a data set that was made and could not be sent."""
    again = "repeat the command with --overwrite"
    status = _status(error) if isinstance(error, HfHubHTTPError) else 0
    if isinstance(error, OfflineModeIsEnabled):
        why, remedy = "HF_HUB_OFFLINE is set", f"unset it and {again}"
    elif get_token() is None and status in (0, 401, 403, 404) and (status or "token" in str(error).lower()):
        why, remedy = "you are not logged in", f"run `hf auth login` and {again}"
    elif status == 401:
        why, remedy = "the Hub does not accept your token", f"run `hf auth login` and {again}"
    elif status in (403, 404):
        owner = name.partition("/")[0]
        why = f"your token may not write to {owner}'s data sets"
        remedy = f"run `hf auth login` with a token that may write there, or give another owner, and {again}"
    elif status:
        why, remedy = f"the Hub answers with error {status} ({_reason(error)})", f"put that right and {again}"
    elif isinstance(error, _TROUBLE):
        why, remedy = f"the Hub cannot be reached ({_reason(error)})", f"check the connection and {again}"
    else:
        why, remedy = f"the upload failed ({_reason(error)})", f"put that right and {again}"
    return UserError(
        f"--push_to_hub: {name}: the pictures are in {folder}, but could not all be pushed, for {why}; {remedy}."
    )
