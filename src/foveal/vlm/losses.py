"""The `answer` objective: cross entropy on the answer's tokens, and nothing else reaches the vocabulary projection.

About 98 % of a row's positions are picture and prompt. Their hidden states are dropped in front of the output
embedding, so that logits of shape [labelled, V] are made in place of [B, L, V]. The loss and its gradients equal those
of full logits (tested for every family).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

IGNORE: Final = -100
#: Key of a batch's row weights [B], float32; absent where every row weighs 1.
WEIGHTS: Final = "weights"


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


def answer_count(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Answer tokens of a batch, each times its row's weight: what ``answer_loss`` is averaged over, float32 scalar."""
    tokens = (batch["labels"][:, 1:] != IGNORE).sum(1).float()
    return (tokens * batch[WEIGHTS] if WEIGHTS in batch else tokens).sum()


def answer_loss(
    model: nn.Module,
    batch: Mapping[str, torch.Tensor],
    normaliser: torch.Tensor | float | None,
    *,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Sum of the answer tokens' cross entropies, each times its row's weight, over ``normaliser``.

    Args:
        model: The VLM.
        batch: The processor's tensors with ``labels`` [B, L], ``IGNORE`` wherever there is no answer token,
            and ``weights`` [B] where not every row weighs 1.
        normaliser: ``answer_count`` of the whole optimizer step (all micro-batches and processes), so that batch 1 x
            accumulate 8 equals batch 8; this batch's own where it is None.
        smoothing: Share of each target that is spread evenly over the vocabulary, as ``label_smoothing`` in
            ``torch.nn.functional.cross_entropy``.

    Returns:
        The loss, a scalar in float32.
    """
    labels = batch["labels"]
    target = labels[:, 1:]
    asked = target != IGNORE
    keep = torch.zeros_like(labels, dtype=torch.bool)
    keep[:, :-1] = asked
    inputs = {k: v for k, v in batch.items() if k not in ("labels", WEIGHTS)}
    with only_positions(model, keep):
        logits = model(**inputs, use_cache=False).logits[0]
    wanted = target[asked].to(logits.device)
    if WEIGHTS not in batch:
        total = functional.cross_entropy(logits.float(), wanted, reduction="sum", label_smoothing=smoothing)
        return total / (wanted.numel() if normaliser is None else normaliser)
    each = functional.cross_entropy(logits.float(), wanted, reduction="none", label_smoothing=smoothing)
    weights = batch[WEIGHTS][:, None].expand_as(asked)[asked].to(each.device)
    return (each * weights).sum() / (weights.sum() if normaliser is None else normaliser)
