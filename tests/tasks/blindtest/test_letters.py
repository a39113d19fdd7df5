from __future__ import annotations

import csv
import math
import shutil
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from itertools import combinations, islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from foveal.errors import UserError
from foveal.examples import SPLITS
from foveal.tasks.blindtest.drawing.circled import RED, UNITS, Look
from foveal.tasks.blindtest.drawing.colours import WHITE
from foveal.tasks.blindtest.drawing.filters import Filter
from foveal.tasks.blindtest.drawing.typesetting import FACES, HELVETICA, OPEN_SANS, set_word
from foveal.tasks.blindtest.generate import Scenes
from foveal.tasks.blindtest.letters import (
    LABELS,
    OTHER_WORDS,
    PADDINGS,
    PUBLISHED_WORDS,
    THICKNESSES,
    VALUES,
    Letters,
    Scene,
    place_word,
    read_letter,
)
from foveal.tasks.blindtest.puzzle import PuzzleData

STYLES = ("paper", "varied")
QUESTIONS = [question.text for question in Letters.questions().values()]


def scenes(style: str, count: int, *, size: int = 224, split: Any = "train", seed: int = 0) -> list[Scene]:
    return [Scenes(Letters, style, size, split, seed)(i) for i in range(count)]


def redness(image: Image.Image, rows: slice = slice(None)) -> np.ndarray:
    """How red each pixel is, 0 to 1."""
    pixels = np.asarray(image.convert("RGB"))[rows].astype(float)
    return np.asarray(np.clip(pixels[..., 0] - pixels[..., 1:].max(-1), 0, 255) / 255)


def extent(amount: np.ndarray) -> tuple[float, float]:
    """Where what is on a line begins and ends, to a part of a pixel."""
    seen = np.flatnonzero(amount > 0.5)
    first, last = int(seen[0]), int(seen[-1])
    before = amount[first - 1] if first else 0.0
    after = amount[last + 1] if last + 1 < len(amount) else 0.0
    return first - before, last + 1 + after


# The truth.


@pytest.mark.parametrize("style", STYLES)
def test_the_circled_letter_is_the_one_of_that_number_among_the_drawn_ones(style: str) -> None:
    size, told = 512, 0
    for scene in scenes(style, 30, size=size):
        plain = replace(scene, look=Look(scene.look.face))
        # Without the ellipse's part, blank columns separate the letters, unless two of them overlap.
        word = np.asarray(replace(plain, centre=(300, 9700), radii=(100, 100)).draw(size))[: int(0.95 * size), :, 1]
        ink = np.flatnonzero((word < 128).any(0))
        letters = np.split(ink, np.flatnonzero(np.diff(ink) > 1) + 1)
        if len(letters) == len(scene.word):
            told += 1
            near = slice(scene.centre[1] * size // UNITS - 6, scene.centre[1] * size // UNITS + 6)
            middle = sum(extent(redness(plain.draw(size), near).max(0))) / 2
            nearest = min(range(len(letters)), key=lambda i: abs(letters[i].mean() + 0.5 - middle))
            assert scene.truths == (scene.word[nearest].lower(),) * 2
            assert letters[nearest][0] < middle < letters[nearest][-1] + 1
    assert told >= 7


def test_labels_and_values() -> None:
    assert len(LABELS) == 52 == sum(map(len, PUBLISHED_WORDS))
    assert "".join(VALUES) == "abcdeghiklmnopqrstuvwxyz"
    assert len(Letters.values) == 24
    for scene in scenes("varied", 300):
        assert scene.truths[0] == scene.truths[1] == scene.word[scene.index].lower()
        assert scene.truths[0] in VALUES


@pytest.mark.parametrize("word", [*PUBLISHED_WORDS, "Fjord"])
@pytest.mark.parametrize("face", FACES)
def test_letters_are_where_their_advances_say(word: str, face: str) -> None:
    placed = set_word(word, face)
    assert placed.length == sum(box.advance for box in placed.boxes)
    assert placed.tallest == max(box.bottom - box.top for box in placed.boxes)
    pen = 0
    for box in placed.boxes:
        assert pen < (box.left + box.right) / 2 < pen + box.advance
        assert box.left < box.right and box.top < 0
        pen += box.advance


# The published parameters.


def test_all_published_pictures_are_drawn_and_no_others() -> None:
    seen = Counter((s.label, s.look.face, s.em, s.width) for s in scenes("paper", 20_000))
    assert len(seen) == 1248 == len(LABELS) * len(PADDINGS) * len(THICKNESSES) * 2
    for word in PUBLISHED_WORDS:
        for face in (HELVETICA, OPEN_SANS):
            length = set_word(word, face).length
            found = {em for (label, f, em, _) in seen if (label[0], f) == (word, face)}
            assert found == {round(96 / (length + 2 * padding) * UNITS) for padding in (25, 50, 100, 200)}
    # 7.75 inches of axes, or 1.54 inches that are 200 pixels high.
    wide = {s.width for s in scenes("paper", 400) if s.word == PUBLISHED_WORDS[2]}
    assert wide == {round(t / 72 / 7.75 * UNITS) for t in (4, 5, 6)}
    small = set_word(PUBLISHED_WORDS[0], HELVETICA).length + 50
    narrow = {s.width for s in scenes("paper", 900) if s.em == round(96 / small * UNITS)}
    assert narrow == {round(t / 72 / (1.54 * small / 200) * UNITS) for t in (4, 5, 6)}


def test_the_ellipse_is_the_letters_advance_wide_and_its_ink_high() -> None:
    for scene in scenes("paper", 60):
        box = set_word(scene.word, scene.look.face).boxes[scene.index]
        unit = scene.em / 96
        assert scene.radii[0] == pytest.approx(1.4 * box.advance * unit / 2, abs=2)
        assert scene.radii[1] == pytest.approx(1.4 * (box.bottom - box.top) * unit / 2, abs=2)
        assert scene.centre[0] == pytest.approx(scene.pen[0] + (box.left + box.right) * unit / 2, abs=6)
        assert scene.centre[1] == pytest.approx(scene.pen[1] + (box.top + box.bottom) * unit / 2, abs=2)


def exact_ring(size: int, centre: Any, radii: Any, width: float) -> np.ndarray:
    """Share of each pixel that is within half the width of the ellipse, from 5 x 5 points in each."""
    angle = np.linspace(0, 2 * math.pi, 4000)
    curve = np.stack((centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)), -1)
    places = (np.arange(5 * size) + 0.5) / 5
    inside = np.zeros((5 * size, 5 * size))
    for row, y in enumerate(places):
        near = np.abs(curve[:, 1] - y) < width
        if near.any():
            squared = (curve[near, 0][:, None] - places) ** 2 + ((curve[near, 1] - y) ** 2)[:, None]
            inside[row] = squared.min(0) < (width / 2) ** 2
    return np.asarray(inside.reshape(size, 5, size, 5).mean((1, 3)))


@pytest.mark.parametrize(
    ("radii", "width"), [((1350, 3900), 800), ((140, 400), 85), ((650, 420), 100), ((500, 505), 60), ((300, 600), 20)]
)
def test_the_ellipse_is_drawn_exactly(radii: tuple[int, int], width: int) -> None:
    size = 100
    look = Look(HELVETICA, ink=WHITE, kernel="box")
    scene = Scene("t", (5000, 5000), 500, 100, (5033, 4961), radii, width, look, 0)
    centre, half = (scene.centre[0] / 100, scene.centre[1] / 100), (radii[0] / 100, radii[1] / 100)
    got = 1 - np.asarray(scene.draw(size), float)[..., 1] / 255
    want = exact_ring(size, centre, half, width / 100)
    # A pixel's share is taken from its middle's distance from the line, which is not quite what the box filter says.
    assert np.abs(got - want).max() < 0.22
    assert np.abs(got - want).sum() < 0.14 * want.sum()
    assert got.sum() == pytest.approx(want.sum(), rel=0.04)


@pytest.mark.parametrize("kernel", get_args(Filter))
def test_the_word_is_where_it_was_set(kernel: Filter) -> None:
    for face, size in ((HELVETICA, 512), (OPEN_SANS, 224), ("DejaVuSerif", 112), ("cmss10", 64)):
        scene = Scene("Xylem", (1500, 6100), 2500, 90, (9000, 900), (300, 300), 50, Look(face, kernel=kernel), 2)
        dark = 1 - np.asarray(scene.draw(size), float)[..., 0] / 255
        word, unit = set_word("Xylem", face), scene.em / 96 / UNITS * size
        columns, rows = np.minimum(dark.max(0) * 1.2, 1), np.minimum(dark.max(1) * 1.2, 1)
        near = max(1.0, 0.006 * size)
        across = [0.15 * size + 0.9 * unit * edge for edge in (word.left, word.right)]
        assert extent(columns) == pytest.approx(across, abs=near)
        assert extent(rows) == pytest.approx([0.61 * size + unit * edge for edge in (word.top, word.bottom)], abs=near)


# Variety.


def test_varied_pictures() -> None:
    drawn = scenes("varied", 1560)
    published = [s for s in drawn if s.word in PUBLISHED_WORDS]
    assert 0.71 < len(published) / len(drawn) < 0.79
    labels = Counter(s.label for s in published)
    assert set(labels) == set(LABELS) and max(labels.values()) <= 30
    others = {s.word for s in drawn if s.word not in PUBLISHED_WORDS}
    assert {len(word) for word in others} == set(range(8, 21)) and len(others) > 200
    like_the_paper = [s for s in drawn if (s.look.ink, s.look.red, s.look.ground) == ((0, 0, 0), RED, WHITE)]
    assert 0.45 < len(like_the_paper) / len(drawn) < 0.65
    assert {s.look.face for s in drawn} == set(FACES)
    assert Counter(s.look.face for s in drawn)[HELVETICA] > 300 < Counter(s.look.face for s in drawn)[OPEN_SANS]
    assert len({s.em for s in drawn}) > 300 and len({s.width for s in drawn}) > 60
    for s in drawn:
        word, unit = set_word(s.word, s.look.face), s.em / 96
        assert s.pen[0] + word.left * unit * s.stretch / 100 >= -20
        assert s.pen[0] + word.right * unit * s.stretch / 100 <= UNITS + 20
        assert s.pen[1] + word.top * unit > 0 and s.pen[1] + word.bottom * unit < UNITS
        for centre, radius in zip(s.centre, s.radii, strict=True):
            assert radius / 2 < centre < UNITS - radius / 2
        assert 450 < s.em < 1300 and min(s.look.ground) - max(s.look.ink) > 100
    # They span what was published.
    paper = scenes("paper", 2000)
    for lengths in (lambda s: s.em, lambda s: s.width, lambda s: s.radii[0], lambda s: s.centre[0]):
        assert min(map(lengths, drawn)) <= min(map(lengths, paper)) * 1.15
        assert max(map(lengths, drawn)) >= max(map(lengths, paper)) * 0.98


def test_other_words() -> None:
    assert len(set(OTHER_WORDS)) == len(OTHER_WORDS) > 100
    assert all(word.isascii() and word.islower() and 8 <= len(word) <= 20 for word in OTHER_WORDS)
    assert not {word.lower() for word in PUBLISHED_WORDS} & set(OTHER_WORDS)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [32, 112, 384])
def test_all_styles_and_sizes_draw(style: str, size: int) -> None:
    for split in SPLITS:
        for scene in scenes(style, 12, size=size, split=split, seed=1):
            image = scene.draw(size)
            assert (image.size, image.mode) == ((size, size), "RGB")
            assert redness(image).max() > (0.06 if size == 32 else 0.2)
            assert np.asarray(image.convert("L")).min() < 190


# Determinism and splits.


def test_no_varied_geometry_is_in_two_splits() -> None:
    found = {
        split: {s.geometry for seed in (0, 1) for s in scenes("varied", 800, split=split, seed=seed)}
        for split in SPLITS
    }
    assert all(len(keys) > 1500 for keys in found.values())
    for a, b in combinations(SPLITS, 2):
        assert not found[a] & found[b]
    assert Letters.shared == {"paper"}


def test_a_picture_is_told_by_its_geometry() -> None:
    by_geometry: dict[tuple[int, ...], Scene] = {}
    for scene in scenes("paper", 5000):
        assert all(isinstance(n, int) and -(2**31) <= n < 2**31 for n in scene.geometry)
        assert by_geometry.setdefault(scene.geometry, scene) == scene


def test_labels_are_balanced() -> None:
    split = Scenes(Letters, "paper", 224, "train", 0)
    for start in (0, 520):
        assert {split(i).label for i in range(start, start + 52)} == set(LABELS)
    assert [split(i).label for i in range(20)] == [split.label(i) for i in range(20)]


# The published pictures.


#: The rows of published pictures where the word is.
BAND = slice(200, 312)


@lru_cache(maxsize=1)
def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "circled_letter.csv").open() as lines:
        return list(csv.DictReader(lines))


def closest(image: np.ndarray, word: str, index: int) -> tuple[Scene, int]:
    """The scene of the published parameters that looks most like a picture, and its padding."""
    found = []
    for face in (HELVETICA, OPEN_SANS):
        for padding in PADDINGS:
            scene = place_word(word, index, Look(face), padding, 5)
            drawn = np.asarray(scene.draw(512))[BAND, :, 1]
            found.append((float(np.abs(drawn - image[BAND, :, 1]).mean()), scene, padding))
    return min(found, key=lambda item: item[0])[1:]


def test_published_pictures_have_our_geometry_labels_and_look(real_data: Path) -> None:
    folder = real_data / "blindtest"
    layouts: dict[tuple[str, str], set[tuple[str, int]]] = {}
    differences, ink = [], []
    for row in table(folder):
        with Image.open(folder / "circled_letter" / row["file"]) as picture:
            image = picture.convert("RGB")
        pixels = np.asarray(image, float)
        scene, padding = closest(pixels, row["word"], int(row["letter_index"]))
        assert scene.truths[0] == row["letter"].lower()
        layouts.setdefault((row["word"], row["layout"]), set()).add((scene.look.face, padding))
        # The ellipse, within a pixel or so of 512. Measured: 1.1 at most.
        unit, half = 512 / UNITS, scene.width / 2
        red = redness(image)
        for axis, (centre, radius) in enumerate(zip(scene.centre, scene.radii, strict=True)):
            ends = [(centre - radius - half) * unit, (centre + radius + half) * unit]
            assert extent(red.max(axis)) == pytest.approx(ends, abs=1.3)
        # The table counts pixels' centres.
        place = (float(row["ellipse_center_x"]) + 0.5) / unit
        assert scene.centre[0] * unit == pytest.approx(place * unit, abs=1.5)
        # No other letter of the word is as near.
        boxes = set_word(scene.word, scene.look.face).boxes
        middles = [scene.pen[0] + (box.left + box.right) / 2 * scene.em / 96 for box in boxes]
        assert min(range(len(middles)), key=lambda i: abs(middles[i] - place)) == scene.index
        # The look: blank pages differ by 2.6 to 6.9.
        drawn = np.asarray(scene.draw(512), float)
        difference = np.abs(drawn - pixels).mean()
        assert difference < 1.5 and difference < 0.3 * (255 - pixels).mean()
        differences.append(difference)
        ink.append((255 - drawn).sum() / (255 - pixels).sum())
        small = np.asarray(image.resize((112, 112), Image.Resampling.BILINEAR), float)
        smaller = replace(scene, look=replace(scene.look, kernel="bilinear")).draw(112)
        assert np.abs(np.asarray(smaller, float) - small).mean() < 1.6
    assert np.mean(differences) < 1.0
    assert min(ink) > 0.95 and max(ink) < 1.04 and np.mean(ink) == pytest.approx(1, abs=0.02)
    # Pictures that the table puts in one layout have one font and one padding.
    assert all(len(found) == 1 for found in layouts.values())
    assert {padding for found in layouts.values() for _, padding in found} == set(PADDINGS)


def test_loading_published_pictures(real_data: Path) -> None:
    folder = real_data / "blindtest"
    task = Letters(PuzzleData(source=str(folder / "circled_letter")))
    examples = task.load("test").examples
    assert {e.id: e.truth for e in examples} == {row["file"]: row["letter"].lower() for row in table(folder)}
    assert task.prompt(examples[0]).opened()[0].size == (512, 512)
    assert task.prompt(examples[0]).answer == examples[0].truth
    # The letters of the sample, without the rest of them.
    assert task.chance(examples) == max(Counter(e.truth for e in examples).values()) / len(examples)


NAME = "text_image_1864afcb-05b4-496c-b834-851e2a12b8c1.png"


def published(folder: Path, *rows: str, head: str = "file,word,letter_index,letter") -> Letters:
    pictures = folder / "circled_letter"
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    Image.new("RGB", (32, 32)).save(pictures / NAME)
    (folder / "circled_letter.csv").unlink(missing_ok=True)
    if rows:
        (folder / "circled_letter.csv").write_text("\n".join((head, *rows)))
    return Letters(PuzzleData(source=str(pictures)))


def test_published_pictures_with_a_table(tmp_path: Path) -> None:
    task = published(tmp_path, f"{NAME},Acknowledgement,0,A")
    assert [e.truth for e in task.load("test").examples] == ["a"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), r"its label is only in the table circled_letter\.csv beside the folder, which is missing or does not"),
        (("other.png,Acknowledgement,0,A",), r"which is missing or does not list it"),
        ((f"{NAME},Acknowledgement,0,AB",), r"circled_letter\.csv, line 2: the label is 'AB', not one of the letters"),
        ((f"{NAME},Acknowledgement,0,é",), r"the label is 'é', not one of the letters a to z"),
        ((f"{NAME},Acknowledgement,1,A",), r"letter is A, but that is not the letter at place 1 \(from 0\) of Ackn"),
        ((f"{NAME},Acknowledgement,15,A",), r"not the letter at place 15"),
        ((f"{NAME},Acknowledgement,-1,t",), r"not the letter at place -1"),
        ((f"{NAME},Acknowledgement,first,A",), r"not the letter at place first"),
    ],
)
def test_published_pictures_with_wrong_tables(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        published(tmp_path, *rows).load("test")


def test_a_table_without_a_needed_column(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no column 'letter'"):
        published(tmp_path, f"{NAME},Acknowledgement,0", head="file,word,letter_index").load("test")


# The task.


def test_prompts_and_answers() -> None:
    task = Letters(PuzzleData(test=52, style="varied"))
    examples = task.load("test").examples
    prompt = task.prompt(examples[0])
    assert prompt.user == "Which letter is being circled?"
    assert prompt.answer == examples[0].truth in VALUES
    assert task.answers() == VALUES == Letters(PuzzleData(answer_format="bare", question="both")).answers()
    second = Letters(PuzzleData(question="second", test=1))
    assert (
        second.prompt(second.load("test").examples[0]).user == "Which character is being highlighted with a red oval?"
    )
    assert Letters(PuzzleData(wording="short")).prompt(examples[0]).user == "letter"
    assert all(task.parse(value) == value for value in VALUES)
    assert task.chance(examples) >= 1 / 24


def test_saved_pictures_equal_generated_ones(tmp_path: Path) -> None:
    folder = Letters.make(Letters.Make(str(tmp_path / "set"), split="test", num_images=1, image_size=64))
    with (folder / "test" / "metadata.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 52
    assert all(row["word"][int(row["index"])].lower() == row["label"] for row in rows)
    saved = Letters(PuzzleData(source=str(folder))).load("test").examples
    generated = Letters(PuzzleData(test=52, image_size=64)).load("test").examples
    for a, b in islice(zip(saved, generated, strict=True), 10):
        assert a.truth == b.truth and a.images[0].open().tobytes() == b.images[0].open().tobytes()


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        *[(reply, "s") for reply in ("s", "S", " s.\n", "(s)", "{s}", "{ S }", "{'s'}", "'s'", '"s"', "“s”", "`s`")],
        *[(reply, "s") for reply in ("**s**", "*s*", "**'s'**", "\\boxed{s}", "letter: s", "Answer: S", "letter s")],
        ("The letter is s", "s"),
        ("The letter is s.", "s"),
        ("The letter is\n\ns", "s"),
        ('The letter "e" is being circled.', "e"),
        ("The circled letter in the word 'Acknowledgement' is 'e'.", "e"),
        ('The circled letter in the word "Acknowledgement" is **E**.', "e"),
        ("The letter being circled is: **g**", "g"),
        ("**The letter is: g**", "g"),
        ("The character that is being highlighted with a red oval is the letter **o**.", "o"),
        ("the character being highlighted is s", "s"),
        ("The red circle highlights the letter l in the word.", "l"),
        ("The circled letter is lowercase e.", "e"),
        ("The circled character is a capital K.", "k"),
        ("The circled letter is an e.", "e"),
        ("The character is 'h'.\n\nSo the letter h is circled.", "h"),
        ("e is circled.", "e"),
        ("It is not 's' but 'd'.", "d"),
        ("The word's letter 't' is circled.", "t"),
        ("{s}? No: {d}", "d"),
        # The letters that are words, too.
        ("a", "a"),
        ("I", "i"),
        ("The letter is a.", "a"),
        ("The letter a is circled.", "a"),
        ("The letter I is circled.", "i"),
        ("The circled letter is A, I believe.", "a"),
        ("I see 'a'.", "a"),
        ("It is a letter", None),
        ("It is a letter.", None),
        ("I think it is a word.", None),
        ("I was unable to see it.", None),
        ("The letter I see is circled.", None),
        ("A red oval surrounds a letter.", None),
        ("The letter is the one I see.", None),
        # None rather than a guess.
        ("", None),
        ("é", None),
        ("5", None),
        ("Acknowledgement", None),
        ("A c k n o w", None),
        ("s, d", None),
        ("Either 's' or 'd'.", None),
        ("'A' is the first letter, but the circled letter is 'c'.", None),
        ("The letter h is circled, next to the letter p.", None),
        ("The letter is not s", None),
        ("I don't know.", None),
        ("The model's answer isn't clear.", None),
    ],
)
def test_reading_replies(reply: str, letter: str | None) -> None:
    assert read_letter(reply, QUESTIONS) == letter
    for question in QUESTIONS:
        assert read_letter(f"{question}\n{reply}", QUESTIONS) == letter
