"""BlindTest's subway map: how many routes of one colour go from one station to another?

Two looks are generated, on the published lattice of 18 x 18 cells:

* ``paper``: the published pictures (Rahmanzadehgervi et al. 2024, arXiv 2407.06581, and the authors' notebook). Four
  stations, each with one, two or three routes; routes start at B, then A, then C, and take the colours of matplotlib's
  tab10 in that order; lines of 10 or 20 points in a figure of 18 inches; bold letters of 100 points; drawn large and
  shrunk by Pillow.
* ``varied``: for training. Half of the pictures look like the paper's with small changes of scale, place, width and
  colour; the others vary in these more widely, and in the order of the colours, font, ground and blur.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from foveal.tasks.blindtest.common import read_number
from foveal.tasks.blindtest.lettering import font
from foveal.tasks.blindtest.puzzle import Puzzle, Question, in_braces
from foveal.tasks.blindtest.sources import Label, Layout
from foveal.tasks.blindtest.strokes import Colour, Filter
from foveal.tasks.blindtest.subway_routes import CELLS, HIGH, LOW, STATION_AT, STATIONS, Route, connect

#: Lengths are whole numbers of this part of the picture's side.
UNITS = 10_000
#: One point in a figure of 18 inches, in units.
POINT: Final = UNITS / 72 / 18
WIDTHS = (round(10 * POINT), round(20 * POINT))
#: Size of the letters' font (the em) in units: 100 points.
EM = round(100 * POINT)
#: The published letters' left ends and base lines, in cells, y downwards.
ANCHORS: Final = {"A": (8.45, 1.5), "B": (16.5, 9.4), "C": (8.45, 17.4), "D": (0.4, 9.4)}
#: Middles of the published letters in cells, about which other sizes grow.
MIDDLES: Final = {"A": (8.99, 0.99), "B": (17.03, 8.89), "C": (8.96, 16.89), "D": (0.98, 8.89)}
VALUES = (1, 2, 3)
PAIRS: Final = ("AB", "AC", "AD", "BC", "BD", "CD")

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
#: The first colours of matplotlib's tab10: blue, orange, green, red, purple, brown.
TAB10: Final = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75))
#: Colours that can be told apart: tab10's, and others.
COLOURS: Final = (
    *TAB10, (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207), (20, 20, 20), (0, 0, 140), (150, 0, 0),
    (0, 90, 0), (255, 215, 0), (255, 0, 255),
)  # fmt: skip
FONTS = ("DejaVuSans-Bold", "DejaVuSans-Bold", "DejaVuSans", "DejaVuSerif", "STIXGeneral")


@dataclass(frozen=True)
class Look:
    """How a map is drawn. Lengths are in units of the side.

    Attributes:
        width: Width of the lines.
        colours: One for each route.
        ground: Colour of the background.
        ink: Colour of the letters.
        origin: Where the lattice's corner is: x, y.
        cell: Its cells' width and height.
        em: Size of the letters' font.
        font: Name of the letters' font.
        kernel: Filter of the edges.
        blur: Standard deviation of a Gaussian blur.
    """

    width: float
    colours: tuple[Colour, ...]
    ground: Colour = WHITE
    ink: Colour = BLACK
    origin: tuple[float, float] = (0, 0)
    cell: tuple[float, float] = (UNITS / CELLS, UNITS / CELLS)
    em: float = EM
    font: str = "DejaVuSans-Bold"
    kernel: Filter = "bicubic"
    blur: float = 0


def ends_of(route: Route) -> str:
    """The two stations of a route, in alphabetical order."""
    return "".join(sorted((STATION_AT[route[0]], STATION_AT[route[-1]])))


@dataclass(frozen=True)
class Scene:
    """A map, and the stations that are asked about.

    Attributes:
        routes: Corners of each route on the lattice; later ones are drawn over earlier ones.
        asked: Letters of the two stations.
        look: How it is drawn.
        size: Side in pixels of the picture that the look's blur is for.
    """

    routes: tuple[Route, ...]
    asked: str
    look: Look
    size: int = 224

    @property
    def label(self) -> int:
        """How many routes join the two stations."""
        pair = "".join(sorted(self.asked))
        return sum(ends_of(route) == pair for route in self.routes)

    @property
    def truths(self) -> tuple[int, int]:
        """The same for both questions."""
        return self.label, self.label

    @property
    def fields(self) -> Mapping[str, str]:
        """The two stations."""
        return {"from": self.asked[0], "to": self.asked[1]}

    @property
    def geometry(self) -> tuple[int, ...]:
        """The corners of all routes, whatever their colours and directions."""
        routes = sorted(min(route, route[::-1]) for route in self.routes)
        return tuple(v for route in routes for v in (-len(route), *(CELLS * x + y for x, y in route)))

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
            "stations": " ".join(map(ends_of, self.routes)),
            "corners": "; ".join(corners),
            "width": f"{self.look.width / UNITS:.5f}",
        }

    def draw(self, size: int) -> Image.Image:
        """The picture, ``size`` pixels wide and high."""
        look, scale = self.look, size / UNITS
        canvas = np.empty((size, size, 4), np.uint8)
        canvas[:] = (*look.ground, 255)
        cover = np.zeros((size, size), np.float32)
        bars = [
            _bars(size, look.origin[axis] * scale, look.cell[axis] * scale, look.width * scale, look.kernel, look.blur)
            for axis in (0, 1)
        ]
        for route, colour in zip(self.routes, look.colours, strict=True):
            top, left, bottom, right = _cover(cover, route, *bars)
            _paint(canvas[top:bottom, left:right], cover[top:bottom, left:right], colour)
            cover[top:bottom, left:right] = 0
        for letter in STATIONS:
            (x, y), (mid_x, mid_y), grown = ANCHORS[letter], MIDDLES[letter], look.em / EM
            x = (look.origin[0] + mid_x * look.cell[0]) * scale + (x - mid_x) * grown * size / CELLS
            y = (look.origin[1] + mid_y * look.cell[1]) * scale + (y - mid_y) * grown * size / CELLS
            _write(canvas, letter, (x, y), look, look.em * scale)
        return Image.frombytes("RGB", (size, size), canvas.tobytes(), "raw", "RGBX")


# Drawing. A route is a union of bars along the axes, so what it covers of a pixel is a sum of products of how far each
# bar covers the pixel's column and its row.

#: Entries of an edge's table per pixel.
_STEPS = 64


@lru_cache(maxsize=64)
def _edge(kernel: Filter, blur: float) -> tuple[NDArray[np.float32], float]:
    """How far a half-plane covers a pixel, against the depth of its centre, from minus to plus a reach; the reach."""
    reach = (2.0 if kernel == "bicubic" else 0.5) + 3 * blur + 1 / _STEPS
    x = np.arange(-round(reach * _STEPS), round(reach * _STEPS) + 1) / _STEPS
    near = np.abs(x)
    if kernel == "bicubic":
        # Keys' cubic kernel with Pillow's parameter -0.5 (Keys 1981, equation 15).
        outer = np.where(near < 2, ((-0.5 * near + 2.5) * near - 4) * near + 2, 0)
        weights = np.where(near < 1, (1.5 * near - 2.5) * near * near + 1, outer)
    else:
        weights = np.clip((0.5 - near) * _STEPS + 0.5, 0, 1)
    if blur > 0:
        weights = np.convolve(weights, np.exp(-0.5 * (x / blur) ** 2), mode="same")
    covered = (np.cumsum(weights) - weights / 2) / weights.sum()
    return np.concatenate(([0], covered, [1])).astype(np.float32), reach + 1 / _STEPS


@dataclass(frozen=True)
class _Bars:
    """Bars across one axis, one centred on each line of the lattice.

    Attributes:
        before: How far each pixel lies beyond a bar's first edge, [line, pixel].
        beyond: The same for its second edge.
        across: How far a bar covers it.
        low: First pixel that a bar touches.
        high: First pixel that it no longer touches.
    """

    before: NDArray[np.float32]
    beyond: NDArray[np.float32]
    across: NDArray[np.float32]
    low: list[int]
    high: list[int]


@lru_cache(maxsize=32)
def _bars(size: int, origin: float, cell: float, width: float, kernel: Filter, blur: float) -> _Bars:
    table, reach = _edge(kernel, blur)
    centre = origin + np.arange(CELLS + 1) * cell
    edges = np.concatenate((centre - width / 2, centre + width / 2))
    depth = (np.arange(size) + (0.5 + reach) - edges[:, None]) * _STEPS + 0.5
    beyond = table.take(np.clip(depth, 0, len(table) - 1).astype(np.intp))
    before, after = beyond[: CELLS + 1], beyond[CELLS + 1 :]
    low = np.clip(np.floor(edges[: CELLS + 1] - reach), 0, size).astype(int).tolist()
    high = np.clip(np.ceil(edges[CELLS + 1 :] + reach), 0, size).astype(int).tolist()
    return _Bars(before, after, before - after, low, high)


def _cover(cover: NDArray[np.float32], route: Route, across_x: _Bars, across_y: _Bars) -> tuple[int, int, int, int]:
    """Adds a route to how far each pixel is covered; gives the box that it touches: top, left, bottom, right."""
    last = len(route) - 2
    for i in range(last + 1):
        (x, y), (x2, y2) = route[i], route[i + 1]
        first_free, second_free = i == 0, i == last
        if y == y2:
            # Runs along x take the squares at their corners with them.
            if x > x2:
                x, x2 = x2, x
            a, b, c, d = across_y.low[y], across_y.high[y], across_x.low[x], across_x.high[x2]
            along = across_x.before[x, c:d] - across_x.beyond[x2, c:d]
            cover[a:b, c:d] += across_y.across[y, a:b, None] * along
        else:
            if y > y2:
                y, y2, first_free, second_free = y2, y, second_free, first_free
            a, b, c, d = across_y.low[y], across_y.high[y2], across_x.low[x], across_x.high[x]
            start = across_y.before if first_free else across_y.beyond
            stop = across_y.beyond if second_free else across_y.before
            cover[a:b, c:d] += (start[y, a:b] - stop[y2, a:b])[:, None] * across_x.across[x, c:d]
    xs, ys = [x for x, _ in route], [y for _, y in route]
    return across_y.low[min(ys)], across_x.low[min(xs)], across_y.high[max(ys)], across_x.high[max(xs)]


def _paint(canvas: NDArray[np.uint8], cover: NDArray[np.float32], colour: Colour) -> None:
    """Lays a colour over a part of the canvas."""
    where = np.nonzero(np.abs(cover) > 1 / 512)
    below = canvas[where].astype(np.float32)
    below += cover[where][:, None] * (np.array((*colour, 255), np.float32) - below)
    # A sharpening filter overshoots.
    canvas[where] = np.clip(np.rint(below), 0, 255).astype(np.uint8)


def _write(canvas: NDArray[np.uint8], letter: str, place: tuple[float, float], look: Look, height: float) -> None:
    """Puts a letter with its left end and base line at a place in pixels, to a quarter of a pixel."""
    (left, rest_x), (base, rest_y) = (divmod(round(v * 4), 4) for v in place)
    mask, dx, dy = _letter(letter, look.font, round(height * 4), rest_x, rest_y, look.kernel, look.blur)
    left, top, size = left + dx, base + dy, len(canvas)
    skip_y, skip_x = max(0, -top), max(0, -left)
    mask = mask[skip_y : max(0, size - top), skip_x : max(0, size - left)]
    top, left = top + skip_y, left + skip_x
    _paint(canvas[top : top + mask.shape[0], left : left + mask.shape[1]], mask, look.ink)


@lru_cache(maxsize=8192)
def _letter(
    letter: str, name: str, quarters: int, rest_x: int, rest_y: int, kernel: Filter, blur: float
) -> tuple[NDArray[np.float32], int, int]:
    """How far a letter covers the pixels around it, and where they begin, seen from the pixel of its left end.

    Args:
        letter: What to write.
        name: The font.
        quarters: Its size in quarters of a pixel.
        rest_x: How far the left end lies to the right of a pixel's outer corner, in the same.
        rest_y: How far the base line lies below it.
        kernel: Filter of the edges.
        blur: Standard deviation of a Gaussian blur.
    """
    times = 8  # Drawn so many times larger, then shrunk.
    large = font(name, quarters * times / 4)
    left, top, right, bottom = (v / times for v in large.getbbox(letter, anchor="ls"))
    margin = 2 + 3 * blur
    x, y = int(np.floor(left - margin)), int(np.floor(top - margin))
    wide, high = int(np.ceil(right + margin)) + 1 - x, int(np.ceil(bottom + margin)) + 1 - y
    box = Image.new("L", (wide * times, high * times))
    at = ((rest_x / 4 - x) * times, (rest_y / 4 - y) * times)
    ImageDraw.Draw(box).text(at, letter, fill=255, font=large, anchor="ls")
    if blur:
        box = box.filter(ImageFilter.GaussianBlur(blur * times))
    filters = {"box": Image.Resampling.BOX, "bicubic": Image.Resampling.BICUBIC}
    mask = np.asarray(box.resize((wide, high), filters[kernel]), np.float32) / np.float32(255)
    mask.flags.writeable = False
    return mask, x, y


# Styles.

#: How often each count of routes between A and B, A and C, A and D occurs for a count that is asked about. Every
#: station has as many routes as the others, so B and C have as many as A and D, and so on.
_Plans = tuple[tuple[tuple[int, int, int], float], ...]
_PAPER: Final[dict[int, _Plans]] = {
    1: (
        ((0, 1, 0), 16), ((0, 0, 1), 2), ((1, 0, 0), 2), ((0, 1, 1), 20), ((1, 1, 0), 8), ((1, 0, 1), 2),
        ((1, 1, 1), 20), ((0, 2, 1), 8), ((1, 2, 0), 4), ((0, 1, 2), 2), ((2, 1, 0), 2), ((1, 0, 2), 1), ((2, 0, 1), 1),
    ),
    2: (
        ((0, 2, 0), 10), ((0, 0, 2), 2), ((2, 0, 0), 2), ((0, 2, 1), 12), ((1, 2, 0), 6), ((0, 1, 2), 2),
        ((2, 1, 0), 2), ((1, 0, 2), 1), ((2, 0, 1), 1),
    ),
    3: (((0, 3, 0), 2), ((0, 0, 3), 1), ((3, 0, 0), 1)),
}  # fmt: skip


def _paper(rng: random.Random, label: int, size: int, scale: float) -> Callable[[], Scene | None]:
    width = rng.choice(WIDTHS) * scale
    plans = _PAPER[label]

    def sample() -> Scene | None:
        plan = rng.choices([p for p, _ in plans], [w for _, w in plans])[0]
        routes = _lay(rng, plan, "BACD", 1.0)
        return routes and Scene(routes, _ask(rng, plan, label), Look(width, TAB10[: len(routes)]), size)

    return sample


def _varied(rng: random.Random, label: int, size: int, scale: float) -> Callable[[], Scene | None]:
    like_paper = rng.random() < 0.5
    number = rng.choice([n for n in VALUES if n >= label])
    ways = [p for p in _ALL if sum(p) == number and label in p]
    colours: Sequence[Colour]
    if like_paper:
        width = rng.choice(WIDTHS) * rng.uniform(0.85, 1.15)
        wide = high = rng.uniform(0.96, 1.03)
        jitter = rng.choice((0, 12))
        colours = TAB10
        ground, ink = WHITE, BLACK
        name, em = "DejaVuSans-Bold", rng.uniform(0.93, 1.07)
        onward, kernel = 1.0, rng.choice(("bicubic", "box"))
    else:
        width = max(40 * 5 ** rng.random(), UNITS / size)
        wide, high = rng.uniform(0.75, 1.03), rng.uniform(0.75, 1.03)
        jitter = 15
        colours = rng.sample(COLOURS, len(COLOURS))
        ground = WHITE if rng.random() < 0.5 else _pale(rng)
        ink = BLACK if rng.random() < 0.7 else (rng.randint(0, 90), rng.randint(0, 90), rng.randint(0, 90))
        name, em = rng.choice(FONTS), rng.uniform(0.8, 1.15)
        onward, kernel = rng.choice((0.6, 1.0, 1.5, 2.5)), rng.choice(("bicubic", "box"))
    look = Look(
        width * scale,
        tuple((_near(rng, r, jitter), _near(rng, g, jitter), _near(rng, b, jitter)) for r, g, b in colours[: 2 * number]),
        ground,
        ink,
        (_margin(rng, wide), _margin(rng, high)),
        (wide * UNITS / CELLS, high * UNITS / CELLS),
        em * EM,
        name,
        kernel,
        rng.choice((0, 0, 0.25, 0.5, 0.75)) * size / 224,
    )

    def sample() -> Scene | None:
        plan = rng.choice(ways)
        routes = _lay(rng, plan, rng.sample(STATIONS, 4), onward)
        return routes and Scene(routes, _ask(rng, plan, label), look, size)

    return sample


_ALL: Final = tuple(
    (a, b, n - a - b) for n in VALUES for a in range(n + 1) for b in range(n + 1 - a)
)
_STYLES = {"paper": _paper, "varied": _varied}


def _counts(plan: tuple[int, int, int]) -> dict[str, int]:
    """Routes between each pair of stations."""
    ab, ac, ad = plan
    return dict(zip(PAIRS, (ab, ac, ad, ad, ac, ab), strict=True))


def _lay(
    rng: random.Random, plan: tuple[int, int, int], order: Sequence[str], onward: float
) -> tuple[Route, ...] | None:
    """Routes from each station in turn to later ones, in random order."""
    counts = _counts(plan)
    ends = []
    for i, start in enumerate(order):
        own = [(start, end) for end in order[i + 1 :] for _ in range(counts[min(start, end) + max(start, end)])]
        ends += rng.sample(own, len(own))
    return connect(rng, ends, onward)


def _ask(rng: random.Random, plan: tuple[int, int, int], label: int) -> str:
    """Two stations, in either order, with the right number of routes."""
    pair = rng.choice([pair for pair, count in _counts(plan).items() if count == label])
    return pair if rng.random() < 0.5 else pair[::-1]


def _margin(rng: random.Random, share: float) -> float:
    """Where a map that takes a share of the side begins: the letters, 0.4 cells from its borders, stay inside."""
    room = UNITS * (1 - share * (1 - 0.6 / CELLS))
    return rng.uniform(0, max(0.0, room)) - UNITS * share * 0.3 / CELLS


def _near(rng: random.Random, value: int, most: int) -> int:
    """A colour's channel, changed a little."""
    return min(255, max(0, value + rng.randint(-most, most)))


def _pale(rng: random.Random) -> Colour:
    gray = rng.randint(222, 248)
    return gray + rng.randint(-7, 7), gray + rng.randint(-7, 7), gray + rng.randint(-7, 7)


def read_label(text: str) -> int:
    """The truth in a data set's label.

    Raises:
        ValueError: It is none of the answers.
    """
    if text.strip() not in map(str, VALUES):
        raise ValueError(f"the label is {text!r}, not 1, 2 or 3")
    return int(text)


def _published(match: re.Match[str], cells: Mapping[str, str] | None) -> list[Label]:
    if cells is None:
        raise ValueError("its name does not tell its routes, and the table beside the folder has no line for it")
    labels = []
    for pair in cells["asked_pairs"].split():
        column = "".join(sorted(pair))
        if column not in PAIRS:
            raise ValueError(f"asked_pairs has {pair!r}, not two of the stations A, B, C and D")
        try:
            count = read_label(cells[column])
        except ValueError:
            raise ValueError(f"{column} is {cells[column]!r}, not 1, 2 or 3, though it is asked about") from None
        labels.append(Label((count, count), {"from": pair[0], "to": pair[1]}, pair))
    return labels


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
        "Count the one-colored routes that go from <from> to <to>. "
        "Answer with a number in curly brackets, e.g., {3}.",
        "routes <from> <to>",
        in_braces,
    )
    labels = VALUES
    values = VALUES
    blind = 1 / 3
    layout = Layout(
        read_label,
        re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.png$"),
        _published,
        columns=(*PAIRS, "asked_pairs"),
        fields=("from", "to"),
        hub_tasks=("Subway Connections",),
    )
    card = """
Four stations, A at the top, B to the right, C at the bottom and D to the left, and routes between them, each of one
colour, that cross but never share a part of their way. Every station has 1, 2 or 3 of them. The label says how many
join the two stations in the columns from and to: 1, 2 or 3. No map is in two splits.

Columns of `metadata.csv`: file_name; label; from and to; the number of routes; the stations of each; the corners of
each (x,y with y downwards, routes parted by a semicolon); the lines' width. Lengths are in sides of the picture.
"""

    @classmethod
    def sampler(cls, style: str, rng: random.Random, label: Any, size: int, scale: float) -> Callable[[], Scene | None]:
        """See ``Puzzle.sampler``."""
        return _STYLES[style](rng, label, size, scale)

    @classmethod
    def read(cls, reply: str, questions: Sequence[str]) -> int | None:
        """The number in a reply: the last in braces, else the only one; see ``read_number``."""
        return read_number(reply, questions)
