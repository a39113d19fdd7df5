"""Runs that are taken up again: exactly as they were, or one sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small import change, is_whole, source_of


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
    source = shutil.copytree(source_of(run / "recipe.yaml"), tmp_path / "pictures")
    change(run, f"source: {source_of(run / 'recipe.yaml')}", f"source: {source}")
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
