"""Which part of a VLM a parameter belongs to: vision, projector, language or head.

Freezing, learning rates, LoRA targets, gradient audits and memory estimates depend on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from foveal.errors import UserError
from foveal.vlm.families import COMPONENTS, families, family_of

#: Names in models around a VLM: regular expression on the start of a parameter's name -> component.
_OTHERS: dict[str, str] = {}
#: Possible prefixes of a VLM's parameter names, the outermost first.
_PREFIXES: list[str] = ["module.", "base_model.model."]


def register_components(patterns: Mapping[str, str]) -> None:
    """Adds the parts of a model of your own; those of a family belong into its record (``families.register_family``).

    Args:
        patterns: Regular expression on the start of a parameter's full name -> component. Tried before the known ones.

    Raises:
        ValueError: A component is unknown.
    """
    for pattern, component in patterns.items():
        if component not in COMPONENTS:
            raise ValueError(f"{component!r} is no component; there are {', '.join(COMPONENTS)}")
        _OTHERS[pattern] = component


def register_prefix(prefix: str) -> None:
    """Registers the name (with its dot) of a VLM within a larger model."""
    if prefix not in _PREFIXES:
        _PREFIXES.insert(1, prefix)


def plain_name(name: str) -> str:
    """A parameter's name without the prefixes and infixes that `peft`, DDP and larger models put into it."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return re.sub(r"\.(base_layer|modules_to_save\.\w+|original_module)(?=\.)", "", name)


def component_of(name: str) -> str:
    """The component of a parameter or module.

    Raises:
        UserError: No pattern knows the name.
    """
    plain = plain_name(name)
    # The family is unknown here, so all tables are tried, the newest first; most families share one.
    tables = {id(table): table for table in (_OTHERS, *(family.parts for family in reversed(families())))}
    for table in tables.values():
        for pattern, component in table.items():
            if re.match(pattern, plain):
                return component
    raise UserError(
        f"The parameter {plain!r} belongs to no known component (vision, projector, language, head); "
        "name its family's modules with foveal.vlm.components.register_components."
    )


def by_component(model: nn.Module) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """All parameters of a model by component, components in a fixed order, empty ones left out."""
    groups: dict[str, list[tuple[str, nn.Parameter]]] = {c: [] for c in COMPONENTS}
    for name, parameter in model.named_parameters():
        groups[component_of(name)].append((name, parameter))
    return {c: g for c, g in groups.items() if g}


def linear_layers(model: PreTrainedModel, component: str) -> list[str]:
    """Full names of the linear layers of a component that adapters can go to."""
    pattern = family_of(model.config.model_type).adapted.get(component)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return [name for name in linear if pattern is not None and re.fullmatch(pattern, name)]


def adapter_targets(model: PreTrainedModel, components: Iterable[str]) -> list[str]:
    """``linear_layers`` of several components, for LoRA.

    Raises:
        UserError: A component has none.
    """
    targets: list[str] = []
    for component in components:
        layers = linear_layers(model, component)
        if not layers:
            have = ", ".join(by_component(model))
            raise UserError(f"model.lora.components: {component!r} has no linear layers in this model (it has {have}).")
        targets += layers
    return targets


def component_modules(model: nn.Module, component: str) -> list[str]:
    """The top-most modules that hold exactly one component, lists of modules taken apart (`peft` cannot save a list)."""
    names: list[str] = []
    for name, module in model.named_modules():
        if not name or isinstance(module, nn.ModuleList) or any(name.startswith(f"{n}.") for n in names):
            continue
        parameters = [f"{name}.{p}" for p, _ in module.named_parameters()]
        if parameters and all(component_of(p) == component for p in parameters):
            names.append(name)
    return names


@dataclass(frozen=True)
class ComponentSize:
    """How large a component is and how much of it learns, in numbers of weights (4-bit weights counted unpacked)."""

    component: str
    parameters: int
    trainable: int


def sizes(model: nn.Module) -> list[ComponentSize]:
    """Sizes of the components; tied weights are counted once."""
    return [
        ComponentSize(c, sum(_count(p) for _, p in g), sum(_count(p) for _, p in g if p.requires_grad))
        for c, g in by_component(model).items()
    ]


def _count(parameter: torch.Tensor) -> int:
    shape = getattr(getattr(parameter, "quant_state", None), "shape", None)
    return int(torch.Size(shape).numel()) if shape is not None else parameter.numel()
