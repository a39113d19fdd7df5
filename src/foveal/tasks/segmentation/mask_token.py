"""The token that stands for a mask: `<SEG>` in the vocabulary, and its embeddings beside a frozen vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken
from torch import nn

from foveal.errors import UserError
from foveal.tasks.segmentation.objects import SEG


def add_mask_token(model: Any, tokenizer: Any, text: str = SEG) -> int:
    """Adds the token to a model's vocabulary, unless it is there.

    The embedding tables grow only if the tokenizer outgrows them (most have spare rows). A new row starts as the mean
    of the others, so that the token is neither likely nor unlikely.

    Args:
        model: The VLM.
        tokenizer: Its tokenizer, changed in place.
        text: How the token is written.

    Returns:
        The token's id.

    Raises:
        UserError: The tokenizer splits it.
    """
    known = len(tokenizer)
    if text not in tokenizer.get_vocab():
        # Not a special token, so that decoded replies contain it.
        tokenizer.add_tokens([AddedToken(text, special=False, normalized=False, lstrip=False, rstrip=False)])
    ids = tokenizer(f"a{text}.", add_special_tokens=False)["input_ids"]
    index = int(tokenizer.convert_tokens_to_ids(text))
    if ids.count(index) != 1:
        raise UserError(f"data.token: the model's tokenizer does not keep {text!r} in one piece; choose another text.")
    # Some families (Mllama) have more input than output embeddings.
    rows = min(len(part.weight) for part in (model.get_input_embeddings(), model.get_output_embeddings()))
    if index >= rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if len(tokenizer) > known:
        with torch.no_grad():
            for part in (model.get_input_embeddings(), model.get_output_embeddings()):
                part.weight[index] = part.weight[:known].mean(0)
    return index


class TokenEmbeddings(nn.Module):
    """Trainable input and output embeddings of one token, beside frozen tables.

    The tables do not change and may be quantised. Hooks use these embeddings wherever the token is read or its logit is
    computed. With tied tables both are one parameter.

    Args:
        model: The VLM, without adapters around it.
        index: The token's id.
    """

    def __init__(self, model: Any, index: int) -> None:
        super().__init__()
        read, write = model.get_input_embeddings(), model.get_output_embeddings()
        self.index = index
        # Gemma scales its input embeddings.
        self.scale = float(getattr(read, "embed_scale", 1.0))
        self.embed_read = nn.Parameter(read.weight[index].detach().float().clone())
        tied = write.weight is read.weight
        self.embed_write = self.embed_read if tied else nn.Parameter(write.weight[index].detach().float().clone())
        read.register_forward_hook(self._reading)
        write.register_forward_hook(self._writing)

    def _reading(self, _: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        return torch.where((args[0] == self.index)[..., None], (self.scale * self.embed_read).to(out.dtype), out)

    def _writing(self, _: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        logit = (args[0].float() @ self.embed_write.float()).to(out.dtype)
        column = torch.arange(out.shape[-1], device=out.device) == self.index
        return torch.where(column, logit[..., None], out)
