from __future__ import annotations

import pickle
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.errors import UserError
from foveal.examples import SPLITS, Example
from foveal.results import Prediction
from foveal.tasks.blindtest.common import balanced_choice, measure_labels, read_number, split_of
from foveal.tasks.lazy import Numbered

QUESTION = "How many? Answer with a number in curly brackets, e.g., {5}."


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("{2}", 2),
        (" { 2 } ", 2),
        ("The answer is {1}.", 1),
        ("First I thought {1}, but it is {2}.", 2),
        ("3 lines, 4 points: {1}", 1),
        (r"$\boxed{2}$", 2),
        ("{12}", 12),
        ("{7}", 7),  # no possible answer, but an answer: wrong, not unparsable
        ("2", 2),
        ("2.", 2),
        (" 2 \n", 2),
        ("**2**", 2),
        ("There are 2 points. So: 2", 2),
        ("Two", 2),
        ("zero.", 0),
        ("{two}", 2),
        ("{2", 2),
        (f"{QUESTION} The answer is {{1}}", 1),
        (f"{QUESTION.upper()}\n1", 1),
        ("Put your answer in curly brackets, e.g., {2}. The answer is {1}", 1),
        ("e.g. {2}: 0", 0),
        # No answer:
        ("", None),
        (QUESTION, None),
        ("How many?  Answer with a number\nin curly brackets, e.g., {5}.", None),
        ("Put your answer in curly brackets, e.g., {2}.", None),
        ("for example {2}", None),
        ("1 or 2", None),
        ("1-2", None),
        ("There are two points", None),
        ("-1", None),
        ("{-1}", None),
        ("1.5", None),
        ("{}", None),
        ("{x}", None),
        ("²", None),
        ("٢", None),
        ("I cannot tell.", None),
        ("9" * 5000, None),
    ],
)
def test_reading_a_number(reply: str, number: int | None) -> None:
    assert read_number(reply, [QUESTION, "count"]) == number


@given(st.text(), st.integers(0, 999_999_999), st.text())
def test_reading_never_fails_and_the_last_braces_win(before: str, number: int, after: str) -> None:
    assert read_number(before) is None or isinstance(read_number(before), int)
    if not re.search(r"\{\s*[0-9]", after) and not re.search(
        r"g[\s,:.]*$|example[\s,:]*$|instance[\s,:]*$|as[\s,:]*$", before
    ):
        assert read_number(f"{before} {{{number}}} {after}") == number


def rows(*truths: int) -> list[Example]:
    return [Example(str(i), (), t) for i, t in enumerate(truths)]


def test_measuring() -> None:
    said = [Prediction(str(i), value, "") for i, value in enumerate((0, 2, None, 2))]
    assert measure_labels(rows(0, 1, 1, 2), said[::-1]) == {
        "accuracy": 0.5,
        "accuracy_0": 1.0,
        "accuracy_1": 0.0,
        "accuracy_2": 1.0,
        "unparsable": 0.25,
    }
    assert measure_labels(rows(2, 2), []) == {"accuracy": 0.0, "accuracy_2": 0.0, "unparsable": 1.0}
    with pytest.raises(UserError, match="no rows"):
        measure_labels([], [])


def square(index: int) -> Example:
    return Example(str(index), (), index**2)


def test_lazy_rows() -> None:
    lazy = Numbered(5, square)
    assert len(lazy) == 5
    assert [e.truth for e in lazy] == [0, 1, 4, 9, 16]
    assert lazy[-1].truth == 16
    assert [e.truth for e in lazy[1:4:2]] == [1, 9]
    for outside in (5, -6):
        with pytest.raises(IndexError):
            lazy[outside]
    assert pickle.loads(pickle.dumps(lazy))[3].truth == 9


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
