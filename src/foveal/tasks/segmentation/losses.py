"""Losses of predicted masks.

In all of them M masks of H x W pixels come as logits: above 0 is foreground. A map of weights says how much each pixel
counts, 0 for ignored pixels and for padding; whatever logit and target stand there, NaN and 255 too, reach neither the
loss nor a gradient. Targets are 1 for foreground and 0 for background, or in between where masks were resized. Each
loss gives one value per mask, and 0 for a mask without any weight. They are computed in float32 if the logits are in a
lower precision.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

#: LISA scales the sums in its Dice loss down by this, against overflow in half precision, and adds this to both.
DICE_SCALE: Final = 1000.0
EPSILON: Final = 1e-6


def mask_bce(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Binary cross entropy, the weighted mean over the pixels of each mask.

    LISA then divides the sum over the masks by their number + 1e-8.

    Args:
        logits: [M, H, W], float.
        targets: [M, H, W], from 0 to 1.
        weights: [M, H, W], 0 or more.

    Returns:
        [M].

    Raises:
        ValueError: The shapes differ, or they are not [M, H, W]. The same holds for all losses.
    """
    x, t, w = _checked(logits, targets, weights)
    total = _sum(w)
    losses = functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    return _sum(losses * w) / torch.where(total > 0, total, 1)


def mask_dice(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Dice loss with LISA's scaling: 1 - (2 sum(p t) / 1000 + 1e-6) / (sum(p) / 1000 + sum(t) / 1000 + 1e-6).

    p is the sigmoid of the logits; each term of a sum is times its weight. Targets between 0 and 1 leave a rest above 0
    that no prediction gets below.

    Args:
        logits: [M, H, W], float.
        targets: [M, H, W], from 0 to 1.
        weights: [M, H, W], 0 or more.

    Returns:
        [M], from 0 to 1.
    """
    x, t, w = _checked(logits, targets, weights)
    p, w = x.sigmoid(), w / DICE_SCALE
    return 1 - (2 * _sum(p * t * w) + EPSILON) / (_sum((p + t) * w) + EPSILON)


def iou_regression(predicted_iou: Tensor, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Squared error of a head that predicts the IoU of its own mask (SAM, Kirillov et al. 2023, arXiv 2304.02643).

    The mask is where the logits are above 0, its truth where the targets are above 0.5. Two empty masks have an IoU of
    1. No gradient reaches the logits.

    Args:
        predicted_iou: [M], float.
        logits: [M, H, W], float.
        targets: [M, H, W], from 0 to 1.
        weights: [M, H, W], 0 or more.

    Returns:
        [M].

    Raises:
        ValueError: The shapes do not fit together.
    """
    if predicted_iou.shape != logits.shape[:1]:
        raise ValueError(f"{tuple(predicted_iou.shape)} predicted IoUs of logits of shape {tuple(logits.shape)}")
    x, t, w = _checked(logits.detach(), targets, weights)
    seen, meant = x > 0, t > 0.5
    union = _sum((seen | meant) * w)
    actual = torch.where(union > 0, _sum((seen & meant) * w) / torch.where(union > 0, union, 1), 1)
    return (_precise(predicted_iou) - actual).square() * (_sum(w) > 0)


def _checked(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three in one precision, with zeros where the weight is 0."""
    if logits.ndim != 3 or not logits.shape == targets.shape == weights.shape:
        shapes = ", ".join(str(tuple(a.shape)) for a in (logits, targets, weights))
        raise ValueError(f"logits, targets and weights of shapes {shapes}; all must be [M, H, W]")
    logits, out = _precise(logits), weights == 0
    # Filled rather than multiplied: 0 times NaN is NaN, also in the gradient.
    return logits.masked_fill(out, 0), targets.to(logits.dtype).masked_fill(out, 0), weights.to(logits.dtype)


def _precise(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _sum(values: Tensor) -> Tensor:
    """Over the pixels: [M, H, W] to [M]."""
    return values.sum(dim=(1, 2))
