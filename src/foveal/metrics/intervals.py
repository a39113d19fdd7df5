"""How sure a measured share is."""

from __future__ import annotations

import math


def wilson_interval(right: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share: unlike the textbook one it stays in [0, 1] and is not empty at 0 or 1.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), 209-212.

    Args:
        right: Rows that were right.
        total: All rows; with none, nothing is known and the interval is (0, 1).
        z: Quantile of the normal distribution; the default gives 95 %.

    Returns:
        The lower and the upper bound.

    Raises:
        ValueError: ``right`` is not between 0 and ``total``.
    """
    if not 0 <= right <= total:
        raise ValueError(f"{right} of {total} is no share")
    if total == 0:
        return 0.0, 1.0
    share = right / total
    shrink = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / shrink
    reach = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / shrink
    # At the ends the bound is exactly 0 or 1, which rounding would miss by an ulp.
    return (0.0 if right == 0 else centre - reach), (1.0 if right == total else centre + reach)
