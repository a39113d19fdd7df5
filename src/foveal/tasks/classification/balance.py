"""Unequal classes: the weights of classes in the loss, and a few rows of each class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from foveal.errors import UserError
from foveal.tasks.classification.rows import Row
from foveal.tasks.readers.hold_out import rank

#: What ``data.class_weights`` takes.
Weights = Literal["none", "balanced"] | dict[str, float]


def balanced_weights(labels: Iterable[str]) -> dict[str, float]:
    """Weights that give each class the same sum over its rows: N / (K n_c).

    The formula is scikit-learn's (``compute_class_weight("balanced")``), after King and Zeng, Logistic Regression in
    Rare Events Data, 2001.

    Args:
        labels: The class of each of the N rows; K classes occur, class c in n_c rows.

    Returns:
        A weight for each class that occurs, sorted by name; their mean over the rows is 1.
    """
    counts = Counter(labels)
    return {name: counts.total() / (len(counts) * count) for name, count in sorted(counts.items())}


def class_weights(setting: Weights, labels: Iterable[str]) -> dict[str, float]:
    """The weights of the classes by ``data.class_weights``; a class that is missing has weight 1.

    Args:
        setting: The value of ``data.class_weights``.
        labels: The class of each training row.
    """
    if isinstance(setting, Mapping):
        return dict(setting)
    return balanced_weights(labels) if setting == "balanced" else {}


def check_balance(setting: Weights, sampling: str, names: Sequence[str]) -> None:
    """Refuses contradictory settings.

    Raises:
        UserError: A weight is not above 0 or belongs to no class, or both settings balance the classes.
    """
    if isinstance(setting, Mapping):
        unknown = sorted(set(setting) - set(names))
        if unknown:
            raise UserError(
                f"data.class_weights: {', '.join(map(repr, unknown))} is no class; the classes are {', '.join(names)}."
            )
        for name, weight in setting.items():
            if not 0 < weight < math.inf:
                raise UserError(
                    f"data.class_weights: {name!r} must weigh more than 0, not {weight:g}; to leave a class out, leave "
                    "out its pictures."
                )
    elif setting == sampling == "balanced":
        raise UserError(
            "data.class_weights: balanced and data.sampling: balanced together make rare classes count more than "
            "frequent ones; use one of the two."
        )


def sentence(weights: Mapping[str, float]) -> str:
    """The smallest and the largest weight, as a sentence."""
    low, high = (pick(weights, key=lambda name: weights[name]) for pick in (min, max))
    return f"Rows weigh from {weights[low]:.3g} ({low}) to {weights[high]:.3g} ({high}) by their class."


def spread(rows: Sequence[Row], limit: int, seed: int) -> list[Row]:
    """At most ``limit`` rows, spread evenly over the classes; 0 takes all."""
    if limit <= 0 or limit >= len(rows):
        return list(rows)
    classes: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: rank(seed, row.id)):
        classes.setdefault(row.label, []).append(row)
    turns = [(turn, label, row.id) for label, group in classes.items() for turn, row in enumerate(group)]
    chosen = {row_id for _, _, row_id in sorted(turns)[:limit]}
    return [row for row in rows if row.id in chosen]
