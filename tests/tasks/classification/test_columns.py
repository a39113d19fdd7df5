from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from foveal.errors import UserError
from foveal.tasks.classification.columns import detect

IMAGE = {"_type": "Image"}
MASK = {"_type": "Image"}


def classes(*names: str) -> dict[str, Any]:
    return {"_type": "ClassLabel", "names": list(names)}


def value(dtype: str) -> dict[str, str]:
    return {"_type": "Value", "dtype": dtype}


INT, TEXT, FLOAT, BOOL, BINARY = (value(t) for t in ("int64", "string", "float64", "bool", "binary"))
CAT_DOG = classes("cat", "dog")
DIGITS = classes(*"0123456789")
LIST = {"_type": "List", "feature": INT}
PATHS = ["a/1.jpg", "a/2.jpg", "b/1.JPG"]
JPEG, PNG = b"\xff\xd8\xff\xe0" + bytes(8), b"\x89PNG\r\n\x1a\n" + bytes(8)


def rows(**columns: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


#: Name of the layout, its columns, a few rows, and the columns of picture and label.
RIGHT: list[tuple[str, Mapping[str, Any], list[dict[str, Any]], str, str]] = [
    ("CIFAR-10", {"img": IMAGE, "label": CAT_DOG}, [], "img", "label"),
    ("CIFAR-100", {"img": IMAGE, "fine_label": classes("apple", "bee"), "coarse_label": classes("fish", "fruit")}, [], "img", "fine_label"),
    ("CIFAR-100, other order", {"coarse_label": classes("fish", "fruit"), "fine_label": classes("apple", "bee"), "img": IMAGE}, [], "img", "fine_label"),
    ("beans", {"image_file_path": TEXT, "image": IMAGE, "labels": classes("rust", "healthy")}, rows(image_file_path=PATHS), "image", "labels"),
    ("Food-101", {"image": IMAGE, "label": classes("apple_pie", "baklava")}, [], "image", "label"),
    ("MNIST", {"image": IMAGE, "label": DIGITS}, [], "image", "label"),
    ("Fashion-MNIST", {"image": IMAGE, "label": classes("shirt", "coat")}, [], "image", "label"),
    ("mb-domars16k", {"image": IMAGE, "label": INT}, rows(label=[0, 3, 14]), "image", "label"),
    ("mb-domars16k, classes named", {"image": IMAGE, "label": INT, "class_name": TEXT}, rows(label=[0, 1], class_name=["ael", "rou"]), "image", "class_name"),
    ("DoMars16k, annotation.csv", {"file_id": "string", "label": "int64", "feature_name": "string", "split": "string"}, rows(file_id=PATHS, label=["0", "0", "1"], feature_name=["ael", "ael", "rou"], split=["train", "val", "test"]), "file_id", "feature_name"),
    ("Oxford-IIIT Pet", {"image": IMAGE, "label": classes("abyssinian", "beagle"), "image_id": TEXT, "label_cat_dog": CAT_DOG}, rows(image_id=["a_1", "b_2"]), "image", "label"),
    ("ImageNet-1k", {"image": IMAGE, "label": classes("tench", "goldfish")}, rows(label=[0, -1]), "image", "label"),
    ("EuroSAT", {"image": IMAGE, "label": classes("Forest", "River"), "filename": TEXT}, rows(filename=PATHS), "image", "label"),
    ("EuroSAT, classes as numbers and names", {"image": IMAGE, "filename": TEXT, "label": INT, "class_name": TEXT}, rows(filename=PATHS, label=[0, 0, 1], class_name=["a", "a", "b"]), "image", "class_name"),
    ("Stanford Cars", {"image": IMAGE, "label": classes("AM General Hummer", "Acura RL")}, [], "image", "label"),
    ("SVHN, cropped", {"image": IMAGE, "label": DIGITS}, [], "image", "label"),
    ("Tiny ImageNet", {"image": IMAGE, "label": classes("n01443537", "n01629819")}, [], "image", "label"),
    ("Cats vs. dogs", {"image": IMAGE, "labels": CAT_DOG}, [], "image", "labels"),
    ("AID", {"image": IMAGE, "label": classes("Airport", "Beach")}, [], "image", "label"),
    ("RESISC45", {"image": IMAGE, "label": classes("airplane", "airport"), "image_id": TEXT}, rows(image_id=["airplane_001.jpg"]), "image", "label"),
    ("DTD", {"image": IMAGE, "label": classes("banded", "blotchy")}, [], "image", "label"),
    ("Flowers 102", {"image": IMAGE, "label": INT}, rows(label=[0, 101]), "image", "label"),
    ("PlantVillage", {"image": IMAGE, "crop": TEXT, "disease": TEXT, "label": classes("Apple scab", "Apple rust")}, [], "image", "label"),
    ("CUB-200", {"image": IMAGE, "description": TEXT, "label": INT}, rows(description=["A bird."], label=[4]), "image", "label"),
    ("WebDataset, cls", {"jpg": IMAGE, "cls": "int64", "__key__": "string", "__url__": "string"}, rows(cls=["0", "1"], __key__=["1", "2"]), "jpg", "cls"),
    ("WebDataset, json", {"png": IMAGE, "json.label": "string", "json.id": "int64", "__key__": "string"}, rows(**{"json.label": ["cat", "dog"], "json.id": [1, 2]}), "png", "json.label"),
    ("CSV", {"path": "string", "label": "string"}, rows(path=PATHS, label=["cat", "cat", "dog"]), "path", "label"),
    ("CSV, metadata.csv", {"file_name": "string", "species": "string", "date": "string"}, rows(file_name=PATHS, species=["a", "a", "b"], date=["1", "2", "3"]), "file_name", "species"),
    ("CSV, two columns of any name", {"picture file": "string", "sort": "string"}, rows(**{"picture file": PATHS, "sort": ["x", "x", "y"]}), "picture file", "sort"),
    ("parquet with bytes", {"image_bytes": "binary", "target": "int32"}, rows(image_bytes=[JPEG, PNG], target=[0, 1]), "image_bytes", "target"),
    ("parquet of `datasets`, no features noted", {"image": "struct<bytes: binary, path: string>", "label": "int64"}, rows(label=[0, 1]), "image", "label"),
    ("yes or no", {"image": IMAGE, "label": BOOL}, rows(label=[True, False]), "image", "label"),
    ("iNaturalist-like", {"photo": IMAGE, "species": TEXT, "latitude": FLOAT}, rows(species=["a", "b"], latitude=[1.5, 2.5]), "photo", "species"),
    ("pandas categories", {"photo": "binary", "category": "dictionary<values=string, indices=int8, ordered=0>"}, rows(photo=[PNG], category=["a"]), "photo", "category"),
]  # fmt: skip


@pytest.mark.parametrize(("features", "samples", "image", "label"), [r[1:] for r in RIGHT], ids=[r[0] for r in RIGHT])
def test_columns_of_real_data_sets(
    features: Mapping[str, Any], samples: list[dict[str, Any]], image: str, label: str
) -> None:
    columns = detect(features, samples)
    assert (columns.image, columns.label) == (image, label)
    assert f"picture is the column {image!r}: " in columns.reasons[0]
    assert f"label is the column {label!r}: " in columns.reasons[1]
    again = detect(features, samples, image_column=image, label_column=label)
    assert (again.image, again.label) == (image, label)
    assert "data.label_column says so" in again.reasons[1]


#: Name of the layout, its columns, a few rows, and what the refusal says.
WRONG: list[tuple[str, Mapping[str, Any], list[dict[str, Any]], str]] = [
    ("segmentation, ADE20K", {"image": IMAGE, "annotation": MASK, "scene_category": CAT_DOG}, [], r"2 columns of pictures, 'image', 'annotation', and 'annotation' look like masks"),
    ("segmentation, image and label", {"pixel_values": IMAGE, "label": MASK}, [], "'label' look like masks or maps"),
    ("segmentation, paths", {"image": "string", "mask": "string"}, rows(image=PATHS, mask=PATHS), "'mask' look like masks"),
    ("segmentation, tar", {"jpg": IMAGE, "seg.png": IMAGE, "__key__": "string"}, [], "'seg.png' look like masks"),
    ("two pictures", {"first": IMAGE, "second": IMAGE, "label": CAT_DOG}, [], "2 columns of pictures.*one is needed; .*set data.image_column"),
    ("COCO detection", {"image_id": INT, "image": IMAGE, "width": INT, "height": INT, "objects": {"bbox": [FLOAT], "category": [INT]}}, rows(image_id=[1, 2], width=[640, 640], height=[480, 480]), r"boxes of several objects in a picture \('objects', detection\)"),
    ("SVHN, whole numbers", {"image": IMAGE, "digits": {"_type": "List", "feature": {}}}, [], "boxes of several objects"),
    ("multi-label", {"image": IMAGE, "labels": LIST}, [], r"'labels' holds lists \(several labels in a row\)"),
    ("multi-label, Arrow", {"image": IMAGE, "labels": "list<element: int64>"}, [], "several labels in a row"),
    ("regression", {"image": IMAGE, "label": FLOAT}, rows(label=[3.5, 2.25]), r"'label' holds fractions \(regression"),
    ("regression, beauty", {"image": IMAGE, "beauty_score": FLOAT, "name": TEXT}, rows(beauty_score=[2.5], name=["a"]), "no column of labels"),
    ("captions, Flickr", {"image": IMAGE, "caption": {"_type": "List", "feature": TEXT}, "img_id": TEXT}, rows(img_id=["1"]), r"captions \('caption'\)"),
    ("captions, text", {"image": IMAGE, "text": TEXT}, rows(text=["a red bird", "a blue one"]), r"captions \('text'\)"),
    ("captions called label", {"image": IMAGE, "label": TEXT}, rows(label=["a red bird sits on a tree", "two cats sleep on the grey sofa"]), "a sentence of its own in each row"),
    ("VQA", {"image": IMAGE, "question": TEXT, "multiple_choice_answer": TEXT, "answers": LIST}, rows(question=["How many?"]), "questions with answers"),
    ("no picture", {"text": TEXT, "label": CAT_DOG}, rows(text=["a b", "c d"]), "has no column of pictures or of paths to them; its columns are text, label; set data.image_column"),
    ("pixels as columns", {"pixel0": INT, "pixel1": INT, "label": INT}, rows(pixel0=[0], pixel1=[1], label=[1]), "no column of pictures"),
    ("no label", {"image": IMAGE, "id": INT, "date": TEXT}, rows(id=[1, 2], date=["a", "b"]), r"no column of labels .*its columns are image, id, date; set data.label_column"),
    ("only pictures", {"image": IMAGE}, [], "no column of labels"),
    ("BlindTest", {"task": TEXT, "image": IMAGE, "prompt": TEXT, "groundtruth": TEXT}, rows(task=["a"], prompt=["b"], groundtruth=["1"]), "captions|no column of labels"),
    ("two classes", {"image": IMAGE, "species": CAT_DOG, "breed": CAT_DOG}, [], "'species', 'breed' could each be the label; set data.label_column"),
    ("label and labels", {"image": IMAGE, "label": CAT_DOG, "labels": CAT_DOG}, [], "could each be the label"),
    ("nothing", {}, [], "no column of pictures or of paths to them; its columns are none"),
]  # fmt: skip


@pytest.mark.parametrize(("features", "samples", "words"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_refused(features: Mapping[str, Any], samples: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(UserError, match=rf"^t\.csv[:,] .*{words}"):
        detect(features, samples, where="t.csv")


def test_the_table_is_long_enough() -> None:
    assert len(RIGHT) >= 25 and len({name for name, *_ in RIGHT}) == len(RIGHT)
    assert len(WRONG) >= 6


def test_columns_of_the_recipe() -> None:
    ade = {"image": IMAGE, "annotation": MASK, "scene_category": CAT_DOG}
    columns = detect(ade, image_column="image", label_column="scene_category")
    assert (columns.image, columns.label, columns.names) == ("image", "scene_category", ("cat", "dog"))
    assert detect({"img": IMAGE, "label": CAT_DOG, "category": INT}, label_column="category").label == "category"
    with pytest.raises(UserError, match=r"data\.label_column: t has no column 'kind'; its columns are image, label"):
        detect({"image": IMAGE, "label": INT}, label_column="kind", where="t")
    with pytest.raises(UserError, match=r"data\.image_column: t, column 'label' holds classes, no pictures"):
        detect({"image": IMAGE, "label": CAT_DOG}, image_column="label", where="t")
    assert detect({"image": IMAGE, "label": CAT_DOG, "score": FLOAT}, label_column="score").label == "score"
    lists = {"image": IMAGE, "label": CAT_DOG, "tags": {"_type": "List"}}
    with pytest.raises(UserError, match=r"data\.label_column: t, column 'tags' holds lists"):
        detect(lists, label_column="tags", where="t")


def test_names_and_split_columns() -> None:
    columns = detect({"image": IMAGE, "label": CAT_DOG})
    assert columns.names == ("cat", "dog") and "2 class names are those that the data give" in columns.reasons[2]
    assert detect({"image": IMAGE, "label": DIGITS}).names == ()
    table = {"path": "string", "label": "string", "split": "string"}
    samples = rows(path=PATHS, label=["a", "b", "a"], split=["train", "Test", "val"])
    assert detect(table, samples).split == "split"
    samples = rows(path=PATHS, label=["a", "b", "a"], split=["train", "fold2", "val"])
    assert detect(table, samples).split == ""
