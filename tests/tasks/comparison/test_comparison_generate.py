from __future__ import annotations

import itertools
import pickle
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label
from scipy.stats import spearmanr

from foveal.examples import SPLITS
from foveal.tasks.comparison.generate import (
    QUALITIES,
    RANGES,
    Quality,
    Synthetic,
    amount,
    blob,
    line,
    polygon_area,
)


def ink_share(image: Image.Image) -> np.ndarray:
    """How far each pixel is of the ink's colour, the rarer of the two."""
    pixels = np.asarray(image, float)
    ground = pixels[0, 0]
    distance = np.abs(pixels - ground).sum(2)
    return distance / distance.max()


def measured(quality: Quality, image: Image.Image) -> float:
    """How much of the quality a picture has, from its pixels alone."""
    if quality == "brightness":
        return float(np.asarray(image, float).mean((0, 1)) @ (0.299, 0.587, 0.114))
    ink = ink_share(image)
    if quality == "dots":
        return float(label(ink > 0.5)[1])
    if quality == "area":
        return float(ink.mean())
    y, x = np.nonzero(ink > 0.5)
    # The direction of the largest spread.
    _, vectors = np.linalg.eigh(np.cov(x, y))
    return float(np.degrees(np.arctan2(abs(vectors[1, 1]), abs(vectors[0, 1]))))


TOLERANCE = {"dots": 0.0, "area": 0.002, "brightness": 0.5, "slope": 1.0}


@pytest.mark.parametrize("size", [64, 112, 224, 448])
@pytest.mark.parametrize("quality", QUALITIES)
def test_pictures_show_what_their_score_says(quality: Quality, size: int) -> None:
    rows = Synthetic(quality, 16, image_size=size, seed=size)
    for i, row in enumerate(rows):
        image = row.picture.open()
        assert image.size == (size, size) and image.mode == "RGB"
        assert measured(quality, image) == pytest.approx(amount(quality, rows.parts(i)), abs=TOLERANCE[quality])


@pytest.mark.parametrize("quality", QUALITIES)
def test_scores_are_sixtieths_from_1_to_5_spread_evenly_and_rising_with_the_quality(quality: Quality) -> None:
    rows = Synthetic(quality, 3000)
    parts = [rows.parts(i) for i in range(3000)]
    assert rows[17].score == Fraction(parts[17], 60) and rows[17].id == "00017"
    levels = sorted(set(parts))
    assert (levels[0], levels[-1], len(levels)) == (60, 300, 61 if quality == "dots" else 241)
    assert np.histogram(parts, 4, (60, 301))[0] == pytest.approx(750, abs=120)
    amounts = [amount(quality, level) for level in levels]
    assert all(a < b for a, b in itertools.pairwise(amounts))
    assert (amounts[0], amounts[-1]) == RANGES[quality]
    if quality == "dots":
        assert amounts == list(range(4, 65))


@pytest.mark.parametrize("quality", QUALITIES)
def test_pictures_depend_on_quality_seed_split_and_index_alone(quality: Quality) -> None:
    rows = Synthetic(quality, 10, image_size=64)
    longer = Synthetic(quality, 20, image_size=64)
    for i in range(10):
        assert rows[i].score == longer[i].score
        assert rows[i].picture.open().tobytes() == longer[i].picture.open().tobytes()
    others = [Synthetic(quality, 10, split, seed, 64) for split in SPLITS for seed in (0, 1)]
    pictures = Counter(r.picture.open().tobytes() for o in others for r in o)
    assert len(pictures) == 60
    copy = pickle.loads(pickle.dumps(rows[3]))
    assert copy.picture.open().tobytes() == rows[3].picture.open().tobytes()


@pytest.mark.parametrize("quality", ["dots", "area", "slope"])
def test_brightness_and_colours_tell_nothing_of_the_score(quality: Quality) -> None:
    rows = Synthetic(quality, 400, image_size=64)
    corners = [np.asarray(r.picture.open(), float)[0, 0] for r in rows]
    for channel in np.transpose(corners):
        assert spearmanr(channel, [float(r.score) for r in rows]).pvalue > 0.001


def test_texture_and_tinge_tell_nothing_of_the_brightness_but_for_its_room() -> None:
    rows = Synthetic("brightness", 300, image_size=64)
    # Between 85 and 170 every brightness has as much room for a pattern.
    middle = [i for i in range(300) if 100 < amount("brightness", rows.parts(i)) < 155]
    pixels = [np.asarray(rows.draw(i), float) for i in middle]
    room = [min(amount("brightness", rows.parts(i)), 255 - amount("brightness", rows.parts(i))) for i in middle]
    contrast = [p.std() / r for p, r in zip(pixels, room, strict=True)]
    red = [(p[..., 0] - p[..., 1]).mean() / r for p, r in zip(pixels, room, strict=True)]
    for feature in (contrast, red):
        assert spearmanr(feature, [rows.parts(i) for i in middle]).pvalue > 0.001
    assert all(p.min() >= 0 and p.max() <= 255 and p.std() > 1 for p in pixels)


def test_blobs_have_their_area_inside_the_picture() -> None:
    rng = random.Random(0)
    for _ in range(300):
        area = rng.uniform(*RANGES["area"])
        points = blob(area, rng)
        assert polygon_area(points) == pytest.approx(area, rel=1e-9)
        assert all(0.029 < v < 0.971 for point in points for v in point)


def test_area_by_hand() -> None:
    assert polygon_area([(0, 0), (2, 0), (2, 1), (0, 1)]) == 2
    assert polygon_area([(0, 0), (0, 1), (1, 0)]) == 0.5


def test_lines_rise_and_fall_as_often_inside_the_picture() -> None:
    rng = random.Random(0)
    rising = 0
    for _ in range(400):
        angle = rng.uniform(*RANGES["slope"])
        (x, y), (u, v) = line(angle, rng)
        assert np.degrees(np.arctan2(abs(v - y), u - x)) == pytest.approx(angle)
        assert all(0.02 < c < 0.98 for c in (x, y, u, v))
        rising += v < y
    assert 150 < rising < 250


def test_slices_and_indices() -> None:
    rows = Synthetic("area", 5)
    assert [r.id for r in rows[1:4]] == ["00001", "00002", "00003"] and rows[-1].id == "00004" and len(rows) == 5
    with pytest.raises(IndexError):
        rows[5]
