from __future__ import annotations

import csv
import errno
import os
import re
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from polylines import count_intersections

from foveal.errors import ImageError, UserError
from foveal.examples import SPLITS, Example, Split
from foveal.results import Prediction
from foveal.tasks.blindtest.drawing.strokes import Pen
from foveal.tasks.blindtest.generate import Scenes
from foveal.tasks.blindtest.lines import (
    BLUE,
    LABELS,
    ON_TICKS,
    PAPER_X,
    POINT,
    RED,
    TICKS,
    UNITS,
    Lines,
    LinesData,
    LinesMake,
    Look,
    Scene,
    meetings,
)
from foveal.tasks.registry import find_task
from foveal.tasks.task import Task

STYLES = ("paper", "tutorial", "varied")
PUBLISHED = re.compile(r"gt_(\d)_image_(\d+)_thickness_(\d)_resolution_(\d+)\.png")
height = st.integers(0, 40)
heights = st.tuples(height, height, height)


def lines(**data: Any) -> Lines:
    return Lines(LinesData(**data))


def points(scene: Scene) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    return list(zip(scene.x, scene.blue, strict=True)), list(zip(scene.x, scene.red, strict=True))


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of 255."""
    return float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean())


@given(heights, heights, st.lists(st.integers(0, 50), min_size=3, max_size=3, unique=True).map(sorted))
def test_the_label_is_the_exact_count(blue: Any, red: Any, x: list[int]) -> None:
    if all(b != r for b, r in zip(blue, red, strict=True)):
        a, b = list(zip(x, blue, strict=True)), list(zip(x, red, strict=True))
        assert meetings(blue, red) == count_intersections(a, b)


@pytest.mark.parametrize("style", STYLES)
def test_scenes_are_what_their_index_says(style: str) -> None:
    scenes = Scenes(Lines, style, 224, "train", 3)
    for index in range(300):
        scene = scenes(index)
        assert scene.label == scenes.label(index) == count_intersections(*points(scene))
        # Sampled densely, the order of the lines changes as often as they meet.
        x = np.linspace(scene.x[0], scene.x[2], 5003)
        above = np.interp(x, scene.x, scene.blue) < np.interp(x, scene.x, scene.red)
        assert np.count_nonzero(above[1:] != above[:-1]) == scene.label
        assert all(0 < v < UNITS for v in (*scene.x, *scene.blue, *scene.red))
        assert scene.x[0] < scene.x[1] < scene.x[2]


def test_the_papers_geometry() -> None:
    scenes = [Scenes(Lines, "paper", 224, "train", 0)(i) for i in range(2000)]
    assert {s.x for s in scenes} == {PAPER_X}
    for place in range(3):
        for line in ("blue", "red"):
            assert {getattr(s, line)[place] for s in scenes} == set(TICKS)
        assert all(s.blue[place] != s.red[place] for s in scenes)
    for line in (line for s in scenes for line in (s.blue, s.red)):
        for a, b in pairwise(line):
            assert not (a == b and a in (TICKS[0], TICKS[-1]))
    widths = Counter(round(s.look.pen.width, 3) for s in scenes)
    assert sorted(widths) == [1.244, 2.489]
    assert min(widths.values()) > 900
    assert {(s.look.blue, s.look.red, s.look.ground) for s in scenes} == {(BLUE, RED, (255, 255, 255))}


@pytest.mark.parametrize("size", [224, 448])
def test_the_tutorials_geometry(size: int) -> None:
    scale = size / 224
    for index in range(500):
        scene = Scenes(Lines, "tutorial", size, "train", 0)(index)
        pixels = np.array([scene.x, scene.blue, scene.red]) * size / UNITS - 0.5
        whole = np.rint(pixels)
        assert np.abs(pixels - whole).max() < 0.03
        assert np.all(np.abs(whole[1] - whole[2]) > 2 * 2 * scale)
        for x, start in zip(whole[0], (0.01, 0.34, 0.67), strict=True):
            assert np.floor(start * size) <= x <= np.floor((start + 0.32) * size)


def test_varied_pictures_vary_and_are_never_published_ones() -> None:
    scenes = [Scenes(Lines, "varied", 224, "train", 0)(i) for i in range(1000)]
    assert not any(ON_TICKS.issuperset((*s.blue, *s.red)) for s in scenes)
    like_the_paper = [s for s in scenes if s.x == PAPER_X and s.look.ground == (255, 255, 255) and s.look.blue == BLUE]
    assert 400 < len(like_the_paper) < 600
    assert {round(s.look.pen.width / POINT / 224) for s in like_the_paper} == {2, 4}
    assert len({s.look for s in scenes}) > 400
    for s in scenes:
        assert min(abs(b - r) for b, r in zip(s.blue, s.red, strict=True)) / UNITS * 224 >= 2.9 * s.look.pen.width
        assert max(s.look.red) == s.look.red[0] and max(s.look.blue) == s.look.blue[2] and min(s.look.ground) > 200


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [32, 384])
def test_all_styles_and_sizes_draw(style: str, size: int) -> None:
    for split in SPLITS:
        for index in range(20):
            image = Scenes(Lines, style, size, split, 1)(index).draw(size)
            assert image.size == (size, size)
            assert image.mode == "RGB"
            pixels = np.asarray(image, int)
            assert (pixels[..., 0] - pixels[..., 2]).max() > 40 and (pixels[..., 2] - pixels[..., 0]).max() > 40


def test_pictures_stay_the_same_from_version_to_version() -> None:
    scenes = [Scenes(Lines, style, 224, "test", 0)(0) for style in STYLES]
    assert [(s.x, s.blue, s.red) for s in scenes] == [
        ((80, 5000, 9920), (6700, 7500, 80), (9200, 9200, 7500)),
        ((1406, 4531, 9621), (3862, 3594, 6138), (5067, 7344, 9442)),
        ((553, 3549, 9025), (2518, 4029, 907), (4505, 7965, 4357)),
    ]


def test_no_geometry_is_in_two_splits() -> None:
    found: dict[Split, set[tuple[int, ...]]] = {split: set() for split in SPLITS}
    for style in STYLES:
        for seed in (0, 1):
            for split in SPLITS:
                scenes = Scenes(Lines, style, 224, split, seed)
                found[split] |= {(*s.blue, *s.red) for s in map(scenes, range(700))}
    assert all(len(keys) > 4000 for keys in found.values())
    for a, b in combinations(SPLITS, 2):
        assert not found[a] & found[b]


@pytest.mark.parametrize(("split", "count"), [("train", 128), ("validation", 999), ("test", 1)])
def test_splits_are_balanced(split: Split, count: int) -> None:
    loaded = lines(**{split: count}).load(split)
    counts = [sum(e.truth == label for e in loaded.examples) for label in LABELS]
    assert len(loaded.examples) == sum(counts) == count
    assert max(counts) - min(counts) <= 1
    assert split in loaded.source


# The published pictures.


def published(folder: Path) -> list[tuple[Path, int, int, int]]:
    """Path, label, line width in points and side in pixels of each."""
    found = []
    for path in sorted(folder.iterdir()):
        match = PUBLISHED.fullmatch(path.name)
        assert match is not None
        found.append((path, int(match[1]), int(match[3]), int(match[4])))
    return found


def traced(image: Image.Image) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ticks of the blue and the red line, from straight lines fitted to each half's column centroids."""
    pixels = np.asarray(image.convert("RGB"), float)
    size = len(pixels)
    places = (np.arange(size) + 0.5) / size
    found = []
    for own, other in ((2, 0), (0, 2)):
        amount = np.clip(pixels[..., own] - pixels[..., other], 0, 255)
        seen = amount.sum(0) > 100
        centroid = (amount * places[:, None]).sum(0) / np.maximum(amount.sum(0), 1)
        ends = []
        for low, high, start, stop in ((0.03, 0.48, 0.008, 0.5), (0.52, 0.97, 0.5, 0.992)):
            use = seen & (places > low) & (places < high)
            for tolerance in (0.02, 0.004, 0.002, 0.001):  # Leaves out columns where the other line hides this one.
                slope, height = np.polyfit(places[use], centroid[use], 1)
                use &= np.abs(slope * places + height - centroid) < tolerance
            ends.append([slope * start + height, slope * stop + height])
        values = np.array([ends[0][0], (ends[0][1] + ends[1][0]) / 2, ends[1][1]]) * UNITS
        nearest = np.abs(values[:, None] - TICKS).argmin(1)
        assert np.abs(values - np.array(TICKS)[nearest]).max() < 40
        found.append(tuple(TICKS[i] for i in nearest))
    return found[0], found[1]


def test_published_pictures_have_our_geometry_labels_and_look(real_data: Path) -> None:
    folder = real_data / "blindtest" / "line_intersections"
    ticks: set[tuple[int, int]] = set()
    for path, label, points_wide, size in published(folder):
        with Image.open(path) as image:
            blue, red = traced(image)
            scene = Scene(PAPER_X, blue, red, Look(Pen(points_wide * POINT * size, kernel="bicubic")))
            assert count_intersections(*points(scene)) == scene.label == label
            assert all(b != r for b, r in zip(blue, red, strict=True))
            ticks |= set(enumerate(blue)) | set(enumerate(red))
            # The largest measured is 0.065; a blank page differs by 2 to 6.
            assert difference(scene.draw(size), image) < 0.08
            assert difference(Image.new("RGB", image.size, "white"), image) > 1
    assert ticks == {(place, tick) for place in range(3) for tick in TICKS}


def test_loading_published_pictures(real_data: Path) -> None:
    folder = real_data / "blindtest" / "line_intersections"
    with (real_data / "blindtest" / "line_intersections.csv").open() as table:
        labels = {row["file"]: int(row["intersections"]) for row in csv.DictReader(table)}
    task = lines(source=str(folder))
    examples = task.load("test").examples
    assert {e.id: e.truth for e in examples} == labels
    assert task.prompt(examples[0]).opened()[0].mode == "RGB"
    with pytest.raises(UserError, match="serve as the test split"):
        task.load("train")


# The task.


def test_the_task_is_registered() -> None:
    task = find_task("blindtest/lines")
    assert task is Lines
    assert issubclass(task, Task)


def test_prompts_and_answers() -> None:
    example = lines(test=1).load("test").examples[0]
    prompt = lines().prompt(example)
    assert prompt.user == Lines.first.text
    assert prompt.answer == f"{{{example.truth}}}"
    assert prompt.opened()[0].size == (224, 224)
    assert lines().answers() == ("{0}", "{1}", "{2}")
    word = lines(wording="short", answer_format="bare")
    assert word.prompt(example).user == "count"
    assert word.prompt(example).answer == str(example.truth)
    assert word.answers() == ("0", "1", "2")
    second = lines(test=1, question="second").load("test").examples[0]
    assert lines(question="second").prompt(second).user.endswith("curly brackets, e.g., {5}.")
    image = Example("x", example.images)
    assert lines(question="second").prompt(image).user == lines(question="second").prompt(second).user
    assert lines().prompt(Example("x", example.images)).answer is None


@pytest.mark.parametrize("question", [Lines.first.text, Lines.second.text])
@pytest.mark.parametrize("answer_format", ["asked", "bare"])
def test_answers_are_read_back(question: str, answer_format: Any) -> None:
    task = lines(answer_format=answer_format)
    for truth, answer in zip(LABELS, task.answers(), strict=True):
        assert task.parse(answer) == truth
        assert task.parse(f"{question}\n{answer}") == truth
    assert task.parse(question) is None
    assert task.parse("{3}") == 3


def test_metrics_and_chance() -> None:
    task = lines(test=9)
    examples = task.load("test").examples
    said = [Prediction(e.id, e.truth if e.truth else None, "") for e in examples]
    metrics = task.measure(examples, said)
    assert metrics == pytest.approx(
        {"accuracy": 2 / 3, "accuracy_0": 0, "accuracy_1": 1, "accuracy_2": 1, "unparsable": 1 / 3}
    )
    assert task.headline in metrics
    assert task.chance(examples) == pytest.approx(1 / 3)
    assert task.chance([e for e in examples if e.truth != 2]) == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"image_size": 8}, r"data\.image_size: 8 is out of range; give 32 to 4096"),
        ({"train": -1}, r"data\.train: -1 is out of range"),
    ],
)
def test_options_out_of_range(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        lines(**data)


def test_a_split_of_no_pictures() -> None:
    with pytest.raises(UserError, match=r"data\.validation: is 0"):
        lines(validation=0).load("validation")


# Data sets on disk.


def make(folder: Path, **options: Any) -> Path:
    return Lines.make(LinesMake(str(folder), **{"num_images": 4, "image_size": 64, **options}))


def test_making_a_data_set(tmp_path: Path) -> None:
    folder = make(tmp_path / "set", split="validation", seed=2, style="varied")
    assert folder == tmp_path / "set"
    with (folder / "validation" / "metadata.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert Counter(row["label"] for row in rows) == {"0": 4, "1": 4, "2": 4}
    scenes = Scenes(Lines, "varied", 64, "validation", 2)
    for index, row in enumerate(rows):
        assert row["file_name"] == f"{index:05d}.png"
        a, b = (
            [(round(float(row[f"x{i}"]) * UNITS), round(float(row[f"{c}_y{i}"]) * UNITS)) for i in range(3)]
            for c in ("blue", "red")
        )
        assert (a, b) == points(scenes(index))
        assert count_intersections(a, b) == int(row["label"])
        with Image.open(folder / "validation" / row["file_name"]) as image:
            assert image.tobytes() == scenes.draw(index).tobytes()
    card = (folder / "README.md").read_text()
    assert "| seed | 2 |" in card and "| 1 | 4 |" in card and "## Split validation" in card


def test_saved_pictures_equal_generated_ones(tmp_path: Path) -> None:
    make(tmp_path / "set", split="test")
    saved = lines(source=str(tmp_path / "set")).load("test").examples
    generated = lines(test=12, image_size=64).load("test").examples
    assert [e.truth for e in saved] == [e.truth for e in generated]
    for a, b in zip(saved, generated, strict=True):
        assert a.images[0].open().tobytes() == b.images[0].open().tobytes()
    with pytest.raises(UserError, match="no train split, only test"):
        lines(source=str(tmp_path / "set")).load("train")


@pytest.mark.parametrize("call", ["imagefolder", "folder"])
def test_datasets_loads_what_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    datasets = pytest.importorskip("datasets")
    folder = str(tmp_path / "set")
    make(Path(folder), split="train")
    make(Path(folder), split="test", num_images=2)
    cache = str(tmp_path / "cache")
    if call == "imagefolder":
        loaded = datasets.load_dataset("imagefolder", data_dir=folder, cache_dir=cache)
    else:
        loaded = datasets.load_dataset(folder, cache_dir=cache)
    assert {name: rows.num_rows for name, rows in loaded.items()} == {"train": 12, "test": 6}
    assert Counter(loaded["train"]["label"]) == {0: 4, 1: 4, 2: 4}
    assert loaded["train"][0]["image"].size == (64, 64)
    # And back, as parquet.
    loaded["test"].to_parquet(tmp_path / "parquet" / "test.parquet")
    # It holds the paths of the pictures, which lie outside the table's folder.
    with pytest.raises(ImageError, match=r"give its folder as data\.picture_folder\."):
        lines(source=str(tmp_path / "parquet")).load("test")
    again = lines(source=str(tmp_path / "parquet"), picture_folder=folder).load("test").examples
    assert [e.truth for e in again] == list(loaded["test"]["label"])
    assert again[3].images[0].open().size == (64, 64)


def test_dots_per_inch_widen_the_lines(tmp_path: Path) -> None:
    ink = []
    for dpi in (100, 200):
        make(tmp_path / str(dpi), dpi=dpi, image_size=448)
        with Image.open(tmp_path / str(dpi) / "train" / "00000.png") as image:
            assert image.info["dpi"] == pytest.approx((dpi, dpi), abs=0.1)
            ink.append((255 - np.asarray(image, float)).sum())
    assert ink[1] / ink[0] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images": 0}, "--num_images: 0 is out of range"),
        ({"image_size": 5000}, "--image_size: 5000 is out of range; give 32 to 4096"),
        ({"dpi": 1}, "--dpi: 1 is out of range"),
    ],
)
def test_making_with_bad_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(tmp_path / "set", **options)
    with pytest.raises(UserError, match="--folder: is empty"):
        Lines.make(LinesMake(" "))
    assert os.listdir(tmp_path) == []


def test_making_twice(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match="train: exists already"):
        make(tmp_path, seed=1)
    before = (tmp_path / "train" / "00000.png").read_bytes()
    make(tmp_path, overwrite=True)
    assert (tmp_path / "train" / "00000.png").read_bytes() == before
    make(tmp_path, overwrite=True, seed=1)
    assert (tmp_path / "train" / "00000.png").read_bytes() != before


def test_making_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UserError, match="disk is full"):
        make(tmp_path / "set")
    assert os.listdir(tmp_path) == []
