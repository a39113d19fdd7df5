"""BlindTest's subway map: how many routes of one colour go from one station to another?

Two looks are generated, on the published lattice of 18 x 18 cells:

* ``paper``: the published pictures (Rahmanzadehgervi et al. 2024, arXiv 2407.06581, and the authors' notebook). Four
  stations, each with one, two or three routes; first the routes of one station, then those of the next and so on (B, A,
  C, D, or these seen in a mirror), in the colours of matplotlib's tab10 in order; lines of 10 or 20 points in a figure
  of 18 inches; bold letters of 100 points; drawn large and shrunk by Pillow. Among the published answers, 1 is the most
  frequent by far; here the answers that a number of routes of a station leaves are equally frequent.
* ``varied``: for training. Half of the pictures look like the paper's with small changes of scale, place, width and
  colour; the others vary in these more widely, and in the order of the colours, font, ground and blur.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from PIL import Image

from foveal.drawing.figures import Colour
from foveal.examples import Example
from foveal.results import Prediction
from foveal.tasks.blindtest.drawing.colours import BLACK, TAB10, WHITE, near, pale
from foveal.tasks.blindtest.drawing.filters import Filter
from foveal.tasks.blindtest.drawing.subway import EM, UNITS, Look, draw_map
from foveal.tasks.blindtest.generate import PuzzleScene, Sampler
from foveal.tasks.blindtest.puzzle import Puzzle, Question, in_braces
from foveal.tasks.blindtest.sources import Label, Layout
from foveal.tasks.blindtest.subway_routes import CELLS, STATION_AT, STATIONS, Route, connect
from foveal.tasks.blindtest.wording import number_among

#: Width of one point in a figure of 18 inches, in units of the side.
POINT: Final = UNITS / 72 / 18
WIDTHS = (10 * POINT, 20 * POINT)
VALUES = (1, 2, 3)
PAIRS: Final = ("AB", "AC", "AD", "BC", "BD", "CD")

#: Routes of each station, and how many of them join the two that are asked about.
Kind = tuple[int, int]
#: How many routes join A and B, A and C, A and D; and so, as every station has as many, C and D, B and D, B and C.
Plan = tuple[int, int, int]

#: Share of the maps with neighbours asked about in which other routes may join opposite stations.
CROSSING: Final = 0.2

#: Colours that are well apart: matplotlib's, and others.
COLOURS: Final = (*TAB10, (20, 20, 20), (0, 0, 140), (150, 0, 0), (255, 215, 0), (255, 0, 255))
FONTS = ("DejaVuSans-Bold", "DejaVuSans-Bold", "DejaVuSans", "DejaVuSerif", "STIXGeneral")


def ends_of(route: Route) -> str:
    """The two stations of a route, in alphabetical order."""
    return "".join(sorted((STATION_AT[route[0]], STATION_AT[route[-1]])))


@dataclass(frozen=True)
class Scene(PuzzleScene):
    """A map, and the stations that are asked about.

    Attributes:
        routes: Corners of each route on the lattice; later ones are drawn over earlier ones.
        asked: Letters of the two stations.
        look: How it is drawn.
    """

    routes: tuple[Route, ...]
    asked: str
    look: Look

    @property
    def label(self) -> Kind:
        """How many routes each station has, and how many join the two."""
        pair = "".join(sorted(self.asked))
        return len(self.routes) // 2, sum(ends_of(route) == pair for route in self.routes)

    @property
    def truths(self) -> tuple[int, int]:
        """How many routes join the two stations, for both questions."""
        _, count = self.label
        return count, count

    @property
    def fields(self) -> Mapping[str, str]:
        """The two stations."""
        return {"from": self.asked[0], "to": self.asked[1]}

    @property
    def noted(self) -> Mapping[str, str]:
        """The stations of each route."""
        return {"stations": " ".join(map(ends_of, self.routes))}

    @property
    def geometry(self) -> tuple[int, ...]:
        """The corners of all routes, whatever their colours and directions."""
        routes = sorted([route if route[0] < route[-1] else route[::-1] for route in self.routes])
        # Every step outside the lattice's inner part begins or ends a route, so the list can be taken apart again.
        return tuple([CELLS * x + y for route in routes for x, y in route])

    @property
    def cells(self) -> dict[str, Any]:
        """Number, stations and corners of the routes, and their width."""
        (left, top), (wide, high) = self.look.origin, self.look.cell
        corners = [
            " ".join(f"{(left + x * wide) / UNITS:.4f},{(top + y * high) / UNITS:.4f}" for x, y in route)
            for route in self.routes
        ]
        return {
            "routes": len(self.routes),
            **self.noted,
            "corners": "; ".join(corners),
            "width": f"{self.look.width / UNITS:.5f}",
        }

    def draw(self, size: int) -> Image.Image:
        """The picture, ``size`` pixels wide and high."""
        return draw_map(size, self.routes, self.look)


# Styles.


def _paper(rng: random.Random, label: Kind, size: int, scale: float) -> Sampler:
    width = min(rng.choice(WIDTHS) * scale, 0.5 * UNITS / CELLS)
    kind, plan = _plan(rng, label)
    maps = _maps(rng, lambda: _lay(rng, plan, "BACD", 1.0))

    def sample() -> Scene | None:
        routes = next(maps)
        return None if routes is None else Scene(routes, _ask(rng, kind), Look(width, TAB10[: len(routes)]))

    return sample


def _varied(rng: random.Random, label: Kind, size: int, scale: float) -> Sampler:
    like_paper = rng.random() < 0.5
    kind, plan = _plan(rng, label)
    colours: Sequence[Colour]
    if like_paper:
        width = rng.choice(WIDTHS) * rng.uniform(0.85, 1.15)
        wide = high = rng.uniform(0.96, 1.03)
        jitter = rng.choice((0, 12))
        colours = TAB10
        ground, ink = WHITE, BLACK
        name, em = "DejaVuSans-Bold", rng.uniform(0.93, 1.07)
        onward = 1.0
    else:
        width = max(40 * 5 ** rng.random(), UNITS / size)
        wide, high = rng.uniform(0.75, 1.03), rng.uniform(0.75, 1.03)
        jitter = 10
        colours = rng.sample(COLOURS, len(COLOURS))
        ground = pale(rng)
        ink = BLACK if rng.random() < 0.7 else (rng.randint(0, 90), rng.randint(0, 90), rng.randint(0, 90))
        name, em = rng.choice(FONTS), rng.uniform(0.8, 1.15)
        onward = rng.choice((0.6, 1.0, 1.5, 2.5))
    kernel: Filter = rng.choice(("bicubic", "bilinear", "box"))
    # Half of a cell at most, or neighbouring routes would run into one another.
    most = 0.5 * UNITS / CELLS * min(wide, high)
    look = Look(
        min(width * scale, most),
        tuple(near(rng, colour, jitter) for colour in colours[: 2 * label[0]]),
        ground,
        ink,
        (_margin(rng, wide), _margin(rng, high)),
        (wide * UNITS / CELLS, high * UNITS / CELLS),
        em * EM,
        name,
        kernel,
        rng.choice((0, 0, 0.25, 0.5, 0.75)) * UNITS / 224,
    )

    maps = _maps(rng, lambda: _lay(rng, plan, rng.sample(STATIONS, 4), onward))

    def sample() -> Scene | None:
        routes = next(maps)
        return None if routes is None else Scene(routes, _ask(rng, kind), look)

    return sample


def _maps(rng: random.Random, lay: Callable[[], tuple[Route, ...] | None]) -> Iterator[tuple[Route, ...] | None]:
    """The maps of ``lay``, each in the four ways that keep opposite stations opposite, which is cheaper than new maps."""
    while True:
        routes = lay()
        if routes is None:
            yield None
            continue
        for turned, swapped in rng.sample(((False, False), (False, True), (True, False), (True, True)), 4):
            changed = routes
            if turned:
                changed = tuple([tuple([(CELLS - x, CELLS - y) for x, y in route]) for route in changed])
            if swapped:
                changed = tuple([tuple([(y, x) for x, y in route]) for route in changed])
            yield changed


def _plan(rng: random.Random, label: Kind) -> tuple[int, Plan]:
    """Which kind of pair is asked about, its place in the plan, and a plan.

    The kind is drawn first, so the pair does not tell the truth. Routes from one side to the other are the longer ones, and
    where a pair of neighbours has all routes of its stations no map has such: so where neighbours are asked about, the
    other routes seldom cross, or the length of the whole would tell the truth. About opposite stations it must.
    """
    number, count = label
    kind = rng.randrange(3)
    plan = [0, 0, 0]
    plan[kind] = count
    others = (0, 2) if kind == 1 else (2 - kind, 1) if rng.random() < CROSSING else (2 - kind,)
    for _ in range(number - count):
        plan[rng.choice(others)] += 1
    return kind, (plan[0], plan[1], plan[2])


def _lay(rng: random.Random, plan: Plan, order: Sequence[str], onward: float) -> tuple[Route, ...] | None:
    """Routes from each station in turn to later ones, in random order."""
    ab, ac, ad = plan
    counts = dict(zip(PAIRS, (ab, ac, ad, ad, ac, ab), strict=True))
    ends = []
    for i, start in enumerate(order):
        pairs = [(start, end) for end in order[i + 1 :] for _ in range(counts[min(start, end) + max(start, end)])]
        pairs.sort(key=lambda _: rng.random())
        ends += pairs
    return connect(rng, ends, onward)


def _ask(rng: random.Random, kind: int) -> str:
    """Two stations of a kind, in either order."""
    pair = rng.choice((PAIRS[kind], PAIRS[-1 - kind]))
    return pair if rng.random() < 0.5 else pair[::-1]


def _margin(rng: random.Random, share: float) -> float:
    """Where a map that takes a share of the side begins: the letters, 0.4 cells from its borders, stay inside."""
    room = UNITS * (1 - share * (1 - 0.6 / CELLS))
    return rng.uniform(0, max(0.0, room)) - UNITS * share * 0.3 / CELLS


#: The truth in a data set's label.
read_label = number_among(VALUES)


def _published(match: re.Match[str], cells: Mapping[str, str] | None) -> list[Label]:
    if cells is None:
        raise ValueError("its name does not tell its routes, and the table beside the folder has no line for it")
    labels = []
    counts = [cells[pair].strip() for pair in PAIRS]
    # What is not asked about is not needed; where it is no number, the routes are not known.
    known = all(re.fullmatch("[0-3]", count) for count in counts)
    stations = " ".join(
        pair for pair, count in zip(PAIRS, counts, strict=True) for _ in range(int(count) if known else 0)
    )
    noted = {"stations": stations} if known else {}
    for pair in cells["asked_pairs"].split():
        column = "".join(sorted(pair))
        if column not in PAIRS:
            raise ValueError(f"asked_pairs has {pair!r}, not two of the stations A, B, C and D")
        try:
            count = read_label(cells[column])
        except ValueError:
            raise ValueError(f"{column} is {cells[column]!r}, not 1, 2 or 3, though it is asked about") from None
        labels.append(Label((count, count), {"from": pair[0], "to": pair[1], **noted}, pair))
    return labels


def read_stations(text: str) -> str:
    """The stations of a map's routes, e.g. ``AC AC BD BD``.

    Raises:
        ValueError: It has something other than pairs of stations.
    """
    for pair in text.split():
        if pair not in PAIRS:
            raise ValueError(f"stations has {pair!r}, not one of {', '.join(PAIRS)}")
    return text


class Subway(Puzzle):
    """How many routes of one colour go from one station to another: 1, 2 or 3?"""

    name = "blindtest/subway"
    title = "Subway routes"
    summary = "Count the routes of one colour between two stations (BlindTest's subway map): 1, 2 or 3."
    first = Question(
        "How many single-colored paths go from <from> to <to>? Answer with a number in curly brackets, e.g., {3}",
        "routes <from> <to>",
        in_braces,
    )
    second = Question(
        "Count the one-colored routes that go from <from> to <to>. Answer with a number in curly brackets, e.g., {3}.",
        "routes <from> <to>",
        in_braces,
    )
    labels = tuple((number, count) for number in VALUES for count in range(1, number + 1))
    # Alike within each number of routes of a station, so that it does not tell the truth. The truths as a whole are as
    # 6 to 5 to 4 then: maps of three routes, where all three occur, outweigh the others, which must not vanish.
    weights = (1, 1, 1, 4, 4, 4)
    styles: ClassVar = {"paper": _paper, "varied": _varied}
    values = VALUES
    layout = Layout(
        read_label,
        re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.png$"),
        _published,
        columns=(*PAIRS, "asked_pairs"),
        fields=("from", "to"),
        noted={"stations": read_stations},
        hub_tasks=("Subway Connections",),
    )
    card = """
Four stations, A at the top, B to the right, C at the bottom and D to the left, and routes between them, each of one
colour, that cross but never share a part of their way. Every station has 1, 2 or 3 of them. The label says how many
join the two stations in the columns from and to: 1, 2 or 3. With three routes of a station these are equally frequent,
with two 1 and 2 are; over all maps they are as 6 to 5 to 4. No map is in two splits.

Columns of `metadata.csv`: file_name; label; from and to; the number of routes; the stations of each; the corners of
each (x,y with y downwards, routes parted by a semicolon); the lines' width. Lengths are in sides of the picture.
"""

    def auxiliary(self, example: Example, rng: random.Random) -> tuple[str, str] | None:
        """Where the routes of one of the two stations end, e.g. ``ends A`` and ``C C D``."""
        stations = example.fields.get("stations")
        if not stations:
            return None
        start = example.fields[rng.choice(("from", "to"))]
        ends = sorted(pair.replace(start, "") for pair in stations.split() if start in pair)
        return f"ends {start}", " ".join(ends)

    def measure(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
        """See ``measure_labels``; and the accuracy by routes of a station and truth (``accuracy_routes3_label1``)."""
        values = {p.id: p.value for p in predictions}
        right: dict[str, list[bool]] = {}
        for example in examples:
            if stations := example.fields.get("stations"):
                group = f"accuracy_routes{len(stations.split()) // 2}_label{example.truth}"
                right.setdefault(group, []).append(values.get(example.id) == example.truth)
        by_group = {group: sum(hits) / len(hits) for group, hits in sorted(right.items())}
        return {**super().measure(examples, predictions), **by_group}
