from __future__ import annotations

import pytest
import torch
from families import FAMILIES, open_tiny, prompts

from foveal.vlm.logits import IGNORE
from foveal.vlm.scoring import common_prefix, score

ANSWERS = ("one", "two lines", "a cat here", "{2}", "{3}")


def naive(vlm, encoder, prompt, answer) -> float:
    """The answer's log-probability from a full sequence of its own, nothing shared."""
    row = type(prompt)(prompt.images, prompt.user, prompt.system, answer)
    batch = encoder.training_batch([row], ["x"])
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    with torch.no_grad():
        logits = vlm.model(**inputs, use_cache=False).logits.float().log_softmax(-1)
    target = batch["labels"][0, 1:]
    keep = target != IGNORE
    return float(logits[0, :-1][keep].gather(1, target[keep][:, None]).sum())


@pytest.mark.parametrize("answers", [ANSWERS, ("{0}", "{1}", "{2}")], ids=["mixed lengths", "shared beginning"])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_naive_full_sequence_scores(tiny, family, answers):
    vlm, encoder = open_tiny(tiny(family))
    rows = prompts(3)
    ours = score(vlm, encoder, rows, answers, names=list("abc"))
    assert ours.shape == (3, len(answers))
    for i, row in enumerate(rows):
        for k, answer in enumerate(answers):
            assert abs(float(ours[i, k]) - naive(vlm, encoder, row, answer)) < 1e-4, (i, answer)


def test_scores_do_not_depend_on_the_batch_or_on_the_order_of_answers(tiny):
    vlm, encoder = open_tiny(tiny("qwen2_vl"))
    rows = prompts(3)
    together = score(vlm, encoder, rows, ANSWERS, names=list("abc"))
    alone = torch.cat([score(vlm, encoder, [r], ANSWERS, names=["a"]) for r in rows])
    turned = score(vlm, encoder, rows, ANSWERS[::-1], names=list("abc")).flip(1)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    torch.testing.assert_close(together, turned, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("answers", "shared"),
    [([[1, 2, 9], [1, 3, 9]], 1), ([[1, 9], [1, 9]], 1), ([[1], [2]], 0), ([[1, 2], [1]], 0), ([[5, 6, 7]], 2)],
)
def test_common_prefix_leaves_every_answer_a_token(answers, shared):
    longest = max(map(len, answers))
    choices = torch.tensor([[[*a, *([IGNORE] * (longest - len(a)))] for a in answers]])
    assert common_prefix(choices) == shared
