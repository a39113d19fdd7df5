from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.examples import SPLITS
from foveal.tasks.blindtest.all import PUZZLES
from foveal.tasks.blindtest.generate import Scenes, balanced_choice, split_of


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


@pytest.mark.parametrize("style", ["paper", "varied"])
@pytest.mark.parametrize("name", PUZZLES)
def test_pictures_depend_on_settings_and_index_alone(name: str, style: str) -> None:
    task = PUZZLES[name]

    def rows(**changes: int) -> Any:
        return task(task.Data(**{"style": style, "seed": 5, "image_size": 96, **changes})).load("train").examples  # type: ignore[arg-type]

    some = rows()
    pictures = [some[i].images[0].open().tobytes() for i in (0, 7, 999)]
    again = pickle.loads(pickle.dumps(rows(train=20_000)))
    assert [again[i].images[0].open().tobytes() for i in (999, 7, 0)] == pictures[::-1]
    assert some[7].images[0].open().tobytes() == pictures[1] != rows(seed=6)[7].images[0].open().tobytes()
    scenes = Scenes(task, style, 96, "train", 5)
    assert (some[7].id, some[7].truth) == ("7", scenes(7).truths[0])
    assert scenes(7).fields.items() <= some[7].fields.items()
    assert pickle.loads(pickle.dumps(scenes(7))) == scenes(7) == pickle.loads(pickle.dumps(scenes))(7)
    assert Scenes(task, style, 96, "test", 5).draw(7).tobytes() != pictures[1]
