from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from small import write_recipe, write_squares


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few coloured squares in folders. Tests must not write to it."""
    return write_squares(tmp_path_factory.mktemp("squares"), {"train": 4, "validation": 2, "test": 2})


@pytest.fixture(scope="session")
def trained(tiny: Callable[[str], Path], squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch. Tests must not write to it."""
    from foveal.config.reading import read_recipe
    from foveal.training.train import train

    folder = tmp_path_factory.mktemp("trained")
    path = write_recipe(folder / "r.yaml", squares, tiny("idefics3"), training="  epochs: 1\n")
    return train(read_recipe(path, ["--output", str(folder), "--name", "run"]), Console(quiet=True)).run.path


@pytest.fixture
def place(squares: Path, tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a recipe `r.yaml` of one epoch, in which the commands run."""
    write_recipe(tmp_path / "r.yaml", squares, tiny("idefics3"), training="  epochs: 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(trained: Path, place: Path) -> Path:
    """A copy of the trained run, `runs/x`."""
    return shutil.copytree(trained, place / "runs" / "x", symlinks=True).relative_to(place)
