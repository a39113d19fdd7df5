from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal.errors import UserError
from foveal.tasks.segmentation.loss_weights import PRESETS, LossWeights
from foveal.tasks.segmentation.losses import iou_regression, mask_bce, mask_dice
from foveal.tasks.segmentation.metrics import iou, overlap

MASK_LOSSES = [mask_bce, mask_dice]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
each_loss = pytest.mark.parametrize("loss", MASK_LOSSES, ids=lambda loss: loss.__name__)


def heads(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The loss of a head that says 0.3 for every mask."""
    return iou_regression(torch.full(logits.shape[:1], 0.3), logits, targets, weights)


each_of_all = pytest.mark.parametrize("loss", [*MASK_LOSSES, heads], ids=lambda loss: loss.__name__)


def some(dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Three masks of 5 x 6: soft targets and weights of 0, 0.5 and 1."""
    g = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, 5, 6, generator=g, dtype=torch.float64)
    targets = torch.rand(3, 5, 6, generator=g, dtype=torch.float64).mul(1.6).sub(0.3).clamp(0, 1)
    weights = torch.randint(0, 3, (3, 5, 6), generator=g).double() / 2
    return logits.to(dtype), targets.to(dtype), weights.to(dtype)


def slow(name: str, logits: Tensor, targets: Tensor, weights: Tensor) -> list[float]:
    values = []
    for x, t, w in zip(logits.tolist(), targets.tolist(), weights.tolist(), strict=True):
        cells = [
            (1 / (1 + math.exp(-a)), b, c)
            for xs, ts, ws in zip(x, t, w, strict=True)
            for a, b, c in zip(xs, ts, ws, strict=True)
        ]
        if name == "mask_bce":
            total = sum(c for _, _, c in cells)
            values.append(-sum(c * (b * math.log(p) + (1 - b) * math.log(1 - p)) for p, b, c in cells) / total)
        else:
            numerator = 2 * sum(p / 1000 * b * c for p, b, c in cells)
            denominator = sum(p / 1000 * c for p, _, c in cells) + sum(b / 1000 * c for _, b, c in cells)
            values.append(1 - (numerator + 1e-6) / (denominator + 1e-6))
    return values


@each_loss
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_plain_loops(loss: Loss, seed: int) -> None:
    case = some(torch.float64, seed)
    assert loss(*case).tolist() == pytest.approx(slow(loss.__name__, *case), rel=1e-9)
    assert loss(*some(torch.float32, seed)).tolist() == pytest.approx(slow(loss.__name__, *case), rel=1e-5)


def test_by_hand() -> None:
    # p = 3/4, 1/4 and 1/2; the last pixel is ignored.
    logits = torch.tensor([[[math.log(3), -math.log(3), 0.0]]])
    targets, weights = torch.tensor([[[1.0, 0.0, 1.0]]]), torch.tensor([[[1.0, 1.0, 0.0]]])
    assert mask_bce(logits, targets, weights).item() == pytest.approx(math.log(4 / 3))
    # The 1e-6 of Dice stands beside sums that were divided by 1000.
    assert mask_dice(logits, targets, weights).item() == pytest.approx(1 - (1.5 + 1e-3) / (2 + 1e-3), rel=1e-5)
    # Of the mask 1 0 _ and its truth 1 0 _ the IoU is 1; with the last pixel counted, 1/2.
    head = torch.tensor([0.8])
    assert iou_regression(head, logits, targets, weights).item() == pytest.approx(0.04)
    assert iou_regression(head, logits, targets, torch.ones(1, 1, 3)).item() == pytest.approx(0.09)


@each_loss
def test_gradients_equal_finite_differences(loss: Loss) -> None:
    logits, targets, weights = some(torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets, weights), logits.requires_grad_())


def test_the_gradient_of_the_iou_head_reaches_the_head_alone() -> None:
    logits, targets, weights = some(torch.float64)
    head = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: iou_regression(p, logits, targets, weights), head)
    logits.requires_grad_()
    iou_regression(head, logits, targets, weights).sum().backward()
    assert logits.grad is None
    actual = torch.tensor(actual_ious(logits.detach(), targets, weights), dtype=torch.float64)
    torch.testing.assert_close(head.grad, 2 * (head.detach() - actual))


def actual_ious(logits: Tensor, targets: Tensor, weights: Tensor) -> list[float]:
    values = []
    for x, t, w in zip(logits, targets, weights, strict=True):
        both = sum(w[at].item() for at in np.ndindex(*w.shape) if x[at] > 0 and t[at] > 0.5)
        either = sum(w[at].item() for at in np.ndindex(*w.shape) if x[at] > 0 or t[at] > 0.5)
        values.append(both / either)
    return values


def test_the_iou_that_the_head_learns_is_that_of_the_metrics() -> None:
    random = np.random.default_rng(1)
    logits, truths = random.normal(size=(20, 4, 5)), random.choice([0, 1, 255], size=(20, 4, 5)).astype(np.uint8)
    truths[0], logits[0] = 0, -1  # Both are empty.
    expected = [iou(overlap(x > 0, t)) ** 2 for x, t in zip(logits, truths, strict=True)]
    targets, weights = torch.from_numpy(truths).float(), torch.from_numpy(truths != 255)
    errors = iou_regression(torch.zeros(20), torch.from_numpy(logits).float(), targets, weights)
    assert errors.tolist() == pytest.approx(expected, rel=1e-5)
    assert expected[0] == 1 and min(expected) < 0.2


@each_of_all
@pytest.mark.parametrize("rest", [0.0, 80.0, math.inf, math.nan])
def test_padding_without_weight_changes_nothing(loss: Loss, rest: float) -> None:
    logits, targets, weights = some()
    padded = torch.full((3, 9, 11), rest)
    padded_targets, padded_weights = torch.full((3, 9, 11), 255.0), torch.zeros(3, 9, 11)
    padded[:, :5, :6], padded_targets[:, :5, :6], padded_weights[:, :5, :6] = logits, targets, weights
    logits.requires_grad_()
    padded.requires_grad_()
    plain, wide = loss(logits, targets, weights), loss(padded, padded_targets, padded_weights)
    torch.testing.assert_close(wide, plain)
    if loss is not heads:
        plain.sum().backward()
        wide.sum().backward()
        assert logits.grad is not None and padded.grad is not None
        torch.testing.assert_close(padded.grad[:, :5, :6], logits.grad)
        assert padded.grad.count_nonzero() == logits.grad.count_nonzero() > 0


@each_of_all
def test_a_mask_without_weight_costs_nothing_and_disturbs_no_other(loss: Loss) -> None:
    logits, targets, weights = some()
    weights[1] = 0
    logits.requires_grad_()
    values = loss(logits, targets, weights)
    assert values[1] == 0 and (values[[0, 2]] > 0).all()
    torch.testing.assert_close(values[[0, 2]], loss(logits[[0, 2]], targets[[0, 2]], weights[[0, 2]]))
    if loss is not heads:
        values.sum().backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all() and not logits.grad[1].any() and logits.grad[0].any()


@each_of_all
def test_no_masks_give_no_losses(loss: Loss) -> None:
    none = torch.zeros(0, 4, 4)
    assert loss(none, none, none).shape == (0,)


@each_loss
def test_a_sure_and_right_mask_costs_next_to_nothing_and_its_opposite_much(loss: Loss) -> None:
    targets = (torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(2)) > 0.7).float()
    weights = torch.ones_like(targets)
    right = loss(60 * (2 * targets - 1), targets, weights)
    wrong = loss(60 * (1 - 2 * targets), targets, weights)
    assert (right < 1e-6).all() and (right > -1e-6).all()
    assert (wrong > 0.99).all()


@each_loss
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_huge_logits_stay_finite(loss: Loss, size: float) -> None:
    targets = torch.tensor([[[0.0, 1.0], [0.3, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    for sign in (1, -1):
        logits = torch.full((2, 2, 2), sign * size).requires_grad_()
        values = loss(logits, targets, torch.ones(2, 2, 2))
        values.sum().backward()
        assert values.isfinite().all()
        assert logits.grad is not None and logits.grad.isfinite().all()


@each_of_all
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(loss: Loss, dtype: torch.dtype) -> None:
    # 300 x 300 pixels: a sum in float16 would overflow, one in bfloat16 would lose three digits.
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 300, 300, generator=g).to(dtype)
    targets = torch.rand(2, 300, 300, generator=g).round()
    weights = torch.ones(2, 300, 300)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = loss(logits, targets, weights)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, loss(logits.double(), targets.double(), weights.double()).float())


@each_loss
def test_weights_scale_nothing_but_the_share_of_a_pixel(loss: Loss) -> None:
    logits, targets, weights = some(torch.float64)
    # Two pixels of half a weight stand for one.
    doubled = [a.repeat_interleave(2, dim=2) for a in (logits, targets, weights / 2)]
    torch.testing.assert_close(loss(*doubled), loss(logits, targets, weights))


def test_shapes_that_do_not_fit_are_refused() -> None:
    a, b = torch.zeros(2, 4, 4), torch.zeros(2, 4, 5)
    for loss in (*MASK_LOSSES, heads):
        for case in ((a, b, a), (a, a, b), (a[0], a[0], a[0]), (a, a[:1], a)):
            with pytest.raises(ValueError, match=r"must be \[M, H, W\]"):
                loss(*case)
    with pytest.raises(ValueError, match=r"\(3,\) predicted IoUs"):
        iou_regression(torch.zeros(3), a, a, a)


def test_presets_and_weights() -> None:
    assert {"lisa": LossWeights(1.0, 2.0, 0.5, 0.0), "seed": LossWeights(0.0, 1.0, 1.0, 1.0)} == PRESETS
    for bad in (-0.1, math.nan, math.inf):
        with pytest.raises(UserError, match=r"the weight of the dice loss is .*: give 0 or more"):
            LossWeights(1.0, 1.0, bad, 0.0)
