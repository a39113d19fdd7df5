"""Trainable parameters: adapters, frozen components, and groups with a learning rate for each component."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from torch import nn
from transformers import PreTrainedModel

from foveal.config.sections import Model
from foveal.errors import UserError
from foveal.vlm.components import adapter_targets, by_component, component_modules, component_of, sizes
from foveal.vlm.families import COMPONENTS


def make_trainable(model: PreTrainedModel, recipe: Model) -> nn.Module:
    """Adds adapters or freezes components as the recipe says.

    Returns:
        The model, wrapped by `peft` where it has adapters.

    Raises:
        UserError: A named component is not in the model, nothing is left to train, or quantised weights would have to
            be trained themselves.
    """
    have = by_component(model)
    for where, names in (
        ("freeze", recipe.freeze), ("learning_rates", list(recipe.learning_rates)),
        ("lora.components", recipe.lora.components), ("lora.also_train", recipe.lora.also_train), ("reset", recipe.reset),
    ):  # fmt: skip
        for name in names:
            if name not in COMPONENTS or (name not in have and not where.startswith("lora")):
                raise UserError(f"model.{where}: {name!r} is not a component of this model; it has {', '.join(have)}.")
    untrained = [
        c for c in recipe.reset if c in recipe.freeze or (recipe.adapter == "lora" and c not in recipe.lora.also_train)
    ]
    if untrained:
        raise UserError(
            f"model.reset: {', '.join(untrained)} would start from random weights and not learn; take it out of model.freeze, "
            "or add it to model.lora.also_train."
        )
    for component in recipe.reset:
        reset(model, component)
    if recipe.adapter == "lora":
        return _with_lora(model, recipe)
    if recipe.quantization != "none":
        raise UserError(
            f"model.quantization: {recipe.quantization} weights cannot be trained themselves; "
            "set model.adapter to lora, or model.quantization to none."
        )
    for part, parameters in have.items():
        for _, parameter in parameters:
            parameter.requires_grad_(part not in recipe.freeze)
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError("model.freeze: every component is frozen, so nothing would be learned; leave one out.")
    whole: nn.Module = model
    return whole


def reset(model: nn.Module, component: str) -> None:
    """Initialises a component's weights again, in place: matrices by Xavier's uniform rule (Glorot and Bengio 2010), biases 0,
    norms 1. The architecture stays the family's own, so that a checkpoint still loads anywhere.

    Raises:
        UserError: The component has packed (4-bit) weights.
    """
    for name, parameter in by_component(model).get(component, ()):
        if not parameter.is_floating_point():
            raise UserError(f"model.reset: the weights of {component} are quantised; set model.quantization to none.")
        with torch.no_grad():
            if parameter.ndim >= 2:
                nn.init.xavier_uniform_(parameter)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)


def _with_lora(model: PreTrainedModel, recipe: Model) -> nn.Module:
    lora = recipe.lora
    both = set(lora.components) & set(lora.also_train)
    if both:
        raise UserError(f"model.lora: {', '.join(sorted(both))} cannot have adapters and be trained whole; choose one.")
    if recipe.freeze:
        raise UserError(
            "model.freeze: with adapter: lora all weights are frozen already; choose model.lora.components."
        )
    if lora.r < 1:
        raise UserError(f"model.lora.r: the rank must be at least 1, not {lora.r}.")
    have = by_component(model)
    packed = [c for c in lora.also_train if not all(p.is_floating_point() for _, p in have.get(c, ()))]
    if packed:
        raise UserError(
            f"model.lora.also_train: {', '.join(packed)} has {recipe.quantization} weights, which cannot be trained "
            "themselves; name it in model.lora.components instead, or set model.quantization to none."
        )
    whole = [name for component in lora.also_train for name in component_modules(model, component)]
    config = peft.LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, use_dora=lora.dora, bias="none",
        target_modules=adapter_targets(model, lora.components), modules_to_save=whole or None,
    )  # fmt: skip
    if recipe.quantization != "none":
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=recipe.gradient_checkpointing)
    return _without_card(peft.get_peft_model(model, config))


def _without_card(model: Any) -> nn.Module:
    """The model, which saves no README.md: peft's says nothing but "More Information Needed" and a path of this machine."""
    model.create_or_update_model_card = lambda folder: None
    wrapped: nn.Module = model
    return wrapped


def load_adapter(model: PreTrainedModel, folder: Path, *, trainable: bool) -> nn.Module:
    """A saved adapter on its base model."""
    return _without_card(peft.PeftModel.from_pretrained(model, folder, is_trainable=trainable))


def merge(model: nn.Module) -> PreTrainedModel:
    """The base model with its adapters folded into the weights."""
    inner: Any = model
    return inner.merge_and_unload() if isinstance(inner, peft.PeftModel) else inner


def parameter_groups(
    model: nn.Module, recipe: Model, learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Trainable parameters in groups of one component and one weight decay (none on biases, norms and embeddings).

    Each group carries ``component`` and ``lr``.
    """
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        component = component_of(name)
        decays = parameter.ndim >= 2 and "embed" not in name
        lr = recipe.learning_rates.get(component, learning_rate)
        group = groups.setdefault(
            (component, decays),
            {
                "params": [],
                "names": [],
                "component": component,
                "lr": lr,
                "weight_decay": weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return [groups[k] for k in sorted(groups)]


def describe(model: nn.Module) -> Sequence[tuple[str, str, str, str]]:
    """Rows (component, parameters, trainable, share) for the table that every run prints."""
    rows = [
        (s.component, f"{s.parameters:,}", f"{s.trainable:,}", _share(s.trainable, s.parameters)) for s in sizes(model)
    ]
    total, learn = sum(s.parameters for s in sizes(model)), sum(s.trainable for s in sizes(model))
    return [*rows, ("all", f"{total:,}", f"{learn:,}", _share(learn, total))]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if part else "frozen"
