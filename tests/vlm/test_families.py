from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from families import FAMILIES, open_tiny, picture, prompts
from torch import nn

from foveal.config.sections import Model
from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.vlm import families
from foveal.vlm.components import by_component, component_of, linear_layers
from foveal.vlm.encoding import Encoder, append_tokens
from foveal.vlm.families import COMPONENTS, Family, family_of, register_family
from foveal.vlm.loading import load

#: Families with a record and no tiny model: built from larger parts, or of another transformers.
NOT_BUILT = {"qwen3_vl_moe", "glm4v"}


def record(vlm) -> Family:
    return family_of(vlm.family)


def test_every_record_is_of_a_family_that_is_tested(tiny):
    tested = {open_tiny(tiny(family))[0].family for family in FAMILIES}
    assert {family.name for family in families.families()} == tested | NOT_BUILT


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_name_every_parameter_and_adapters_have_somewhere_to_go(tiny, family):
    vlm, _ = open_tiny(tiny(family))
    parts = record(vlm).parts
    for name, _ in vlm.model.named_parameters():
        matching = [component for pattern, component in parts.items() if re.match(pattern, name)]
        assert matching and matching[0] == component_of(name), name
    for component in by_component(vlm.model):
        layers = linear_layers(vlm.base, component)
        assert {component_of(f"{name}.weight") for name in layers} <= {component}
        # Gemma's projector is a bare matrix, of which there are no linear layers.
        assert layers or (component, family) == ("projector", "gemma3")


@pytest.mark.parametrize("family", FAMILIES)
def test_all_that_is_not_language_is_kept_from_quantisation(tiny, family):
    vlm, _ = open_tiny(tiny(family))
    patterns = record(vlm).unquantised
    for name, module in vlm.model.named_modules():
        if isinstance(module, nn.Linear):
            kept = any(re.match(pattern, name) for pattern in patterns)
            assert kept == (component_of(f"{name}.weight") != "language" or name == "lm_head"), name


@pytest.mark.parametrize("family", FAMILIES)
def test_one_of_the_end_tokens_ends_a_reply(tiny, family):
    vlm, encoder = open_tiny(tiny(family))
    names = record(vlm).end_tokens
    have = [name for name in names if name in encoder.tokenizer.get_vocab()]
    assert have
    assert encoder.answer_ids(prompts(1)[0], "two")[-1] in encoder.tokenizer.convert_tokens_to_ids(have)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_tokens_is_continued_behind_a_prompt(tiny, family):
    vlm, encoder = open_tiny(tiny(family))
    batch = encoder.encode(prompts(2), side="left")
    length = batch["input_ids"].shape[1]
    per_token = {key for key, value in batch.items() if value.ndim > 1 and value.shape[:2] == (2, length)}
    assert per_token == {"input_ids", *record(vlm).per_token} & batch.keys()
    longer = append_tokens(batch, [[5, 6], [7, 8]], vlm.family, 0, side="left")
    for key in per_token:
        assert longer[key].shape[1] == length + 2, key
    if "token_type_ids" in batch:
        written = longer["token_type_ids"][0, -2:]
        assert written.tolist() == [1, 1] if "PaliGemma" in type(vlm.base).__name__ else [0, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_only_models_that_count_positions_of_their_own_keep_deltas(tiny, family):
    vlm, encoder = open_tiny(tiny(family))
    with torch.no_grad():
        vlm.model(**encoder.encode(prompts(1), side="left"))
    deltas = [m for m in vlm.model.modules() if isinstance(getattr(m, "rope_deltas", None), torch.Tensor)]
    assert bool(deltas) == record(vlm).own_positions


@pytest.mark.parametrize("family", FAMILIES)
def test_a_side_that_can_be_set_is_set_and_no_other(tiny, family):
    plain = load(Model(id=str(tiny(family)), device="cpu"))
    tiles = record(plain).fixed_tiles
    if record(plain).set_side is None:
        with pytest.raises(UserError, match="cannot be changed for the family"):
            load(Model(id=str(tiny(family)), device="cpu", resolution=56, tiles=tiles))
        return
    vlm = load(Model(id=str(tiny(family)), device="cpu", resolution=56, tiles=tiles))
    encoder = Encoder(vlm.processor, family=vlm.family)
    batch = encoder.encode([Prompt((picture(0),), "?")], side="left")
    assert batch["pixel_values"].shape[-2:] == (56, 56)
    with torch.no_grad():
        assert torch.isfinite(vlm.model(**batch).logits).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_is_one_view_without_tiles_unless_they_are_fixed(tiny, family):
    name = open_tiny(tiny(family))[0].family
    if family_of(name).fixed_tiles:
        with pytest.raises(UserError, match=f"the family {name} always cuts pictures into tiles"):
            open_tiny(tiny(family), tiles=False)
        return
    vlm, encoder = open_tiny(tiny(family), tiles=False)
    small, large = (encoder.encode([Prompt((picture(0, size),), "?")], side="left") for size in ((28, 28), (56, 56)))
    if not record(vlm).own_positions:  # those see pictures at their own size
        assert small["input_ids"].shape == large["input_ids"].shape


def test_a_tower_that_is_lent_gives_a_square_of_patches():
    vlm = load(Model(device="cpu"))
    side = vlm.base.config.vision_config.image_size
    tower = vlm.base.get_submodule(record(vlm).tower)
    states = tower(torch.zeros(1, 3, side, side)).last_hidden_state
    assert states.shape[1] == (side // vlm.base.config.vision_config.patch_size) ** 2


def test_an_unknown_family_has_the_defaults():
    assert family_of("frobnicate") == Family("frobnicate")
    assert not family_of("frobnicate").own_positions and family_of("frobnicate").set_side is None


def test_a_family_of_your_own_is_registered_with_its_names_and_end(tiny, monkeypatch):
    monkeypatch.setattr(families, "_families", dict(families._families))
    register_family(
        Family("mine", parts={r"my_eye\b": "vision", r"model\.visual\b": "language"}, end_tokens=("<row>",))
    )
    assert component_of("my_eye.weight") == "vision"
    assert component_of("model.visual.weight") == "language", "the newest is asked first"
    _, encoder = open_tiny(tiny("idefics3"))
    mine = Encoder(encoder.processor, family="mine")
    assert mine.end_ids == {encoder.end_id}
    with pytest.raises(ValueError, match="'tail' is no component; there are vision, projector, language, head"):
        register_family(Family("other", parts={"x": "tail"}))
    assert "other" not in families._families
    assert COMPONENTS == ("vision", "projector", "language", "head")


def test_no_family_is_named_outside_the_records():
    root = Path(families.__file__).parents[1]
    names = "|".join(sorted((f.name for f in families.families()), key=len, reverse=True))
    for file in root.rglob("*.py"):
        if file != Path(families.__file__):
            named = re.findall(rf"[\"']({names})[\"']", file.read_text(encoding="utf-8"))
            assert not named, (file, named)
