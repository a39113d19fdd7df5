from __future__ import annotations

import pytest
import torch
from families import FAMILIES, LORA, open_tiny, prompts

from foveal.config.sections import Lora, Model
from foveal.errors import UserError
from foveal.vlm import adapters
from foveal.vlm.components import by_component, component_of, plain_name, register_components, sizes
from foveal.vlm.loading import load
from foveal.vlm.losses import answer_loss


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_a_component_and_none_is_counted_twice(tiny, family):
    vlm, _ = open_tiny(tiny(family))
    groups = by_component(vlm.model)
    assert set(groups) == {"vision", "projector", "language"}
    assert sum(s.parameters for s in sizes(vlm.model)) == sum(p.numel() for p in vlm.model.parameters())


def _step(vlm, encoder, lr: float = 0.1) -> dict[str, torch.Tensor]:
    """One step of plain SGD; returns the parameters from before it."""
    before = {n: p.detach().clone() for n, p in vlm.model.named_parameters()}
    answer_loss(vlm.model, encoder.training_batch(prompts(3), list("abc")), None).backward()
    with torch.no_grad():
        for p in vlm.model.parameters():
            if p.grad is not None:
                p -= lr * p.grad.sign()
    return before


@pytest.mark.parametrize("family", FAMILIES)
def test_trainable_parameters_change_and_frozen_ones_do_not(tiny, family):
    vlm, encoder = open_tiny(tiny(family), training=True, freeze=["vision"])
    before = _step(vlm, encoder)
    changed = {n for n, p in vlm.model.named_parameters() if not torch.equal(p, before[n])}
    assert not [n for n in changed if component_of(n) == "vision"]
    for component in ("projector", "language"):
        names = [n for n, _ in by_component(vlm.model)[component]]
        assert len(changed.intersection(names)) >= 0.9 * len(names), component


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_trains_adapters_and_the_named_component_and_nothing_else(tiny, family):
    lora = Lora(r=4, alpha=8, dropout=0.0, components=["language"], also_train=["projector"])
    vlm, encoder = open_tiny(tiny(family), training=True, adapter="lora", lora=lora)
    before = _step(vlm, encoder)
    changed = {n for n, p in vlm.model.named_parameters() if not torch.equal(p, before[n])}
    for name in changed:
        assert "lora_" in name or component_of(name) == "projector", name
    trainable = {n for n, p in vlm.model.named_parameters() if p.requires_grad}
    assert any("lora_B" in n for n in changed) and any(component_of(n) == "projector" for n in changed)
    assert all("lora_" in n or "modules_to_save" in n for n in trainable)
    assert not [n for n in trainable if "lora_" in n and component_of(n) == "vision"]


@pytest.mark.parametrize("family", FAMILIES)
def test_vision_adapters_sit_in_the_vision_tower_only(tiny, family):
    lora = Lora(r=2, alpha=4, dropout=0.0, components=["vision"])
    vlm, _ = open_tiny(tiny(family), training=True, adapter="lora", lora=lora)
    names = [n for n, p in vlm.model.named_parameters() if p.requires_grad]
    assert names and {component_of(n) for n in names} == {"vision"}


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_adapter_and_merged_model_give_the_logits_of_the_trained_one(tiny, family, tmp_path):
    vlm, encoder = open_tiny(tiny(family), training=True, adapter="lora", lora=LORA)
    _step(vlm, encoder, lr=0.02)
    batch = {k: v for k, v in encoder.training_batch(prompts(2), list("ab")).items() if k != "labels"}
    vlm.model.eval()
    with torch.no_grad():
        trained = vlm.model(**batch).logits
    vlm.model.save_pretrained(tmp_path)
    again = load(Model(id=str(tiny(family)), dtype="float32", device="cpu", attention="eager"), weights=tmp_path)
    with torch.no_grad():
        assert (again.model(**batch).logits - trained).abs().max() < 1e-5
        merged = adapters.merge(again.model).eval()
        assert (merged(**batch).logits - trained).abs().max() < 1e-4
        base, _ = open_tiny(tiny(family))
        assert (base.model(**batch).logits - trained).abs().max() > 1e-3, "the adapter does something"


def test_learning_rates_by_component_reach_the_parameter_groups(tiny):
    vlm, _ = open_tiny(tiny("idefics3"), training=True)
    recipe = Model(id="x", learning_rates={"projector": 5e-4, "language": 5e-5})
    groups = adapters.parameter_groups(vlm.model, recipe, 1e-3, 0.1)
    rates = {g["component"]: g["lr"] for g in groups}
    assert rates == {"vision": 1e-3, "projector": 5e-4, "language": 5e-5}
    assert sum(len(g["params"]) for g in groups) == len(list(vlm.model.parameters()))
    for g in groups:
        matrices = {p.ndim >= 2 and "embed" not in n for n, p in zip(g["names"], g["params"], strict=True)}
        assert matrices == {g["weight_decay"] > 0}


def test_names_without_wrapping():
    assert (
        plain_name("base_model.model.model.text_model.layers.0.q.base_layer.weight")
        == "model.text_model.layers.0.q.weight"
    )
    assert plain_name("module.model.connector.modules_to_save.default.proj.weight") == "model.connector.proj.weight"


def test_unknown_parameter_is_refused_and_can_be_registered():
    with pytest.raises(UserError, match=r"'my_head.weight' belongs to no known component"):
        component_of("my_head.weight")
    register_components({r"my_head\b": "head"})
    assert component_of("my_head.weight") == "head"
    with pytest.raises(ValueError, match="no component"):
        register_components({"x": "tail"})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"freeze": ["vision", "projector", "language"]}, "every component is frozen"),
        ({"freeze": ["head"]}, "'head' is not a component of this model; it has vision, projector, language"),
        ({"learning_rates": {"visoin": 1e-4}}, "'visoin' is not a component"),
        ({"adapter": "lora", "lora": Lora(components=["language"], also_train=["language"])}, "choose one"),
        ({"adapter": "lora", "lora": Lora(components=["head"])}, "'head' has no linear layers"),
        ({"adapter": "lora", "lora": Lora(r=0)}, "rank must be at least 1"),
    ],
)
def test_contradicting_settings_are_refused(tiny, model, message):
    with pytest.raises(UserError, match=message):
        open_tiny(tiny("idefics3"), training=True, **model)


def test_a_reset_component_is_drawn_anew_and_the_others_stay():
    import torch

    from foveal.config.sections import Lora, Model

    plain, fresh = load(Model()), load(Model(reset=["projector"]), training=True)
    before, after = dict(plain.base.named_parameters()), dict(fresh.base.named_parameters())
    changed = {component_of(n) for n in before if not torch.equal(before[n], after[n])}
    assert changed == {"projector"}
    weight = next(p for n, p in after.items() if component_of(n) == "projector")
    bound = (6 / (weight.shape[0] + weight.shape[1])) ** 0.5  # Xavier's uniform range.
    assert 0.98 * bound < weight.abs().max() <= bound
    assert float(weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.02)
    with pytest.raises(UserError, match="projector would start from random weights and not learn"):
        load(Model(reset=["projector"], freeze=["projector"]), training=True)
    with pytest.raises(UserError, match=r"add it to model\.lora\.also_train"):
        load(Model(reset=["projector"], adapter="lora"), training=True)
    kept = load(Model(reset=["projector"], adapter="lora", lora=Lora(also_train=["projector"])), training=True)
    assert any(p.requires_grad and "modules_to_save" in n for n, p in kept.model.named_parameters())


def test_a_fresh_projector_with_adapters_is_saved_and_loaded(tiny, tmp_path):
    import torch

    from foveal.config.sections import Lora, Model

    recipe = Model(
        id=str(tiny("llava")), adapter="lora", reset=["projector"], learning_rates={"projector": 5e-4},
        lora=Lora(r=4, also_train=["projector"]),
    )  # fmt: skip
    fresh = load(recipe, training=True)
    groups = adapters.parameter_groups(fresh.model, recipe, 5e-5, 0.0)
    assert {g["component"]: g["lr"] for g in groups} == {"projector": 5e-4, "language": 5e-5}
    fresh.model.save_pretrained(tmp_path)
    again = load(recipe, weights=tmp_path)

    def projector(vlm):
        named = vlm.model.named_parameters()
        return [p for n, p in named if component_of(n) == "projector" and "original_module" not in n]

    for a, b in zip(projector(fresh), projector(again), strict=True):
        torch.testing.assert_close(a, b)
