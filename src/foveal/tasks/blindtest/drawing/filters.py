"""Filters that soften edges: how far a pixel is covered whose neighbourhood a border runs through."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: ``box`` averages over a pixel, as matplotlib draws; the other two look like a larger picture that Pillow has shrunk.
Filter = Literal["box", "bilinear", "bicubic"]

#: Half-widths of the filters in pixels.
RADIUS: Final[dict[Filter, float]] = {"box": 0.5, "bilinear": 1.0, "bicubic": 2.0}
RESAMPLING: Final[dict[Filter, Image.Resampling]] = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def edge(kernel: Filter, blur: float, steps: int, reach: int) -> NDArray[np.float64]:
    """Share covered of a pixel against its depth behind a straight border.

    Args:
        kernel: The filter.
        blur: Standard deviation of a Gaussian blur on top, in pixels.
        steps: Entries per pixel.
        reach: Entries on either side of depth 0.

    Returns:
        [2 * reach + 1].
    """
    x = np.arange(-reach, reach + 1) / steps
    far = np.abs(x)
    if kernel == "box":
        weights = np.clip((0.5 - far) * steps + 0.5, 0, 1)
    elif kernel == "bilinear":
        weights = np.clip(1 - far, 0, None)
    else:
        # Keys' cubic kernel with Pillow's parameter -0.5 (Keys 1981, equation 15).
        outer = ((-0.5 * far + 2.5) * far - 4) * far + 2
        weights = np.where(far < 1, (1.5 * far - 2.5) * far * far + 1, np.where(far < 2, outer, 0.0))
    if blur > 0:
        weights = np.convolve(weights, np.exp(-0.5 * (x / blur) ** 2), mode="same")
    # Half of each weight lies on either side of its own place, so that the edge is symmetric.
    share: NDArray[np.float64] = (np.cumsum(weights) - weights / 2) / weights.sum()
    return share
