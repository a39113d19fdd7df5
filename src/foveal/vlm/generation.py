"""Free-text generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from foveal.prompts import Prompt
from foveal.vlm.encoding import Encoder
from foveal.vlm.loading import Vlm
from foveal.vlm.scoring import to_device


@dataclass(frozen=True)
class Generated:
    """A generated reply.

    Attributes:
        text: The reply without the prompt and special tokens.
        confidence: Product of the probabilities of its tokens, the end token included.
    """

    text: str
    confidence: float


@torch.inference_mode()
def generate(
    vlm: Vlm, encoder: Encoder, prompts: Sequence[Prompt], *, max_new_tokens: int, names: Sequence[str]
) -> list[Generated]:
    """Greedy replies with their probabilities, one for each prompt.

    Args:
        vlm: The model.
        encoder: Its encoder; rows are padded on the left.
        prompts: The prompts.
        max_new_tokens: Longest reply in tokens.
        names: Name of each row in errors.

    Raises:
        UserError: A row does not fit into the model's context.
    """
    batch = encoder.encode(prompts, side="left", names=names)
    encoder.check_prompts(batch, names)
    length = batch["input_ids"].shape[1]
    ends = sorted(encoder.end_ids)
    out = vlm.model.generate(  # type: ignore[operator]
        **to_device(batch, vlm), max_new_tokens=max_new_tokens, do_sample=False, temperature=None, top_p=None, top_k=None,
        eos_token_id=ends, pad_token_id=encoder.tokenizer.pad_token_id or encoder.end_id,
        return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    ids = out.sequences[:, length:]
    # [B, T]; padding behind the end of a reply gets probability 1.
    log_probabilities = torch.stack(
        [step.float().log_softmax(-1).gather(1, ids[:, t : t + 1])[:, 0] for t, step in enumerate(out.logits)], 1
    )
    padding = torch.isin(ids, torch.tensor(ends, device=ids.device)).cumsum(1).cumsum(1) > 1
    confidence = log_probabilities.masked_fill(padding, 0).sum(1).exp().tolist()
    texts: list[str] = encoder.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [Generated(text.strip(), share) for text, share in zip(texts, confidence, strict=True)]
