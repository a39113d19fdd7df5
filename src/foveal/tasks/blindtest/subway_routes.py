"""Routes of a subway map: random walks on a lattice that start and end at stations and never share an edge.

The published routes are walks that never turn back towards the station where they start: from the top station they go
down, left or right, each as often as the others, until they meet the exit of a station that still wants a route.
Walks that went wherever they liked would seldom give the number of routes that is asked for. So the station where a
walk is to end is chosen first, and its steps are weighted with the probability to get there (Doob's h-transform): the
walks are then distributed as free ones that happen to end there.

Frame: lattice nodes (x, y), y downwards, 0 to 18 each. Stations are named by their letters: A at the top, B to the
right, C at the bottom, D to the left.

A walk runs on 13 lines: those of equal y for walks from A or C, of equal x from B or D, numbered from its start. It
goes along a line for a while, or not at all, and then ahead to the next one. Places on a line are numbered by x (or y)
from 0 to 12 and so are the edges, by their lower end.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, pairwise
from typing import Final, Literal, NamedTuple

Node = tuple[int, int]
#: A route's corners, its two exits included.
Route = tuple[Node, ...]

#: Cells along each side of the picture.
CELLS: Final = 18
#: Routes run within these, both included; exits are a step outside.
LOW, HIGH = 3, 15
MIDDLE: Final = (8, 9, 10)
STATIONS: Final = "ABCD"
EXITS: Final[dict[str, tuple[Node, ...]]] = {
    "A": tuple((i, LOW - 1) for i in MIDDLE),
    "B": tuple((HIGH + 1, i) for i in MIDDLE),
    "C": tuple((i, HIGH + 1) for i in MIDDLE),
    "D": tuple((LOW - 1, i) for i in MIDDLE),
}
#: The station of each exit.
STATION_AT: Final = {node: station for station, nodes in EXITS.items() for node in nodes}

#: So many dead ends, and a walk is given up.
_PATIENCE: Final = 20
_LINES: Final = HIGH - LOW + 1
_OUT: Final = {"A": LOW - 1, "B": HIGH + 1, "C": HIGH + 1, "D": LOW - 1}
#: Which side of a walk's lines its end is on, if it is not ahead.
_Side = Literal["ahead", "low", "high"]


class _Choices(NamedTuple):
    """The ways in which a walk may leave a line from the place where it entered.

    Attributes:
        to: Place where the walk leaves the line.
        edges: The line's edges on the way, a bit for each.
        ends: Whether it then leaves through an exit.
        weights: Probability of the way, times that of ending at the right station.
        sums: Running sums of the weights, without the last.
        total: Sum of the weights.
    """

    to: list[int]
    edges: list[int]
    ends: list[bool]
    weights: list[float]
    sums: list[float]
    total: float


@cache
def _choices(side: _Side, exits: tuple[int, ...], onward: float) -> list[list[_Choices]]:
    """The choices of a walk by line and by place of entry.

    Args:
        side: Where the walk ends.
        exits: Places of the exits where it may end; lines, if they are at the side.
        onward: How much likelier a step straight on is than another.
    """
    last = _LINES - 1
    table: list[list[_Choices]] = []
    #: Probability to end at the right station from each place where a walk enters the line below.
    hope = [1.0 if side == "ahead" and place in exits else 0.0 for place in range(_LINES)]
    for line in reversed(range(_LINES)):
        way_out = {"low": -1, "high": _LINES}[side] if side != "ahead" and line in exits else None
        ahead = [line < last or (side == "ahead" and place in exits) for place in range(_LINES)]
        entries = [_choices_from(start, way_out, ahead, line == last, onward, hope) for start in range(_LINES)]
        hope = [sum(entry.weights) for entry in entries]
        table.append(entries)
    return table[::-1]


def _choices_from(
    start: int, way_out: int | None, ahead: Sequence[bool], ends: bool, onward: float, hope: Sequence[float]
) -> _Choices:
    """The choices of a walk that enters a line at ``start``.

    ``way_out`` is the place behind the line's exit, if it has one. By place, ``ahead`` says whether the walk may leave the
    line ahead, through an exit if ``ends``, and ``hope`` is the probability that it then ends at the right station.
    """

    def open_along(place: int) -> bool:
        return 0 <= place < _LINES or place == way_out

    ways: list[tuple[int, int, bool, float]] = []
    steps = {0: onward * ahead[start], -1: 1.0 * open_along(start - 1), 1: 1.0 * open_along(start + 1)}
    total = sum(steps.values())
    if steps[0]:
        ways.append((start, 0, ends, onward / total * hope[start]))
    for step in (-1, 1):
        chance, place, edges = steps[step] / total, start, 0
        while chance:
            if place + step == way_out:
                ways.append((place, edges, True, chance))
                break
            edges |= 1 << min(place, place + step)
            place += step
            on, off = onward * open_along(place + step), 1.0 * ahead[place]
            if off:
                ways.append((place, edges, ends, chance * off / (on + off) * hope[place]))
            chance = chance * on / (on + off) if on else 0.0
    ways = [way for way in ways if way[3]]
    to, runs, exiting, weights = map(list, zip(*ways, strict=True)) if ways else ([], [], [], [])
    return _Choices(to, runs, exiting, weights, list(accumulate(weights))[:-1], sum(weights))


@dataclass(frozen=True)
class _Used:
    """Edges that are taken: bit i is the edge from i to i + 1 along a line, or place i of those between two lines.

    Attributes:
        along: By line.
        ahead: By the lower of the two lines.
    """

    along: list[int] = field(default_factory=lambda: [0] * (CELLS + 1))
    ahead: list[int] = field(default_factory=lambda: [0] * (CELLS + 1))


def _walk(
    rng: random.Random, start: int, choices: list[list[_Choices]], lines: Sequence[int], used: _Used
) -> list[tuple[int, int, int]] | None:
    """A walk on free edges: line, place of entry and place of leaving of each part; None where none was drawn."""
    walked: list[tuple[int, int, int]] = []
    pick, number, place = rng.random, 0, start
    # Entries of lines from which no way goes on; the walk then goes a line back and chooses anew.
    dead: set[tuple[int, int]] = set()
    # Of two neighbouring lines the lower one names the edges between them.
    below = 0 if lines[0] < lines[-1] else 1
    while True:
        line, following = lines[number], number + 1
        tos, runs, ends, weights, sums, total = choices[number][place]
        along, ahead = used.along[line], used.ahead[line - below]
        if tos:
            i = bisect(sums, pick() * total)
            to, end = tos[i], ends[i]
        if not tos or along & runs[i] or (not end and (ahead >> to & 1 or (following, to) in dead)):
            free = [
                k
                for k, to in enumerate(tos)
                if not along & runs[k] and (ends[k] or not (ahead >> to & 1 or (following, to) in dead))
            ]
            if not free:
                dead.add((number, place))
                if not walked or len(dead) > _PATIENCE:
                    return None
                number -= 1
                place = walked.pop()[1]
                continue
            i = free[0]
            if len(free) > 1:
                some = list(accumulate([weights[k] for k in free]))
                i = free[bisect(some, pick() * some.pop())]
            to, end = tos[i], ends[i]
        walked.append((line, place, to))
        if end:
            return walked
        number, place = following, to


def connect(rng: random.Random, ends: Sequence[tuple[str, str]], onward: float = 1.0) -> tuple[Route, ...] | None:
    """Routes between stations, each from the first named to the second; None where one cannot be laid.

    Args:
        rng: The source of randomness.
        ends: Stations of each route.
        onward: How much likelier a step straight on is than another; 1 in published routes.
    """
    free = {station: rng.sample(MIDDLE, len(MIDDLE)) for station in STATIONS}
    # The same edges in the frame of walks from A and C, and in that of walks from B and D.
    rows, columns = _Used(), _Used()
    routes: list[Route] = []
    for start, end in ends:
        upright = start in "AC"
        used, crosswise = (rows, columns) if upright else (columns, rows)
        forward = _OUT[start] < LOW
        lines = range(LOW, HIGH + 1) if forward else range(HIGH, LOW - 1, -1)
        side: _Side = "ahead" if (end in "AC") == upright else "low" if _OUT[end] < LOW else "high"
        first = free[start].pop()
        exits = sorted(i - LOW if forward or side == "ahead" else HIGH - i for i in free[end])
        choices = _choices(side, tuple(exits), onward)
        walked = _walk(rng, first - LOW, choices, lines, used)
        if walked is None:
            return None
        _mark_used(walked, used, crosswise)
        corners = [(first, _OUT[start]), *_corners(walked, _OUT[end], side)]
        free[end].remove(corners[-1][0] if side == "ahead" else corners[-1][1])
        routes.append(tuple(corners) if upright else tuple((y, x) for x, y in corners))
    return tuple(routes)


def _mark_used(walked: Sequence[tuple[int, int, int]], used: _Used, crosswise: _Used) -> None:
    """Marks a walk's edges in its own frame and in that of walks across it."""
    for line, place, to in walked:
        low, high = min(place, to), max(place, to)
        used.along[line] |= (1 << high) - (1 << low)
        for i in range(low, high):
            crosswise.ahead[i + LOW] |= 1 << line - LOW
    for (line, _, to), (following, _, _) in pairwise(walked):
        edge = min(line, following)
        used.ahead[edge] |= 1 << to
        crosswise.along[to + LOW] |= 1 << edge - LOW


def _corners(walked: Sequence[tuple[int, int, int]], out: int, side: _Side) -> list[Node]:
    """A walk's corners behind its start; the last one is the exit, at ``out`` ahead or at the side."""
    corners = [(end + LOW, line) for line, place, to in walked if place != to for end in (place, to)]
    line, place, to = walked[-1]
    if side == "ahead":
        return [*corners, (to + LOW, out)]
    if place != to:  # the last part and the step out are one straight line
        return [*corners[:-1], (out, line)]
    return [*corners, (to + LOW, line), (out, line)]
