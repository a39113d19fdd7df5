from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from families import picture
from tiny_segmenter import tiny_sam
from transformers import SamModel
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.tasks.segmentation.sam import SamParts, load_sam, sam_config, small_config
from foveal.tasks.segmentation.square import SAM_MEAN, SAM_STD, SquarePictures, geometry_error, probe_picture


@torch.no_grad()
def test_the_decoder_draws_what_the_whole_model_draws() -> None:
    model = tiny_sam()
    parts = SamParts(model, encoder=True)
    assert (parts.grid, parts.width, parts.side) == (4, 16, 64)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    # Two masks for each picture, each from a box, which the prompt encoder makes two embeddings of.
    boxes = torch.tensor([[[5.0, 6, 40, 50], [1, 2, 30, 20]], [[10, 10, 60, 60], [0, 0, 20, 60]]])
    whole = model(pixel_values=pixels, input_boxes=boxes, multimask_output=False)
    grid = parts.vision_encoder(pixels)[0]
    sparse, dense = model.prompt_encoder(input_points=None, input_labels=None, input_boxes=boxes, input_masks=None)
    wide = model.get_image_wide_positional_embeddings()
    direct, scores = model.mask_decoder(
        image_embeddings=grid, image_positional_embeddings=wide.repeat(2, 1, 1, 1),
        sparse_prompt_embeddings=sparse[:, :, :1], dense_prompt_embeddings=dense, multimask_output=False,
    )  # fmt: skip
    masks, ious = parts.decode(grid, sparse[:, :, 0])
    assert masks.shape == (2, 2, 16, 16) and ious.shape == (2, 2)
    assert torch.allclose(masks, direct[:, :, 0], atol=1e-6) and torch.allclose(ious, scores[:, :, 0], atol=1e-6)
    # The same call with all embeddings of the boxes is the whole model's own forward pass.
    again, _ = model.mask_decoder(
        image_embeddings=grid, image_positional_embeddings=wide.repeat(2, 1, 1, 1),
        sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=False,
    )  # fmt: skip
    assert torch.allclose(again, whole.pred_masks, atol=1e-6)
    assert masks.std() > 0.01 and not torch.allclose(masks[:, 0], masks[:, 1], atol=1e-3)


@torch.no_grad()
def test_places_are_sams_own() -> None:
    model = tiny_sam()
    seen = {}
    model.mask_decoder.register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    SamParts(model, encoder=False).decode(torch.zeros(3, 16, 4, 4), torch.zeros(3, 1, 16))
    wide = model.get_image_wide_positional_embeddings()
    assert (seen["image_positional_embeddings"] - wide).abs().max() < 1e-6
    assert seen["image_positional_embeddings"].shape == (3, 16, 4, 4)
    assert torch.equal(seen["dense_prompt_embeddings"][2, :, 1, 3], model.prompt_encoder.no_mask_embed.weight[0])


@torch.no_grad()
def test_pictures_and_masks_of_a_batch_do_not_mix() -> None:
    parts = SamParts(tiny_sam(), encoder=False)
    draw = torch.Generator().manual_seed(2)
    grid, prompts = torch.randn(3, 16, 4, 4, generator=draw), torch.randn(3, 2, 16, generator=draw)
    masks, ious = parts.decode(grid, prompts)
    for i in range(3):
        for k in range(2):
            one, score = parts.decode(grid[i : i + 1], prompts[i : i + 1, k : k + 1])
            assert torch.allclose(masks[i, k], one[0, 0], atol=1e-5)
            assert torch.allclose(ious[i, k], score[0, 0], atol=1e-5)


def test_the_small_one_has_the_stated_size() -> None:
    parts = load_sam("small", encoder=True)
    whole = SamModel(small_config())
    assert sum(p.numel() for p in whole.parameters()) == pytest.approx(1.0e6, rel=0.05)
    assert (parts.side, parts.grid, parts.width) == (256, 16, 96)
    with torch.no_grad():
        grid = parts.vision_encoder(torch.zeros(1, 3, 256, 256))[0]
        assert grid.shape == (1, 96, 16, 16)
        assert parts.decode(grid, torch.zeros(1, 1, 96))[0].shape == (1, 1, 64, 64)
    assert load_sam("small", encoder=False).vision_encoder is None


def test_a_folder_is_loaded_with_its_weights(tmp_path: Path) -> None:
    model = tiny_sam()
    model.save_pretrained(tmp_path)
    parts = load_sam(str(tmp_path), encoder=True)
    grid, prompts = torch.randn(1, 16, 4, 4), torch.randn(1, 1, 16)
    with torch.no_grad():
        ours, theirs = parts.decode(grid, prompts), SamParts(model, encoder=True).decode(grid, prompts)
    assert torch.allclose(ours[0], theirs[0], atol=1e-5) and torch.allclose(ours[1], theirs[1], atol=1e-5)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        # Another attention kernel may round in another way.
        assert torch.allclose(parts.vision_encoder(pixels)[0], model.vision_encoder(pixels)[0], atol=1e-5)


def test_what_is_no_sam_is_refused(tmp_path: Path, tiny) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(
        UserError, match=r"model\.sam: 'nobody/nothing' cannot be loaded \(.*\); give small, fine, a folder, or"
    ):
        sam_config("nobody/nothing")
    with pytest.raises(UserError, match="is of type 'llava'; give a SAM such as facebook/sam-vit-base, small or fine"):
        load_sam(str(tiny("llava")), encoder=False)
    tiny_sam().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match=r"cannot be loaded"):
        load_sam(str(tmp_path), encoder=False)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam"}))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"cannot be loaded"):
        load_sam(str(tmp_path), encoder=False)


@pytest.mark.parametrize("side", [48, 64, 300])
def test_squares_come_to_sams_encoder_as_from_its_own_processor(side: int) -> None:
    square = picture(3, (side, side))
    ours = SquarePictures((127, 127, 127), 64).sam_pixels([Prompt((square,), "?")])
    own = SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}, do_pad=True)
    theirs = own(square, return_tensors="pt")["pixel_values"]
    assert ours is not None and ours.shape == theirs.shape == (1, 3, 64, 64)
    assert (ours - theirs).abs().max() < 1e-5
    assert np.allclose(own.image_mean, SAM_MEAN) and np.allclose(own.image_std, SAM_STD)
    assert geometry_error(own(probe_picture(), return_tensors="pt")["pixel_values"], SAM_MEAN, SAM_STD) is None
