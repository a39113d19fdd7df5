"""Checkpoints of a run: published in one step, linked as last and best, found again when a run is resumed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from transformers import TrainerState

from foveal.errors import UserError
from foveal.runs import Run

#: Beside the weights in every checkpoint: what the running epoch has summed up so far.
PROGRESS_FILE = "foveal_progress.json"
#: What a checkpoint must have for a training to go on exactly.
_PARTS = ("trainer_state", "foveal_progress", "optimizer", "scheduler", "rng_state")


def last_checkpoint(run: Run) -> Path | None:
    """The checkpoint that a resumed training starts from; None where there is none yet.

    Raises:
        UserError: It is gone, or lacks a part.
    """
    last = run.checkpoints / "last"
    if last.is_symlink() and not last.exists():
        raise UserError(
            f"{last}: its checkpoint {last.readlink()} is gone; restore it, or train anew with "
            f"`foveal train {run.recipe} --name NEW`."
        )
    if not last.exists():
        return None
    folder = run.checkpoint("last")
    for name in _PARTS:
        if not any(folder.glob(f"{name}*")):
            raise UserError(f"{folder}: lacks {name}, so the run cannot be continued exactly; restore the file.")
    return folder


def read_state(checkpoint: Path) -> TrainerState:
    """How far the training had come.

    Raises:
        UserError: The file is damaged.
    """
    file = checkpoint / "trainer_state.json"
    try:
        return TrainerState.load_from_json(str(file))
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); the checkpoint is damaged, restore it.") from error


def publish(folder: Path, target: Path, *, best: bool, keep: int) -> None:
    """Gives a written checkpoint its name, in one step, and removes those that are no longer kept.

    Args:
        folder: The checkpoint under its temporary name.
        target: Its name among the run's checkpoints; an older one of that name is replaced.
        best: Whether it is the best so far.
        keep: Epochs kept beside best and last; 0 keeps all.
    """
    root = target.parent
    if target.exists():
        shutil.rmtree(target)
    os.replace(folder, target)
    shutil.rmtree(folder.parent, ignore_errors=True)
    point(root / "last", target.name)
    if best:
        point(root / "best", target.name)
    pinned = {(root / link).resolve() for link in ("best", "last")}
    epochs = sorted(root.glob("epoch-*"), key=lambda p: int(p.name.split("-")[1]))
    old = [*(epochs[:-keep] if keep else []), *(p for p in root.glob("step-*") if p != target)]
    for path in old:
        if path.resolve() not in pinned:
            shutil.rmtree(path)


def point(link: Path, name: str) -> None:
    """Makes ``link`` a symbolic link to its sibling ``name``, in one step; where links cannot be made, a copy."""
    temporary = Path(tempfile.mkdtemp(dir=link.parent, prefix=f".{link.name}."))
    try:
        fresh = temporary / link.name
        try:
            fresh.symlink_to(name)
        except OSError:
            shutil.copytree(link.parent / name, fresh)
            if link.exists():
                shutil.rmtree(link)
        os.replace(fresh, link)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def disk_is_full(error: Exception, root: Path) -> bool:
    """Whether a checkpoint could not be written for lack of room; libraries tell it in several ways."""
    text = str(error)
    return "No space left" in text or "file write failed" in text or shutil.disk_usage(root).free < 1_000_000
