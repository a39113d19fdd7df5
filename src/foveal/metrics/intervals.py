"""How sure a measured share is."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence


def wilson_interval(right: float, total: float, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share: unlike the textbook one it stays in [0, 1] and is not empty at 0 or 1.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), 209-212.

    Args:
        right: Rows that were right.
        total: All rows, or the number of independent ones that they are worth (see ``independent_rows``); with none,
            nothing is known and the interval is (0, 1).
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


def independent_rows(right: Sequence[bool], groups: Sequence[Hashable]) -> float:
    """How many independent rows would give a share as sure as rows in groups do, e.g. several questions about a picture.

    The rows divided by the design effect: the variance of the share between groups over that of independent rows. It is
    never less than the number of groups, and no more than that of the rows; where all rows are right, or none, nothing
    varies and it is the number of groups. (E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small
    expected number of positive counts estimated from survey data", Survey Methodology 24 (1998), 193-201.)

    Args:
        right: Whether each row is right.
        groups: The group of each row.
    """
    rows, number = len(right), len(set(groups))
    if number == rows:
        return float(rows)
    share = sum(right) / rows
    errors: dict[Hashable, float] = {}
    for hit, group in zip(right, groups, strict=True):
        errors[group] = errors.get(group, 0.0) + hit - share
    if number == 1 or not 0 < share < 1:
        return float(number)
    variance = number / (number - 1) * sum(error**2 for error in errors.values()) / rows**2
    alone = share * (1 - share)
    return float(rows) if variance * rows <= alone else max(float(number), alone / variance)
