from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from foveal.tasks.comparison.existence import check_graph, davidson_exists
from foveal.tasks.comparison.ranking import Comparisons, fit


def graph(*rows: tuple[int, int, str]):
    """Pairs (low, high, the answers ever given: w for low's win, t for a tie, l for its loss)."""
    won = np.array([[c in answer for c in "wtl"] for _, _, answer in rows], dtype=float)
    return 1 + max(j for _, j, _ in rows), np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), won


@pytest.mark.parametrize(
    ("rows", "components", "reason"),
    [
        ([(0, 1, "w"), (1, 2, "w"), (0, 2, "l")], 1, None),  # a circle of wins
        ([(0, 1, "t"), (1, 2, "wl")], 1, None),
        ([(0, 1, "t"), (2, 3, "t"), (4, 5, "t")], 3, "items 0 and 2"),
        ([(0, 1, "w"), (1, 2, "wl")], 1, "item 0 always won|item 1 and 1 more always lost"),
        ([(0, 1, "l"), (0, 2, "l"), (1, 2, "t")], 1, "item 1 and 1 more always won"),
    ],
)
def test_items_are_linked_both_ways_or_the_reason_names_one(rows, components, reason):
    groups, why = check_graph(*graph(*rows))
    assert groups == components and (why is None) == (reason is None)
    assert reason is None or any(part in why for part in reason.split("|"))


@pytest.mark.parametrize(
    ("rows", "exists"),
    [
        ([(0, 1, "wt")], False),  # nu follows the difference without end
        ([(0, 1, "wtl")], True),
        ([(0, 1, "w"), (1, 2, "w"), (0, 2, "t")], True),  # two wins around, one tie back
        ([(0, 1, "w"), (1, 2, "t"), (0, 2, "t")], False),  # one win around, two ties back
        ([(0, 1, "w"), (1, 2, "w"), (0, 2, "l"), (2, 3, "t")], True),
    ],
)
def test_davidsons_nu_is_finite_exactly_if_some_circle_has_more_wins_than_ties(rows, exists):
    assert davidson_exists(*graph(*rows)) is exists


def test_a_threshold_on_scores_is_explained_by_infinite_strengths_at_any_size():
    scores = np.random.default_rng(0).permutation(np.linspace(0, 3, 90))
    i, j = np.triu_indices(90, 1)
    difference = scores[i] - scores[j]
    won = np.stack([difference > 0.5, abs(difference) <= 0.5, difference < -0.5], 1).astype(float)
    assert check_graph(90, i, j, won) == (1, None)
    assert not davidson_exists(90, i, j, won)
    k = int(np.argmax(difference > 2))  # a tie of two that lie far apart has more wins around it
    won[k] = [0, 1, 0]
    assert davidson_exists(90, i, j, won)


@pytest.mark.parametrize("seed", range(60))
def test_existence_agrees_with_a_search_for_directions_along_which_the_likelihood_never_falls(seed):
    rng = np.random.default_rng(seed)
    n, rows = 4, int(rng.integers(4, 9))
    first = rng.integers(0, n, rows)
    second = (first + rng.integers(1, n, rows)) % n
    outcomes = np.eye(3)[rng.choice(3, rows, p=[0.4, 0.3, 0.3])]
    outcomes[0] = [0, 1, 0]
    outcomes[1] = [1, 0, 0]
    comparisons = Comparisons(n, first, second, outcomes)
    # Utilities (d / 2, t, -d / 2): rows of the utilities of the other answers minus that of the one given must not rise in the direction.
    above = []
    for i, j, answer in zip(first, second, outcomes.argmax(1), strict=True):
        d = np.append((np.eye(n)[i] - np.eye(n)[j]) / 2, 0)
        utility = [d, np.append(np.zeros(n), 1), -d]
        above += [utility[k] - utility[answer] for k in range(3) if k != answer]
    a = np.array(above)
    pinned = [(0, 0), *[(-1, 1)] * n]
    optimum = linprog(a.sum(0), A_ub=a, b_ub=np.zeros(len(a)), bounds=pinned)
    finite = optimum.fun > -1e-9
    links = np.zeros((n, n))
    links[first, second] = links[second, first] = 1
    finite &= bool((np.linalg.matrix_power(links + np.eye(n), n) > 0).all())
    assert fit(comparisons, prior=1.0).estimable == finite
