from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.examples import SPLITS
from foveal.tasks.blindtest.generate import balanced_choice, split_of


@given(st.integers(1, 7), st.integers(0, 2**40), st.integers(0, 100), st.sampled_from(SPLITS))
def test_every_prefix_is_balanced(choices: int, seed: int, length: int, split: Any) -> None:
    counts = Counter(balanced_choice(choices, seed, split, i) for i in range(length))
    numbers = [counts[c] for c in range(choices)]
    assert sum(numbers) == length
    assert max(numbers) - min(numbers) <= 1


@pytest.mark.parametrize("stride", [2, 3, 6, 30])
def test_strides_are_not_biased(stride: int) -> None:
    counts = Counter(balanced_choice(3, 0, "test", i) for i in range(0, 3000 * stride, stride))
    assert all(900 < n < 1100 for n in counts.values()) and len(counts) == 3


def test_shares_of_the_splits() -> None:
    counts = Counter(split_of((80, 800, i, -i)) for i in range(4000))
    assert counts["train"] == pytest.approx(2000, abs=150)
    assert counts["validation"] == pytest.approx(1000, abs=150)
