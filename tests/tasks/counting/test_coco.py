from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from coco_files import SIZE, content, write
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from foveal.errors import ImageError, UserError
from foveal.examples import SPLITS
from foveal.tasks.counting.coco import clipped, read_coco
from foveal.tasks.counting.task import Counting, CountingData

FRUIT = {
    "a.jpg": [("apples", (1, 2, 10, 4)), ("pears", (20, 20, 5, 5)), ("apples", (30.5, 0, 4, 6))],
    "b.jpg": [("pears", (0, 0, 2, 2))],
    "c.jpg": [],
}


def test_a_row_for_each_picture_and_category_that_occurs_in_it(tmp_path: Path) -> None:
    path = write(tmp_path, content(FRUIT))
    for source in (read_coco(path), read_coco(tmp_path)):
        assert [(q.id, q.category, len(q.things)) for q in source.queries] == [
            ("a.jpg/apples", "apples", 2),
            ("a.jpg/pears", "pears", 1),
            ("b.jpg/pears", "pears", 1),
        ]
        assert source.classes == (("", "apples"), ("", "pears"))
        assert (source.place, source.skipped, source.crowds) == (str(path), (), 0)
    first = source.queries[0]
    assert [t.box for t in first.things] == [(1, 2, 11, 6), (30.5, 0, 34.5, 6)]
    assert [t.point for t in first.things] == [(6, 4), (32.5, 3)]
    assert (first.size, first.domain, dict(first.extra)) == (SIZE, "", {})
    assert pickle.loads(pickle.dumps(first)).picture.open().size == SIZE
    assert read_coco(path, domain="Fruits").queries[0].id == "Fruits/a.jpg/apples"
    assert read_coco(path, domain="Fruits").queries[0].domain == "Fruits"


def test_boxes_are_clipped_to_the_picture(tmp_path: Path) -> None:
    document = content({"a.jpg": [("apples", (-3, -0.25, 10, 5)), ("apples", (35, 25.5, 5.4, 4.75))]})
    things = read_coco(write(tmp_path, document)).queries[0].things
    assert [t.box for t in things] == [(0, 0, 7, 4.75), (35, 25.5, 40, 30)]
    assert things[1].point == (37.5, 27.75)


_number = st.floats(-60, 60, allow_nan=False)


@given(_number, _number, _number, _number)
def test_a_clipped_box_is_the_part_in_the_picture(x: float, y: float, width: float, height: float) -> None:
    box = clipped((x, y, x + width, y + height), SIZE)
    # Along each axis there is something that lies in both.
    inside = all(max(a, 0) < min(a + b, limit) for a, b, limit in ((x, width, SIZE[0]), (y, height, SIZE[1])))
    assert (box is not None) == inside
    if box is not None:
        assert 0 <= box[0] < box[2] <= SIZE[0] and 0 <= box[1] < box[3] <= SIZE[1]
        assert x <= box[0] and y <= box[1] and box[2] <= x + width and box[3] <= y + height
        assert clipped(box, SIZE) == box


@pytest.mark.parametrize("box", [(5, 5, 0, 4), (5, 5, 4, -1), (40, 5, 4, 4), (-9, 0, 9, 9), (5, 30.5, 2, 2)])
def test_boxes_without_area_are_refused_or_skipped(tmp_path: Path, box: tuple[float, ...]) -> None:
    document = content({"a.jpg": [("apples", (1, 1, 4, 4)), ("apples", box)], "b.jpg": [("pears", box)]})
    path = write(tmp_path, document)
    with pytest.raises(UserError, match=re.escape(f"{path}, annotation 101: the box") + ".* covers nothing"):
        read_coco(path)
    source = read_coco(path, on_bad="skip", absent=5)
    assert [(q.id, len(q.things)) for q in source.queries] == [("a.jpg/apples", 1), ("b.jpg/apples", 0)]
    assert [where for where, _ in source.skipped] == [f"{path}, annotation 101", f"{path}, annotation 102"]


def test_crowds_are_left_out_and_counted(tmp_path: Path) -> None:
    document = content(FRUIT)
    document["annotations"][0]["iscrowd"] = 1
    document["annotations"][1]["iscrowd"] = 1
    source = read_coco(write(tmp_path, document), absent=9)
    # No pears are asked for where a crowd of them is: how many there are is unknown.
    assert [(q.id, len(q.things), dict(q.extra)) for q in source.queries] == [
        ("a.jpg/apples", 1, {"crowds": 1}),
        ("b.jpg/pears", 1, {}),
        ("b.jpg/apples", 0, {}),
        *[(q.id, 0, {}) for q in source.queries[3:]],
    ]
    assert {q.id for q in source.queries[3:]} == {"c.jpg/apples", "c.jpg/pears"}
    assert source.crowds == 2


def test_categories_of_one_name_are_one_and_unused_ones_are_none(tmp_path: Path) -> None:
    document = content(FRUIT, ("things", "apples", "pears", "nuts"))
    document["categories"][2]["name"] = " apples "
    queries = read_coco(write(tmp_path, document), absent=9).queries
    assert [(q.id, len(q.things)) for q in queries] == [("a.jpg/apples", 3), ("b.jpg/apples", 1), ("c.jpg/apples", 0)]


def test_absent_categories_are_seeded_and_never_present_ones(tmp_path: Path) -> None:
    names = [f"kind {i}" for i in range(9)]
    path = write(tmp_path, content({f"{i}.jpg": [(name, (1, 1, 2, 2))] for i, name in enumerate(names)}, names))
    seen = []
    for seed in (0, 0, 1):
        queries = read_coco(path, absent=3, seed=seed).queries
        assert len(queries) == len({q.id for q in queries}) == 36
        for i, name in enumerate(names):
            mine = [q for q in queries if q.picture.name.endswith(f"{i}.jpg")]
            assert [len(q.things) for q in mine] == [1, 0, 0, 0]
            assert mine[0].category == name and name not in {q.category for q in mine[1:]}
        seen.append([q.id for q in queries])
    assert seen[0] == seen[1] != seen[2]
    assert len(read_coco(path, absent=99).queries) == 81
    # One more asked for leaves the others as they are.
    assert set(seen[0]) < {q.id for q in read_coco(path, absent=4).queries}


def test_pictures_may_lie_elsewhere(tmp_path: Path) -> None:
    document = content({"sub/a.jpg": [("apples", (1, 1, 2, 2))]})
    write(tmp_path / "pictures", document)
    path = tmp_path / "instances.json"
    path.write_text("﻿" + json.dumps(document))
    assert read_coco(path, pictures=tmp_path / "pictures").queries[0].picture.open().size == SIZE
    with pytest.raises(UserError, match=r"sub/a.jpg: there is no such picture, which .*instances.json names"):
        read_coco(path)
    with pytest.raises(UserError, match="has no object that can be counted"):
        read_coco(path, on_bad="skip")


def test_sizes_are_checked_when_a_picture_is_opened(tmp_path: Path) -> None:
    path = write(tmp_path, content(FRUIT))
    Image.new("RGB", (30, 40)).save(tmp_path / "a.jpg")
    query = read_coco(path).queries[0]
    checks = (lambda: query.picture.check(pixels=False), lambda: query.picture.check(pixels=True))
    for opened in (query.picture.open, *checks):
        with pytest.raises(ImageError, match=r"a\.jpg: is 30 x 40 pixels, but its annotations are for 40 x 30"):
            opened()


def changed(keys: tuple[Any, ...], value: Any) -> dict[str, Any]:
    document: Any = content(FRUIT)
    place = document
    for key in keys[:-1]:
        place = place[key]
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return dict(document)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("images",), ..., "'images' is missing; give a COCO detection file"),
        (("annotations",), {}, "'annotations' is an object, not a list"),
        (("categories", 0), "apples", r"categories\[0\]: is text, not an object"),
        (("categories", 0, "name"), 3, r"categories\[0\]: name is a number, not text"),
        (("categories", 0, "name"), "", r"categories\[0\]: name is empty"),
        (("categories", 1, "id"), 5, r"categories\[1\]: the id 5 is that of 'things', too"),
        (("images", 0, "id"), None, r"images\[0\]: id is nothing, not a number or name"),
        (("images", 1, "id"), 7, r"images\[1\]: the id 7 is that of a.jpg, too"),
        (("images", 1, "file_name"), "a.jpg", r"images\[1\]: a.jpg is listed before, with the id 7"),
        (("images", 0, "width"), 0, r"images\[0\]: width is 0, not a number of pixels"),
        (("images", 0, "height"), 3.5, "height is 3.5, not a number of pixels"),
        (("images", 0, "height"), "30", "height is text"),
        (("images", 0, "file_name"), "x" * 5000, "there is no such picture"),
        (("images", 0, "file_name"), "a\0.jpg", "there is no such picture"),
        (("annotations", 1, "image_id"), 99, "annotation 101: there is no picture with the id 99"),
        (("annotations", 1, "image_id"), [7], "annotation 101: image_id is a list"),
        (("annotations", 1, "category_id"), 1, "annotation 101: there is no category with the id 1"),
        (("annotations", 1, "category_id"), True, "annotation 101: category_id is true or false"),
        (("annotations", 1, "bbox"), ..., "annotation 101: bbox is nothing where four numbers are needed"),
        (("annotations", 1, "bbox"), [1, 2, 3], "annotation 101: bbox is a list where four numbers"),
        (("annotations", 1, "bbox"), [1, 2, "3", 4], "annotation 101: bbox"),
        (("annotations", 1, "bbox"), [1, 2, float("nan"), 4], "annotation 101: bbox"),
        (("annotations", 1, "bbox"), [1, 2, 10**400, 4], "annotation 101: bbox"),
        (("annotations", 1, "iscrowd"), "no", "annotation 101: iscrowd is 'no', not 0 or 1"),
        (("annotations", 1, "id"), ..., r"^|annotations\[1\]"),
    ],
)
def test_malformed_content_is_refused_in_a_sentence(
    tmp_path: Path, keys: tuple[Any, ...], value: Any, message: str
) -> None:
    path = write(tmp_path, content(FRUIT))
    path.write_text(json.dumps(changed(keys, value)))
    if keys[-1] == "id" and value is ...:
        assert len(read_coco(path).queries) == 3  # an annotation's own id is needed in messages only
        return
    with pytest.raises(UserError, match=message) as error:
        read_coco(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "is no JSON"),
        (b"", "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "holds a list where an object"),
        (b"true", "holds true or false"),
    ],
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(UserError, match=message):
        read_coco(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"_annotations.coco.json: there is no such file"):
        read_coco(tmp_path)
    with pytest.raises(UserError, match="there is no such file"):
        read_coco(tmp_path / "b.json")


def test_a_file_without_objects_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, content({"a.jpg": []}))
    with pytest.raises(UserError, match="has no object that can be counted"):
        read_coco(path, absent=4)


def test_boxes_that_are_shares_of_the_picture_are_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path, content({"a.jpg": [("apples", (0.25, 0.5, 0.5, 0.25))], "b.jpg": [("pears", (0, 0, 1, 1))]}))
    with pytest.raises(UserError) as caught:
        read_coco(path)
    assert str(caught.value) == (
        f"{path}: all boxes lie within 0 and 1, as shares of the picture's sides, where COCO has pixels; multiply them by "
        "the pictures' width and height."
    )
    assert read_coco(write(tmp_path, content({"a.jpg": [("apples", (0, 0, 1, 1))]}))).queries[0].things[0].box == (
        0,
        0,
        1,
        1,
    )


def test_twins_are_counted_once_or_each_time_and_both_counts_are_told(tmp_path: Path) -> None:
    box = (1, 2, 10, 4)
    path = write(tmp_path, content({"a.jpg": [("apples", box)] * 3 + [("pears", box)], "b.jpg": [("apples", box)]}))
    once, every = read_coco(path), read_coco(path, twins="all")
    assert [len(q.things) for q in once.queries] == [1, 1, 1] and [len(q.things) for q in every.queries] == [3, 1, 1]
    assert once.notes == (
        f"{path}: 2 boxes repeat another one exactly and are counted once: 3 objects, and 5 with data.twins: all.",
    )
    assert every.notes == (
        f"{path}: 2 boxes repeat another one exactly and are counted each time: 5 objects, and 3 with data.twins: once.",
    )


def test_crowds_that_are_left_out_are_noted_with_their_number(tmp_path: Path) -> None:
    document = content(FRUIT)
    for number in (0, 1):
        document["annotations"][number]["iscrowd"] = 1
    path = write(tmp_path, document)
    assert read_coco(path).notes == (
        f"{path}: 2 annotations of crowds (iscrowd: 1) in 1 pictures are left out, as they do not say how many objects "
        "there are.",
    )
    assert read_coco(write(tmp_path, content(FRUIT))).notes == ()


def test_boxes_that_leave_their_pictures_by_far_are_noted(tmp_path: Path) -> None:
    # Left, top, right and bottom in place of left, top, width and height; the other two stick out by a slip.
    boxes = [(30, 20, 36, 28), (38, 1, 4, 4), (-1, 1, 4, 4)]
    path = write(tmp_path, content({"a.jpg": [("apples", box) for box in boxes]}))
    assert read_coco(path).notes == (
        f"{path}: 1 of 3 boxes reach more than a twentieth of the side beyond their pictures and are cut there; check that "
        "they are of these pictures at this size.",
    )


@pytest.mark.parametrize("place", ["val2017", "images/val2017", "images", "annotations/images"])
def test_pictures_of_a_file_in_annotations_are_found_beside_it(tmp_path: Path, place: str) -> None:
    write(tmp_path / place, content(FRUIT))
    (tmp_path / place / "_annotations.coco.json").unlink()
    (tmp_path / "annotations").mkdir(exist_ok=True)
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(content(FRUIT)))
    assert {q.picture.name for q in read_coco(path).queries} == {str(tmp_path / place / n) for n in ("a.jpg", "b.jpg")}


def test_the_remedy_for_pictures_elsewhere_is_a_setting_that_exists(tmp_path: Path) -> None:
    write(tmp_path / "train2017", content(FRUIT))
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content(FRUIT)))
    with pytest.raises(UserError) as error:
        read_coco(path)
    assert str(error.value) == (
        f"{path.parent / 'a.jpg'}: there is no such picture, which {path} names; restore it, or give the pictures' folder in "
        "data.pictures."
    )
    task = Counting(CountingData(source=str(path), pictures=str(tmp_path / "train2017"), absent=1))
    found = {e.images[0].name for split in SPLITS for e in task.load(split).examples}
    assert found == {str(tmp_path / "train2017" / name) for name in FRUIT}
    with pytest.raises(UserError, match=r"^data\.pictures: there is no folder .*gone; check the path\.$"):
        Counting(CountingData(source=str(path), pictures=str(tmp_path / "gone"))).load("train")


def test_a_damaged_picture_is_refused_before_or_left_out_where_asked(tmp_path: Path) -> None:
    path = write(tmp_path, content({f"{i}.png": [("apples", (1, 2, 10, 4))] for i in range(9)}))
    damaged = next(p for p in (tmp_path / f"{i}.png" for i in range(9)) if _split_of(path, p) == "train")
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(ImageError, match=rf"{damaged.name}: the picture is damaged .*`data\.on_bad: skip`"):
        Counting(CountingData(source=str(path))).load("train")
    loaded = Counting(CountingData(source=str(path), on_bad="skip")).load("train")
    assert [name for name, _ in loaded.refused] == [str(damaged)] and len(loaded.examples) == 6


def _split_of(path: Path, picture: Path) -> str:
    task = Counting(CountingData(source=str(path)))
    for split in SPLITS:
        if any(e.images[0].name == str(picture) for e in task.load(split).examples):
            return split
    raise AssertionError(picture)
