from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.vlm import processors
from foveal.vlm.processors import load_processor, save_processor
from tiny_models import FAMILIES, VIDEO_FAMILIES, to_legacy

without_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed, so nothing stands in for it"
)


def picture(seed: int, size: tuple[int, int] = (56, 42)) -> Image.Image:
    image = Image.new("RGB", size, (40 * seed % 256, 200, 90))
    ImageDraw.Draw(image).line((0, 5 * seed, size[0], size[1] - 7 * seed), fill=(255, 20 * seed, 0), width=5)
    return image


def text_of(processor, prompt: Prompt) -> str:
    if processor.chat_template is None:  # PaliGemma
        return "<image>" * len(prompt.images) + prompt.user
    return processor.apply_chat_template(prompt.messages(), tokenize=False, add_generation_prompt=True)


def batch_of(processor, prompts: list[Prompt]) -> dict[str, torch.Tensor]:
    texts, bos = [text_of(processor, prompt) for prompt in prompts], processor.tokenizer.bos_token
    batch = processor(
        text=texts, images=[list(prompt.images) for prompt in prompts], padding=True, padding_side="left",
        add_special_tokens=not (bos and texts[0].startswith(bos)), return_tensors="pt",
    )  # fmt: skip
    batch.pop("labels", None)
    return dict(batch)


def relayout(folder: Path, layout: str) -> None:
    """Rewrites a folder to one of the layouts that are found on the Hub."""
    if layout == "nested":
        return
    to_legacy(folder)
    file = folder / "preprocessor_config.json"
    if layout == "legacy, fast":
        settings = json.loads(file.read_text())
        file.write_text(json.dumps({**settings, "image_processor_type": settings["image_processor_type"] + "Fast"}))
    if layout == "legacy, one file":  # the video processor reads the image processor's settings
        (folder / "video_preprocessor_config.json").unlink()


@without_torchvision
@pytest.mark.parametrize("layout", ["nested", "legacy", "legacy, fast", "legacy, one file"])
@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_loads_copies_saves_and_loads_again(family, layout, tiny, tmp_path):
    source, saved = tmp_path / "source", tmp_path / "saved"
    shutil.copytree(tiny(family), source)
    relayout(source, layout)
    processor = load_processor(source)
    save_processor(processor, saved)

    name = {
        "nested": "processor_config.json",
        "legacy, one file": "preprocessor_config.json",
    }.get(layout, "video_preprocessor_config.json")
    video = json.loads((source / name).read_text())
    video = video["video_processor"] if layout == "nested" else video
    assert json.loads((saved / "processor_config.json").read_text())["video_processor"] == video

    prompts = [Prompt((picture(1),), "How many?"), Prompt((picture(2),), "How many times do they cross?")]
    expected = batch_of(processor, prompts)
    for twin in (load_processor(saved), AutoProcessor.from_pretrained(saved), copy.deepcopy(processor),
                 pickle.loads(pickle.dumps(processor))):  # fmt: skip
        assert type(twin) is type(processor)
        assert repr(twin).splitlines()[0] == f"{type(processor).__name__}:"
        assert twin.to_dict() == processor.to_dict()
        got = batch_of(twin, prompts)
        assert got.keys() == expected.keys()
        assert all(torch.equal(got[key], expected[key]) for key in expected)


@without_torchvision
def test_a_fresh_process_can_use_and_save_a_pickled_processor(tiny, tmp_path):
    (tmp_path / "pickle").write_bytes(pickle.dumps(load_processor(tiny("smolvlm"))))
    code = (
        "import pickle, sys; p = pickle.load(open(sys.argv[1] + '/pickle', 'rb')); p.save_pretrained(sys.argv[1])\n"
        "print(p.apply_chat_template([{'role': 'user', 'content': [{'type': 'image'}]}]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout == "<|im_start|>User:<image><end_of_utterance>\n\n", done.stderr
    assert load_processor(tmp_path).video_processor.num_frames == 8


@without_torchvision
def test_a_folder_without_any_video_settings_loads_and_leaves_them_to_transformers(tiny, tmp_path):
    shutil.copytree(tiny("internvl"), tmp_path / "source")
    file = tmp_path / "source" / "processor_config.json"
    settings = json.loads(file.read_text())
    del settings["video_processor"]
    file.write_text(json.dumps(settings))
    save_processor(load_processor(tmp_path / "source"), tmp_path / "saved")
    # With an empty entry, transformers takes the class of the video processor from the model's type.
    assert json.loads((tmp_path / "saved" / "processor_config.json").read_text())["video_processor"] == {}


@without_torchvision
def test_pictures_are_processed_by_pillow(tiny):
    assert all(type(load_processor(tiny(family)).image_processor).__name__.endswith("Pil") for family in FAMILIES)


@without_torchvision
def test_a_video_is_refused(tiny):
    processor = load_processor(tiny("qwen2_vl"))
    with pytest.raises(UserError, match="torchvision"):
        processor(text=["<|video_pad|>"], videos=[[picture(1), picture(2)]])


COUNTS = [(1, 1), (2, 2), (1, 2)]


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_batch_of_unequal_rows(family, counts, tiny):
    processor = load_processor(tiny(family))
    model = AutoModelForImageTextToText.from_pretrained(tiny(family)).eval()
    users = ["How many?", "How many times do the lines in the picture cross?"]
    prompts = [
        Prompt(tuple(picture(3 * row + i + 1) for i in range(count)), user)
        for row, (count, user) in enumerate(zip(counts, users, strict=True))
    ]
    batch = batch_of(processor, prompts)
    mask = batch["attention_mask"]
    assert not mask[:, 0].all()  # a row is padded on the left
    assert mask[:, -1].all()
    with torch.no_grad():
        logits = model(**batch).logits[:, -1]
        alone = torch.cat([model(**batch_of(processor, [prompt])).logits[:, -1] for prompt in prompts])
        replies = model.generate(**batch, max_new_tokens=2, do_sample=False)
    assert replies[:, mask.shape[1]].tolist() == logits.argmax(-1).tolist()
    # In transformers' Mllama, tokens in front of a picture attend to the padding that rows with fewer pictures get.
    if family != "mllama" or counts[0] == counts[1]:
        torch.testing.assert_close(logits, alone, atol=1e-4, rtol=1e-4)

    for row, prompt in enumerate(prompts):
        for i in range(counts[row]):  # each picture matters, to its own row only
            images = [picture(11) if j == i else image for j, image in enumerate(prompt.images)]
            changed = [Prompt(tuple(images), prompt.user) if k == row else other for k, other in enumerate(prompts)]
            with torch.no_grad():
                difference = (model(**batch_of(processor, changed)).logits[:, -1] - logits).abs().amax(-1)
            assert difference[row] > 1e-3
            assert difference[1 - row] < 1e-4


def test_a_bos_token_is_written_once(tiny):
    for family in FAMILIES:
        processor = load_processor(tiny(family))
        ids = batch_of(processor, [Prompt((picture(1),), "How many?")])["input_ids"][0]
        if processor.tokenizer.bos_token_id is not None:
            assert (ids == processor.tokenizer.bos_token_id).sum() == 1, family


def test_with_torchvision_the_processor_is_loaded_as_usual(tiny, monkeypatch):
    monkeypatch.setattr(processors, "torchvision_works", lambda: True)
    monkeypatch.setattr(processors, "stand_in_for_video_processors", lambda: pytest.fail("must not be called"))
    assert type(load_processor(tiny("llava"))).__name__ == "LlavaProcessor"


@pytest.mark.parametrize(
    "error", [RuntimeError("operator torchvision::nms does not exist"), ImportError("libcudart.so")]
)
def test_a_torchvision_that_does_not_fit_is_named(error, monkeypatch, tmp_path):
    def broken(name: str) -> None:
        raise error

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(UserError, match=rf"{error}.*pip uninstall torchvision"):
        load_processor(tmp_path)


def test_torchvision_is_found_where_it_is(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert processors.torchvision_works() is False
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib, "import_module", lambda name: object())
    assert processors.torchvision_works() is True


def test_what_cannot_be_loaded_is_said_in_a_sentence(tiny, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        load_processor(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_processor(tmp_path)
    with pytest.raises(UserError, match="nobody/nothing: the processor cannot be loaded"):
        load_processor("nobody/nothing")

    AutoTokenizer.from_pretrained(tiny("qwen2_vl")).save_pretrained(tmp_path / "text")
    (tmp_path / "text" / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    settings = json.loads((tmp_path / "text" / "tokenizer_config.json").read_text())
    settings.pop("processor_class", None)
    (tmp_path / "text" / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"no model for pictures and text .*Tokenizer"):
        load_processor(tmp_path / "text")


def test_code_that_comes_with_a_model_is_not_run_unasked(tiny, tmp_path):
    shutil.copytree(tiny("qwen2_vl"), tmp_path, dirs_exist_ok=True)
    file = tmp_path / "processor_config.json"
    remote = {"processor_class": "TheirProcessor", "auto_map": {"AutoProcessor": "theirs.TheirProcessor"}}
    file.write_text(json.dumps({**json.loads(file.read_text()), **remote}))
    (tmp_path / "theirs.py").write_text(
        "from transformers import LlavaProcessor, Qwen2VLProcessor\n"
        "class TheirProcessor(Qwen2VLProcessor):\n    trusted = True\n"
    )
    with pytest.raises(UserError, match="trust_remote_code: true"):
        load_processor(tmp_path)
    assert load_processor(tmp_path, trust_remote_code=True).trusted


def test_a_folder_that_cannot_be_written_is_named(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="file"):
        save_processor(load_processor(tiny("llava")), tmp_path / "file")
