"""Logits at chosen positions only.

About 98 % of a row's positions are picture and prompt. Their hidden states are dropped in front of the output
embedding, so that logits of shape [chosen, V] are made in place of [B, L, V]. What is computed from them equals that of
full logits (tested for every family).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import nn

#: Stands in labels and padded token ids wherever there is no answer's token.
IGNORE: Final = -100


@contextmanager
def only_positions(model: nn.Module, keep: torch.Tensor) -> Iterator[None]:
    """While it lasts, ``model(...).logits`` has shape [1, keep.sum(), V]: the kept positions, row by row.

    Args:
        model: A causal model with output embeddings; adapters and DDP may wrap it.
        keep: Boolean mask [B, L] of positions whose logits are wanted.
    """
    head = _output_embeddings(model)

    def select(_: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = args[0]
        return (hidden[keep.to(hidden.device)].unsqueeze(0), *args[1:])

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def _output_embeddings(model: nn.Module) -> nn.Module:
    inner: Any = model
    while not callable(getattr(inner, "get_output_embeddings", None)):
        inner = inner.module
    head: nn.Module = inner.get_output_embeddings()
    return head
