"""A process may be killed anywhere: what a resumed training ends with is what an uninterrupted one would have."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from safetensors import SafetensorError
from small import write_recipe, write_squares

from foveal.config.reading import read_recipe
from foveal.errors import UserError
from foveal.runs import Run, open_run
from foveal.training.checkpoints import PROGRESS_FILE, commit, last_checkpoint, not_written, settle
from foveal.training.train import train

#: What changes a disk; all of them fail once a process is killed.
CALLS = ("replace", "rename", "symlink", "fsync", "mkdir", "unlink", "rmdir", "remove")
#: The validation metric after each epoch: the best is neither the first nor the last.
VALUES = (0.5, 0.75, 0.75, 0.5)


class Killed(BaseException):
    """The end of a process; no clean-up after it reaches the disk."""


@contextmanager
def killed_at(number: int) -> Iterator[list[int]]:
    """Kills the process at the call of that number; yields the calls so far."""
    calls = [0]
    with pytest.MonkeyPatch.context() as patch:

        def watched(real):
            def call(*words, **named):
                calls[0] += 1
                if calls[0] > number:
                    raise Killed
                return real(*words, **named)

            return call

        for name in CALLS:
            patch.setattr(os, name, watched(getattr(os, name)))
        # rmtree takes its functions when it is called; what it removes is seen by these.
        yield calls


def write_checkpoint(folder: Path, step: int, best: int | None, history: list[dict[str, float]]) -> None:
    folder.mkdir(parents=True)
    state = {"global_step": step, "epoch": step / 2, "max_steps": 2 * len(VALUES)}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (folder / name).write_text(name)
    sums = {"loss": 0.0, "steps": 0, "rows": 0, "history": history, "best": best, "processes": 1}
    (folder / PROGRESS_FILE).write_text(json.dumps(sums))


def go_on(run: Run, every: int, keep: int) -> None:
    """A training of two steps an epoch, as far as its checkpoints go, from the last one on."""
    saved = settle(run, keep)
    step, history, best = (saved.state.global_step, list(saved.history), saved.best) if saved else (0, [], None)
    while step < 2 * len(VALUES):
        step += 1
        name, due = f"step-{step}", every and step % every == 0
        if step % 2 == 0:
            name, due = f"epoch-{step // 2}", True
            value = VALUES[step // 2 - 1]
            if all(value > row["val_accuracy"] for row in history):
                best = step
            history.append({"epoch": step / 2, "step": step, "val_accuracy": value})
        if due:
            folder = run.checkpoints / f".writing-{name}" / f"checkpoint-{step}"
            shutil.rmtree(folder.parent, ignore_errors=True)
            write_checkpoint(folder, step, best, history)
            commit(run, folder, name, best=best, history=history, keep=keep)


def outcome(run: Run) -> dict[str, object]:
    links = {name: os.readlink(run.checkpoints / name) for name in ("best", "last")}
    return {**links, "there": sorted(os.listdir(run.checkpoints)), "metrics": run.metrics.read_text(),
            "history": run.history.read_text(), "all": sorted(os.listdir(run.path))}  # fmt: skip


def new_run(path: Path) -> Run:
    path.mkdir()
    (path / "recipe.yaml").touch()
    return Run(path)


@pytest.mark.parametrize(("every", "keep"), [(0, 1), (1, 0), (2, 1)])
def test_killed_at_every_call_and_resumed_it_ends_as_if_uninterrupted(tmp_path, monkeypatch, every, keep):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # a kill leaves what was written; this is only quicker
    whole = new_run(tmp_path / "whole")
    go_on(whole, every, keep)
    wanted = outcome(whole)
    assert (wanted["best"], wanted["last"]) == ("epoch-2", "epoch-4")
    assert [r["val_accuracy"] for r in whole.read_metrics()] == list(VALUES)
    for number in itertools.count():
        run = new_run(tmp_path / str(number))
        try:
            with killed_at(number):
                go_on(run, every, keep)
            break
        except Killed:
            pass
        saved = settle(run, keep)
        if saved is not None:
            rows = [r["val_accuracy"] for r in run.read_metrics()]
            assert rows == list(VALUES[: saved.state.global_step // 2]), number
            assert (run.checkpoints / "last").resolve() == saved.folder.resolve()
        go_on(run, every, keep)
        # What one more kill would leave behind is put in order by the next start.
        settle(run, keep)
        assert outcome(run) == wanted, number
    assert number > 50, "the calls were counted"


def test_a_name_that_other_steps_have_is_left_to_them(tmp_path):
    run = new_run(tmp_path / "run")
    for step in (3, 4):
        folder = run.checkpoints / ".writing-epoch-2" / f"checkpoint-{step}"
        write_checkpoint(folder, step, step, [{"epoch": step / 2, "step": step}])
        commit(run, folder, "epoch-2", best=step, history=[{"epoch": step / 2}], keep=0)
    assert os.readlink(run.checkpoints / "last") == os.readlink(run.checkpoints / "best") == "step-4"
    assert sorted(os.listdir(run.checkpoints)) == ["best", "epoch-2", "last", "step-4"]


def test_where_links_cannot_be_made_copies_are_put_right_too(tmp_path, monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "symlink", refused)
    run = new_run(tmp_path / "run")
    go_on(run, 0, 1)
    steps = {
        n: json.loads((run.checkpoints / n / "trainer_state.json").read_text())["global_step"] for n in ("best", "last")
    }
    assert steps == {"best": 4, "last": 8}
    shutil.rmtree(run.checkpoints / "best")
    shutil.copytree(run.checkpoints / "last", run.checkpoints / "best")
    with pytest.raises(UserError, match="its checkpoint of step 4 is gone"):
        settle(run, 1)


def test_a_best_checkpoint_that_is_gone_ends_the_resume(tmp_path):
    run = new_run(tmp_path / "run")
    go_on(run, 0, 1)
    shutil.rmtree(run.checkpoints / "epoch-2")
    with pytest.raises(UserError) as error:
        settle(run, 1)
    assert str(error.value) == (
        f"{run.checkpoints}/best: its checkpoint epoch-2 is gone; restore it, or train anew with "
        f"`foveal train {run.recipe} --name NEW`."
    )
    checkpoint = last_checkpoint(run)
    assert checkpoint is not None and checkpoint.folder.name == "epoch-4"


@pytest.mark.parametrize(("error", "free", "reason"), [
    (OSError(errno.ENOSPC, "No space left on device"), 10**9, "the disk is full; free some space"),
    (RuntimeError("[enforce fail] unexpected pos 64 vs 0"), 100, "the disk is full; free some space"),
    (SafetensorError("I/O error: File too large (os error 27)"), 10**9,
     "a file would be larger than the system allows; raise the limit (ulimit -f)"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), 10**9, "the disk quota is used up; free some space"),
    (RuntimeError("strange.\nmore"), 10**9, "strange; put that right"),
])  # fmt: skip
def test_why_a_checkpoint_could_not_be_written(error, free, reason):
    assert str(not_written(error, Run(Path("runs/x")), needed=5000, free=free)) == (
        f"runs/x/checkpoints: the checkpoint could not be written (about 5,000 bytes needed, {free:,} free): {reason}, "
        "then continue with: foveal train --resume runs/x"
    )


@pytest.mark.slow
def test_a_real_training_killed_at_many_calls_ends_with_the_same_table_best_and_last(tiny, tmp_path):
    """The run has checkpoints inside its epochs, and one where an epoch ends."""
    squares = write_squares(tmp_path / "squares", {"train": 2, "validation": 2, "test": 1})
    path = write_recipe(
        tmp_path / "r.yaml", squares, tiny("idefics3"), training="  epochs: 3\n  save_steps: 1\n  schedule: constant\n"
    )

    def outcome_of(run: Path) -> tuple[object, ...]:
        with (run / "metrics.csv").open() as stream:
            rows = [(r["epoch"], r["step"], r["train_loss"], r["val_loss"]) for r in csv.DictReader(stream)]
        names = [os.readlink(run / "checkpoints" / n) for n in ("best", "last")]
        return rows, names, sorted(os.listdir(run / "checkpoints"))

    def job(name: str):
        return read_recipe(path, ["--output", str(tmp_path / "runs"), "--name", name])

    quiet = Console(quiet=True)
    with killed_at(10**9) as calls:
        wanted = outcome_of(train(job("whole"), quiet).run.path)
    for number in range(0, calls[0], calls[0] // 12):
        with pytest.raises(Killed), killed_at(number):
            train(job(str(number)), quiet)
        run = tmp_path / "runs" / str(number)
        if (run / "recipe.yaml").exists():
            train(read_recipe(run / "recipe.yaml"), quiet, resume=open_run(run))
            assert outcome_of(run) == wanted, number
