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
from small import write_recipe, write_squares
from torch.utils.data import get_worker_info

from foveal.tasks.classification.task import Classification

OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
    ),
)


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


def change(run: Path, old: str, new: str) -> None:
    text = (run / "recipe.yaml").read_text()
    assert old in text
    (run / "recipe.yaml").write_text(text.replace(old, new))


def is_whole(run: Path) -> bool:
    """Whether the run's last checkpoint can be read and nothing temporary lies about."""
    load_file(run / "checkpoints" / "last" / "model.safetensors")
    return not list(run.rglob(".*"))


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
        shutil.copy(next(Path(_source(job), "test").rglob("*.png")), "r.png")
        message = command(*words, "--data.question", "long " * 3000).sentence()
        assert "tokens long, the model's context is 2048" in message
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["r.png", "r.yaml"]


def _source(recipe: Path) -> str:
    import yaml

    return str(yaml.safe_load(recipe.read_text())["data"]["source"])


# ---------------------------------------------------------------- memory, processes, Ctrl-C


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "cpu"])
def test_out_of_memory_in_every_command(job, run, command, monkeypatch, error):
    def explode(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("foveal.training.objectives.answer_loss", explode)
    monkeypatch.setattr("foveal.vlm.scoring.score", explode)
    picture = next(Path(_source(job)).rglob("*.png"))
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
    picture = next(Path(_source(job)).rglob("*.png"))
    for words in (
        ["train", job, "--output", disk], ["evaluate", job, "--output", disk, "--name", "x"],
        ["predict", run, picture, "--out", disk / "a.jsonl"], ["data", "inspect", job, "--out", disk / "a.png"],
        ["data", "make", "blindtest/lines", "--folder", disk / "lines", "--num_images", 3],
    ):  # fmt: skip
        message = command(*words).sentence()
        assert str(disk) in message and "cannot be written" in message and "choose another folder" in message


# ---------------------------------------------------------------- runs that are taken up again


def test_a_finished_run_says_so_and_keeps_its_weights(run, command):
    before = load_file(run / "checkpoints/last/model.safetensors")
    said = command("train", "--resume", run)
    assert said.code == 0 and "The training was finished already; it is only measured again." in said.out
    after = load_file(run / "checkpoints/last/model.safetensors")
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("words", ["--training.max_steps 2", "--training.epochs 1.5",
                                   "--training.epochs 9 --training.early_stopping 1 --training.learning_rate 1e-12"])  # fmt: skip
def test_a_run_that_ended_inside_an_epoch_or_early_is_finished_too(job, command, words):
    assert command("train", job, "--name", "x", *words.split()).code == 0
    last = Path("runs/x/checkpoints/last").resolve()
    weights = (last / "model.safetensors").read_bytes()
    rows = Path("runs/x/metrics.csv").read_text()
    assert "finished already" in command("train", "--resume", "runs/x").out
    assert Path("runs/x/checkpoints/last").resolve() == last and (last / "model.safetensors").read_bytes() == weights
    assert Path("runs/x/metrics.csv").read_text() == rows


def test_the_end_inside_an_epoch_does_not_take_the_name_of_the_epoch_before(job, command):
    assert command("train", job, "--name", "x", "--training.epochs", 1.3, "--training.keep_epochs", 0).code == 0
    state = json.loads(Path("runs/x/checkpoints/epoch-1/trainer_state.json").read_text())
    assert state["global_step"] == 3, "the first epoch's checkpoint is the first epoch's"
    assert Path("runs/x/checkpoints/last").resolve().name == "epoch-2"


def test_a_run_that_was_ended_before_its_first_checkpoint_starts_anew(run, command):
    whole = (run / "metrics.csv").read_text().splitlines()
    shutil.rmtree(run / "checkpoints")
    shutil.rmtree(run / "evaluation")
    for file in ("label_mask.txt", "metrics.csv", "history.json", "report.html"):
        (run / file).unlink()
    assert command("train", "--resume", run).code == 0
    assert (run / "label_mask.txt").exists() and is_whole(run)
    rows = (run / "metrics.csv").read_text().splitlines()
    assert [r.split(",")[:4] for r in rows] == [r.split(",")[:4] for r in whole], "the same training, row by row"


def test_a_finished_run_learns_on_with_more_epochs_in_its_recipe(run, command):
    change(run, "epochs: 2.0", "epochs: 3.0")
    said = command("train", "--resume", run)
    assert said.code == 0 and "continuing from epoch-2" in said.out
    assert Path(run, "checkpoints/last").resolve().name == "epoch-3"


@pytest.mark.parametrize(
    "file", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "foveal_progress.json", "trainer_state.json"]
)
def test_a_checkpoint_that_lacks_a_file_is_not_continued(run, command, file):
    (run / "checkpoints/last" / file).unlink()
    message = command("train", "--resume", run).sentence()
    assert f"epoch-2: lacks {file.split('.')[0]}, so the run cannot be continued exactly" in message


@pytest.mark.parametrize("damage", ["cut", "garbage"])
@pytest.mark.parametrize(
    "file",
    [
        "optimizer.pt",
        "model.safetensors",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
        "foveal_progress.json",
    ],
)
def test_a_checkpoint_with_a_damaged_file_is_not_continued(run, command, file, damage):
    change(run, "epochs: 2.0", "epochs: 3.0")
    victim = run / "checkpoints/last" / file
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 3] if damage == "cut" else bytes(range(256)) * 9)
    message = command("train", "--resume", run).sentence()
    assert message.startswith(f"{Path.cwd() / run / 'checkpoints/epoch-2' / file}: cannot be read (") or (
        message.startswith(f"{run / 'checkpoints/epoch-2' / file}: cannot be read (")
    )
    assert "the checkpoint is damaged" in message and "restore the file" in message


def test_checkpoints_that_are_gone_are_not_replaced_by_a_new_start(run, command):
    table = (run / "metrics.csv").read_text()
    shutil.rmtree(run / "checkpoints")
    for _ in range(2):
        assert command("train", "--resume", run).sentence() == (
            "runs/x/checkpoints: its checkpoints are gone; restore them, or train anew with "
            "`foveal train runs/x/recipe.yaml --name NEW`."
        )
        assert (run / "metrics.csv").read_text() == table
        (run / "checkpoints").mkdir(exist_ok=True)


def test_a_best_checkpoint_that_is_gone_is_not_silently_the_last(run, command):
    best = (run / "checkpoints/best").resolve()
    if best == (run / "checkpoints/last").resolve():
        (run / "checkpoints/best").unlink()
        (run / "checkpoints/best").symlink_to("epoch-7")
    else:
        shutil.rmtree(best)
    name = (run / "checkpoints/best").readlink()
    assert command("evaluate", run).sentence() == (
        f"runs/x/checkpoints/best: its checkpoint {name} is gone; restore it, or choose another checkpoint by its name."
    )


def test_an_edited_table_a_foreign_folder_and_leftovers_of_a_kill_do_no_harm(run, command):
    whole = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text("epoch,step\nfirst,1\n\x00")
    (run / "checkpoints/epoch-best").mkdir()
    (run / "checkpoints/.writing-epoch-3/checkpoint-9").mkdir(parents=True)
    (run / ".metrics.csv.abc.unfinished").write_text("half")
    change(run, "epochs: 2.0", "epochs: 3.0")
    assert command("train", "--resume", run).code == 0
    assert (run / "metrics.csv").read_text().startswith(whole) and (run / "checkpoints/epoch-best").is_dir()
    assert is_whole(run)


def test_changed_data_are_not_trained_on_and_nothing_trained_on_is_measured(run, command, tmp_path):
    source = shutil.copytree(_source(run / "recipe.yaml"), tmp_path / "pictures")
    change(run, f"source: {_source(run / 'recipe.yaml')}", f"source: {source}")
    assert command("evaluate", run, "--as", "same").code == 0
    shutil.move(source / "train/red/0.png", source / "train/red/new.png")
    assert command("train", "--resume", run).sentence() == (
        "runs/x: its data have changed since it was begun: 1 row is gone (train: train/red/0.png); 1 row is new "
        "(train: train/red/new.png). Restore them, or train anew with `foveal train runs/x/recipe.yaml --name NEW`."
    )
    shutil.copy(source / "test/red/0.png", source / "test/red/1.png")
    said = command("evaluate", run, "--as", "more")
    assert said.code == 0
    assert "The test split has changed since the run was begun: 1 row is new (test: test/red/1.png)." in said.out


def test_a_run_is_trained_by_one_process_at_a_time(run, command):
    holder = "import sys, foveal.runs as r; from pathlib import Path\nwith r.owned(r.Run(Path(sys.argv[1]))): print(1, flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", holder, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "1\n"
    try:
        message = command("train", "--resume", run).sentence()
        assert message == "runs/x: is being trained by another process; wait for it, or choose another run."
    finally:
        other.kill()
        other.wait()
    assert command("train", "--resume", run).code == 0, "a killed process holds nothing"


def test_a_run_of_two_processes_is_not_continued_by_one(run, command):
    file = run / "checkpoints/last/foveal_progress.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"processes": 2}))
    assert command("train", "--resume", run).sentence() == (
        "runs/x: was trained by 2 processes with 4 rows each at a time, not by 1, which would change its steps; continue it "
        "with: torchrun --nproc_per_node 2 -m foveal train --resume runs/x"
    )


@pytest.mark.parametrize(("values", "start"), [
    ({"WORLD_SIZE": "2"}, "WORLD_SIZE: is 2 in the environment, but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set;"),
    ({"WORLD_SIZE": "two"}, "WORLD_SIZE: 'two' in the environment is no number;"),
    ({"WORLD_SIZE": "0"}, "WORLD_SIZE: 0 in the environment does not go with RANK 0;"),
    ({"WORLD_SIZE": "2", "RANK": "2"}, "WORLD_SIZE: 2 in the environment does not go with RANK 2;"),
])  # fmt: skip
def test_processes_without_a_launcher(job, command, monkeypatch, values, start):
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    message = command("train", job).sentence()
    assert message == f"{start} start with torchrun, which sets it, or remove it from the environment."
    assert not Path("runs").exists()


@pytest.mark.parametrize(("bad", "first"), [(float("nan"), 0), (float("inf"), 0), (float("nan"), 2)])
def test_a_loss_that_is_no_number_leaves_nothing_before_the_first_checkpoint(job, command, monkeypatch, bad, first):
    from foveal.training import objectives

    real, steps = objectives.answer_loss, iter(range(100))
    monkeypatch.setattr(objectives, "answer_loss", lambda *a, **k: real(*a, **k) * (bad if next(steps) >= first else 1))
    assert command("train", job, "--name", "x").sentence() == (
        f"The loss is not a number at step {first}; lower training.learning_rate, or use training.precision float32."
    )
    assert not list(Path("runs").iterdir())


def test_a_loss_that_is_no_number_later_leaves_the_checkpoints_before(job, command, monkeypatch):
    from foveal.training import objectives

    real, nan = objectives.answer_loss, float("nan")

    def lost(model, *rest, **named):
        return real(model, *rest, **named) * (
            nan if model.training and Path("runs/x/checkpoints/epoch-1").exists() else 1
        )

    monkeypatch.setattr(objectives, "answer_loss", lost)
    assert command("train", job, "--name", "x").sentence().startswith("The loss is not a number at step 3;")
    assert is_whole(Path("runs/x")) and len(Path("runs/x/metrics.csv").read_text().splitlines()) == 2


def test_a_last_checkpoint_that_is_gone_is_not_replaced_by_a_new_start(run, command):
    shutil.rmtree((run / "checkpoints/last").resolve())
    message = command("train", "--resume", run).sentence()
    assert message.startswith("runs/x/checkpoints/last: its checkpoint epoch-2 is gone; restore it, or train anew with")
    assert (run / "metrics.csv").exists()


@pytest.mark.parametrize(("old", "new"), [("optimizer: adamw", "optimizer: muon"), ("adapter: none", "adapter: lora"),
                                          ("freeze: []", "freeze: [vision]")])  # fmt: skip
def test_a_recipe_that_was_changed_in_what_the_checkpoint_holds(run, command, old, new):
    change(run, old, new)
    change(run, "epochs: 2.0", "epochs: 3.0")
    message = command("train", "--resume", run).sentence()
    assert "epoch-2: cannot be continued from (" in message and "the recipe was changed" in message


def test_resume_takes_nothing_beside_the_run(run, command):
    for words in (["--training.epochs", "3"], ["r.yaml"]):
        message = command("train", "--resume", run, *words).sentence()
        assert message == "--resume continues a run as its own recipe says; leave the recipe and other settings out."
    assert "holds no run" in command("train", "--resume", "runs").sentence()
    change(run, "task: classification", "task: clasification")
    assert (
        command("train", "--resume", run).sentence().startswith("runs/x/recipe.yaml: There is no task 'clasification'")
    )
