from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file
from small import foveal, write_recipe, write_squares


def torchrun(*words: str, cwd) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    command += ["-m", "foveal.cli.main", *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_two_processes_with_batch_2_train_the_weights_of_one_with_batch_4(tiny, tmp_path):
    squares = write_squares(tmp_path / "squares", {"train": 8, "validation": 2, "test": 2})
    path = write_recipe(tmp_path / "r.yaml", squares, tiny("idefics3"), training="  epochs: 1\n  schedule: constant\n")
    one = foveal("train", str(path), "--name", "one", "--training.batch_size", "4", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    two = torchrun("train", str(path), "--name", "two", "--training.batch_size", "2", cwd=tmp_path)
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("Report:") == 1, "one process talks"
    a, b = (load_file(tmp_path / "runs" / r / "checkpoints" / "last" / "model.safetensors") for r in ("one", "two"))
    assert a.keys() == b.keys()
    for name in a:
        # Adam lifts the rounding of another order of sums: 6 steps at rate 1e-3.
        assert (a[name] - b[name]).abs().max() < 1e-3, name
    assert (tmp_path / "runs" / "two" / "report.html").is_file()
    told = [json.loads((tmp_path / "runs" / r / "history.json").read_text()) for r in ("one", "two")]
    assert told[0][0]["train_loss"] == pytest.approx(told[1][0]["train_loss"], rel=1e-3), (
        "the loss is of both processes"
    )


@pytest.mark.slow
def test_two_processes_tell_the_losses_of_one_where_they_have_parts(tmp_path):
    words = [
        "train", "segmentation", "--data.train", "16", "--data.validation", "2", "--data.test", "2", "--model.resolution", "56",
        "--data.scenes.image_size", "64", "--training.measurements", "1", "--training.precision", "float32",
        "--training.workers", "0", "--data.segmenter.mask_size", "32",
    ]  # fmt: skip
    one = foveal(*words, "--name", "one", "--training.batch_size", "4", cwd=tmp_path)
    two = torchrun(*words, "--name", "two", "--training.batch_size", "2", cwd=tmp_path)
    assert one.returncode == 0 and two.returncode == 0, one.stderr + two.stderr
    (a,), (b,) = (json.loads((tmp_path / "runs" / r / "history.json").read_text()) for r in ("one", "two"))
    for part in ("total", "text", "bce", "dice", "iou"):
        assert a[f"train_{part}_loss"] == pytest.approx(b[f"train_{part}_loss"], rel=1e-3), part


@pytest.mark.slow
def test_a_run_that_cannot_be_made_ends_all_processes(tiny, tmp_path):
    squares = write_squares(tmp_path / "squares", {"train": 4, "validation": 2, "test": 2})
    path = write_recipe(tmp_path / "r.yaml", squares, tiny("idefics3"))
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "mine.txt").write_text("here first")
    done = torchrun("train", str(path), "--name", "x", cwd=tmp_path)
    assert done.returncode != 0
    assert "is not empty; choose another --name" in done.stderr
    assert [p.name for p in (tmp_path / "runs" / "x").iterdir()] == ["mine.txt"]
