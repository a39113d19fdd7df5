"""How much memory there is, how much a pass takes, and how much a recipe's training will take."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foveal.devices import machine_memory, process_memory
from foveal.errors import UserError

#: bitsandbytes keeps smaller tensors' states in 32 bits, and a scale for each block of the others.
_EIGHT_BIT_FROM, _BLOCK = 4096, 256
#: So many operations that are the same one after the other, are the same place in two passes.
_ALIKE = 8


def available(device: torch.device) -> int:
    """Bytes that this process may take on a device, those that it holds already included."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return machine_memory()[0] + process_memory()


# ---------------------------------------------------------------- what a pass takes


Trace = tuple[tuple[str, int], ...]
Passes = Callable[[int], tuple[Callable[[], Any], int]]


def peak(trace: Trace) -> int:
    """Most bytes that were held at once."""
    return max(held for _, held in trace)


def trace_of(work: Callable[[], Any], start: int = 0) -> Trace:
    """Operations of ``work``, forwards and backwards, each with the bytes held behind it beyond those held before all.

    The tensors that operations make are counted while they live, on any device alike; the workspaces inside an
    operation are not seen. ``start`` bytes count as held from the beginning.
    """
    living: dict[int, int] = {}
    now = [start]
    trace: list[tuple[str, int]] = [("", start)]

    def gone(key: int) -> None:
        now[0] -= living.pop(key, 0)

    class Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            known = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
            out = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(out):
                if not isinstance(tensor, torch.Tensor):
                    continue
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in known and key not in living:
                    living[key] = storage.nbytes()
                    now[0] += living[key]
                    weakref.finalize(storage, gone, key)
            trace.append((str(func), now[0]))
            return out

    with Count():  # type: ignore[no-untyped-call]
        work()
    return tuple(trace)


@dataclass(frozen=True)
class Activations:
    """Memory of a forward and backward pass beyond weights and gradients, for any number of rows.

    A pass over more rows is the same operations, but for a few that are done for each row, and what is held behind each
    of them is a straight line over the rows: weights cast to another type do not grow with them, the model's own
    results do. The peak is the highest of these lines.

    Attributes:
        rows: Rows of the first pass.
        first: ``trace_of`` a pass over that row so many times.
        second: The same with one row more; empty where it was not measured.
    """

    rows: int
    first: Trace
    second: Trace = ()

    @classmethod
    def measured(cls, passes: Passes, batch_size: int) -> Activations:
        """Measures passes over two and three rows, or over a smaller batch itself.

        Args:
            passes: Makes a batch of so many rows; returns what does a pass over it, and the batch's own bytes. Gradients
                are there already, so that the pass adds activations alone.
            batch_size: How many rows there will be.
        """
        if batch_size <= 3:
            return cls(batch_size, trace_of(*passes(batch_size)))
        return cls(2, trace_of(*passes(2)), trace_of(*passes(3)))

    def of(self, rows: int) -> int:
        """Bytes of a pass over so many rows."""
        more, held = rows - self.rows, peak(self.first)
        if not self.second:
            return held + more * (held // self.rows)
        lines = aligned(self.first, self.second) or [(held, max(held, peak(self.second)))]
        return max(a + more * (b - a) for a, b in lines)


def aligned(first: Trace, second: Trace) -> list[tuple[int, int]]:
    """The bytes behind each operation of ``first`` and behind the same one of ``second``, which may have others between.

    Returns:
        Pairs; none where the two are not alike.
    """
    one, two = [name for name, _ in first], [name for name, _ in second]
    pairs, j = [], 0
    for i, name in enumerate(one):
        if j < len(two) and two[j] != name:
            ahead = one[i : i + _ALIKE]
            j = next((k for k in range(j + 1, len(two)) if two[k : k + len(ahead)] == ahead), len(two))
        if j == len(two):
            return []
        pairs.append((first[i][1], second[j][1]))
        j += 1
    return pairs


# ---------------------------------------------------------------- what a recipe will take


@dataclass(frozen=True)
class Estimate:
    """Bytes that a training holds at its peak, on one device."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    process: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.process


def stored_parameters(folder: Path) -> int:
    """How many weights the safetensors files of a folder hold, by their headers alone; 0 where there are none."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        total += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total


def weight_bytes(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers, tied ones once, with the scales of 4-bit weights."""
    total = sum(b.numel() * b.element_size() for b in model.buffers())
    for parameter in model.parameters():
        total += parameter.numel() * parameter.element_size()
        state = getattr(parameter, "quant_state", None)
        for part in (state, getattr(state, "state2", None)):
            scales = getattr(part, "absmax", None)
            total += 0 if scales is None else scales.numel() * scales.element_size()
    return total


def gradient_bytes(model: nn.Module) -> int:
    """Bytes of the gradients of what learns."""
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def optimizer_bytes(model: nn.Module, optimizer: str) -> int:
    """Bytes that a recipe's optimizer keeps for what learns (counters of single numbers left out).

    adamw: two moments of the parameter's type. muon: one momentum for hidden matrices, AdamW's two for the rest.
    adafactor: a row and a column of a matrix in float32. 8 bits: two bytes for each number with their scales; small
    tensors and embeddings stay in 32 bits.
    """
    return sum(
        _state_bytes(name, parameter, optimizer)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    )


def _state_bytes(name: str, parameter: torch.Tensor, optimizer: str) -> int:
    count, size, shape = parameter.numel(), parameter.element_size(), parameter.shape
    if optimizer == "adamw":
        return 2 * count * size
    if optimizer == "muon":
        hidden = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        return (1 if hidden else 2) * count * size
    if optimizer == "adafactor":
        return 4 * (count // shape[-1] + count // shape[-2]) if len(shape) >= 2 else 4 * count
    if optimizer in ("adamw_8bit", "paged_adamw_8bit"):
        if count < _EIGHT_BIT_FROM or "embed" in name:
            return 8 * count
        return 2 * count + 2 * 4 * -(-count // _BLOCK)
    raise UserError(f"training.optimizer: it is not known what {optimizer} keeps; the memory cannot be estimated.")


def estimate(model: nn.Module, optimizer: str, batch_size: int, activations: Activations, process: int = 0) -> Estimate:
    """What training takes: weights, gradients, the optimizer's states and a pass over a batch, all at once.

    Args:
        model: The model as the recipe trains it: with adapters, frozen parts and quantised weights.
        optimizer: The recipe's ``training.optimizer``.
        batch_size: The recipe's ``training.batch_size``.
        activations: What passes took.
        process: Bytes that the process itself takes beside, where the device shares them.
    """
    return Estimate(
        weight_bytes(model), gradient_bytes(model), optimizer_bytes(model, optimizer), activations.of(batch_size), process
    )  # fmt: skip
