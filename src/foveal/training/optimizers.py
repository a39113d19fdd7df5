"""Muon on the hidden matrices and AdamW on everything else, as one `torch.optim.Optimizer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Muon

Closure = Callable[[], float]


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
            self._parts.append(Muon(muon, lr=muon[0]["lr"]))
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
