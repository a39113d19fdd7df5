from __future__ import annotations

import pytest
import torch
from families import FAMILIES, open_tiny, prompts

from foveal.errors import UserError
from foveal.examples import Example
from foveal.prompts import Prompt
from foveal.training.objectives import LabelObjective
from foveal.training.rows import Row
from foveal.vlm.scoring import score

ANSWERS = ("two", "one cat", "a")


def rows(count: int) -> list[Row]:
    return [Row(Example(str(i), ()), p) for i, p in enumerate(prompts(count, ANSWERS))]


@pytest.mark.parametrize("family", FAMILIES)
def test_label_loss_is_the_cross_entropy_over_the_answers_scores(tiny, family):
    vlm, encoder = open_tiny(tiny(family), training=True)
    objective = LabelObjective(encoder, ANSWERS, vlm.family)
    batch = objective.collate(rows(3))
    vlm.model.eval()
    loss = objective.loss(vlm.model, batch, None)
    scores = score(vlm, encoder, [r.prompt for r in rows(3)], ANSWERS, names=list("abc"))
    assert loss.item() == pytest.approx(
        torch.nn.functional.cross_entropy(scores, torch.tensor([0, 1, 2])).item(), abs=1e-4
    )
    loss.backward()
    for part in ("language", "text"):
        touched = [n for n, p in vlm.model.named_parameters() if part in n and p.grad is not None and p.grad.any()]
        if touched:
            break
    assert touched


def test_the_true_label_changes_no_input_tensor(tiny):
    vlm, encoder = open_tiny(tiny("idefics3"))
    objective = LabelObjective(encoder, ANSWERS, vlm.family)
    one = objective.collate(rows(3))
    turned = [
        Row(r.example, Prompt(r.prompt.images, r.prompt.user, answer=a))
        for r, a in zip(rows(3), ["two", "a", "two"], strict=True)
    ]
    other = objective.collate(turned)
    assert one["choice"].tolist() == [0, 1, 2] and other["choice"].tolist() == [0, 2, 0]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one if k != "choice")


def test_answer_outside_the_closed_set_is_refused(tiny):
    vlm, encoder = open_tiny(tiny("idefics3"))
    objective = LabelObjective(encoder, ("yes", "no"), vlm.family)
    with pytest.raises(UserError, match="0: the answer 'two' is not among yes, no"):
        objective.collate(rows(1))
