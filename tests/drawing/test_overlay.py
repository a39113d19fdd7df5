from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from foveal.drawing.overlay import PALETTE, mask_image, overlay

WIDTH, HEIGHT = 80, 60


def picture(size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def rectangle(left: int, top: int, right: int, bottom: int, value: int = 1) -> Any:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[top:bottom, left:right] = value
    return mask


def test_only_masks_are_changed_and_the_picture_is_not() -> None:
    image = picture()
    before = np.array(image)
    masks = [rectangle(5, 5, 30, 25), rectangle(40, 10, 70, 50) > 0]
    shown = np.asarray(overlay(image, masks))
    covered = (masks[0] > 0) | masks[1]
    assert np.array_equal(shown[~covered], before[~covered])
    assert (shown[covered] != before[covered]).any(axis=-1).mean() > 0.95
    assert np.array_equal(np.asarray(image), before)
    assert np.array_equal(np.asarray(overlay(image, [])), before)


def test_contours_are_two_pixels_wide_inside_the_mask_and_the_rest_is_tinted() -> None:
    image = picture()
    shown = np.asarray(overlay(image, [rectangle(5, 5, 30, 25), rectangle(40, 10, 70, 50)], alpha=0.25))
    for colour, (left, top, right, bottom) in zip(PALETTE, ((5, 5, 30, 25), (40, 10, 70, 50)), strict=False):
        inner = rectangle(left + 2, top + 2, right - 2, bottom - 2) > 0
        contour = (rectangle(left, top, right, bottom) > 0) & ~inner
        assert (shown[contour] == colour).all()
        expected = 0.75 * np.asarray(image)[inner] + 0.25 * np.array(colour)
        assert np.abs(shown[inner] - expected).max() <= 0.5


def test_a_mask_at_the_edge_of_the_picture_has_its_contour_there() -> None:
    shown = np.asarray(overlay(picture(), [rectangle(0, 0, WIDTH, HEIGHT)]))
    for line in (shown[:2], shown[-2:], shown[:, :2], shown[:, -2:]):
        assert (line == PALETTE[0]).all()
    assert not (shown[2:-2, 2:-2] == PALETTE[0]).all(axis=-1).any()


def test_a_single_pixel_is_all_contour() -> None:
    mask = rectangle(7, 9, 8, 10)
    shown, before = np.asarray(overlay(picture(), [mask])), np.asarray(picture())
    assert (shown[9, 7] == PALETTE[0]).all()
    assert (shown != before).any(axis=-1).sum() == 1


def test_later_masks_lie_on_earlier_ones_and_colours_start_again() -> None:
    masks = [rectangle(10, 10, 30, 30)] * (len(PALETTE) + 2)
    assert tuple(np.asarray(overlay(picture(), masks))[10, 10]) == PALETTE[1]
    assert len(set(PALETTE)) == len(PALETTE) == 7


def test_colours_are_far_apart_in_any_colour_vision() -> None:
    # Protanopia, deuteranopia and tritanopia in linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
    visions = [
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
    linear = (np.array(PALETTE) / 255) ** 2.2
    for vision in visions:
        seen = 255 * np.clip(linear @ np.array(vision).T, 0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(seen[:, None] - seen, axis=-1)[~np.eye(len(PALETTE), dtype=bool)]
        assert apart.min() > 30
        # The first ones, which are used most, are farther apart.
        assert np.linalg.norm(seen[:3, None] - seen[:3], axis=-1)[~np.eye(3, dtype=bool)].min() > 60


def test_the_truth_is_a_white_and_a_black_line_around_it() -> None:
    image = Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 60))
    shown = np.asarray(overlay(image, [], truth=rectangle(20, 15, 50, 40)))
    near, far = rectangle(19, 14, 51, 41) > 0, rectangle(18, 13, 52, 42) > 0
    inside = rectangle(20, 15, 50, 40) > 0
    assert (shown[near & ~inside] == 255).all()
    assert (shown[far & ~near] == 16).all()
    assert (shown[inside | ~far] == (90, 120, 60)).all()


def test_an_exact_prediction_is_seen_inside_the_truth() -> None:
    mask = rectangle(20, 15, 50, 40)
    alone, both = (np.asarray(overlay(picture(), [mask], truth=truth)) for truth in (None, mask))
    assert np.array_equal(both[mask > 0], alone[mask > 0])


def test_a_truth_at_the_edge_of_the_picture_has_its_lines_inside() -> None:
    shown = np.asarray(overlay(picture(), [], truth=rectangle(0, 0, WIDTH, HEIGHT)))
    assert (shown[0] == 16).all() and (shown[:, -1] == 16).all()
    assert (shown[1, 1:-1] == 255).all() and (shown[1:-1, -2] == 255).all()
    assert np.array_equal(shown[2:-2, 2:-2], np.asarray(picture())[2:-2, 2:-2])


def test_ignored_pixels_are_hatched() -> None:
    image = Image.new("RGB", (WIDTH, HEIGHT), (128, 128, 128))
    shown = np.asarray(overlay(image, [], truth=rectangle(20, 12, 56, 48, 255))).astype(int)[..., 0]
    ignored = rectangle(20, 12, 56, 48) > 0
    assert (shown[~ignored] == 128).all()
    # Of 12 pixels in a row 2 are light, 2 are dark and 8 are as they were.
    light, dark = (shown[ignored] > 200).mean(), (shown[ignored] < 60).mean()
    assert (light, dark, (shown[ignored] == 128).mean()) == pytest.approx((1 / 6, 1 / 6, 2 / 3))
    # Ignored pixels of a mask are not of it.
    assert np.array_equal(np.asarray(overlay(image, [rectangle(20, 12, 56, 48, 255)])), np.asarray(image))


def test_sizes_are_kept_up_to_a_longest_side() -> None:
    for size in ((1, 1), (3, 2), (WIDTH, HEIGHT), (2048, 10)):
        shown = overlay(picture(size), [np.ones((size[1], size[0]), dtype=np.bool_)], truth=None)
        assert (shown.size, shown.mode) == (size, "RGB")
    large = np.zeros((1000, 4096), dtype=np.bool_)
    large[200:600, 1000:3000] = True
    shown = overlay(Image.new("RGB", (4096, 1000)), [large])
    assert shown.size == (2048, 500)
    rows, columns = np.nonzero(np.asarray(shown).any(axis=-1))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (500, 100, 1500, 300)
    assert overlay(picture(), [rectangle(0, 0, 9, 9)], truth=rectangle(0, 0, 9, 9), side=40).size == (40, 30)
    assert overlay(Image.new("RGB", (5000, 1)), [], side=100).size == (100, 1)


def test_tiny_pictures_with_a_truth_keep_their_size() -> None:
    for size in ((1, 1), (2, 3), (5, 1)):
        truth = np.ones((size[1], size[0]), dtype=np.uint8)
        assert overlay(picture(size), [truth], truth=truth).size == size


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a mask of shape \(80, 60\) on a picture of 80 x 60"):
        overlay(picture(), [rectangle(0, 0, 5, 5).T])
    with pytest.raises(ValueError, match="a mask of shape"):
        overlay(picture(), [], truth=rectangle(0, 0, 5, 5)[:-1])


def test_mask_pictures_are_black_and_white() -> None:
    mask = rectangle(3, 4, 10, 12) + rectangle(20, 4, 30, 12, 255)
    stream = io.BytesIO()
    mask_image(mask).save(stream, "PNG")
    with Image.open(stream) as back:
        assert back.mode == "L"
        assert np.array_equal(np.asarray(back), 255 * (mask == 1))
    assert np.array_equal(np.asarray(mask_image(mask == 1)), np.asarray(mask_image(mask)))
