from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coco_files import content, write
from PIL import Image
from point_formats import resolution
from scipy.stats import chisquare

from foveal.errors import UserError
from foveal.examples import SPLITS, Example
from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.counting.episodes import Count, StepByStep
from foveal.tasks.counting.marking import mark
from foveal.tasks.counting.objects import Thing
from foveal.tasks.counting.ordering import order
from foveal.tasks.counting.pointing import FORMS, read_point, read_points, write_point
from foveal.tasks.counting.task import Counting, CountingData, MarkingData
from foveal.tasks.registry import find_task
from foveal.training.rows import TrainingRows

SIZE = (200, 120)


def task(**data) -> Counting:
    return Counting(CountingData(**data))


def example(number: int, name: str = "row") -> Example:
    """Objects at places of their own, in no order."""
    rng = random.Random(number)
    places = rng.sample([(20 + 20 * i, 12 + 24 * j) for i in range(9) for j in range(5)], number)
    things = tuple(Thing((x, y), (x - 6, y - 6, x + 6, y + 6)) for x, y in places)
    fields = {"category": "cells", "domain": "", "things": things, "size": SIZE}
    return Example(name, (Picture(name, Image.new("RGB", SIZE, (210, 200, 190))),), number, fields)


# ---------------------------------------------------------------- where rows come from


def test_it_is_found_by_its_name() -> None:
    assert find_task("counting") is Counting


def test_generated_scenes_are_rows_that_are_made_when_asked_for() -> None:
    data = {"train": 33, "validation": 11, "test": 22, "max_objects": 10, "test_max_objects": 21, "image_size": 64}
    counts = {s: Counter(e.truth for e in task(**data).load(s).examples) for s in SPLITS}
    assert counts["train"] == dict.fromkeys(range(11), 3) and counts["validation"] == dict.fromkeys(range(11), 1)
    assert counts["test"] == dict.fromkeys(range(22), 1)
    loaded = task(**data).load("test")
    assert loaded.source == "generated: scenes of 0 to 21 objects, 64 pixels, seed 0, split test"
    row = loaded.examples[3]
    assert row.images[0].open().size == row.fields["size"] == (64, 64)
    assert row.truth == len(row.fields["things"]) and row.id == "00003" and row.fields["category"]
    assert [e.id for e in loaded.examples[-2:]] == ["00020", "00021"]


def test_test_scenes_may_have_no_objects_at_all() -> None:
    rows = task(test=5, test_max_objects=0, image_size=64).load("test").examples
    assert [e.truth for e in rows] == [0] * 5


def test_a_coco_file_is_shared_out_by_picture(tmp_path: Path) -> None:
    boxes = [("apples", (1, 1, 5, 5)), ("apples", (11, 1, 5, 5)), ("pears", (1, 9, 5, 5))]
    names = [f"{i}.rf.{v}.jpg" for i in range(10) for v in "ab"]
    file = write(tmp_path / "set", content(dict.fromkeys(names, boxes)))
    for source in (file, file.parent):
        seen = {}
        for split in SPLITS:
            loaded = task(source=str(source), validation_share=0.2).load(split)
            seen[split] = {Path(e.images[0].name).name for e in loaded.examples}
            assert len(loaded.examples) == 2 * len(seen[split])
            assert f"({split}: {len(seen[split])} pictures, seed 0)" in loaded.source
            # Versions of one picture stay together.
            assert set(Counter(n[0] for n in seen[split]).values()) == {2}
        assert {s: len(n) for s, n in seen.items()} == {"train": 12, "validation": 4, "test": 4}
        assert set().union(*seen.values()) == set(names)
    apples = next(e for e in loaded.examples if e.fields["category"] == "apples")
    assert apples.truth == 2 and [t.point for t in apples.fields["things"]] == [(3.5, 3.5), (13.5, 3.5)]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_every_split_of_a_small_coco_file_has_a_picture(tmp_path: Path, share: float) -> None:
    file = write(tmp_path, content({f"{c}.jpg": [("apples", (1, 1, 5, 5))] for c in "abc"}))
    assert [len(task(source=str(file), validation_share=share).load(s).examples) for s in SPLITS] == [1, 1, 1]
    few = write(tmp_path / "few", content({f"{c}.jpg": [("apples", (1, 1, 5, 5))] for c in "ab"}))
    with pytest.raises(UserError, match="2 pictures are too few to hold some out; give at least 3"):
        task(source=str(few)).load("train")


def test_the_omnicount_layout_is_read_by_domain(tmp_path: Path) -> None:
    for domain, split in [("Fruits", "train"), ("Fruits", "valid"), ("Fruits", "test"), ("Urban", "train")]:
        write(tmp_path / domain / split, content({"1.jpg": [("apples", (1, 1, 5, 5))]}))
    rows = task(source=str(tmp_path)).load("train").examples
    assert [e.id for e in rows] == ["Fruits/1.jpg/apples", "Urban/1.jpg/apples"]
    rows = task(source=str(tmp_path), categories=["Urban"]).load("train").examples
    assert [e.id for e in rows] == ["Urban/1.jpg/apples"]
    rows = task(source=str(tmp_path), absent=2).load("test").examples
    assert [(e.fields["category"], e.truth) for e in rows] == [("apples", 1)]
    with pytest.raises(UserError, match=r"data\.categories: there is no domain 'fruit' in .*; did you mean 'Fruits'"):
        task(source=str(tmp_path), categories=["fruit"]).load("train")


def test_fsc_147_is_read_with_its_points(tmp_path: Path) -> None:
    sizes = {"H": 30, "W": 40, "ratio_h": 1.0, "ratio_w": 1.0}
    point = {**sizes, "points": [[30, 20], [10, 20]], "box_examples_coordinates": []}
    (tmp_path / "annotation_FSC147_384.json").write_text(json.dumps({"2.jpg": point}))
    (tmp_path / "Train_Test_Val_FSC_147.json").write_text(json.dumps({"train": ["2.jpg"], "val": [], "test": []}))
    (tmp_path / "ImageClasses_FSC147.txt").write_text("2.jpg\tsea shells\n")
    (tmp_path / "images_384_VarV2").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images_384_VarV2" / "2.jpg")
    (row,) = task(source=str(tmp_path)).load("train").examples
    assert (row.truth, row.fields["category"]) == (2, "sea shells")
    assert [t.point for t in row.fields["things"]] == [(10, 20), (30, 20)]
    with pytest.raises(UserError, match=r"data\.categories: chooses domains of OmniCount"):
        task(source=str(tmp_path), categories=["sea shells"]).load("train")


def test_missing_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no such folder; check data\.source"):
        task(source=str(tmp_path / "nowhere")).load("train")
    with pytest.raises(UserError, match="holds no domain with a folder train, valid or test"):
        task(source=str(tmp_path)).load("train")


def test_a_picture_of_ones_own_needs_the_one_category() -> None:
    row = task(categories=["red blood cells"]).example_of([Picture(str(Path("x.png")), Path("x.png"))])
    assert (row.id, row.truth, row.fields["category"]) == ("x.png", None, "red blood cells")
    for names in ([], ["a", "b"]):
        with pytest.raises(UserError, match=r"data\.categories: what is counted in the pictures\?"):
            task(categories=names).example_of([Picture(str(Path("x.png")), Path("x.png"))])


def test_a_domain_is_not_what_is_counted_in_a_picture(tmp_path: Path) -> None:
    write(tmp_path / "Fruits" / "train", content({"1.jpg": [("apples", (1, 1, 5, 5))]}))
    trained = {"source": str(tmp_path), "categories": ["Fruits"]}
    assert len(task(**trained).load("train").examples) == 1
    with pytest.raises(UserError, match=r"data\.categories: Fruits is a domain; name what is counted in the pictures"):
        task(**trained).example_of([Picture(str(Path("x.png")), Path("x.png"))])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"done_share": 0.95}, "data.done_share: 0.95 is out of range; give 0 to 0.9."),
        ({"done_share": float("nan")}, "data.done_share: nan is out of range; give 0 to 0.9."),
        ({"max_points": 0}, "data.max_points: 0 is out of range; give 1 to 1000."),
        ({"repeat_radius": -0.1}, "data.repeat_radius: -0.1 is out of range; give 0 to 0.5."),
        ({"patience": 0}, "data.patience: 0 is out of range; give 1 to 100."),
        ({"match_radius": 0}, "data.match_radius: 0 is out of range; give 0.01 to 10."),
        ({"validation_share": 1.0}, "data.validation_share: 1.0 is out of range; give 0.01 to 0.9."),
        ({"absent": -1}, "data.absent: -1 is out of range; give 0 to 100."),
        ({"max_objects": 61}, "data.max_objects: 61 is out of range; give 0 to 60."),
        ({"test_max_objects": 61}, "data.test_max_objects: 61 is out of range; give 0 to 60."),
        ({"min_objects": 5, "max_objects": 3}, "data.max_objects: 3 is out of range; give 5 to 60."),
        ({"min_objects": 5, "test_max_objects": 4}, "data.test_max_objects: 4 is out of range; give 5 to 60."),
        ({"image_size": 8}, "data.image_size: 8 is out of range; give 32 to 2048."),
        ({"overlap": 0.7}, "data.overlap: 0.7 is out of range; give 0 to 0.5."),
        ({"all_points_share": 1.1}, "data.all_points_share: 1.1 is out of range; give 0 to 1."),
        ({"same_colour_share": -0.1}, "data.same_colour_share: -0.1 is out of range; give 0 to 1."),
        ({"marking": MarkingData(alpha=0)}, "data.marking.alpha: Marks cannot have an alpha of 0; "),
        ({"marking": MarkingData(size=0)}, "data.marking.size: Marks cannot have a size of 0; "),
        ({"marking": MarkingData(color="blurple")}, "data.marking.color: There is no colour 'blurple'; "),
        ({"categories": [" "]}, "data.categories: holds an empty name; remove it."),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused_by_their_key(data: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        task(**data)
    assert str(error.value).startswith(message)


def test_a_split_without_scenes_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.validation: is 0; give the number of scenes to generate"):
        task(validation=0).load("validation")


# ---------------------------------------------------------------- what is asked and answered


def marks_drawn(shown: Image.Image, row: Example) -> list[bool]:
    """For each object, whether its point differs from the unmarked picture."""
    plain = row.images[0].open()
    points = [tuple(map(int, t.point)) for t in row.fields["things"]]
    return [shown.getpixel(p) != plain.getpixel(p) for p in points]


@pytest.mark.parametrize("number", [0, 1, 5])
def test_the_number_of_marks_is_uniform_and_the_next_object_is_the_answer(number: int) -> None:
    counting, rows = task(), [example(number, f"row {i}") for i in range(120)]
    training = TrainingRows(counting, rows, seed=0)
    seen: Counter[int] = Counter()
    for epoch in range(5):
        training.epoch = epoch
        for i, row in enumerate(rows):
            prompt = training[i].prompt
            drawn = marks_drawn(prompt.opened()[0], row)
            k = sum(drawn)
            # Exactly the first k are marked, ...
            assert drawn == [True] * k + [False] * (number - k)
            seen[k] += 1
            # ... and the next one is pointed at, within half a cell.
            answer = read_point(prompt.answer or "", SIZE, "bins")
            if k == number:
                assert prompt.answer == answer == "done"
            else:
                reach = resolution(SIZE, "bins")
                offset = np.abs(np.subtract(answer, row.fields["things"][k].point))
                assert (offset <= np.add(reach, 1e-9)).all()
    assert set(seen) == set(range(number + 1))
    if number:
        # Drawn with a fixed seed: 600 rows, all k equally likely.
        assert chisquare([seen[k] for k in range(number + 1)]).pvalue > 0.01


def test_another_epoch_and_seed_draw_other_prefixes_and_the_same_ones_the_same() -> None:
    rows = [example(9, f"row {i}") for i in range(30)]

    def drawn(seed: int, epoch: int) -> list[str | None]:
        training = TrainingRows(task(), rows, seed)
        training.epoch = epoch
        return [training[i].prompt.answer for i in range(30)]

    assert drawn(0, 0) == drawn(0, 0)
    assert len({tuple(drawn(s, e)) for s in (0, 1) for e in (0, 1)}) == 4
    # Outside of training nothing is random.
    assert task().prompt(rows[0]).answer == task().prompt(rows[0]).answer
    assert len({task().prompt(r).answer for r in rows}) > 3


@pytest.mark.parametrize("number", [0, 1, 3, 20])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.9])
def test_done_share_lifts_the_share_of_done_to_what_it_says(number: int, share: float) -> None:
    counting, rng = task(done_share=share), random.Random(1)
    draws = 20_000
    seen = Counter(counting.prefix(number, rng) for _ in range(draws))
    wanted = max(share, 1 / (number + 1))
    assert abs(seen[number] / draws - wanted) < 4 * (wanted * (1 - wanted) / draws) ** 0.5 + 1e-9
    if number > 1:
        assert chisquare([seen[k] for k in range(number)]).pvalue > 0.001


@pytest.mark.parametrize("name", ["reading_order", "nearest_neighbor", "left_to_right"])
def test_objects_come_in_the_recipes_order(name: str) -> None:
    data = {"train": 4, "min_objects": 6, "image_size": 96, "order": name}
    for row in task(**data).load("train").examples:
        things = row.fields["things"]
        assert order(things, name, (96, 96)) == list(range(len(things)))  # type: ignore[arg-type]


def test_the_random_order_is_another_one_in_each_epoch_but_fixed_outside_of_training() -> None:
    counting, row = task(order="random"), example(6)
    marked: Counter[frozenset[int]] = Counter()
    for i in range(200):
        drawn = marks_drawn(counting.prompt(row, random.Random(i)).opened()[0], row)
        marked[frozenset(np.flatnonzero(drawn).tolist())] += 1
    # Of six objects every one is marked alone at some time, which a fixed order would never do.
    assert {next(iter(m)) for m in marked if len(m) == 1} == set(range(6))
    assert counting.prompt(row).answer == counting.prompt(row).answer
    scenes = {"train": 8, "min_objects": 6, "image_size": 96}
    fixed, shuffled = (task(order=name, **scenes).load("train").examples for name in ("reading_order", "random"))
    pairs = [(a.fields["things"], b.fields["things"]) for a, b in zip(fixed, shuffled, strict=True)]
    assert all(set(a) == set(b) for a, b in pairs) and any(a != b for a, b in pairs)


@pytest.mark.parametrize("style", ["disc", "number", "box", "mask"])
def test_marks_look_as_the_recipe_says(style: str) -> None:
    marking = MarkingData(style=style, alpha=0.3, color="red", size=0.5, relative="object")  # type: ignore[arg-type]
    counting, row = task(marking=marking), example(5)
    rng = random.Random(3)
    k = counting.prefix(5, random.Random(3))
    shown = counting.prompt(row, rng).opened()[0]
    wanted = mark(row.images[0].open(), row.fields["things"][:k], style, 0.3, color="red", size=0.5)  # type: ignore[arg-type]
    assert k and np.array_equal(np.asarray(shown), np.asarray(wanted))


@pytest.mark.parametrize(
    ("strategy", "wording", "asked"),
    [
        (
            "sequential",
            "sentence",
            "Point to the next of the cells that is not marked yet, or say done if all are marked.",
        ),
        ("sequential", "short", "next cells"),
        ("all_points", "sentence", "Point to all cells, or say done if there are none."),
        ("all_points", "short", "points cells"),
        ("number", "sentence", "How many cells are there? Answer with the number."),
        ("number", "short", "count cells"),
    ],
)
def test_what_is_asked(strategy: str, wording: str, asked: str) -> None:
    counting = task(strategy=strategy, wording=wording)
    row = example(3)
    own = replace(row, truth=None, fields={"category": "cells"})
    assert counting.prompt(row).user == counting.prompt(row, random.Random(0)).user == asked
    prompt = counting.prompt(own)
    assert prompt.user == asked and prompt.answer is None
    assert np.array_equal(np.asarray(prompt.opened()[0]), np.asarray(row.images[0].open()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", [0, 1, 7])
def test_answers_are_read_back_in_every_format(form: str, number: int) -> None:
    row, reach = example(number), np.add(resolution(SIZE, form), 1e-9)  # type: ignore[arg-type]
    points = [t.point for t in row.fields["things"]]
    sequential = task(point_format=form)
    for i in range(10):
        answer = sequential.prompt(row, random.Random(i)).answer or ""
        point = read_point(answer, SIZE, form)  # type: ignore[arg-type]
        assert point == "done" or min(np.abs(np.subtract(points, point)).max(axis=1)) <= max(reach)
    whole = task(point_format=form, strategy="all_points")
    answer = whole.prompt(row).answer or ""
    assert whole.parse(answer) == number and (answer == "done") == (number == 0)
    points_read = read_points(answer, SIZE, form)  # type: ignore[arg-type]
    assert points_read is not None and len(points_read) == number
    assert all((np.abs(np.subtract(a, b)) <= reach).all() for a, b in zip(points_read, points, strict=True))


def test_the_number_alone() -> None:
    counting = task(strategy="number")
    assert counting.prompt(example(7)).answer == "7" and counting.parse("There are 7.") == 7
    assert counting.parse("some") is None and counting.episode(example(2)) is None


# ---------------------------------------------------------------- predictions


def replied(counting: Counting, row: Example, *replies: str) -> Prediction:
    episode = counting.episode(row)
    assert episode is not None
    for reply in replies:
        assert episode.prompt() is not None
        episode.reply(reply, 0.5)
    assert episode.prompt() is None
    return episode.result()


def test_a_count_in_steps_and_all_points_at_once_say_where() -> None:
    row = example(2)
    prediction = replied(task(), row, "10 20", "50 60", "done")
    assert (prediction.value, prediction.text, prediction.truth) == (2, "2 (done)", 2)
    assert prediction.extra["points"] == [[21, 24.6], [101, 72.6]] and prediction.extra["step_confidence"] == [0.5] * 3
    prediction = replied(task(strategy="all_points"), row, "10 20; 50 60")
    assert (prediction.value, prediction.text, prediction.truth) == (2, "10 20; 50 60", 2)
    assert prediction.extra == {"points": [[21, 24.6], [101, 72.6]], "reply_confidence": 0.5}
    none = replied(task(strategy="all_points"), row, "done")
    assert none.value == 0 and none.extra["points"] == []
    unreadable = replied(task(strategy="all_points"), row, "10 20; 50")
    assert unreadable.value is None and unreadable.extra["points"] == []


def test_the_trivial_baseline_says_the_mean() -> None:
    assert task().chance([example(n) for n in (1, 2, 9)]) == pytest.approx((1 + 0 + 7) / 3)


def test_a_drawn_prediction_has_a_number_on_each_point() -> None:
    row = example(0)
    plain = task().draw(row)
    assert np.array_equal(np.asarray(plain), np.asarray(row.images[0].open()))
    drawn = task().draw(row, Prediction("row", 2, "", extra={"points": [[50, 50], [150, 60]]}))
    ys, xs = np.nonzero((np.asarray(drawn) != np.asarray(plain)).any(axis=2))
    left, right = xs < 100, xs >= 100
    assert (xs[left].mean(), ys[left].mean()) == pytest.approx((50, 50), abs=1)
    assert (xs[right].mean(), ys[right].mean()) == pytest.approx((150, 60), abs=1)


def test_a_film_has_a_frame_for_each_point_and_one_for_the_end() -> None:
    row = example(3)
    for replies in (["10 20", "50 60", "done"], ["10 20", "10 20", "50 60", "done"], ["10 20", "50 60", "what"]):
        frames = task().frames(row, replied(task(), row, *replies))
        assert len(frames) == 3 and len({f.size for f in frames}) == 1
    assert len(task(max_points=2).frames(row, replied(task(max_points=2), row, "10 20", "50 60"))) == 3
    assert task(strategy="number").frames(row, Prediction("row", 3, "3")) == []


def test_marks_are_jittered_in_training_only_and_within_the_share(monkeypatch):
    seen = []
    task = Counting(CountingData(marking=MarkingData(jitter=0.5), max_objects=6, image_size=168))
    monkeypatch.setattr(task, "_marks", lambda picture, things: seen.append(list(things)) or picture)
    example = next(e for e in task.load("train").examples if e.truth >= 5)
    things = example.fields["things"]
    task.prompt(example).opened()
    still = seen.pop()
    assert still == list(things[: len(still)])
    moved = 0.0
    for i in range(40):
        task.prompt(example, random.Random(i)).opened()
        for given, real in zip(seen.pop(), things, strict=False):
            apart = [abs(a - b) / real.extent for a, b in zip(given.point, real.point, strict=True)]
            assert max(apart) <= 0.5 and given.box == real.box
            moved = max(moved, *apart)
    assert moved > 0.4


def test_marks_vary_in_training_only() -> None:
    counting, still, row = task(marking=MarkingData(vary=True)), task(), example(5)
    first = tuple(map(int, row.fields["things"][0].point))
    seen = set()
    for i in range(60):
        shown, same = (c.prompt(row, random.Random(i)).opened()[0] for c in (counting, still))
        assert marks_drawn(shown, row) == marks_drawn(same, row)
        again = counting.prompt(row, random.Random(i)).opened()[0]
        assert np.array_equal(np.asarray(shown), np.asarray(again))
        seen.add(shown.getpixel(first))
    assert len(seen) > 30
    assert np.array_equal(*(np.asarray(c.prompt(row).opened()[0]) for c in (counting, still)))
    views = []
    for c in (counting, still):
        count = c.count(row)
        count.take((50.0, 50.0), "", None)
        views.append(np.asarray(count.view()))
    assert np.array_equal(*views)


def test_a_share_of_training_rows_asks_for_all_points_and_measurement_stays_sequential() -> None:
    counting, row = task(all_points_share=0.3, point_format="cells", wording="short"), example(5)
    whole = task(strategy="all_points", point_format="cells", wording="short").prompt(row)
    prompts = [counting.prompt(row, random.Random(i)) for i in range(1000)]
    asked = Counter(p.user for p in prompts)
    assert asked.keys() == {"points cells", "next cells"}
    assert asked["points cells"] / 1000 == pytest.approx(0.3, abs=0.05)
    for prompt in prompts:
        if prompt.user == "points cells":
            assert prompt.answer == whole.answer and prompt.images == whole.images
    assert {counting.prompt(example(5, f"row {i}")).user for i in range(50)} == {"next cells"}
    episode = counting.episode(row)
    assert isinstance(episode, StepByStep) and episode.question == "next cells"
    # Without the share, rows are drawn as they always were.
    assert (
        task(all_points_share=0.0).prompt(row, random.Random(1)).answer == task().prompt(row, random.Random(1)).answer
    )


def exact_share(most: int, radius: float, form: str, scenes: int = 310) -> float:
    """Share of scenes that a model counts exactly which points at true centres, as well as the format can say."""
    counting = task(test=scenes, max_objects=most, point_format=form, repeat_radius=radius)
    rows = counting.load("test").examples
    exact = 0
    for row in rows:
        count = Count(Image.new("RGB", row.fields["size"]), lambda image, _: image, 100, radius * math.hypot(168, 168))
        for thing in row.fields["things"]:
            if count.end is None:
                text = write_point(thing.point, row.fields["size"], form)  # type: ignore[arg-type]
                count.take(read_point(text, row.fields["size"], form), text, None)  # type: ignore[arg-type]
        exact += count.end is None and len(count.points) == row.truth
    return exact / scenes


@pytest.mark.parametrize("form", ["cells", "bins", "plain"])
def test_a_perfect_pointer_is_exact_with_the_usual_repeat_radius(form: str) -> None:
    assert CountingData().repeat_radius == 0.02
    assert exact_share(10, 0.02, form) == 1 and exact_share(30, 0.02, form) >= 0.99


def test_a_repeat_radius_for_unsure_pointers_caps_the_exact_share_of_crowded_scenes() -> None:
    assert exact_share(10, 0.04, "cells") == pytest.approx(0.96, abs=0.02)
    assert exact_share(30, 0.04, "cells") == pytest.approx(0.80, abs=0.04)
