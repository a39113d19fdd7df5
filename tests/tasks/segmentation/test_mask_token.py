from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import LORA, open_tiny, prompts
from torch import nn

from foveal.errors import UserError
from foveal.tasks.segmentation.mask_token import TokenEmbeddings, add_mask_token
from foveal.tasks.segmentation.objects import SEG
from foveal.vlm.loading import Vlm

Tiny = Callable[[str], Path]
#: Tables tied and scaled (PaliGemma, Gemma 3), apart with rows to spare (LLaVA), apart (InternVL), and of unequal
#: lengths (Mllama).
FAMILIES = ("paligemma", "gemma3", "llava", "internvl", "mllama")
TIED = ("paligemma", "gemma3")


def tables(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    return model.get_input_embeddings(), model.get_output_embeddings()


def opened(folder: Path) -> tuple[Vlm, int]:
    vlm, _ = open_tiny(folder)
    return vlm, add_mask_token(vlm.base, vlm.processor.tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_token_is_one_piece_and_has_a_row(tiny: Tiny, family: str) -> None:
    vlm, _ = open_tiny(tiny(family))
    tokenizer, known = vlm.processor.tokenizer, len(vlm.processor.tokenizer)
    old = [t.weight.detach().clone() for t in tables(vlm.base)]
    index = add_mask_token(vlm.base, tokenizer)
    assert index == known and len(tokenizer) == known + 1
    for text in ("<SEG>", "red <SEG>.", "red<SEG>.", "<SEG> <SEG>", "<SEG>, <SEG> and <SEG>", "(<SEG>)", "<SEG>\n"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids.count(index) == text.count(SEG), text
        assert tokenizer.decode(ids, skip_special_tokens=True).count(SEG) == text.count(SEG), text
    room = min(len(t) for t in old)
    for before, table in zip(old, tables(vlm.base), strict=True):
        # The larger of two unequal tables may lose rows that nothing is written with.
        assert len(table.weight) == (len(before) if index < room else index + 1)
        assert torch.equal(table.weight[: min(known, room)], before[: min(known, room)])
        assert torch.allclose(table.weight[index], table.weight[:known].mean(0), atol=1e-6)
    assert vlm.base.config.get_text_config().vocab_size == len(vlm.base.get_output_embeddings().weight)
    # A second time nothing is left to do.
    again = [t.weight.detach().clone() for t in tables(vlm.base)]
    assert add_mask_token(vlm.base, tokenizer) == index and len(tokenizer) == known + 1
    assert all(torch.equal(a, t.weight) for a, t in zip(again, tables(vlm.base), strict=True))


def test_rows_to_spare_are_used_first(tiny: Tiny) -> None:
    vlm, _ = open_tiny(tiny("llava"))
    rows = [len(t.weight) for t in tables(vlm.base)]
    spare = rows[0] - len(vlm.processor.tokenizer)
    assert spare > 0
    for i in range(spare + 1):
        add_mask_token(vlm.base, vlm.processor.tokenizer, f"<SEG{i}>")
        grown = max(0, i + 1 - spare)
        assert [len(t.weight) for t in tables(vlm.base)] == [n + grown for n in rows]


def test_a_text_that_falls_apart_is_refused(tiny: Tiny) -> None:
    vlm, _ = open_tiny(tiny("paligemma"))
    # A word of the vocabulary, which is a part of others.
    with pytest.raises(UserError, match=r"data\.token: the model's tokenizer does not keep 'a' in one piece; choose"):
        add_mask_token(vlm.base, vlm.processor.tokenizer, "a")


@pytest.mark.parametrize("family", FAMILIES)
def test_own_rows_change_nothing_but_their_token(tiny: Tiny, family: str) -> None:
    vlm, index = opened(tiny(family))
    read, write = tables(vlm.base)
    ids = torch.tensor([[1, index, 5, index, 9]])
    there = ids == index
    states = torch.randn(2, 3, write.weight.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embedded, logits = read(ids), write(states)
        rows = TokenEmbeddings(vlm.base, index)
        # As they start, they are the table's own.
        assert torch.allclose(read(ids), embedded, atol=1e-6) and torch.allclose(write(states), logits, atol=1e-5)
        rows.embed_read.normal_(generator=torch.Generator().manual_seed(1))
        if rows.embed_write is not rows.embed_read:
            rows.embed_write.normal_(generator=torch.Generator().manual_seed(2))
        seen, written = read(ids), write(states)
    assert torch.equal(seen[~there], embedded[~there])
    scale = float(getattr(read, "embed_scale", 1))
    assert torch.allclose(seen[there], scale * rows.embed_read.expand(2, -1), atol=1e-5)
    others = torch.arange(logits.shape[-1]) != index
    assert torch.equal(written[..., others], logits[..., others])
    assert torch.allclose(written[..., index], states @ rows.embed_write, atol=1e-5)
    assert (written[..., index] - logits[..., index]).abs().max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_the_rows_and_not_the_tables(tiny: Tiny, family: str) -> None:
    vlm, index = opened(tiny(family))
    rows = TokenEmbeddings(vlm.base, index)
    tied = family in TIED
    assert (rows.embed_write is rows.embed_read) == tied
    assert len(list(rows.parameters())) == (1 if tied else 2)
    read, write = tables(vlm.base)
    (read(torch.tensor([[3, index]])).square().sum() + write(torch.ones(1, 1, write.weight.shape[1])).sum()).backward()
    assert rows.embed_read.grad.abs().sum() > 0 and rows.embed_write.grad.abs().sum() > 0
    assert read.weight.grad is None and write.weight.grad is None
    if not tied:
        assert torch.equal(rows.embed_write.grad, torch.ones_like(rows.embed_write))


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("family", ["llava", "paligemma"])
def test_own_rows_learn_beside_weights_of_four_bits(tiny: Tiny, family: str) -> None:
    vlm, encoder = open_tiny(tiny(family), training=True, quantization="nf4", adapter="lora", lora=LORA)
    index = add_mask_token(vlm.base, vlm.processor.tokenizer)
    batch = encoder.training_batch(prompts(2, answers=(f"a {SEG}", SEG)), list("ab"))
    labels = batch.pop("labels")
    with torch.no_grad():
        before = vlm.base(**batch, use_cache=False).logits
    rows = TokenEmbeddings(vlm.base, index)
    with torch.no_grad():
        after = vlm.base(**batch, use_cache=False).logits
    assert torch.allclose(before, after, atol=1e-3)
    after = vlm.base(**batch, use_cache=False).logits
    nn.functional.cross_entropy(after[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in rows.parameters())
    assert all(t.weight.grad is None for t in tables(vlm.base))
