"""Data sets on the Hugging Face Hub: their names, whether the Hub answers, and fetching one or its copy in the cache."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, constants, snapshot_download
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

#: How long the Hub may take to answer whether it is there. Its client has no limit of its own and retries for minutes.
SECONDS = 10.0
#: What goes wrong between here and the Hub: errors of files and sockets, and those of the HTTP library, which differs
#: between versions of huggingface_hub, whose own error is derived from that library's.
TROUBLE: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__mro__[1])
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


def locate(source: str, patterns: tuple[str, ...]) -> tuple[Path, str]:
    """The file or folder of a data set, and what messages call it.

    Args:
        source: A path; where nothing has that path, also the name of a data set on the Hub, see ``fetch``.
        patterns: Files to fetch from the Hub, e.g. ``*.parquet``.

    Returns:
        The path, which need not exist, and its text; for the Hub the folder in the cache and ``NAME (Hub, commit ...)``.

    Raises:
        UserError: See ``fetch``.
    """
    path = Path(source).expanduser()
    if path.exists() or not is_source(source):
        return path, str(path)
    folder = fetch(source, patterns)
    return folder, f"{source} (Hub, commit {folder.name[:7]})"


@cache
def fetch(source: str, patterns: tuple[str, ...]) -> Path:
    """The folder of a data set on the Hub, from the cache where that is up to date or the Hub does not answer.

    A process fetches a data set once, so that all its splits are of one commit.

    Args:
        source: OWNER/NAME, or OWNER/NAME@REVISION (a branch, a tag or a commit).
        patterns: Files to fetch, e.g. ``*.parquet``.

    Raises:
        UserError: The Hub has no such data set, or cannot be reached while no complete copy is in the cache.
    """
    name, _, revision = source.partition("@")
    trouble = reach(name, revision or None)
    try:
        with disk_errors(Path(constants.HF_HUB_CACHE)):
            folder = snapshot_download(
                name,
                repo_type="dataset",
                revision=revision or None,
                allow_patterns=list(patterns),
                local_files_only=trouble is not None,
            )
    except LocalEntryNotFoundError as error:
        raise _not_fetched(source, trouble or error) from error
    except TROUBLE as error:
        raise _not_fetched(source, error) from error
    if not Path(folder).is_dir():
        raise UserError(f"data.source: {source}: on the Hub it has no pictures and no tables; give another data set.")
    return Path(folder)


def reach(name: str, revision: str | None, kind: Literal["dataset", "model"] = "dataset") -> Exception | None:
    """Asks the Hub for a repository's commit; None, or what went wrong, after ``SECONDS`` at most."""
    try:
        HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=SECONDS, expand="sha")
    except TROUBLE as error:
        return error
    return None


def status(error: HfHubHTTPError) -> int:
    """The HTTP status of the Hub's response."""
    return int(error.response.status_code)


def reason(error: Exception) -> str:
    """An error of another library in a few words."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return first if len(first) <= 160 else f"{first[:159]}…"


def _not_fetched(source: str, error: Exception) -> UserError:
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
        why = f"the Hub answers with error {status(error)}"
        remedy = f"try again later, or copy the data set from {constants.ENDPOINT} and give its folder"
    else:
        why = f"the Hub cannot be reached ({reason(error)}) and {missing}"
        remedy = "check the path and the connection, or copy the data set to this machine and give its folder"
    return UserError(f"data.source: {source}: there is no such folder, and {why}; {remedy}.")
