"""Routes of a subway map: random walks on a lattice that start and end at stations and never share an edge.

The published routes are walks that never turn back towards the station where they start: from the top station they go
down, left or right, each as often as the others, until they meet the exit of a station that still wants a route.
Walks that went wherever they liked would seldom give the number of routes that is asked for. So the station where a
walk is to end is chosen first, and its steps are weighted with the probability to get there (Doob's h-transform): the
walks are then distributed as free ones that happen to end there. Which places still lead there on free edges is looked
up before, so that no walk comes to a dead end.

Frame: lattice nodes (x, y), y downwards, 0 to 18 each. Stations are named by their letters: A at the top, B to the
right, C at the bottom, D to the left.

A walk runs on 13 lines: those of equal y for walks from A or C, of equal x from B or D, numbered from its start. It
goes along a line for a while, or not at all, and then ahead to the next one. Places on a line are numbered by x (or y)
from 0 to 12 and so are the edges, by their lower end.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate, permutations
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

_LINES: Final = HIGH - LOW + 1
_OUT: Final = {"A": LOW - 1, "B": HIGH + 1, "C": HIGH + 1, "D": LOW - 1}
#: Which side of a walk's lines its end is on, if it is not ahead.
_Side = Literal["ahead", "low", "high"]


class _Way(NamedTuple):
    """How a walk goes along a line and leaves it.

    Attributes:
        edges: The line's edges on the way, a bit for each.
        needs: The bit of the place where the walk leaves, which must be open ahead; ``_EXIT`` where it ends there.
        to: That place.
    """

    edges: int
    needs: int
    to: int


class _Choices(NamedTuple):
    """The ways in which a walk may leave a line from the place where it entered.

    Attributes:
        ways: The ways.
        weights: Probability of each, times that of ending at the right station.
        sums: Running sums of the weights, without the last.
        total: Sum of the weights.
    """

    ways: list[_Way]
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
    weights = [way[3] for way in ways]
    found = [_Way(edges, _EXIT if ending else 1 << to, to) for to, edges, ending, _ in ways]
    return _Choices(found, weights, list(accumulate(weights))[:-1], sum(weights))


#: Numbers of 13 bits, back to front.
_MIRRORED: Final = tuple(int(f"{i:0{_LINES}b}"[::-1], 2) for i in range(1 << _LINES))
_PLACES: Final = (1 << _LINES) - 1
#: Stands for an exit among the places of a line.
_EXIT: Final = 1 << _LINES
_ALL_OPEN: Final = (_PLACES | _EXIT,) * _LINES
_ORDERS: Final = tuple(permutations(MIDDLE))
#: How often a route of a map is taken up before the map is given up.
_TRIES: Final = 6


class _Frame(NamedTuple):
    """Edges that are taken, by line, in the frame of walks from A and C, or in that of B and D.

    Attributes:
        along: Bit i is the edge from place i to i + 1 of the line.
        ahead: Bit i is the edge at place i from the line to the next one.
    """

    along: list[int]
    ahead: list[int]


def _reached(taken: int, places: int) -> int:
    """The places of a line that are joined to some of ``places`` by edges that are not taken, a bit for each."""
    free = _PLACES >> 1 & ~taken
    # A sum's carry runs up to the end of a stretch of free edges; then the same from the other end.
    up = places | ((free + (places & free)) ^ free)
    free, down = _MIRRORED[free] >> 1, _MIRRORED[up]
    return _MIRRORED[down | ((free + (down & free)) ^ free)]


def _open(side: _Side, exits: Sequence[int], frame: _Frame, forward: bool, start: int) -> Sequence[int] | None:
    """By line, the places where a walk may go ahead and still come to an exit; None if it cannot from its start."""
    along, ahead = (frame.along, frame.ahead) if forward else (frame.along[::-1], frame.ahead[-2::-1])
    open_ahead = [_EXIT] * _LINES
    number, ahead_here, way_out = _LINES - 1, 0, 1 if side == "low" else 1 << _LINES - 1
    if side == "ahead":
        reached = _reached(along[number], sum([1 << place for place in exits]))
        number -= 1
    else:  # Behind its last exit there is nothing to look for.
        reached, number = 0, exits[-1]
    while number >= 0:
        ahead_here = reached & ~ahead[number] if reached else 0
        open_ahead[number] |= ahead_here
        reached = _reached(along[number], ahead_here | way_out if side != "ahead" and number in exits else ahead_here)
        number -= 1
    return open_ahead if reached >> start & 1 else None


def _walk(
    rng: random.Random,
    start: int,
    choices: list[list[_Choices]],
    lines: Sequence[int],
    along: Sequence[int],
    open_ahead: Sequence[int],
) -> list[tuple[int, int, int]]:
    """A walk on free edges: line, place of entry and place of leaving of each part.

    Every way has the probability that ``choices`` gives it among those from which the walk can get to its end.
    """
    walked: list[tuple[int, int, int]] = []
    pick, place, add = rng.random, start, walked.append
    for here, line, ahead in zip(choices, lines, open_ahead, strict=True):
        ways, weights, sums, total = here[place]
        taken = along[line]
        edges, needs, to = ways[bisect(sums, pick() * total)]
        tries = 3
        while taken & edges or not ahead & needs:
            # Drawn again, which is the same as drawing among the free ones, and mostly quicker than looking for these.
            if tries:
                tries -= 1
                edges, needs, to = ways[bisect(sums, pick() * total)]
                continue
            free = [k for k, (edges, needs, _) in enumerate(ways) if not taken & edges and ahead & needs]
            k = free[0]
            if len(free) > 1:
                some = list(accumulate([weights[k] for k in free]))
                k = free[bisect(some, pick() * some.pop())]
            edges, needs, to = ways[k]
        add((line, place, to))
        if needs == _EXIT:
            break
        place = to
    return walked


class _Direction(NamedTuple):
    """How walks go from one station to another.

    Attributes:
        stations: The two.
        out: Where their exits are: y of those of A and C, x of those of B and D.
        upright: Whether in the frame of A and C.
        forward: Whether to higher lines.
        lines: The lines in their order.
        side: Where they end.
        exits: By the end's free exits in any order, where they are among places or lines, sorted.
    """

    stations: tuple[str, str]
    out: tuple[int, int]
    upright: bool
    forward: bool
    lines: Sequence[int]
    side: _Side
    exits: Mapping[tuple[int, ...], tuple[int, ...]]


@cache
def _direction(start: str, end: str) -> _Direction:
    upright, forward = start in "AC", _OUT[start] < LOW
    side: _Side = "ahead" if (end in "AC") == upright else "low" if _OUT[end] < LOW else "high"
    lines = range(_LINES) if forward else range(_LINES)[::-1]
    straight = forward or side == "ahead"
    exits = {
        free: tuple(sorted([i - LOW if straight else HIGH - i for i in free]))
        for number in range(len(MIDDLE) + 1)
        for free in permutations(MIDDLE, number)
    }
    return _Direction((start, end), (_OUT[start], _OUT[end]), upright, forward, lines, side, exits)


def connect(rng: random.Random, ends: Sequence[tuple[str, str]], onward: float = 1.0) -> tuple[Route, ...] | None:
    """Routes between stations, each from the first named to the second; None where some cannot be laid.

    Where there is no way for a route, any other one is taken up and laid again behind it: half of all maps come to that, and
    would cost twice as much from the beginning.

    Args:
        rng: The source of randomness.
        ends: Stations of each route.
        onward: How much likelier a step straight on is than another; 1 in published routes.
    """
    free = {station: _ORDERS[int(rng.random() * len(_ORDERS))] for station in STATIONS}
    plan = _Map(free)
    laid: dict[int, _Laid] = {}
    waiting = list(range(len(ends)))[::-1]
    tries = _TRIES
    while waiting:
        number = waiting.pop()
        route = plan.lay(rng, *ends[number], onward)
        if route is not None:
            laid[number] = route
        elif tries:
            tries -= 1
            other = list(laid)[int(rng.random() * len(laid))]
            plan.take_up(laid.pop(other))
            waiting += (other, number)
        else:
            return None
    return tuple([laid[number].corners() for number in range(len(ends))])


class _Laid(NamedTuple):
    """A route on the map.

    Attributes:
        way: How it goes from one station to the other.
        first: Place of the exit where it starts, on the lattice.
        last: Of the one where it ends.
        walked: See ``_walk``.
    """

    way: _Direction
    first: int
    last: int
    walked: list[tuple[int, int, int]]

    def corners(self) -> Route:
        """Its corners, the two exits included."""
        start, end = self.way.out
        nodes = [(self.first, start), *_corners(self.walked, end, self.way.side)]
        return tuple(nodes) if self.way.upright else tuple([(y, x) for x, y in nodes])


class _Map:
    """What is laid of a map.

    Attributes:
        rows: Edges that are taken, as walks from A and C see them.
        columns: The same edges for walks from B and D.
        free: Exits of each station that are not taken.
        routes: How many there are.
    """

    def __init__(self, free: dict[str, tuple[int, ...]]) -> None:
        self.rows = _Frame([0] * _LINES, [0] * _LINES)
        self.columns = _Frame([0] * _LINES, [0] * _LINES)
        self.free, self.routes = free, 0

    def lay(self, rng: random.Random, start: str, end: str, onward: float) -> _Laid | None:
        """Adds a route; None where there is no way."""
        way = _direction(start, end)
        frame = self.rows if way.upright else self.columns
        *others, first = self.free[start]
        ends = self.free[end]
        exits = way.exits[ends]
        open_ahead = _open(way.side, exits, frame, way.forward, first - LOW) if self.routes else _ALL_OPEN
        if open_ahead is None:
            return None
        walked = _walk(rng, first - LOW, _choices(way.side, exits, onward), way.lines, frame.along, open_ahead)
        line, _, place = walked[-1]
        laid = _Laid(way, first, (place if way.side == "ahead" else line) + LOW, walked)
        self.free[start] = tuple(others)
        self.free[end] = tuple([i for i in ends if i != laid.last])
        self.routes += 1
        self._change(laid)
        return laid

    def take_up(self, laid: _Laid) -> None:
        """Removes a route."""
        start, end = laid.way.stations
        self.free[start] += (laid.first,)
        self.free[end] += (laid.last,)
        self.routes -= 1
        self._change(laid)

    def _change(self, laid: _Laid) -> None:
        """Takes a route's edges, or gives them back, in its own frame and in that of walks across it."""
        (along, ahead), (across, down) = (self.rows, self.columns) if laid.way.upright else (self.columns, self.rows)
        below = 0 if laid.way.forward else -1  # Of two neighbouring lines the lower one names the edges between them.
        for line, place, to in laid.walked:
            if place != to:
                low, high = (place, to) if place < to else (to, place)
                along[line] ^= (1 << high) - (1 << low)
                bit = 1 << line
                for i in range(low, high):
                    down[i] ^= bit
        for line, _, to in laid.walked[:-1]:
            edge = line + below
            ahead[edge] ^= 1 << to
            across[to] ^= 1 << edge


def _corners(walked: Sequence[tuple[int, int, int]], out: int, side: _Side) -> list[Node]:
    """A walk's corners behind its start; the last one is the exit, at ``out`` ahead or at the side."""
    corners = [(end + LOW, line + LOW) for line, place, to in walked if place != to for end in (place, to)]
    line, place, to = walked[-1]
    if side == "ahead":
        return [*corners, (to + LOW, out)]
    if place != to:  # the last part and the step out are one straight line
        return [*corners[:-1], (out, line + LOW)]
    return [*corners, (to + LOW, line + LOW), (out, line + LOW)]
