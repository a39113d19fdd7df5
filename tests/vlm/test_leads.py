from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families import FAMILIES, open_tiny, picture, prompts

from foveal.prompts import Prompt
from foveal.vlm.generation import generate
from foveal.vlm.logits import IGNORE
from foveal.vlm.scoring import score

ANSWERS = (" cat", " black bird", " two", " 3")
LEADS = ("Answer:", "Reasoning: It is a red line, and then\nblue. 2 of them.\nAnswer:", "the circle\nAnswer:")


def led(count: int = 3) -> list[Prompt]:
    return [replace(p, answer=None, reply_start=lead) for p, lead in zip(prompts(count), LEADS, strict=False)]


def tokens(batch) -> list[list[int]]:
    return [ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]


def full(prompt: Prompt, answer: str) -> Prompt:
    """The same turn as one answer without a lead, as training has it."""
    return replace(prompt, reply_start="", answer=prompt.reply_start + answer)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lead_and_what_follows_are_the_tokens_of_a_training_row(tiny, family):
    _, encoder = open_tiny(tiny(family))
    for side in ("left", "right"):
        asked = tokens(encoder.encode(led(), side=side))
        for prompt, ids in zip(led(), asked, strict=True):
            for answer in ANSWERS:
                whole = tokens(encoder.training_batch([full(prompt, answer)], ["x"]))[0]
                assert [*ids, *encoder.answer_ids(prompt, answer)] == whole
                assert encoder.text(prompt).endswith(prompt.reply_start)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_behind_a_lead_equal_naive_full_sequence_scores_in_any_batch(tiny, family):
    vlm, encoder = open_tiny(tiny(family))
    rows = led()
    ours = score(vlm, encoder, rows, ANSWERS, names=list("abc"))
    alone = torch.cat([score(vlm, encoder, [r], ANSWERS, names=["a"]) for r in rows])
    torch.testing.assert_close(ours, alone, atol=1e-4, rtol=0)
    for i, row in enumerate(rows):
        for k, answer in enumerate(ANSWERS):
            batch = encoder.training_batch([full(row, answer)], ["x"])
            labels = batch.pop("labels")[0]
            with torch.no_grad():
                logits = vlm.model(**batch, use_cache=False).logits[0, :-1].float().log_softmax(-1)
            learned = logits[labels[1:] != IGNORE].gather(1, labels[labels != IGNORE][:, None])[:, 0]
            own = len(encoder.answer_ids(row, answer))
            assert abs(float(ours[i, k]) - float(learned[-own:].sum())) < 1e-4, (i, answer)


@pytest.mark.parametrize("family", ["paligemma", "smolvlm", "llava"])
def test_only_the_answer_behind_a_lead_is_learned(tiny, family):
    _, encoder = open_tiny(tiny(family))
    rows = [replace(p, answer=" cat") for p in led()]
    batch = encoder.training_batch(rows, list("abc"))
    assert tokens(batch) == [tokens(encoder.training_batch([full(p, " cat")], ["x"]))[0] for p in rows]
    for labels in batch["labels"]:
        learned = labels[labels != IGNORE].tolist()
        assert encoder.tokenizer.decode(learned[:-1]).strip() == "cat" and learned[-1] in encoder.end_ids


def texts(vlm, encoder, prompts):
    return [g.text for g in generate(vlm, encoder, prompts, max_new_tokens=5, names=list("abc")[: len(prompts)])]


@pytest.mark.parametrize("family", ["paligemma", "mllama", "qwen2_vl"])
def test_replies_behind_leads_do_not_depend_on_the_batch(tiny, family):
    vlm, encoder = open_tiny(tiny(family))
    together = texts(vlm, encoder, led())
    assert together == [texts(vlm, encoder, [p])[0] for p in led()]
    plain = [replace(p, reply_start="") for p in led()]
    assert together != texts(vlm, encoder, plain)


@pytest.mark.parametrize("family", ["paligemma", "idefics3", "qwen2_vl"])
def test_a_reply_that_spells_out_a_special_token_asks_for_no_further_picture(tiny, family):
    vlm, encoder = open_tiny(tiny(family))
    mark = str(encoder.processor.image_token)
    row = replace(led(1)[0], reply_start=f"I see {mark} here\nAnswer:")
    token = encoder.tokenizer.convert_tokens_to_ids(mark)
    count = [ids.count(token) for ids in tokens(encoder.encode([row, replace(row, reply_start="")], side="left"))]
    assert count[0] == count[1] > 0
    assert score(vlm, encoder, [row], ANSWERS, names=["a"]).isfinite().all()


def test_scores_by_token_are_means_with_the_end_token(tiny):
    vlm, encoder = open_tiny(tiny("smolvlm"))
    rows = led()
    sums = score(vlm, encoder, rows, ANSWERS, names=list("abc"))
    means = score(vlm, encoder, rows, ANSWERS, names=list("abc"), per_token=True)
    for i, row in enumerate(rows):
        for k, answer in enumerate(ANSWERS):
            count = len(encoder.answer_ids(row, answer))
            assert count > 1
            assert float(means[i, k]) == pytest.approx(float(sums[i, k]) / count, abs=1e-6)


def test_prompts_with_and_without_a_lead_share_no_text(tiny):
    _, encoder = open_tiny(tiny("idefics3"))
    plain = Prompt((picture(0),), "how many?")
    texts = [encoder.text(replace(plain, reply_start=lead)) for lead in ("", "Answer:", "one\nAnswer:", "")]
    assert texts[0] == texts[3] and len(set(texts)) == 3
    assert texts[1] == texts[0] + " Answer:" and texts[2] == texts[0] + " one\nAnswer:"
