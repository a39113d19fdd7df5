"""The parts of SAM (Kirillov et al. 2023) that a segmenter uses, from any SAM checkpoint or drawn anew."""

from __future__ import annotations

from typing import Any, Final

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, SamConfig, SamModel
from transformers import SamMaskDecoderConfig as DecoderConfig
from transformers import SamPromptEncoderConfig as PromptConfig
from transformers import SamVisionConfig as VisionConfig

from foveal.errors import UserError

#: Named in a recipe, it stands for a small SAM of random weights, to be trained with the rest.
SMALL: Final = "small"
#: The same with a finer grid: with ``vision: vlm``, twice as fine as the VLM's patches.
FINE: Final = "fine"
#: Side of the grid of each, where no VLM's patches decide it.
NEW: Final = {SMALL: 16, FINE: 24}


def small_config(grid: int = NEW[SMALL]) -> SamConfig:
    """A SAM of 1.0M parameters: pictures of 256 pixels, a grid of 16 x 16, masks of 64 x 64; or with another grid."""
    width, patch = 96, 16
    side = patch * grid
    return SamConfig(
        vision_config=VisionConfig(
            hidden_size=96, output_channels=width, num_hidden_layers=4, num_attention_heads=4, image_size=side,
            patch_size=patch, window_size=8, global_attn_indexes=[1, 3], num_pos_feats=width // 2, mlp_dim=384,
            initializer_range=width**-0.5,
        ).to_dict(),
        prompt_encoder_config=PromptConfig(hidden_size=width, image_size=side, patch_size=patch).to_dict(),
        mask_decoder_config=DecoderConfig(
            hidden_size=width, mlp_dim=192, num_hidden_layers=2, num_attention_heads=4, iou_head_hidden_dim=width,
        ).to_dict(),
        # SAM's own 0.02 is meant for widths of 256 and more: here, prompts would hardly reach the masks.
        initializer_range=width**-0.5,
    )  # fmt: skip


def sam_config(source: str, grid: int | None = None) -> SamConfig:
    """The configuration of a SAM.

    Args:
        source: ``small``, ``fine``, a folder or a Hub id.
        grid: Side of the grid of ``fine``, if it is not 24.

    Raises:
        UserError: There is no such model, or it is no SAM.
    """
    if source in NEW:
        return small_config(grid if source == FINE and grid else NEW[source])
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise _explained(source, error) from error
    if config.model_type != "sam":
        raise UserError(
            f"model.sam: {source!r} is of type {config.model_type!r}; give a SAM such as facebook/sam-vit-base, small or fine."
        )
    return config


def load_sam(source: str, *, encoder: bool, grid: int | None = None) -> SamParts:
    """The parts of a SAM.

    Args:
        source: See ``sam_config``.
        encoder: Whether its vision encoder is needed.
        grid: See ``sam_config``.

    Raises:
        UserError: The weights cannot be read.
    """
    config = sam_config(source, grid)
    if source in NEW:
        parts = SamParts(SamModel(config), encoder=encoder)
        # transformers draws frequencies for weights to be loaded over; places side by side would have nothing in common.
        with torch.no_grad():
            parts.positions.positional_embedding.normal_()
        return parts
    try:
        model, info = SamModel.from_pretrained(
            source, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _explained(source, error) from error
    if info["missing_keys"]:
        raise UserError(
            f"model.sam: {source} lacks weights ({sorted(info['missing_keys'])[0]}); the folder is incomplete."
        )
    return SamParts(model, encoder=encoder)


def _explained(source: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0].rstrip(".")
    return UserError(
        f"model.sam: {source!r} cannot be loaded ({reason}); give small, fine, a folder, or check the connection."
    )


class SamParts(nn.Module):
    """Mask decoder, positions and, where it is needed, the vision encoder of a SAM.

    Of the prompt encoder only the embedding of "no mask" is used: the prompt comes from the language model.

    Args:
        model: The SAM that they are taken from.
        encoder: Whether the vision encoder is kept.
    """

    def __init__(self, model: Any, *, encoder: bool) -> None:
        super().__init__()
        self.config = model.config
        self.vision_encoder = model.vision_encoder if encoder else None
        self.mask_decoder = model.mask_decoder
        self.positions = model.shared_image_embedding
        self.no_mask = model.prompt_encoder.no_mask_embed

    @property
    def grid(self) -> int:
        """Side of the grid of image embeddings (64 in the published models)."""
        return int(self.config.prompt_encoder_config.image_embedding_size)

    @property
    def width(self) -> int:
        """Channels of embeddings and prompts (256 in the published models)."""
        return int(self.config.mask_decoder_config.hidden_size)

    @property
    def side(self) -> int:
        """Side of the pictures that the vision encoder takes, in pixels."""
        return int(self.config.vision_config.image_size)

    def decode(self, embeddings: torch.Tensor, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks of prompts.

        Args:
            embeddings: [B, C, G, G] of pictures.
            prompts: [B, M, C], one for each mask.

        Returns:
            Logits [B, M, 4G, 4G] and the predicted IoU of each mask [B, M].
        """
        batch, _, grid, _ = embeddings.shape
        steps = (torch.arange(grid, device=embeddings.device, dtype=torch.float32) + 0.5) / grid
        places = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
        wide = self.positions(places).permute(2, 0, 1)[None].to(embeddings.dtype)
        dense = self.no_mask.weight.reshape(1, -1, 1, 1).expand(batch, -1, grid, grid)
        masks, iou = self.mask_decoder(
            image_embeddings=embeddings, image_positional_embeddings=wide.repeat(batch, 1, 1, 1),
            sparse_prompt_embeddings=prompts[:, :, None], dense_prompt_embeddings=dense, multimask_output=False,
        )  # fmt: skip
        return masks[:, :, 0], iou[:, :, 0]
