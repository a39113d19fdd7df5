from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from small import foveal, write_recipe, write_squares

from foveal.config.reading import read_recipe
from foveal.runs import open_run
from foveal.training.train import train

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("squares"), {"train": 8, "validation": 3, "test": 3})


def weights(run: Path, checkpoint: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / checkpoint / "model.safetensors")


def digest(run: Path) -> str:
    tensors = sorted(weights(run).items())
    return hashlib.sha256(b"".join(t.numpy().tobytes() for _, t in tensors)).hexdigest()


def test_same_seed_gives_the_same_weights_and_another_seed_others(tiny, squares, tmp_path):
    path = write_recipe(tmp_path / "r.yaml", squares, tiny("idefics3"), training="  epochs: 1\n")
    hashes = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        recipe = read_recipe(path, ["--output", str(tmp_path), "--name", name, "--seed", seed])
        hashes.append(digest(train(recipe, QUIET).run.path))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("objective", ["answer", "label"])
def test_batch_1_accumulated_8_times_equals_batch_8(tiny, squares, tmp_path, objective):
    path = write_recipe(tmp_path / "r.yaml", squares, tiny("idefics3"), training="  max_steps: 3\n  evaluate: false\n")
    runs = []
    for batch, accumulate in ((8, 1), (1, 8), (4, 2)):
        words = ["--output", str(tmp_path), "--name", f"{objective}{batch}", "--objective", objective]
        words += ["--training.batch_size", str(batch), "--training.accumulate", str(accumulate)]
        runs.append(weights(train(read_recipe(path, words), QUIET).run.path))
    for other in runs[1:]:
        for name, tensor in runs[0].items():
            # Adam divides by the root of its second moment, which lifts rounding: 3 steps at rate 1e-3.
            assert (other[name] - tensor).abs().max() < 2e-4, name


@pytest.mark.slow
@pytest.mark.parametrize("how", ["whole", "lora"])
def test_resume_after_a_kill_ends_in_bit_identical_weights(tiny, squares, tmp_path, how):
    model = "  adapter: lora\n  lora:\n    dropout: 0.1\n" if how == "lora" else ""
    training = "  epochs: 4\n  save_steps: 2\n  accumulate: 2\n  optimizer: " + (
        "adamw\n" if how == "lora" else "muon\n"
    )
    path = write_recipe(tmp_path / "r.yaml", squares, tiny("idefics3"), model=model, training=training)
    whole = foveal("train", str(path), "--name", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr

    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-m", "foveal.cli.main", "train", str(path), "--name", "killed"]
    killed = subprocess.Popen(words, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    checkpoints = tmp_path / "runs" / "killed" / "checkpoints"
    while not list(checkpoints.glob("step-4")) and not list(checkpoints.glob("epoch-2")):
        assert killed.poll() is None, "it must not end before it is killed"
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    state = json.loads((checkpoints / "last" / "trainer_state.json").read_text())
    assert 0 < state["global_step"] < 12

    resumed = foveal("train", "--resume", "runs/killed", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    name = "adapter_model.safetensors" if how == "lora" else "model.safetensors"
    a, b = (load_file(tmp_path / "runs" / r / "checkpoints" / "last" / name) for r in ("whole", "killed"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)

    rows = [list(csv.DictReader((tmp_path / "runs" / r / "metrics.csv").open())) for r in ("whole", "killed")]
    columns = ("epoch", "step", "train_loss", "val_loss", "val_accuracy")
    assert [[r[c] for c in columns] for r in rows[0]] == [[r[c] for c in columns] for r in rows[1]]
    metrics = json.loads((tmp_path / "runs/whole/evaluation/test/results.json").read_text())["metrics"]
    assert any(name.startswith("recall/") for name in metrics)
    assert not any("/" in column for column in rows[0][0]), "the values of each class are in results.json alone"


def test_run_folder_holds_all_that_the_design_promises(tiny, squares, tmp_path):
    path = write_recipe(
        tmp_path / "r.yaml",
        squares,
        tiny("idefics3"),
        training="  epochs: 3\n  keep_epochs: 1\n",
        evaluation="  before: true\n",
    )
    done = foveal("train", str(path), "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "x"
    for name in (
        "recipe.yaml", "environment.json", "data.json", "label_mask.txt", "metrics.csv", "history.json", "curves.png", "report.html",
        "evaluation/test/results.json", "evaluation/test/predictions.jsonl", "evaluation/test-before/results.json",
    ):  # fmt: skip
        assert (run / name).stat().st_size > 0, name
    assert "[[" in (run / "label_mask.txt").read_text() and "red" in (run / "label_mask.txt").read_text()
    data = json.loads((run / "data.json").read_text())["splits"]
    assert {k: v["rows"] for k, v in data.items()} == {"train": 24, "validation": 9, "test": 9}
    assert all(v["refused"] == [] and isinstance(v["notes"], list) for v in data.values())
    lines = [json.loads(ln) for ln in (run / "evaluation/test/predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 9
    assert all(abs(sum(ln["probabilities"].values()) - 1) < 1e-6 for ln in lines)
    results = json.loads((run / "evaluation/test/results.json").read_text())
    assert results["metrics"]["accuracy"] == sum(ln["correct"] for ln in lines) / 9
    assert results["chance"] == pytest.approx(1 / 3)
    assert not list((run / "checkpoints").glob(".*")), "nothing temporary is left"
    kept = {p.name for p in (run / "checkpoints").iterdir()}
    assert {"best", "last", "epoch-3"} <= kept and len(kept) <= 4
    rows = open_run(run).read_metrics()
    assert [r["epoch"] for r in rows] == [1, 2, 3]
    best = max(rows, key=lambda r: (r["val_accuracy"], -r["epoch"]))
    assert (run / "checkpoints" / "best").resolve().name == f"epoch-{best['epoch']:.0f}"


def test_saved_recipe_repeats_the_run(tiny, squares, tmp_path):
    path = write_recipe(tmp_path / "r.yaml", squares, tiny("idefics3"), training="  epochs: 1\n")
    first = train(read_recipe(path, ["--output", str(tmp_path), "--name", "a"]), QUIET).run
    again = train(read_recipe(first.recipe, ["--name", "b"]), QUIET).run
    assert digest(first.path) == digest(again.path)


def test_early_stopping_ends_after_the_patience(tiny, squares, tmp_path):
    # A learning rate of almost nothing: the validation metric cannot improve after the first epoch.
    path = write_recipe(
        tmp_path / "r.yaml",
        squares,
        tiny("idefics3"),
        training="  epochs: 9\n  early_stopping: 2\n  schedule: constant\n",
    )
    recipe = read_recipe(path, ["--output", str(tmp_path), "--name", "a", "--training.learning_rate", "1e-12"])
    assert [r["epoch"] for r in train(recipe, QUIET).run.read_metrics()] == [1, 2, 3]


@pytest.mark.parametrize(("evaluate", "kept"), [(False, [2, 4, 5]), (True, [1, 2, 4, 5])])
def test_checkpoints_every_so_many_epochs_after_the_last_and_of_the_best(tiny, squares, tmp_path, evaluate, kept):
    training = (
        f"  epochs: 5\n  save_epochs: 2\n  keep_epochs: 0\n  schedule: constant\n  evaluate: {str(evaluate).lower()}\n"
    )
    path = write_recipe(tmp_path / "r.yaml", squares, tiny("idefics3"), training=training)
    # A learning rate of almost nothing: where it is measured, the first epoch is the best.
    words = ["--output", str(tmp_path), "--name", "a", "--training.learning_rate", "1e-12"]
    run = train(read_recipe(path, words), QUIET).run
    assert sorted(p.name for p in run.checkpoints.glob("epoch-*")) == [f"epoch-{n}" for n in kept]
    assert run.checkpoint("last").name == "epoch-5"
    assert run.checkpoint("best").name == ("epoch-1" if evaluate else "epoch-5")
    assert [r["epoch"] for r in run.read_metrics()] == [1, 2, 3, 4, 5]


def test_the_last_checkpoint_is_where_it_stopped_early(tiny, squares, tmp_path):
    training = "  epochs: 9\n  early_stopping: 2\n  save_epochs: 5\n  keep_epochs: 0\n  schedule: constant\n"
    path = write_recipe(tmp_path / "r.yaml", squares, tiny("idefics3"), training=training)
    words = ["--output", str(tmp_path), "--name", "a", "--training.learning_rate", "1e-12"]
    run = train(read_recipe(path, words), QUIET).run
    assert sorted(p.name for p in run.checkpoints.glob("epoch-*")) == ["epoch-1", "epoch-3"]
    assert run.checkpoint("last").name == "epoch-3"


def test_warm_up_is_a_share_of_the_steps_or_their_number(tiny, squares, tmp_path):
    def rates(warmup: str) -> list[float]:
        training = f"  epochs: 2\n  measurements: 6\n  schedule: constant\n  evaluate: false\n  warmup: {warmup}\n"
        path = write_recipe(tmp_path / f"{warmup}.yaml", squares, tiny("idefics3"), training=training)
        recipe = read_recipe(path, ["--output", str(tmp_path), "--name", warmup])
        return [float(r["learning_rate"]) for r in train(recipe, QUIET).run.read_metrics()]

    # 24 rows in batches of 4: 6 steps in an epoch, and a row of the table after each. It tells the next step's rate.
    assert rates("4") == pytest.approx([2.5e-4, 5e-4, 7.5e-4] + 9 * [1e-3])
    assert rates("0.25") == pytest.approx([1e-3 / 3, 2e-3 / 3] + 10 * [1e-3])


def test_plateau_schedule_cuts_the_rate_by_its_factor_after_its_patience(tiny, squares, tmp_path):
    training = "  epochs: 4\n  schedule: plateau\n  plateau_factor: 0.5\n  plateau_patience: 1\n"
    path = write_recipe(tmp_path / "r.yaml", squares, tiny("idefics3"), training=training)
    recipe = read_recipe(path, ["--output", str(tmp_path), "--name", "a", "--training.learning_rate", "1e-12"])
    rates = [r["learning_rate"] for r in train(recipe, QUIET).run.read_metrics()]
    assert rates[0] == 1e-12 and rates[-1] == pytest.approx(5e-13)


def test_component_learning_rates_are_logged(tiny, squares, tmp_path):
    path = write_recipe(
        tmp_path / "r.yaml", squares, tiny("idefics3"), model="  learning_rates:\n    projector: 5e-4\n",
        training="  epochs: 1\n  schedule: constant\n  warmup: 0\n",
    )  # fmt: skip
    row = train(read_recipe(path, ["--output", str(tmp_path), "--name", "a"]), QUIET).run.read_metrics()[0]
    assert row["learning_rate_projector"] == 5e-4 and row["learning_rate_language"] == 1e-3


def test_label_objective_learns_the_colours_and_never_shows_the_answer(squares, tmp_path):
    path = write_recipe(
        tmp_path / "r.yaml", squares, "builtin", training="  epochs: 10\n  optimizer: muon\n", top="objective: label\n"
    )
    done = train(read_recipe(path, ["--output", str(tmp_path), "--name", "a"]), QUIET)
    assert done.results[-1].values["accuracy"] >= 8 / 9


def test_two_workers_train_the_same_weights_as_none(tiny, squares, tmp_path):
    path = write_recipe(tmp_path / "r.yaml", squares, tiny("idefics3"), training="  epochs: 2\n")
    runs = []
    for workers in ("0", "2"):
        words = ["--output", str(tmp_path), "--name", f"w{workers}", "--training.workers", workers]
        runs.append(digest(train(read_recipe(path, words), QUIET).run.path))
    assert runs[0] == runs[1]
