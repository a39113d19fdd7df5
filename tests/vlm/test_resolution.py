from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageDraw

from foveal.config.sections import Model
from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.vlm.encoding import Encoder
from foveal.vlm.loading import load


def picture(side: int) -> Image.Image:
    image = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(image).ellipse((side // 4, side // 8, side // 2, side // 2), fill="navy")
    return image


def logits(vlm, side=300):
    encoder = Encoder(vlm.processor, family=vlm.family, context=vlm.context, image_size=None)
    batch = encoder.training_batch([Prompt((picture(side),), "count", answer="2")], ["row"])
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    with torch.no_grad():
        return batch, vlm.model(**inputs).logits


@pytest.mark.parametrize("family", ["builtin", "idefics3", "paligemma2"])
def test_the_model_sees_more_pixels_and_tokens(tiny, family):
    source = family if family == "builtin" else str(tiny(family))
    own = load(Model(id=source))
    side = own.base.config.vision_config.image_size
    if getattr(own.processor.image_processor, "do_image_splitting", False):
        with pytest.raises(UserError, match="cuts pictures into tiles"):
            load(Model(id=source, resolution=2 * side))
        return
    more = load(Model(id=source, resolution=2 * side))
    before, after = logits(own)[0], logits(more)[0]
    assert after["pixel_values"].shape[-2:] == (2 * side, 2 * side)
    token = own.base.config.image_token_id
    counts = [int((b["input_ids"] == token).sum()) for b in (before, after)]
    assert counts[1] == 4 * counts[0] > 0
    assert torch.isfinite(logits(more)[1]).all()
    # Stretched positions are an interpolation: bicubic weights sum to 1, and shrinking back gives nearly the old table.
    old, new = (next(p for n, p in v.base.named_parameters() if "position_embedding" in n) for v in (own, more))
    assert new.shape == (4 * old.shape[0], old.shape[1])
    assert new.mean(0) == pytest.approx(old.mean(0), abs=0.05)


def test_the_own_resolution_changes_nothing():
    plain, same = load(Model()), load(Model(resolution=112))
    torch.testing.assert_close(logits(same)[1], logits(plain)[1], rtol=0, atol=0)


def test_a_saved_model_keeps_its_resolution(tmp_path):
    vlm = load(Model(resolution=168), training=True)
    vlm.base.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    as_model = load(Model(id=str(tmp_path)))
    as_weights = load(Model(resolution=168), weights=tmp_path)
    assert as_model.base.config.vision_config.image_size == 168
    vlm.model.eval()
    expected = logits(vlm)[1]
    torch.testing.assert_close(logits(as_model)[1], expected)
    torch.testing.assert_close(logits(as_weights)[1], expected)


@pytest.mark.parametrize("side", [100, 28, 5600])
def test_impossible_sides_are_refused(side):
    with pytest.raises(UserError, match=f"resolution: {side} is not possible; give a multiple of 28"):
        load(Model(resolution=side))


def test_other_families_are_refused(tiny):
    with pytest.raises(UserError, match="cannot be changed for the family qwen2_vl"):
        load(Model(id=str(tiny("qwen2_vl")), resolution=112))
