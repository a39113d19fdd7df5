from __future__ import annotations

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoTokenizer

from foveal.vlm.processors import load_processor
from tiny_models import FAMILIES, build


@pytest.mark.parametrize("family", FAMILIES)
def test_is_the_same_each_time_and_leaves_the_global_random_state_alone(family, tiny, tmp_path):
    torch.manual_seed(1)
    again = build(family, tmp_path)
    after = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(3))
    one, two = (load_file(folder / "model.safetensors") for folder in (tiny(family), again))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_parameter_that_is_used(family, tiny):
    processor = load_processor(tiny(family))
    model = AutoModelForImageTextToText.from_pretrained(tiny(family))
    content = [{"type": "image"}, {"type": "text", "text": "How many?"}]
    text = "<image>How many?"
    if processor.chat_template:
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    batch = processor(text=[text], images=[[Image.effect_mandelbrot((56, 42), (-2, -1, 1, 1), 50).convert("RGB")]],
                      return_tensors="pt")  # fmt: skip
    batch.pop("labels", None)
    model(**batch).logits[:, -1].log_softmax(-1)[0, 300].backward()
    silent = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    if family == "llava":  # takes the features of the second last layer
        silent = [name for name in silent if "layers.1." not in name and "post_layernorm" not in name]
    assert silent == []


def test_llava_tokenizer_writes_a_space_in_front_of_text_as_llama_2(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny("llava"))
    plain = tokenizer("yes", add_special_tokens=False)["input_ids"]
    spaced = tokenizer(" yes", add_special_tokens=False)["input_ids"]
    after = tokenizer("ASSISTANT: yes", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(plain)[0].startswith("▁")
    assert after[-len(plain) :] == plain
    assert spaced == [tokenizer.convert_tokens_to_ids("▁"), *plain]


@pytest.mark.parametrize("family", FAMILIES)
def test_output_layer_is_tied_where_the_familys_is(family, tiny):
    model = AutoModelForImageTextToText.from_pretrained(tiny(family))
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert tied == (family in ("paligemma", "paligemma2", "smolvlm", "qwen2_vl", "gemma3"))
