from __future__ import annotations

import csv
import re
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label  # type: ignore[import-untyped]

from foveal.errors import UserError
from foveal.examples import SPLITS, Split
from foveal.tasks.blindtest.drawing.bars import Look
from foveal.tasks.blindtest.drawing.colours import BLACK, WHITE
from foveal.tasks.blindtest.generate import Scenes
from foveal.tasks.blindtest.puzzle import PuzzleData, PuzzleMake
from foveal.tasks.blindtest.squares import (
    LABELS,
    LENGTH,
    ORIGIN,
    POINT,
    UNITS,
    Box,
    Scene,
    Squares,
    read_label,
)
from foveal.tasks.registry import find_task

STYLES = ("paper", "varied")
QUESTIONS = [Squares.first.text, Squares.second.text]


def squares(**data: Any) -> Squares:
    return Squares(PuzzleData(**data))


def ink(image: Image.Image) -> NDArray[Any]:
    """How far each pixel differs from the one in the corner, up to 1."""
    pixels = np.asarray(image.convert("L"), np.float32)
    far = np.abs(pixels - pixels[0, 0])
    found: NDArray[Any] = far / far.max()
    return found


def runs(line: NDArray[Any]) -> int:
    """How many runs of ink there are along a line of pixels."""
    dark = np.concatenate(([False], line > 0.4, [False]))
    return int(np.count_nonzero(dark[1:] & ~dark[:-1]))


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of 255."""
    return float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean())


@pytest.mark.parametrize("style", STYLES)
def test_scenes_are_what_their_index_says(style: str) -> None:
    scenes = Scenes(Squares, style, 224, "train", 3)
    for index in range(400):
        scene = scenes(index)
        assert scene.label == scenes.label(index) == len(scene.boxes)
        assert scene.truths == (scene.label, scene.label)
        width = scene.width
        for left, top, right, bottom in scene.boxes:
            assert abs((right - left) - (bottom - top)) <= UNITS // 1000
            assert right - left > width + 45
            assert min(left, top) - width / 2 >= 0 and max(right, bottom) + width / 2 <= UNITS
        for (l1, t1, r1, b1), (l2, t2, r2, b2) in pairwise(scene.boxes):
            # There is ground between any two.
            assert min(l2 - l1, t2 - t1, r1 - r2, b1 - b2) > width + 15


@pytest.mark.parametrize("style", STYLES)
def test_outlines_can_be_counted_in_the_pixels(style: str) -> None:
    for index in range(30):
        scene = Scenes(Squares, style, 1000, "test", 1)(index)
        amount = ink(scene.draw(1000))
        assert label(amount < 0.4)[1] == label(amount > 0.4, np.ones((3, 3)))[1] + 1 == scene.label + 1
        left, top, right, bottom = scene.boxes[-1]
        x, y = (left + right) // 20, (top + bottom) // 20
        # From the innermost square's middle every way out crosses each outline once.
        ways = amount[y, :x], amount[y, x:], amount[:y, x], amount[y:, x]
        assert [runs(way) for way in ways] == [scene.label] * 4


def test_the_papers_geometry() -> None:
    scenes = [Scenes(Squares, "paper", 224, "train", 0)(i) for i in range(1500)]
    sides, centres = [], []
    for scene in scenes:
        odd = 5 if round(scene.width / POINT) == 2 else 0
        assert all(v % 10 == odd for box in scene.boxes for v in box)
        left, top, right, bottom = scene.boxes[0]
        sides.append((right - left) / LENGTH)
        middle = (left + right) / 2 - odd, (top + bottom) / 2 - odd
        centres.append([(v - o) / LENGTH for v, o in zip(middle, ORIGIN, strict=True)])
        for outer, inner in pairwise(box[2] - box[0] for box in scene.boxes):
            assert inner == pytest.approx(0.75 * outer - 0.75 * LENGTH, abs=18)
    assert (min(sides), max(sides)) == pytest.approx((8, 18), abs=0.1)
    assert (np.min(centres), np.max(centres)) == pytest.approx((-5, 5), abs=0.1)
    assert np.mean(centres, 0) == pytest.approx((0, 0), abs=0.2)
    widths = Counter(round(s.width / POINT, 6) for s in scenes)
    assert sorted(widths) == [2, 3, 4] and min(widths.values()) > 400
    assert {(s.look.ink, s.look.ground, s.look.kernel) for s in scenes} == {(BLACK, WHITE, "bilinear")}
    assert Scenes(Squares, "paper", 1000, "train", 0)(0).look.kernel == "box"


def test_varied_pictures_vary() -> None:
    scenes = [Scenes(Squares, "varied", 224, "train", 0)(i) for i in range(1000)]
    plain = [s for s in scenes if (s.look.ink, s.look.ground) == (BLACK, WHITE)]
    assert 500 < len(plain) < 750
    assert len({(s.width, s.look) for s in scenes}) > 900
    sides = [(s.boxes[0][2] - s.boxes[0][0]) / UNITS for s in scenes]
    assert min(sides) < 0.22 and max(sides) > 0.88
    widths = [s.width / POINT for s in scenes]
    assert min(widths) < 2 and max(widths) > 7
    assert {s.look.kernel for s in scenes} == {"box", "bilinear", "bicubic"}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [32, 97, 224])
def test_scenes_draw(style: str, size: int) -> None:
    for split in SPLITS:
        for index in range(20):
            image = Scenes(Squares, style, size, split, 1).draw(index)
            assert (image.size, image.mode) == ((size, size), "RGB")
            assert np.ptp(np.asarray(image, int)) > 15


@pytest.mark.parametrize("scale", [0.2, 4.0])
def test_widths_scale(scale: float) -> None:
    plain, scaled = (Scenes(Squares, "paper", 448, "train", 0, k)(3) for k in (1.0, scale))
    assert scaled.boxes == plain.boxes
    assert scaled.width == pytest.approx(scale * plain.width)
    assert scaled.draw(448).size == (448, 448)


def test_no_geometry_is_in_two_splits() -> None:
    found: dict[Split, set[Any]] = {split: set() for split in SPLITS}
    for style in STYLES:
        for seed in (0, 1):
            for split in SPLITS:
                scenes = Scenes(Squares, style, 224, split, seed)
                found[split] |= {s.geometry for s in map(scenes, range(300))}
    assert all(len(keys) == 1200 for keys in found.values())
    for a, b in combinations(SPLITS, 2):
        assert not found[a] & found[b]


@pytest.mark.parametrize(("split", "count"), [("train", 129), ("validation", 400)])
def test_splits_are_balanced(split: Split, count: int) -> None:
    examples = squares(**{split: count}).load(split).examples
    counts = Counter(examples[i].truth for i in range(count))
    assert set(counts) == set(LABELS) and max(counts.values()) - min(counts.values()) <= 1


# The published pictures.


def traced(image: Image.Image, count: int, width: int) -> list[Box]:
    """Outlines of a published picture: each is what is outermost once the one around it is wiped away."""
    left_over, boxes = 255 - np.asarray(image.convert("L"), int), []
    for _ in range(count):
        y, x = np.nonzero(left_over)
        left, top, right, bottom = x.min(), y.min(), x.max() + 1, y.max() + 1
        hole = left_over[top + width : bottom - width, left + width : right - width].copy()
        left_over[top:bottom, left:right] = 0
        left_over[top + width : bottom - width, left + width : right - width] = hole
        half = width / 2
        boxes.append(tuple(round(10 * v) for v in (left + half, top + half, right - half, bottom - half)))
    assert not left_over.any()
    return boxes


def test_published_pictures_have_our_look(real_data: Path) -> None:
    folder = real_data / "blindtest" / "nested_squares"
    labels = published_labels(folder)
    for number, path in enumerate(sorted(folder.iterdir())[::2]):
        points = int(path.stem[-1])
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        boxes = traced(image, labels[path.name], {2: 3, 3: 6, 4: 6}[points])
        # Generated ones have these shapes and sizes.
        for (left, top, right, bottom), inner in pairwise(boxes):
            assert inner[2] - inner[0] == pytest.approx(0.75 * (right - left) - 0.75 * LENGTH, abs=25)
            assert inner[3] - inner[1] == pytest.approx(0.75 * (bottom - top) - 0.75 * LENGTH, abs=25)
        assert 7.9 * LENGTH < boxes[0][2] - boxes[0][0] < 18.1 * LENGTH
        # The largest measured differences are 0.007, 0.044 and 0.026; a blank page's are 1.6 to 5.2.
        scene = Scene(tuple(boxes), points * POINT, Look(kernel="box"))
        assert difference(scene.draw(1000), image) < 0.01
        scene = Scene(tuple(boxes), points * POINT, Look())
        for size in (224, 112) if number % 3 == 0 else ():
            small = image.resize((size, size), Image.Resampling.BILINEAR)
            assert difference(scene.draw(size), small) < 0.06


def published_labels(folder: Path) -> dict[str, int]:
    with folder.with_suffix(".csv").open() as table:
        return {row["file"]: int(row["squares"]) for row in csv.DictReader(table)}


def test_loading_published_pictures(real_data: Path) -> None:
    folder = real_data / "blindtest" / "nested_squares"
    task = squares(source=str(folder))
    examples = task.load("test").examples
    assert {e.id: e.truth for e in examples} == published_labels(folder)
    assert task.prompt(examples[0]).opened()[0].mode == "RGB"


# Labels and replies.


def test_the_task() -> None:
    assert find_task("blindtest/squares") is Squares
    task, example = squares(test=1), squares(test=1).load("test").examples[0]
    assert task.prompt(example).user == QUESTIONS[0]
    assert task.prompt(example).answer == f"{{{example.truth}}}"
    assert task.answers() == ("{2}", "{3}", "{4}", "{5}")
    assert squares(wording="short").prompt(example).user == "count squares"
    second = squares(test=1, question="second")
    assert second.prompt(second.load("test").examples[0]).user == QUESTIONS[1]


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_read_back(question: str) -> None:
    task = squares()
    for truth in LABELS:
        for answer in (f"{{{truth}}}", str(truth), f"There are {truth} squares."):
            assert task.parse(answer) == truth
            assert task.parse(f"{question}\n{answer}") == truth
    assert task.parse(question) is None
    assert task.parse("I count {3}, no: {4}") == 4
    assert task.parse("squares") is None


def test_labels() -> None:
    assert [read_label(f" {n} ") for n in LABELS] == list(LABELS)
    for wrong in ("1", "6", "", "two"):
        with pytest.raises(ValueError, match="not 2, 3, 4 or 5"):
            read_label(wrong)


@pytest.mark.parametrize(
    ("name", "cell", "message"),
    [
        ("nested_squares_depth_7_image_1_thickness_2.png", None, "the number of squares is '7', not 2, 3, 4 or 5"),
        ("nested_squares_depth_3_image_1_thickness_2.png", "4", "squares is 4, but the name of .* says 3"),
        ("nested_squares_depth_3_image_1_thickness_2.png", "x", "the number of squares is 'x'"),
    ],
)
def test_wrong_published_labels(tmp_path: Path, name: str, cell: str | None, message: str) -> None:
    folder = tmp_path / "squares"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / name)
    if cell is not None:
        folder.with_suffix(".csv").write_text(f"file,squares\n{name},{cell}\n")
    with pytest.raises(UserError, match=re.compile(message)):
        squares(source=str(folder)).load("test")


def test_making_and_loading(tmp_path: Path) -> None:
    folder = Squares.make(PuzzleMake(str(tmp_path / "set"), split="test", num_images=2, image_size=64, style="varied"))
    with (folder / "test" / "metadata.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [len(row["boxes"].split(";")) for row in rows] == [int(row["label"]) for row in rows]
    saved = squares(source=str(folder)).load("test").examples
    made = squares(test=8, image_size=64, style="varied").load("test").examples
    assert [(e.truth, e.images[0].open().tobytes()) for e in saved] == [
        (e.truth, e.images[0].open().tobytes()) for e in made
    ]


def test_pictures_stay_the_same_from_version_to_version() -> None:
    scenes = [Scenes(Squares, style, 224, "test", 0)(0) for style in STYLES]
    assert [s.boxes[-1] for s in scenes] == [(4660, 4940, 6310, 6590), (3561, 3372, 9142, 8953)]
