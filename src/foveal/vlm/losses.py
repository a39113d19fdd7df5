"""Losses: of the `answer` objective over an answer's tokens, of the `label` objective over a closed set.

Each sum is divided by a count, which a training step adds up over all its batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from foveal.vlm.logits import IGNORE, only_positions
from foveal.vlm.scoring import score_batch

#: Key of a batch's row weights [B], float32; absent where every row weighs 1.
WEIGHTS: Final = "weights"


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


def label_loss(
    model: nn.Module,
    batch: Mapping[str, torch.Tensor],
    normaliser: torch.Tensor | float | None,
    *,
    family: str,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """The `label` objective: cross entropy over a closed set of answers, none of which is in the input.

    Args:
        model: The VLM.
        batch: Left-padded prompts with ``choice_ids`` [B, K, T] (padded with ``IGNORE``) and ``choice`` [B], the right one,
            and ``weights`` [B] where not every row weighs 1.
        normaliser: ``label_count`` of the whole optimizer step; this batch's own where it is None.
        family: The configuration's model type.
        smoothing: Share of each target that is spread evenly over the K answers, as ``label_smoothing`` in
            ``torch.functional.cross_entropy``.

    Returns:
        The loss, a scalar in float32.
    """
    total = label_entropy(label_scores(model, batch, family=family), batch, smoothing)
    return total / (label_count(batch) if normaliser is None else normaliser)


def label_count(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Sum of the weights of a batch's rows: what ``label_loss`` is averaged over, float32 scalar."""
    return batch[WEIGHTS].sum() if WEIGHTS in batch else torch.tensor(float(len(batch["choice"])))


def label_entropy(scores: torch.Tensor, batch: Mapping[str, torch.Tensor], smoothing: float = 0.0) -> torch.Tensor:
    """Sum of the rows' cross entropies, each times its weight; see ``label_loss``.

    Args:
        scores: The answers' log-probabilities [B, K].
        batch: ``choice`` [B], and ``weights`` [B] where not every row weighs 1.
        smoothing: Share of each target that is spread evenly over the K answers.
    """
    if WEIGHTS not in batch:
        return functional.cross_entropy(scores, batch["choice"], reduction="sum", label_smoothing=smoothing)
    each = functional.cross_entropy(scores, batch["choice"], reduction="none", label_smoothing=smoothing)
    return (each * batch[WEIGHTS]).sum()


def label_scores(model: nn.Module, batch: Mapping[str, torch.Tensor], *, family: str) -> torch.Tensor:
    """Log-probabilities [B, K] of a batch's answers, with gradients; see ``label_loss``."""
    inputs = {k: v for k, v in batch.items() if k not in ("choice_ids", "choice", WEIGHTS)}
    return score_batch(model, inputs, batch["choice_ids"], family=family)
