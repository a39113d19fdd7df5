from __future__ import annotations

import copy
import csv
import dataclasses
import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label as components

from foveal.errors import UserError
from foveal.examples import SPLITS, Split
from foveal.tasks.blindtest import subway_routes
from foveal.tasks.blindtest.drawing.colours import TAB10
from foveal.tasks.blindtest.drawing.subway import EM, UNITS, Look
from foveal.tasks.blindtest.generate import Scenes, block_of
from foveal.tasks.blindtest.puzzle import PuzzleData
from foveal.tasks.blindtest.subway import COLOURS, PAIRS, WIDTHS, Scene, Subway
from foveal.tasks.blindtest.subway_routes import connect

STYLES = ("paper", "varied")
Node = tuple[int, int]
Edge = tuple[Node, Node]


def subway(**data: Any) -> Subway:
    return Subway(PuzzleData(**data))


def scenes(style: str, count: int, split: Split = "train", seed: int = 0) -> list[Scene]:
    return [Scenes(Subway, style, 224, split, seed)(i) for i in range(count)]


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of 255."""
    return float(np.abs(np.asarray(a.convert("RGB"), float) - np.asarray(b.convert("RGB"), float)).mean())


def station(node: Node) -> str:
    """The station that has its exits at a node, or nothing."""
    x, y = node
    if 8 <= x <= 10 and y in (2, 16):
        return "A" if y == 2 else "C"
    if 8 <= y <= 10 and x in (2, 16):
        return "D" if x == 2 else "B"
    return ""


def edges(corners: list[Node]) -> Iterator[Edge]:
    """The steps of a route, each from its lower end."""
    for (x, y), (x2, y2) in pairwise(corners):
        assert (x == x2) != (y == y2)
        count = abs(x2 - x) + abs(y2 - y)
        for i in range(count):
            a, b = ((x + (x2 - x) * j // count, y + (y2 - y) * j // count) for j in (i, i + 1))
            yield min(a, b), max(a, b)


def joined(steps: Mapping[int, list[Edge]]) -> Counter[str]:
    """How many colours lead from one station to another, by a search through the steps of each colour."""
    found: Counter[str] = Counter()
    for own in steps.values():
        near = defaultdict(list)
        for a, b in own:
            near[a].append(b)
            near[b].append(a)
        exits = [node for node in near if station(node)]
        for start, end in combinations(exits, 2):
            reached, queue = {start}, deque([start])
            while queue:
                for node in near[queue.popleft()]:
                    if node not in reached:
                        reached.add(node)
                        queue.append(node)
            found["".join(sorted(station(start) + station(end)))] += end in reached
    return found


def read_cells(scene: Scene) -> dict[int, list[Edge]]:
    """The steps of each route from the columns of ``metadata.csv``, which must lie on the look's lattice."""
    (left, top), (wide, high) = scene.look.origin, scene.look.cell
    steps = {}
    for number, route in enumerate(scene.cells["corners"].split("; ")):
        corners = []
        for corner in route.split(" "):
            x, y = (float(v) * UNITS for v in corner.split(","))
            x, y = (x - left) / wide, (y - top) / high
            corners.append((round(x), round(y)))
            assert abs(x - round(x)) < 0.01 and abs(y - round(y)) < 0.01
        steps[number] = list(edges(corners))
    return steps


# Scenes.


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("split", SPLITS)
def test_the_truth_is_what_a_search_along_each_colour_finds(style: str, split: Split) -> None:
    for index, scene in enumerate(scenes(style, 30, split)):
        found = joined(read_cells(scene))
        start, end = scene.fields["from"], scene.fields["to"]
        number, count = scene.label
        assert found["".join(sorted((start, end)))] == count == scene.truths[0] == scene.truths[1]
        assert len(scene.routes) == 2 * number
        assert scene.label == Scenes(Subway, style, 224, split, 0).label(index)
        assert sum(found.values()) == scene.cells["routes"] == len(scene.look.colours)
        assert scene.cells["stations"].split(" ") == [
            "".join(sorted(station(r[0]) + station(r[-1]))) for r in scene.routes
        ]


@pytest.mark.parametrize("style", STYLES)
def test_maps_keep_the_published_rules(style: str) -> None:
    for scene in scenes(style, 100):
        steps = [list(edges(list(route))) for route in scene.routes]
        taken = [edge for own in steps for edge in own]
        assert len(taken) == len(set(taken))
        exits = [route[i] for route in scene.routes for i in (0, -1)]
        assert len(exits) == len(set(exits))
        ends = Counter(map(station, exits))
        assert set(ends) == set("ABCD") and len(set(ends.values())) == 1 and ends["A"] in (1, 2, 3)
        for route, own in zip(scene.routes, steps, strict=True):
            inner = {node for edge in own for node in edge} - {route[0], route[-1]}
            assert all(3 <= v <= 15 for node in inner for v in node)
            # No turning back towards the first station: it goes ahead once between any two lines, so it meets
            # itself nowhere.
            axis = 1 if station(route[0]) in "AC" else 0
            ahead = Counter(a[axis] for a, b in own if a[axis] != b[axis])
            assert set(ahead.values()) == {1}
            assert len(inner) + 2 == len(own) + 1
            # Corners are where it turns, and nothing else.
            assert all((a[0] == b[0]) != (b[0] == c[0]) for a, b, c in zip(route, route[1:], route[2:], strict=False))


def test_connect_gives_up_where_routes_cannot_be_laid() -> None:
    rng = random.Random(0)
    found = [connect(rng, [("B", "D")] * 3 + [("A", "C")] * 3) for _ in range(60)]
    assert None in found and any(found)
    for routes in filter(None, found):
        assert [station(r[0]) + station(r[-1]) for r in routes] == ["BD"] * 3 + ["AC"] * 3


def test_a_route_that_is_taken_up_leaves_no_trace() -> None:
    rng = random.Random(3)
    for _ in range(200):
        plan = subway_routes._Map(dict.fromkeys("ABCD", (8, 9, 10)))
        kept = plan.lay(rng, "B", "D", 1.0)
        assert kept is not None
        before = copy.deepcopy((plan.rows, plan.columns, plan.routes))
        free = {station: sorted(exits) for station, exits in plan.free.items()}
        start, end = rng.sample("ABCD", 2)
        route = plan.lay(rng, start, end, 1.0)
        if route is None:
            continue
        assert (plan.rows, plan.columns, plan.routes) != before
        plan.take_up(route)
        assert (plan.rows, plan.columns, plan.routes) == before
        assert {station: sorted(exits) for station, exits in plan.free.items()} == free


def test_the_papers_parameters() -> None:
    found = scenes("paper", 200)
    assert {s.look.width for s in found} == set(WIDTHS)
    assert {round(w * 18 * 72 / UNITS, 9) for w in WIDTHS} == {10, 20}
    for scene in found:
        assert scene.look == Look(scene.look.width, TAB10[: len(scene.routes)])
    assert {s.label for s in found} == {(1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (3, 3)}
    asked = Counter(s.asked for s in found)
    assert set(asked) == {*PAIRS, *(p[::-1] for p in PAIRS)}
    assert 70 < sum(asked[p] for p in PAIRS) < 130


def test_varied_pictures_vary() -> None:
    found = scenes("varied", 300)
    like_the_papers = [s for s in found if s.look.ground == (255, 255, 255) and s.look.ink == (0, 0, 0)]
    like_the_papers = [s for s in like_the_papers if np.abs(np.subtract(s.look.colours[:2], TAB10[:2])).max() <= 12]
    assert 110 < len(like_the_papers) < 190
    widths = [s.look.width for s in like_the_papers]
    assert min(widths) < 0.9 * WIDTHS[0] and max(widths) > 1.1 * WIDTHS[1]
    assert sum(s.look.cell[0] < UNITS / 18 for s in like_the_papers) > 40
    assert sum(s.look.cell[0] > UNITS / 18 for s in like_the_papers) > 30
    others = [s for s in found if s not in like_the_papers]
    assert len({s.look.ground for s in others}) > 45 and len({s.look.font for s in others}) == 4
    assert {s.asked for s in found} == {*PAIRS, *(p[::-1] for p in PAIRS)}
    for scene in found:
        for a, b in combinations(scene.look.colours, 2):
            assert np.linalg.norm(np.subtract(a, b)) > 40
        # The letters, 0.4 cells from the lattice's borders at their published size, stay in the picture.
        for start, step in zip(scene.look.origin, scene.look.cell, strict=True):
            assert start + 0.3 * step >= -1 and start + 17.7 * step <= UNITS + 1
    assert len(COLOURS) >= 12


@pytest.mark.parametrize("style", STYLES)
def test_half_a_cell_is_the_widest_line(style: str) -> None:
    scene = Scenes(Subway, style, 224, "train", 0, scale=4.0)(0)
    assert 0.4 * min(scene.look.cell) < scene.look.width <= 0.5 * min(scene.look.cell)


# Pictures.


@pytest.mark.parametrize("style", STYLES)
def test_each_route_can_be_followed_in_the_picture(style: str) -> None:
    """With a route drawn last, the pixels of its colour are in one piece, which touches its two exits and no other."""
    size = 450
    for scene in scenes(style, 4, seed=3):
        look = dataclasses.replace(scene.look, kernel="box", blur=0.0, width=max(scene.look.width, 90))
        found: Counter[str] = Counter()
        for i in range(len(scene.routes)):
            order = [*(k for k in range(len(scene.routes)) if k != i), i]
            routes = tuple(scene.routes[k] for k in order)
            drawn = Scene(routes, scene.asked, dataclasses.replace(look, colours=tuple(look.colours[k] for k in order)))
            pixels = np.asarray(drawn.draw(size), int)
            pieces, _ = components(np.abs(pixels - look.colours[i]).max(-1) <= 2)
            sizes = np.bincount(pieces.reshape(-1))[1:]
            assert (sizes > 100).sum() == 1, sizes
            piece = pieces == sizes.argmax() + 1
            touched = []
            for x in range(2, 17):
                for y in range(2, 17):
                    at = [
                        round((o + c * v) / UNITS * size - 0.5)
                        for o, c, v in zip(look.origin, look.cell, (x, y), strict=True)
                    ]
                    if station((x, y)) and piece[at[1], at[0]]:
                        touched.append(station((x, y)))
            assert len(touched) == 2
            found["".join(sorted(touched))] += 1
        assert found["".join(sorted(scene.asked))] == scene.truths[0]


@pytest.mark.parametrize("size", [96, 224])
def test_pictures_look_like_large_ones_that_were_shrunk(size: int) -> None:
    for scene in scenes("paper", 2, seed=4):
        large = scene.draw(8 * size).resize((size, size), Image.Resampling.BICUBIC)
        assert difference(scene.draw(size), large) < 0.35
        assert difference(Image.new("RGB", large.size, "white"), large) > 3


def test_a_line_has_its_width_and_its_place() -> None:
    scene = Scene((((9, 2), (9, 16)), ((16, 9), (2, 9))), "AC", Look(200, ((255, 0, 0), (0, 0, 255)), kernel="box"))
    pixels = np.asarray(scene.draw(900), float)
    # 18 pixels wide around x = 450 and 9 below y = 100; the ends project by half the width.
    row = pixels[300]
    assert (row[441:459] == (255, 0, 0)).all() and (row[:441] == 255).all() and (row[459:] == 255).all()
    assert (pixels[91:441, 450] == (255, 0, 0)).all() and (pixels[90, 450] == 255).all()
    assert (pixels[450, 91:809] == (0, 0, 255)).all() and (pixels[450, 809] == 255).all()
    assert (pixels[441:459, 441:459] == (0, 0, 255)).all()


def test_letters_grow_about_their_middles() -> None:
    boxes = []
    for em in (EM, 1.5 * EM):
        dark = np.asarray(Scene((), "AC", Look(100, (), em=em)).draw(1800).convert("L")) < 128
        pieces, count = components(dark)
        assert count == 4
        # By height: A, then B and D on one line, then C.
        boxes.append([[np.nonzero(pieces == i)[axis] for axis in (1, 0)] for i in range(1, 5)])
    for small, large in zip(*boxes, strict=True):
        for a, b in zip(small, large, strict=True):
            assert (a.min() + a.max()) / 2 == pytest.approx((b.min() + b.max()) / 2, abs=4)
            assert np.ptp(b) == pytest.approx(1.5 * np.ptp(a), abs=4)


def test_letters_outside_are_cut_off() -> None:
    look = Look(100, (), origin=(-3000, -3000), cell=(900, 900))
    assert Scene((), "AB", look).draw(64).size == (64, 64)


@pytest.mark.parametrize("size", [64, 112, 168, 224])
def test_pictures_are_what_they_should_be(size: int) -> None:
    for style in STYLES:
        for split in SPLITS:
            image = Scenes(Subway, style, size, split, 1)(0).draw(size)
            assert (image.size, image.mode) == ((size, size), "RGB")
            assert np.asarray(image, int).reshape(-1, 3).std(0).max() > 8


# Rows.


def test_no_geometry_is_in_two_splits() -> None:
    found: dict[Split, set[tuple[int, ...]]] = {split: set() for split in SPLITS}
    for style in STYLES:
        for split in SPLITS:
            for seed in (0, 1):
                found[split] |= {s.geometry for s in scenes(style, 25, split, seed)}
    assert all(len(keys) == 100 for keys in found.values())
    for a, b in combinations(SPLITS, 2):
        assert not found[a] & found[b]


def test_geometry_does_not_depend_on_colours_or_the_question() -> None:
    for scene in scenes("varied", 9):
        routes = tuple(route[::-1] for route in scene.routes[::-1])
        assert Scene(routes, "AC", Look(100, TAB10)).geometry == scene.geometry
        assert all(0 <= v < 2**31 for v in scene.geometry)
    assert len({s.geometry for s in scenes("varied", 60)}) == 60


def test_answers_are_alike_within_each_number_of_routes() -> None:
    assert Counter(block_of(Subway)) == {(1, 1): 1, (2, 1): 1, (2, 2): 1, (3, 1): 4, (3, 2): 4, (3, 3): 4}
    for style in STYLES:
        for split in SPLITS:
            made = [Scenes(Subway, style, 224, split, 3)(i) for i in range(30)]
            assert Counter(s.label for s in made) == {
                (1, 1): 2, (2, 1): 2, (2, 2): 2, (3, 1): 8, (3, 2): 8, (3, 3): 8
            }  # fmt: skip


def test_the_most_frequent_answer_is_the_chance() -> None:
    task = subway(test=3000)
    examples = task.load("test").examples[:150]
    assert Counter(e.truth for e in examples) == {1: 60, 2: 50, 3: 40}
    assert task.chance(examples) == 0.4


# The published pictures.


def traced(image: Image.Image) -> dict[int, list[Edge]]:
    """The lattice's edges that have each colour of tab10 at their middle."""
    pixels: NDArray[np.int64] = np.asarray(image.convert("RGB"), int)
    cell = len(pixels) / 18
    steps = defaultdict(list)
    for x in range(2, 17):
        for y in range(2, 17):
            for x2, y2 in ((x + 1, y), (x, y + 1)):
                # Letters are outside.
                if x2 > 16 or y2 > 16 or {x, x2} in ({2}, {16}) or {y, y2} in ({2}, {16}):
                    continue
                far = np.abs(pixels[int((y + y2) / 2 * cell), int((x + x2) / 2 * cell)] - TAB10).sum(1)
                if far.min() < 90:
                    steps[int(far.argmin())].append(((x, y), (x2, y2)))
    return steps


def corners(steps: list[Edge]) -> tuple[Node, ...]:
    """A route from its edges."""
    near = defaultdict(list)
    for a, b in steps:
        near[a].append(b)
        near[b].append(a)
    start = next(node for node in near if station(node))
    route, last = [start], None
    while ahead := [node for node in near[route[-1]] if node != last]:
        assert len(ahead) == 1
        last = route[-1]
        route.append(ahead[0])
    turns = [b for a, b, c in zip(route, route[1:], route[2:], strict=False) if (a[0] == b[0]) != (b[0] == c[0])]
    return (start, *turns, route[-1])


def published(folder: Path) -> list[dict[str, str]]:
    with folder.with_suffix(".csv").open() as table:
        return list(csv.DictReader(table))


def test_published_pictures_have_our_geometry_labels_and_look(real_data: Path) -> None:
    folder = real_data / "blindtest" / "subway"
    kinds, lengths = set(), defaultdict(set)
    for cells in published(folder):
        with Image.open(folder / cells["file"]) as image:
            steps = traced(image)
            size = image.width
            # The first colours, in order.
            assert sorted(steps) == list(range(2 * int(cells["paths_per_station"])))
            counts = joined(steps)
            assert {pair: counts[pair] for pair in PAIRS} == {pair: int(cells[pair]) for pair in PAIRS}
            assert {"".join(sorted(p)) for p in cells["asked_pairs"].split()} == {p for p in PAIRS if counts[p]}
            routes = tuple(corners(steps[i]) for i in range(len(steps)))
            drawn = [Scene(routes, "AC", Look(w, TAB10[: len(routes)])).draw(size) for w in WIDTHS]
            apart = [difference(one, image) for one in drawn]
            # The largest measured is 0.18; with the other line width it is above 2.
            assert min(apart) < 0.22 and max(apart) > 2
            for small in (128, 256):
                shrunk = image.resize((small, small), Image.Resampling.BOX)
                look = Look(WIDTHS[int(np.argmin(apart))], TAB10[: len(routes)], kernel="box")
                assert difference(Scene(routes, "AC", look).draw(small), shrunk) < 0.4
            kinds.add((size, len(routes), int(np.argmin(apart))))
            for route in routes:
                pair = "".join(sorted(station(route[0]) + station(route[-1])))
                lengths[pair in ("AC", "BD")].add((route, len(list(edges(list(route))))))
    assert len(kinds) > 6
    # Routes are as long as the published ones, those between opposite stations and the others.
    found = [(route, s) for s in scenes("paper", 100) for route in s.routes]
    for opposite, real in lengths.items():
        ours = [
            len(list(edges(list(r))))
            for r, _ in found
            if (station(r[0]) + station(r[-1]) in ("AC", "CA", "BD", "DB")) == opposite
        ]
        assert np.mean([n for _, n in real]) == pytest.approx(np.mean(ours), rel=0.15)


def test_loading_published_pictures(real_data: Path) -> None:
    folder = real_data / "blindtest" / "subway"
    task = subway(source=str(folder))
    examples = task.load("test").examples
    expected = {}
    for cells in published(folder):
        for pair in cells["asked_pairs"].split():
            expected[f"{cells['file']}/{pair}"] = int(cells["".join(sorted(pair))])
    assert {e.id: e.truth for e in examples} == expected
    example = next(e for e in examples if e.id.endswith("/BA"))
    assert "paths go from B to A?" in task.prompt(example).user
    with pytest.raises(UserError, match="serve as the test split"):
        task.load("train")


def test_the_smallest_pictures_are_drawn() -> None:
    scenes = Scenes(Subway, "varied", 32, "train", 0)
    assert {scenes.draw(i).size for i in range(60)} == {(32, 32)}
