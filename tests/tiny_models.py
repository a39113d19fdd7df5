"""Tiny random models of every supported family, in Hub layout, made without network.

Each has the family's own configuration, special tokens, chat template (the parts of it that prompts with pictures reach)
and processor settings, but a vocabulary of a few hundred tokens, two layers and pictures of 28 to 56 pixels. The weights
are large enough that every input changes the output visibly, and gates that are closed at initialisation are opened, so
that gradients reach every component.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from tiny_text import (
    GEMMA3_TEMPLATE,
    IDEFICS3_TEMPLATE,
    INTERNVL_TEMPLATE,
    LLAVA_TEMPLATE,
    MLLAMA_TEMPLATE,
    QWEN2_VL_TEMPLATE,
    QWEN3_VL_TEMPLATE,
    bpe_tokenizer,
    gemma,
    llama3,
    qwen,
    sentencepiece,
)


@dataclass
class _Parts:
    """What a family's folder is written from."""

    tokenizer: Any
    config: dict[str, Any]
    """The model's configuration, with ``model_type``."""
    processor: dict[str, Any]
    """The processor's own settings, with ``processor_class``."""
    image: dict[str, Any]
    """The image processor's settings, with ``image_processor_type``."""
    video: dict[str, Any] | None = None
    template: str | None = None
    stop: list[str] = field(default_factory=list)
    """The tokens that end a reply; the tokenizer's eos token by default."""


def _text(**more: Any) -> dict[str, Any]:
    """The language model's sizes."""
    return {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "initializer_range": 0.2, "max_position_embeddings": 2048, **more,
    }  # fmt: skip


def _vision(**more: Any) -> dict[str, Any]:
    """The vision tower's sizes: 28 pixels in 4 x 4 patches."""
    return {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 28, "patch_size": 7, "initializer_range": 0.2, **more,
    }  # fmt: skip


_HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
_SQUARE = {"size": {"height": 28, "width": 28}}


def _ids(tokenizer: Any, *tokens: str) -> list[int]:
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


def _specials(tokenizer: Any, **more: Any) -> dict[str, Any]:
    """The language model's vocabulary size and the ids of its special tokens."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {"vocab_size": len(tokenizer), **{name: getattr(tokenizer, name) for name in names}, **more}


def _paligemma(text: dict[str, Any]) -> _Parts:
    places = [f"<loc{i:04}>" for i in range(1024)] + [f"<seg{i:03}>" for i in range(128)]
    tokenizer = gemma([*places, "<image>"], extra_special_tokens={"image_token": "<image>"})
    return _Parts(
        tokenizer,
        {
            "model_type": "paligemma", "image_token_index": _ids(tokenizer, "<image>")[0],
            "hidden_size": 32, "projection_dim": 32, "vocab_size": len(tokenizer),
            "text_config": _text(head_dim=16, **_specials(tokenizer), **text),
            "vision_config": _vision(model_type="siglip_vision_model", vision_use_head=False),
        },
        {"processor_class": "PaliGemmaProcessor"},
        {"image_processor_type": "SiglipImageProcessor", "image_seq_length": 16, **_SQUARE, **_HALF},
    )  # fmt: skip


def _paligemma1() -> _Parts:
    return _paligemma({"model_type": "gemma"})


def _paligemma2() -> _Parts:
    return _paligemma({"model_type": "gemma2", "query_pre_attn_scalar": 16, "sliding_window": 512})


def _llava() -> _Parts:
    """With Llama 2's tokenizer, which puts a space in front of every stretch of text between special tokens."""
    vocab, merges = sentencepiece(["<unk>", "<s>", "</s>"])
    pieces = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    pieces.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    pieces.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    pieces.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocab["<s>"])]
    )
    pieces.add_special_tokens(["<unk>", "<s>", "</s>", "<image>", "<pad>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        padding_side="left", extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    return _Parts(
        tokenizer,
        {
            "model_type": "llava", "image_token_index": _ids(tokenizer, "<image>")[0], "image_seq_length": 16,
            "text_config": _text(model_type="llama", **_specials(tokenizer, vocab_size=len(tokenizer) + 6)),
            "vision_config": _vision(model_type="clip_vision_model", projection_dim=32),
        },
        {
            "processor_class": "LlavaProcessor", "patch_size": 7, "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1, "image_token": "<image>",
        },
        {
            "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 28}, **_CLIP,
            "crop_size": {"height": 28, "width": 28},
        },
        template=LLAVA_TEMPLATE,
    )  # fmt: skip


def _mllama() -> _Parts:
    tokenizer = llama3(["<|image|>"], eos_token="<|eot_id|>")
    return _Parts(
        tokenizer,
        {
            "model_type": "mllama", "image_token_index": _ids(tokenizer, "<|image|>")[0],
            # As in the real one, the picture's token has no row in the output layer.
            "text_config": _text(
                num_hidden_layers=3, cross_attention_layers=[1], **_specials(tokenizer, vocab_size=len(tokenizer) - 1)
            ),
            "vision_config": {
                "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_global_layers": 1,
                "attention_heads": 2, "image_size": 28, "patch_size": 7, "intermediate_layers_indices": [0, 1],
                "vision_output_dim": 96, "initializer_range": 0.2,
            },
        },
        {"processor_class": "MllamaProcessor"},
        {"image_processor_type": "MllamaImageProcessor", "max_image_tiles": 4, **_SQUARE, **_HALF},
        template=MLLAMA_TEMPLATE,
        stop=["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
    )  # fmt: skip


def _idefics3() -> _Parts:
    """As Idefics3-8B: Llama 3's tokenizer, pictures split into tiles, whose tags are plain text."""
    tokenizer = llama3(["<fake_token_around_image>", "<image>", "<end_of_utterance>"], eos_token="<end_of_utterance>")
    return _Parts(
        tokenizer,
        {
            "model_type": "idefics3", "image_token_id": _ids(tokenizer, "<image>")[0], "scale_factor": 2,
            "pad_token_id": tokenizer.pad_token_id,
            "text_config": _text(model_type="llama", **_specials(tokenizer)),
            "vision_config": _vision(),
        },
        {"processor_class": "Idefics3Processor", "image_seq_len": 4},
        {
            "image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 56}, **_HALF,
            "max_image_size": {"longest_edge": 28}, "do_image_splitting": True,
        },
        template="<|begin_of_text|>" + IDEFICS3_TEMPLATE,
        stop=["<|end_of_text|>", "<|eot_id|>", "<end_of_utterance>"],
    )  # fmt: skip


def _smolvlm() -> _Parts:
    """As SmolVLM2: a GPT-2 tokenizer without bos, tied embeddings, pictures in one tile."""
    tiles = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    image = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    names = {"fake_image_token": image[0], "image_token": image[1], "end_of_utterance_token": image[2],
             "global_image_token": image[3]}  # fmt: skip
    tokenizer = bpe_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *image, *tiles], bos_token="<|im_start|>",
        eos_token="<end_of_utterance>", pad_token="<|im_end|>", unk_token="<|endoftext|>", extra_special_tokens=names,
    )  # fmt: skip
    settings = {"size": {"longest_edge": 28}, "max_image_size": {"longest_edge": 28}, **_HALF}
    return _Parts(
        tokenizer,
        {
            "model_type": "smolvlm", "image_token_id": _ids(tokenizer, "<image>")[0], "scale_factor": 2,
            "tie_word_embeddings": True, "pad_token_id": tokenizer.pad_token_id,
            "text_config": _text(model_type="llama", tie_word_embeddings=True, **_specials(tokenizer)),
            "vision_config": _vision(),
        },
        {"processor_class": "SmolVLMProcessor", "image_seq_len": 4},
        {"image_processor_type": "SmolVLMImageProcessor", "do_image_splitting": False, **settings},
        {"video_processor_type": "SmolVLMVideoProcessor", "num_frames": 8, "fps": 2, **settings},
        template="<|im_start|>" + IDEFICS3_TEMPLATE.replace(".capitalize()", " | capitalize"),
    )  # fmt: skip


_QWEN_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]


def _qwen_parts(family: str, text: dict[str, Any], vision: dict[str, Any], tied: bool = False) -> _Parts:
    tokenizer = qwen(_QWEN_TOKENS)
    start, end, _, image, video = _ids(tokenizer, *_QWEN_TOKENS)
    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[family]
    settings = {
        "size": {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}, "patch_size": 14, "merge_size": 2,
        "temporal_patch_size": 2, **_CLIP,
    }  # fmt: skip
    return _Parts(
        tokenizer,
        {
            "model_type": family, "image_token_id": image, "video_token_id": video,
            "vision_start_token_id": start, "vision_end_token_id": end, "tie_word_embeddings": tied,
            "text_config": _text(model_type=f"{family}_text", **_specials(tokenizer), **text),
            "vision_config": {"depth": 2, "num_heads": 2, "patch_size": 14, "initializer_range": 0.2, **vision},
        },
        {"processor_class": f"{name}Processor"},
        {"image_processor_type": "Qwen2VLImageProcessor", **settings},
        {"video_processor_type": "Qwen3VLVideoProcessor" if family == "qwen3_vl" else "Qwen2VLVideoProcessor", **settings},
        template=QWEN3_VL_TEMPLATE if family == "qwen3_vl" else QWEN2_VL_TEMPLATE,
        stop=["<|im_end|>", "<|endoftext|>"],
    )  # fmt: skip


def _qwen2_vl() -> _Parts:
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    return _qwen_parts(
        "qwen2_vl", {"rope_parameters": rope}, {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}, tied=True
    )


def _qwen2_5_vl() -> _Parts:
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    vision = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32, "window_size": 28,
              "fullatt_block_indexes": [1]}  # fmt: skip
    return _qwen_parts("qwen2_5_vl", {"rope_parameters": rope}, vision)


def _qwen3_vl() -> _Parts:
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True, "rope_theta": 10000.0}
    vision = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32, "num_position_embeddings": 16,
              "deepstack_visual_indexes": [0]}  # fmt: skip
    return _qwen_parts("qwen3_vl", {"rope_parameters": rope, "head_dim": 16}, vision)


def _gemma3() -> _Parts:
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = gemma(["<start_of_turn>", "<end_of_turn>", *names.values()], extra_special_tokens=names)
    boi, eoi, image = _ids(tokenizer, *names.values())
    rope = {kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in ("full_attention", "sliding_attention")}
    return _Parts(
        tokenizer,
        {
            "model_type": "gemma3", "boi_token_index": boi, "eoi_token_index": eoi, "image_token_index": image,
            "mm_tokens_per_image": 4, "initializer_range": 0.2,
            "text_config": _text(
                model_type="gemma3_text", head_dim=16, query_pre_attn_scalar=16, sliding_window=512,
                layer_types=["sliding_attention", "full_attention"], rope_parameters=rope, **_specials(tokenizer),
            ),
            "vision_config": _vision(model_type="siglip_vision_model", vision_use_head=False),
        },
        {"processor_class": "Gemma3Processor", "image_seq_length": 4},
        {"image_processor_type": "Gemma3ImageProcessor", **_SQUARE, **_HALF},
        template=GEMMA3_TEMPLATE,
        stop=["<eos>", "<end_of_turn>"],
    )  # fmt: skip


def _internvl() -> _Parts:
    names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
             "video_token": "<video>"}  # fmt: skip
    tokenizer = qwen(list(names.values()), extra_special_tokens=names)
    return _Parts(
        tokenizer,
        {
            "model_type": "internvl", "image_token_id": _ids(tokenizer, "<IMG_CONTEXT>")[0], "image_seq_length": 4,
            "text_config": _text(model_type="qwen2", **_specials(tokenizer)),
            "vision_config": _vision(image_size=[28, 28], patch_size=[7, 7], attention_bias=True),
            "tie_word_embeddings": False,
        },
        {"processor_class": "InternVLProcessor", "image_seq_length": 4},
        {"image_processor_type": "GotOcr2ImageProcessor", "crop_to_patches": False, "max_patches": 2, **_SQUARE, **_CLIP},
        {"video_processor_type": "InternVLVideoProcessor", **_SQUARE, **_CLIP},
        template=INTERNVL_TEMPLATE,
    )  # fmt: skip


_PARTS: dict[str, Callable[[], _Parts]] = {
    "paligemma": _paligemma1,
    "paligemma2": _paligemma2,
    "llava": _llava,
    "mllama": _mllama,
    "idefics3": _idefics3,
    "smolvlm": _smolvlm,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "gemma3": _gemma3,
    "internvl": _internvl,
}
FAMILIES = tuple(_PARTS)
#: Families whose processor also has a part for videos.
VIDEO_FAMILIES = ("smolvlm", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl")


def _closed_gates(family: str, model: torch.nn.Module) -> Iterator[tuple[torch.nn.Parameter, float]]:
    """Parameters that are zero at initialisation and stop all gradients behind them, with a value that opens them."""
    for name, parameter in model.named_parameters():
        if family == "mllama" and (name.endswith(("cross_attn_attn_gate", "cross_attn_mlp_gate"))):
            yield parameter, 1.0
        if family == "mllama" and "vision_model" in name and name.endswith(".gate"):
            yield parameter, 0.5


def build(family: str, folder: Path) -> Path:
    """Writes a tiny random model of a family to ``folder``, in the layout that transformers 5 saves, and returns it."""
    parts = _PARTS[family]()
    parts.tokenizer.save_pretrained(folder)
    nested = {**parts.processor, "image_processor": parts.image}
    if parts.video is not None:
        nested["video_processor"] = parts.video
    (folder / "processor_config.json").write_text(json.dumps(nested, indent=2))
    if parts.template is not None:
        (folder / "chat_template.jinja").write_text(parts.template)

    config = AutoConfig.for_model(**parts.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(FAMILIES.index(family))
        model = AutoModelForImageTextToText.from_config(config)
        with torch.no_grad():
            for parameter, value in _closed_gates(family, model):
                parameter.fill_(value)
            if family == "gemma3":
                model.model.multi_modal_projector.mm_input_projection_weight.normal_(std=0.2)
    stop = _ids(parts.tokenizer, *parts.stop) or parts.tokenizer.eos_token_id
    names = {name: getattr(parts.tokenizer, name) for name in ("bos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(eos_token_id=stop, **names)
    model.save_pretrained(folder)
    return folder


def to_legacy(folder: Path) -> Path:
    """Rewrites what ``build`` wrote to the layout of before transformers 5, as most folders on the Hub still have it."""
    nested_file = folder / "processor_config.json"
    nested = json.loads(nested_file.read_text())
    name = nested["processor_class"]
    image, video = nested.pop("image_processor"), nested.pop("video_processor", None)
    (folder / "preprocessor_config.json").write_text(json.dumps({**image, "processor_class": name}))
    if video is not None:
        (folder / "video_preprocessor_config.json").write_text(json.dumps({**video, "processor_class": name}))
    if len(nested) > 1:
        nested_file.write_text(json.dumps(nested))
    else:
        nested_file.unlink()
    template = folder / "chat_template.jinja"
    if template.exists():
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
        template.unlink()
    return folder
