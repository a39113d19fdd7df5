"""Exact log-probabilities of a closed set of answers: one shared prefix, the answers side by side behind it.

The pictures and the question go through the model once; its cache is repeated for each answer and only the answers'
own tokens are computed, of many answers a part at a time, for each holds the whole prefix in memory. The result equals
scoring every full sequence on its own (tested to 1e-4 for every family).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import nn

from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.vlm.encoding import Batch, Encoder
from foveal.vlm.families import family_of
from foveal.vlm.loading import Vlm
from foveal.vlm.logits import IGNORE, only_positions

#: Where the copies of a batch's cache, one for each row and answer, would take more bytes than this, at most this many are
#: held at once (64 of SmolVLM-500M with 1,100 tokens take about 3 GB in bfloat16); without gradients only.
CACHE_BYTES: Final = 1 << 30
SEQUENCES: Final = 64


def to_device(batch: Mapping[str, torch.Tensor], vlm: Vlm) -> Batch:
    """The batch on the model's device, pictures in the type of its weights."""
    dtype = vlm.base.dtype
    return {k: v.to(vlm.device, dtype=dtype if v.is_floating_point() else None) for k, v in batch.items()}


def common_prefix(choices: torch.Tensor) -> int:
    """How many leading tokens all answers share, leaving each at least one of its own.

    Args:
        choices: Token ids [..., T], padded with ``IGNORE``.
    """
    flat = choices.flatten(0, -2)
    same = (flat == flat[0]).all(0).cumprod(0)
    shortest = (flat != IGNORE).sum(1).min()
    return min(int(same.sum()), int(shortest) - 1)


def score_batch(model: nn.Module, batch: Batch, choices: torch.Tensor, *, family: str) -> torch.Tensor:
    """Log-probability of each answer behind each prompt.

    Args:
        model: The VLM; gradients flow where they are enabled. Where they are not, the answers are continued in parts
            of at most ``SEQUENCES`` sequences, if all at once would take too much memory (``CACHE_BYTES``).
        batch: Left-padded prompts [B, L] on the model's device.
        choices: Token ids [B, K, T] of each row's K answers, the end token included, padded with ``IGNORE``.
        family: The configuration's model type.

    Returns:
        Sums over the answer's tokens, float32 [B, K].
    """
    rows, count, longest = choices.shape
    shared = common_prefix(choices)
    begun = choices[:, 0, :shared]  # [B, shared]
    prefix = _append(batch, begun, family)
    keep = torch.zeros_like(prefix["attention_mask"], dtype=torch.bool)
    keep[:, -1 - shared :] = True
    with only_positions(model, keep):
        out = model(**prefix, use_cache=True)
    first = out.logits[0].view(rows, shared + 1, -1).float().log_softmax(-1)  # [B, shared + 1, V]
    begun_score = first[:, :shared].gather(2, begun[:, :, None]).sum((1, 2))  # [B]
    result: torch.Tensor = begun_score[:, None] + first[:, shared].gather(1, choices[:, :, shared])
    if longest == shared + 1:
        return result
    rest = choices[:, :, shared:]
    # With gradients the graph of all answers stays in memory in any case, and a copied cache would lose it.
    step = count
    if not torch.is_grad_enabled() and count * _bytes(out.past_key_values) > CACHE_BYTES:
        step = max(1, SEQUENCES // rows)
    start = None
    if family_of(family).own_positions:
        start = prefix["attention_mask"].sum(1) + _rope_deltas(model).to(choices.device).view(-1)  # [B]
    tails = []
    for k in range(0, count, step):
        part = rest[:, k : k + step]
        part = part[:, :, : int((part != IGNORE).sum(2).max())]
        if part.shape[2] == 1:
            tails.append(torch.zeros(part.shape[:2], device=part.device))
            continue
        # Continuing changes the cache, so all parts but the last continue from a copy.
        cache = out.past_key_values if k + step >= count else copy.deepcopy(out.past_key_values)
        tails.append(_continue(model, prefix, cache, part, family=family, start=start))
        del cache
    return result + torch.cat(tails, 1)


def _bytes(cache: Any) -> int:
    return sum(v.nbytes for layer in cache.layers for v in vars(layer).values() if isinstance(v, torch.Tensor))


def _continue(
    model: nn.Module, prefix: Batch, cache: Any, choices: torch.Tensor, *, family: str, start: torch.Tensor | None
) -> torch.Tensor:
    """Log-probability of each answer's tokens behind its first.

    Args:
        model: The VLM.
        prefix: What is in the cache [B, L].
        cache: The model's cache of it; it is changed.
        choices: Token ids [B, k, T], padded with ``IGNORE``.
        family: The configuration's model type.
        start: Positions [B] at which the answers begin, for families with positions of their own.

    Returns:
        Sums, float32 [B, k].
    """
    rows, count, longest = choices.shape
    flat = choices.flatten(0, 1)
    real = flat != IGNORE
    ids = flat.where(real, 0)
    mask = prefix["attention_mask"].repeat_interleave(count, 0)
    cache.batch_repeat_interleave(count)
    inputs: Batch = {"input_ids": ids[:, :-1], "attention_mask": torch.cat([mask, real[:, :-1].to(mask.dtype)], 1)}
    if start is not None:
        position = start.repeat_interleave(count)[:, None] + torch.arange(longest - 1, device=mask.device)
        inputs["position_ids"] = position.unsqueeze(0).expand(3, -1, -1)
    for key in ("cross_attention_mask", "token_type_ids"):
        if key in prefix:
            inputs[key] = _behind(prefix, key, longest - 1, family).repeat_interleave(count, 0)
    wanted = real[:, 1:]
    with only_positions(model, wanted):
        logits = model(**inputs, past_key_values=cache, use_cache=True).logits[0]
    picked = logits.float().log_softmax(-1).gather(1, ids[:, 1:][wanted][:, None])[:, 0]
    tokens = torch.zeros(wanted.shape, device=mask.device, dtype=picked.dtype).masked_scatter(wanted, picked)
    return tokens.sum(1).view(rows, count)


def _append(batch: Batch, ids: torch.Tensor, family: str) -> Batch:
    """The left-padded prompts with token ids [B, n] behind them."""
    out = dict(batch)
    out["input_ids"] = torch.cat([batch["input_ids"], ids], 1)
    for key in family_of(family).per_token:
        if key in batch:
            out[key] = torch.cat([batch[key], _behind(batch, key, ids.shape[1], family)], 1)
    return out


def _behind(batch: Batch, key: str, count: int, family: str) -> torch.Tensor:
    """The entries of ``count`` generated tokens in one of a processor's tensors, [B, count, ...]."""
    last, fill = batch[key][:, -1:], family_of(family).per_token[key]
    last = last if fill is None else torch.full_like(last, fill)
    return last.expand(-1, count, *last.shape[2:])


def _rope_deltas(model: nn.Module) -> torch.Tensor:
    for module in model.modules():
        deltas = getattr(module, "rope_deltas", None)
        if isinstance(deltas, torch.Tensor):
            return deltas
    raise UserError(
        "This family counts positions in a way that answers cannot be scored with; use --evaluation.method generate."
    )


def score(
    vlm: Vlm, encoder: Encoder, prompts: Sequence[Prompt], answers: Sequence[str], *, names: Sequence[str],
    per_token: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Log-probabilities of the answers for each prompt, without gradients.

    Args:
        vlm: The model.
        encoder: Its encoder.
        prompts: The prompts.
        answers: The closed set, K texts.
        names: Name of each row in errors.
        per_token: Whether the mean over the answer's tokens, the end token included, replaces the sum. The sum is the
            answer's log-probability, which falls with its length; the mean corrects that, but its softmax is not the
            model's probability.

    Returns:
        Float32 on the CPU [B, K].

    Raises:
        UserError: A row does not fit into the model's context.
    """
    batch = encoder.encode(prompts, side="left", names=names)
    encoder.check_prompts(batch, names)
    choices = encoder.choice_ids(prompts, answers)
    with torch.inference_mode():
        scores: torch.Tensor = score_batch(vlm.model, to_device(batch, vlm), choices.to(vlm.device), family=vlm.family)
    scores = scores.float().cpu()
    return scores / (choices != IGNORE).sum(2) if per_token else scores
