from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import open_tiny, picture, prompts

from foveal.config.sections import Model
from foveal.prompts import Prompt
from foveal.vlm.encoding import Encoder
from foveal.vlm.generation import generate
from foveal.vlm.loading import Vlm, load

#: Inputs that go on with another value than 0 behind the prompt.
GOES_ON = {"attention_mask": 1, "token_type_ids": 1}
LONGEST = 7


def naive(vlm: Vlm, encoder: Encoder, prompt: Prompt) -> tuple[list[int], list[float]]:
    """Greedy tokens and their probabilities, each from a full forward pass over all before it, without padding."""
    batch = dict(encoder.encode([prompt], side="left"))
    length = batch["input_ids"].shape[1]
    ids: list[int] = []
    chances: list[float] = []
    while len(ids) < LONGEST and not (ids and ids[-1] in encoder.end_ids):
        inputs = dict(batch)
        for key, value in batch.items():
            if value.dim() == 2 and value.shape[1] == length and not value.is_floating_point():
                more = [ids] if key == "input_ids" else [[GOES_ON.get(key, 0)] * len(ids)]
                inputs[key] = torch.cat((value, torch.tensor(more, dtype=value.dtype).reshape(1, -1)), 1)
        with torch.no_grad():
            share = vlm.model(**inputs, use_cache=False).logits[0, -1].float().softmax(-1)
        ids.append(int(share.argmax()))
        chances.append(float(share.max()))
    return ids, chances


@pytest.fixture(params=["builtin", "paligemma2", "smolvlm", "qwen2_vl"])
def opened(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> tuple[Vlm, Encoder]:
    if request.param != "builtin":
        return open_tiny(tiny(request.param))
    vlm = load(Model(device="cpu", resolution=56))
    return vlm, Encoder(vlm.processor, family=vlm.family, context=vlm.context)


def rows(encoder: Encoder) -> list[Prompt]:
    """Prompts of different lengths, so that most are padded."""
    return [*prompts(3), Prompt((picture(9),), "next red circles")]


def test_confidence_is_the_product_of_the_tokens_probabilities(opened, monkeypatch) -> None:
    vlm, encoder = opened
    asked = rows(encoder)
    # A token that one reply has in its middle ends replies, so that they are of different lengths.
    ids, _ = naive(vlm, encoder, asked[1])
    ends = encoder.end_ids | {ids[min(2, len(ids) - 1)]}
    monkeypatch.setattr(type(encoder), "end_ids", ends)
    wanted = [naive(vlm, encoder, p) for p in asked]
    assert len(wanted[1][0]) <= 3
    found = generate(vlm, encoder, asked, max_new_tokens=LONGEST, names=list("abcd"))
    for reply, (tokens, chances) in zip(found, wanted, strict=True):
        product = float(torch.tensor(chances, dtype=torch.float64).prod())
        assert reply.confidence == pytest.approx(product, rel=2e-3)
        assert reply.text == encoder.tokenizer.decode(tokens, skip_special_tokens=True).strip()


def test_padding_and_the_other_rows_do_not_matter(opened) -> None:
    vlm, encoder = opened
    asked = rows(encoder)
    together = generate(vlm, encoder, asked, max_new_tokens=LONGEST, names=list("abcd"))
    for prompt, reply in zip(asked, together, strict=True):
        (alone,) = generate(vlm, encoder, [prompt], max_new_tokens=LONGEST, names=["x"])
        assert alone.text == reply.text and alone.confidence == pytest.approx(reply.confidence, rel=2e-3)


def test_a_reply_that_is_cut_counts_the_tokens_that_it_has(opened) -> None:
    vlm, encoder = opened
    asked = rows(encoder)[:2]
    for length in (1, 3):
        found = generate(vlm, encoder, asked, max_new_tokens=length, names=["a", "b"])
        for prompt, reply in zip(asked, found, strict=True):
            _, chances = naive(vlm, encoder, prompt)
            product = float(torch.tensor(chances[:length], dtype=torch.float64).prod())
            assert reply.confidence == pytest.approx(product, rel=2e-3)
