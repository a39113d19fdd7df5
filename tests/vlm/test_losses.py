from __future__ import annotations

import pytest
import torch
from families import FAMILIES, open_tiny, prompts

from foveal.vlm.logits import IGNORE
from foveal.vlm.losses import answer_loss


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_the_full_logits_reference(tiny, family):
    vlm, encoder = open_tiny(tiny(family), training=True)
    model = vlm.model.eval()
    batch = encoder.training_batch(prompts(3), ["a", "b", "c"])

    loss = answer_loss(model, batch, None)
    loss.backward()
    ours = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    inputs = {k: v for k, v in batch.items() if k != "labels"}
    logits = model(**inputs, use_cache=False).logits
    reference = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), batch["labels"][:, 1:].flatten(), ignore_index=IGNORE
    )
    reference.backward()
    theirs = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    assert abs(loss.item() - reference.item()) < 1e-5 * max(1.0, reference.item())
    assert ours.keys() == theirs.keys()
    scale = max(float(g.norm()) for g in theirs.values())
    for name, gradient in theirs.items():
        assert float((ours[name] - gradient).abs().max()) < 1e-5 * max(1.0, scale), name


def test_micro_batches_with_one_normaliser_sum_to_the_whole_batch(tiny):
    vlm, encoder = open_tiny(tiny("idefics3"), training=True)
    model = vlm.model.eval()
    rows = prompts(4)
    whole = encoder.training_batch(rows, list("abcd"))
    tokens = (whole["labels"] != IGNORE).sum()
    one = answer_loss(model, whole, tokens)
    parts = sum(answer_loss(model, encoder.training_batch([r], ["x"]), tokens) for r in rows)
    assert abs(one.item() - parts.item()) < 1e-5
