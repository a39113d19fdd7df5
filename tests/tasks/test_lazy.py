from __future__ import annotations

import pickle

import pytest

from foveal.tasks.lazy import Made


def test_rows_are_made_when_they_are_asked_for_and_not_before():
    asked = []
    rows = Made(range(5), lambda i: asked.append(i) or i * i)
    assert len(rows) == 5 and asked == []
    assert rows[-1] == 16 and rows[1:3] == [1, 4] and list(rows) == [0, 1, 4, 9, 16]
    assert asked == [4, 1, 2, 0, 1, 2, 3, 4]
    with pytest.raises(IndexError):
        rows[5]


def test_rows_pickle_with_what_makes_them():
    rows = pickle.loads(pickle.dumps(Made((1, 2), str)))
    assert list(rows) == ["1", "2"]
