from __future__ import annotations

import pytest
import torch
from torch.optim import Muon

from foveal.training.optimizers import MuonWithAdamW, orthogonalised

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def slow(matrix: torch.Tensor, steps: int) -> torch.Tensor:
    """The iteration as it is written: on the singular values, by the singular value decomposition."""
    a, b, c = COEFFICIENTS
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return u @ torch.diag(s) @ v


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (16, 24), (1, 9), (9, 1)])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_singular_values_go_through_the_polynomial_and_directions_stay(shape: tuple[int, int], steps: int) -> None:
    torch.manual_seed(sum(shape))
    matrix = torch.randn(shape) * torch.logspace(0, -3, shape[0])[:, None]
    assert torch.allclose(orthogonalised(matrix, COEFFICIENTS, steps).double(), slow(matrix, steps), atol=2e-5)


def test_steps_are_those_of_torch_up_to_its_bfloat16() -> None:
    torch.manual_seed(0)
    shapes = [(32, 32), (16, 64), (64, 16)]
    ours = [torch.nn.Parameter(torch.randn(s)) for s in shapes]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    begun = [p.detach().clone() for p in ours]
    mine = MuonWithAdamW([{"params": ours, "lr": 0.02, "weight_decay": 0.1}], [])
    reference = Muon(theirs, lr=0.02, weight_decay=0.1)
    for _ in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        mine.step()
        reference.step()
    for p, q, old in zip(ours, theirs, begun, strict=True):
        moved = (q - old).norm()
        assert (p - q).norm() < 0.02 * moved and moved > 0.1
        buffers = mine.state[p]["momentum_buffer"], reference.state[q]["momentum_buffer"]
        assert torch.allclose(*buffers, atol=1e-6), "checkpoints of either go on with the other"
