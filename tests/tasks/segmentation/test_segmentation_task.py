from __future__ import annotations

import json
import math
import pickle
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reasonseg_files import SIZE, content, shape, write_pair
from refcoco_files import SQUARE, TRIANGLE, instances, reference
from refcoco_files import write as write_refs
from torch.utils.data import DataLoader

from foveal.errors import UserError
from foveal.evaluation.known_rows import fingerprint
from foveal.examples import Example
from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.segmentation import metrics, rle
from foveal.tasks.segmentation.generate import SceneOptions
from foveal.tasks.segmentation.objects import place
from foveal.tasks.segmentation.task import RIGHT, Segmentation, SegmentationData, SegmenterData

WIDTH, HEIGHT = SIZE
#: Two squares, the right one first in the file, and a strip that is ignored and lies over a part of the right one.
RIGHT_SQUARE = [[30, 10], [35, 10], [35, 15], [30, 15]]
LEFT_SQUARE = [[2, 3], [11, 3], [11, 12], [2, 12]]
STRIP = [[34, 0], [39, 0], [39, 29], [34, 29]]


def task(source: Path | str = "generate", **more: Any) -> Segmentation:
    return Segmentation(SegmentationData(source=str(source), **more))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three training queries (a sentence with paraphrases, a phrase, one that means nothing), and three of others."""
    shapes = [shape(points=RIGHT_SQUARE), shape(points=LEFT_SQUARE)]
    many = content(*shapes, shape("Ignored", STRIP), text=["What is it?", "Which one?", "Show it."])
    write_pair(tmp_path / "train", "a", many)
    write_pair(tmp_path / "train", "b", content(shape(), text=["the red cup"], is_sentence=False))
    write_pair(tmp_path / "train", "c", content(text=["a dog"], is_sentence=False))
    for split in ("val", "test"):
        for stem in "abc":
            write_pair(tmp_path / split, stem)
    return tmp_path


def row(folder: Path, index: int = 0, **more: Any) -> tuple[Segmentation, Example]:
    made = task(folder, **more)
    return made, made.load("train").examples[index]


def blank() -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.zeros((HEIGHT, WIDTH), dtype=bool)


# ---------------------------------------------------------------- questions and answers


def test_sentences_and_phrases_are_asked_in_lisas_two_ways(folder: Path) -> None:
    asked = [task(folder).prompt(row(folder, i)[1]) for i in range(3)]
    assert [p.user for p in asked] == [
        "What is it? Please output segmentation mask.",
        "What is the red cup in this image? Please output segmentation mask.",
        "What is a dog in this image? Please output segmentation mask.",
    ]
    assert [p.answer for p in asked] == ["<SEG>.", "<SEG>.", "none"]
    assert asked[0].opened()[0].size == SIZE
    short, example = row(folder, 1, wording="short")
    assert short.prompt(example).user == "the red cup"


def test_answers_have_a_token_for_each_instance_or_one_for_all(folder: Path) -> None:
    own = {"token": "[SEG]", "answer": "Sure, {masks}!", "nothing": "There is none."}
    assert [row(folder, i, **own)[0].prompt(row(folder, i)[1]).answer for i in (0, 2)] == [
        "Sure, [SEG]!",
        "There is none.",
    ]
    many, example = row(folder, instances=True)
    assert many.prompt(example).answer == "<SEG> <SEG>."


def test_answers_say_the_place_of_each_object_that_is_meant(folder: Path) -> None:
    # The squares' middles are (7, 8) and (33, 13) in a picture of 40 x 30 pixels; a letter is 40 / 26 pixels wide and high.
    made, example = row(folder, answer="at {place} {masks}")
    assert made.prompt(example).answer == "at e,f v,i <SEG>"
    made, example = row(folder, answer="{place} {masks}", instances=True)
    assert made.prompt(example).answer == "e,f v,i <SEG> <SEG>"
    assert made.parse("e,f v,i <SEG> <SEG>") == 2
    made, example = row(folder, 2, answer="{place} {masks}")
    assert made.prompt(example).answer == "none"


def test_places_of_generated_scenes_are_the_figures_own() -> None:
    made = task(train=40, answer="{place} {masks}", wording="short", explanatory=True)
    for example in made.load("train").examples:
        target = example.truth.target
        answer = made.prompt(example).answer
        said = answer.removeprefix(example.fields["explanation"] + " ").removesuffix(" <SEG>").split()
        figures = [target.scene.figures[i] for i in target.meant]
        assert len(said) == len(figures)
        for figure in figures:
            # What others cover moves the middle a little, by less than two letters; a letter is 1 / 26 wide.
            assert any(
                math.dist(((ord(w[0]) - 96.5) / 26, (ord(w[2]) - 96.5) / 26), (figure.x, figure.y)) < 2 / 26
                for w in said
            )


@pytest.mark.parametrize(
    ("left", "top", "letters"),
    [(0, 0, "a,a"), (50, 50, "z,z"), (24, 0, "m,a"), (25, 25, "m,m"), (26, 26, "n,n"), (0, 3, "a,b")],
)
def test_a_place_is_the_column_and_the_row(left: int, top: int, letters: str) -> None:
    mask = np.zeros((52, 52), dtype=np.uint8)
    mask[top : top + 1 + (top == 50), left : left + 1 + (left == 50)] = 1
    assert place(mask) == letters
    # What is ignored does not count, and the rest of the square below a wide picture does.
    mask[mask == 0] = 255
    assert place(mask) == letters
    if top < 26:
        assert place(mask[:26]) == letters


def test_paraphrases_are_drawn_in_training_only(folder: Path) -> None:
    made, example = row(folder, wording="short")
    drawn = Counter(made.prompt(example, random.Random(i)).user for i in range(300))
    assert set(drawn) == {"What is it?", "Which one?", "Show it."} and min(drawn.values()) > 60
    assert {made.prompt(example).user for _ in range(5)} == {"What is it?"}


def test_rows_of_training_ask_further_sentences_about_their_picture_and_other_rows_one(tmp_path: Path) -> None:
    refs = [reference(1), reference(2, ann_id=102), reference(3, ann_id=101, image_id=8), reference(4, "val", 103, 8)]
    write_refs(tmp_path, refs, instances([SQUARE], [TRIANGLE], [TRIANGLE], [SQUARE]))
    made = task(tmp_path, phrases=8, wording="short")
    first, second, other = made.load("train").examples
    drawn = made.prompt(first, random.Random(0))
    assert drawn.user in ("the thing 0", "the thing 1") and len(drawn.turns) == 1 and drawn.turns[0][1] == "<SEG>."
    areas = [int((m == 1).sum()) for m in made.learned(first, drawn)]
    assert areas == [int((e.truth.target.whole() == 1).sum()) for e in (first, second)] and areas[0] != areas[1]
    # Its neighbour asks the same two the other way round; who is alone in a picture, and who is measured, asks one.
    assert [int((m == 1).sum()) for m in made.learned(second, made.prompt(second, random.Random(0)))] == areas[::-1]
    assert made.prompt(other, random.Random(0)).turns == () == made.prompt(first).turns
    assert len(made.learned(first, made.prompt(first))) == 1
    (measured,) = made.load("validation").examples
    assert made.prompt(measured, random.Random(0)).turns == ()
    plain = task(tmp_path, wording="short").load("train").examples[0]
    assert fingerprint(plain) == fingerprint(first)


def test_generated_rows_of_training_alone_have_further_sentences() -> None:
    made = task(train=3, validation=3, phrases=5, wording="short")
    rows = {s: made.load(s).examples for s in ("train", "validation")}
    assert [len(made.prompt(e, random.Random(0)).turns) for e in rows["train"]] == [4, 4, 4]
    assert [made.prompt(e, random.Random(0)).turns for e in rows["validation"]] == [(), (), ()]
    one = task(train=3, wording="short").load("train").examples
    asked = [[(p.user, p.answer, p.turns) for p in map(made.prompt, examples)] for examples in (rows["train"], one)]
    assert asked[0] == asked[1]


def test_targets_keep_what_is_ignored_whole_and_in_parts(folder: Path) -> None:
    made, example = row(folder)
    (whole,) = made.targets(example)
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    # The largest first, so that the square lies on the strip; outlines are part of the shapes.
    expected[:, 34:40] = 255
    expected[3:13, 2:12] = 1
    expected[10:16, 30:36] = 1
    assert (whole == expected).all() and Counter(whole.flat)[255] == 30 * 6 - 6 * 2
    made, example = row(folder, instances=True)
    left, right = made.targets(example)
    assert (left == np.where(expected == 255, 255, _at(2, 3, 12, 13))).all()
    assert (right == np.where(expected == 255, 255, _at(30, 10, 36, 16))).all()
    assert made.targets(row(folder, 2)[1]) == []


def _at(left: int, top: int, right: int, bottom: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def test_explanations_stand_in_front_of_the_mask_where_they_are_wanted(folder: Path) -> None:
    (folder / "explanatory").mkdir()
    explanations = [{"query": "What is it?", "outputs": "It is the red one.", "image": "a.jpg", "json": "a.json"}]
    (folder / "explanatory" / "train.json").write_text(json.dumps(explanations))
    made, example = row(folder, explanatory=True)
    assert made.prompt(example).answer == "It is the red one. <SEG>."
    made, example = row(folder)
    assert made.prompt(example).answer == "<SEG>."


def test_replies_are_counted_by_their_tokens() -> None:
    parse = task().parse
    assert [parse(reply) for reply in ("<SEG>.", "<SEG> <SEG>.", "none", "", "None of them", "green")] == [
        1, 2, 0, None, None, None,
    ]  # fmt: skip


# ---------------------------------------------------------------- data


def test_limits_of_each_split_and_of_generated_scenes(folder: Path) -> None:
    made = task(folder, train=2, validation=1)
    assert [len(made.load(s).examples) for s in ("train", "validation", "test")] == [2, 1, 3]
    assert [e.id for e in made.load("train").examples] == ["train/a", "train/b"]
    made = task(train=7, validation=5, test=3)
    assert [len(made.load(s).examples) for s in ("train", "validation", "test")] == [7, 5, 3]
    assert [len(task().load(s).examples) for s in ("train", "validation", "test")] == [4_000, 100, 300]


def test_rows_come_whole_through_data_workers_and_pickles(folder: Path) -> None:
    for made in (task(folder), task(train=5)):
        rows = made.load("train").examples
        loaded = list(DataLoader(rows, batch_size=None, num_workers=2))  # type: ignore[arg-type]
        again = pickle.loads(pickle.dumps(rows))
        for here, there, copy in zip(rows, loaded, again, strict=True):
            assert here.id == there.id == copy.id and here.fields["texts"] == there.fields["texts"]
            for other in (there, copy):
                assert (here.truth.target.whole() == other.truth.target.whole()).all()
                assert here.images[0].open().tobytes() == other.images[0].open().tobytes()


def test_references_are_read_from_a_folder_of_refcoco(tmp_path: Path) -> None:
    write_refs(tmp_path, [reference(1), reference(2, "val", 101, 8), reference(3, "testA")])
    made = task(tmp_path)
    (example,) = made.load("train").examples
    assert made.prompt(example).user == "What is the thing 0 in this image? Please output segmentation mask."
    assert [len(made.load(s).examples) for s in ("validation", "test")] == [1, 1]


def test_a_users_words_decide_how_they_are_asked(folder: Path) -> None:
    made, path = task(), folder / "val" / "a.jpg"
    for text, user in {
        " the red cup ": "What is the red cup in this image? Please output segmentation mask.",
        "Where is it?": "Where is it? Please output segmentation mask.",
        "the cup that one can drink from": "the cup that one can drink from Please output segmentation mask.",
    }.items():
        example = made.example_of([Picture(str(path), path)], text)
        prompt = made.prompt(example)
        assert (prompt.user, prompt.answer, example.truth) == (user, None, None)
    for nothing in (None, "", "  "):
        with pytest.raises(UserError, match="--text"):
            made.example_of([Picture(str(path), path)], nothing)


# ---------------------------------------------------------------- predictions


def test_what_was_said_becomes_a_prediction(folder: Path) -> None:
    made, example = row(folder)
    left, right = _at(2, 3, 12, 13) == 1, _at(30, 10, 36, 16) == 1
    one = made.finished(example, "<SEG>.", [left], [0.51234])
    assert (rle.decode(one.value) == left).all() and one.extra["predicted_iou"] == [0.5123]
    # 100 pixels of the left square, of 100 + 36 that are meant.
    assert one.extra["iou"] == round(100 / 136, 4) and one.extra["correct"] and "masks" not in one.extra
    two = made.finished(example, "<SEG> <SEG>.", [left, right], [0.5, 0.25])
    assert (rle.decode(two.value) == (left | right)).all() and two.extra["iou"] == 1.0
    assert [m.sum() for m in made.masks(two)] == [100, 36]
    none = made.finished(example, "none", [], [])
    assert rle.decode(none.value).shape == (HEIGHT, WIDTH) and not rle.decode(none.value).any()
    assert none.extra["iou"] == 0 and not none.extra["correct"]
    junk = made.finished(example, "green", [], [])
    assert junk.value is None and junk.text == "green" and made.masks(junk) == [] and not junk.extra["correct"]
    small = made.finished(example, "<SEG>.", [right], [0.5])
    assert small.extra["iou"] == round(36 / 136, 4) < RIGHT and not small.extra["correct"]
    for p in (one, two, none, junk):
        json.dumps([p.value, p.truth, p.extra])


def test_nothing_said_of_nothing_meant_is_right(folder: Path) -> None:
    made, example = row(folder, 2)
    assert made.finished(example, "none", [], []).extra["correct"]
    assert made.finished(example, "none", [], []).extra["iou"] == 1
    # A reply that says neither is not right, although its mask is empty, too.
    assert not made.finished(example, "green", [], []).extra["correct"]
    assert not made.finished(example, "<SEG>.", [_at(0, 0, 2, 2) == 1], [0.9]).extra["correct"]


def test_metrics_are_those_of_hand_made_predictions(folder: Path) -> None:
    made = task(folder)
    rows = list(made.load("train").examples)
    marked = [_at(2, 3, 12, 13) == 1, None, blank()]
    predictions = [
        made.finished(rows[0], "<SEG>.", [marked[0]], [0.5]),
        made.finished(rows[1], "green", [], []),
        made.finished(rows[2], "none", [], []),
    ]
    values = made.measure(rows, predictions[::-1])
    wholes = [e.truth.target.whole() for e in rows]
    meant = [int((w == 1).sum()) for w in wholes]
    assert meant == [136, 11 * 11, 0]
    assert values["giou"] == pytest.approx((100 / (136 + 1e-5) + 0 + 1) / 3)
    assert values["ciou"] == pytest.approx(100 / (136 + 121))
    assert values["precision_50"] == pytest.approx(2 / 3) and values["unparsable"] == pytest.approx(1 / 3)
    assert values["predicted_iou_error"] == pytest.approx(100 / 136 - 0.5)
    assert values["giou_long"] == pytest.approx(100 / (136 + 1e-5)) and values["giou_short"] == pytest.approx(0.5)
    expected = metrics.measure(
        [metrics.unread(w) if m is None else metrics.overlap(m, w) for m, w in zip(marked, wholes, strict=True)],
        [True, False, False],
    )
    assert {k: values[k] for k in expected} == expected
    with pytest.raises(UserError, match="no rows"):
        made.measure([], [])


def test_generated_scenes_are_also_measured_kind_by_kind() -> None:
    made = task(test=24, scenes=SceneOptions(image_size=64))
    rows = list(made.load("test").examples)
    # All right but the places, which mark nothing; of the oddities, half can not be read.
    predictions, odd = [], 0
    for e in rows:
        whole = e.truth.target.whole() == 1
        mask = np.zeros_like(whole) if e.fields["kind"] == "place" else whole
        odd += e.fields["kind"] == "oddity"
        junk = e.fields["kind"] == "oddity" and odd % 2 == 1
        predictions.append(made.finished(e, "?" if junk else "<SEG>", [] if junk else [mask], [] if junk else [0.5]))
    values = made.measure(rows, predictions)
    kinds = [e.fields["kind"] for e in rows]
    assert list(dict.fromkeys(n.partition("/")[2] for n in values if n.startswith("giou/"))) == sorted(set(kinds))
    assert set(kinds) == {"attribute", "comparison", "oddity", "place"}
    for name in ("giou", "ciou"):
        assert values[f"{name}/attribute"] == pytest.approx(1) == values[f"{name}/comparison"]
        assert values[f"{name}/place"] == 0 and 0 < values[f"{name}/oddity"] < 1
    assert values["giou/oddity"] == pytest.approx((odd // 2) / odd, abs=1e-5)
    shares = {k: kinds.count(k) / 24 for k in set(kinds)}
    assert sum(shares[k] * values[f"giou/{k}"] for k in shares) == pytest.approx(values["giou"])
    metric = made.metrics.of("giou/place")
    assert (metric.name, metric.direction, made.metrics.title("ciou/place")) == ("giou", "higher", "cIoU: place")
    # One kind alone is the whole, and files have no kinds.
    same = [(e, p) for e, p in zip(rows, predictions, strict=True) if e.fields["kind"] == "place"]
    assert not any("giou/" in n and "baseline" not in n for n in made.measure(*zip(*same, strict=True)))


def test_chance_is_the_best_of_nothing_everything_and_a_fixed_box(folder: Path) -> None:
    made = task(folder)
    rows = made.load("train").examples
    values = made.measure(rows, [Prediction(e.id, None, "") for e in rows])
    assert values["baseline_giou/empty"] == pytest.approx(1 / 3)
    counted = WIDTH * HEIGHT - 168
    # Of what counts in the first picture and of all of the second, the share that is meant; the third gets nothing.
    assert values["baseline_giou/full"] == pytest.approx((136 / counted + 121 / 1200) / 3)
    bests = [v for k, v in values.items() if k.startswith("baseline_giou/")]
    assert len(bests) == 3 and made.chance(rows) == max(bests) >= 1 / 3
    # One square in every picture: the box that is this square is all that one needs.
    same = task(folder).load("validation").examples
    assert made.chance(same) > 0.8 > values["baseline_giou/empty"]


def test_files_of_a_prediction(folder: Path, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    made = task()
    example = made.example_of([Picture(str(folder / "val" / "a.jpg"), folder / "val" / "a.jpg")], "the red cup")
    left, right = _at(2, 3, 12, 13) == 1, _at(30, 10, 36, 16) == 1
    prediction = made.finished(example, "<SEG> <SEG>.", [left, right], [0.5, 0.25])
    out = tmp_path / "new" / "out"
    files = made.export(example, prediction, out)
    names = ["a.mask.png", "a.overlay.png", "a.mask-1.png", "a.mask-2.png", "a.rle.json"]
    assert [f.name for f in files] == names and sorted(p.name for p in out.iterdir()) == sorted(names)
    for name, mask in {"mask": left | right, "mask-1": left, "mask-2": right}.items():
        with Image.open(out / f"a.{name}.png") as image:
            assert image.size == SIZE
            pixels = np.asarray(image.convert("L"))
        assert (pixels == np.where(mask, 255, 0)).all()
    with Image.open(out / "a.overlay.png") as image:
        assert image.size == SIZE and image.mode == "RGB"
    table = json.loads((out / "a.rle.json").read_text())
    assert table["text"] == "the red cup" and table["reply"] == "<SEG> <SEG>." and table["predicted_iou"] == [0.5, 0.25]
    assert [(coco.decode(m) == k).all() for m, k in zip(table["masks"], (left, right), strict=True)] == [True, True]
    # A reply without a mask leaves a black picture of the right size, and says what was said.
    files = made.export(example, made.finished(example, "green", [], []), tmp_path / "none")
    with Image.open(tmp_path / "none" / "a.mask.png") as image:
        assert image.size == SIZE and not np.asarray(image.convert("L")).any()
    table = json.loads((tmp_path / "none" / "a.rle.json").read_text())
    assert table["masks"] == [] and table["reply"] == "green" and len(files) == 3


def test_pictures_that_differ_in_their_ending_have_files_of_their_own(tmp_path: Path) -> None:
    made, names = task(), []
    for name in ("a.png", "a.JPG", "b.png"):
        Image.new("RGB", SIZE).save(tmp_path / name)
    for name in ("a.png", "a.JPG", "b.png"):
        example = made.example_of([Picture(str(tmp_path / name), tmp_path / name)], "it")
        names += [f.name for f in made.export(example, made.finished(example, "none", [], []), tmp_path / "out")]
    assert [n for n in names if n.endswith("mask.png")] == ["a.png.mask.png", "a.JPG.mask.png", "b.mask.png"]
    assert len(set(names)) == len(names)


def test_pictures_show_what_was_marked_and_what_is_meant(folder: Path) -> None:
    made, example = row(folder, 1)
    plain = np.asarray(made.draw(example))
    assert plain.shape == (HEIGHT, WIDTH, 3)
    mask = _at(1, 20, 9, 28) == 1
    drawn = np.asarray(made.draw(example, made.finished(example, "<SEG>.", [mask], [0.5])))
    changed = (drawn != plain).any(-1)
    assert (changed == mask).all()
    asked = made.example_of([Picture(str(folder / "val" / "a.jpg"), folder / "val" / "a.jpg")], "the red cup")
    assert np.array_equal(np.asarray(made.draw(asked)), np.asarray(asked.images[0].open()))


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"weights": {"boundary": 1.0}}, "data.weights: there is no loss 'boundary'; there are text, bce, dice, iou."),
        ({"weights": {"dice": -1.0}}, "dice loss is -1.0: give 0 or more"),
        ({"answer": "Sure."}, "data.answer: needs {masks} once"),
        ({"answer": "{masks} {masks}"}, "data.answer: needs {masks} once"),
        (
            {"answer": "{place} {place} {masks}"},
            "data.answer: {place} stands for nothing here; give {masks} and, at most",
        ),
        (
            {"answer": "{plase} {masks}"},
            "data.answer: {plase} stands for nothing here; give {masks} and, at most once, {p",
        ),
        ({"token": ""}, "data.token: '' cannot stand for a mask"),
        ({"token": " <SEG>"}, "data.token: ' <SEG>' cannot stand for a mask"),
        ({"token": "none"}, "data.token: 'none' cannot stand for a mask"),
        ({"phrases": 0}, "data.phrases: 0 is out of range; give 1 to 8."),
        ({"phrases": 9}, "data.phrases: 9 is out of range; give 1 to 8."),
        ({"train": 0}, "data.train: is 0; give at least 1, or leave it out."),
        ({"test": -3}, "data.test: is -3; give at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError) as error:
        task(**given)
    assert what in str(error.value)


@pytest.mark.parametrize("given", [{"refs": "unc"}, {"part": "testA"}])
def test_lists_of_references_are_refused_on_other_folders(folder: Path, given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"data.{next(iter(given))}: is for RefCOCO folders with instances.json"):
        task(folder, **given).load("test")


def test_presets_and_what_differs_from_them() -> None:
    def weights(**given: Any) -> tuple[float, ...]:
        w = SegmentationData(**given).loss_weights()
        return (w.text, w.bce, w.dice, w.iou)

    assert weights() == (1.0, 2.0, 0.5, 0.0)
    assert weights(losses="seed", weights={"text": 1.0}) == (1.0, 1.0, 1.0, 1.0)
    assert weights(weights={"iou": 0.1}) == (1.0, 2.0, 0.5, 0.1)
    assert SegmenterData().mask_size == 256


def test_who_leaves_the_text_out_is_told_what_that_means(folder: Path) -> None:
    for source in (folder, "generate"):
        (note,) = task(source, losses="seed").load("train").notes
        assert note.startswith("The text's weight is 0: the model does not learn to write <SEG>")
        assert task(source, losses="seed").load("test").notes == () == task(source).load("train").notes
        assert task(source, losses="seed", weights={"text": 1.0}).load("train").notes == ()
