from __future__ import annotations

import json
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from refcoco_files import SIZE, SQUARE, TRIANGLE, instances, reference, write

from foveal.errors import ImageError, UserError
from foveal.examples import Split
from foveal.tasks.segmentation.refcoco import load_plain_pickle, read_refcoco
from foveal.tasks.segmentation.rle import encode


def test_a_query_for_each_reference_with_all_its_phrases(tmp_path: Path) -> None:
    refs = [reference(1), reference(2, "val"), reference(4, "train", 101, 8)]
    source = read_refcoco(write(tmp_path, refs), "train")
    assert [q.id for q in source.queries] == ["train/1", "train/4"]
    assert (source.place, source.skipped, source.notes) == (f"{tmp_path / 'refs(unc).p'} (train)", (), ())
    query = pickle.loads(pickle.dumps(source.queries[1]))
    assert (query.texts, query.is_sentence, query.size) == (("the thing 0", "the thing 1"), False, SIZE)
    assert dict(query.extra) == {"split": "train", "category": "thing"}
    assert query.picture.name.endswith("COCO_train2014_000000000008.jpg")
    assert query.picture.open().size == SIZE
    # A square without outline is exactly its 10 x 10 pixels.
    mask = source.queries[0].target.whole()
    assert mask.shape == (30, 40) and mask.dtype == np.uint8 and mask.sum() == mask[5:15, 10:20].sum() == 100
    # Below the diagonal of ten rows are 0 + 1 + ... + 9 whole pixels, and the middles of ten on it.
    assert 45 <= query.target.whole().sum() <= 55 and len(query.target.parts()) == 1
    assert [q.id for q in read_refcoco(tmp_path, "validation").queries] == ["val/2"]


@pytest.mark.parametrize(
    ("split", "part", "expected"),
    [
        ("test", "", ["testA/1", "testB/2", "test/3"]),
        ("test", "testA", ["testA/1"]),
        ("test", "testB", ["testB/2"]),
        ("validation", "", ["val/4"]),
    ],
)
def test_the_test_split_has_parts(tmp_path: Path, split: Split, part: Any, expected: list[str]) -> None:
    refs = [reference(1, "testA"), reference(2, "testB"), reference(3, "test"), reference(4, "val")]
    source = read_refcoco(write(tmp_path, refs), split, part=part)
    assert [q.id for q in source.queries] == expected
    assert [q.extra["split"] for q in source.queries] == [name.split("/")[0] for name in expected]
    assert source.place.endswith(f"({part or {'test': 'test', 'validation': 'val'}[split]})")


def test_splits_and_parts_that_are_not_there_are_refused(tmp_path: Path) -> None:
    write(tmp_path, [reference(1, "testA")])
    with pytest.raises(UserError, match=r"refs\(unc\)\.p: has no reference of the split train; choose"):
        read_refcoco(tmp_path, "train")
    with pytest.raises(UserError, match="has no reference of the split testB"):
        read_refcoco(tmp_path, "test", part="testB")
    with pytest.raises(UserError, match="testA is a part of the test split, not of the train split"):
        read_refcoco(tmp_path, "train", part="testA")
    with pytest.raises(UserError, match="nowhere: there is no such folder"):
        read_refcoco(tmp_path / "nowhere", "train")


def test_one_of_several_files_of_references_has_to_be_chosen(tmp_path: Path) -> None:
    write(tmp_path, [reference(1)])
    write(tmp_path, [reference(2)], name="refs(google).p")
    with pytest.raises(UserError, match="holds references split by google and by unc; choose one of them"):
        read_refcoco(tmp_path, "train")
    assert [q.id for q in read_refcoco(tmp_path, "train", refs="google").queries] == ["train/2"]
    with pytest.raises(UserError, match=r"has no refs\(umd\)\.p or refs\(umd\)\.json; .* refs\(google\), refs\(unc\)"):
        read_refcoco(tmp_path, "train", refs="umd")
    # The same list as JSON is read in place of the pickle.
    write(tmp_path, [reference(3)], name="refs(unc).json")
    assert [q.id for q in read_refcoco(tmp_path, "train", refs="unc").queries] == ["train/3"]
    for file in tmp_path.glob("refs*"):
        file.unlink()
    with pytest.raises(UserError, match=r"holds no refs\(\.\.\.\)\.p"):
        read_refcoco(tmp_path, "train")
    write(tmp_path, [reference(4)], name="refs.json")
    assert [q.id for q in read_refcoco(tmp_path, "train").queries] == ["train/4"]


@pytest.mark.parametrize(
    "pictures",
    [".", "images", "train2014", "images/train2014", "../images", "../train2014", "../images/mscoco/images/train2014"],
)
def test_pictures_are_found_where_releases_keep_them(tmp_path: Path, pictures: str) -> None:
    source = read_refcoco(write(tmp_path / "refcoco", [reference(1)], pictures=pictures), "train")
    assert source.queries[0].picture.open().size == SIZE
    with pytest.raises(UserError, match=re.escape(f"names; put it into {tmp_path / 'elsewhere'}.")):
        read_refcoco(tmp_path / "refcoco", "train", pictures=tmp_path / "elsewhere")
    (tmp_path / "refcoco" / pictures).rename(tmp_path / "elsewhere") if pictures != "." else None
    if pictures != ".":
        assert len(read_refcoco(tmp_path / "refcoco", "train", pictures=tmp_path / "elsewhere").queries) == 1


def test_missing_pictures_are_refused_or_left_out(tmp_path: Path) -> None:
    write(tmp_path, [reference(1), reference(2), reference(3, "train", 101, 8)])
    (tmp_path / "images" / "COCO_train2014_000000000007.jpg").unlink()
    with pytest.raises(UserError, match=r"^COCO_train2014_000000000007\.jpg: there is no such picture, which"):
        read_refcoco(tmp_path, "train")
    source = read_refcoco(tmp_path, "train", on_bad="skip")
    assert [q.id for q in source.queries] == ["train/3"]
    assert [where for where, _ in source.skipped] == ["COCO_train2014_000000000007.jpg"]  # once
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "COCO_train2014_000000000008.jpg")
    with pytest.raises(ImageError, match="is 9 x 9 pixels, but its annotations are for 40 x 30"):
        source.queries[0].picture.open()
    (tmp_path / "images" / "COCO_train2014_000000000008.jpg").unlink()
    with pytest.raises(UserError, match="none of the pictures of the train split is there"):
        read_refcoco(tmp_path, "train", on_bad="skip")


def test_several_polygons_are_one_object_and_run_lengths_are_read(tmp_path: Path) -> None:
    drawn = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
    drawn[2:7, 30:33] = 1
    moved = [v + 10 * (i % 2 == 0) for i, v in enumerate(SQUARE)]
    lengths = [30 * 30 + 2, 5, 25, 5, 25, 5, 30 * 7 + 23]
    coco = instances(
        [SQUARE, TRIANGLE, moved],
        encode(drawn),
        {"size": [30, 40], "counts": lengths},
        {"size": [30, 40], "counts": [1200]},
    )
    refs = [reference(i, "train", 100 + i, 7 + i % 2) for i in range(4)]
    several, packed, plain, empty = (q.target for q in read_refcoco(write(tmp_path, refs, coco), "train").queries)
    assert several is not None and several.whole().sum() == 200 and [p.sum() for p in several.parts()] == [200]
    for target in (packed, plain):
        assert target is not None and np.array_equal(target.whole(), drawn) and len(target.parts()) == 1
    assert empty is not None and empty.whole().sum() == 0 and list(empty.parts()) == []


def changed(coco: Any, keys: tuple[Any, ...], value: Any) -> Any:
    place = coco
    for key in keys[:-1]:
        place = place[key]
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return coco


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ((0,), "a", "reference 0: is text, not a dictionary"),
        ((0, "split"), ..., "reference 0: split is nothing, not text"),
        ((0, "ref_id"), 2, "reference 1: the ref_id 2 occurs before"),
        ((0, "ref_id"), None, "reference 0: ref_id is nothing, not a number"),
        ((0, "image_id"), 99, "reference 0: there is no picture with the id 99"),
        ((0, "image_id"), 8, "reference 0: the annotation 100 belongs to another picture"),
        ((0, "ann_id"), 999, "reference 0: there is no annotation with the id 999"),
        ((0, "sentences"), [], "reference 0: sentences is an empty list"),
        ((0, "sentences", 1), "a", r"reference 0: sentences\[1\] is text"),
        ((0, "sentences", 1, "sent"), "", r"reference 0, sentences\[1\]: sent is empty"),
    ],
)
def test_malformed_references_are_refused_in_a_sentence(
    tmp_path: Path, keys: tuple[Any, ...], value: Any, message: str
) -> None:
    write(tmp_path, changed([reference(1), reference(2)], keys, value))
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "refs(unc).p")) + ", " + message) as error:
        read_refcoco(tmp_path, "train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("images",), ..., "'images' is missing"),
        (("images", 1, "id"), 7, r"images\[1\]: the id 7 is that of COCO_train2014_000000000007.jpg, too"),
        (("images", 0, "width"), 0, r"images\[0\]: width is 0"),
        (("annotations", 1, "id"), 100, r"annotations\[1\]: the id 100 occurs before"),
        (("annotations", 0, "segmentation"), ..., "annotation 100: segmentation is nothing, not polygons"),
        (("annotations", 0, "segmentation"), [], "annotation 100: segmentation is an empty list"),
        (("annotations", 0, "segmentation", 0), [1, 2, 3, 4], r"annotation 100, segmentation\[0\]: is not x, y"),
        (("annotations", 0, "segmentation", 0), [1, 2, 3, 4, 5, 6, 7], r"segmentation\[0\]: is not x, y"),
        (("annotations", 0, "segmentation", 0), [1, 2, 3, 4, 5, "6"], r"segmentation\[0\]: is not x, y"),
        (("annotations", 0, "segmentation", 0), [1, 2, 3, 4, 5, 1e9], "farther than 100,000 pixels"),
        (("annotations", 0, "segmentation"), {"size": [3, 4], "counts": [12]}, "annotation 100, mask 1: has 4 x 3"),
        (("annotations", 0, "segmentation"), {"size": [30, 40]}, "annotation 100, mask 1: counts"),
        (("categories", 0, "name"), 1, r"categories\[0\]: name is a number"),
    ],
)
def test_malformed_instances_are_refused_in_a_sentence(
    tmp_path: Path, keys: tuple[Any, ...], value: Any, message: str
) -> None:
    write(tmp_path, [reference(1)])
    (tmp_path / "instances.json").write_text(json.dumps(changed(instances(), keys, value)))
    with pytest.raises(UserError, match=message) as error:
        read_refcoco(tmp_path, "train")
    assert str(error.value).startswith(str(tmp_path / "instances.json")) and "\n" not in str(error.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back_from_a_pickle(protocol: int) -> None:
    plain = [{"a": 1, "b": [1.5, True, None, "é", 10**30], "c": {}}, ("x", False)]
    assert load_plain_pickle(pickle.dumps(plain, protocol=protocol), "a.p") == plain


def test_texts_of_python_2_are_read_as_utf8() -> None:
    # What Python 2 wrote for ['caf\xc3\xa9', u'caf\xe9', True], byte strings and all.
    data = b"(lp0\nS'caf\\xc3\\xa9'\np1\naVcaf\\u00e9\np2\naI01\na."
    assert load_plain_pickle(data, "a.p") == ["café", "café", True]


class Harm:
    """What calls a function when it is loaded."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps([reference(1), Harm(harm)], protocol=protocol)
        with pytest.raises(UserError, match=r"^a\.p: holds (posix|nt)\.mkdir, which is no plain data"):
            load_plain_pickle(data, "a.p")
    assert not harm.exists()
    pickle.loads(data)  # it would have
    assert harm.is_dir()
    for value, name in ((OrderedDict(a=1), "collections.OrderedDict"), ({1}, "set"), (np.float64(1), "numpy")):
        with pytest.raises(UserError, match=re.escape("a.p: holds ") + f".*{name}"):
            load_plain_pickle(pickle.dumps(value, protocol=2), "a.p")


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x80\x02]q\x00", b"no pickle", b"(lp0\nS'a", b"]]R.", b"\x80\x63.", b"a."]
)
def test_a_damaged_pickle_is_refused_in_a_sentence(tmp_path: Path, data: bytes) -> None:
    write(tmp_path, [reference(1)])
    (tmp_path / "refs(unc).p").write_bytes(data)
    with pytest.raises(UserError, match=r"refs\(unc\)\.p: is no pickle that can be read") as error:
        read_refcoco(tmp_path, "train")
    assert "\n" not in str(error.value)
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps({}))
    with pytest.raises(UserError, match=r"refs\(unc\)\.p: holds an object, not a list"):
        read_refcoco(tmp_path, "train")


def test_an_object_wholly_outside_its_picture_is_refused_or_left_out(tmp_path: Path) -> None:
    outside = [50.0, 5.0, 60.0, 5.0, 60.0, 15.0]
    write(
        tmp_path, [reference(1), reference(2, ann_id=101, image_id=8)], instances([outside, outside], [outside, SQUARE])
    )
    with pytest.raises(UserError) as error:
        read_refcoco(tmp_path, "train")
    assert str(error.value) == (
        f"{tmp_path / 'instances.json'}, annotation 100: its polygons (x 50 to 60, y 5 to 15) lie wholly outside "
        "COCO_train2014_000000000007.jpg, which is 40 x 30 pixels; correct or remove it."
    )
    source = read_refcoco(tmp_path, "train", on_bad="skip")
    assert [q.id for q in source.queries] == ["train/2"]
    assert [where for where, _ in source.skipped] == [f"{tmp_path / 'instances.json'}, annotation 100"]
