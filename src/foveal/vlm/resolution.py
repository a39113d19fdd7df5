"""Changes the picture size of a model by interpolating its table of positions.

Only families whose vision tower has one square table of learned positions can be changed so, and of them those whose
processor has one size. The changed size is part of the configuration and the processor that a run saves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel, ProcessorMixin

from foveal.errors import UserError
from foveal.vlm.families import families, family_of


def set_resolution(model: PreTrainedModel, processor: ProcessorMixin, side: int) -> None:
    """Lets a model and its processor look at pictures of ``side`` pixels, in place.

    Learned positions are interpolated bicubically (Dosovitskiy et al. 2021, section 3.2); nothing changes where the
    model has that size already.

    Args:
        model: The model; its configuration is changed too.
        processor: Its processor.
        side: Width and height of the square that the vision tower sees, in pixels.

    Raises:
        UserError: The family cannot be changed so, or no whole number of patches and tokens covers that side.
    """
    config: Any = model.config
    set_side = family_of(config.model_type).set_side
    if set_side is None:
        able = ", ".join(family.name for family in families() if family.set_side is not None)
        raise UserError(
            f"model.resolution: cannot be changed for the family {config.model_type}, only for {able}; leave it out."
        )
    vision = config.vision_config
    if getattr(processor.image_processor, "do_image_splitting", False):
        raise UserError(
            "model.resolution: this model cuts pictures into tiles of a fixed size; leave it out, or set model.tiles: "
            "false to show one view of each picture."
        )
    unit = vision.patch_size * getattr(config, "scale_factor", 1)  # a token is made of so many pixels each way
    if side % unit or not unit * 2 <= side <= unit * 64:
        raise UserError(f"model.resolution: {side} is not possible; give a multiple of {unit} up to {unit * 64}.")
    # A checkpoint's model has its size already, while the processor is the original one, so it is set in any case.
    before = vision.image_size
    set_side(config, processor, side, (side // unit) ** 2)
    if side != before:
        _set_positions(model, side, side // vision.patch_size)


def _set_positions(model: PreTrainedModel, side: int, count: int) -> None:
    """The vision tower's positions on a square of ``side`` pixels and ``count`` x ``count`` patches."""
    embeddings: Any = next(
        m for m in model.modules() if isinstance(getattr(m, "position_embedding", None), nn.Embedding)
    )
    embeddings.position_embedding = _stretched(embeddings.position_embedding, count)
    embeddings.image_size, embeddings.num_patches, embeddings.num_positions = side, count**2, count**2
    if hasattr(embeddings, "num_patches_per_side"):
        embeddings.num_patches_per_side = count
    if hasattr(embeddings, "position_ids"):
        embeddings.position_ids = torch.arange(count**2, device=embeddings.position_embedding.weight.device)[None]


def _stretched(table: nn.Embedding, count: int) -> nn.Embedding:
    """A table of positions on a square of ``count`` x ``count``."""
    weight = table.weight.detach()
    side = round(weight.shape[0] ** 0.5)
    grid = weight.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, (count, count), mode="bicubic", align_corners=False)
    new = nn.Embedding(count**2, weight.shape[1], device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        new.weight.copy_(grid.permute(0, 2, 3, 1).reshape(count**2, -1))
    return new
