from __future__ import annotations

import json
import math
import pickle
import re
from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from foveal.drawing.figures import COLOURS, SHAPES, Figure, Ground, drawn, fineness
from foveal.errors import UserError
from foveal.examples import SPLITS
from foveal.tasks.scenes.placing import MARGIN
from foveal.tasks.segmentation.generate import FORMS, Scene, SceneOptions, Scenes, SceneTarget, explanation
from foveal.tasks.segmentation.sentences import CORNERS, KINDS, NOUNS

PLAIN = Ground("plain", (240, 240, 240), (230, 230, 230), 0.1, False)


def scenes(length: int = 100, seed: int = 0, **options: Any) -> Scenes:
    return Scenes(length, "train", seed, SceneOptions(**options))


def alone(figure: Figure, size: int) -> np.ndarray:
    """The pixels that a figure is drawn on where nothing else is."""
    image = Image.new("RGB", (size, size), "white")
    figure.draw(ImageDraw.Draw(image), size)
    return np.asarray(image.convert("L"), int) < 250


# ------------------------------------------------------------------------------------------ a reader of sentences

SINGULAR = {word: shape for shape, word in NOUNS.items()}
SENTENCE = re.compile(
    r"^(?P<pick>all|the (?:largest|smallest|leftmost|topmost|rightmost|bottommost|(?:top|bottom) (?:left|right)|)) ?"
    rf"(?P<colour>{'|'.join(COLOURS)}|) ?(?P<noun>\w+)(?: that is not (?:a )?(?P<without>\w+))?$"
)


def read(text: str, figures: tuple[Figure, ...]) -> tuple[int, ...]:
    """What a sentence means, from its words and the figures' pixels; fails where that is in doubt."""
    colours = [f.colour for f in figures]
    if text in ("the only shape of its colour", "the two shapes of one colour"):
        times = 2 if "two" in text else 1
        matches = [i for i, colour in enumerate(colours) if colours.count(colour) == times]
        assert len(matches) in (0, times)
        assert times == 1 or max(map(colours.count, colours)) <= 2
        return tuple(matches)
    match = SENTENCE.match(text)
    assert match, text
    pick, colour, noun, without = match["pick"], match["colour"], match["noun"], match["without"]
    shape = "" if noun in ("shape", "shapes") else noun if pick == "all" else SINGULAR[noun]
    assert pick != "all" or noun.endswith("s")
    named = [i for i, f in enumerate(figures) if (not colour or f.colour == colour) and (not shape or f.shape == shape)]
    matches = [i for i in named if without not in (figures[i].colour, NOUNS[figures[i].shape])]
    assert not without or len(matches) < len(named), "nothing is left out"
    if pick == "all" or not matches:
        assert len(matches) != 1
        return tuple(matches)
    word = pick.removeprefix("the").strip()
    if not word:
        assert len(matches) == 1
        return tuple(matches)
    assert len(matches) > 1
    values = {i: order(word, figures[i]) for i in named}
    first = min(matches, key=values.__getitem__)
    for other in matches:
        # Pixels are counted, not computed: a little less than the margin.
        far = all(b - a > 0.88 for a, b in zip(values[first], values[other], strict=True))
        assert other == first or far, f"{text}: another is close"
    assert not without or min(named, key=values.__getitem__) not in matches, "what is left out makes no difference"
    if word in CORNERS:
        y, x = np.nonzero(alone(figures[first], 400))
        assert np.abs(np.array((x.mean(), y.mean())) / 400 - CORNERS[word]).max() < 0.45
    return (first,)


def order(word: str, figure: Figure) -> tuple[float, float]:
    """By what a word picks the first, twice, in margins: from a figure's pixels in a picture of 400 pixels."""
    size = 400
    y, x = np.nonzero(alone(figure, size))
    middle = x.mean() / size, y.mean() / size
    if word in ("largest", "smallest"):
        sign = (1 if word == "smallest" else -1) / math.log(1.2)
        box = (x.max() + 1 - x.min()) * (y.max() + 1 - y.min())
        return sign * math.log(len(x)) / 2, sign * math.log(box) / 2
    if word in CORNERS:
        return math.dist(middle, CORNERS[word]) / 0.05, float(np.abs(np.subtract(middle, CORNERS[word])).max()) / 0.02
    axis, sign = {"left": (0, 1), "top": (1, 1), "right": (0, -1), "bottom": (1, -1)}[word.removesuffix("most")]
    end = (x, y)[axis].min() if sign > 0 else -(x, y)[axis].max()
    return sign * middle[axis] / 0.03, end / size / 0.03


@pytest.mark.parametrize(("options", "length"), [({}, 500), ({"max_objects": 8, "empty_share": 0.5}, 150)])
def test_every_sentence_means_what_a_reader_finds_in_the_pixels(options: dict[str, Any], length: int) -> None:
    queries = scenes(length, seed=5, **options)
    for index in range(length):
        scene, request, is_sentence = queries.asked(index)
        query = queries[index]
        assert isinstance(query.target, SceneTarget)
        assert query.target.meant == read(request.text, scene.figures), request.text
        assert query.is_sentence == is_sentence and query.extra["request"] == request.text
        start, stop = ("What are ", "?") if request.pick in ("all", "pair") else ("What is ", "?")
        asked = query.texts[0]
        if is_sentence:
            asked = asked.removeprefix(start).removesuffix(stop)
            asked = "all " + asked.removeprefix("the ") if request.pick == "all" else asked
        assert asked == request.text


def test_all_forms_of_sentences_occur_equally_often() -> None:
    for kind in KINDS:
        queries = scenes(len(FORMS[kind]) * 20, kinds=(kind,))
        forms: Counter[tuple[str, bool, bool, bool]] = Counter()
        for index in range(len(queries)):
            request = queries.asked(index)[1]
            assert request.kind == kind
            forms[request.pick, bool(request.colour), bool(request.shape), bool(request.without)] += 1
        assert len(forms) == len(FORMS[kind])
        assert min(forms.values()) > 5 and max(forms.values()) < 45
    kinds = Counter(scenes(1000).asked(i)[1].kind for i in range(1000))
    assert all(200 < kinds[kind] < 300 for kind in KINDS)


def test_some_sentences_mean_nothing_that_is_there() -> None:
    queries = scenes(600, empty_share=0.2)
    none = [query for query in queries if not query.target or not query.target.parts()]
    assert 0.15 < len(none) / 600 < 0.25
    assert {query.extra["kind"] for query in none} == set(KINDS)
    for query in none[:20]:
        assert query.target and query.target.parts() == () and not query.target.whole().any()
    assert all(query.target and query.target.parts() for query in scenes(200))


def test_further_sentences_differ_and_mean_what_a_reader_finds_and_leave_the_first_as_it_was() -> None:
    options = SceneOptions(empty_share=0.1, wording="phrase")
    alone_, many = Scenes(150, "train", 3, options), Scenes(150, "train", 3, options, phrases=5)
    kinds: Counter[str] = Counter()
    empty = 0
    for index in range(150):
        query, single = many[index], alone_[index]
        assert (query.id, query.texts, query.target, query.extra) == (
            single.id,
            single.texts,
            single.target,
            single.extra,
        )
        assert not single.more and len(query.more) == 4
        asked = [query, *query.more]
        assert len({q.texts for q in asked}) == 5
        for one in asked:
            assert isinstance(one.target, SceneTarget) and isinstance(query.target, SceneTarget)
            assert one.target.scene is query.target.scene and one.picture is query.picture
            assert one.target.meant == read(one.texts[0], one.target.scene.figures), one.texts
        kinds.update(q.extra["kind"] for q in query.more)
        empty += sum(not q.target.meant for q in query.more)
    assert 0.04 < empty / 600 < 0.2
    # An oddity can be asked in two ways, and of few scenes; the other kinds share what remains alike.
    assert kinds["oddity"] > 40 and min(kinds[k] for k in KINDS if k != "oddity") > 140
    assert [q.texts for q in many[7].more] == [q.texts for q in many[7].more]


# ------------------------------------------------------------------------------------------------------- masks

#: Area and perimeter in squares of the radius and in radii, worked out by hand from the shapes' corners.
KNOWN = {
    "circles": (math.pi * 0.84**2, 2 * math.pi * 0.84),
    "squares": (1.52**2, 4 * 1.52),
    "triangles": (1.92 * 1.7 / 2, 1.92 + 2 * math.hypot(0.96, 1.7)),
    "stars": (5 * 1.1 * 0.48 * math.sin(math.pi / 5), 10 * 0.765),
    "rings": (math.pi * (0.9**2 - 0.468**2), 2 * math.pi * (0.9 + 0.468)),
    "crosses": (4 * 0.66 * 0.96 - 0.66**2, 8 * 0.96),
    "diamonds": (2 * 0.66 * 1.08, 4 * math.hypot(0.66, 1.08)),
}


@pytest.mark.parametrize("size", [120, 168, 600])
@pytest.mark.parametrize("shape", NOUNS)
def test_masks_of_free_figures_have_their_exact_area(shape: str, size: int) -> None:
    area, perimeter = KNOWN[shape]
    for radius, turn in [(0.08, 0.0), (0.13, 0.1), (0.2, -0.15)]:
        scene = Scene((Figure(shape, "red", 0.47, 0.52, radius, turn),), PLAIN)
        mask = SceneTarget(scene, (0,), size).whole()
        side = radius * size
        # Pillow's polygons are about a pixel larger on each side, and they are drawn larger than the picture.
        assert abs(mask.sum() - area * side**2) < perimeter * side * 1.25 / fineness(size)
        assert SHAPES[shape].area == pytest.approx(area, rel=1e-3)


def test_parts_of_free_figures_have_their_areas_and_boxes() -> None:
    queries = scenes(60, overlap=0.0, kinds=("attribute",))
    for query in queries:
        target = query.target
        assert isinstance(target, SceneTarget)
        meant = sorted((target.scene.figures[i] for i in target.meant), key=lambda f: f.box[0])
        assert len(target.parts()) == len(meant)
        for figure, mask in zip(meant, target.parts(), strict=True):
            y, x = np.nonzero(mask)
            area, perimeter = KNOWN[figure.shape]
            assert abs(len(x) - area * (168 * figure.radius) ** 2) < perimeter * 168 * figure.radius * 1.25 / 3
            box = np.array((x.min(), y.min(), x.max() + 1, y.max() + 1))
            assert np.abs(box - np.array(figure.box) * 168).max() < 3, "tips are thinner than a pixel"


@pytest.mark.parametrize("size", [112, 168, 520])
def test_a_pixel_is_meant_where_at_least_half_of_it_is_covered(size: int) -> None:
    queries = scenes(12, image_size=size, overlap=0.3, min_objects=6, max_objects=8)
    for index in range(12):
        target = queries[index].target
        assert isinstance(target, SceneTarget)
        factor = fineness(size)
        top = np.full((size * factor, size * factor), -1)
        for i, figure in enumerate(target.scene.figures):
            top[alone(figure, size * factor)] = i
        fine = np.isin(top, target.meant).reshape(size, factor, size, factor)
        assert np.array_equal(target.whole(), fine.mean((1, 3)) >= 0.5)


def test_masks_are_where_the_picture_shows_the_figures() -> None:
    queries = scenes(40, overlap=0.2)
    for index in range(40):
        query, target = queries[index], queries[index].target
        assert isinstance(target, SceneTarget)
        scene = target.scene
        picture, ground = np.asarray(query.picture.open(), int), np.asarray(drawn(scene.ground, (), 168), int)
        changed = (picture != ground).any(-1)
        everything = SceneTarget(scene, tuple(range(len(scene.figures))), 168).whole().astype(bool)
        assert not (everything & ~changed).any()
        # Else only edges differ: pixels that are covered by less than half.
        assert (changed & ~everything).sum() < sum(2 * KNOWN[f.shape][1] * f.radius * 168 for f in scene.figures)
        for i, figure in enumerate(scene.figures):
            mask = SceneTarget(scene, (i,), 168).whole().astype(bool)
            inner = mask.copy()
            for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
                inner &= np.roll(mask, shift, axis)
            fill, edge = np.array(COLOURS[figure.colour])
            # A pixel inside is a mixture of the two tones of the figure's colour.
            shares = ((picture[inner] - fill) @ (edge - fill)) / ((edge - fill) @ (edge - fill))
            mixed = fill + np.clip(shares, 0, 1)[:, None] * (edge - fill)
            assert np.quantile(np.abs(picture[inner] - mixed).max(1), 0.98) < 3


def test_what_lies_on_top_hides_what_is_under_it() -> None:
    under = Figure("squares", "red", 0.4, 0.5, 0.2)
    over = Figure("circles", "blue", 0.4 + 0.76 * 0.2, 0.5, 0.1)
    scene = Scene((under, over), PLAIN)
    low, high = (SceneTarget(scene, (i,), 400).whole().sum() / 400**2 for i in (0, 1))
    # The circle's middle lies on the square's side: half of it hides the square.
    disc = math.pi * 0.084**2
    assert high == pytest.approx(disc, rel=0.01)
    assert low == pytest.approx(0.304**2 - disc / 2, rel=0.01)
    both = SceneTarget(scene, (0, 1), 400)
    assert both.whole().sum() / 400**2 == pytest.approx(0.304**2 + disc / 2, rel=0.01)
    left, right = both.parts()
    assert left.sum() / 400**2 == pytest.approx(low, rel=0.01) and np.nonzero(right)[1].min() > 150


def test_parts_are_disjoint_ordered_and_together_the_whole() -> None:
    several = 0
    for query in scenes(80, overlap=0.3, image_size=96, kinds=("attribute", "oddity"), min_objects=5, max_objects=8):
        target = query.target
        assert isinstance(target, SceneTarget)
        parts, whole = target.parts(), target.whole()
        assert whole.dtype == np.uint8 and whole.shape == (96, 96) and set(np.unique(whole)) == {0, 1}
        assert np.array_equal(sum(part.astype(int) for part in parts), whole)
        corners = [(int(np.nonzero(part)[1].min()), int(np.nonzero(part)[0].min())) for part in parts]
        assert corners == sorted(corners) and all(part.sum() > 10 for part in parts)
        several += len(parts) > 2
    assert several > 3


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.4])
def test_no_more_of_a_figure_is_covered_than_allowed(overlap: float) -> None:
    queries = scenes(40, seed=2, min_objects=5, overlap=overlap)
    shares = []
    for index in range(40):
        scene = queries.asked(index)[0]
        above = np.zeros((400, 400), bool)
        for figure in reversed(scene.figures):
            own = alone(figure, 400)
            shares.append(float((own & above).sum() / own.sum()))
            above |= own
            left, top, right, bottom = figure.box
            assert min(left, top) > MARGIN - 1e-9 and max(right, bottom) < 1 - MARGIN + 1e-9
            assert 0.08 <= figure.radius <= 0.2
    assert max(shares) <= (overlap + 0.01 if overlap else 0)
    assert not overlap or sum(share > 0 for share in shares) > 0.02 * len(shares)


# ---------------------------------------------------------------------------------------------------- the sequence


def test_scenes_depend_on_seed_split_and_index_alone() -> None:
    queries = scenes(1000, seed=3, image_size=64)
    again = pickle.loads(pickle.dumps(scenes(2000, seed=3, image_size=64)))
    for index in (999, 0, 7):
        one, other = pickle.loads(pickle.dumps(again[index])), queries[index]
        assert one.picture.open().tobytes() == other.picture.open().tobytes()
        assert (one.id, one.texts, one.target, one.extra) == (other.id, other.texts, other.target, other.extra)
        assert np.array_equal(one.target.whole(), other.target.whole())
    seen = {split: {Scenes(20, split, seed).asked(i)[0] for seed in (0, 1) for i in range(20)} for split in SPLITS}
    assert all(len(queries) == 40 for queries in seen.values())
    assert not any(seen[a] & seen[b] for a, b in combinations(SPLITS, 2))
    # The size of the picture changes nothing in it.
    assert scenes(9, image_size=64).asked(5) == scenes(9, image_size=448).asked(5)


def test_scenes_are_a_sequence() -> None:
    queries = scenes(5)
    assert len(queries) == 5 and [q.id for q in queries] == [f"train-{i:06d}" for i in range(5)]
    assert [q.id for q in queries[3:]] == ["train-000003", "train-000004"] and queries[-1].id == "train-000004"
    assert queries[0].size == queries[0].picture.open().size == (168, 168)
    assert json.loads(json.dumps(queries[0].extra)) == queries[0].extra
    assert all(
        set(q.extra) == {"kind", "request", "figures", "explanation"} and 3 <= q.extra["figures"] <= 6 for q in queries
    )
    with pytest.raises(IndexError):
        queries[5]


@pytest.mark.parametrize(("wording", "low", "high"), [("phrase", 0, 0), ("sentence", 60, 60), ("mixed", 15, 45)])
def test_wordings_are_phrases_or_sentences(wording: str, low: int, high: int) -> None:
    queries = list(scenes(60, wording=wording))
    assert low <= sum(query.is_sentence for query in queries) <= high
    assert all(query.texts[0].endswith("?") == query.is_sentence for query in queries)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [3, 8])
def test_every_kind_is_made_with_few_figures_and_with_many(kind: Any, number: int) -> None:
    for empty in (0.0, 1.0):
        for query in scenes(12, kinds=(kind,), min_objects=number, max_objects=number, empty_share=empty):
            assert query.extra["kind"] == kind and query.extra["figures"] == number


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 32}, "image_size: 32 is out of range; give 64 to 2048"),
        ({"min_objects": 2}, "min_objects: 2 is out of range; give 3 to 8"),
        ({"min_objects": 5, "max_objects": 4}, "max_objects: 4 is out of range; give 5 to 8"),
        ({"smallest": 0.12}, "smallest: 0.12 is out of range; give 0.03 to 0.108"),
        ({"largest": 0.1}, "largest: 0.1 is out of range; give 0.16 to 0.3"),
        ({"overlap": 0.6}, "overlap: 0.6 is out of range; give 0 to 0.5"),
        ({"overlap": float("nan")}, "overlap: nan is out of range"),
        ({"empty_share": 1.5}, "empty_share: 1.5 is out of range; give 0 to 1"),
        ({"kinds": ()}, "kinds: none at all is not a kind of sentence; give one or more of attribute, comparison"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        SceneOptions(**options).check()


def test_the_explanation_names_colour_and_shape_of_what_is_meant_from_left_to_right() -> None:
    several = 0
    for index in range(200):
        scene, request, _ = scenes(200, empty_share=0.2).asked(index)
        meant = [scene.figures[i] for i in request.select(scene.figures)]
        text = explanation(scene.figures, request.select(scene.figures))
        words = text.split(" and ") if text else []
        assert set(words) == {f"{f.colour} {NOUNS[f.shape]}" for f in meant} and len(words) == len(set(words))
        lefts = [min(f.x - f.reach for f in meant if f"{f.colour} {NOUNS[f.shape]}" == word) for word in words]
        assert lefts == sorted(lefts)
        several += len(words) > 1
    assert several > 5
