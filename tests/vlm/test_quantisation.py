from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from families import LORA, open_tiny, prompts
from rich.console import Console
from small import write_recipe, write_squares
from torch import nn

from foveal.config.reading import read_recipe
from foveal.config.sections import Model
from foveal.errors import UserError
from foveal.evaluation.evaluate import evaluate
from foveal.runs import open_run
from foveal.training.train import train
from foveal.vlm.adapters import describe
from foveal.vlm.components import component_of
from foveal.vlm.loading import load
from foveal.vlm.logits import IGNORE
from foveal.vlm.losses import answer_loss
from foveal.vlm.scoring import score, to_device

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed (the extra `quant`)"
)
FAMILIES = ("idefics3", "qwen2_vl", "llava", "paligemma", "gemma3", "mllama")
QUIET = Console(quiet=True)


def open_adapted(folder: Path, quantization: str = "nf4"):
    """A quantised model with adapters that do something: fresh ones add zero, and half of their gradients are zero."""
    vlm, encoder = open_tiny(folder, training=True, quantization=quantization, adapter="lora", lora=LORA)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in vlm.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    batch = to_device(encoder.training_batch(prompts(3), list("abc")), vlm)
    return vlm, encoder, batch


def gradients(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.train()
    model.zero_grad()
    answer_loss(model, batch, None).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def logits(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        result: torch.Tensor = model(**{k: v for k, v in batch.items() if k != "labels"}, use_cache=False).logits
    return result


@needs_bitsandbytes
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_language_models_linear_layers_are_quantised(tiny, family, quantization):
    import bitsandbytes as bnb

    vlm, _ = open_tiny(tiny(family), quantization=quantization)
    kind = bnb.nn.Linear4bit if quantization == "nf4" else bnb.nn.Linear8bitLt
    linear = {n: type(m) for n, m in vlm.model.named_modules() if isinstance(m, nn.Linear)}
    assert linear["lm_head"] is nn.Linear
    parts = {n: component_of(n) for n in linear if n != "lm_head"}
    assert {"vision", "language"} <= set(parts.values())
    for name, part in parts.items():
        assert linear[name] is (kind if part == "language" else nn.Linear), name
    for name, parameter in vlm.model.named_parameters():
        if component_of(name) != "language":
            assert parameter.dtype == torch.float32, name


@needs_bitsandbytes
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_changes_the_adapters_only(tiny, family):
    vlm, _, batch = open_adapted(tiny(family))
    before = {n: t.clone() for n, t in (*vlm.model.named_parameters(), *vlm.model.named_buffers())}
    learned = [p for p in vlm.model.parameters() if p.requires_grad]
    found = gradients(vlm.model, batch)
    torch.optim.AdamW(learned, lr=1e-2).step()
    assert found and all("lora_" in n for n in found)
    for name, tensor in (*vlm.model.named_parameters(), *vlm.model.named_buffers()):
        assert torch.equal(tensor, before[name]) != ("lora_" in name), name


@needs_bitsandbytes
@pytest.mark.parametrize("family", FAMILIES)
def test_predicting_between_two_steps_changes_nothing(tiny, family):
    """On CPUs with avx512_bf16, bitsandbytes would repack its weights here."""
    vlm, _, batch = open_adapted(tiny(family))
    first = gradients(vlm.model, batch)
    seen = logits(vlm.model, batch)
    again = gradients(vlm.model, batch)
    assert first.keys() == again.keys()
    for name, gradient in first.items():
        assert gradient.norm() > 0, name
        torch.testing.assert_close(again[name], gradient, msg=name)
    torch.testing.assert_close(logits(vlm.model, batch), seen)


@needs_bitsandbytes
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_adapter_gives_the_same_logits(tiny, family, tmp_path):
    vlm, _, batch = open_adapted(tiny(family))
    seen = logits(vlm.model, batch)
    vlm.model.save_pretrained(tmp_path)
    recipe = Model(id=str(tiny(family)), dtype="float32", device="cpu", attention="eager", quantization="nf4",
                   adapter="lora", lora=LORA)  # fmt: skip
    torch.testing.assert_close(logits(load(recipe, weights=tmp_path).model, batch), seen, atol=1e-4, rtol=0)
    bare = load(replace(recipe, adapter="none")).model
    assert float((logits(bare, batch) - seen).abs().max()) > 1e-2, "the adapter does something"


@needs_bitsandbytes
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_full_sequences(tiny, family):
    vlm, encoder, batch = open_adapted(tiny(family))
    vlm.model.eval()
    rows, target = prompts(3), batch["labels"][:, 1:]
    ours = score(vlm, encoder, rows, [str(r.answer) for r in rows], names=list("abc"))
    chosen = logits(vlm.model, batch)[:, :-1].log_softmax(-1).gather(2, target.clamp(min=0)[..., None])[..., 0]
    torch.testing.assert_close(ours.diagonal(), (chosen * (target != IGNORE)).sum(1), atol=1e-4, rtol=0)


@needs_bitsandbytes
def test_8_bit_weights_train_adapters(tiny):
    vlm, encoder, batch = open_adapted(tiny("idefics3"), "int8")
    found = gradients(vlm.model, batch)
    assert found and all("lora_" in n and bool(g.isfinite().all()) and g.norm() > 0 for n, g in found.items())
    scores = score(vlm, encoder, prompts(2), ["one", "two"], names=list("ab"))
    assert scores.isfinite().all()


@needs_bitsandbytes
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_the_table_counts_weights_as_if_they_were_not_packed(tiny, quantization):
    plain, _ = open_tiny(tiny("llava"))
    packed, _ = open_tiny(tiny("llava"), quantization=quantization)
    assert [row[:2] for row in describe(packed.model)] == [row[:2] for row in describe(plain.model)]


@needs_bitsandbytes
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantised_weights_cannot_be_trained_themselves(tiny, quantization):
    with pytest.raises(UserError, match=r"cannot be trained themselves.*model\.adapter to lora"):
        open_tiny(tiny("idefics3"), training=True, quantization=quantization)
    whole = replace(LORA, components=["vision"], also_train=["language"])
    with pytest.raises(UserError, match=r"lora\.also_train.*language"):
        open_tiny(tiny("idefics3"), training=True, quantization=quantization, adapter="lora", lora=whole)


@needs_bitsandbytes
def test_parts_in_full_precision_can_be_trained_whole_beside_the_adapters(tiny, tmp_path):
    lora = replace(LORA, also_train=["projector"])
    vlm, encoder = open_tiny(tiny("llava"), training=True, quantization="nf4", adapter="lora", lora=lora)
    batch = to_device(encoder.training_batch(prompts(2), list("ab")), vlm)
    found = gradients(vlm.model, batch)
    assert {component_of(n) for n in found} == {"projector", "language"}


def test_without_bitsandbytes_the_error_says_how_to_get_it(tiny, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs bitsandbytes; install it with: pip install 'foveal\[quant\]'"):
        open_tiny(tiny("idefics3"), quantization="nf4")


@needs_bitsandbytes
def test_a_quantised_run_ends_with_an_adapter_that_evaluates(tiny, tmp_path):
    squares = write_squares(tmp_path / "squares", {"train": 8, "validation": 3, "test": 3})
    path = write_recipe(
        tmp_path / "r.yaml", squares, tiny("idefics3"), model="  quantization: nf4\n  adapter: lora\n",
        training="  max_steps: 2\n",
    )  # fmt: skip
    recipe = read_recipe(path, ["--output", str(tmp_path), "--name", "run", "--training.precision", "bfloat16"])
    done = train(recipe, QUIET)
    run = open_run(done.run.path)
    best = run.checkpoint("best")
    assert (best / "adapter_model.safetensors").is_file() and not (best / "model.safetensors").exists()
    assert run.report.is_file() and run.read_metrics()
    result, folder = evaluate(recipe, run, QUIET, split="test", checkpoint="best", samples=0, name="again")
    assert result.values == done.results[-1].values
    probabilities = [[p.probabilities for p in r.predictions] for r in (result, done.results[-1])]
    assert probabilities[0] == probabilities[1]
    assert (folder / "results.json").is_file()
