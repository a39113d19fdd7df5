"""Exact log-probabilities of a closed set of answers: one shared prefix, the answers side by side behind it.

The pictures and the question go through the model once; its cache is repeated for each answer and only the answers'
own tokens are computed, of many answers a part at a time, for each holds the whole prefix in memory. The result equals scoring every full sequence on its own (tested to 1e-4 for every family).
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
from foveal.vlm.loading import Vlm
from foveal.vlm.losses import IGNORE, WEIGHTS, only_positions

#: Families whose positions count pictures in their own way and must be told where a continuation begins.
_OWN_POSITIONS: Final = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v")

#: Where the copies of a batch's cache, one for each row and answer, would take more bytes than this, no more than so many
#: are held at once (64 of SmolVLM-500M with 1,100 tokens take about 3 GB in bfloat16); without gradients only.
CACHE_BYTES: Final = 1 << 30
SEQUENCES: Final = 64


def to_device(batch: Mapping[str, torch.Tensor], vlm: Vlm) -> Batch:
    """The batch on the model's device, pictures in the type of its weights."""
    dtype = vlm.base.dtype
    return {k: v.to(vlm.device, dtype=dtype if v.is_floating_point() else None) for k, v in batch.items()}


def common_prefix(answers: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all answers share, leaving each at least one of its own."""
    shortest = min(len(a) for a in answers)
    n = 0
    while n < shortest - 1 and len({a[n] for a in answers}) == 1:
        n += 1
    return n


def score_batch(
    model: nn.Module, batch: Batch, answers: Sequence[Sequence[Sequence[int]]], *, family: str
) -> torch.Tensor:
    """Log-probability of each answer behind each prompt.

    Args:
        model: The VLM; gradients flow where they are enabled. Where they are not, the answers are continued in parts
            of at most ``SEQUENCES`` sequences, if all at once would take too much memory (``CACHE_BYTES``).
        batch: Left-padded prompts [B, L] on the model's device.
        answers: For each row the token ids of each of the K answers, the end token included.
        family: The configuration's model type.

    Returns:
        Sums over the answer's tokens, float32 [B, K].
    """
    rows, choices = len(answers), len(answers[0])
    device = batch["input_ids"].device
    flat = [ids for row in answers for ids in row]
    shared = common_prefix(flat)
    prefix = _append_shared(batch, flat[0][:shared], family) if shared else dict(batch)
    mask = prefix["attention_mask"]
    keep = torch.zeros_like(mask, dtype=torch.bool)
    keep[:, -1 - shared :] = True
    with only_positions(model, keep):
        out = model(**prefix, use_cache=True)
    first = out.logits[0].view(rows, shared + 1, -1).float().log_softmax(-1)  # [B, shared + 1, V]
    total = torch.zeros(rows, device=device)
    for t in range(shared):
        total = total + first[:, t, flat[0][t]]
    heads = torch.tensor([[a[shared] for a in row] for row in answers], device=device)  # [B, K]
    result: torch.Tensor = total[:, None] + first[:, shared].gather(1, heads)

    rest = [[list(a[shared:]) for a in row] for row in answers]
    if max(len(a) for row in rest for a in row) == 1:
        return result
    # With gradients the graph of all answers is kept whatever the chunk, and a copied cache would lose it.
    step = choices
    if not torch.is_grad_enabled() and choices * _bytes(out.past_key_values) > CACHE_BYTES:
        step = max(1, SEQUENCES // rows)
    start = None
    if family in _OWN_POSITIONS:
        start = mask.sum(1) + _rope_deltas(model).to(device).view(-1)  # [B]
    tails = []
    for k in range(0, choices, step):
        part = [row[k : k + step] for row in rest]
        if max(len(a) for row in part for a in row) == 1:
            tails.append(torch.zeros(rows, len(part[0]), device=device))
            continue
        # What a cache is asked to do changes it, so all chunks but the last continue from a copy.
        cache = out.past_key_values if k + step >= choices else copy.deepcopy(out.past_key_values)
        tails.append(_continue(model, prefix, cache, part, family=family, start=start))
        del cache
    return result + torch.cat(tails, 1)


def _bytes(cache: Any) -> int:
    return sum(v.nbytes for layer in cache.layers for v in vars(layer).values() if isinstance(v, torch.Tensor))


def _continue(
    model: nn.Module, prefix: Batch, cache: Any, answers: list[list[list[int]]], *, family: str,
    start: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """Log-probability of each answer's tokens behind its first, which is the last that is given.

    Args:
        model: The VLM.
        prefix: What is in the cache [B, L].
        cache: The model's cache of it; it is changed.
        answers: For each row the token ids of each of k answers.
        family: The configuration's model type.
        start: Positions [B] at which the answers begin, for families that must be told.

    Returns:
        Sums, float32 [B, k].
    """
    rows, choices = len(answers), len(answers[0])
    flat = [a for row in answers for a in row]
    longest = max(map(len, flat))
    mask = prefix["attention_mask"]
    ids = torch.zeros(len(flat), longest, dtype=torch.long, device=mask.device)
    real = torch.zeros_like(ids, dtype=torch.bool)
    for i, a in enumerate(flat):
        ids[i, : len(a)] = torch.tensor(a, device=mask.device)
        real[i, : len(a)] = True
    cache.batch_repeat_interleave(choices)
    inputs: Batch = {
        "input_ids": ids[:, :-1],
        "attention_mask": torch.cat([mask.repeat_interleave(choices, 0), real[:, :-1].to(mask.dtype)], 1),
    }
    if start is not None:
        position = start.repeat_interleave(choices)[:, None] + torch.arange(longest - 1, device=mask.device)
        inputs["position_ids"] = position.unsqueeze(0).expand(3, -1, -1)
    if "cross_attention_mask" in prefix:
        last = prefix["cross_attention_mask"][:, -1:].repeat_interleave(choices, 0)
        inputs["cross_attention_mask"] = last.expand(-1, longest - 1, *last.shape[2:])
    if "token_type_ids" in prefix:
        inputs["token_type_ids"] = torch.full_like(inputs["input_ids"], 1 if family == "paligemma" else 0)
    wanted = real[:, 1:]
    with only_positions(model, wanted):
        logits = model(**inputs, past_key_values=cache, use_cache=True).logits[0]
    picked = logits.float().log_softmax(-1).gather(1, ids[:, 1:][wanted][:, None])[:, 0]
    tokens = torch.zeros(wanted.shape, device=mask.device, dtype=picked.dtype).masked_scatter(wanted, picked)
    return tokens.sum(1).view(rows, choices)


def _append_shared(batch: Batch, ids: Sequence[int], family: str) -> Batch:
    """The left-padded prompts with tokens that all answers begin with."""
    out = dict(batch)
    rows, n = len(batch["input_ids"]), len(ids)
    tail = torch.tensor([list(ids)] * rows, device=batch["input_ids"].device)
    out["input_ids"] = torch.cat([batch["input_ids"], tail], 1)
    fills = {"attention_mask": 1, "token_type_ids": 1 if family == "paligemma" else 0, "mm_token_type_ids": 0}
    for key, value in fills.items():
        if key in batch:
            out[key] = torch.cat([batch[key], torch.full_like(tail, value, dtype=batch[key].dtype)], 1)
    if "cross_attention_mask" in batch:
        last = batch["cross_attention_mask"][:, -1:]
        out["cross_attention_mask"] = torch.cat([batch["cross_attention_mask"], last.expand(-1, n, *last.shape[2:])], 1)
    return out


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
        prompts: What is asked.
        answers: The closed set, K texts.
        names: What an error calls each row.
        per_token: Divide each by the number of the answer's tokens, the end token included: the mean in place of the
            sum. The sum is the probability of the answer, of which a longer one has less for its length alone; the
            mean makes up for that, but its softmax is no probability that the model gives.

    Returns:
        Float32 on the CPU [B, K].

    Raises:
        UserError: A row does not fit into the model's context.
    """
    batch = encoder.encode(prompts, side="left")
    encoder.check_prompts(batch, names)
    ids = [[encoder.answer_ids(p, a) for a in answers] for p in prompts]
    with torch.inference_mode():
        scores: torch.Tensor = score_batch(vlm.model, to_device(batch, vlm), ids, family=vlm.family)
    scores = scores.float().cpu()
    return scores / torch.tensor([[len(a) for a in row] for row in ids]) if per_token else scores


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
        batch: Left-padded prompts with ``choice_ids`` [B, K, T] (padded with -100) and ``choice`` [B], the right one,
            and ``weights`` [B] where not every row weighs 1.
        normaliser: ``label_count`` of the whole optimizer step; this batch's own where it is None.
        family: The configuration's model type.
        smoothing: Share of each target that is spread evenly over the K answers, as ``label_smoothing`` in
            ``torch.nn.functional.cross_entropy``.

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
        return nn.functional.cross_entropy(scores, batch["choice"], reduction="sum", label_smoothing=smoothing)
    each = nn.functional.cross_entropy(scores, batch["choice"], reduction="none", label_smoothing=smoothing)
    return (each * batch[WEIGHTS]).sum()


def label_scores(model: nn.Module, batch: Mapping[str, torch.Tensor], *, family: str) -> torch.Tensor:
    """Log-probabilities [B, K] of a batch's answers, with gradients; see ``label_loss``."""
    inputs = {k: v for k, v in batch.items() if k not in ("choice_ids", "choice", "labels", WEIGHTS)}
    answers = [[[t for t in ids if t != IGNORE] for ids in row] for row in batch["choice_ids"].tolist()]
    return score_batch(model, inputs, answers, family=family)
