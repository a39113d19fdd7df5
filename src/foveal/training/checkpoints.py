"""Checkpoints of a run: committed in one step, and all that follows from them put right when a run is resumed.

A checkpoint's folder holds, beside weights and optimizer, all measurements so far and which checkpoint is the best. It is
written under a temporary name; the one rename that gives it its own name makes all of that true together. The links
``last`` and ``best`` and ``metrics.csv`` only repeat it, so a process may be killed anywhere.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import TrainerState
from transformers.trainer_pt_utils import safe_globals

from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.files import UNFINISHED, disk_errors, remove_unfinished
from foveal.runs import Run
from foveal.vlm import memory

#: Beside the weights in every checkpoint: the measurements, the best, and what the running epoch has summed up so far.
PROGRESS_FILE = "foveal_progress.json"
#: What a checkpoint must have for a training to go on exactly.
_PARTS = ("trainer_state", "foveal_progress", "optimizer", "scheduler", "rng_state")
_NAME = re.compile(r"(epoch|step)-[0-9]+")
#: Names of what is being written, replaced or removed.
_TEMPORARY = (".writing-*", ".removed-*", ".last.*", ".best.*")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was committed.

    Attributes:
        folder: Where it is.
        state: How far the training had come.
        history: Rows of ``metrics.csv``.
        best: The step of the best checkpoint; None where there is none yet.
        processes: How many trained; None where that was not kept.
        sums: The running epoch's; see ``Epoch.sums``.
    """

    folder: Path
    state: TrainerState
    history: list[dict[str, Any]]
    best: int | None
    processes: int | None
    sums: Mapping[str, Any]


def last_checkpoint(run: Run) -> Checkpoint | None:
    """The checkpoint that a resumed training starts from, the one with most steps; None where there is none yet.

    Raises:
        UserError: It is gone, lacks a part or is damaged.
    """
    last = run.checkpoints / "last"
    again = f"train anew with `foveal train {run.recipe} --name NEW`."
    if last.is_symlink() and not last.exists():
        raise UserError(f"{last}: its checkpoint {last.readlink()} is gone; restore it, or {again}")
    linked = last.resolve()
    folder = max(_folders(run.checkpoints), key=lambda p: (_step(p), p == linked), default=None)
    if folder is None and last.is_dir():
        folder = last
    if folder is None:
        # The first row of the table comes with the first checkpoint.
        if run.metrics.exists() or run.report.exists():
            raise UserError(f"{run.checkpoints}: its checkpoints are gone; restore them, or {again}")
        return None
    # One whose steps cannot be told any more sorts behind all others.
    folder = linked if last.exists() and _step(linked) < 0 else folder
    for name in _PARTS:
        if not any(folder.glob(f"{name}*")):
            raise UserError(f"{folder}: lacks {name}, so the run cannot be continued exactly; restore the file.")
    return _read(run, folder)


def _folders(root: Path) -> list[Path]:
    """The folders of checkpoints, without the links."""
    return [p for p in root.glob("*-*") if _NAME.fullmatch(p.name) and p.is_dir() and not p.is_symlink()]


def _step(folder: Path) -> int:
    """The steps that led to a checkpoint; -1 where that cannot be read."""
    try:
        return int(json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["global_step"])
    except (OSError, ValueError, TypeError, KeyError):
        return -1


def _read(run: Run, folder: Path) -> Checkpoint:
    """A checkpoint's own account of the training.

    Raises:
        UserError: It is damaged.
    """
    file = folder / "trainer_state.json"
    try:
        state = TrainerState.load_from_json(str(file))
        epoch, _ = float(state.epoch or 0.0), int(state.global_step)
        file = folder / PROGRESS_FILE
        saved = json.loads(file.read_text(encoding="utf-8"))
        sums = {**saved, "steps": int(saved["steps"]), "rows": int(saved["rows"]), "loss": float(saved["loss"])}
        rows = saved.get("history")
        if rows is not None and not all(isinstance(row["epoch"], float) for row in rows):
            raise ValueError("a measurement has no epoch")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); the checkpoint is damaged, restore the file.") from error
    if rows is not None:
        rows = [{k: math.nan if v is None else v for k, v in row.items()} for row in rows]  # JSON has no other word
        return Checkpoint(folder, state, rows, saved.get("best"), saved.get("processes"), sums)
    # A checkpoint from before it held its measurements; rows carry the epoch with six decimals.
    rows = [r for r in run.read_metrics() if float(r["epoch"]) <= round(epoch, 6)]
    best = run.checkpoints / "best"
    return Checkpoint(folder, state, rows, _step(best) if best.exists() else None, _processes(run), sums)


def _processes(run: Run) -> int | None:
    """How many processes began the run, as its folder tells."""
    try:
        return int(json.loads((run.path / "environment.json").read_text(encoding="utf-8"))["world_size"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def settle(run: Run, keep: int) -> Checkpoint | None:
    """Finds the last checkpoint of a run that this process owns, and puts right what a kill may have left undone.

    Args:
        run: The run.
        keep: See ``commit``.

    Raises:
        UserError: See ``last_checkpoint``; the best one is gone, or the disk is full.
    """
    saved = last_checkpoint(run)
    root = run.checkpoints
    for path in [p for pattern in _TEMPORARY for p in root.glob(pattern)]:
        shutil.rmtree(path, ignore_errors=True)
    for path in run.path.glob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True) if path.is_file() else None
    remove_unfinished(run.path)
    if saved is None:
        return None
    best, link = saved.best, root / "best"
    there = link.exists() or not link.is_symlink()
    if best is not None:
        there = _of_step(root, best) is not None or _is_copy(link, best)
    if not there:
        where = link.readlink() if link.is_symlink() else f"of step {best}"
        raise UserError(
            f"{link}: its checkpoint {where} is gone; restore it, or train anew with `foveal train {run.recipe} --name NEW`."
        )
    with disk_errors(root):
        _link(root, saved.folder.name, best)
        run.rewrite_metrics(saved.history)
        _prune(root, keep)
    return saved


def commit(
    run: Run, folder: Path, name: str, *, best: int | None, history: Sequence[Mapping[str, Any]], keep: int
) -> None:
    """Gives a written checkpoint its name, in one step; then links it and removes those that are no longer kept.

    Args:
        run: The run.
        folder: The checkpoint under its temporary name.
        name: Its name; where a checkpoint of other steps has it, this one is called by its steps.
        best: The step of the best one.
        history: Rows of ``metrics.csv``.
        keep: Epochs kept beside best and last; 0 keeps all.
    """
    root = run.checkpoints
    target = root / name
    if target.exists():
        target = root / f"step-{_step(folder)}"
    if target.exists():
        _remove(target)
    for path in (*folder.iterdir(), folder):
        _sync(path)
    os.replace(folder, target)
    _sync(root)
    shutil.rmtree(folder.parent, ignore_errors=True)
    _link(root, target.name, best)
    run.rewrite_metrics([dict(row) for row in history])
    _prune(root, keep)


def _prune(root: Path, keep: int) -> None:
    """Removes checkpoints that are no longer kept."""
    pinned = {(root / link).resolve() for link in ("best", "last")}
    folders = sorted(_folders(root), key=_step)
    epochs = [p for p in folders if p.name.startswith("epoch-")]
    steps = [p for p in folders if p.name.startswith("step-")]
    for path in (*(epochs[:-keep] if keep else []), *steps):
        # Where links cannot be made, the newest must stay beside its copy.
        if path.resolve() not in pinned and path != folders[-1]:
            _remove(path)


def _sync(path: Path) -> None:
    """Makes sure that what was written is on the disk, also if the machine's power fails."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    """Removes a checkpoint; at no time is a part of it there under its name."""
    gone = folder.with_name(f".removed-{folder.name}")
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _of_step(root: Path, step: int) -> Path | None:
    """The checkpoint that so many steps led to."""
    return next((p for p in sorted(_folders(root)) if _step(p) == step), None)


def _is_copy(link: Path, step: int) -> bool:
    """Whether in place of a link there is a copy of the checkpoint of that step, where links cannot be made."""
    return link.is_dir() and not link.is_symlink() and _step(link) == step


def _link(root: Path, last: str, best: int | None) -> None:
    """Points ``last`` and ``best`` where they shall point."""
    better = None if best is None else _of_step(root, best)
    for link, target in ((root / "last", root / last), (root / "best", better)):
        points = target is not None and link.is_symlink() and link.readlink() == Path(target.name)
        if target is not None and not points and not _is_copy(link, _step(target)):
            point(link, target.name)


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


def damaged_file(folder: Path) -> tuple[Path, str] | None:
    """The first file of a checkpoint that cannot be read, and the reason."""
    for file in sorted(folder.iterdir()):
        try:
            if file.suffix in (".pt", ".pth"):
                with safe_globals():
                    torch.load(file, map_location="cpu", weights_only=True)
            elif file.suffix == ".safetensors":
                with safe_open(file, "pt") as stream:
                    stream.keys()
            elif file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
        except Exception as error:  # of which garbage raises any
            return file, re.split(r"\n|[.] ", str(error) or type(error).__name__)[0]
    return None


def checkpoint_bytes(recipe: Recipe, model: nn.Module) -> int:
    """About how large a checkpoint is."""
    weights = memory.weight_bytes(model) if recipe.model.adapter == "none" else memory.gradient_bytes(model)
    return weights + memory.optimizer_bytes(model, recipe.training.optimizer)


#: What the libraries raise that write a checkpoint.
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError, UserError)


def not_written(error: BaseException, run: Run, *, needed: int, free: int) -> UserError:
    """The sentence of a checkpoint that could not be written; libraries tell a full disk in several ways.

    Args:
        error: What was raised.
        run: The run.
        needed: About how many bytes a checkpoint takes.
        free: How many were free before it was begun.
    """
    inner = error.__cause__ if isinstance(error, UserError) else error
    number, text = getattr(inner, "errno", None), f"{error} {inner}"
    room = "the disk is full; free some space"
    if number == errno.EFBIG or "File too large" in text:
        reason = "a file would be larger than the system allows; raise the limit (ulimit -f)"
    elif number == errno.EDQUOT or "quota" in text:
        reason = "the disk quota is used up; free some space"
    elif (
        number == errno.ENOSPC or "No space left" in text or "file write failed" in text or free < 1.2 * needed + 2**20
    ):
        reason = room
    else:
        reason = f"{str(inner or error).splitlines()[0].rstrip('.')}; put that right"
    return UserError(
        f"{run.checkpoints}: the checkpoint could not be written (about {needed:,} bytes needed, {free:,} free): {reason}, "
        f"then continue with: foveal train --resume {run.path}"
    )
