from __future__ import annotations

import pytest
import torch
from families import FAMILIES, open_tiny, prompts

from foveal.config.sections import Model
from foveal.vlm import scoring
from foveal.vlm.encoding import Encoder
from foveal.vlm.loading import load
from foveal.vlm.logits import IGNORE
from foveal.vlm.scoring import score, score_batch, to_device

NAMES = ("cat", "dog", "bird", "red circle", "blue star")
#: 101 answers of one to several tokens.
MANY = tuple(f"{name} {i}" if i else name for i in range(21) for name in NAMES)[:101]


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    """So that even tiny caches are too large to be held for all answers."""
    monkeypatch.setattr(scoring, "CACHE_BYTES", 0)


def opened(family, tiny):
    if family != "builtin":
        return open_tiny(tiny(family))
    vlm = load(Model(device="cpu", dtype="float32"))
    return vlm, Encoder(vlm.processor, family=vlm.family, context=vlm.context)


def sizes(vlm, monkeypatch):
    """The number of sequences in each forward pass from now on."""
    found, forward = [], vlm.model.forward

    def counted(*args, **kwargs):
        found.append(len(kwargs["input_ids"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(vlm.model, "forward", counted)
    return found


@pytest.mark.parametrize("family", ["builtin", "qwen2_vl", "mllama", "gemma3"])
def test_101_answers_in_parts_have_the_scores_of_all_at_once(tiny, monkeypatch, family):
    vlm, encoder = opened(family, tiny)
    rows, names = prompts(3), list("abc")
    monkeypatch.setattr(scoring, "SEQUENCES", 10**6)
    passes = sizes(vlm, monkeypatch)
    whole = score(vlm, encoder, rows, MANY, names=names)
    assert passes == [3, 303]
    monkeypatch.setattr(scoring, "SEQUENCES", 64)
    passes.clear()
    parts = score(vlm, encoder, rows, MANY, names=names)
    assert passes == [3, 63, 63, 63, 63, 51]  # 21 answers of 3 rows at a time
    assert parts.shape == (3, 101) and whole.std() > 0.1
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_answer_at_a_time_is_right_in_every_family(tiny, monkeypatch, family):
    vlm, encoder = open_tiny(tiny(family))
    rows, answers = prompts(2), ("one", "two lines", "a cat here")
    whole = score(vlm, encoder, rows, answers, names=list("ab"))
    monkeypatch.setattr(scoring, "SEQUENCES", 1)  # fewer than rows
    torch.testing.assert_close(score(vlm, encoder, rows, answers, names=list("ab")), whole, atol=1e-5, rtol=1e-5)


def test_answers_of_one_token_need_no_pass_of_their_own(tiny, monkeypatch):
    vlm, encoder = open_tiny(tiny("idefics3"))
    batch = to_device(encoder.encode(prompts(1), side="left"), vlm)
    short = torch.tensor([[[5], [6], [7]]])
    long = torch.tensor([[[5, 9, IGNORE], [6, 9, 10], [7, 9, IGNORE]]])
    both = torch.cat([torch.nn.functional.pad(short, (0, 2), value=IGNORE), long], 1)
    passes = sizes(vlm, monkeypatch)
    with torch.inference_mode():
        score_batch(vlm.model, batch, short, family=vlm.family)
        assert passes == [1]
        monkeypatch.setattr(scoring, "SEQUENCES", 3)
        passes.clear()
        mixed = score_batch(vlm.model, batch, both, family=vlm.family)
        assert passes == [1, 3]
        alone = score_batch(vlm.model, batch, long, family=vlm.family)
    torch.testing.assert_close(mixed[:, 3:], alone, atol=1e-6, rtol=1e-6)


def test_with_gradients_all_answers_are_in_one_pass(tiny, monkeypatch):
    vlm, encoder = open_tiny(tiny("qwen2_vl"), training=True)
    vlm.model.eval()
    batch = to_device(encoder.encode(prompts(1), side="left"), vlm)
    ids = encoder.choice_ids(prompts(1), MANY[:9])
    monkeypatch.setattr(scoring, "SEQUENCES", 2)
    passes = sizes(vlm, monkeypatch)
    scores = score_batch(vlm.model, batch, ids, family=vlm.family)
    assert passes == [1, 9] and scores.requires_grad
    scores[0, 8].backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in vlm.model.parameters())
    assert sum(float(p.grad.abs().sum()) for p in vlm.model.parameters() if p.grad is not None) > 0
    with torch.no_grad():
        passes.clear()
        torch.testing.assert_close(
            score_batch(vlm.model, batch, ids, family=vlm.family), scores.detach(), atol=1e-5, rtol=1e-5
        )
    assert passes == [1, 2, 2, 2, 2, 1]


def test_what_fits_into_memory_goes_at_once(monkeypatch):
    vlm, encoder = opened("builtin", None)
    monkeypatch.setattr(scoring, "CACHE_BYTES", 1 << 30)
    passes = sizes(vlm, monkeypatch)
    score(vlm, encoder, prompts(3), MANY, names=list("abc"))
    assert passes == [3, 303]
