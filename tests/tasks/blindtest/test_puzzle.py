from __future__ import annotations

import pytest

from foveal.errors import UserError
from foveal.examples import Example
from foveal.results import Prediction
from foveal.tasks.blindtest.puzzle import measure_labels


def rows(*truths: int) -> list[Example]:
    return [Example(str(i), (), t) for i, t in enumerate(truths)]


def test_measuring() -> None:
    predictions = [Prediction(str(i), value, "") for i, value in enumerate((0, 2, None, 2))]
    assert measure_labels(rows(0, 1, 1, 2), predictions[::-1]) == {
        "accuracy": 0.5,
        "accuracy_0": 1.0,
        "accuracy_1": 0.0,
        "accuracy_2": 1.0,
        "unparsable": 0.25,
    }
    assert measure_labels(rows(2, 2), []) == {"accuracy": 0.0, "accuracy_2": 0.0, "unparsable": 1.0}
    with pytest.raises(UserError, match="no rows"):
        measure_labels([], [])
