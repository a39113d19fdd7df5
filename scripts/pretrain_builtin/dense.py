"""The first stage of the built-in model: its vision tower learns what lies on each patch, with heads that are thrown away.

    torchrun --nproc-per-node 2 scripts/pretrain_builtin/dense.py --out build/tower --pictures 400000

Stopped at any moment, the same command goes on (see ``stage.py``); a GPU is used where there is one. ``probe.json`` has what the
tower knows of pictures that no batch held, and ``tower.safetensors`` and ``heads.safetensors`` the weights for ``train.py``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import Idefics3VisionConfig
from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionTransformer

import dense_scenes as scenes
import figure_scenes
import scenes as questions
import stage

PATCH = 14
#: Sizes of pictures that the model takes, and how often each is trained.
SIZES = {168: 0.7, 112: 0.2, 252: 0.1}
#: Pictures of this size have a learned position for each patch.
POSITIONS = 112
#: So many batches in a row have pictures of one size.
BLOCK = 8
#: The size at which the tower is probed.
PROBED = 168
#: The mixture ``figures``: the scenes of counting and segmentation, for a tower that is to see these best.
FIGURES: questions.Families = {
    "points": (figure_scenes.points, 3.0), "crowd": (figure_scenes.crowd, 1.5), "marked": (figure_scenes.marked, 3.0),
    "marked crowd": (figure_scenes.marked_crowd, 1.5), "phrases": (figure_scenes.phrases, 1.0),
}  # fmt: skip
Make = Callable[[random.Random, int, int], tuple[Image.Image, scenes.Maps]]


def make_figures(rng: random.Random, size: int, side: int) -> tuple[Image.Image, scenes.Maps]:
    """A picture of the mixture ``figures`` and its maps, like ``dense_scenes.make``."""
    scene = questions.make(rng, FIGURES, size)
    assert scene.maps is not None and scene.maps.side == side
    return scene.images[0], scene.maps


#: How pictures of a mixture are made, and at which sizes.
MIXTURES: dict[str, tuple[Make, dict[int, float]]] = {
    "all": (scenes.make, SIZES), "figures": (make_figures, {PROBED: 1.0}),
}  # fmt: skip
#: Weight of each loss; those of rare bits are larger.
WEIGHTS = {"bits": 6.0, "shape": 1.0, "colour": 0.7, "owner": 0.5, "owner_colour": 0.4, "direction": 0.4, "glyph": 0.7, "column": 0.5, "row": 0.5, "values": 0.3, "part": 0.4}  # fmt: skip
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
    """Endless batches: ``first`` and every ``every``-th one after it. Batch k is a pure function of (seed, k)."""

    def __init__(self, seed: int, size: int, mixture: str, first: int = 0, every: int = 1) -> None:
        self.seed, self.size, self.mixture, self.first, self.every = seed, size, mixture, first, every

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for k in itertools.count(self.first + start * self.every, step * self.every):
            # Processes learn from neighbouring batches at the same time, which should take equally long.
            rng = random.Random(f"{self.seed}/size {k // BLOCK}")
            sizes = MIXTURES[self.mixture][1]
            view = rng.choices(list(sizes), list(sizes.values()))[0]
            yield make_batch(f"{self.seed}/{k}", self.size, view, self.mixture)


def make_batch(key: str, count: int, size: int, mixture: str = "all") -> Batch:
    """A batch of pictures of one size with their maps; pixels uint8 [B, 3, size, size]."""
    make = MIXTURES[mixture][0]
    made = [make(random.Random(f"{key}/{i}"), size, size // PATCH) for i in range(count)]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image, _ in made])).permute(0, 3, 1, 2)
    return {"pixels": pixels.contiguous(), **stacked([maps for _, maps in made])}


def stacked(maps: Sequence[scenes.Maps]) -> Batch:
    """The truth of several pictures, as ``losses`` takes it."""
    return {
        name: torch.from_numpy(np.stack([getattr(m, name) for m in maps]))
        for name in ("bits", "classes", "values", "part")
    }


def total(parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The weighted sum of ``losses``."""
    return torch.stack([WEIGHTS[name] * value for name, value in parts.items()]).sum()


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


def stretched(table: torch.Tensor, side: int) -> torch.Tensor:
    """Positions [n * n, width] on a grid of ``side`` x ``side``, between the learned ones: as ``model.resolution`` does it."""
    old = math.isqrt(len(table))
    if old == side:
        return table
    grid = table.T.reshape(1, -1, old, old)
    return functional.interpolate(grid, (side, side), mode="bicubic", align_corners=False)[0].flatten(1).T


class Positions(nn.Embedding):
    """A table of positions that is stretched to pictures of any size while it is learned.

    Args:
        table: What it begins with, [n * n, width].
    """

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__(table.shape[0], table.shape[1], _weight=table)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Positions of all patches of square pictures, [pictures, patches, width]; ``ids`` is [pictures, patches]."""
        return stretched(self.weight, math.isqrt(ids.shape[1])).expand(len(ids), -1, -1)


def build_tower() -> Idefics3VisionTransformer:
    """The tower with random weights (seed torch first)."""
    config = Idefics3VisionConfig(
        hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=2, image_size=POSITIONS,
        patch_size=PATCH, hidden_act="relu", attention_dropout=0.0,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    tower = Idefics3VisionTransformer(config)
    for name, p in tower.named_parameters():
        if p.ndim == 2 and "embed" not in name:
            nn.init.normal_(p, std=1 / math.sqrt(p.shape[1]))
    tower.embeddings.position_embedding = Positions(waves(POSITIONS // PATCH, config.hidden_size))
    return tower


def tower_of(folder: Path) -> dict[str, torch.Tensor]:
    """The tower's weights in the folder of this stage, or of the language stage."""
    file, start = folder / "tower.safetensors", ""
    if not file.is_file():
        file, start = folder / "model.safetensors", "model.vision_model."
    return {name.removeprefix(start): p.float() for name, p in load_file(file).items() if name.startswith(start)}


def waves(side: int, width: int) -> torch.Tensor:
    """Sines and cosines of the columns and rows of a square grid, [side * side, width], from half a wave to ``side / 4`` waves.

    Positions must be as loud as what is on a patch: with the usual embeddings of deviation 0.02, 190,000 pictures left the tower
    without any trace of where a patch is (a linear probe names 17 % of 12 columns), and a model on it never learned to point.
    Waves are no shorter than four places, so that the grid can be stretched.
    """
    place = (torch.arange(side) + 0.5) / side
    rate = math.pi * torch.logspace(0, math.log2(side / 2), width // 4, base=2.0)
    one = torch.cat(((place[:, None] * rate).sin(), (place[:, None] * rate).cos()), 1)
    return torch.cat((one.repeat(side, 1), one.repeat_interleave(side, 0)), 1)


@torch.no_grad()
def probe(tower: nn.Module, heads: Heads, device: str, batches: int = 16, mixture: str = "all") -> dict[str, float]:
    """What is right on held-out pictures of ``PROBED`` pixels, by head; and the middles that are found.

    Returns:
        Accuracy of each class where it is known; of bits recall and precision at a probability of one half; ``place``, the
        mean distance of a middle, in patches; ``count``, the share of pictures of figures whose number of middles is right.
    """
    tower.eval()
    right: dict[str, list[float]] = defaultdict(list)
    for k in range(batches):
        batch = {n: t.to(device) for n, t in make_batch(f"held out/{k}", 64, PROBED, mixture).items()}
        with stage.autocast(device):
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


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=400_000, help="in all; the rate falls to 0 over the last 60 %%")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many; the same command goes on")
    parser.add_argument("--batch", type=int, default=32, help="of each process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--muon", type=float, default=0.01)
    parser.add_argument("--adam", type=float, default=1e-3)
    parser.add_argument("--mixture", choices=list(MIXTURES), default="all")
    parser.add_argument(
        "--init", type=Path, help="folder of an earlier stage whose tower and heads this one begins with"
    )
    return parser.parse_args()


def main() -> None:
    args = arguments()
    rank, world = stage.join()
    device = stage.device()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tower, heads = build_tower().to(device), Heads(128).to(device)
    # One module, so that there is one group for each optimizer.
    rates = stage.rates_of([(nn.ModuleDict({"tower": tower, "heads": heads}), 1.0)], args.muon, args.adam)
    optimizer = rates.optimizer
    modules = {"tower": tower, "heads": heads, "optimizer": optimizer}
    newest = args.out / "checkpoint.pt"
    start = stage.restored(newest, modules, "pictures", device)
    seen, step = start.seen, start.step
    if rank == 0 and seen:
        print(f"goes on from {seen:,} pictures", flush=True)
    if args.init and not seen:
        tower.load_state_dict(tower_of(args.init))
        heads.load_state_dict(load_file(args.init / "heads.safetensors"))
    # Batches are numbered by the pictures before them, so another number of processes repeats none.
    loader = DataLoader(
        Batches(args.seed, args.batch, args.mixture, seen // args.batch + rank, world), batch_size=None, num_workers=args.workers,
        prefetch_factor=8 if args.workers else None,
    )  # fmt: skip
    clock = stage.Clock(start.seconds)
    parameters = [p for m in (tower, heads) for p in m.parameters()]
    recent: dict[str, list[float]] = defaultdict(list)

    def keep() -> None:
        if rank == 0:
            state = {name: m.state_dict() for name, m in modules.items()}
            stage.save(newest, state | {"pictures": seen, "step": step, "seconds": clock.seconds})

    def tell(batches: int) -> None:
        if rank:
            return
        args.out.mkdir(parents=True, exist_ok=True)
        table = probe(tower, heads, device, batches, args.mixture)
        facts = {"pictures": seen, "minutes": stage.minutes(clock.seconds), "seed": args.seed, "probe": table}
        (args.out / "probe.json").write_text(json.dumps(facts, indent=1) + "\n")
        for name, module in (("tower", tower), ("heads", heads)):
            weights = {n: p.detach().to("cpu", torch.float32).contiguous() for n, p in module.state_dict().items()}
            save_file(weights, args.out / f"{name}.safetensors")
        print(json.dumps(facts), flush=True)

    last = time.monotonic()
    for batch in loader:
        if stage.agreed(seen >= args.pictures or clock.now > 60 * args.minutes, world):
            break
        rates.set(step, seen / args.pictures, 0.6)
        batch = {n: t.to(device, non_blocking=True) for n, t in batch.items()}
        with stage.autocast(device):
            hidden = tower(normalised(batch)).last_hidden_state
        parts = losses(heads, hidden.float(), batch)
        total(parts).backward()  # type: ignore[no-untyped-call]
        stage.average(parameters, world)
        nn.utils.clip_grad_norm_(rates.rest, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen, step = seen + args.batch * world, step + 1
        if step % 50 == 0:
            for n, v in parts.items():
                recent[n].append(v.item())
        if clock.due():
            keep()
        if step % 250 == 0:
            line = "  ".join(f"{n} {np.mean(v):.3f}" for n, v in recent.items())
            rate = 250 * args.batch * world / (time.monotonic() - last)
            if rank == 0:
                print(f"{seen:>9,}  {rate:4.0f}/s  {line}", flush=True)
            recent.clear()
            last = time.monotonic()
        if step % 1500 == 0:
            tell(6)
            last = time.monotonic()
    keep()
    tell(48 if seen >= args.pictures else 12)


if __name__ == "__main__":
    main()
