from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from foveal import devices
from foveal.devices import ALLOCATOR, MPS_FALLBACK, prepare


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Makes this machine look like another, with none of the variables set."""
    for name in (*ALLOCATOR, MPS_FALLBACK):
        monkeypatch.setenv(name, "")  # so that it is as before at the end
        monkeypatch.delenv(name)

    def like(system: str, processor: str, *, nvidia: bool = False) -> None:
        driver = tmp_path / "nvidiactl"
        driver.touch() if nvidia else driver.unlink(missing_ok=True)
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(platform, "machine", lambda: processor)
        monkeypatch.setattr(devices, "_NVIDIA", (driver,))

    return like


GROWING = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}


@pytest.mark.parametrize(
    ("system", "processor", "nvidia", "device", "set_"),
    [
        ("linux", "x86_64", True, "auto", GROWING),
        ("linux", "x86_64", True, "cuda", GROWING),
        ("linux", "x86_64", True, "cuda:1", GROWING),
        ("linux", "x86_64", True, "cpu", {}),
        ("linux", "x86_64", False, "auto", {}),
        ("win32", "AMD64", True, "cuda", {}),
        ("darwin", "arm64", False, "auto", {MPS_FALLBACK: "1"}),
        ("darwin", "arm64", False, "mps", {MPS_FALLBACK: "1"}),
        ("darwin", "arm64", False, "cpu", {}),
        ("darwin", "x86_64", False, "auto", {}),
    ],
)
def test_variables_are_set_where_they_matter_and_only_there(machine, system, processor, nvidia, device, set_):
    machine(system, processor, nvidia=nvidia)
    assert prepare(device) == set_
    assert prepare(device) == {}, "it is set already"


@pytest.mark.parametrize("name", ALLOCATOR)
def test_what_the_user_has_set_of_the_allocator_stays(machine, monkeypatch, name):
    machine("linux", "x86_64", nvidia=True)
    monkeypatch.setenv(name, "max_split_size_mb:128")
    assert prepare("cuda") == {}


def test_what_the_user_has_set_of_the_fallback_stays(machine, monkeypatch):
    machine("darwin", "arm64")
    monkeypatch.setenv(MPS_FALLBACK, "0")
    assert prepare("mps") == {}


def test_commands_do_not_import_torch_before_they_have_prepared():
    lines = """
import sys
import foveal.devices, foveal.cli.quickstart, foveal.cli.evaluate, foveal.cli.predict, foveal.cli.train, foveal.cli.doctor
from foveal.cli.main import main
def stop(device):
    assert "torch" not in sys.modules, "torch was imported too early"
    raise SystemExit(f"prepared {device}")
for name in ("quickstart", "evaluate", "predict", "train", "doctor"):
    getattr(foveal.cli, name).prepare = stop
for words in ("quickstart", "train counting", "evaluate quickstart", "predict quickstart .", "doctor", "doctor counting"):
    try:
        main([*words.split(), "--model.device", "cpu"])
    except SystemExit as done:
        assert str(done) == "prepared cpu", (words, done)
    else:
        raise AssertionError(words)
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
