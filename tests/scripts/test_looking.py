"""Which picture tokens a question and its answer are to look at, and the loss of looking elsewhere."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "pretrain_builtin"))

import figure_scenes
import looking
import scenes
import train
from build import build_model
from canvas import Question, Scene
from foveal.vlm.finding import builtin_folder


@pytest.fixture(scope="module")
def tokenizer():
    return AutoProcessor.from_pretrained(builtin_folder()).tokenizer


def test_a_question_looks_at_all_places_and_each_letter_at_its_own(tokenizer) -> None:
    # 6 x 6 picture tokens from place 5 on: column 2 of rows 0 and 4.
    words = tokenizer.convert_ids_to_tokens(tokenizer("k,c; m,t", add_special_tokens=False)["input_ids"])
    looks = looking.looks_of([(0.40, 0.10), (0.48, 0.73)], words, 3, 50, 47, 5, 6)
    assert [(row, place, token) for head, row, place, token in looks if head == looking.ASKED] == [
        (3, 47, 7),
        (3, 47, 31),
    ]
    for head, tokens in ((looking.SAID, [7, 7, 31, 31]), (looking.BACK, [47] * 4)):
        said = [(words[place - 49].lstrip("\u0120"), token) for k, row, place, token in looks if k == head]
        assert said == list(zip("kcmt", tokens, strict=True))


@pytest.mark.parametrize(("point", "token"), [((0.0, 0.0), 0), ((0.99, 0.0), 5), ((0.0, 0.99), 30), ((1.0, 1.0), 35), ((0.5, 0.34), 15)])  # fmt: skip
def test_the_picture_token_of_a_point(point: tuple[float, float], token: int) -> None:
    assert looking.token_of(point, 6) == token


@pytest.mark.parametrize("view", [112, 168])
def test_looks_of_a_batch_lead_from_letters_to_the_cells_that_they_name(tokenizer, view: int) -> None:
    families = {"points": (figure_scenes.points, 1.0), "phrases": (figure_scenes.phrases, 1.0), "objects": (scenes.objects, 0.3)}  # fmt: skip
    made = [train.choose(random.Random(k), scenes.make(random.Random(k), families, view)) for k in range(24)]
    batch = train.collate(tokenizer, made)
    side = view // 28
    pictures = batch["input_ids"] == tokenizer.convert_tokens_to_ids("<image>")
    first = int(pictures[0].nonzero()[0])
    asked, back, said = (batch["looks"][batch["looks"][:, 0] == k, 1:].tolist() for k in range(3))
    assert len(said) == len(back) == 2 * sum(len(q.points) for scene in made for q in scene.questions) > 40
    near = []
    for (row, at, token), (_, below, same) in zip(said[::2], said[1::2], strict=True):
        column, line = (tokenizer.decode([batch["input_ids"][row, k + 1]]).strip() for k in (at, below))
        assert token == same
        assert pictures[row, token]
        assert batch["labels"][row, at + 1] != train.IGNORE
        # The cell's centre lies on the token's square or within half a cell of it.
        x, y = ((ord(letter) - ord("a") + 0.5) / 26 * side for letter in (column, line))
        near.append(max(abs(x - (token - first) % side - 0.5), abs(y - (token - first) // side - 0.5)))
    assert max(near) <= 0.5 + 0.5 / 26 * side + 1e-6
    assert {(row, token) for row, _, token in back} == {(row, place) for row, place, _ in asked}
    for row, place, _ in asked:
        assert tokenizer.decode([batch["input_ids"][row, place + 1]]) == "<end_of_utterance>"


def test_the_loss_is_the_logarithm_of_the_attention_on_what_is_meant() -> None:
    weights = {k: torch.zeros(2, 8, 8) for k in range(3)}
    weights[looking.ASKED][0, 5, 2], weights[looking.ASKED][0, 5, 3] = 0.2, 0.3  # one question, two places
    weights[looking.SAID][1, 6, 4], weights[looking.SAID][1, 7, 2] = 0.25, 0.5
    looks = [
        (looking.ASKED, 0, 5, 2), (looking.ASKED, 0, 5, 3), (looking.SAID, 1, 6, 4), (looking.SAID, 1, 7, 2),
    ]  # fmt: skip
    expected = -math.log(0.5) - (math.log(0.25) + math.log(0.5)) / 2
    assert looking.loss(weights, looks).item() == pytest.approx(expected, rel=1e-4)


def test_the_attention_that_is_read_is_that_of_the_named_layer_and_head(tokenizer) -> None:
    torch.manual_seed(0)
    model = build_model(tokenizer)
    attention = looking.Attention(model)
    model.set_attn_implementation("eager")
    made = [Scene([scenes.make(random.Random(1), {"one": (figure_scenes.one, 1.0)}, 112).images[0]], [Question("points", "points red star", "k,c", ((0.4, 0.1),))])]  # fmt: skip
    batch = train.collate(tokenizer, made)
    pixels = (batch["pixels"].float() / 255 - 0.98) / 0.25
    out = model(input_ids=batch["input_ids"], pixel_values=pixels, output_attentions=True)
    for k, (layer, number) in enumerate(looking.HEADS):
        assert torch.equal(attention.weights[k], out.attentions[layer][:, number])
        torch.testing.assert_close(attention.weights[k].sum(-1), torch.ones(1, batch["input_ids"].shape[1]))
