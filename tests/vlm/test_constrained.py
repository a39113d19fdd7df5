from __future__ import annotations

import pytest
import torch
from families import FAMILIES, open_tiny, picture, prompts

from foveal.config.sections import Model
from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.vlm.constrained import AnswerTrie, OnlyAnswers, generate_choice
from foveal.vlm.encoding import Encoder, append_answers
from foveal.vlm.generation import generate
from foveal.vlm.loading import load

ANSWERS = ("no", "not sure", "no cat", "a cat here", "{2}")


def next_scores(vlm, encoder, prompt, written: list[int]) -> torch.Tensor:
    """Log-probabilities [V] behind a prompt and the tokens written so far, by a whole pass without a cache."""
    batch = encoder.encode([prompt], side="right")
    if written:
        batch = append_answers(batch, [written], vlm.family, 0)
        batch.pop("labels")
    with torch.no_grad():
        return vlm.model(**batch, use_cache=False).logits[0, -1].float().log_softmax(-1)


def greedy(vlm, encoder, prompt, answers) -> str:
    """The greedy path by search through the list of answers, with no tree."""
    left = {a: list(encoder.answer_ids(prompt, a)) for a in answers}
    written: list[int] = []
    while not any(ids == written for ids in left.values()):
        scores = next_scores(vlm, encoder, prompt, written)
        token = max({ids[len(written)] for ids in left.values()}, key=lambda t: float(scores[t]))
        written.append(token)
        left = {a: ids for a, ids in left.items() if ids[: len(written)] == written}
    return next(iter(left))


@pytest.mark.parametrize("family", FAMILIES)
def test_reply_is_the_greedy_path_among_the_answers_in_a_batch_of_different_lengths(tiny, family):
    vlm, encoder = open_tiny(tiny(family))
    rows = prompts(3)
    replies = generate_choice(vlm, encoder, rows, ANSWERS, names=list("abc"))
    assert replies == [greedy(vlm, encoder, row, ANSWERS) for row in rows]


def test_batch_of_different_lengths_equals_one_at_a_time(tiny):
    vlm, encoder = open_tiny(tiny("qwen2_vl"))
    rows = prompts(6)
    together = generate_choice(vlm, encoder, rows, ANSWERS, names=list("abcdef"))
    assert together == [generate_choice(vlm, encoder, [row], ANSWERS, names=["a"])[0] for row in rows]
    assert set(together) <= set(ANSWERS)


def push(vlm, token: int, by: float):
    """Makes the model write that token more gladly, whatever it has read."""

    def hook(_module, _inputs, output):
        out = output.clone()
        out[..., token] += by
        return out

    return vlm.base.get_output_embeddings().register_forward_hook(hook)


@pytest.mark.parametrize("family", ["smolvlm", "qwen2_vl", "llava", "paligemma"])
@pytest.mark.parametrize("answers", [("no", "not sure"), ("no", "no lines"), ("a cat", "a cat here")])
def test_of_two_answers_that_begin_alike_the_token_where_they_part_decides(tiny, family, answers):
    vlm, encoder = open_tiny(tiny(family))
    row = prompts(1)[0]
    ids = [encoder.answer_ids(row, a) for a in answers]
    part = next(k for k, (x, y) in enumerate(zip(*ids, strict=False)) if x != y)
    for wanted, own in zip(answers, ids, strict=True):
        handle = push(vlm, own[part], 1e3)
        for order in (answers, answers[::-1]):
            assert generate_choice(vlm, encoder, [row], order, names=["a"]) == [wanted]
        handle.remove()


def test_of_three_answers_that_begin_one_another_each_can_be_reached(tiny):
    vlm, encoder = open_tiny(tiny("smolvlm"))
    row, answers = prompts(1)[0], ("no", "no lines", "no lines here")
    short, middle, long = (encoder.answer_ids(row, a) for a in answers)
    assert middle[: len(short) - 1] == short[:-1] and long[: len(middle) - 1] == middle[:-1]
    lines = middle[len(short) - 1]
    for pushes, wanted in (({short[-1]: 1e3}, 0), ({short[-1]: 1e3, lines: 2e3}, 1), ({short[-1]: -1e3}, 2)):
        handles = [push(vlm, token, by) for token, by in pushes.items()]
        assert generate_choice(vlm, encoder, [row], answers, names=["a"]) == [answers[wanted]]
        for handle in handles:
            handle.remove()


def test_a_model_that_would_end_at_once_or_write_nonsense_still_answers(tiny):
    vlm, encoder = open_tiny(tiny("llava"))
    rows = prompts(2)
    for token in (encoder.end_id, 7):
        handle = push(vlm, token, 1e4)
        assert set(generate_choice(vlm, encoder, rows, ANSWERS, names=["a", "b"])) <= set(ANSWERS)
        handle.remove()


def test_generation_settings_of_the_model_that_forbid_an_answer_do_not_let_another_text_through(tiny):
    vlm, encoder = open_tiny(tiny("idefics3"))
    row = prompts(1)[0]
    settings = vlm.base.generation_config
    before = settings.suppress_tokens
    settings.suppress_tokens = sorted({t for a in ANSWERS for t in encoder.answer_ids(row, a)})
    try:
        assert generate_choice(vlm, encoder, [row], ANSWERS, names=["a"])[0] in ANSWERS
    finally:
        settings.suppress_tokens = before


def test_builtin_model_writes_what_it_writes_freely_where_that_is_among_the_answers():
    vlm = load(Model(device="cpu"))
    encoder = Encoder(vlm.processor, family=vlm.family, context=vlm.context)
    sizes = ((112, 112), (56, 112), (112, 112))
    rows = [
        Prompt((picture(i, size),), "How many shapes are in the picture?" + " Look well." * i)
        for i, size in enumerate(sizes)
    ]
    names, numbers = list("abc"), tuple(str(n) for n in range(13))
    free = [g.text for g in generate(vlm, encoder, rows, max_new_tokens=8, names=names)]
    assert generate_choice(vlm, encoder, rows, (*numbers, *sorted({*free} - {*numbers})), names=names) == free
    among = generate_choice(vlm, encoder, rows, numbers, names=names)
    assert set(among) <= set(numbers) and among == [greedy(vlm, encoder, row, numbers) for row in rows]


def test_scores_survive_only_for_tokens_that_continue_an_answer_and_padding_repeats_the_end():
    trie = AnswerTrie([[4, 9], [4, 5, 9], [6, 9]])
    process = OnlyAnswers([trie] * 4, start=2, end=9)
    ids = torch.tensor([[0, 3, 4, 9], [0, 3, 4, 5], [3, 3, 6, 9], [3, 3, 4, 9]])
    scores = torch.arange(10.0).expand(4, 10)
    allowed = [torch.nonzero(row > -torch.inf).flatten().tolist() for row in process(ids[:, :2], scores)]
    assert allowed == [[4, 6]] * 4
    allowed = [torch.nonzero(row > -torch.inf).flatten().tolist() for row in process(ids[:, :3], scores)]
    assert allowed == [[5, 9], [5, 9], [9], [5, 9]]
    allowed = [torch.nonzero(row > -torch.inf).flatten().tolist() for row in process(ids, scores)]
    assert allowed == [[9], [9], [9], [9]]
    assert process(ids[:, :2], scores)[0, [4, 6]].tolist() == [4.0, 6.0]


def test_scores_that_are_not_numbers_become_the_lowest_and_not_a_way_out():
    process = OnlyAnswers([AnswerTrie([[1, 2]])], start=0, end=2)
    out = process(torch.zeros(1, 0, dtype=torch.long), torch.full((1, 4), torch.nan))
    assert out.argmax().item() == 1


def test_walk_tells_the_answer_once_it_is_whole():
    trie = AnswerTrie([[4, 9], [4, 5, 9]])
    assert trie.walk([]) == ((4,), None)
    assert trie.walk([4]) == ((9, 5), None)
    assert trie.walk([4, 9, 0, 0]) == ((), 0)
    assert trie.walk([4, 5, 9]) == ((), 1)
    with pytest.raises(ValueError, match="begin no answer"):
        trie.walk([5])


@pytest.mark.parametrize("answers", [[], [[]], [[1, 2], [1, 2]], [[1], [1, 2]], [[1, 2], [1]]])
def test_answers_that_cannot_be_told_apart_are_refused(answers):
    with pytest.raises(ValueError, match="answer"):
        AnswerTrie(answers)


def test_same_answer_twice_none_at_all_and_a_row_that_is_too_long_are_told(tiny):
    vlm, encoder = open_tiny(tiny("smolvlm"))
    row = prompts(1)[0]
    with pytest.raises(UserError, match="'no' and 'no' are the same"):
        generate_choice(vlm, encoder, [row], ("no", "no"), names=["a"])
    with pytest.raises(UserError, match="no answers"):
        generate_choice(vlm, encoder, [row], (), names=["a"])
    encoder.context = 3
    with pytest.raises(UserError, match="row 7"):
        generate_choice(vlm, encoder, [row], ANSWERS, names=["row 7"])
