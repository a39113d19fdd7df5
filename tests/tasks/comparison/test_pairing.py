from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import spearmanr

from foveal.errors import UserError
from foveal.tasks.comparison.pairing import ActivePairing, best_pairs, ring
from foveal.tasks.comparison.ranking import VERDICTS, Comparisons, fit, outcome_information, outcome_probabilities


@cache
def judged(items: int, seed: int):
    """True strengths and a verdict for each ordered pair: the judge says the same of a pair whenever asked."""
    rng = np.random.default_rng(seed)
    strengths = rng.normal(0, 3, items)
    chances = outcome_probabilities(strengths[:, None] - strengths, 0.5).cumsum(-1)
    drawn = (rng.random((items, items))[..., None] > chances[..., :2]).sum(-1)
    drawn = np.where(np.tri(items, dtype=bool), 2 - drawn.T, drawn)
    return strengths, [[VERDICTS[k] for k in row] for row in drawn]


def active_curve(items: int, comparisons: int, seed: int) -> dict[int, float]:
    """Spearman with the truth after each number of comparisons."""
    truth, verdicts = judged(items, seed)
    pairing, curve, count = ActivePairing(items, comparisons, batch=8, seed=seed), {}, 0
    while asked := pairing.next():
        pairing.answer([verdicts[i][j] for i, j in asked])
        count += len(asked)
        curve[count] = float(spearmanr(pairing.ranking().strengths, truth)[0])
    return curve


def random_curve(items: int, counts: list[int], seed: int) -> dict[int, float]:
    truth, verdicts = judged(items, seed)
    low, high = np.triu_indices(items, 1)
    order = np.random.default_rng(seed).permutation(len(low))
    curve = {}
    for count in counts:
        i, j = low[order[:count]], high[order[:count]]
        comparisons = Comparisons(
            items, i, j, np.eye(3)[[VERDICTS.index(verdicts[a][b]) for a, b in zip(i, j, strict=True)]]
        )
        curve[count] = float(spearmanr(fit(comparisons, ties="half", prior=0.3).strengths, truth)[0])
    return curve


def test_a_spearman_of_0_93_takes_a_quarter_fewer_comparisons_than_with_random_pairs():
    items, seeds = 24, range(10)
    active = [active_curve(items, 200, seed) for seed in seeds]
    counts = list(active[0])
    at_random = [random_curve(items, counts, seed) for seed in seeds]
    needed = [
        next(c for c in counts if np.mean([curve[c] for curve in curves]) >= 0.93) for curves in (active, at_random)
    ]
    assert needed[0] <= 0.75 * needed[1], needed


@pytest.mark.parametrize("items", [2, 3, 10, 31])
def test_ring_links_all_items_by_different_pairs_even_without_its_last(items):
    pairs = ring(items, 5)
    assert len({frozenset(p) for p in pairs}) == len(pairs) == (1 if items == 2 else items)
    i, j = np.array(pairs[: items - 1]).T
    links = coo_array((np.ones(items - 1), (i, j)), shape=(items, items))
    assert connected_components(links, directed=False)[0] == 1
    assert pairs == ring(items, 5)


def some_ranking(seed: int, items: int = 7):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, items, 20)
    second = (first + rng.integers(1, items, 20)) % items
    return fit(Comparisons(items, first, second, np.eye(3)[rng.choice(3, 20)]), ties="half", prior=0.5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_gain_is_the_fall_of_the_posteriors_entropy(seed):
    ranking = some_ranking(seed)
    # The covariance is singular along shifts; entropies are compared in the other directions.
    basis = np.linalg.svd(np.eye(7) - 1 / 7)[0][:, :6]
    before = basis.T @ ranking.covariance @ basis
    information = outcome_information(ranking.probabilities(*np.meshgrid(range(7), range(7), indexing="ij")))
    variances = np.diagonal(ranking.covariance)
    gain = np.log1p(information * (variances[:, None] + variances - 2 * ranking.covariance)) / 2
    for i, j in [(0, 1), (2, 6), (5, 3)]:
        p = ranking.probabilities(i, j)
        x = basis.T @ (np.eye(7)[i] - np.eye(7)[j])
        after = np.linalg.inv(np.linalg.inv(before) + p[0] * p[2] * np.outer(x, x))
        expected = (np.linalg.slogdet(before)[1] - np.linalg.slogdet(after)[1]) / 2
        assert gain[i, j] == pytest.approx(expected, abs=1e-9) and gain[i, j] == pytest.approx(gain[j, i])
    np.testing.assert_allclose(np.diagonal(gain), 0, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_batch_is_the_greedy_one_by_recomputed_posteriors_and_asks_no_pair_twice(seed):
    ranking = some_ranking(seed)
    chances = ranking.probabilities(*np.meshgrid(range(7), range(7), indexing="ij"))
    information = chances[..., 0] * chances[..., 2]
    precision, asked = np.linalg.pinv(ranking.covariance), []
    for pair in best_pairs(ranking, 5, seed=seed):
        covariance = np.linalg.pinv(precision, hermitian=True, rcond=1e-9)
        variances = np.diagonal(covariance)
        value = np.triu(information * (variances[:, None] + variances - 2 * covariance), 1)
        for i, j in asked:
            value[i, j] = 0
        i, j = sorted(pair)
        assert value[i, j] == pytest.approx(value.max(), rel=1e-6) and (i, j) not in asked
        asked.append((i, j))
        x = np.eye(7)[i] - np.eye(7)[j]
        precision = precision + information[i, j] * np.outer(x, x)


def test_first_batch_of_items_that_are_all_alike_spreads_over_the_items():
    comparisons = Comparisons(12, np.arange(12), np.roll(np.arange(12), -1), np.tile([0, 1.0, 0], (12, 1)))
    pairs = best_pairs(fit(comparisons, ties="half", prior=0.5), 6)
    assert max(Counter(i for pair in pairs for i in pair).values()) == 1


def test_closed_pairs_are_not_asked_and_fewer_come_where_fewer_are_left():
    ranking = some_ranking(1)
    closed = np.ones((7, 7), dtype=bool)
    closed[2, 5] = closed[5, 2] = closed[0, 1] = False  # (1, 0) stays closed, and with it (0, 1)
    assert [set(p) for p in best_pairs(ranking, 9, without=closed)] == [{2, 5}]


def test_same_seed_asks_the_same_and_another_seed_something_else():
    runs = []
    for seed in (3, 3, 4):
        pairing, asked = ActivePairing(9, 25, batch=4, seed=seed), []
        while pairs := pairing.next():
            assert pairs == pairing.next()
            asked += pairs
            pairing.answer(["First" if i < j else "Second" for i, j in pairs])
        runs.append(asked)
    assert runs[0] == runs[1] != runs[2] and len(runs[0]) == 25
    assert len({frozenset(p) for p in runs[0]}) == 25


def test_it_stops_after_all_pairs_and_each_place_gets_its_share():
    pairing, asked = ActivePairing(14, 10_000, batch=7), []
    while pairs := pairing.next():
        asked += pairs
        pairing.answer(np.tile([0.5, 0.3, 0.2], (len(pairs), 1)))
    assert len(asked) == len({frozenset(p) for p in asked}) == 91
    assert 0.35 < np.mean([i < j for i, j in asked]) < 0.65


def test_probabilities_are_taken_and_unreadable_answers_spend_their_pair_and_tell_nothing():
    pairing = ActivePairing(3, 3, batch=3)
    pairs = pairing.next()
    weights = np.array([[0.9, 0.1, 0.0], [0, 0, 0], [0.1, 0, 0.9]])
    pairing.answer(weights)
    assert pairing.next() == []
    (a, b), _, (c, d) = pairs
    comparisons = Comparisons(3, np.array([a, c]), np.array([b, d]), weights[[0, 2]])
    np.testing.assert_allclose(pairing.ranking().strengths, fit(comparisons, ties="half", prior=0.3).strengths)
    nothing = ActivePairing(2, 1)
    nothing.next()
    nothing.answer(np.zeros((1, 3)))
    with pytest.raises(UserError, match="could be read"):
        nothing.ranking()


def test_pairs_are_chosen_while_all_is_similar_and_all_are_equal_at_the_end():
    pairing = ActivePairing(6, 15, batch=4)
    while pairs := pairing.next():
        pairing.answer(["Similar"] * len(pairs))
    np.testing.assert_allclose(pairing.ranking().strengths, 0, atol=1e-9)


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="at least two"):
        ActivePairing(1, 5)
    with pytest.raises(UserError, match="allow at least 9"):
        ActivePairing(10, 8)
    with pytest.raises(UserError, match="give 1 or more"):
        ActivePairing(3, 3, batch=0)
    pairing = ActivePairing(3, 3)
    pairing.next()
    with pytest.raises(ValueError, match="1 answers to 3 pairs"):
        pairing.answer(["First"])
