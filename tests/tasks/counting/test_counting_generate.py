from __future__ import annotations

import pickle
from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import label
from scipy.stats import chi2_contingency

from foveal.drawing.figures import COLOURS, PATTERNS, SHAPES, Figure
from foveal.errors import UserError
from foveal.examples import SPLITS
from foveal.tasks.counting.generate import Scene, SceneOptions, Scenes
from foveal.tasks.scenes.placing import MARGIN


def scenes(length: int = 100, seed: int = 0, **options: Any) -> Scenes:
    return Scenes(length, "train", seed, SceneOptions(**options))


def mask(figure: Figure, size: int) -> np.ndarray:
    """The pixels of one figure: the slow reference of what covers what."""
    image = Image.new("RGB", (size, size), "white")
    figure.draw(ImageDraw.Draw(image), size)
    return np.asarray(image.convert("L"), int) < 250


def covered_shares(scene: Scene, size: int) -> list[float]:
    masks = [mask(f, size) for f in scene.figures]
    above = np.zeros((size, size), bool)
    shares = []
    for own in reversed(masks):
        shares.append(float((own & above).sum() / own.sum()))
        above |= own
    return shares


def test_queries_hold_the_targets_and_their_boxes() -> None:
    queries = scenes(60, image_size=112, max_objects=12)
    for index in range(60):
        query, scene = queries[index], queries.scene(index)
        assert query.id == f"{index:05d}" and query.size == query.picture.open().size == (112, 112)
        assert query.category == scene.category
        assert len(query.things) == len(scene.targets) == queries.objects(index)
        colour, shape = query.category.split()
        assert colour in COLOURS and shape in SHAPES
        assert len(scene.figures) - len(scene.targets) <= 6
        for thing, figure in zip(query.things, scene.targets, strict=True):
            assert thing.box is not None
            assert np.array(thing.box) / 112 == pytest.approx(figure.box)
            left, top, right, bottom = thing.box
            assert min(left, top) >= MARGIN * 112 and max(right, bottom) <= 112 * (1 - MARGIN)
            assert thing.point == ((left + right) / 2, (top + bottom) / 2)
            assert min(right - left, bottom - top) > 4


@pytest.mark.parametrize("size", [112, 224, 600])
def test_boxes_enclose_the_drawn_pixels_closely(size: int) -> None:
    queries = scenes(20, image_size=size, min_objects=1, max_objects=1, distractors=0)
    for index in range(20):
        scene = queries.scene(index)
        ground = Scene("", (), scene.ground).draw(size)
        picture = queries[index].picture.open()
        changed = np.abs(np.asarray(picture, int) - np.asarray(ground, int)).max(axis=2)
        y, x = np.nonzero(changed > 25)
        box = np.array(queries[index].things[0].box)
        # Nothing is drawn in a pixel outside the box, and all but the tips of stars and diamonds reach its sides.
        reached = np.array((x.min() + 1, y.min() + 1, -x.max(), -y.max())) - box * (1, 1, -1, -1)
        assert reached.min() > -0.25
        assert reached.max() < (2.3 if scene.category.split()[1] in ("stars", "diamonds", "triangles") else 1.6)


@pytest.mark.parametrize("overlap", [0.1, 0.25, 0.5])
def test_no_more_of_a_figure_is_covered_than_allowed(overlap: float) -> None:
    queries = scenes(30, seed=2, min_objects=15, max_objects=40, distractors=10, overlap=overlap)
    shares = [share for i in range(12) for share in covered_shares(queries.scene(i), 500)]
    assert max(shares) <= overlap + 0.01
    # And some are.
    assert sum(share > 0.02 for share in shares) > 0.05 * len(shares)


def test_figures_keep_apart_without_overlap_and_can_be_counted_in_the_pixels() -> None:
    queries = scenes(61, image_size=400, max_objects=60, distractors=20, overlap=0)
    for index in range(0, 61, 4):
        scene = queries.scene(index)
        masks = sum(mask(f, 400).astype(int) for f in scene.figures)
        assert len(scene.figures) == 0 or int(np.max(masks)) == 1
        large = Image.new("RGB", (400, 400), "white")
        for figure in scene.targets:
            figure.draw(ImageDraw.Draw(large), 400)
        assert label(np.asarray(large.convert("L"), int) < 250, np.ones((3, 3)))[1] == len(scene.targets)


def test_the_target_kind_is_told_by_shape_and_colour() -> None:
    queries = scenes(400, max_objects=3)
    alike: Counter[str] = Counter()
    for index in range(400):
        scene = queries.scene(index)
        colour, shape = scene.category.split()
        for figure in scene.figures:
            if figure.kind != scene.category:
                alike["shape"] += figure.shape == shape
                alike["colour"] += figure.colour == colour
    assert min(alike.values()) > 200
    kinds = Counter(queries.scene(i).category for i in range(400))
    assert len(kinds) > 0.9 * len(SHAPES) * len(COLOURS)
    assert {queries.scene(i).ground.pattern for i in range(50)} == set(PATTERNS)


def test_a_share_of_the_other_kinds_has_the_targets_colour_and_another_shape() -> None:
    def shares(same_colour: float) -> tuple[float, float]:
        """Shares of the other figures that have the targets' colour, and their shape."""
        queries = scenes(800, max_objects=3, distractors=4, same_colour=same_colour)
        colours, shapes = [], []
        for index in range(800):
            scene = queries.scene(index)
            others = [f for f in scene.figures if f.kind != scene.category]
            assert len({f.kind for f in others}) <= 3
            colour, shape = scene.category.split()
            colours += [f.colour == colour for f in others]
            shapes += [f.shape == shape for f in others]
        return float(np.mean(colours)), float(np.mean(shapes))

    # As now mixed: a third each is drawn by colour, by shape and by neither, where 7 of 63 kinds have either.
    mixed = 1 / 3 + 1 / 3 * 7 / 63
    assert shares(0) == pytest.approx((mixed, mixed), abs=0.04)
    assert shares(0.5) == pytest.approx((0.5 + 0.5 * mixed, 0.5 * mixed), abs=0.04)
    assert shares(1) == (1, 0)
    # A share of 0 leaves scenes as they always were.
    assert scenes(9, same_colour=0.0).scene(5) == scenes(9).scene(5) != scenes(9, same_colour=1.0).scene(5)


@pytest.mark.parametrize("same_colour", [0.0, 0.5])
def test_the_number_of_others_does_not_tell_the_number_of_targets(same_colour: float) -> None:
    queries = scenes(2200, max_objects=10, distractors=4, same_colour=same_colour)
    table, looks = np.zeros((11, 5), int), np.zeros((11, 2), int)
    for index in range(2200):
        scene = queries.scene(index)
        others = [f for f in scene.figures if f.kind != scene.category]
        table[len(scene.targets), len(others)] += 1
        if others:
            looks[len(scene.targets), int(others[0].colour == scene.category.split()[0])] += 1
    assert table.min() > 20 and chi2_contingency(table).pvalue > 0.01
    assert chi2_contingency(looks).pvalue > 0.01


@pytest.mark.parametrize(("low", "high"), [(0, 20), (3, 3), (5, 60)])
def test_counts_are_balanced_in_every_block(low: int, high: int) -> None:
    queries = scenes(10_000, min_objects=low, max_objects=high)
    width = high - low + 1
    for block in range(3):
        numbers = [queries.objects(block * width + i) for i in range(width)]
        assert sorted(numbers) == list(range(low, high + 1))
        assert width < 5 or numbers != sorted(numbers)
    counts = Counter(queries.objects(i) for i in range(5 * width + width // 2))
    assert max(counts.values()) - min(counts.values()) <= 1


def test_sizes_do_not_tell_the_count_of_a_few() -> None:
    queries = scenes(600, max_objects=10, distractors=0)
    radii: dict[bool, list[float]] = {False: [], True: []}
    for index in range(600):
        scene = queries.scene(index)
        if scene.figures:
            radii[len(scene.figures) > 5].append(scene.figures[0].radius)
    for found_radii in radii.values():
        assert min(found_radii) < 0.045 and max(found_radii) > 0.09


def test_scenes_depend_on_seed_split_and_index_alone() -> None:
    queries = scenes(1000, seed=3, image_size=64)
    again = pickle.loads(pickle.dumps(scenes(2000, seed=3, image_size=64)))
    for index in (999, 0, 7):
        assert (
            pickle.loads(pickle.dumps(again[index])).picture.open().tobytes() == queries[index].picture.open().tobytes()
        )
        assert again[index].things == queries[index].things
    seen = {split: {Scenes(9, split, seed).scene(i) for seed in (0, 1) for i in range(9)} for split in SPLITS}
    assert all(len(queries) == 18 for queries in seen.values())
    assert not any(seen[a] & seen[b] for a, b in combinations(SPLITS, 2))
    # The size of the picture changes nothing in it.
    assert scenes(9, image_size=64).scene(5) == scenes(9, image_size=448).scene(5)


def test_scenes_are_a_sequence() -> None:
    queries = scenes(5)
    assert len(queries) == 5 and [q.id for q in queries] == [f"{i:05d}" for i in range(5)]
    assert [q.id for q in queries[3:]] == ["00003", "00004"] and queries[-1].id == "00004"
    with pytest.raises(IndexError):
        queries[5]


def test_the_fullest_scenes_are_made() -> None:
    queries = scenes(3, min_objects=60, max_objects=60, distractors=20, overlap=0)
    for query in queries:
        assert len(query.things) == 60 and len(np.unique(np.asarray(query.picture.open()))) > 20
    empty = scenes(1, max_objects=0, distractors=0)[0]
    assert empty.things == () and empty.picture.open().size == (224, 224)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_objects": -1}, "min_objects: -1 is out of range; give 0 to 60"),
        ({"max_objects": 61}, "max_objects: 61 is out of range; give 0 to 60"),
        ({"min_objects": 9, "max_objects": 3}, "max_objects: 3 is out of range; give 9 to 60"),
        ({"image_size": 8}, "image_size: 8 is out of range; give 32 to 2048"),
        ({"distractors": 21}, "distractors: 21 is out of range; give 0 to 20"),
        ({"overlap": 0.6}, "overlap: 0.6 is out of range; give 0 to 0.5"),
        ({"overlap": float("nan")}, "overlap: nan is out of range"),
        ({"same_colour": 1.5}, "same_colour: 1.5 is out of range; give 0 to 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SceneOptions(**options).check()


def test_pictures_stay_the_same_from_version_to_version() -> None:
    query = scenes(9, seed=1)[4]
    assert (query.category, len(query.things)) == ("black circles", 19)
    assert query.things[0].point == pytest.approx((138.22, 194.57), abs=0.01)
    assert query.picture.open().getpixel((0, 0)) == (219, 220, 225)
