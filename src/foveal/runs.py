"""The run folder: all that a training made and all that is needed to repeat, resume, evaluate or predict with it."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from foveal.errors import UserError
from foveal.files import check_writable, disk_errors, write_json, write_text
from foveal.locks import lock

#: Packages whose versions decide what a run gives.
PACKAGES = ("foveal", "torch", "transformers", "peft", "accelerate", "datasets", "bitsandbytes", "numpy", "pillow")


@dataclass(frozen=True)
class Run:
    """A run's folder and the names of what lies in it."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def metrics(self) -> Path:
        """A row for each epoch."""
        return self.path / "metrics.csv"

    @property
    def history(self) -> Path:
        """The same rows as a JSON list."""
        return self.path / "history.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    def evaluation(self, split: str) -> Path:
        """Folder of the results on a split."""
        return self.path / "evaluation" / split

    def checkpoint(self, name: str = "best") -> Path:
        """The folder of a checkpoint: ``best``, ``last``, ``epoch-N`` or ``step-N``.

        Without any that is best, ``best`` is the last.

        Raises:
            UserError: The run has none of that name, or it is a link whose checkpoint is gone.
        """
        link = self.checkpoints / name
        if name in ("best", "last") and link.is_symlink() and not link.exists():
            raise UserError(
                f"{link}: its checkpoint {link.readlink()} is gone; restore it, or choose another checkpoint by its name."
            )
        have = sorted(p.name for p in self.checkpoints.glob("[!.]*") if p.exists())
        chosen = "last" if name == "best" and name not in have else name
        if chosen not in have:
            remedy = (
                f"choose one of {', '.join(have)}" if have else f"train it with `foveal train --resume {self.path}`"
            )
            raise UserError(f"{self.path}: has no checkpoint {name!r}{'' if have else ' yet'}; {remedy}.")
        return (self.checkpoints / chosen).resolve()

    def write_json(self, name: str, value: Any) -> None:
        """Writes ``value`` as ``name`` in the run's folder, in one step."""
        write_json(self.path / name, value)

    def read_metrics(self) -> list[dict[str, float | str]]:
        """Rows of ``metrics.csv``, numbers as floats; empty where there is none yet.

        Raises:
            UserError: The file is no table of measurements.
        """
        if not self.metrics.is_file():
            return []
        try:
            with self.metrics.open(newline="", encoding="utf-8") as stream:
                table = list(csv.DictReader(stream))
            rows = [{k: _number(v) for k, v in row.items() if k is not None and v} for row in table]
            if bad := [n for n, row in enumerate(rows, 2) if not isinstance(row.get("epoch"), float)]:
                raise ValueError(f"line {bad[0]} has no number in the column epoch")
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{self.metrics}: cannot be read ({error}); restore the file, or remove it.") from error
        return rows

    def rewrite_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Replaces ``metrics.csv`` and ``history.json``, each in one step; no rows remove them.

        What is missing in a row's line of the table is left out of its object; what is no number is null there.
        """
        if not rows:
            self.metrics.unlink(missing_ok=True)
            self.history.unlink(missing_ok=True)
            return
        columns = list(dict.fromkeys(k for r in rows for k in r))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            [{k: (repr(v).removesuffix(".0") if isinstance(v, float) else v) for k, v in r.items()} for r in rows]
        )
        write_text(self.metrics, text.getvalue())
        finite = [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in r.items()} for r in rows]
        write_text(self.history, json.dumps(finite, indent=1, allow_nan=False) + "\n")


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def check_new_run(output: str, name: str | None) -> None:
    """Finds out early whether ``create_run`` would work; writes nothing.

    Raises:
        UserError: The folder holds another run or other files, or cannot be written.
    """
    if name is not None and (not name.strip() or {"/", "\\", "\0"} & set(name) or name in (".", "..")):
        raise UserError(f"name: {name!r} cannot be a folder's name; choose one without slashes.")
    if name is not None and len(os.fsencode(name)) > 255:
        raise UserError(f"name: {name[:20]!r}... is too long; choose one of at most 255 letters.")
    path = Path(output, name or "")
    with disk_errors(path):
        if name is not None and path.exists() and (not path.is_dir() or any(path.iterdir())):
            what = "holds another run" if is_run(path) else "is not empty" if path.is_dir() else "is a file"
            remedy = f", continue it with `foveal train --resume {path}`" if is_run(path) else ""
            raise UserError(f"{path}: {what}; choose another --name{remedy}, or remove it.")
    check_writable(path / "recipe.yaml")


def run_name(what: str) -> str:
    """A folder's name from words and the time."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', what)}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"


def create_run(output: str, name: str | None, *, default_name: str) -> Run:
    """Makes the folder of a new run.

    Raises:
        UserError: See ``check_new_run``.
    """
    check_new_run(output, name)
    if name is not None:
        path = Path(output, name)
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return Run(path)
    stem = run_name(default_name)
    # Runs that start in the same second (a sweep's) get folders of their own.
    for number in itertools.count(1):
        path = Path(output, stem if number == 1 else f"{stem}-{number}")
        with disk_errors(path), contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            return Run(path)
    raise AssertionError("unreachable")


def open_run(path: str | os.PathLike[str]) -> Run:
    """An existing run.

    Raises:
        UserError: The folder does not hold a run.
    """
    run = Run(Path(path))
    if not run.path.is_dir():
        what = "is a file" if run.path.exists() else "there is no such folder"
        raise UserError(f"{path}: {what}; give the folder of a run, e.g. runs/NAME.")
    if folds := fold_runs(path):
        raise UserError(f"{path}: holds runs of folds; name one of them, e.g. {folds[0]}.")
    if not run.recipe.is_file():
        raise UserError(f"{path}: holds no run (it has no recipe.yaml); give the folder of a run, e.g. runs/NAME.")
    return run


def checkpoint_of(run: Run | None, name: str) -> Path | None:
    """The folder of a run's checkpoint, see ``Run.checkpoint``; None where there is no run.

    Raises:
        UserError: The run has none of that name, or one is named without a run.
    """
    if run is not None:
        return run.checkpoint(name)
    if name != "best":
        raise UserError(f"checkpoint: {name!r} can be chosen of a run only, and this is none; leave it out.")
    return None


def is_run(path: str | os.PathLike[str]) -> bool:
    """Whether the folder holds a run."""
    return (Path(path) / "recipe.yaml").is_file()


def fold_run(path: str | os.PathLike[str], fold: int) -> Path:
    """Where the run of a fold lies in the folder of a training on several folds."""
    return Path(path) / f"fold-{fold}"


def fold_runs(path: str | os.PathLike[str]) -> list[Path]:
    """The folders of the runs of folds in the folder of a training on several folds; none where it is none."""
    folds = [p for p in Path(path).glob("fold-*") if p.name[5:].isdecimal() and is_run(p)]
    return [] if is_run(path) else sorted(folds, key=lambda p: int(p.name[5:]))


def world_size() -> int:
    """Processes that train together, as a launcher (`torchrun`) tells them.

    Raises:
        UserError: The number is none, or what else a launcher tells is missing.
    """
    told = os.environ.get("WORLD_SIZE", "1")
    numbers = {name: os.environ.get(name, "0") for name in ("RANK", "LOCAL_RANK", "MASTER_PORT")}
    numbers["WORLD_SIZE"] = told
    remedy = "start with torchrun, which sets it, or remove it from the environment."
    if wrong := [name for name, value in numbers.items() if not re.fullmatch(r"[0-9]{1,6}", value)]:
        raise UserError(f"{wrong[0]}: {numbers[wrong[0]]!r} in the environment is no number; {remedy}")
    size = int(told)
    if size < 1 or int(numbers["RANK"]) >= size:
        raise UserError(f"WORLD_SIZE: {size} in the environment does not go with RANK {numbers['RANK']}; {remedy}")
    missing = [n for n in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
    if size > 1 and missing:
        raise UserError(f"WORLD_SIZE: is {size} in the environment, but {', '.join(missing)} is not set; {remedy}")
    return size


@contextlib.contextmanager
def owned(run: Run) -> Iterator[None]:
    """Keeps other processes from training the run within the block; its end, however it comes, sets the run free.

    Raises:
        UserError: Another process trains it.
    """
    with contextlib.ExitStack() as stack:
        with disk_errors(run.path):
            free = stack.enter_context(lock(run.path))
        if free is False:
            raise UserError(f"{run.path}: is being trained by another process; wait for it, or choose another run.")
        yield


def environment() -> dict[str, Any]:
    """Versions, hardware, git commit and command line, for ``environment.json``."""
    import torch

    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    commit = None
    if git := shutil.which("git"):
        head = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        commit = head.stdout.strip() or None
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "packages": versions,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": {"threads": torch.get_num_threads(), "capability": torch.backends.cpu.get_cpu_capability()},
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git_commit": commit,
        "world_size": world_size(),
    }
