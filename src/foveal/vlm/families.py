"""Facts about each family of vision-language models: one record for each model type of transformers.

No other module names a family. A family without a record gets one of defaults, which hold for most. A new family is a
record in ``_KNOWN``, or a call of ``register_family``. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: Parts of a VLM that can be frozen, adapted or given a learning rate. ``head`` is what a task's own model adds.
COMPONENTS: Final = ("vision", "projector", "language", "head")

#: The names of transformers 5, by which most families call their parts: regular expressions on the start of a
#: parameter's name, tried in this order.
_PARTS: Final = {
    r"model\.visual\.(merger|deepstack_merger_list)\b": "projector",
    r"model\.(multi_modal_projector|connector|mm_projector|embed_vision|image_newline)\b": "projector",
    r"model\.(vision_tower|vision_model|visual|vision_encoder)\b": "vision",
    r"model\.(language_model|text_model)\b": "language",
    r"lm_head\b": "language",
}
#: Full names of the linear layers that adapters go to, by component.
_ADAPTED: Final = {
    "language": r"model\.(language_model|text_model)\.layers\.\d+\.(self_attn|cross_attn|mlp)\."
    r"(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
    "vision": r"model\.(vision_tower|vision_model|visual)\.(.*\.)?(layers?|blocks)\.\d+\.(.*\.)?"
    r"(q_proj|k_proj|v_proj|o_proj|out_proj|projection_layer|qkv|proj|fc1|fc2|linear_fc1|linear_fc2|"
    r"gate_proj|up_proj|down_proj)",
    "projector": r"model\.(multi_modal_projector|connector|mm_projector)(\..*)?|model\.visual\.merger\..*",
}
_UNQUANTISED: Final = (
    r".*vision_tower", r".*visual", r".*vision_model", r".*vision_encoder", r".*multi_modal_projector", r".*mm_projector",
    r".*embed_vision", r".*connector", "lm_head",
)  # fmt: skip
_END_TOKENS: Final = (
    "<end_of_utterance>", "<|im_end|>", "<end_of_turn>", "<|eot_id|>", "</s>", "<eos>", "<|endoftext|>",
)  # fmt: skip
_PER_TOKEN: Final[dict[str, int | None]] = {
    "attention_mask": 1, "token_type_ids": 0, "mm_token_type_ids": 0, "cross_attention_mask": None,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """The facts of a family.

    Attributes:
        name: The configuration's model type, e.g. ``idefics3``.
        checkpoints: Models that are known to work -> their parameters in billions.
        parts: Regular expression on the start of a parameter's name -> its component; the first that matches holds.
        adapted: Component -> regular expression on the full names of the linear layers that adapters go to.
        unquantised: Modules that keep full precision in a quantised model, matched from the start of the full name.
        end_tokens: Tokens that may end the model's turn, beside the tokenizer's own; those it lacks are passed over.
        separator: What the processor itself puts behind a prompt, for models without a chat template.
        per_token: Tensors [B, L, ...] that a processor makes beside ``input_ids`` -> what a token gets in them that the
            model writes; None repeats the row's last entry.
        own_positions: Whether pictures count in the positions in a way of the family's own, so that the model must be
            given the positions of what is put behind a prompt.
        fixed_tiles: Whether pictures are always cut into tiles.
        set_side: Gives configuration and processor another side of the square that the vision tower sees:
            (configuration, processor, pixels, tokens of a picture). None where the side cannot be changed.
        tower: The module whose last hidden states are the patches of a square picture and nothing else; None where the
            tower cannot be used alone.
    """

    name: str
    checkpoints: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=lambda: _PARTS)
    adapted: Mapping[str, str] = field(default_factory=lambda: _ADAPTED)
    unquantised: tuple[str, ...] = _UNQUANTISED
    end_tokens: tuple[str, ...] = _END_TOKENS
    separator: str = "\n"
    per_token: Mapping[str, int | None] = field(default_factory=lambda: _PER_TOKEN)
    own_positions: bool = False
    fixed_tiles: bool = False
    set_side: Callable[[Any, Any, int, int], None] | None = None
    tower: str | None = None


def _longest_edge(config: Any, processor: Any, side: int, tokens: int) -> None:
    processor.image_processor.size = {"longest_edge": side}
    processor.image_processor.max_image_size = {"longest_edge": side}
    processor.image_seq_len = tokens
    config.vision_config.image_size = side


def _height_and_width(config: Any, processor: Any, side: int, tokens: int) -> None:
    processor.image_processor.size = {"height": side, "width": side}
    processor.image_processor.image_seq_length = processor.image_seq_length = tokens
    config.vision_config.image_size = side
    config.vision_config.num_image_tokens = config.text_config.num_image_tokens = tokens


#: In the order of `foveal models`.
_KNOWN: Final = (
    Family(
        "idefics3",
        {
            "builtin": 0.0017,
            "HuggingFaceTB/SmolVLM-256M-Instruct": 0.256,
            "HuggingFaceTB/SmolVLM-500M-Instruct": 0.508,
            "HuggingFaceTB/SmolVLM-Instruct": 2.25,
        },
        set_side=_longest_edge,
        tower="model.vision_model",
    ),
    Family("smolvlm", {"HuggingFaceTB/SmolVLM2-2.2B-Instruct": 2.25}, set_side=_longest_edge),
    Family(
        "paligemma",
        {"google/paligemma-3b-pt-224": 2.92, "google/paligemma2-3b-pt-224": 3.03},
        # 1 marks the suffix, which is attended causally; the prefix is attended in both directions.
        per_token=_PER_TOKEN | {"token_type_ids": 1},
        set_side=_height_and_width,
    ),
    Family("qwen2_vl", {"Qwen/Qwen2-VL-2B-Instruct": 2.21}, own_positions=True),
    Family("qwen2_5_vl", {"Qwen/Qwen2.5-VL-3B-Instruct": 3.75}, own_positions=True),
    Family("qwen3_vl", own_positions=True),
    Family("qwen3_vl_moe", own_positions=True),
    Family("glm4v", own_positions=True),
    Family("gemma3", {"google/gemma-3-4b-it": 4.30}),
    Family("llava", {"llava-hf/llava-1.5-7b-hf": 7.06}),
    # Its vision tower has a fixed number of places for tiles.
    Family("mllama", {"meta-llama/Llama-3.2-11B-Vision-Instruct": 10.7}, fixed_tiles=True),
    Family("internvl"),
)
_families: dict[str, Family] = {family.name: family for family in _KNOWN}


def families() -> tuple[Family, ...]:
    """All records."""
    return tuple(_families.values())


def family_of(model_type: str) -> Family:
    """The record of a model type; one of defaults where there is none."""
    return _families.get(model_type) or Family(model_type)


def register_family(family: Family) -> None:
    """Adds a family, or takes the place of one.

    Raises:
        ValueError: A component is unknown.
    """
    for component in (*family.parts.values(), *family.adapted):
        if component not in COMPONENTS:
            raise ValueError(f"{component!r} is no component; there are {', '.join(COMPONENTS)}")
    _families[family.name] = family
