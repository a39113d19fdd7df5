"""Sizes of the models that the benchmark compares, and a segmenter of each variant."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForImageTextToText, SamConfig, SamModel

from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.files import disk_errors
from foveal.tasks.segmentation.model import Vision
from foveal.tasks.segmentation.specialist import Segmenter
from foveal.tasks.segmentation.task import Segmentation, segmenter_section
from foveal.vlm.finding import builtin_folder

#: The variants; savings are relative to the last.
VARIANTS: Final[tuple[Vision, ...]] = ("vlm", "sam", "separate")
#: The VLM of ``vit-b``: side of its pictures, side of a patch, and patches along the side of a picture token.
_SIDE, _PATCH, _PER_TOKEN = 512, 16, 4


@contextmanager
def settings_of(sizes: str | None) -> Iterator[list[str]]:
    """A recipe's settings for models of certain sizes, good for as long as the context lasts.

    Args:
        sizes: ``builtin``; ``vit-b``, encoders as large as published ones with random weights, see ``write_vit_b``;
            or a VLM and a SAM, folders or Hub ids, with a comma between. None changes nothing.

    Raises:
        UserError: It is none of them.
    """
    if sizes is None:
        yield []
    elif sizes == "builtin":
        yield _words("builtin", "small", "168")
    elif sizes == "vit-b":
        with tempfile.TemporaryDirectory(prefix="foveal-sizes-") as folder:
            with disk_errors(Path(folder)):
                vlm, sam = write_vit_b(Path(folder))
            # Small pictures would be scaled up, unlike real ones.
            yield [*_words(str(vlm), str(sam), "null"), "--data.scenes.image_size", str(_SIDE)]
    else:
        vlm_id, comma, sam_id = (part.strip() for part in sizes.partition(","))
        if not (vlm_id and comma and sam_id) or "," in sam_id:
            raise UserError(
                f"--sizes: {sizes!r} is not possible; give builtin, vit-b, or a VLM and a SAM with a comma between, "
                "e.g. llava-hf/llava-1.5-7b-hf,facebook/sam-vit-base."
            )
        yield _words(vlm_id, sam_id, "null")


def _words(vlm: str, sam: str, resolution: str) -> list[str]:
    return ["--model.id", vlm, "--model.sam", sam, "--model.resolution", resolution]


def write_vit_b(folder: Path) -> tuple[Path, Path]:
    """Writes a VLM and a SAM with encoders of ViT-B's size and random weights, in Hub layout.

    The VLM is the built-in one with a tower of 12 layers of width 768, which looks at 512 pixels in patches of 16 (as
    SmolVLM-256M's does) and makes 64 tokens of them, and a language model of 4 layers of width 512, so that the
    encoders are most of the work. The SAM has the sizes of facebook/sam-vit-base.

    Returns:
        Their folders.
    """
    vlm, sam, source = folder / "vlm", folder / "sam", builtin_folder()
    config = AutoConfig.from_pretrained(source)
    wider = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    config.vision_config.update({**wider, "image_size": _SIDE, "patch_size": _PATCH, "initializer_range": 0.02})
    text = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 8}
    config.text_config.update({**text, "num_key_value_heads": 8, "head_dim": 64, "initializer_range": 0.02})
    config.scale_factor = _PER_TOKEN
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForImageTextToText.from_config(config).save_pretrained(vlm)
        SamModel(SamConfig()).save_pretrained(sam)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copyfile(source / name, vlm / name)
    processor = json.loads((source / "processor_config.json").read_text(encoding="utf-8"))
    processor["image_seq_len"] = (_SIDE // _PATCH // _PER_TOKEN) ** 2
    images = processor["image_processor"]
    images["size"] = images["max_image_size"] = {"longest_edge": _SIDE}
    (vlm / "processor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return vlm, sam


def open_variant(recipe: Recipe, vision: Vision, weights: Path | None) -> Segmenter:
    """A segmenter of one variant, ready to answer.

    All start from the same VLM and the same SAM, new parts drawn from the recipe's seed. A run's weights go into the
    variant that it trained, and into the others wherever name and shape are the same.

    Args:
        recipe: Everything but ``model.vision``.
        vision: Replaces it.
        weights: A checkpoint folder of a run, or None.

    Raises:
        UserError: The model does not support that variant, or does not exist.
    """
    task = Segmentation(recipe.data)
    changed = replace(recipe, model=replace(segmenter_section(recipe.model), vision=vision))
    torch.manual_seed(recipe.seed)
    is_trained_variant = segmenter_section(recipe.model).vision == vision
    segmenter = Segmenter.open(task, changed, weights=weights if is_trained_variant else None, training=False)
    if weights is not None and not is_trained_variant:
        tensors, state = load_file(str(weights / "model.safetensors")), segmenter.model.state_dict()
        fitting = {k: v for k, v in tensors.items() if k in state and state[k].shape == v.shape}
        segmenter.model.load_state_dict(fitting, strict=False)
    return segmenter
