from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reasonseg_files import SIZE, SQUARE, content, shape, write_pair, write_table

from foveal.errors import ImageError, UserError
from foveal.tasks.segmentation.polygons import PolygonTarget, Shape
from foveal.tasks.segmentation.reasonseg import Annotation, parse_annotation, read_reasonseg
from foveal.tasks.segmentation.reasonseg_tables import NOTES
from foveal.tasks.segmentation.task import Segmentation, SegmentationData


@pytest.mark.parametrize(
    ("place", "folders"),
    [
        ("reason_seg/ReasonSeg", ("train", "val", "test")),
        ("ReasonSeg", ("train", "valid", "test")),
        ("", ("train", "validation", "test")),
    ],
)
def test_the_release_and_folders_of_splits_are_read_alike(tmp_path: Path, place: str, folders: tuple[str, ...]) -> None:
    for number, folder in enumerate(folders, start=1):
        for i in range(number):
            write_pair(tmp_path / place / folder, f"{i}_o", content(shape(), text=["a", " b "], is_sentence=i > 0))
    for number, split, word in ((1, "train", "train"), (2, "validation", "val"), (3, "test", "test")):
        source = read_reasonseg(tmp_path, split)
        assert [q.id for q in source.queries] == [f"{word}/{i}_o" for i in range(number)]
        assert [q.is_sentence for q in source.queries] == [i > 0 for i in range(number)]
        assert {q.texts for q in source.queries} == {("a", "b")} and {q.size for q in source.queries} == {SIZE}
        assert (source.place, source.skipped, source.notes) == (
            str(tmp_path / place / folders[number - 1]),
            (),
            (),
        )
    query = pickle.loads(pickle.dumps(source.queries[0]))
    assert query.picture.open().size == SIZE
    # The corners are cut to (10, 5) and (20, 15), and the outline belongs to the mask: 11 x 11 pixels.
    mask = query.target.whole()
    assert mask.shape == (30, 40) and mask.sum() == mask[5:16, 10:21].sum() == 121


def test_two_folders_for_one_split_and_a_split_that_is_missing_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path / "val", "a")
    with pytest.raises(UserError, match=r"has no test split, only validation; add a folder test\."):
        read_reasonseg(tmp_path, "test")
    write_pair(tmp_path / "valid", "a")
    with pytest.raises(UserError, match="val and valid are both the validation split"):
        read_reasonseg(tmp_path, "validation")
    with pytest.raises(UserError, match="holds neither folders train, val and test, nor pictures with their JSON"):
        read_reasonseg(write_pair(tmp_path / "b", "a").parent.parent / "b" / "a.json", "test")
    with pytest.raises(UserError, match="nowhere: there is no such file or folder"):
        read_reasonseg(tmp_path / "nowhere", "test")
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="train: holds no picture with its JSON file"):
        read_reasonseg(tmp_path, "train")


def test_one_folder_of_pictures_is_a_test_split_only(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".JPEG"):
        write_pair(tmp_path, suffix[1:], suffix=suffix)
    (tmp_path / "._jpg.json").write_bytes(b"\x00\x05\x16\x07")  # what macOS leaves beside files
    source = read_reasonseg(tmp_path, "test")
    assert [q.id for q in source.queries] == ["test/JPEG", "test/jpg", "test/png"]
    assert source.notes == ("One folder without splits is taken as the test split.",)
    with pytest.raises(UserError, match="has no folders of splits, so it is a test split only; put the train pictures"):
        read_reasonseg(tmp_path, "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds neither"):
        read_reasonseg(tmp_path / "empty", "test")


def test_files_that_cannot_be_used_are_refused_or_left_out_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "val"
    for stem in ("good", "nojson", "nopicture", "two", "broken", "damaged"):
        write_pair(folder, stem)
    (folder / "nojson.json").unlink()
    (folder / "nopicture.jpg").unlink()
    (folder / "two.png").write_bytes((folder / "two.jpg").read_bytes())
    (folder / "broken.json").write_text("{")
    (folder / "damaged.jpg").write_bytes(b"no picture")
    source = read_reasonseg(tmp_path, "validation", on_bad="skip")
    assert [q.id for q in source.queries] == ["val/good"]
    reasons = {Path(where).name: reason for where, reason in source.skipped}
    assert len(source.skipped) == 5
    assert reasons["nojson.jpg"] == "has no nojson.json beside it; restore that or remove the picture."
    assert reasons["nopicture.json"] == "has no picture nopicture.jpg beside it; restore that or remove the file."
    assert reasons["two.json"] == "two.jpg and two.png both have its name; keep the one that was annotated."
    assert reasons["broken.json"].startswith("is no JSON (")
    assert "damaged.jpg: not a picture in a known format" in reasons["damaged.json"]
    for stem in ("broken", "damaged", "nojson", "nopicture", "two"):  # in the order of their names
        with pytest.raises(UserError, match=f"val/{stem}"):
            read_reasonseg(tmp_path, "validation")
        for file in folder.glob(f"{stem}.*"):
            file.unlink()
    assert len(read_reasonseg(tmp_path, "validation").queries) == 1


def test_annotations_are_for_the_upright_picture(tmp_path: Path) -> None:
    write_pair(tmp_path, "a")
    image = Image.new("RGB", SIZE)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    query = read_reasonseg(tmp_path, "test").queries[0]
    assert query.size == query.picture.open().size == (30, 40)
    assert query.target is not None and query.target.whole().shape == (40, 30)
    image.save(tmp_path / "a.jpg")  # another picture since it was read
    with pytest.raises(ImageError, match="is 40 x 30 pixels, but its annotations are for 30 x 40"):
        query.picture.open()


def test_points_may_repeat_and_lie_outside_and_nothing_may_be_meant(tmp_path: Path) -> None:
    far = [[-50.5, 20], [-50.5, 20], [5015.25, 20.0], [5015.25, 5015.7], [-50.5, 5015.7]]
    write_pair(tmp_path, "a", content(shape(points=far)))
    write_pair(tmp_path, "b", content())
    write_pair(tmp_path, "c", content(shape("Ignore_region"), shape("FLAG", [[1, 1]], shape_type="point")))
    a, b, c = (q.target for q in read_reasonseg(tmp_path, "test").queries)
    assert isinstance(a, PolygonTarget) and a.shapes[0].points[2] == (5015.25, 20.0)
    assert a.whole().sum() == a.whole()[20:].sum() == 40 * 10 and len(a.parts()) == 1
    assert b is not None and b.whole().sum() == 0 and list(b.parts()) == []
    assert c is not None and np.unique(c.whole()).tolist() == [0, 255] and list(c.parts()) == []
    assert (c.whole() == 255).sum() == 121


def test_an_annotation_holds_what_its_file_says() -> None:
    document = content(shape(), shape("ignore", [[0, 1]]), text=["one", "two"], is_sentence=False)
    expected = Annotation(
        ("one", "two"), False, (Shape("target", tuple((x, y) for x, y in SQUARE)), Shape("ignore", ((0, 1),)))
    )
    assert parse_annotation(json.dumps(document), "a.json") == expected
    assert parse_annotation(json.dumps(document).encode("utf-8-sig"), "a.json") == expected
    del document["is_sentence"]
    assert parse_annotation(json.dumps(document), "a.json").is_sentence is True


def test_what_is_no_utf8_is_read_as_cp1252() -> None:
    text = json.dumps(content(text=["the café’s owner"]), ensure_ascii=False)
    for encoding in ("utf-8", "cp1252"):
        assert parse_annotation(text.encode(encoding), "a.json").texts == ("the café’s owner",)
    with pytest.raises(UserError, match=r"^a\.json: is no JSON"):
        parse_annotation(b'{"text": ["\x81"]}', "a.json")  # 0x81 is free in cp1252


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("text",), ..., "text is nothing, not a list of sentences"),
        (("text",), [], "text is an empty list"),
        (("text",), "what?", "text is text, not a list"),
        (("text", 0), " ", r"text\[0\] is empty, not a sentence"),
        (("text", 0), 3, r"text\[0\] is a number"),
        (("is_sentence",), "yes", "is_sentence is text, not true or false"),
        (("shapes",), ..., "shapes is nothing, not a list"),
        (("shapes", 0), [], r"shapes\[0\]: is a list, not an object"),
        (("shapes", 0, "label"), ..., r"shapes\[0\]: label is nothing, not text"),
        (("shapes", 0, "points"), [], r"shapes\[0\]: points is an empty list"),
        (("shapes", 0, "points"), ..., r"shapes\[0\]: points is nothing"),
        (("shapes", 0, "points", 1), [1], r"shapes\[0\]: points\[1\] is not two numbers"),
        (("shapes", 0, "points", 1), [1, float("nan")], r"points\[1\] is not two numbers"),
        (("shapes", 0, "points", 1), [1, 1e30], r"shapes\[0\]: the shape 'target' has a point at"),
        (("shapes", 0, "shape_type"), "rectangle", r"shapes\[0\]: shape_type is 'rectangle', not 'polygon'"),
    ],
)
def test_malformed_annotations_are_refused_in_a_sentence(keys: tuple[Any, ...], value: Any, message: str) -> None:
    document: Any = json.loads(json.dumps(content(shape())))
    place = document
    for key in keys[:-1]:
        place = place[key]
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    with pytest.raises(UserError, match=message) as error:
        parse_annotation(json.dumps(document), "folder/a.json")
    assert str(error.value).startswith("folder/a.json") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"), [("[]", "holds a list"), ("", "is no JSON"), ("[" * 99_999, "is no JSON")]
)
def test_what_is_no_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_annotation(text, "a.json")


def test_written_answers_go_to_the_training_queries_that_have_one(tmp_path: Path) -> None:
    root = tmp_path / "ReasonSeg"
    for split in ("train", "val"):
        for stem in "abc":
            write_pair(root / split, stem)
    (root / "explanatory").mkdir()
    rows = [
        {"query": "what is it?", "outputs": f"It is {stem}.", "image": f"{stem}.jpg", "json": f"{stem}.json"}
        for stem in "acx"
    ]
    path = root / "explanatory" / "train.json"
    path.write_text(json.dumps(rows))
    source = read_reasonseg(tmp_path, "train", explanatory=True)
    assert [q.extra.get("explanation") for q in source.queries] == ["It is a.", None, "It is c."]
    assert source.notes == ("2 of 3 queries have a written answer, of 3 in explanatory/train.json.",)
    for other in (read_reasonseg(tmp_path, "train"), read_reasonseg(tmp_path, "validation", explanatory=True)):
        assert all(dict(q.extra) == {} for q in other.queries) and other.notes == ()
    for bad, message in (
        ({"json": "a.json"}, "row 3: outputs is nothing, not text"),
        ([], "row 3: is a list, not an object with json and outputs"),
    ):
        path.write_text(json.dumps([*rows, bad]))
        with pytest.raises(UserError, match=message):
            read_reasonseg(tmp_path, "train", explanatory=True)
    path.write_text("{}")
    with pytest.raises(UserError, match=re.escape(f"{path}: holds an object, not a list")):
        read_reasonseg(tmp_path, "train", explanatory=True)
    path.unlink()
    with pytest.raises(UserError, match=re.escape(f"{path}: there is no such file")):
        read_reasonseg(tmp_path, "train", explanatory=True)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("own_cache")
def test_tables_of_the_hub_are_read_and_their_trap_is_noted(tmp_path: Path) -> None:
    mask = np.zeros((SIZE[1], SIZE[0]), dtype=bool)
    mask[3:9, 5:25] = True
    rows: list[dict[str, Any]] = [{}, {"mask": mask.tolist(), "text": " the thing "}, {"image_id": "id0"}]
    write_table(tmp_path / "ReasonSeg_val" / "data" / "test-00000-of-00002.parquet", rows)
    second = write_table(tmp_path / "ReasonSeg_val" / "data" / "test-00001-of-00002.parquet", [{"image_id": "z"}])
    source = read_reasonseg(tmp_path / "ReasonSeg_val", "validation")
    assert [q.id for q in source.queries] == ["val/id0", "val/id1", "val/id0#2", "val/z"]
    assert source.notes == NOTES and "ignored regions as meant" in NOTES[0]
    query = pickle.loads(pickle.dumps(source.queries[1]))
    assert (query.texts, query.is_sentence, query.size) == (("the thing",), True, SIZE)
    query.picture.check(pixels=False)
    assert query.picture.open().getpixel((3, 3)) == (10, 200, 10)
    assert query.target.whole().dtype == np.uint8 and np.array_equal(query.target.whole(), mask)
    assert [part.sum() for part in query.target.parts()] == [120]
    assert list(source.queries[0].target.parts()) == []
    assert len(read_reasonseg(tmp_path / "ReasonSeg_val" / "data", "validation").queries) == 4
    assert [q.id for q in read_reasonseg(second, "test").queries] == ["test/z"]
    with pytest.raises(UserError, match="has no test split, only validation"):
        read_reasonseg(tmp_path / "ReasonSeg_val", "test")
    # Names of files that say something else are believed, whatever their folder is called.
    write_table(tmp_path / "ReasonSeg_val" / "train.parquet", [{}])
    write_table(tmp_path / "ReasonSeg_val" / "more.parquet", [{}, {}])
    both = [len(read_reasonseg(tmp_path / "ReasonSeg_val", split).queries) for split in ("train", "test")]
    assert both == [1, 2]


@pytest.mark.usefixtures("own_cache")
def test_tables_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": ""}, {"img_width": 0}, {}, {"mask": [[True]]}, {"img_width": 41}]
    path = write_table(tmp_path / "train-0.parquet", rows)
    with pytest.raises(UserError, match=r"train-0.parquet, row 0: has no text"):
        read_reasonseg(path, "train")
    (tmp_path / "other").mkdir()
    nothing = write_table(tmp_path / "other/train-0.parquet", [{"text": "NaN"}])
    with pytest.raises(UserError, match=r"train-0.parquet, row 0: has no text"):
        read_reasonseg(nothing, "train")
    source = read_reasonseg(path, "train", on_bad="skip")
    assert [q.texts[0] for q in source.queries] == ["text 2", "text 3", "text 4"]
    assert [where for where, _ in source.skipped] == [f"{path}, row 0", f"{path}, row 1"]
    for query in source.queries[1:]:
        assert query.target is not None
        with pytest.raises(UserError, match=r"row [34]: its mask is not 4[01] x 30"):
            query.target.whole()
    with pytest.raises(ImageError, match=r"row 4: is 40 x 30 pixels, but its annotations are for 41 x 30"):
        source.queries[2].picture.open()
    write_table(path, [{"mask": "no"}])
    with pytest.raises(UserError, match="its column mask is string, not rows of true and false"):
        read_reasonseg(path, "train")
    path.write_bytes(b"PAR1 damaged")
    with pytest.raises(UserError, match="cannot be read as a table"):
        read_reasonseg(path, "train")


def test_the_real_annotations_hold_what_is_known_of_them(real_data: Path) -> None:
    root = real_data / "reasonseg_json" / "ReasonSeg"
    annotations = {
        file.stem.split("_")[0]: parse_annotation(file.read_bytes(), file.name) for file in root.glob("*/*.json")
    }
    assert annotations.keys() == {"199953", "15986552764"}
    ball, owls = annotations["199953"], annotations["15986552764"]
    assert ball.texts == ("the ball that can only be hit into the hole at last",)
    assert (ball.is_sentence, owls.is_sentence, len(owls.texts)) == (False, True, 5)
    assert [(s.label, len(s.points)) for s in ball.shapes] == [("target", 20)]
    assert [(s.label, len(s.points)) for s in owls.shapes] == [("target", 27), ("target", 24)]
    assert ball.shapes[0].points[:2] == (
        (602.2452830188679, 290.3962264150943),
        (585.2641509433962, 289.45283018867923),
    )
    assert all(text.endswith("?") for text in owls.texts)


#: By picture: sentence or not, labels, pixels that are meant and ignored.
LAYOUT = {
    "train/2011_000003": (True, ["target", "target", "target", "ignore"], 33082, 9505),
    "val/2011_000006": (False, ["target", "target", "target", "target", "ignore"], 35499, 919),
    "val/2011_000025": (True, ["target", "target", "flag"], 118574, 0),
}


def enclosed(target: PolygonTarget) -> np.ndarray[Any, Any]:
    """The mask by another library's test of points, with outlines step by step, large shapes first."""
    from matplotlib.path import Path as Outline

    width, height = target.size
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2)
    shapes = [s for s in target.shapes if s.label != "flag"]
    drawn = []
    for one in shapes:
        corners = np.trunc(one.points)
        inside = Outline(corners).contains_points(pixels).reshape(height, width)
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            steps = int(np.abs(end - start).max()) + 1
            x, y = np.floor(np.linspace(start, end, steps) + 0.5).astype(int).T
            inside[np.minimum(y, height - 1), np.minimum(x, width - 1)] = True
        drawn.append(inside)
    mask = np.zeros((height, width), dtype=np.uint8)
    for i in sorted(range(len(shapes)), key=lambda i: -drawn[i].sum()):
        mask[drawn[i]] = 255 if shapes[i].label == "ignore" else 1
    return mask


def test_the_real_layout_is_read_with_masks_that_another_library_draws_too(real_data: Path) -> None:
    train, val = (read_reasonseg(real_data / "reasonseg_layout", split) for split in ("train", "validation"))
    queries = {q.id: q for source in (train, val) for q in source.queries}
    assert list(queries) == list(LAYOUT) and not train.skipped and not val.skipped
    assert [q.size for q in queries.values()] == [(500, 338), (500, 375), (500, 375)]
    for name, (is_sentence, labels, meant, ignored) in LAYOUT.items():
        query = queries[name]
        target = query.target
        assert isinstance(target, PolygonTarget) and query.picture.open().size == query.size
        assert (query.is_sentence, len(query.texts)) == (is_sentence, 1)
        assert [s.label for s in target.shapes] == labels
        mask, reference = target.whole(), enclosed(target)
        # Single pixels of the outline depend on Pillow's version.
        assert abs((mask == 1).sum() - meant) <= 20 and abs((mask == 255).sum() - ignored) <= 20
        for value in (1, 255):
            mine, other = mask == value, reference == value
            assert (mine & other).sum() >= 0.99 * (mine | other).sum()
        assert len(target.parts()) == labels.count("target")


def test_an_annotation_of_another_size_is_refused_with_both(tmp_path: Path) -> None:
    path = write_pair(tmp_path / "test", "a", {**content(shape()), "imageWidth": 128, "imageHeight": 96})
    with pytest.raises(UserError) as error:
        read_reasonseg(tmp_path, "test")
    assert str(error.value) == (
        f"{path}: was drawn on a picture of 128 x 96 pixels (imageWidth, imageHeight), not on a.jpg, which is 40 x 30 pixels; "
        "use the picture that was annotated, unturned and unscaled."
    )
    write_pair(tmp_path / "test", "b", {**content(shape()), "imageWidth": SIZE[0], "imageHeight": SIZE[1]})
    write_pair(tmp_path / "test", "c", {**content(shape()), "imageWidth": None, "imageHeight": None})
    source = read_reasonseg(tmp_path, "test", on_bad="skip")
    assert [q.id for q in source.queries] == ["test/b", "test/c"] and [w for w, _ in source.skipped] == [str(path)]


@pytest.mark.parametrize("label", ["target", "ignore"])
def test_a_shape_wholly_outside_its_picture_is_refused(tmp_path: Path, label: str) -> None:
    points = [[80, 20], [120.5, 20], [120.5, 28]]
    path = write_pair(tmp_path / "test", "a", content(shape(), shape(label, points)))
    with pytest.raises(UserError) as error:
        read_reasonseg(tmp_path, "test")
    assert str(error.value) == (
        f"{path}, shapes[1]: the shape '{label}' (x 80 to 120.5, y 20 to 28) lies wholly outside a.jpg, which is 40 x 30 "
        "pixels; use the picture that was annotated, unturned and unscaled, or correct the shape."
    )
    flag = content(shape(), shape("flag", points))
    write_pair(tmp_path / "test", "a", flag)
    assert len(read_reasonseg(tmp_path, "test").queries) == 1


def test_a_shape_that_leaves_its_picture_is_cut_and_noted_where_it_is_by_far(tmp_path: Path) -> None:
    slip, far = [[-1, 5], [41.5, 5], [20, 31]], [[10, 5], [80, 5], [20, 20]]
    write_pair(tmp_path / "test", "a", content(shape("target", slip)))
    assert len(read_reasonseg(tmp_path, "test").notes) == 0
    write_pair(tmp_path / "test", "b", content(shape("target", far), shape()))
    assert read_reasonseg(tmp_path, "test").notes == (
        f"{tmp_path / 'test'}: 1 of 3 shapes reach more than a twentieth of the side beyond their pictures and are cut "
        "there; check that they are of these pictures at this size.",
    )


def test_without_written_answers_the_setting_that_asks_for_them_is_named(tmp_path: Path) -> None:
    write_pair(tmp_path / "train", "a")
    with pytest.raises(UserError) as error:
        read_reasonseg(tmp_path, "train", explanatory=True)
    assert str(error.value) == (
        f"{tmp_path / 'explanatory' / 'train.json'}: there is no such file; get the released one, or learn without it "
        "(--data.explanatory false)."
    )


def test_a_damaged_picture_is_refused_before_or_left_out_where_asked(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_pair(tmp_path / "train", name, suffix=".png")
    damaged = tmp_path / "train" / "b.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(
        ImageError, match=r"b\.png: the picture is damaged .*`data\.on_bad: skip` leaves such pictures out\."
    ):
        Segmentation(SegmentationData(source=str(tmp_path))).load("train")
    loaded = Segmentation(SegmentationData(source=str(tmp_path), on_bad="skip")).load("train")
    assert [e.id for e in loaded.examples] == ["train/a", "train/c"]
    assert [name for name, _ in loaded.refused] == [str(damaged)]


def test_the_square_around_a_picture_keeps_the_pixel_limit(tmp_path: Path) -> None:
    path = write_pair(tmp_path / "train", "a").with_suffix(".jpg")
    task = Segmentation(SegmentationData(source=str(tmp_path)))
    task.max_pixels = 1600
    assert len(task.load("train").examples) == 1
    task.max_pixels = 1599
    with pytest.raises(ImageError) as error:
        task.load("train")
    assert str(error.value) == (
        f"{path}: 40 x 30 pixels are laid in a square of 40 x 40, more than the limit of 1,599 pixels; shrink the picture or "
        "raise model.max_pixels. `data.on_bad: skip` leaves such pictures out."
    )
