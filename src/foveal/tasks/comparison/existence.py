"""Whether comparisons determine finite strengths.

L. R. Ford, "Solution of a ranking problem from binary comparisons", American Mathematical Monthly 64 (1957), 28-33:
Bradley and Terry's likelihood has a maximum exactly if, however the items are split into two groups, some item of
either group won against (here: or tied with) one of the other. That is strong connectivity of the graph with an arc
from each winner to the loser and both arcs for a tie.

Davidson's likelihood needs more, for nu can grow together with the strengths. It never falls along (s, log nu) =
(x, t) where x_i - x_j >= 2t for every win of i over j and |x_i - x_j| <= 2t for every tie. Connectivity excludes t = 0;
t > 0 is a system of difference constraints, which has a solution exactly if no cycle of arcs holds more wins than ties
(Bellman-Ford with a win as -1 and a tie as 1 both ways).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def check_graph(items: int, low: Ints, high: Ints, won: Floats) -> tuple[int, str | None]:
    """The groups of linked items, and the reason why there are no finite strengths without a prior.

    Args:
        items: Number of items.
        low: One item of each pair, [P].
        high: The other item, [P].
        won: Weight of low's wins, of ties and of high's wins, [P, 3].

    Returns:
        The number of weakly connected components; the beginning of a sentence, or None where strengths exist.
    """
    both = np.concatenate([low, high]), np.concatenate([high, low])
    components, left = 0, np.ones(items, dtype=bool)
    apart = 0
    while left.any():
        start = int(left.argmax())
        apart = start if components == 1 else apart
        left &= ~_reached(items, start, *both)
        components += 1
    if components > 1:
        reason = (
            f"The comparisons leave {components} groups that nothing links (items 0 and {apart} are in different ones)"
        )
        return components, reason
    up, down = won[:, 0] + won[:, 1] > 0, won[:, 2] + won[:, 1] > 0
    winners, losers = np.concatenate([low[up], high[down]]), np.concatenate([high[up], low[down]])
    for tails, heads, word in ((winners, losers, "won"), (losers, winners, "lost")):
        outside = ~_reached(items, 0, tails, heads)
        if outside.any():
            group = f"item {int(outside.argmax())}" + (
                f" and {int(outside.sum()) - 1} more" if outside.sum() > 1 else ""
            )
            return 1, f"Against all others, {group} always {word}, so no finite strength is extreme enough"
    return 1, None


def _reached(items: int, start: int, tails: Ints, heads: Ints) -> NDArray[np.bool_]:
    """The items that are reached from ``start`` along arcs from tails to heads, [items]."""
    reached = np.zeros(items, dtype=bool)
    reached[start] = True
    count = 0
    while count < (count := int(reached.sum())):
        reached[heads[reached[tails]]] = True
    return reached


def davidson_exists(items: int, low: Ints, high: Ints, won: Floats) -> bool:
    """Whether some cycle holds more wins than ties, which keeps nu finite; for a strongly connected graph.

    Args:
        items: How many items there are.
        low: One item of each pair, [P]; every pair occurs once.
        high: The other one, [P].
        won: Weight of low's wins, of ties and of high's wins, [P, 3].
    """
    up, tie, down = (won > 0).T
    if (up & down).any():
        return True
    tails = np.concatenate([low[up], high[down], low[tie], high[tie]])
    heads = np.concatenate([high[up], low[down], high[tie], low[tie]])
    costs = np.repeat([-1, 1], [int(up.sum() + down.sum()), 2 * int(tie.sum())])
    # Strong items first: where the winners form an order, one pass finds all of it.
    net = np.bincount(low, won[:, 0] - won[:, 2], items) + np.bincount(high, won[:, 2] - won[:, 0], items)
    order = np.argsort(tails, kind="stable")
    # A pair with a win and a tie has two arcs; the minimum takes the cheaper one.
    tails, heads, costs = tails[order], heads[order], costs[order]
    bounds = np.searchsorted(tails, np.arange(items + 1))
    distance = np.zeros(items, dtype=np.int64)
    while True:
        before = distance.copy()
        for i in np.argsort(-net, kind="stable"):
            part = slice(bounds[i], bounds[i + 1])
            np.minimum.at(distance, heads[part], distance[i] + costs[part])
        # A path without a cycle has at most items - 1 arcs.
        if distance.min() < 1 - items:
            return True
        if (distance == before).all():
            return False
