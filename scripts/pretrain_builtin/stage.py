"""What both stages of the built-in model's pre-training share: rates, checkpoints, and several processes.

A stage stops at any moment, and the same command goes on from the newest checkpoint in its folder, also on another machine and
with another number of processes. ``torchrun --nproc-per-node 2 SCRIPT ...`` trains on two cores (or GPUs): every process draws
and learns from batches of its own, and their gradients are averaged.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from foveal.training.optimizers import MuonWithAdamW

#: A checkpoint is written each time so many seconds have passed.
SAVE_SECONDS = 120


def join() -> tuple[int, int]:
    """This process's number and how many there are; 0 and 1 without ``torchrun``."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return int(os.environ.get("RANK", "0")), world


def device() -> str:
    """A GPU of this process where there is one."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def average(parameters: Iterable[nn.Parameter], world: int) -> None:
    """Averages gradients over all processes; one that has none counts as 0. Frozen parameters get none."""
    if world == 1:
        return
    parameters = [p for p in parameters if p.requires_grad]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    distributed.all_reduce(flat)
    flat /= world
    for p, part in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
        p.grad = part.view_as(p)


def agreed(stop: bool, world: int) -> bool:
    """Whether any process says stop, so that all do at the same step."""
    if world == 1:
        return stop
    flag = torch.tensor(float(stop), device=device())
    distributed.all_reduce(flag)
    return bool(flag.item())


@dataclass(frozen=True)
class Rates:
    """An optimizer and the peak rate of each of its groups."""

    optimizer: MuonWithAdamW
    peaks: tuple[float, ...]

    def set(self, step: int, done: float, decay: float) -> None:
        """A short warm-up, constant rates, and a fall to 0 over the last share ``decay`` of the run.

        Args:
            step: From 0.
            done: Share of the run that is over.
            decay: The last share, with falling rates.
        """
        factor = min(1.0, (step + 1) / 100, max(0.0, 1 - done) / decay)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor

    @property
    def rest(self) -> list[nn.Parameter]:
        """AdamW's parameters. Muon's updates have a norm of their own, so only these gradients are clipped."""
        return [p for group in self.optimizer.param_groups if group["part"] == 1 for p in group["params"]]


def rates_of(modules: Iterable[tuple[nn.Module, float]], muon: float, adam: float, decay: float = 0.02) -> Rates:
    """Muon on hidden matrices, AdamW on embeddings, heads, biases and norms.

    Args:
        modules: Each with a factor for its rates. A parameter belongs to the first one that has it.
        muon: Muon's rate.
        adam: AdamW's rate.
        decay: Muon's weight decay.
    """
    seen: set[int] = set()
    parts: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for module, scale in modules:
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, p in module.named_parameters():
            if id(p) not in seen:
                hidden = p.ndim == 2 and not any(word in name for word in ("embed", "lm_head", "read"))
                (matrices if hidden else rest).append(p)
            seen.add(id(p))
        for part, params, rate, loss in ((0, matrices, muon, decay), (1, rest, adam, 0.0)):
            if params:
                parts[part].append({"params": params, "lr": rate * scale, "weight_decay": loss})
    return Rates(MuonWithAdamW(*parts), tuple(g["lr"] for part in parts for g in part))


class Clock:
    """Minutes of a stage over all its commands, and when to write."""

    def __init__(self, spent: float = 0.0) -> None:
        self.before, self.started = spent, time.monotonic()
        self.saved = self.started

    @property
    def seconds(self) -> float:
        """Of all commands so far."""
        return self.before + self.now

    @property
    def now(self) -> float:
        """Seconds of this command."""
        return time.monotonic() - self.started

    def due(self) -> bool:
        """Whether it is time for a checkpoint; starts anew then."""
        if time.monotonic() - self.saved <= SAVE_SECONDS:
            return False
        self.saved = time.monotonic()
        return True


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(dict(state), part)
    os.replace(part, path)


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        seen: Pictures or scenes.
        step: Steps.
        seconds: Of all commands so far.
    """

    seen: int = 0
    step: int = 0
    seconds: float = 0.0


def restored(path: Path, parts: Mapping[str, Any], what: str, device: str) -> Progress:
    """Brings modules and optimizer to where a checkpoint left them, if there is one.

    Args:
        path: Of the checkpoint.
        parts: By their names in it.
        what: Its name for what was seen.
        device: Where the weights go.
    """
    if not path.is_file():
        return Progress()
    state = torch.load(path, map_location=device, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return Progress(state[what], state["step"], state["seconds"])


def autocast(device: str) -> torch.autocast:
    """bfloat16 on a GPU; few CPUs have instructions for it."""
    return torch.autocast(device.split(":", maxsplit=1)[0], torch.bfloat16, enabled=device.startswith("cuda"))


def minutes(seconds: float) -> float:
    """Rounded to a tenth."""
    return math.floor(seconds / 6 + 0.5) / 10
