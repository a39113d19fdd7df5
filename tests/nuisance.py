"""Tells whether properties of pictures that have nothing to do with the question give the answer away."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier

#: Standard deviations of the binomial that a guesser may be above chance: once in 10,000 times it is by luck alone.
DEVIATIONS = 3.7


def surplus(properties: Sequence[Mapping[str, Any]], truths: Sequence[Any]) -> float:
    """How far a guesser who knows the properties alone is above chance, in standard deviations of its accuracy.

    A small forest learns from the first half of the rows and guesses the second. Chance is the share of the second half's
    most frequent answer. The seed is fixed, so the number is always the same for the same rows.

    Args:
        properties: Of each picture, numbers or tuples of numbers by name; texts are taken as categories.
        truths: The answers.
    """
    columns: list[list[float]] = []
    for name in properties[0]:
        values = [row[name] for row in properties]
        if isinstance(values[0], str):
            kinds = sorted(set(values))
            columns += [[float(value == kind) for value in values] for kind in kinds]
        elif isinstance(values[0], tuple):
            columns += [[float(value[i]) for value in values] for i in range(len(values[0]))]
        else:
            columns.append([float(value) for value in values])
    table, half = np.array(columns).T, len(truths) // 2
    answers = [str(truth) for truth in truths]
    guesser = RandomForestClassifier(60, min_samples_leaf=12, random_state=0, n_jobs=1)
    guesser.fit(table[:half], answers[:half])
    right = int((guesser.predict(table[half:]) == np.array(answers[half:])).sum())
    rows = len(answers) - half
    chance = max(Counter(answers[half:]).values()) / rows
    return (right - rows * chance) / math.sqrt(rows * chance * (1 - chance))
