"""Sends data sets of puzzles to the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from foveal.errors import UserError
from foveal.hub import TROUBLE, is_name, reach, reason, status
from foveal.tasks.blindtest.saving import SAMPLE

#: Errors that an upload can raise.
_UPLOAD_TROUBLE: tuple[type[Exception], ...] = (*TROUBLE, ValueError, RuntimeError)


def check_name(key: str, text: str) -> None:
    """Checks the name of a data set on the Hub.

    Raises:
        UserError: It is no OWNER/NAME.
    """
    if not is_name(text):
        raise UserError(
            f"{key}: {text!r} is no name on the Hub; give OWNER/NAME, e.g. ada/lines (letters, digits, - _ and .)."
        )


def push(folder: Path, splits: Sequence[str], name: str, *, private: bool) -> None:
    """Uploads splits with their dataset cards, into a new or an existing repository.

    In the repository only these splits are replaced. Other files of the folder are not sent.

    Args:
        folder: The data set.
        splits: Folders in it, with / between parts, e.g. ``train`` or ``lines/train``. The README.md and the sample
            picture beside each are sent too.
        name: OWNER/NAME.
        private: Whether a new repository is visible to its owner only.

    Raises:
        UserError: The Hub cannot be reached or refuses; the folder stays as it is.
    """
    trouble = reach(name, None)
    # The repository need not exist yet, so only a server that fails or does not respond is an error.
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
