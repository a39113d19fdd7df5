from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from foveal.errors import ImageError, UserError
from foveal.tasks.counting.fsc147 import read_fsc147


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [left, bottom], [right, bottom], [right, top]]


def annotation() -> dict[str, Any]:
    """As the released file has them: the original picture was 768 x 1024 wide, the shrunken one is 384 high."""
    return {
        "H": 768,
        "W": 1024,
        "box_examples_coordinates": [box(10, 20, 30, 60), box(100, 100, 124, 130), box(0, 0, 22, 50)],
        "box_examples_path": ["a"],
        "density_path": "b",
        "points": [[20.5, 40], [512, 384], [100, 0]],
        "r": [16, 16],
        "ratio_h": 0.5,
        "ratio_w": 0.5,
    }


LISTS = {"train": ["2.jpg", "3.jpg"], "val": ["4.jpg"], "test": ["5.jpg"], "val_coco": ["9.jpg"], "test_coco": []}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    save(tmp_path, {f"{i}.jpg": annotation() for i in range(2, 6)})
    (tmp_path / "Train_Test_Val_FSC_147.json").write_text(json.dumps(LISTS))
    (tmp_path / "ImageClasses_FSC147.txt").write_text(
        "2.jpg\tsea shells\n3.jpg\thot air balloons \r\n4.jpg\teggs\n5.jpg\tcars\n\n"
    )
    (tmp_path / "images_384_VarV2").mkdir()
    for i in range(2, 6):
        Image.new("RGB", (512, 384)).save(tmp_path / "images_384_VarV2" / f"{i}.jpg")
    return tmp_path


def save(root: Path, annotations: Any) -> None:
    (root / "annotation_FSC147_384.json").write_text(json.dumps(annotations))


def test_the_released_layout(root: Path) -> None:
    source = read_fsc147(root, "train")
    assert [(q.id, q.category) for q in source.queries] == [("2.jpg", "sea shells"), ("3.jpg", "hot air balloons")]
    first = source.queries[0]
    assert [t.point for t in first.things] == [(20.5, 40), (512, 384), (100, 0)]
    assert all(t.box is None and t.extent is None for t in first.things)
    # Widths 20, 24 and 22, heights 40, 30 and 50.
    assert first.extra == {"exemplar_size": [22, 40]}
    assert json.loads(json.dumps(first.extra)) == first.extra
    assert first.size == pickle.loads(pickle.dumps(first)).picture.open().size == (512, 384)
    assert [q.id for q in read_fsc147(root, "validation").queries] == ["4.jpg"]
    assert [q.category for q in read_fsc147(root, "test").queries] == ["cars"]
    assert source.skipped == () and source.place == f"{root} (train)"


def test_pictures_of_another_size_are_refused(root: Path) -> None:
    Image.new("RGB", (1024, 768)).save(root / "images_384_VarV2" / "4.jpg")
    annotations = {"4.jpg": annotation() | {"ratio_w": 0.25, "ratio_h": 0.25}}
    save(root, annotations)
    read_fsc147(root, "validation")  # points in the frame of a picture that was not shrunken
    Image.new("RGB", (700, 384)).save(root / "images_384_VarV2" / "4.jpg")
    for ratio in (0.5, 0.25):
        save(root, {"4.jpg": annotation() | {"ratio_w": ratio, "ratio_h": ratio}})
        with pytest.raises(UserError, match=rf"4.jpg: W times ratio_w is {1024 * ratio:.0f}, but .*4.jpg is 700 pix"):
            read_fsc147(root, "validation")
    save(root, {"4.jpg": {"points": [[699, 383]]}})
    assert read_fsc147(root, "validation").queries[0].extra == {}


def test_a_picture_is_checked_again_when_it_is_opened(root: Path) -> None:
    query = read_fsc147(root, "test").queries[0]
    Image.new("RGB", (384, 512)).save(root / "images_384_VarV2" / "5.jpg")
    with pytest.raises(ImageError, match="is 384 x 512 pixels, but its annotations are for 512 x 384"):
        query.picture.open()


def test_sizes_are_those_of_upright_pictures(root: Path) -> None:
    image = Image.new("RGB", (384, 512))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(root / "images_384_VarV2" / "5.jpg", exif=exif)
    query = read_fsc147(root, "test").queries[0]
    assert query.size == query.picture.open().size == (512, 384)


def test_points_outside_the_picture(root: Path) -> None:
    near = annotation() | {"points": [[-1.5, 4], [513.5, 386], [5, 5]]}
    save(root, {"4.jpg": near, "5.jpg": annotation() | {"points": [[5, 5], [5, 386.5], [600, 5]]}})
    assert [t.point for t in read_fsc147(root, "validation").queries[0].things] == [(0, 4), (512, 384), (5, 5)]
    with pytest.raises(UserError, match=r"5.jpg: point 1, \[5, 386.5\], lies outside its picture of 512 x 384"):
        read_fsc147(root, "test")
    source = read_fsc147(root, "test", on_bad="skip")
    assert [t.point for t in source.queries[0].things] == [(5, 5)]
    assert [where.rsplit(", ", 1)[1] for where, _ in source.skipped] == ["point 1", "point 2"]


def test_exemplar_boxes_outside_the_picture_do_not_count(root: Path) -> None:
    boxes = [box(500, 0, 600, 10), box(600, 0, 700, 10), box(7, 7, 7, 9)]
    save(root, {"4.jpg": annotation() | {"box_examples_coordinates": boxes}, "5.jpg": annotation()})
    assert read_fsc147(root, "validation").queries[0].extra == {"exemplar_size": [12, 10]}


def test_missing_pictures(root: Path) -> None:
    (root / "images_384_VarV2" / "2.jpg").unlink()
    with pytest.raises(UserError, match=r"2.jpg: there is no such picture, which Train_Test_Val_FSC_147.json lists"):
        read_fsc147(root, "train")
    source = read_fsc147(root, "train", on_bad="skip")
    assert [q.id for q in source.queries] == ["3.jpg"] and len(source.skipped) == 1
    (root / "images_384_VarV2" / "4.jpg").unlink()
    with pytest.raises(UserError, match="no picture of the validation split is there"):
        read_fsc147(root, "validation", on_bad="skip")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": None}, "4.jpg: points is nothing, not a list"),
        ({"points": [[1, 2], [3]]}, r"4.jpg: point 1 is \[3\], not two numbers"),
        ({"points": [[1, True]]}, "4.jpg: point 0 is"),
        ({"box_examples_coordinates": 3}, "box_examples_coordinates is a number, not a list"),
        ({"box_examples_coordinates": [[[1, 2], [3]]]}, r"the exemplar box \[\[1, 2\], \[3\]\] is not four corners"),
    ],
)
def test_malformed_annotations(root: Path, change: dict[str, Any], message: str) -> None:
    save(root, {"4.jpg": annotation() | change})
    with pytest.raises(UserError, match=re.escape(str(root)) + ".*" + message):
        read_fsc147(root, "validation")


def test_missing_and_malformed_files(root: Path) -> None:
    save(root, {"4.jpg": [1]})
    with pytest.raises(UserError, match=r"4.jpg: is a list, but Train_Test_Val_FSC_147.json lists it"):
        read_fsc147(root, "validation")
    with pytest.raises(UserError, match=r"5.jpg: is nothing, but"):
        read_fsc147(root, "test")
    save(root, {"4.jpg": annotation()})
    classes = root / "ImageClasses_FSC147.txt"
    classes.write_text("4.jpg\n")
    with pytest.raises(UserError, match=r"line 1: '4.jpg' has no class after the file name"):
        read_fsc147(root, "validation")
    classes.write_text("3.jpg\teggs\n")
    with pytest.raises(UserError, match=r"has no line for 4.jpg"):
        read_fsc147(root, "validation")
    classes.write_bytes(b"4.jpg\t\xff\n")
    with pytest.raises(UserError, match="cannot be read"):
        read_fsc147(root, "validation")
    classes.unlink()
    with pytest.raises(UserError, match=r"ImageClasses_FSC147.txt: there is no such file"):
        read_fsc147(root, "validation")
    (root / "Train_Test_Val_FSC_147.json").write_text('{"val": [], "test": [3]}')
    for split in ("train", "validation", "test"):
        with pytest.raises(UserError, match="is no list of file names"):
            read_fsc147(root, split)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="there is no such folder"):
        read_fsc147(root / "nowhere", "train")


def test_twin_points_are_counted_once_or_as_published(root: Path) -> None:
    save(root, {"5.jpg": {**annotation(), "points": [[20, 40], [20, 40], [100, 0]]}})
    source = read_fsc147(root, "test")
    assert len(source.queries[0].things) == 2
    assert source.notes == (
        f"{root / 'annotation_FSC147_384.json'}: 1 points repeat another one exactly and are counted once: 2 objects, and 3 "
        "with data.twins: all.",
    )
    assert len(read_fsc147(root, "test", twins="all").queries[0].things) == 3


def test_points_in_shares_of_the_sides_are_refused(root: Path) -> None:
    save(root, {"5.jpg": {**annotation(), "points": [[0.5, 0.25], [0.1, 0.9]]}})
    with pytest.raises(UserError, match="all points lie within 0 and 1, as shares of the picture's sides"):
        read_fsc147(root, "test")


def test_a_damaged_header_is_left_out_where_asked_and_the_recipes_pixel_limit_holds(root: Path) -> None:
    picture = root / "images_384_VarV2" / "2.jpg"
    with pytest.raises(ImageError, match=r"2\.jpg: 512 x 384 pixels are more than the limit of 1,000"):
        read_fsc147(root, "train", max_pixels=1000)
    picture.write_bytes(b"")
    with pytest.raises(ImageError, match=r"2\.jpg: the file is empty"):
        read_fsc147(root, "train")
    source = read_fsc147(root, "train", on_bad="skip")
    assert [q.id for q in source.queries] == ["3.jpg"] and [w for w, _ in source.skipped] == [str(picture)]
