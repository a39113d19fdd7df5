"""A small training of two epochs, and a finished run of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small import write_recipe, write_squares


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("squares"), {"train": 4, "validation": 1, "test": 1})


@pytest.fixture
def job(tiny, squares, tmp_path, monkeypatch):
    """A recipe of two epochs of three steps, in the test's own folder."""
    monkeypatch.chdir(tmp_path)
    return write_recipe(Path("r.yaml"), squares, tiny("idefics3"), training="  epochs: 2\n")


@pytest.fixture(scope="module")
def trained(tiny, squares, tmp_path_factory):
    from rich.console import Console

    from foveal.config.reading import read_recipe
    from foveal.training.train import train

    folder = tmp_path_factory.mktemp("trained")
    path = write_recipe(folder / "r.yaml", squares, tiny("idefics3"), training="  epochs: 2\n")
    return train(read_recipe(path, ["--output", str(folder), "--name", "run"]), Console(quiet=True)).run.path


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of a finished run, runs/x."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained, tmp_path / "runs" / "x", symlinks=True).relative_to(tmp_path)
