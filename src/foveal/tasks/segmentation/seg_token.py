"""The token that stands for a mask: `<SEG>` in the vocabulary, with rows of its own where the vocabulary is frozen."""

from __future__ import annotations

from typing import Any, Final

import torch
from tokenizers import AddedToken
from torch import nn

from foveal.errors import UserError

#: As the seed writes it; LISA's is ``[SEG]``.
SEG: Final = "<SEG>"


def add_token(model: Any, tokenizer: Any, text: str = SEG) -> int:
    """Adds the token to a model's vocabulary, unless it has it.

    Tables are only made larger where the tokenizer outgrows them (most have rows to spare). A new row starts as the mean
    of the others, so that it is neither likely nor unlikely.

    Args:
        model: The VLM.
        tokenizer: Its tokenizer, changed in place.
        text: How the token is written.

    Returns:
        Its id.

    Raises:
        UserError: The tokenizer does not keep it in one piece.
    """
    known = len(tokenizer)
    if text not in tokenizer.get_vocab():
        # Not a special one: a reply shall show it when it is decoded.
        tokenizer.add_tokens([AddedToken(text, special=False, normalized=False, lstrip=False, rstrip=False)])
    ids = tokenizer(f"a{text}.", add_special_tokens=False)["input_ids"]
    index = int(tokenizer.convert_tokens_to_ids(text))
    if ids.count(index) != 1:
        raise UserError(f"data.token: the model's tokenizer does not keep {text!r} in one piece; choose another text.")
    # Some families (Mllama) read more tokens than they write.
    rows = min(len(part.weight) for part in (model.get_input_embeddings(), model.get_output_embeddings()))
    if index >= rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if len(tokenizer) > known:
        with torch.no_grad():
            for part in (model.get_input_embeddings(), model.get_output_embeddings()):
                part.weight[index] = part.weight[:known].mean(0)
    return index


class TokenRows(nn.Module):
    """Rows of one token, learned beside frozen tables of embeddings.

    The tables stay as they are, also in four bits; the rows take the place of theirs whenever the token is read or its
    logit is computed. A model whose tables are tied has one row.

    Args:
        model: The VLM, without adapters' wrapping.
        index: The token.
    """

    def __init__(self, model: Any, index: int) -> None:
        super().__init__()
        read, write = model.get_input_embeddings(), model.get_output_embeddings()
        self.index = index
        # Gemma's tables multiply what is read from them.
        self.scale = float(getattr(read, "embed_scale", 1.0))
        self.embed_read = nn.Parameter(read.weight[index].detach().float().clone())
        tied = write.weight is read.weight
        self.embed_write = self.embed_read if tied else nn.Parameter(write.weight[index].detach().float().clone())
        read.register_forward_hook(self._reading)
        write.register_forward_hook(self._writing)

    def _reading(self, _: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        return torch.where((args[0] == self.index)[..., None], (self.scale * self.embed_read).to(out.dtype), out)

    def _writing(self, _: nn.Module, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        own = (args[0].float() @ self.embed_write.float()).to(out.dtype)
        column = torch.arange(out.shape[-1], device=out.device) == self.index
        return torch.where(column, own[..., None], out)
