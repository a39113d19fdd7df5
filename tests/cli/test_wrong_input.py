"""Every input that a user can get wrong: one sentence that names the place and the remedy, exit code 2, nothing left."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image
from small import write_recipe, write_squares

from foveal.cli.main import main


@pytest.fixture
def job(tiny, tmp_path, monkeypatch):
    """A folder with squares and a recipe of one step, the current directory of the test."""
    monkeypatch.chdir(tmp_path)
    write_squares(tmp_path / "squares", {"train": 2, "validation": 1, "test": 1})
    lines = "  max_steps: 1\n  evaluate: false\n"
    return write_recipe(tmp_path / "r.yaml", Path("squares"), tiny("idefics3"), training=lines)


def fails(capsys, *words: str) -> str:
    """Runs the command, which must fail with one sentence; returns it."""
    before = sorted(str(p) for p in Path.cwd().rglob("*"))
    assert main(list(words)) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("foveal: ") and "Traceback" not in message
    assert len(message.splitlines()) == 1, message
    assert sorted(str(p) for p in Path.cwd().rglob("*")) == before, "nothing is left behind"
    return message


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--training.epoch", "3"], ["--training.epoch;", "--training.epochs?"]),
        (["--modle.id", "x"], ["--modle.id", "--model.id"]),
        (["--training.epochs", "three"], ["training.epochs", "a number", "'three'"]),
        (["--training.batch_size", "2.5"], ["training.batch_size", "a whole number"]),
        (["--training.batch_size", "0"], ["training.batch_size", "at least 1"]),
        (["--training.optimizer", "adanw"], ["training.optimizer", "'adamw'"]),
        (["--model.id", "no-such/model"], ["no-such/model", "Hub"]),
        (["--model.id", "./nowhere"], ["./nowhere", "no model folder"]),
        (["--model.device", "cuda:7"], ["cuda:7", "cpu"]),
        (["--model.quantization", "nf4"], ["model.quantization", "adapter to lora"]),
        (["--data.source", "nowhere"], ["nowhere", "no such folder"]),
        (["--objective", "lable"], ["objective", "'label'"]),
        (["--task", "clasification"], ["'clasification'", "'classification'"]),
        (["--name", "../x"], ["'../x'", "name"]),
        (["--training.epochs"], ["--training.epochs", "needs a value"]),
    ],
)
def test_wrong_setting_on_the_command_line(job, capsys, words, parts):
    message = fails(capsys, "train", str(job), *words)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("trainig:\n  epochs: 3\n", ["trainig", "training"]),
        ("objective: 3\n", ["objective"]),
        ("seed: abc\n", ["seed", "a whole number"]),
        ("\tseed: 1\n", ["line"]),
        ("seed: true\n", ["seed", "a whole number"]),
    ],
)
def test_wrong_line_in_the_recipe_is_named_with_its_file(job, capsys, line, parts):
    job.write_text(job.read_text() + line)
    message = fails(capsys, "train", str(job))
    for part in ["r.yaml", *parts]:
        assert part in message, message


def test_missing_recipe_names_the_nearest(job, capsys):
    assert "r.yaml" in fails(capsys, "train", "rr.yaml")


def test_unknown_command_names_the_nearest(job, capsys):
    assert "'evaluate'" in fails(capsys, "evalute")


def _png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "giant", "zero"])
def test_bad_picture_is_named_before_anything_is_trained(job, capsys, kind):
    victim = Path("squares/train/red/0.png")
    whole = victim.read_bytes()
    victim.write_bytes(
        {
            "truncated": whole[: len(whole) // 2], "empty": b"", "text": b"hello", "giant": _png_header(100_000, 100_000),
            "zero": _png_header(0, 10),
        }[kind]
    )  # fmt: skip
    message = fails(capsys, "train", str(job))
    assert ("squares/train/red/0.png" in message and "remove" in message) or "shrink" in message, message


def test_pixel_limit_of_the_recipe_is_kept(job, capsys):
    message = fails(capsys, "train", str(job), "--model.max_pixels", "100")
    assert "28 x 28 pixels are more than the limit of 100" in message and "model.max_pixels" in message


def test_empty_folder(job, capsys):
    Path("empty").mkdir()
    assert "empty" in fails(capsys, "train", str(job), "--data.source", "empty")


def test_model_without_pictures_is_refused(job, capsys):
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16, n_positions=8)).save_pretrained("gpt2")
    assert "takes no pictures" in fails(capsys, "train", str(job), "--model.id", "./gpt2")


@pytest.mark.parametrize("damage", ["no weights", "truncated", "missing tensor"])
def test_damaged_model_folder_is_refused(job, tiny, capsys, damage):
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny("idefics3"), "broken")
    file = Path("broken/model.safetensors")
    if damage == "no weights":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        tensors = load_file(file)
        tensors.pop(next(k for k in tensors if "connector" in k))
        save_file(tensors, file, metadata={"format": "pt"})
    assert "broken" in fails(capsys, "train", str(job), "--model.id", "./broken")


def test_text_longer_than_the_context_names_row_length_and_limit(job, tiny, capsys):
    shutil.copytree(tiny("idefics3"), "short")
    config = json.loads(Path("short/config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 16
    Path("short/config.json").write_text(json.dumps(config))
    message = fails(capsys, "train", str(job), "--model.id", "./short")
    assert "tokens long" in message and "context is 16" in message and "train/blue/0.png" in message


def test_folder_that_holds_another_run_is_refused(run, capsys):
    assert "holds another run" in fails(capsys, "train", "r.yaml", "--name", run.name)


def test_resume_of_what_is_no_run(job, capsys):
    Path("other").mkdir()
    assert "other" in fails(capsys, "train", "--resume", "other")
    assert "nowhere" in fails(capsys, "train", "--resume", "nowhere")


def test_resuming_a_finished_run_measures_it_again_and_changes_no_weight(run, capsys):
    file = run / "checkpoints/last/model.safetensors"
    before = file.read_bytes()
    code = main(["train", "--resume", str(run)])
    assert code in (0, 2) and "Traceback" not in capsys.readouterr().err
    assert file.read_bytes() == before


def test_predict_with_a_broken_picture_stops_or_skips_as_asked(run, capsys):
    Path("mixed").mkdir()
    Image.new("RGB", (20, 20), "red").save("mixed/a.png")
    Path("mixed/b.png").write_bytes(b"no picture")
    assert "mixed/b.png" in fails(capsys, "predict", str(run), "mixed")
    assert main(["predict", str(run), "mixed", "--skip-bad", "--out", "answers.jsonl", "--sheet", "sheet.png"]) == 0
    assert "left out" in capsys.readouterr().out
    rows = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    # What could not be read is told where the others are, so that no picture is lost without a word.
    assert [r["id"] for r in rows] == ["mixed/a.png", "mixed/b.png"]
    assert rows[1]["value"] is None and "b.png" in rows[1]["error"]
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1)
    assert Image.open("sheet.png").width > 100


def test_missing_checkpoint_is_refused_with_those_there_are(run, capsys):
    message = fails(capsys, "evaluate", str(run), "--checkpoint", "epoch-9")
    assert "epoch-9" in message and "best" in message


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")],
)
def test_out_of_memory_gives_advice(job, capsys, monkeypatch, error):
    from foveal.training import objectives

    def explode(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(objectives, "answer_loss", explode)
    assert main(["train", str(job), "--name", "oom"]) == 2
    message = capsys.readouterr().err
    assert "Out of memory" in message and "training.batch_size" in message and "Traceback" not in message


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting a small tmpfs needs root")
def test_full_disk_is_told_and_leaves_no_half_checkpoint(job, capsys):
    disk = Path("disk")
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        assert main(["train", str(job), "--output", str(disk), "--name", "full"]) == 2
        message = capsys.readouterr().err
        assert "disk is full" in message and "Traceback" not in message
        assert not list(disk.rglob(".writing*")) and not list(disk.rglob("*.safetensors"))
        assert main(["data", "make", "blindtest/lines", "--folder", f"{disk}/lines", "--num_images", "500"]) == 2
        assert "disk is full" in capsys.readouterr().err
        assert not list((disk / "lines").rglob("*.png"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_models_own_marks_in_the_texts_are_a_sentence_before_anything_is_trained(job, capsys):
    message = fails(capsys, "train", str(job), "--data.question", "Which <image> is it: {classes}?")
    assert (
        "squares, train/blue/0.png: the question holds <image>, which the model reads as a mark of its own" in message
    )
    for split in ("train", "validation", "test"):
        Path("squares", split, "red").rename(Path("squares", split, "<end_of_utterance>"))
    message = fails(capsys, "train", str(job), "--data.question", "Which?")
    assert "the answer holds <end_of_utterance>, which the model reads as a mark of its own" in message
