"""Free-text replies."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from foveal.prompts import Prompt
from foveal.vlm.encoding import Encoder
from foveal.vlm.loading import Vlm
from foveal.vlm.scoring import to_device


@torch.inference_mode()
def generate(
    vlm: Vlm, encoder: Encoder, prompts: Sequence[Prompt], *, max_new_tokens: int, names: Sequence[str]
) -> list[str]:
    """Greedy replies, one for each prompt, without the prompt and special tokens.

    Args:
        vlm: The model.
        encoder: Its encoder; rows are padded on the left.
        prompts: What is asked.
        max_new_tokens: Longest reply.
        names: What an error calls each row.

    Raises:
        UserError: A row does not fit into the model's context.
    """
    batch = encoder.encode(prompts, side="left")
    encoder.check_prompts(batch, names)
    length = batch["input_ids"].shape[1]
    out = vlm.model.generate(  # type: ignore[operator]
        **to_device(batch, vlm), max_new_tokens=max_new_tokens, do_sample=False, temperature=None, top_p=None, top_k=None,
        eos_token_id=sorted(encoder.end_ids), pad_token_id=encoder.tokenizer.pad_token_id or encoder.end_id,
    )  # fmt: skip
    replies: list[str] = encoder.tokenizer.batch_decode(out[:, length:], skip_special_tokens=True)
    return [r.strip() for r in replies]
