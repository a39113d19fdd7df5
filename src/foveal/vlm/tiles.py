"""One view of each picture in place of tiles, for families whose processors cut pictures into tiles.

Tiles show a large picture in detail, but cost as many tokens for a small one: SmolVLM enlarges every picture to 2,048
pixels and cuts 16 tiles beside the overview, so that 32 pixels of CIFAR-10 take 1,088 tokens in place of 64. What is
changed here is part of the processor that a run saves.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel, ProcessorMixin

from foveal.errors import UserError
from foveal.vlm.families import family_of


def show_one_view(model: PreTrainedModel, processor: ProcessorMixin) -> None:
    """Lets a processor show its model each picture as one view, in place.

    Nothing changes where the family has no tiles. LLaVA-NeXT and its like, whose code always expects tiles behind the
    overview, get a single one: two views of the whole picture, the second with its own proportions.

    Args:
        model: The model; its configuration is changed too where it describes the tiles.
        processor: Its processor.

    Raises:
        UserError: The family's tiles cannot be switched off (Mllama, whose tower has a fixed number of places for them).
    """
    config: Any = model.config
    images: Any = getattr(processor, "image_processor", None)
    if family_of(config.model_type).fixed_tiles:
        side = images.size["height"]
        raise UserError(
            f"model.tiles: the family {config.model_type} always cuts pictures into tiles; leave it out, and set model.image_size: {side} "
            "to have one tile of each picture."
        )
    if getattr(images, "do_image_splitting", False):
        images.do_image_splitting = False
        largest = getattr(images, "max_image_size", None)
        if largest is not None:
            # Else Idefics3 and SmolVLM enlarge each picture to the size of all tiles, to shrink it again.
            images.size = dict(largest)
    if getattr(images, "crop_to_patches", None) is not None:
        images.crop_to_patches = False
        # InternVL's processor asks for tiles whatever crop_to_patches says, but for no more than these.
        images.max_patches = 1
    if getattr(images, "do_pan_and_scan", False):
        images.do_pan_and_scan = False
    if getattr(images, "image_grid_pinpoints", None) is not None:
        side = config.vision_config.image_size
        images.image_grid_pinpoints = [[side, side]]
        config.image_grid_pinpoints = [[side, side]]
