from __future__ import annotations

import pickle

import pytest

from foveal.examples import Example
from foveal.tasks.lazy import Made, Numbered


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


def square(index: int) -> Example:
    return Example(str(index), (), index**2)


def test_numbered_rows_are_counted_sliced_and_pickled() -> None:
    lazy = Numbered(5, square)
    assert len(lazy) == 5
    assert [e.truth for e in lazy] == [0, 1, 4, 9, 16]
    assert lazy[-1].truth == 16
    assert [e.truth for e in lazy[1:4:2]] == [1, 9]
    for outside in (5, -6):
        with pytest.raises(IndexError):
            lazy[outside]
    assert pickle.loads(pickle.dumps(lazy))[3].truth == 9
