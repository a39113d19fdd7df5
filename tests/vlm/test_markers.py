from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from families import FAMILIES, picture

from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.vlm.encoding import Encoder
from foveal.vlm.markers import USUAL, check_plain
from foveal.vlm.processors import load_processor

#: The marker of a picture's place in each family.
PLACES = {
    "idefics3": "<image>", "smolvlm": "<image>", "paligemma": "<image>", "llava": "<image>", "qwen2_vl": "<|image_pad|>",
    "qwen2_5_vl": "<|image_pad|>", "qwen3_vl": "<|image_pad|>", "gemma3": "<start_of_image>", "mllama": "<|image|>",
    "internvl": "<IMG_CONTEXT>",
}  # fmt: skip


@pytest.mark.parametrize("family", [f for f in PLACES if f in FAMILIES])
def test_a_models_own_marks_in_a_text_are_a_sentence_in_every_family(tiny: Callable[[str], Path], family: str) -> None:
    processor = load_processor(tiny(family))
    encoder = Encoder(processor, family=family)
    for marker in (PLACES[family], str(processor.tokenizer.eos_token)):
        where = {"user": f"a {marker} b"}, {"user": "x", "system": f"{marker}"}, {"user": "x", "answer": f"no{marker}"}
        for texts, what in zip(where, ("question", "system text", "answer"), strict=True):
            prompt = Prompt((picture(0),), **texts)
            with pytest.raises(UserError) as caught:
                encoder.encode([prompt], side="left", names=["a.png"])
            assert str(caught.value) == (
                f"a.png: the {what} holds {marker}, which the model reads as a mark of its own (a picture's place, say, or "
                "the end of a turn) and not as text; take it out or write it otherwise."
            )
    with pytest.raises(UserError, match="prompt 2: the question holds"):
        encoder.encode([Prompt((picture(0),), "x"), Prompt((picture(1),), PLACES[family])], side="left")
    with pytest.raises(UserError, match="the answer holds"):
        encoder.answer_ids(Prompt((picture(0),), "x"), f"yes{PLACES[family]}")
    encoder.encode([Prompt((picture(0),), "a < b, [x] <b>bold</b> <images> | pad |", "unk")], side="left")


@pytest.mark.parametrize(
    "marker",
    ["<image>", "<|image_pad|>", "<image_soft_token>", "<start_of_image>", "[IMG]", "<end_of_utterance>", "<|im_end|>"],
)
def test_the_usual_marks_are_known_without_a_tokenizer(marker: str) -> None:
    with pytest.raises(UserError, match="row 7: the question holds"):
        check_plain(USUAL, [Prompt((), f"what is {marker}?")], ["row 7"])


def test_plain_text_holds_no_marks() -> None:
    for text in (
        "<b>bold</b>",
        "a [img] b",
        "x < y > z",
        "<img src='a.png'>",
        "<|>",
        "<s>deleted</s>",
        "image",
        "|im_end|",
    ):
        check_plain(USUAL, [Prompt((), text, text, text)], ["row"])
