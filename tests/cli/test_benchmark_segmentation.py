from __future__ import annotations

import json
from pathlib import Path

import pytest

from foveal.tasks.segmentation.benchmark_sizes import VARIANTS

FLOAT = ("--training.precision", "float32", "--model.device", "cpu")


def test_three_ways_are_measured_and_told(command, tmp_path):
    out = tmp_path / "found.json"
    said = command(
        "benchmark", "segmentation", "--sizes", "builtin", "--images", 2, "--repeats", 2, "--out", out,
        *FLOAT,
    )  # fmt: skip
    assert said.code == 0, said.err
    for word in ("shared-vlm", "shared-sam", "separate", "peak memory", "30% to 40%", "20% to 30%", f"Results: {out}"):
        assert word in said.out
    found = json.loads(out.read_text())
    assert (found["images"], found["repeats"], found["precision"], found["device"]) == (2, 2, "float32", "cpu")
    assert list(found["variants"]) == ["shared-vlm", "shared-sam", "separate"] and len(VARIANTS) == 3
    for name, passes in (("shared-vlm", [1, 0]), ("shared-sam", [0, 1]), ("separate", [1, 1])):
        own = found["variants"][name]
        assert list(own["counts"]["passes"].values()) == passes
        assert len(own["turns"]) == 4 and all(v > 0 for turn in own["turns"] for v in turn.values())
        assert own["memory"]["loaded"] > 0 and own["memory"]["peak"] > 0 and own["weight_bytes"] > 0
        assert own["figures"]["flops"] == sum(own["counts"]["flops"].values()) > 0
        assert set(own["parameters"]) == {"vlm_encoder", "sam_encoder", "projections", "language", "mask_decoder"}
    whole = found["variants"]["separate"]["figures"]
    for name in ("shared-vlm", "shared-sam"):
        own = found["variants"][name]["figures"]
        assert own["flops"] < whole["flops"]
        assert found["savings"][name] == {k: pytest.approx(1 - own[k] / whole[k]) for k in whole}
    assert found["expected"] == {"memory": [0.3, 0.4], "time": [0.2, 0.3]}


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("segmentation --images 0", "--images: must be at least 1, not 0."),
        ("segmentation --repeats -1", "--repeats: must be at least 1, not -1."),
        ("segmentation --images x", "Argument --images: invalid int value: 'x'"),
        ("segmentation --imges 2", "There is no option --imges; did you mean --images?"),
        ("segmentation --sizes vit-x", "--sizes: 'vit-x' is not possible; give builtin, vit-b, or a VLM and a SAM"),
        ("segmentation --sizes ./nope,small", "model.id: there is no model folder './nope'; check the path."),
        ("segmentation --sizes builtin,./nope", "model.sam: './nope' cannot be loaded"),
        ("segmentation counting", "The task counting draws no masks; give a run or a recipe of segmentation."),
        ("segmentation runs/nope", "runs/nope: there is no such run or recipe; check the path."),
        ("segmentation --model.dvice cpu", "dvice"),
        ("segmentation --out full/x/y.json", "cannot be written: full/x is a file; choose another folder."),
        ("--model builtin segmentation", "segmentation comes first, its options behind it;"),
    ],
)  # fmt: skip
def test_one_sentence_for_what_is_wrong(command, tmp_path, monkeypatch, words, what):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/x").write_text("x")
    assert what in command("benchmark", *words.split()).sentence()


def test_help_tells_of_it(command):
    assert "foveal benchmark segmentation --help" in " ".join(command("benchmark", "--help").out.split())
    assert "--sizes" in command("benchmark", "segmentation", "--help").out
