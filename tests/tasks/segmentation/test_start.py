"""A segmenter that begins with the mask decoder in its VLM's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_segmenter import opened, recipe_of
from transformers import AutoModelForImageTextToText, AutoProcessor

from foveal.errors import UserError
from foveal.tasks.segmentation.specialist import Segmenter
from foveal.tasks.segmentation.start import DECODER, save_start


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    """A segmenter whose weights are none of a new one."""
    segmenter = opened(recipe_of(tmp_path_factory.mktemp("trained"), "builtin", "--model.sam", "fine"), seed=3)
    with torch.no_grad():
        for parameter in segmenter.model.parameters():
            parameter.add_(0.01)
    return segmenter


@pytest.fixture(scope="module")
def start(trained: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start") / "model"
    save_start(trained.model, trained.vlm.processor, folder, torch.float32)
    return folder


def test_a_segmenter_of_that_folder_begins_with_all_weights(trained: Segmenter, start: Path, tmp_path: Path) -> None:
    again = opened(recipe_of(tmp_path, start, "--model.sam", "fine", "--model.resolution", 56), training=True)
    expected = trained.model.state_dict()
    assert again.model.state_dict().keys() == expected.keys()
    for name, tensor in again.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], msg=name)


def test_its_masks_and_replies_are_those_of_the_one_that_was_saved(
    trained: Segmenter, start: Path, tmp_path: Path
) -> None:
    again = opened(recipe_of(tmp_path, start, "--model.sam", "fine", "--model.resolution", 56))
    examples = again.task.load("test").examples
    for one, other in zip(trained.ask(examples), again.ask(examples), strict=True):
        assert one == other


def test_a_decoder_of_another_kind_is_drawn_anew(trained: Segmenter, start: Path, tmp_path: Path) -> None:
    coarse = opened(recipe_of(tmp_path, start, "--model.sam", "small", "--model.resolution", 56))
    name = "sam.mask_decoder.mask_tokens.weight"
    one, other = coarse.model.state_dict()[name], trained.model.state_dict()[name]
    assert one.shape == other.shape
    assert (one - other).abs().min() > 1e-4


def test_what_the_token_learned_beside_a_frozen_vlm_is_kept(tmp_path: Path) -> None:
    frozen = recipe_of(tmp_path, "builtin", "--model.sam", "fine", "--model.freeze", "[vision, projector, language]")
    segmenter = opened(frozen, training=True)
    rows = segmenter.model.rows
    assert rows is not None
    with torch.no_grad():
        rows.embed_read.fill_(0.25)
    save_start(segmenter.model, segmenter.vlm.processor, tmp_path / "model", torch.float32)
    again = opened(recipe_of(tmp_path, tmp_path / "model", "--model.sam", "fine", "--model.resolution", 56))
    token, vlm = again.model.config.token, again.vlm.base
    assert (vlm.get_input_embeddings().weight[token] == 0.25).all()
    torch.testing.assert_close(vlm.get_output_embeddings().weight[token], rows.embed_write.detach())


def test_the_folder_is_a_vlm_like_any_other(start: Path) -> None:
    model, info = AutoModelForImageTextToText.from_pretrained(start, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    tokenizer = AutoProcessor.from_pretrained(start).tokenizer
    assert len(tokenizer("a<SEG>.", add_special_tokens=False)["input_ids"]) == 3
    assert model.get_input_embeddings().num_embeddings >= len(tokenizer)


def test_a_checkpoint_replaces_the_decoder_of_the_folder(start: Path, tmp_path: Path) -> None:
    new = opened(recipe_of(tmp_path, "builtin", "--model.sam", "fine"), seed=8)
    new.model.save_pretrained(tmp_path / "checkpoint")
    recipe = recipe_of(tmp_path, start, "--model.sam", "fine", "--model.resolution", 56)
    again = opened(recipe, weights=tmp_path / "checkpoint")
    name = "sam.mask_decoder.mask_tokens.weight"
    assert torch.equal(again.model.state_dict()[name], new.model.state_dict()[name])


def test_a_damaged_decoder_is_named(start: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in start.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    recipe = recipe_of(tmp_path, copy, "--model.sam", "fine", "--model.resolution", 56)
    whole = (start / DECODER).read_bytes()
    (copy / DECODER).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=f"{DECODER}: is no mask decoder to begin with"):
        opened(recipe)
    (copy / DECODER).write_bytes(whole)
    tensors = load_file(copy / DECODER)
    del tensors["sam.no_mask.weight"]
    save_file(tensors, copy / DECODER, metadata={"kind": '{"vision": "vlm", "fine": true, "width": 96}'})
    with pytest.raises(UserError, match=r"does not fit its model \(sam.no_mask.weight\)"):
        opened(recipe)
