from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from foveal.tasks.segmentation import metrics
from foveal.tasks.segmentation.metrics import Overlap, measure, overlap

#: How a picture is drawn: predicted and meant, only predicted, only meant, neither; ignored and predicted or not.
SIGNS = {"#": (True, 1), "p": (True, 0), "t": (False, 1), ".": (False, 0), "X": (True, 255), "x": (False, 255)}


def drawn(*rows: str) -> Overlap:
    cells = [[SIGNS[sign] for sign in row] for row in rows]
    predicted = np.array([[p for p, _ in row] for row in cells], dtype=bool)
    return overlap(predicted, np.array([[t for _, t in row] for row in cells], dtype=np.uint8))


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[{"1": 1, ".": 0, "x": 255}[sign] for sign in row] for row in rows], dtype=np.uint8)


sizes = st.tuples(st.integers(1, 7), st.integers(1, 7))
pictures = sizes.flatmap(
    lambda size: st.lists(
        st.tuples(st.booleans(), st.sampled_from([0, 0, 1, 1, 255])),
        min_size=size[0] * size[1],
        max_size=size[0] * size[1],
    ).map(lambda cells: np.array(cells, dtype=np.uint8).reshape(*size, 2))
)


def slow_box_giou(a: set[tuple[int, int]], b: set[tuple[int, int]]) -> float:
    if not a or not b:
        return -1.0 if a or b else 1.0

    def filled(cells: set[tuple[int, int]]) -> set[tuple[int, int]]:
        ys, xs = [y for y, _ in cells], [x for _, x in cells]
        return set(product(range(min(ys), max(ys) + 1), range(min(xs), max(xs) + 1)))

    one, other = filled(a), filled(b)
    around = filled(one | other)
    return len(one & other) / len(one | other) - len(around - (one | other)) / len(around)


def test_counts_of_a_drawn_picture() -> None:
    one = drawn(
        "##p.x",
        "tt..X",
        ".....",
    )
    assert one == Overlap(2, 5, 3, 4, 13, pytest.approx(2 / 5 - (6 - 5) / 6))  # type: ignore[arg-type]
    assert metrics.iou(one) == 2 / 5
    assert metrics.giou([one]) == pytest.approx(2 / (5 + 1e-5), abs=1e-15)
    assert metrics.giou([one]) < metrics.miou([one])


def test_mean_and_cumulative_iou_differ() -> None:
    # A small target that is found, and a large one of which half is found.
    small, large = drawn("#..."), drawn("####tttt", "........")
    values = measure([small, large], [False, True])
    assert values == pytest.approx(
        {
            "giou": (1 + 4 / 8) / 2,
            "ciou": 5 / 9,
            "miou": (1 + 4 / 8) / 2,
            "precision_50": 1 / 2,  # An IoU of exactly 0.5 is not above it.
            "precision_70": 1 / 2,
            "precision_90": 1 / 2,
            "box_giou": (1 + 4 / 8) / 2,
            "class_iou_foreground": 5 / 9,
            "class_iou_background": (3 + 8) / (3 + 12),
            "giou_short": 1,
            "ciou_short": 1,
            "giou_long": 4 / 8,
            "ciou_long": 4 / 8,
        },
        abs=1e-5,
    )


def test_short_and_long_are_told_apart_only_where_both_occur() -> None:
    overlaps = [drawn("#."), drawn("pt"), drawn("#t")]
    assert not [name for name in measure(overlaps, [True] * 3) if name.endswith(("short", "long"))]
    assert not [name for name in measure(overlaps, [False] * 3) if name.endswith(("short", "long"))]
    values = measure(overlaps, [True, False, True])
    assert (values["giou_long"], values["giou_short"]) == pytest.approx((3 / 4, 0), abs=1e-5)
    assert (values["ciou_long"], values["ciou_short"]) == pytest.approx((2 / 3, 0), abs=1e-5)


@pytest.mark.parametrize("picture", [("...", "..."), ("xXx", "XXX"), ("x.X", "...")])
def test_nothing_meant_and_nothing_seen_is_right(picture: tuple[str, ...]) -> None:
    values = measure([drawn(*picture)], [False])
    # cIoU has no such rule: 0 / 1e-10 is 0.
    assert values == dict.fromkeys(values, 1.0) | {"ciou": 0.0}


def test_a_pixel_too_many_of_an_empty_target_costs_it_all_but_cumulatively_little() -> None:
    values = measure([drawn("p..."), drawn("########")], [False, False])
    assert values["giou"] == pytest.approx(1 / 2, abs=1e-5)
    assert values["ciou"] == pytest.approx(8 / 9)
    assert values["class_iou_background"] == pytest.approx(3 / 4)
    assert values["box_giou"] == 0  # -1 and 1


def test_box_giou_by_hand() -> None:
    # Boxes of 2 x 2 that share a corner pixel: U = 7, C = 9.
    diagonal = drawn("pp.", "p#t", ".tt")
    assert diagonal.box_giou == pytest.approx(1 / 7 - 2 / 9)
    # Side by side with a gap of 2: U = 2, C = 4.
    assert drawn("p..t").box_giou == pytest.approx(-2 / 4)
    # Masks without a common pixel, but with equal boxes.
    assert drawn("pt", "tp").box_giou == 1
    assert metrics.box_giou([diagonal, drawn("p..t")]) == pytest.approx((1 / 7 - 2 / 9 - 1 / 2) / 2)
    # A box does not reach into ignored pixels.
    assert drawn("#XXX", "....").box_giou == 1


@settings(deadline=None)
@given(st.lists(pictures, min_size=1, max_size=6))
def test_equal_to_sets_of_pixels(stack: list[np.ndarray]) -> None:
    overlaps = [overlap(cells[..., 0].astype(bool), cells[..., 1]) for cells in stack]
    ious, boxes, both_sum, either_sum, back_both, back_either = [], [], 0, 0, 0, 0
    for cells in stack:
        valid = {(y, x) for y, x in np.ndindex(cells.shape[:2]) if cells[y, x, 1] != 255}
        p = {(y, x) for y, x in valid if cells[y, x, 0]}
        t = {(y, x) for y, x in valid if cells[y, x, 1] == 1}
        ious.append(len(p & t) / len(p | t) if p | t else 1.0)
        boxes.append(slow_box_giou(p, t))
        both_sum, either_sum = both_sum + len(p & t), either_sum + len(p | t)
        back_both += len((valid - p) & (valid - t))
        back_either += len((valid - p) | (valid - t))
    values = measure(overlaps, [False] * len(stack))
    count = len(stack)
    assert values["giou"] == pytest.approx(sum(ious) / count, abs=2e-5)
    assert values["miou"] == pytest.approx(sum(ious) / count)
    assert values["ciou"] == pytest.approx(both_sum / either_sum if either_sum else 0)
    assert values["box_giou"] == pytest.approx(sum(boxes) / count)
    assert values["class_iou_foreground"] == pytest.approx(both_sum / either_sum if either_sum else 1)
    assert values["class_iou_background"] == pytest.approx(back_both / back_either if back_either else 1)
    for threshold in (50, 70, 90):
        above = sum(value > threshold / 100 for value in ious)
        assert values[f"precision_{threshold}"] == pytest.approx(above / count)


@settings(deadline=None)
@given(st.lists(pictures, min_size=1, max_size=4))
def test_equal_to_scikit_learn_on_the_pixels_that_are_not_ignored(stack: list[np.ndarray]) -> None:
    flat = [cells[cells[..., 1] != 255] for cells in stack]
    overlaps = [overlap(cells[..., 0].astype(bool), cells[..., 1]) for cells in stack]
    for one, cells in zip(overlaps, flat, strict=True):
        if len(cells):
            expected = jaccard_score(cells[:, 1], cells[:, 0], labels=[0, 1], average=None, zero_division=1)[1]
            assert metrics.iou(one) == pytest.approx(expected)
    every = np.concatenate(flat)
    if len(every):
        back, front = jaccard_score(every[:, 1], every[:, 0], labels=[0, 1], average=None, zero_division=1)
        assert metrics.class_iou_background(overlaps) == pytest.approx(back)
        assert metrics.class_iou_foreground(overlaps) == pytest.approx(front)


@settings(deadline=None)
@given(sizes.flatmap(lambda size: st.tuples(*[st.integers(0, 2 ** (size[0] * size[1]) - 1)] * 2, st.just(size))))
def test_box_giou_is_symmetric_and_bounded_by_the_iou_of_the_boxes(case: tuple[int, int, tuple[int, int]]) -> None:
    first, second, (height, width) = case
    one, other = (
        np.array([bits >> place & 1 for place in range(height * width)], dtype=bool).reshape(height, width)
        for bits in (first, second)
    )
    value = overlap(one, other.astype(np.uint8)).box_giou
    assert value == overlap(other, one.astype(np.uint8)).box_giou
    assert -1 <= value <= 1
    assert (value == -1) == (one.any() != other.any())


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        overlap(np.zeros((2, 3), dtype=bool), np.zeros((3, 2), dtype=np.uint8))
    with pytest.raises(ValueError, match="float64"):
        overlap(np.zeros((2, 2)), np.zeros((2, 2), dtype=np.uint8))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no queries"):
        measure([], [])
    with pytest.raises(ValueError, match="1 overlaps and 2 flags"):
        measure([drawn("#")], [True, False])
    with pytest.raises(ValueError, match="no masks"):
        metrics.best_box([])


def test_empty_and_full_baselines_by_hand() -> None:
    truths = [mask_of("11..", "...."), mask_of("...."), mask_of("1xx.")]
    empty, full = metrics.empty_baseline(truths), metrics.full_baseline(truths)
    assert (empty.giou, empty.ciou) == pytest.approx((1 / 3, 0))
    assert (full.giou, full.ciou) == pytest.approx(((2 / 8 + 0 + 1 / 2) / 3, 3 / 14), abs=1e-5)


def test_a_pixel_is_in_a_box_if_its_centre_is() -> None:
    truths = [mask_of(".11.", "....")]
    # Edges at x = 0.52 to 3.48 and at y = 0.4 to 1.4: columns 1 and 2 of row 0.
    assert metrics.box_baseline((0.13, 0.2, 0.87, 0.7), truths).ciou == pytest.approx(1)
    # Edges at x = 0.48 to 3.52: all of row 0.
    assert metrics.box_baseline((0.12, 0.2, 0.88, 0.7), truths).ciou == pytest.approx(2 / 4)


def brute(truths: list[np.ndarray]) -> float:
    """The best gIoU of all boxes of whole pixels, the empty one too; all masks have one size."""
    height, width = truths[0].shape
    best = metrics.empty_baseline(truths).giou
    for (y0, y1), (x0, x1) in product(combinations(range(height + 1), 2), combinations(range(width + 1), 2)):
        values = []
        for truth in truths:
            box = {(y, x) for y in range(y0, y1) for x in range(x0, x1) if truth[y, x] != 255}
            target = {(y, x) for y, x in np.ndindex(truth.shape) if truth[y, x] == 1}
            values.append(len(box & target) / (len(box | target) + 1e-5) if box | target else 1.0)
        best = max(best, sum(values) / len(values))
    return best


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
        lambda size: st.lists(
            st.lists(st.sampled_from([0, 0, 1, 255]), min_size=size[0] * size[1], max_size=size[0] * size[1]).map(
                lambda cells: np.array(cells, dtype=np.uint8).reshape(size)
            ),
            min_size=1,
            max_size=4,
        )
    )
)
def test_the_best_box_is_the_best_of_all(truths: list[np.ndarray]) -> None:
    baseline = metrics.best_box_baseline(truths)
    assert baseline.giou == pytest.approx(brute(truths), abs=5e-6)
    assert baseline.giou >= max(metrics.empty_baseline(truths).giou, metrics.full_baseline(truths).giou) - 5e-6


def test_the_best_box_is_relative_to_pictures_of_any_size() -> None:
    # Targets on the same shares of three pictures, on lines of the grid: x from 1/4 to 5/8, y from 1/2 to 7/8.
    truths = []
    for width, height in ((64, 32), (160, 96), (8, 320)):
        truth = np.zeros((height, width), dtype=np.uint8)
        truth[height // 2 : height * 7 // 8, width // 4 : width * 5 // 8] = 1
        truths.append(truth)
    baseline = metrics.best_box_baseline(truths)
    assert baseline.box == (1 / 4, 1 / 2, 5 / 8, 7 / 8)
    assert (baseline.giou, baseline.ciou) == pytest.approx((1, 1), abs=1e-6)


def test_the_best_box_of_large_masks_is_nearly_the_best_of_all_pixels() -> None:
    random = np.random.default_rng(3)
    truths = []
    for _ in range(5):
        truth = np.zeros((37, 41), dtype=np.uint8)
        x, y = random.integers(0, 15, 2)
        truth[y : y + 18, x : x + 22] = 1
        truths.append(truth)
    areas = np.array([np.pad(truth, ((1, 0), (1, 0))).astype(float).cumsum(0).cumsum(1) for truth in truths])
    best = 0.0
    x0, x1 = np.array(list(combinations(range(42), 2))).T
    for y0, y1 in combinations(range(38), 2):
        both = areas[:, y1, x1] - areas[:, y0, x1] - areas[:, y1, x0] + areas[:, y0, x0]
        ious = both / ((y1 - y0) * (x1 - x0) + 18 * 22 - both)
        best = max(best, float(ious.mean(axis=0).max()))
    reached = metrics.best_box_baseline(truths).giou
    assert best - 0.02 < reached <= best + 1e-9
    assert reached > metrics.full_baseline(truths).giou + 0.1


def test_a_box_can_be_chosen_on_other_masks_than_it_is_measured_on() -> None:
    train, test = [mask_of("11..")], [mask_of(".11.")]
    baseline = metrics.best_box_baseline(test, fit_to=train)
    assert baseline.box == (0, 0, 0.5, 1)
    assert (baseline.giou, baseline.ciou) == pytest.approx((1 / 3, 1 / 3), abs=1e-5)
    assert metrics.best_box_baseline(test).giou == pytest.approx(1, abs=1e-5)


def test_the_empty_box_is_the_best_where_most_targets_are_empty() -> None:
    truths = [mask_of("...."), mask_of("...."), mask_of("11..")]
    assert metrics.best_box_baseline(truths) == metrics.empty_baseline(truths)
    assert math.isclose(metrics.empty_baseline(truths).giou, 2 / 3)


def test_an_unread_reply_is_wrong_in_every_metric_also_where_nothing_is_meant() -> None:
    nothing, something = np.zeros((4, 5), dtype=np.uint8), np.zeros((4, 5), dtype=np.uint8)
    something[0, :2], something[3, 0] = 1, 255
    for truths in ([nothing], [something], [nothing, something], [np.full((2, 2), 255, dtype=np.uint8)]):
        values = metrics.measure([metrics.unread(truth) for truth in truths], [True] * len(truths))
        assert values.pop("box_giou") == -1 and set(values.values()) == {0}
    # Beside a right answer of 2 pixels: 2 of them together with the whole picture, of which nothing is right.
    right = metrics.overlap(something == 1, something)
    assert metrics.ciou([right, metrics.unread(nothing)]) == pytest.approx(2 / 22)
    assert metrics.class_iou_background([right, metrics.unread(something)]) == pytest.approx(17 / 36)
