"""The component registry: which part of a VLM a parameter belongs to, for every family.

Freezing, learning rates, LoRA targets, gradient audits and memory estimates all ask here. Names are those of
transformers 5; a family with other names is added with ``register_components``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from foveal.errors import UserError

COMPONENTS: Final = ("vision", "projector", "language", "head")

#: Tried in this order; a pattern matches from the start of a parameter's name (after adapters' prefixes are removed).
_PATTERNS: list[tuple[str, str]] = [
    ("projector", r"model\.visual\.(merger|deepstack_merger_list)\b"),
    ("projector", r"model\.(multi_modal_projector|connector|mm_projector|embed_vision|image_newline)\b"),
    ("vision", r"model\.(vision_tower|vision_model|visual|vision_encoder)\b"),
    ("language", r"model\.(language_model|text_model)\b"),
    ("language", r"lm_head\b"),
]

#: What may stand in front of a VLM's own names, from the outside in.
_PREFIXES: list[str] = ["module.", "base_model.model."]

#: Linear layers that adapters go to, by component; full names.
_TARGETS: Final[dict[str, str]] = {
    "language": r"model\.(language_model|text_model)\.layers\.\d+\.(self_attn|cross_attn|mlp)\."
    r"(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
    "vision": r"model\.(vision_tower|vision_model|visual)\.(.*\.)?(layers?|blocks)\.\d+\.(.*\.)?"
    r"(q_proj|k_proj|v_proj|o_proj|out_proj|projection_layer|qkv|proj|fc1|fc2|linear_fc1|linear_fc2|"
    r"gate_proj|up_proj|down_proj)",
    "projector": r"model\.(multi_modal_projector|connector|mm_projector)(\..*)?|model\.visual\.merger\..*",
}


def register_components(patterns: Mapping[str, str]) -> None:
    """Adds families or models of your own.

    Args:
        patterns: Regular expression on the start of a parameter's full name -> component. Tried before the known ones.

    Raises:
        ValueError: A component is unknown.
    """
    for pattern, component in patterns.items():
        if component not in COMPONENTS:
            raise ValueError(f"{component!r} is no component; there are {', '.join(COMPONENTS)}")
        if (component, pattern) not in _PATTERNS:
            _PATTERNS.insert(0, (component, pattern))


def register_prefix(prefix: str) -> None:
    """Tells that a VLM may be a part of a larger model, under this name (with its dot)."""
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
    for component, pattern in _PATTERNS:
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


def adapter_targets(model: nn.Module, components: Iterable[str]) -> list[str]:
    """Full names of the linear layers of ``components``, for LoRA.

    Raises:
        UserError: A component has no linear layer that adapters can go to.
    """
    targets: list[str] = []
    for component in components:
        pattern = _TARGETS.get(component)
        found = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and pattern and re.fullmatch(pattern, name)
        ]
        if not found:
            have = ", ".join(by_component(model))
            raise UserError(f"model.lora.components: {component!r} has no linear layers in this model (it has {have}).")
        targets += found
    return targets


def component_modules(model: nn.Module, component: str) -> list[str]:
    """The top-most modules that hold exactly one component, lists of modules taken apart (`peft` cannot save a list)."""
    names: list[str] = []
    for name, module in model.named_modules():
        if not name or isinstance(module, nn.ModuleList) or any(name.startswith(f"{n}.") for n in names):
            continue
        own = [f"{name}.{p}" for p, _ in module.named_parameters()]
        if own and all(component_of(p) == component for p in own):
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
