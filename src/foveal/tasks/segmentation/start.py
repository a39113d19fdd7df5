"""A segmenter to begin with: a VLM in Hub layout, and beside its files the mask decoder that learned with it.

The folder stays a VLM like any other: other tasks and transformers' Auto classes read it and do not look at the decoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from foveal.errors import UserError
from foveal.tasks.segmentation.model import SharedEncoderSegmenter
from foveal.vlm.processors import save_processor

#: All weights of a segmenter but those of its VLM. Its header says what they were made for.
DECODER: Final = "mask_decoder.safetensors"


def save_start(model: SharedEncoderSegmenter, processor: Any, folder: Path, dtype: torch.dtype) -> None:
    """Writes a segmenter that others begin with.

    Args:
        model: With all weights of its VLM, without adapters. Embeddings of the mask token beside frozen tables are
            written into the tables.
        processor: The VLM's.
        folder: Gets the VLM in Hub layout, and the decoder.
        dtype: Of all weights.
    """
    vlm: Any = model.vlm
    if model.rows is not None:
        with torch.no_grad():
            vlm.get_input_embeddings().weight[model.config.token] = model.rows.embed_read
            vlm.get_output_embeddings().weight[model.config.token] = model.rows.embed_write
    previous = vlm.config.dtype
    vlm.config.dtype = dtype
    vlm.save_pretrained(folder, state_dict={k: v.to(dtype) for k, v in vlm.state_dict().items()})
    vlm.config.dtype = previous
    save_processor(processor, folder)
    tensors = {
        k: v.to(dtype).contiguous() for k, v in model.state_dict().items() if not k.startswith(("vlm.", "rows."))
    }
    save_file(tensors, folder / DECODER, metadata={"format": "pt", "kind": json.dumps(_kind(model), allow_nan=False)})


def begin(model: SharedEncoderSegmenter, folder: Path) -> bool:
    """Gives a new segmenter the decoder of its VLM's folder, where there is one of its kind.

    Args:
        model: Changed in place; a SAM that was drawn anew.
        folder: Of its VLM.

    Returns:
        Whether there was one.

    Raises:
        UserError: The file is damaged, or its sizes are others.
    """
    file = folder / DECODER
    if not file.is_file():
        return False
    try:
        with safe_open(str(file), framework="pt") as opened:
            if json.loads((opened.metadata() or {})["kind"]) != _kind(model):
                return False
            tensors = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UserError(
            f"{file}: is no mask decoder to begin with ({reason}); get the model's folder again."
        ) from error
    state = model.state_dict()
    own = {k for k in state if not k.startswith(("vlm.", "rows."))}
    if bad := sorted(own ^ tensors.keys()) or [k for k in sorted(own) if state[k].shape != tensors[k].shape]:
        raise UserError(f"{file}: does not fit its model ({bad[0]}); get the model's folder again.")
    model.load_state_dict(tensors, strict=False)
    return True


def _kind(model: SharedEncoderSegmenter) -> Mapping[str, Any]:
    """What a decoder is made for: weights of another kind say nothing here, even where the sizes are the same."""
    config = model.config
    return {"vision": config.vision, "fine": config.fine, "width": model.sam.width}
