"""The first stage of the built-in model: its vision tower learns what lies on each patch, with heads that are thrown away.

    python scripts/pretrain_builtin/dense.py --out build/tower --pictures 400000

Stopped at any moment, the same command goes on from the newest checkpoint in ``--out`` (a picture is a pure function of the
seed and its number, so also on another machine); a GPU is used where there is one. ``probe.json`` has what the tower knows
of pictures that no batch held, and ``tower.safetensors`` its weights for ``train.py --tower``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import Idefics3VisionConfig
from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionTransformer

import dense_scenes as scenes
from foveal.training.optimizers import MuonWithAdamW

PATCH = 14
#: Sizes of pictures that the model takes, and how often each is trained.
SIZES = {168: 0.8, 112: 0.2}
#: Weight of each loss; those of rare bits are larger.
WEIGHTS = {"bits": 6.0, "shape": 1.0, "colour": 0.7, "owner": 0.5, "owner_colour": 0.4, "direction": 0.4, "glyph": 0.7, "values": 0.3, "part": 0.4}  # fmt: skip
#: A checkpoint is written each time so many seconds have passed.
SAVE_SECONDS = 120
Batch = dict[str, torch.Tensor]


class Heads(nn.Module):
    """A linear reading of each patch, and a projection in which patches of one thing are alike."""

    def __init__(self, width: int, key: int = 32) -> None:
        super().__init__()
        self.sizes = [len(scenes.BITS), *scenes.CLASSES.values(), len(scenes.VALUES), key]
        self.read = nn.Linear(width, sum(self.sizes))
        self.scale = nn.Parameter(torch.tensor([2.0, 0.0]))

    def forward(self, hidden: torch.Tensor) -> list[torch.Tensor]:
        """[B, patches, width] to bits, one tensor for each class, values and keys, all [B, patches, n]."""
        return list(self.read(hidden).float().split(self.sizes, -1))


class Batches(IterableDataset[Batch]):
    """Endless batches; batch k is a pure function of (seed, k)."""

    def __init__(self, seed: int, size: int, first: int = 0) -> None:
        self.seed, self.size, self.first = seed, size, first

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for k in itertools.count(self.first + start, step):
            yield make_batch(f"{self.seed}/{k}", self.size)


def make_batch(key: str, count: int, size: int | None = None) -> Batch:
    """A batch of pictures of one size with their maps; pixels uint8 [B, 3, size, size]."""
    rng = random.Random(key)
    size = size or rng.choices(list(SIZES), list(SIZES.values()))[0]
    made = [scenes.make(random.Random(f"{key}/{i}"), size, size // PATCH) for i in range(count)]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image, _ in made])).permute(0, 3, 1, 2)
    maps = {
        name: torch.from_numpy(np.stack([getattr(m, name) for _, m in made]))
        for name in ("bits", "classes", "values", "part")
    }
    return {"pixels": pixels.contiguous(), **maps}


def losses(heads: Heads, hidden: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
    """One loss for each kind of truth, 0 where the batch knows nothing of it."""
    bits, *classes, values, keys = heads(hidden)
    known = ~batch["bits"].isnan()
    each = functional.binary_cross_entropy_with_logits(bits, batch["bits"].nan_to_num(), reduction="none")
    out = {"bits": (each * known).sum() / known.sum().clamp(min=1) * len(scenes.BITS)}
    for i, (name, logits) in enumerate(zip(scenes.CLASSES, classes, strict=True)):
        target = batch["classes"][..., i]
        total = functional.cross_entropy(
            logits.flatten(0, 1), target.flatten(), ignore_index=scenes.NONE, reduction="sum"
        )
        out[name] = total / (target != scenes.NONE).sum().clamp(min=1)
    known = ~batch["values"].isnan()
    out["values"] = ((values - batch["values"].nan_to_num()).abs() * known).sum() / known.sum().clamp(min=1)
    part = batch["part"]
    both = (
        (part[:, :, None] > 0)
        & (part[:, None, :] > 0)
        & ~torch.eye(part.shape[1], dtype=torch.bool, device=part.device)
    )
    same = (part[:, :, None] == part[:, None, :]).float()
    keys = functional.normalize(keys, dim=-1)
    alike = keys @ keys.transpose(1, 2) * heads.scale[0].exp() + heads.scale[1]
    each = functional.binary_cross_entropy_with_logits(alike, same, reduction="none")
    # Each kind of pair weighs the same in a batch: most are of two things.
    for pick in (both & (same > 0), both & (same == 0)):
        out["part"] = out.get("part", alike.new_zeros(())) + (each * pick).sum() / pick.sum().clamp(min=1) / 2
    return out


def normalised(batch: Batch) -> torch.Tensor:
    """Pixels as the processor of the built-in model gives them, [B, 3, H, W]."""
    return (batch["pixels"].float() / 255 - 0.98) / 0.25


def autocast(device: str) -> torch.autocast:
    """bfloat16 on a GPU; few CPUs have instructions for it."""
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


def build_tower() -> Idefics3VisionTransformer:
    """The tower with random weights, on a grid of positions for the largest size (seed torch first)."""
    config = Idefics3VisionConfig(
        hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=2, image_size=max(SIZES),
        patch_size=PATCH, hidden_act="relu", attention_dropout=0.0,
    )  # fmt: skip
    config._attn_implementation = "eager"
    tower = Idefics3VisionTransformer(config)
    for name, p in tower.named_parameters():
        if p.ndim == 2 and "embed" not in name:
            nn.init.normal_(p, std=1 / math.sqrt(p.shape[1]))
    return tower


@torch.no_grad()
def probe(tower: nn.Module, heads: Heads, device: str, batches: int = 16) -> dict[str, float]:
    """What is right on held-out pictures of the largest size, by head; and the middles that are found.

    Returns:
        Accuracy of each class where it is known; of bits recall and precision at a probability of one half; ``place``, the
        mean distance of a middle, in patches; ``count``, the share of pictures of figures whose number of middles is right.
    """
    tower.eval()
    right: dict[str, list[float]] = defaultdict(list)
    for k in range(batches):
        batch = {n: t.to(device) for n, t in make_batch(f"held out/{k}", 64, max(SIZES)).items()}
        with autocast(device):
            hidden = tower(normalised(batch)).last_hidden_state
        bits, *classes, values, _ = heads(hidden)
        for i, (name, logits) in enumerate(zip(scenes.CLASSES, classes, strict=True)):
            target = batch["classes"][..., i]
            known = target != scenes.NONE
            right[name] += (logits.argmax(-1) == target)[known].tolist()
        for i, name in enumerate(scenes.BITS):
            truth, says = batch["bits"][..., i], bits[..., i] > 0
            right[f"{name}: found"] += says[truth == 1].tolist()
            right[f"{name}: true"] += (truth == 1)[says & ~truth.isnan()].tolist()
        middle = batch["bits"][..., 0]
        whole = ~middle.isnan().any(1) & (batch["bits"][..., scenes.BITS.index("corner")] == 0).all(1)
        right["count"] += ((bits[..., 0] > 0).sum(1) == (middle == 1).sum(1))[whole].tolist()
        there = middle == 1
        right["place"] += (
            (values - batch["values"])[..., :2].norm(dim=-1)[there & ~batch["values"].isnan().any(-1)].tolist()
        )
    tower.train()
    return {name: round(float(np.mean(v)), 4) for name, v in sorted(right.items()) if v}


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=400_000, help="in all; the rate falls to 0 over the last 60 %%")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many; the same command goes on")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--muon", type=float, default=0.01)
    parser.add_argument("--adam", type=float, default=1e-3)
    parser.add_argument("--init", type=Path, help="a checkpoint whose weights this run begins with")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tower, heads = build_tower().to(device), Heads(128).to(device)
    matrices = [p for n, p in tower.named_parameters() if p.ndim == 2 and "embed" not in n]
    ids = {id(p) for p in matrices}
    rest = [p for p in tower.parameters() if id(p) not in ids] + list(heads.parameters())
    optimizer = MuonWithAdamW(
        [{"params": matrices, "lr": args.muon, "weight_decay": 0.02}],
        [{"params": rest, "lr": args.adam, "weight_decay": 0.0}],
    )
    modules = {"tower": tower, "heads": heads, "optimizer": optimizer}
    newest, step, seconds = args.out / "checkpoint.pt", 0, 0.0
    if newest.is_file() or args.init:
        state = torch.load(newest if newest.is_file() else args.init, map_location=device, weights_only=True)
        for name, module in modules.items():
            if newest.is_file() or name in ("tower", "heads"):
                module.load_state_dict(state[name])
        if newest.is_file():
            step, seconds = state["step"], state["seconds"]
            print(f"goes on from {step * args.batch:,} pictures", flush=True)
    loader = DataLoader(
        Batches(args.seed, args.batch, step),
        batch_size=None,
        num_workers=args.workers,
        prefetch_factor=8 if args.workers else None,
    )
    started = saved = time.monotonic()
    last, steps = started, args.pictures // args.batch
    recent: dict[str, list[float]] = defaultdict(list)

    def keep() -> float:
        spent = seconds + time.monotonic() - started
        save(newest, {name: m.state_dict() for name, m in modules.items()} | {"step": step, "seconds": spent})
        return time.monotonic()

    def tell(batches: int) -> None:
        table = probe(tower, heads, device, batches)
        spent = seconds + time.monotonic() - started
        facts = {"pictures": step * args.batch, "minutes": round(spent / 60, 1), "seed": args.seed, "probe": table}
        (args.out / "probe.json").write_text(json.dumps(facts, indent=1) + "\n")
        save_file(
            {n: p.detach().to("cpu", torch.float32).contiguous() for n, p in tower.state_dict().items()},
            args.out / "tower.safetensors",
        )
        print(json.dumps(facts), flush=True)

    for batch in loader:
        if step >= steps or time.monotonic() - started > 60 * args.minutes:
            break
        factor = min(1.0, (step + 1) / 100, (1 - step / steps) / 0.6)
        for group, peak in zip(optimizer.param_groups, (args.muon, args.adam), strict=True):
            group["lr"] = peak * factor
        batch = {n: t.to(device, non_blocking=True) for n, t in batch.items()}
        with autocast(device):
            hidden = tower(normalised(batch)).last_hidden_state
        parts = losses(heads, hidden.float(), batch)
        sum(WEIGHTS[n] * v for n, v in parts.items()).backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(rest, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 50 == 0:
            for n, v in parts.items():
                recent[n].append(v.item())
        if time.monotonic() - saved > SAVE_SECONDS:
            saved = keep()
        if step % 250 == 0:
            line = "  ".join(f"{n} {np.mean(v):.3f}" for n, v in recent.items())
            print(f"{step * args.batch:>9,}  {250 * args.batch / (time.monotonic() - last):4.0f}/s  {line}", flush=True)
            recent.clear()
            last = time.monotonic()
        if step % 2500 == 0:
            tell(6)
            last = time.monotonic()
    keep()
    tell(48 if step >= steps else 12)


if __name__ == "__main__":
    main()
