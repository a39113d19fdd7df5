from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from foveal.errors import UserError
from foveal.tasks.comparison import pairs as module
from foveal.tasks.comparison.pairs import (
    LABELS,
    Label,
    Pairs,
    all_pairs,
    by_score,
    pair_total,
    shares,
    training_pairs,
)

scores_lists = st.lists(st.fractions(0, 3, max_denominator=12), min_size=2, max_size=12)
thresholds = st.sampled_from([Fraction(0), Fraction(1, 12), Fraction(1, 3), Fraction(1), Fraction(5)])


def sixtieths(n: int, seed: int = 0) -> list[Fraction]:
    rng = random.Random(seed)
    return [Fraction(rng.randint(60, 300), 60) for _ in range(n)]


def label_of(score1: Fraction, score2: Fraction, threshold: Fraction) -> Label:
    """The label of a pair by its definition."""
    if abs(score1 - score2) <= threshold:
        return "Similar"
    return "First" if score1 > score2 else "Second"


def unordered(pairs: Pairs) -> list[tuple[int, int]]:
    return [(min(a, b), max(a, b)) for a, b, _ in pairs]


# ------------------------------------------------------------------------------------------------------------ labels


@given(scores_lists, thresholds)
def test_labels_are_those_of_the_definition(scores: list[Fraction], threshold: Fraction) -> None:
    scale = by_score(scores, threshold)
    a, b = np.indices((len(scores), len(scores))).reshape(2, -1)
    labels = [LABELS[code] for code in scale.labels(a, b)]
    assert labels == [label_of(scores[i], scores[j], threshold) for i, j in zip(a, b, strict=True)]


def test_a_difference_of_just_the_threshold_is_similar() -> None:
    scores = [Fraction("2.4"), Fraction("2.5"), Fraction("2.2"), Fraction("2.3")]
    scale = by_score(scores, 0.1)
    assert [LABELS[c] for c in scale.labels(np.array([0, 2, 1, 2]), np.array([1, 3, 2, 1]))] == [
        "Similar",
        "Similar",
        "First",
        "Second",
    ]


def test_scores_beyond_64_bits_are_compared_exactly() -> None:
    scores = [Fraction(10**30), Fraction(10**30) + Fraction(1, 10**30), Fraction(10**30) + Fraction(3, 10**30)]
    labels = by_score(scores, Fraction(1, 10**30)).labels(np.array([0, 1, 2]), np.array([1, 2, 0]))
    assert [LABELS[c] for c in labels] == ["Similar", "Second", "First"]


@pytest.mark.parametrize("threshold", ["x", "nan", -0.1])
def test_a_threshold_that_is_none_is_refused(threshold: str) -> None:
    with pytest.raises(UserError, match=r"^threshold: .*; give"):
        by_score([Fraction(1)], threshold)


def test_shares_of_labels() -> None:
    assert shares({"First": 1, "Second": 1, "Similar": 2}) == {"First": 0.25, "Second": 0.25, "Similar": 0.5}
    assert shares({"First": 0, "Second": 0, "Similar": 0}) == {"First": 0, "Second": 0, "Similar": 0}


# --------------------------------------------------------------------------------------------------------- all pairs


@given(scores_lists, thresholds, st.integers(0, 9))
def test_each_pair_is_there_once_with_its_label(scores: list[Fraction], threshold: Fraction, seed: int) -> None:
    every = all_pairs(scores, threshold, seed)
    pairs = every.take(range(len(every)))
    assert unordered(pairs) == list(combinations(range(len(scores)), 2))
    assert all(label == label_of(scores[a], scores[b], threshold) for a, b, label in pairs)


def test_blocks_are_the_pairs_in_order_and_no_larger_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 100)
    every = all_pairs(sixtieths(50), "0.2")
    blocks = list(every)
    assert [len(b) for b in blocks] == [100] * 12 + [25]
    whole = every.take(range(1225))
    for column in ("first", "second", "label"):
        assert (np.concatenate([getattr(b, column) for b in blocks]) == getattr(whole, column)).all()


def test_a_pair_is_the_same_whichever_others_are_asked_for() -> None:
    every = all_pairs(sixtieths(1100), "0.2")
    chosen = random.Random(0).sample(range(604_450), 500)
    some, whole = every.take(chosen), every.take(range(604_450)).take(chosen)
    assert list(some) == list(whole)
    assert list(every.take([0, 604_449])) != list(every.take([0, 604_448]))
    with pytest.raises(IndexError):
        every.take([604_450])


def test_which_picture_comes_first_is_a_fair_coin_that_tells_nothing() -> None:
    scores = sorted(sixtieths(400))  # in the order of their scores: unswapped, all would be Second or Similar
    every = all_pairs(scores, "0.2", seed=1)
    pairs = every.take(range(len(every)))
    swapped = pairs.first > pairs.second
    assert binomtest(int(swapped.sum()), len(swapped)).pvalue > 0.001
    # Neighbouring pairs' coins are independent, and so are those of different seeds.
    assert chisquare(np.bincount(swapped[:-1] * 2 + swapped[1:])).pvalue > 0.001
    other = all_pairs(scores, "0.2", seed=2).take(range(len(every)))
    assert chisquare(np.bincount(swapped * 2 + (other.first > other.second))).pvalue > 0.001
    # Similar pairs too, and each picture comes first about as often as second.
    similar = pairs.label == 2
    assert binomtest(int(swapped[similar].sum()), int(similar.sum())).pvalue > 0.001
    firsts = np.bincount(pairs.first, minlength=400)
    assert abs(firsts - 399 / 2).max() < 5 * (399 / 4) ** 0.5


def test_one_picture_makes_no_pair() -> None:
    assert list(all_pairs([Fraction(1)], 0)) == [] and pair_total(1) == 0


# ---------------------------------------------------------------------------------------------------- training pairs


@given(st.integers(4, 40), thresholds, st.integers(1, 30), st.integers(0, 5))
def test_training_pairs_are_balanced_distinct_and_right(n: int, threshold: Fraction, number: int, seed: int) -> None:
    scores = [Fraction(i, 4) for i in range(n)]
    scores += scores[: n // 2]
    within = sum(abs(a - b) <= threshold for a, b in combinations(scores, 2))
    different = pair_total(len(scores)) - within
    wanted = {"First": (number + 2) // 3, "Second": (number + 1) // 3, "Similar": number // 3}
    if wanted["Similar"] > within or wanted["First"] + wanted["Second"] > different:
        with pytest.raises(UserError, match=r"^number: .* but there are .*; ask for fewer"):
            training_pairs(scores, threshold, number, seed)
        return
    pairs = training_pairs(scores, threshold, number, seed)
    assert pairs.counts() == wanted
    chosen = unordered(pairs)
    assert len(set(chosen)) == number and all(a < b for a, b in chosen)
    assert all(label == label_of(scores[a], scores[b], threshold) for a, b, label in pairs)


def test_all_pairs_of_a_label_can_be_drawn() -> None:
    scores = [Fraction(i) for i in range(4)]  # three pairs differ by 1, three by more
    pairs = training_pairs(scores, 1, 4)
    assert pairs.counts() == {"First": 2, "Second": 1, "Similar": 1}
    with pytest.raises(UserError, match=r"5 pairs need 4 whose scores differ by more than 1, but there are 3"):
        training_pairs(scores, 1, 5)
    with pytest.raises(UserError, match=r"9 pairs need 3 whose scores differ by at most 0, but there are 0"):
        training_pairs(scores, 0, 9)


def test_training_pairs_depend_on_the_seed_alone() -> None:
    scores = sixtieths(200)
    pairs = list(training_pairs(scores, "0.2", 600, 1))
    assert pairs == list(training_pairs(scores, "0.2", 600, 1))
    assert pairs != list(training_pairs(scores, "0.2", 600, 2))
    # Fixed for all time: data sets made earlier can be made again.
    scores = [Fraction(i) for i in range(6)]
    assert list(training_pairs(scores, 1, 6, 42)) == [
        (1, 2, "Similar"),
        (2, 4, "Second"),
        (1, 3, "Second"),
        (5, 3, "First"),
        (4, 0, "First"),
        (3, 4, "Similar"),
    ]
    assert list(all_pairs(scores[:4], 1, 42).take(range(6))) == [
        (0, 1, "Similar"),
        (0, 2, "Second"),
        (3, 0, "First"),
        (1, 2, "Similar"),
        (3, 1, "First"),
        (3, 2, "Similar"),
    ]


def test_each_pair_of_a_label_is_as_likely() -> None:
    scores = [Fraction(s) for s in (0, 0, 1, 2, 4, 7)]
    drawn: Counter[tuple[int, int, str]] = Counter()
    for seed in range(1000):
        drawn.update(training_pairs(scores, 1, 3, seed))
    every = Counter(
        {(a, b, label_of(scores[a], scores[b], Fraction(1))): 0 for a in range(6) for b in range(6) if a != b}
    )
    assert set(drawn) == set(every)
    for label in LABELS:
        assert chisquare([n for key, n in drawn.items() if key[2] == label]).pvalue > 0.001


def test_labels_are_in_random_order() -> None:
    labels = training_pairs(sixtieths(300), "0.2", 3000).label
    follow = np.bincount(labels[:-1] * 3 + labels[1:], minlength=9)
    assert chisquare(follow).pvalue > 0.001


def test_intervals_of_differences_have_equal_shares() -> None:
    scores = sixtieths(300)
    pairs = training_pairs(scores, "0.2", 1203, 5, intervals=[0.2, 0.5, "1", 4])
    differences: Counter[tuple[int, str]] = Counter()
    for a, b, label in pairs:
        gap = abs(scores[a] - scores[b])
        place = sum(gap > Fraction(bound) for bound in ("0.2", "0.5", "1", "4"))
        differences[place, label] += 1
    assert differences.pop((0, "Similar")) == 401
    assert sum(differences.values()) == 802 and {place for place, _ in differences} == {1, 2, 3}
    assert all(n in (133, 134) for n in differences.values())
    assert list(training_pairs(scores, "0.2", 90, 5, [])) == list(training_pairs(scores, "0.2", 90, 5))


def test_an_interval_ends_at_its_upper_bound_and_begins_beyond_its_lower() -> None:
    scores = [Fraction(i, 10) for i in range(10)]
    pairs = training_pairs(scores, "0.1", 15, 0, intervals=["0.1", "0.2", "0.3"])
    gaps = Counter(abs(scores[a] - scores[b]) for a, b, label in pairs if label != "Similar")
    assert gaps == {Fraction(1, 5): 5, Fraction(3, 10): 5}


@pytest.mark.parametrize(
    ("intervals", "message"),
    [
        ([0.5], "one bound makes no interval"),
        ([0.5, 0.5], "0.5 0.5 do not rise from the threshold 0.2 on"),
        ([0.1, 0.5], "0.1 0.5 do not rise from the threshold 0.2 on"),
        (["a", 1], "'a' is no number"),
        ([3.99, 5], r"number: 300 pairs need 200 whose scores differ by 3.99 to 5, but there are \d+; ask for fewer"),
    ],
)
def test_intervals_that_cannot_be_are_refused(intervals: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        training_pairs(sixtieths(60), "0.2", 300, 0, intervals)


def test_a_number_below_1_is_refused() -> None:
    with pytest.raises(UserError, match="number: 0 is too few"):
        training_pairs(sixtieths(60), "0.2", 0)
