"""How much each loss of a segmentation model counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final

from foveal.errors import UserError


@dataclass(frozen=True)
class LossWeights:
    """How much each loss counts in the sum.

    Attributes:
        text: Cross entropy on the answer's tokens.
        bce: ``mask_bce``.
        dice: ``mask_dice``.
        iou: ``iou_regression``, which trains the head that predicts the mask's IoU and leaves the mask alone. An "IoU
            loss" on the mask itself would be a near double of the Dice loss: with J the soft Jaccard index, Dice is
            2 J / (1 + J).

    Raises:
        UserError: A weight is negative or not a number, or all are 0.
    """

    text: float
    bce: float
    dice: float
    iou: float

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"the weight of the {one.name} loss is {value}: give 0 or more.")
        if not any(getattr(self, one.name) for one in fields(self)):
            raise UserError(
                "data.weights: the weights of all losses are 0, so nothing would be learned; give one more."
            )


#: ``lisa``: the released code of Lai et al. 2023 (arXiv 2308.00692), which has no IoU loss. ``seed``: the three losses
#: of the mask alike, and no text to learn.
PRESETS: Final[dict[str, LossWeights]] = {
    "lisa": LossWeights(text=1.0, bce=2.0, dice=0.5, iou=0.0),
    "seed": LossWeights(text=0.0, bce=1.0, dice=1.0, iou=1.0),
}
