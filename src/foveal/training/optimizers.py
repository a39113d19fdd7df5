"""Muon on the hidden matrices and AdamW on everything else, as one `torch.optim.Optimizer`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Muon

Closure = Callable[[], float]


def orthogonalised(matrix: torch.Tensor, coefficients: tuple[float, float, float], steps: int) -> torch.Tensor:
    """Muon's Newton-Schulz iteration in the matrix's own type: its singular values are brought near 1.

    Each step is a polynomial of the Gram matrix times the matrix. For a wide matrix the polynomials are multiplied first
    and meet the matrix once, which is the same and takes half the time.

    Args:
        matrix: [rows, columns].
        coefficients: Of the quintic polynomial, the lowest power first.
        steps: Of the iteration, at least 1.

    Returns:
        [rows, columns].
    """
    a, b, c = coefficients
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    gram = x @ x.T
    if x.shape[1] < 2 * x.shape[0]:
        for step in range(steps):
            gram = x @ x.T if step else gram
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    else:
        product: torch.Tensor | None = None
        for step in range(steps):
            polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
            polynomial.diagonal().add_(a)
            product = polynomial if product is None else polynomial @ product
            if step < steps - 1:
                gram = polynomial @ gram @ polynomial
        x = x if product is None else product @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class _Muon(Muon):
    """Muon that computes in float32 on a CPU.

    torch's own iterates in bfloat16, which takes 20 to 50 times as long on a processor without instructions for it: there it
    was nine tenths of a training step of the built-in model.
    """

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> float | None:  # type: ignore[override]
        """One step; ``closure`` is not called, see ``MuonWithAdamW``."""
        if any(p.device.type != "cpu" for group in self.param_groups for p in group["params"]):
            super().step()  # type: ignore[no-untyped-call]
            return None
        for group in self.param_groups:
            momentum, lr = group["momentum"], float(group["lr"])
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad.float()
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                state["momentum_buffer"].lerp_(p.grad, 1 - momentum)
                buffer = state["momentum_buffer"].float()
                update = grad.lerp(buffer, momentum) if group["nesterov"] else buffer
                update = orthogonalised(update, group["ns_coefficients"], group["ns_steps"])
                p.mul_(1 - lr * group["weight_decay"])
                p.add_(update.to(p.dtype), alpha=-lr * math.sqrt(max(1.0, p.shape[0] / p.shape[1])))
        return None


class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimizers behind one interface, so that schedules, checkpoints and `accelerate` see one.

    Muon (Jordan et al. 2024, as in ``torch.optim.Muon``) orthogonalises the momentum of matrices; AdamW takes vectors,
    embeddings, convolutions and output projections.

    Args:
        muon: Parameter groups for Muon, each with ``lr`` and ``weight_decay``.
        adamw: Parameter groups for AdamW, likewise.
        betas: AdamW's decay rates.
    """

    def __init__(
        self, muon: list[dict[str, Any]], adamw: list[dict[str, Any]], betas: tuple[float, float] = (0.9, 0.98)
    ) -> None:
        self._parts: list[torch.optim.Optimizer] = []
        if muon:
            self._parts.append(_Muon(muon, lr=muon[0]["lr"]))
        if adamw:
            self._parts.append(AdamW(adamw, lr=adamw[0]["lr"], betas=betas))
        groups = [{**g, "part": k} for k, part in enumerate(self._parts) for g in part.param_groups]
        super().__init__(groups, {})
        self._link()

    def _link(self) -> None:
        """Lets both parts work on this optimizer's own groups and state, so that nothing is kept twice."""
        for k, part in enumerate(self._parts):
            part.param_groups = [g for g in self.param_groups if g["part"] == k]
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> float | None:  # type: ignore[override]
        """One step of both parts."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores both parts."""
        super().load_state_dict(state_dict)
        self._link()


def split_for_muon(groups: list[dict[str, Any]], ratio: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Splits parameter groups with ``names`` into Muon's and AdamW's.

    Args:
        groups: As ``adapters.parameter_groups`` returns them.
        ratio: Muon's learning rate over AdamW's.
    """
    muon: list[dict[str, Any]] = []
    adamw: list[dict[str, Any]] = []
    for group in groups:
        pairs = list(zip(group["names"], group["params"], strict=True))
        hidden = [(n, p) for n, p in pairs if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        other = [(n, p) for n, p in pairs if not (p.ndim == 2 and "embed" not in n and "lm_head" not in n)]
        for into, part, scale in ((muon, hidden, ratio), (adamw, other, 1.0)):
            if part:
                names, params = (list(column) for column in zip(*part, strict=True))
                into.append({**group, "params": params, "names": names, "lr": group["lr"] * scale})
    return muon, adamw
