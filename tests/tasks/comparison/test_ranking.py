from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from foveal.errors import UserError
from foveal.tasks.comparison.ranking import (
    VERDICTS,
    Comparisons,
    fit,
    outcome_information,
    outcome_probabilities,
)


def answered(items: int, first: Sequence[int], second: Sequence[int], verdicts: Sequence[str]) -> Comparisons:
    """Comparisons with one answer each."""
    outcomes = np.eye(3)[[VERDICTS.index(verdict) for verdict in verdicts]]
    return Comparisons(items, np.array(first), np.array(second), outcomes)


def tournament(items: int, rows: int, seed: int, nu: float = 0.0, spread: float = 1.0):
    """Random questions, answers drawn from the model, and the strengths that they were drawn with."""
    rng = np.random.default_rng(seed)
    strengths = rng.normal(0, spread, items)
    strengths -= strengths.mean()
    first = rng.integers(0, items, rows)
    second = (first + rng.integers(1, items, rows)) % items
    chances = outcome_probabilities(strengths[first] - strengths[second], nu).cumsum(1)
    drawn = (rng.random(rows)[:, None] > chances[:, :2]).sum(1)
    return Comparisons(items, first, second, np.eye(3)[drawn]), strengths


def wins(comparisons: Comparisons) -> list[tuple[int, int]]:
    """(winner, loser) rows, as choix takes them."""
    won = comparisons.outcomes.argmax(1) == 0
    pairs = zip(comparisons.first.tolist(), comparisons.second.tolist(), won.tolist(), strict=True)
    return [(i, j) if first else (j, i) for i, j, first in pairs]


def brute_force(comparisons: Comparisons, prior: float = 0.0):
    """Davidson's likelihood as the paper writes it, row by row, maximised by a general optimiser: (s, nu, maximum)."""
    n = comparisons.items

    def loss(x):
        s, nu = x[:n], np.exp(x[n])
        total = 0.0
        for i, j, (won, tied, lost) in zip(comparisons.first, comparisons.second, comparisons.outcomes, strict=True):
            a, b = np.exp(s[i]), np.exp(s[j])
            whole = a + b + nu * np.sqrt(a * b)
            total += won * np.log(a / whole) + tied * np.log(nu * np.sqrt(a * b) / whole) + lost * np.log(b / whole)
        return -total + prior / 2 * np.sum(s**2) + 0.5 * s.sum() ** 2  # the last pins the sum

    optimum = minimize(loss, np.zeros(n + 1), method="BFGS", options={"gtol": 1e-7})
    return optimum.x[:n], float(np.exp(optimum.x[n])), -optimum.fun


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("method", ["ilsr_pairwise", "mm_pairwise", "opt_pairwise"])
def test_equals_choix_on_random_tournaments(method, seed):
    choix = pytest.importorskip("choix", reason="choix is not installed (pip install choix)")
    comparisons, _ = tournament(items=12, rows=400, seed=seed)
    options = {"alpha": 0.0, "tol": 1e-10} if method == "opt_pairwise" else {"tol": 1e-10}
    theirs = getattr(choix, method)(12, wins(comparisons), **options)
    np.testing.assert_allclose(fit(comparisons).strengths, theirs - theirs.mean(), atol=1e-4)


@pytest.mark.parametrize("prior", [0.02, 0.5, 4.0])
def test_equals_choix_with_a_prior_of_twice_its_alpha_even_where_items_are_not_linked(prior):
    choix = pytest.importorskip("choix", reason="choix is not installed (pip install choix)")
    comparisons, _ = tournament(items=9, rows=6, seed=1)
    theirs = choix.opt_pairwise(9, wins(comparisons), alpha=prior / 2, tol=1e-10)
    ours = fit(comparisons, prior=prior)
    np.testing.assert_allclose(ours.strengths, theirs - theirs.mean(), atol=1e-4)


@pytest.mark.parametrize(("prior", "seed"), [(0.0, 0), (0.0, 1), (0.3, 2)])
def test_davidson_equals_a_general_optimiser_on_the_papers_likelihood(prior, seed):
    comparisons, _ = tournament(items=5, rows=80, seed=seed, nu=0.7)
    s, nu, _ = brute_force(comparisons, prior)
    ours = fit(comparisons, prior=prior)
    np.testing.assert_allclose(ours.strengths, s - s.mean(), atol=1e-4)
    assert ours.nu == pytest.approx(nu, abs=1e-4)


def test_two_items_have_the_strengths_that_can_be_worked_out_by_hand():
    # 3 : 1 is a difference of log 3; one answer holds p (1 - p) = 3 / 16, so the difference has variance 4 / 3.
    comparisons = answered(2, [0, 0, 1, 0], [1, 1, 0, 1], ["First", "First", "Second", "Second"])
    ours = fit(comparisons)
    np.testing.assert_allclose(ours.strengths, [np.log(3) / 2, -np.log(3) / 2])
    np.testing.assert_allclose(ours.covariance, [[1 / 3, -1 / 3], [-1 / 3, 1 / 3]])
    np.testing.assert_allclose(ours.errors, np.sqrt(1 / 3))
    np.testing.assert_allclose(ours.intervals()[0], np.log(3) / 2 + np.array([-1, 1]) * 1.959964 * np.sqrt(1 / 3))
    np.testing.assert_allclose(ours.probabilities(0, 1), [0.75, 0, 0.25])
    assert ours.nu == 0


def test_davidson_of_two_items_meets_the_observed_shares():
    # Two free parameters and two free shares: 4 : 2 : 1 is met exactly, with nu = tie / sqrt(win * loss).
    comparisons = Comparisons(2, np.array([0]), np.array([1]), np.array([[4.0, 2.0, 1.0]]))
    ours = fit(comparisons)
    np.testing.assert_allclose(ours.probabilities([0, 1], [1, 0]), [[4 / 7, 2 / 7, 1 / 7], [1 / 7, 2 / 7, 4 / 7]])
    assert ours.nu == pytest.approx(1.0)


@pytest.mark.parametrize(("nu", "ties"), [(0.0, "davidson"), (0.8, "davidson")])
def test_known_strengths_lie_in_their_95_percent_intervals_about_95_times_in_100(nu, ties):
    inside = []
    for seed in range(40):
        comparisons, truth = tournament(items=15, rows=900, seed=seed, nu=nu)
        bounds = fit(comparisons, ties=ties).intervals()
        inside += ((bounds[:, 0] < truth) & (truth < bounds[:, 1])).tolist()
    assert 0.92 < np.mean(inside) < 0.98


def test_standard_errors_are_those_of_the_numerical_second_derivative():
    comparisons, _ = tournament(items=5, rows=60, seed=3, nu=0.6)
    ours = fit(comparisons)
    n = comparisons.items
    at = np.append(ours.strengths, np.log(ours.nu))

    def loss(x):
        chances = outcome_probabilities(x[comparisons.first] - x[comparisons.second], float(np.exp(x[n])))
        return -float((comparisons.outcomes * np.log(chances)).sum())

    step, eye = 1e-4, np.eye(n + 1)
    hessian = np.array([
        [(loss(at + step * (a + b)) - loss(at + step * (a - b)) - loss(at - step * (a - b)) + loss(at - step * (a + b)))
         / (4 * step**2) for b in eye] for a in eye
    ])  # fmt: skip
    np.testing.assert_allclose(ours.covariance, np.linalg.pinv(hessian, rcond=1e-6)[:n, :n], atol=1e-5)
    np.testing.assert_allclose(ours.covariance.sum(1), 0, atol=1e-10)


def test_covariance_with_a_prior_is_the_posteriors_seen_from_the_mean():
    comparisons, _ = tournament(items=6, rows=50, seed=5)
    ours = fit(comparisons, prior=0.7)
    information = np.zeros((6, 6))
    for i, j in zip(comparisons.first, comparisons.second, strict=True):
        x = np.eye(6)[i] - np.eye(6)[j]
        information += outcome_information(ours.probabilities(i, j)) * np.outer(x, x)
    centre = np.eye(6) - 1 / 6
    expected = centre @ np.linalg.inv(information + 0.7 * np.eye(6)) @ centre
    np.testing.assert_allclose(ours.covariance, expected, atol=1e-10)


seeds = st.integers(0, 10_000)


@settings(deadline=None, max_examples=25)
@given(seeds, st.sampled_from(["davidson", "half"]))
def test_relabelling_the_items_relabels_the_strengths(seed, ties):
    comparisons, _ = tournament(items=6, rows=40, seed=seed, nu=0.5)
    order = np.random.default_rng(seed).permutation(6)
    turned = Comparisons(6, order[comparisons.first], order[comparisons.second], comparisons.outcomes)
    a, b = fit(comparisons, ties=ties, prior=0.1), fit(turned, ties=ties, prior=0.1)
    np.testing.assert_allclose(b.strengths[order], a.strengths, atol=1e-7)
    np.testing.assert_allclose(b.errors[order], a.errors, atol=1e-7)


@settings(deadline=None, max_examples=25)
@given(seeds, st.sampled_from(["davidson", "half"]))
def test_mirroring_all_outcomes_negates_the_strengths_and_showing_pairs_the_other_way_changes_nothing(seed, ties):
    comparisons, _ = tournament(items=6, rows=40, seed=seed, nu=0.5)
    a = fit(comparisons, ties=ties, prior=0.1)
    mirrored = fit(
        Comparisons(6, comparisons.first, comparisons.second, comparisons.outcomes[:, ::-1]), ties=ties, prior=0.1
    )
    swapped = fit(
        Comparisons(6, comparisons.second, comparisons.first, comparisons.outcomes[:, ::-1]), ties=ties, prior=0.1
    )
    np.testing.assert_allclose(mirrored.strengths, -a.strengths, atol=1e-7)
    np.testing.assert_allclose(swapped.strengths, a.strengths, atol=1e-10)
    assert mirrored.nu == pytest.approx(a.nu) and abs(a.strengths.sum()) < 1e-9


def test_probabilities_as_outcomes_count_like_that_many_answers():
    comparisons, _ = tournament(items=5, rows=30, seed=2, nu=0.6)
    soft = Comparisons(
        5, comparisons.first, comparisons.second, np.full((30, 3), [0.2, 0.1, 0.1]) + 0.6 * comparisons.outcomes
    )
    parts = np.repeat(np.arange(30), 3)
    verdicts = np.tile(np.eye(3), (30, 1)) * soft.outcomes.reshape(-1, 1)
    split = Comparisons(5, comparisons.first[parts], comparisons.second[parts], verdicts)
    np.testing.assert_allclose(fit(soft).strengths, fit(split).strengths, atol=1e-8)


def test_probabilities_that_the_model_itself_gives_are_fitted_exactly():
    truth = np.array([1.0, 0.25, -0.5, -0.75])
    i, j = np.triu_indices(4, 1)
    ours = fit(Comparisons(4, i, j, outcome_probabilities(truth[i] - truth[j], 0.4)))
    np.testing.assert_allclose(ours.strengths, truth, atol=1e-8)
    assert ours.nu == pytest.approx(0.4)


def test_half_wins_are_two_rows_of_half_a_weight():
    comparisons, _ = tournament(items=5, rows=40, seed=4, nu=1.0)
    split = np.where(comparisons.outcomes[:, [1]] > 0, [0.5, 0, 0.5], comparisons.outcomes)
    half = fit(comparisons, ties="half")
    np.testing.assert_allclose(
        half.strengths, fit(Comparisons(5, comparisons.first, comparisons.second, split)).strengths
    )
    assert half.nu == 0 and half.probabilities(0, 1)[1] == 0


def test_ranks_follow_strengths_and_share_places():
    comparisons = answered(
        3, [0, 0, 1, 0, 0, 1], [1, 2, 2, 1, 2, 2], ["First", "First", "First", "First", "Second", "Second"]
    )
    comparisons = Comparisons(
        3, comparisons.first, comparisons.second, np.array([[9, 0, 1], [9, 0, 1], [1, 0, 1]] * 2, dtype=float)
    )
    table = fit(comparisons).ranked()
    assert [(r.item, r.rank) for r in table] == [(0, 1), (1, 2), (2, 2)]
    assert all(r.lower < r.strength < r.upper for r in table)


@pytest.mark.parametrize(
    ("first", "second", "verdicts"),
    [
        ([0, 1, 2, 3], [1, 0, 3, 2], ["First"] * 4),  # two groups that nothing links
        ([0, 0, 1, 2], [1, 2, 2, 1], ["First", "First", "First", "First"]),  # item 0 always won
        ([0, 1, 2, 2], [1, 0, 0, 1], ["First"] * 4),  # item 2 always won
        # One win and one tie: the wins want a difference that nu can follow without end.
        ([0, 0], [1, 1], ["First", "Similar"]),
    ],
)
def test_a_prior_gives_finite_strengths_where_the_answers_alone_have_no_maximum(first, second, verdicts):
    ours = fit(answered(max(*first, *second) + 1, first, second, verdicts), prior=0.1)
    assert np.isfinite(ours.strengths).all() and np.isfinite(ours.nu)


def test_all_similar_ranks_nothing_with_davidson_and_equally_with_half_wins():
    comparisons = answered(3, [0, 1], [1, 2], ["Similar", "Similar"])
    with pytest.raises(UserError, match="half wins"):
        fit(comparisons, prior=1.0)
    np.testing.assert_allclose(fit(comparisons, ties="half").strengths, 0)


@pytest.mark.parametrize(
    ("items", "first", "second", "outcome", "message"),
    [
        (3, 0, 3, [1, 0, 0], "Comparison 1 names an item outside 0 to 2"),
        (3, -1, 2, [1, 0, 0], "outside"),
        (3, 1, 1, [1, 0, 0], "with itself"),
        (3, 0, 1, [0, 0, 0], "no weights"),
        (3, 0, 1, [1, -1, 0], "no weights"),
        (3, 0, 1, [np.nan, 1, 0], "no weights"),
        (1, 0, 0, [1, 0, 0], "at least two"),
    ],
)
def test_bad_rows_are_refused(items, first, second, outcome, message):
    with pytest.raises(UserError, match=message):
        Comparisons(items, np.array([first]), np.array([second]), np.array([outcome], dtype=float))


def test_impossible_priors_are_refused():
    with pytest.raises(UserError, match="prior"):
        fit(answered(2, [0, 1], [1, 0], ["First", "First"]), prior=-1)


@pytest.mark.parametrize("nu", [0.0, 0.3, 2.0])
def test_information_is_the_variance_of_the_score(nu):
    d = np.linspace(-4, 4, 9)
    p, step = outcome_probabilities(d, nu), 1e-5
    score = (np.log(outcome_probabilities(d + step, nu)[:, [0, 2]]) - np.log(p[:, [0, 2]])) / step
    tie = 0 if nu == 0 else (np.log(outcome_probabilities(d + step, nu)[:, 1]) - np.log(p[:, 1])) / step
    expected = (p[:, [0, 2]] * score**2).sum(1) + p[:, 1] * np.square(tie)
    np.testing.assert_allclose(outcome_information(p), expected, atol=1e-4)
    np.testing.assert_allclose(p.sum(1), 1)


def test_probabilities_of_extreme_differences_are_finite_and_named_in_the_order_of_the_verdicts():
    assert VERDICTS == ("First", "Similar", "Second")
    np.testing.assert_allclose(outcome_probabilities([2000.0, -2000.0], 0.5), [[1, 0, 0], [0, 0, 1]])


def test_all_pairs_of_300_items_take_seconds():
    i, j = np.triu_indices(300, 1)
    truth = np.random.default_rng(0).normal(0, 1.5, 300)
    chances = outcome_probabilities(truth[i] - truth[j], 0.5)
    drawn = (np.random.default_rng(1).random(len(i))[:, None] > chances.cumsum(1)[:, :2]).sum(1)
    start = time.process_time()
    ours = fit(Comparisons(300, i, j, np.eye(3)[drawn]))
    assert time.process_time() - start < 3
    assert np.corrcoef(ours.strengths, truth)[0, 1] > 0.98


def test_answers_that_determine_some_direction_only_to_rounding_still_settle():
    # Item 0 always won in two groups that nothing links; the prior is all but absent beside the weights.
    comparisons = Comparisons(4, np.array([0, 2]), np.array([1, 3]), np.array([[1e4, 0, 0], [1e4, 0, 0]]))
    ours = fit(comparisons, prior=1e-8)
    # The slope of the posterior in d = 2 s vanishes: 1e4 sigmoid(-d) = 1e-8 d / 2.
    d = 2 * ours.strengths[0]
    assert 1e4 / (1 + np.exp(d)) == pytest.approx(1e-8 * d / 2, rel=1e-3)
    np.testing.assert_allclose(ours.strengths, ours.strengths[0] * np.array([1, -1, 1, -1]), atol=1e-3)
