from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from foveal.errors import UserError
from foveal.tasks.segmentation.rle import area, box, decode, encode


def noise(height: int, width: int, share: float) -> Any:
    return np.random.default_rng(5).random((height, width)) < share


def one_pixel(height: int, width: int, row: int, column: int) -> Any:
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[row, column] = True
    return mask


def blocks() -> Any:
    """Large areas with some holes: lengths of several characters and negative differences."""
    mask = np.kron(noise(7, 10, 0.5), np.ones((100, 100), dtype=np.bool_))
    return mask ^ noise(700, 1000, 0.0005)


MASKS = {
    "empty": noise(4, 5, 0),
    "full": noise(4, 5, 1),
    "one pixel of one": noise(1, 1, 1),
    "first pixel": one_pixel(6, 3, 0, 0),
    "last pixel": one_pixel(6, 3, 5, 2),
    "middle pixel": one_pixel(37, 53, 20, 30),
    "row": noise(1, 300, 0.5),
    "column": noise(300, 1, 0.5),
    "noise": noise(60, 80, 0.5),
    "large empty": noise(700, 1000, 0),
    "large full": noise(700, 1000, 1),
    "large noise": noise(700, 1000, 0.3),
    "large blocks": blocks(),
    "large one pixel": one_pixel(700, 1000, 400, 700),
    "no pixels": np.zeros((0, 3), dtype=np.bool_),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_counts_are_those_of_pycocotools(mask: Any) -> None:
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode(mask)
    assert ours["counts"] == theirs["counts"].decode("ascii")
    assert ours["size"] == theirs["size"] == [*mask.shape]
    assert np.array_equal(decode(ours), mask)
    assert np.array_equal(decode(theirs), mask)
    assert area(ours) == mask.sum()


def test_a_hand_worked_mask() -> None:
    # By columns: 0 1 | 1 1 | 1 0 | 0 0.
    mask = np.array([[0, 1, 1, 0], [1, 1, 0, 0]], dtype=np.bool_)
    assert encode(mask) == {"size": [2, 4], "counts": "143"}
    assert np.array_equal(decode({"size": [2, 4], "counts": [1, 4, 3]}), mask)
    assert area({"size": [2, 4], "counts": [1, 4, 3]}) == 4
    # The background has length 0 before a mask that begins at the first pixel.
    assert encode(~mask) == {"size": [2, 4], "counts": "0142"}  # the fourth, 3, as 3 - 1
    assert box(mask) == (0, 0, 3, 2)


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_round_trip(mask: Any) -> None:
    rle = encode(mask)
    assert rle["counts"] == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode("ascii")
    assert np.array_equal(decode(rle), mask)
    assert area(rle) == mask.sum()


@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=30))
def test_any_lengths_are_read_compressed_or_not(counts: list[int]) -> None:
    # pycocotools compresses lists of lengths, also such that no mask would give, with 0 in the middle.
    size = [1, sum(counts)]
    theirs = coco.frPyObjects({"size": size, "counts": counts}, *size)
    mask = decode({"size": size, "counts": counts})
    assert np.array_equal(mask, decode(theirs))
    assert np.array_equal(mask, coco.decode(theirs).astype(np.bool_))
    assert area(theirs) == sum(counts[1::2])


def test_all_that_is_not_zero_is_encoded() -> None:
    mask = np.array([[0, 1, 255]], dtype=np.uint8)
    assert encode(mask) == encode(mask > 0)
    with pytest.raises(ValueError, match="3 axes"):
        encode(np.zeros((1, 2, 3), dtype=np.bool_))


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"counts": "143"}, "size"),
        ({"size": [2, 4, 1], "counts": "143"}, "size"),
        ({"size": [2.0, 4], "counts": "143"}, "size"),
        ({"size": [-2, -4], "counts": "143"}, "size"),
        ({"size": [True, 8], "counts": "143"}, "size"),
        ({"size": "24", "counts": "143"}, "size"),
        ({"size": [2, 4]}, "neither a compressed text nor a list"),
        ({"size": [2, 4], "counts": [1, 4.0, 3]}, "neither a compressed text nor a list"),
        ({"size": [2, 4], "counts": [9, -4, 3]}, "neither a compressed text nor a list"),
        ({"size": [2, 4], "counts": {"1": 4}}, "neither a compressed text nor a list"),
        ({"size": [2, 4], "counts": "14 3"}, "characters"),
        ({"size": [2, 4], "counts": "14é"}, "characters"),
        ({"size": [2, 4], "counts": "14\udcff"}, "characters"),
        ({"size": [2, 4], "counts": "14p"}, "characters"),
        ({"size": [2, 4], "counts": "14P"}, "cut off"),
        ({"size": [2, 4], "counts": "o" * 40 + "0"}, "too long"),
        ({"size": [2, 4], "counts": "144"}, "add up to the 4 x 2 pixels"),
        ({"size": [2, 4], "counts": "O9"}, "add up to the 4 x 2 pixels"),
        ({"size": [2, 4], "counts": ""}, "add up to the 4 x 2 pixels"),
        ({"size": [2, 4], "counts": []}, "add up to the 4 x 2 pixels"),
        ({"size": [2, 4], "counts": [10**30, 8]}, "add up to the 4 x 2 pixels"),
        ({"size": [100_000, 100_000], "counts": [10**10]}, "limit of 64,000,000"),
    ],
)
def test_malformed_run_lengths_are_refused_in_a_sentence(rle: dict[str, Any], message: str) -> None:
    for function in (decode, area):
        with pytest.raises(UserError, match=message) as error:
            function(rle, name="a.json, annotation 3")
        assert re.fullmatch(r"a\.json, annotation 3: [^\n]*\.", str(error.value))


def test_the_limit_is_that_of_pictures() -> None:
    rle = encode(np.ones((20, 20), dtype=np.bool_))
    with pytest.raises(UserError, match="20 x 20 pixels are more than the limit of 399"):
        decode(rle, max_pixels=399)
    assert decode(rle, max_pixels=400).sum() == 400


@given(st.text(max_size=12) | st.text(alphabet=[chr(c) for c in range(48, 112)], max_size=12))
def test_no_text_is_read_other_than_as_a_mask_or_a_refusal(text: str) -> None:
    try:
        mask = decode({"size": [3, 4], "counts": text})
    except UserError:
        return
    assert mask.shape == (3, 4)
    assert np.array_equal(mask, coco.decode({"size": [3, 4], "counts": text.encode()}).astype(np.bool_))


def test_boxes_are_outer_edges() -> None:
    assert box(one_pixel(5, 7, 0, 0)) == (0, 0, 1, 1)
    assert box(one_pixel(5, 7, 4, 6)) == (6, 4, 7, 5)
    assert box(one_pixel(5, 7, 1, 2) | one_pixel(5, 7, 3, 4)) == (2, 1, 5, 4)
    assert box(np.zeros((5, 7), dtype=np.bool_)) is None
    for seed in range(20):
        mask = np.random.default_rng(seed).random((30, 40)) < 0.003
        left, top, width, height = coco.toBbox(coco.encode(np.asfortranarray(mask.astype(np.uint8))))
        # pycocotools takes whole columns where a run wraps from one to the next; scattered pixels do not.
        assert (box(mask) or (0, 0, 0, 0)) == (left, top, left + width, top + height)
