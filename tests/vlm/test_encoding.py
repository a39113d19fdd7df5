from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families import FAMILIES, open_tiny, picture, prompts
from PIL import Image

from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.vlm.encoding import Encoder
from foveal.vlm.finding import builtin_folder
from foveal.vlm.logits import IGNORE
from foveal.vlm.processors import load_processor


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_decode_to_the_answers_and_their_end_token(tiny, family):
    _, encoder = open_tiny(tiny(family))
    rows = prompts(3)
    batch = encoder.training_batch(rows, ["a", "b", "c"])
    for i, row in enumerate(rows):
        learned = batch["labels"][i][batch["labels"][i] != IGNORE].tolist()
        assert learned[-1] in encoder.end_ids
        text = encoder.tokenizer.decode(learned[:-1])
        assert text.strip() == row.answer and text == text.rstrip(), "no space is learned behind the answer"
        # The learned tokens are the row's own last ones: everything behind them is padding.
        end = int(batch["attention_mask"][i].sum())
        assert batch["input_ids"][i, end - len(learned) : end].tolist() == learned
        assert not batch["attention_mask"][i, end:].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_training_row_begins_with_exactly_the_tokens_that_generation_starts_from(tiny, family):
    _, encoder = open_tiny(tiny(family))
    row = prompts(2)[1]
    training = encoder.training_batch([row], ["a"])
    asking = encoder.encode([row], side="left")
    n = asking["input_ids"].shape[1]
    assert torch.equal(training["input_ids"][:, :n], asking["input_ids"])
    assert (training["labels"][:, :n] == IGNORE).all()


@pytest.mark.parametrize("family", [f for f in FAMILIES if not f.startswith("paligemma")])
def test_further_turns_go_on_as_the_template_writes_them_and_answers_alone_are_learned(tiny, family):
    _, encoder = open_tiny(tiny(family))
    rows = prompts(3)
    turns = (("what else?", "a cat"), ("and then?", "two dogs"))
    asked = [replace(rows[0], turns=turns), replace(rows[1], turns=turns[:1]), rows[2]]
    batch = encoder.training_batch(asked, ["a", "b", "c"])
    for i, row in enumerate(asked):
        length = int(batch["attention_mask"][i].sum())
        ids, labels = batch["input_ids"][i, :length], batch["labels"][i, :length]
        single = encoder.training_batch([replace(row, turns=())], ["x"])
        n = single["input_ids"].shape[1]
        assert torch.equal(ids[:n], single["input_ids"][0]) and torch.equal(labels[:n], single["labels"][0])
        spans = torch.tensor_split(labels, (torch.nonzero((labels[1:] == IGNORE) != (labels[:-1] == IGNORE)) + 1)[:, 0])
        said = [span.tolist() for span in spans if len(span) and span[0] != IGNORE]
        assert all(one[-1] in encoder.end_ids for one in said)
        answers = [encoder.tokenizer.decode(one[:-1]).strip() for one in said]
        assert answers == [row.answer, *(a for _, a in row.turns)]
        # The whole as the template writes the conversation, but for the end token of templates that write none.
        messages = rows[i].messages()
        for question, answer in ((None, row.answer), *row.turns):
            content = [{"type": "text", "text": answer}]
            more = [{"role": "user", "content": [{"type": "text", "text": question}]}] if question else []
            messages = [*messages, *more, {"role": "assistant", "content": content}]
        text = encoder.processor.apply_chat_template(messages, tokenize=False)
        _, _, tail = text.partition(row.user)
        _, _, read = encoder.tokenizer.decode(ids).partition(row.user)
        for mark in encoder.tokenizer.convert_ids_to_tokens(sorted(encoder.end_ids)):
            read, tail = read.replace(mark, ""), tail.replace(mark, "")
        read, tail = "".join(read.split()), "".join(tail.split())
        assert read == tail


def test_further_turns_are_refused_without_a_template_and_their_markers_in_any(tiny):
    _, encoder = open_tiny(tiny("paligemma"))
    with pytest.raises(UserError) as error:
        encoder.training_batch([replace(prompts(1)[0], turns=(("more?", "no"),))], ["a"])
    assert str(error.value) == "The model has no chat template, so a row can have one question; ask one at a time."
    _, encoder = open_tiny(tiny("smolvlm"))
    with pytest.raises(UserError, match=r"a: the answer holds <end_of_utterance>"):
        encoder.training_batch([replace(prompts(1)[0], turns=(("more?", "<end_of_utterance>"),))], ["a"])


@pytest.mark.parametrize("family", FAMILIES)
def test_image_tokens_are_never_cut_and_as_many_in_training_as_in_asking(tiny, family):
    vlm, encoder = open_tiny(tiny(family))
    config = vlm.base.config
    token = getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)
    row = prompts(1)[0]
    long = Prompt(row.images, row.user + " word" * 40, answer=row.answer)
    a = int((encoder.training_batch([row], ["a"])["input_ids"] == token).sum())
    b = int((encoder.training_batch([long], ["a"])["input_ids"] == token).sum())
    assert a == b > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_bos_is_written_once(tiny, family):
    _, encoder = open_tiny(tiny(family))
    bos = encoder.tokenizer.bos_token_id
    ids = encoder.encode(prompts(1), side="left")["input_ids"][0].tolist()
    if bos is not None and family not in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl"):
        assert ids.count(bos) == 1


def test_system_text_reaches_the_model_in_every_family(tiny):
    for family in FAMILIES:
        _, encoder = open_tiny(tiny(family))
        prompt = Prompt((picture(0),), "how many?", system="count the red lines")
        assert "count the red lines" in encoder.text(prompt), family


def test_padding_is_left_for_asking_and_right_for_training(tiny):
    _, encoder = open_tiny(tiny("idefics3"))
    rows = prompts(3)
    asking = encoder.encode(rows, side="left")["attention_mask"]
    training = encoder.training_batch(rows, list("abc"))["attention_mask"]
    assert asking[0, 0] == 0 and asking[:, -1].all()
    assert training[0, -1] == 0 and training[:, 0].all()


def test_row_longer_than_the_context_is_refused_with_its_name_length_and_limit(tiny):
    _, encoder = open_tiny(tiny("idefics3"))
    encoder.context = 30
    with pytest.raises(UserError, match=r"^row 7: the row is \d+ tokens long, the model's context is 30; shorten"):
        encoder.training_batch(prompts(1), ["row 7"])


def test_row_without_an_answer_is_refused(tiny):
    _, encoder = open_tiny(tiny("idefics3"))
    with pytest.raises(UserError, match="row 3: the row has no answer"):
        encoder.training_batch([Prompt((picture(0),), "how many?")], ["row 3"])


def test_decoded_mask_marks_the_answer_and_counts_picture_tokens(tiny):
    _, encoder = open_tiny(tiny("idefics3"))
    row = Prompt((picture(0),), "how many?", answer="two")
    text = encoder.decode_labels(encoder.training_batch([row], ["a"]))
    learned = "".join(part.split("]]")[0] for part in text.split("[[")[1:])
    assert learned.strip().startswith("two")
    assert "<image> x" in text and "how" in text.split("[[")[0]


def test_image_size_shrinks_the_longest_side_and_leaves_small_pictures(tiny):
    _, encoder = open_tiny(tiny("idefics3"))
    encoder.image_size = 100
    assert encoder._shrink(picture(0, (400, 200))).size == (100, 50)
    assert encoder._shrink(picture(0, (90, 60))).size == (90, 60)


@pytest.mark.parametrize("template", ["{% for m in messages %}", "{{ nothing.there }}", "{{ raise_exception('no') }}"])
def test_a_broken_chat_template_is_a_sentence(template: str) -> None:
    encoder = broken_encoder(template)
    with pytest.raises(
        UserError, match=r"^The model's chat template cannot write a question about a picture \(.*\); get"
    ):
        encoder.text(Prompt((Image.new("RGB", (32, 32)),), "count"))


def test_a_chat_template_without_the_picture_is_a_sentence() -> None:
    with pytest.raises(
        UserError, match=r"^The model's processor cannot take the pictures with their text \(.*\); check"
    ):
        broken_encoder("plain text").encode([Prompt((Image.new("RGB", (32, 32)),), "count")], side="left")


def broken_encoder(template: str) -> Encoder:
    processor = load_processor(builtin_folder())
    processor.chat_template = template
    return Encoder(processor, family="idefics3")
