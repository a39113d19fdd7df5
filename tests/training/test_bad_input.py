"""Trainings that cannot go on, or cannot be taken up again: one sentence, and a folder that is whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small import is_whole, source_of
from torch.utils.data import get_worker_info

from foveal.tasks.classification.task import Classification

OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
    ),
)


# ---------------------------------------------------------------- rows that do not fit


@pytest.mark.parametrize("workers", [0, 2])
def test_a_later_row_that_does_not_fit_is_told_from_every_process_and_the_run_can_be_continued(
    job, tiny, command, monkeypatch, workers
):
    shutil.copytree(tiny("idefics3"), "short")
    config = json.loads(Path("short/config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 256
    Path("short/config.json").write_text(json.dumps(config))
    prompt = Classification.prompt

    def wordy(self, example, rng=None):
        made = prompt(self, example, rng)
        return type(made)(made.images, "long " * 300, None, made.answer) if example.id == "train/red/3.png" else made

    with monkeypatch.context() as patch:
        patch.setattr(Classification, "prompt", wordy)
        words = ["--model.id", "./short", "--training.workers", workers, "--training.batch_size", 1]
        message = command("train", job, "--name", "x", *words).sentence()
    assert message.startswith("train/red/3.png: the row is ") and "tokens long, the model's context is 256;" in message
    assert "shorten the text or lower model.image_size" in message
    assert not Path("runs/x/checkpoints").exists() and Path("runs/x/recipe.yaml").exists()
    assert command("train", "--resume", "runs/x").code == 0
    assert is_whole(Path("runs/x")) and Path("runs/x/report.html").exists()


def test_a_first_row_that_does_not_fit_leaves_nothing(job, tiny, command):
    message = command("train", job, "--data.question", "long " * 3000).sentence()
    assert message.startswith("train/blue/0.png: the row is ") and "the model's context is 2048" in message
    assert [p.name for p in Path.cwd().iterdir()] == ["r.yaml"]


def test_a_row_that_does_not_fit_leaves_nothing_of_an_evaluation(job, command):
    for words in (["evaluate", job], ["predict", job, "r.png", "--out", "out.jsonl"]):
        shutil.copy(next(Path(source_of(job), "test").rglob("*.png")), "r.png")
        message = command(*words, "--data.question", "long " * 3000).sentence()
        assert "tokens long, the model's context is 2048" in message
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["r.png", "r.yaml"]


# ---------------------------------------------------------------- memory, processes, Ctrl-C


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "cpu"])
def test_out_of_memory_in_every_command(job, run, command, monkeypatch, error):
    def explode(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("foveal.training.objectives.answer_loss", explode)
    monkeypatch.setattr("foveal.vlm.scoring.score", explode)
    picture = next(Path(source_of(job)).rglob("*.png"))
    for words in (
        ["train", job, "--name", "y"], ["train", job, "--name", "z", "--evaluation.before"], ["evaluate", run],
        ["evaluate", job, "--name", "none"], ["predict", run, picture, "--out", "out.jsonl"],
    ):  # fmt: skip
        message = command(*words).sentence()
        assert message.startswith("Out of memory (") and "Halve training.batch_size" in message
        assert "evaluation.batch_size" in message and "model.image_size" in message
    assert not Path("out.jsonl").exists() and not Path("runs/none").exists() and is_whole(run)


def test_a_worker_that_is_killed(job, command, monkeypatch):
    prompt = Classification.prompt

    def die(self, example, rng=None):
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return prompt(self, example, rng)

    monkeypatch.setattr(Classification, "prompt", die)
    message = command("train", job, "--training.workers", 1).sentence()
    assert (
        message.startswith("A process that prepares batches was ended from outside") and "training.workers" in message
    )


def test_ctrl_c_names_the_run_to_continue(job, command, monkeypatch):
    from foveal.training import objectives

    real, steps = objectives.answer_loss, iter(range(100))

    def interrupted(*arguments, **named):
        if next(steps) == 5:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(objectives, "answer_loss", interrupted)
        said = command("train", job, "--name", "x")
    assert said.code == 130
    assert said.err.strip() == "foveal: interrupted; continue with: foveal train --resume runs/x"
    assert is_whole(Path("runs/x"))
    assert "continuing from epoch-1" in command("train", "--resume", "runs/x").out


def test_ctrl_c_elsewhere(run, command, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("foveal.asking.models.LocalModel.score", interrupt)
    said = command("evaluate", run)
    assert (said.code, said.err.strip()) == (130, "foveal: interrupted")


@pytest.mark.slow
def test_a_real_ctrl_c_with_workers_shows_no_traceback(tmp_path):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    words = (
        "train blindtest-lines --name x --data.train 9999 --data.validation 3 --data.test 3 --evaluation.before false"
    )
    words += " --training.workers 2 --training.batch_size 2 --training.save_steps 2"
    started = subprocess.Popen(
        [sys.executable, "-m", "foveal.cli.main", *words.split()], cwd=tmp_path, env=env, start_new_session=True, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        # A shell's background jobs ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    try:
        while not (tmp_path / "runs/x/checkpoints/last").exists():
            assert started.poll() is None
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGINT)
        _, err = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 130
    assert err.strip() == "foveal: interrupted; continue with: foveal train --resume runs/x"


@pytest.mark.parametrize("package", ["wandb", "tensorboard", "trackio", "mlflow"])
def test_a_tracker_that_is_not_installed_is_told_before_anything_is_loaded(job, command, monkeypatch, package):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == package else real(name, *a))
    message = command("train", job, "--training.report_to", package).sentence()
    assert message.startswith(f"training.report_to: needs the package {package}; install it with: pip install ")
    assert not Path("runs").exists()


# ---------------------------------------------------------------- disks


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a tmpfs; skips where that is not possible."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small tmpfs needs root")

    def mount(options: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=False, capture_output=True)
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
        return disk

    yield mount
    subprocess.run(["umount", disk], check=False, capture_output=True)


def test_a_disk_that_fills_up_keeps_the_checkpoints_before_and_the_run_continues_with_more_space(
    job, command, small_disk
):
    disk = small_disk("size=3m")
    message = command(
        "train", job, "--output", disk, "--name", "x", "--training.epochs", 6, "--training.keep_epochs", 0
    ).sentence()
    run = disk / "x"
    assert "the disk is full; free some space" in message and f"foveal train --resume {run}" in message
    assert is_whole(run), "no part of the checkpoint that did not fit is left"
    there = sorted(p.name for p in (run / "checkpoints").glob("epoch-*"))
    assert there and len(there) < 6
    for name in there:
        load_file(run / "checkpoints" / name / "model.safetensors")
        torch.load(run / "checkpoints" / name / "optimizer.pt", weights_only=True)
    subprocess.run(["mount", "-o", "remount,size=30m", disk], check=True)
    assert command("train", "--resume", run).code == 0
    assert [p.name for p in sorted((run / "checkpoints").glob("epoch-*"))] == [f"epoch-{n}" for n in range(1, 7)]


def test_a_full_disk_leaves_nothing_of_pictures_that_are_made(tmp_path, command, small_disk):
    disk = small_disk("size=300k")
    message = command("data", "make", "blindtest/lines", "--folder", disk / "lines", "--num_images", 500).sentence()
    assert "the disk is full" in message
    assert not list(disk.iterdir())


def test_a_disk_without_room_for_a_run_at_all(job, command, small_disk):
    disk = small_disk("size=16k")
    (disk / "filler").write_bytes(b"x" * 4096 * 2)
    assert "the disk is full" in command("train", job, "--output", disk, "--name", "x").sentence()
    assert not list(disk.rglob(".*"))


def test_a_read_only_disk(job, run, command, small_disk):
    disk = small_disk("ro,size=1m")
    picture = next(Path(source_of(job)).rglob("*.png"))
    for words in (
        ["train", job, "--output", disk], ["evaluate", job, "--output", disk, "--name", "x"],
        ["predict", run, picture, "--out", disk / "a.jsonl"], ["data", "inspect", job, "--out", disk / "a.png"],
        ["data", "make", "blindtest/lines", "--folder", disk / "lines", "--num_images", 3],
    ):  # fmt: skip
        message = command(*words).sentence()
        assert str(disk) in message and "cannot be written" in message and "choose another folder" in message
