from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import pytest
from picture_folders import write_folders, write_picture
from picture_tables import png, saved, write_csv, write_parquet, write_tar

from foveal import hub
from foveal.errors import ImageError, UserError
from foveal.tasks.classification.rows import Table, Wanted
from foveal.tasks.classification.sources import read_source
from foveal.tasks.classification.task import Classification, ClassificationData
from foveal.tasks.readers import tables

MARS = ("ael", "rou", "cli")


def read(path: Path, **wanted: Any) -> Table:
    return read_source(str(path), Wanted(**wanted))


def labels(table: Table) -> dict[str, list[str]]:
    return {split: [row.label for row in rows] for split, rows in table.splits.items()}


def reds(table: Table, split: str = "train") -> list[int]:
    """The number of each picture, which is its colour."""
    pixels = [row.picture.open().getpixel((0, 0)) for row in table.splits[split]]  # type: ignore[index]
    return [red for red, _, _ in pixels]  # type: ignore[misc]


def test_parquet_as_the_hub_has_it(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data/train-00000-of-00002.parquet", [0, 1, 2], names=MARS)
    write_parquet(tmp_path / "data/train-00001-of-00002.parquet", [2, 2], first=3, names=MARS)
    write_parquet(tmp_path / "data/val-00000-of-00001.parquet", [1], first=5, names=MARS)
    write_parquet(tmp_path / "data/few_shot_5-00000-of-00001.parquet", [1], first=6, names=MARS)
    table = read(tmp_path)
    assert table.names == MARS and table.numbered and not table.whole
    assert labels(table) == {"train": ["ael", "rou", "cli", "cli", "cli"], "validation": ["rou"]}
    assert reds(table) == [0, 1, 2, 3, 4] and reds(table, "validation") == [5]
    assert [row.id for row in table.splits["train"]] == [f"train/{i}" for i in range(5)]
    assert any("Left out, and never merged with another: 'few_shot_5'" in note for note in table.notes)
    assert any("The validation split is 'val'" in note for note in table.notes)
    few = read(tmp_path, splits={"train": "few_shot_5"})
    assert reds(few) == [6] and reds(few, "validation") == [5]


def test_names_that_contradict_the_data(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1, 2], names=MARS)
    assert read(tmp_path, class_names=MARS).names == MARS
    for given in (("ael", "cli", "rou"), ("a", "b", "c"), ("ael", "rou")):
        with pytest.raises(UserError) as error:
            read(tmp_path, class_names=given)
        message = str(error.value)
        assert f"data.class_names: {', '.join(f'{i} {n}' for i, n in enumerate(given))} contradicts" in message
        assert "own mapping is 0 ael, 1 rou, 2 cli" in message


def test_mapping_json_names_the_numbers(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 2, 1])
    assert read(tmp_path).names == ("0", "1", "2")
    assert "have no names" in " ".join(read(tmp_path).notes)
    named = read(tmp_path, class_names=("x", "y", "z"))
    assert labels(named) == {"train": ["x", "z", "y"]} and not named.numbered
    assert "0 x, 1 y, 2 z is the order of data.class_names, which nothing confirms" in " ".join(named.notes)
    with pytest.raises(
        UserError, match=r"names the numbers 0 to 1, but those in the column 'label' .* run from 0 to 2"
    ):
        read(tmp_path, class_names=("x", "y"))
    for mapping in ({"0": "ael", "1": "rou", "2": "cli"}, {"ael": 0, "rou": 1, "cli": 2}, list(MARS)):
        (tmp_path / "mapping.json").write_text(json.dumps(mapping))
        assert labels(read(tmp_path)) == {"train": ["ael", "cli", "rou"]}
    with pytest.raises(UserError, match=r"contradicts .*own mapping is 0 ael, 1 rou, 2 cli"):
        read(tmp_path, class_names=("x", "y", "z"))
    (tmp_path / "mapping.json").write_text('{"0": "ael", "1": "rou"}')
    with pytest.raises(UserError, match="row 1 of train: 2 is none of 0 ael, 1 rou; correct the row"):
        read(tmp_path)
    write_parquet(tmp_path / "train.parquet", [0, 1, 2], names=("a", "b", "c"))
    with pytest.raises(UserError, match=r"mapping\.json: says 0 ael, 1 rou, but the table says 0 a, 1 b, 2 c"):
        read(tmp_path)
    (tmp_path / "mapping.json").write_text("[")
    with pytest.raises(UserError, match=r"mapping\.json: is no table of numbers"):
        read(tmp_path)


def test_the_card_of_a_data_set(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a/one.parquet", [0, 1])
    write_parquet(tmp_path / "b/two.parquet", [1, 0], first=2)
    write_parquet(tmp_path / "b/three.parquet", [1], first=4)
    with pytest.raises(UserError, match=r"holds several tables, 'a', 'b'; choose one with data\.config"):
        read(tmp_path)
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files: a/*.parquet\n- config_name: large\n  default: true\n"
        "  data_files:\n  - split: train\n    path: b/two*\n  - split: test\n    path: [b/three*]\n"
        "dataset_info:\n- config_name: large\n  features:\n  - name: image\n    dtype: image\n  - name: label\n"
        "    dtype:\n      class_label:\n        names:\n          '0': cat\n          '1': dog\n---\n# A data set\n"
    )
    table = read(tmp_path)
    assert labels(table) == {"train": ["dog", "cat"], "test": ["dog"]} and table.numbered
    assert reds(table) == [2, 3] and reds(table, "test") == [4]
    assert table.notes[0] == "The table is 'large', the default one; left out: 'small'."
    small = read(tmp_path, config="small")
    assert reds(small) == [0, 1] and small.whole and small.names == ("0", "1")
    with pytest.raises(UserError, match=r"has no configuration 'huge'; it has 'small', 'large'"):
        read(tmp_path, config="huge")


def test_folders_that_datasets_saved(tmp_path: Path) -> None:
    kind = datasets.ClassLabel(names=["cat", "dog"])
    both = datasets.DatasetDict(train=saved([0, 1, 1], 0, kind), validation=saved([1], 3, kind))
    both.save_to_disk(str(tmp_path / "both"))
    table = read(tmp_path / "both")
    assert labels(table) == {"train": ["cat", "dog", "dog"], "validation": ["dog"]}
    assert reds(table) == [0, 1, 2] and table.names == ("cat", "dog")
    saved([1, 0], 5, kind).save_to_disk(str(tmp_path / "one"))
    one = read(tmp_path / "one")
    assert one.whole and labels(one) == {"train": ["dog", "cat"]} and reds(one) == [5, 6]
    (tmp_path / "one/state.json").write_text("{}")
    with pytest.raises(UserError, match=r"one/state\.json: cannot be read .* save the data set again"):
        read(tmp_path / "one")


def test_large_parquet_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("foveal.tasks.classification.sources.IN_MEMORY", 10)
    write_parquet(tmp_path / "x/train.parquet", [0, 1, 2], names=MARS)
    assert reds(read(tmp_path / "x")) == [0, 1, 2]
    assert list((tmp_path / "cache").rglob("*.arrow"))
    assert tables.IN_MEMORY == 1 << 30


def test_damaged_tables(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"train\.parquet: cannot be read as a table .*; fetch or save it again"):
        read(tmp_path)
    (tmp_path / "train.parquet").unlink()
    (tmp_path / "train.arrow").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"train\.arrow: cannot be read as a table"):
        read(tmp_path)
    write_parquet(tmp_path / "y/train.parquet", [0, 1], names=("a", "b"))
    write_parquet(tmp_path / "y/test.parquet", [0, 1], names=("b", "a"))
    with pytest.raises(UserError, match=r"test\.parquet: its class names for 'label', b, a, are not a, b as in"):
        read(tmp_path / "y")


def test_labels_that_are_hidden_or_missing(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1], names=("a", "b"))
    write_parquet(tmp_path / "test.parquet", [-1, -1], first=2, names=("a", "b"))
    table = read(tmp_path)
    assert list(table.splits) == ["train"]
    assert "The test split has no labels and is left out." in table.notes
    write_parquet(tmp_path / "train.parquet", [0, -1], names=("a", "b"))
    with pytest.raises(UserError, match=r"train\.parquet, row 1: has no label in 'label'; fill it in or remove"):
        read(tmp_path)


def test_csv(tmp_path: Path) -> None:
    for i in range(3):
        write_picture(tmp_path / f"images/{i}.png", i)
    write_csv(tmp_path / "list.csv", "path,label", ["0.png,cat", "1.png,cat", "2.png,dog"])
    table = read(tmp_path / "list.csv")
    assert table.names == ("cat", "dog") and table.whole and reds(table) == [0, 1, 2]
    assert [row.id for row in table.splits["train"]] == ["0.png", "1.png", "2.png"]
    assert "Pictures of 'list' lie at images/PATH beside the table." in table.notes
    assert labels(read(tmp_path)) == labels(table)
    write_csv(
        tmp_path / "list.csv",
        "path;label;split",
        ["images/0.png;cat;train", "images/1.png;dog;val", "images/2.png;dog;train"],
    )
    table = read(tmp_path)
    assert labels(table) == {"train": ["cat", "dog"], "validation": ["dog"]}
    assert "The column 'split' says which split a row belongs to." in table.notes
    write_csv(tmp_path / "list.tsv", "file\tkind\tother", ["images/0.png\t001\tx", "images/1.png\t002\tx"])
    table = read(tmp_path / "list.tsv", label_column="kind")
    assert table.names == ("001", "002")


def test_metadata_csv_in_split_folders(tmp_path: Path) -> None:
    for split, i in (("train", 0), ("train", 1), ("test", 2)):
        write_picture(tmp_path / split / f"{i}.png", i)
    write_csv(tmp_path / "train/metadata.csv", "file_name,label", ["0.png,cat", "1.png,dog"])
    write_csv(tmp_path / "test/metadata.csv", "file_name,label", ["2.png,dog"])
    table = read(tmp_path)
    assert labels(table) == {"train": ["cat", "dog"], "test": ["dog"]} and reds(table, "test") == [2]


def test_the_mars_archive(tmp_path: Path) -> None:
    lines = []
    for i, (name, split) in enumerate([("ael", "train"), ("rou", "train"), ("ael", "val"), ("rou", "test")]):
        write_picture(tmp_path / f"data/{split}/{name}/{i}.png", i)
        lines.append(f"{i}.png,{MARS.index(name)},{name},{split}")
    write_csv(tmp_path / "annotation.csv", "file_id,label,feature_name,split", lines)
    write_csv(tmp_path / "few_shot/1_shot.csv", "file_id,label", ["0.png,0"])
    table = read(tmp_path)
    assert labels(table) == {"train": ["ael", "rou"], "validation": ["ael"], "test": ["rou"]}
    assert reds(table) == [0, 1] and reds(table, "validation") == [2]
    (tmp_path / "mapping.json").write_text('{"0": "ael", "1": "rou", "2": "cli"}')
    by_number = read(tmp_path, label_column="label")
    assert by_number.names == MARS and labels(by_number) == labels(table) and reds(by_number, "test") == [3]
    with pytest.raises(UserError, match=r"contradicts .*own mapping is 0 ael, 1 rou, 2 cli"):
        read(tmp_path, label_column="label", class_names=("ael", "aec", "cli"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "first line must name the columns"),
        ("a/1.png,cat\na/2.png,dog\n", "first line must name the columns, e.g. path,label"),
        ("path,path\n1.png,a\n", "two columns are called 'path'"),
        ("path,label\n1.png,a,b\n", "line 2: has 3 cells, not 2; correct the line"),
        ('path,label\n"1.png,a\n', "cannot be read as a table"),
        ("path,label\n", "t.csv: holds no rows; add some, or check data.source."),
        ("path,label\nhttps://x.org/1.png,a\nhttps://x.org/2.png,b\n", "is an address, and none is fetched"),
        ("path,label\n1.png,0.5\n2.png,0.25\n", "fractions"),
        ("path,label\n1.png,a\n2.png,\n", "line 3: has no label in 'label'"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        read(tmp_path / "t.csv")


def test_a_class_that_train_lacks(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", "path,label", ["1.png,a", "2.png,b"])
    write_csv(tmp_path / "test.csv", "path,label", ["3.png,a", "4.png,c"])
    with pytest.raises(UserError, match="the test split has 'c', which train lacks"):
        read(tmp_path)


def test_yes_and_no(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", "path,label", ["1.png,True", "2.png,False"])
    assert labels(read(tmp_path / "t.csv")) == {"train": ["true", "false"]}
    assert labels(read(tmp_path / "t.csv", class_names=("no", "yes"))) == {"train": ["yes", "no"]}


def test_webdataset(tmp_path: Path) -> None:
    members = {
        f"x/{i:04d}.{end}": data for i in range(4) for end, data in (("png", png(i)), ("cls", b"%d\n" % (i % 2)))
    }
    write_tar(tmp_path / "set-train-0000.tar", members)
    write_tar(tmp_path / "set-test-0000.tar", {"7.json": b'{"label": 1, "id": "q"}', "7.png": png(7), "8.txt": b"x"})
    with pytest.raises(UserError, match=r"set-test-0000\.tar: has no column 'cls'"):
        read(tmp_path)
    table = read(tmp_path / "set-train-0000.tar", class_names=("cat", "dog"))
    assert labels(table) == {"train": ["cat", "dog", "cat", "dog"]} and reds(table) == [0, 1, 2, 3]
    assert table.splits["train"][1].id == "set-train-0000/x/0001"
    write_tar(
        tmp_path / "json/train/0.tar",
        {"7.json": b'{"label": "cat"}', "7.png": png(7), "8.png": png(8), "8.json": b'{"label": "dog"}'},
    )
    assert labels(read(tmp_path / "json")) == {"train": ["cat", "dog"]}
    assert not list(tmp_path.rglob("*.png"))


def test_tars_that_cannot_be_used(tmp_path: Path) -> None:
    good = write_tar(tmp_path / "a.tar", {"1.png": png(1), "1.cls": b"0", "2.png": png(2), "2.cls": b"1"})
    (tmp_path / "b.tar").write_bytes(good.read_bytes()[:700])
    (tmp_path / "c.tar").write_bytes(b"no archive")
    write_tar(tmp_path / "d.tar", {"1.png": png(1), "1.json": b"{", "2.png": png(2)})
    write_tar(tmp_path / "e.tar", {"1.png": png(1), "1.cls": b"0", "2.png": png(2)})
    for name, words in (
        ("b", r"b\.tar: cannot be read as a tar archive"),
        ("c", r"c\.tar: cannot be read as a tar archive"),
        ("d", r"d\.tar, key 1: 1\.json cannot be read"),
        ("e", r"e\.tar, key 2: has no label in 'cls'"),
    ):
        with pytest.raises(UserError, match=words):
            read(tmp_path / f"{name}.tar")
    table = read(good)
    good.unlink()
    with pytest.raises(ImageError, match=r"a\.tar, key 1: cannot be read"):
        table.splits["train"][0].picture.open()
    (tmp_path / "f.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"f\.zip: is no table of pictures; unpack it and give the folder"):
        read(tmp_path / "f.zip")


def test_a_member_that_points_elsewhere_is_not_followed(tmp_path: Path) -> None:
    import tarfile

    path = write_tar(tmp_path / "t.tar", {"../../1.png": png(1), "../../1.cls": b"0", "2.png": png(2), "2.cls": b"1"})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("3.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert reds(read(path)) == [1, 2]


def test_class_folders_stay_what_they_were(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train/cat": 2, "train/dog": 1, "test/cat": 1})
    write_csv(tmp_path / "notes.csv", "path,label", ["a.png,x", "b.png,y"])
    table = read(tmp_path)
    assert table.names == ("cat", "dog") and "Not read, as there are class folders: notes.csv." in table.notes


def test_folders_beside_tables_and_archives(tmp_path: Path) -> None:
    write_folders(tmp_path / "left", {"train/cat": 2, "train/dog": 1})
    write_tar(tmp_path / "left/images.tar", {"1.png": png(1), "1.cls": b"0"})
    assert labels(read(tmp_path / "left")) == {"train": ["cat", "cat", "dog"]}
    for key, given in (("image_column", "x"), ("config", "x")):
        with pytest.raises(UserError, match=rf"data\.{key}: is for tables, and .*/left holds folders of pictures"):
            read(tmp_path / "left", **{key: given})
    write_folders(tmp_path / "kaggle", {"train_images": 2, "test_images": 1})
    write_csv(
        tmp_path / "kaggle/train.csv", "image_path,label", ["train_images/000.png,cat", "train_images/001.png,dog"]
    )
    assert labels(read(tmp_path / "kaggle")) == {"train": ["cat", "dog"]}


def test_minus_one_is_a_number_where_numbers_have_no_names(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", "path,label", ["1.png,-1", "2.png,1"])
    assert labels(read(tmp_path / "t.csv")) == {"train": ["-1", "1"]}


def test_the_command_prints_every_guess(tmp_path: Path, command: Any) -> None:
    for split, first in (("train", 0), ("val", 12)):
        table = saved([0, 1, 2] * 4, first, datasets.Value("int64")).rename_columns(
            {"image": "img", "label": "category"}
        )
        table.to_parquet(str(tmp_path / f"{split}.parquet"))
    names = ("--data.class_names", "cat", "dog", "bird")
    recipe = ("data", "inspect", "classification-folder", "--data.source", tmp_path, "--out", tmp_path / "sheet.png")
    result = command(*recipe, *names, "--data.image_column", "img", "--data.label_column", "category")
    assert result.code == 0, result.err
    assert "12 rows of" in result.out and "33.3 %" in result.out
    for guess in (
        "The picture is the column 'img': data.image_column says so.",
        "The label is the column 'category': data.label_column says so.",
        "The validation split is 'val': a usual name of it.",
        "0 cat, 1 dog, 2 bird is the order of data.class_names, which nothing confirms.",
    ):
        assert guess in result.out
    result = command(*recipe, "--data.splits", "{train: val, validation: train}")
    assert result.code == 0 and "The train split is 'val': data.splits says so." in result.out


def test_names_without_an_owner(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cifar10: there is no such folder; on the Hub .* is uoft-cs/cifar10"):
        read_source("cifar10", Wanted())
    with pytest.raises(UserError, match=r"ada/none: there is no such folder, and no complete copy .*HF_HUB_OFFLINE"):
        read_source("ada/none", Wanted())


def test_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub.fetch.cache_parameters()["maxsize"] is None, "all splits are of one commit, as the one below"
    copy = tmp_path / "0123456789abcdef"
    write_parquet(copy / "data/train-0.parquet", [0, 1] * 10, names=("a", "b"))
    asked = []

    @cache
    def fetch(source: str, patterns: tuple[str, ...]) -> Path:
        asked.append((source, "*.parquet" in patterns, "*.tar" in patterns, "*.py" in patterns))
        return copy

    monkeypatch.setattr("foveal.hub.fetch", fetch)
    task = Classification(ClassificationData(source="ada/letters@v1"))
    loaded = {split: task.load(split) for split in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert asked == [("ada/letters@v1", True, True, False)]
    assert task.answers() == ("a", "b")
    assert {split: len(x.examples) for split, x in loaded.items()} == {"train": 14, "validation": 2, "test": 4}
    assert loaded["test"].source == "ada/letters@v1 (Hub, commit 0123456) (0.2 of each class held out, seed 0)"
    assert any("The picture is the column 'image'" in note for note in loaded["train"].notes)
    write_csv(tmp_path / "other/train.csv", "path,label", ["/etc/passwd.png,a", "../x.png,b"])
    monkeypatch.setattr("foveal.hub.fetch", lambda *_: tmp_path / "other")
    with pytest.raises(ImageError, match=r"train\.csv, line 2: its picture '/etc/passwd\.png' lies outside"):
        Classification(ClassificationData(source="ada/paths", test_share=0, validation_share=0)).load("train")
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("foveal.hub.fetch", lambda *_: tmp_path / "empty")
    with pytest.raises(UserError, match=r"ada/script .*give OWNER/NAME@refs/convert/parquet"):
        Classification(ClassificationData(source="ada/script"))


def test_identical_pictures_in_two_splits(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1, 0, 1], names=("a", "b"))
    write_parquet(tmp_path / "test.parquet", [1, 0, 1], first=2, names=("a", "b"))
    task = Classification(ClassificationData(source=str(tmp_path), validation_share=0))
    sentence = "2 of 3 pictures of the test split are in train too, byte for byte, e.g. test/0 as train/2."
    assert task.load("test").notes[-1] == sentence
    assert task.load("train").notes[-1] == sentence
    for split, i in (("train", 0), ("train", 1), ("test", 1), ("test", 2)):
        for name in ("cat", "dog"):
            write_picture(tmp_path / "folders" / split / name / f"{i}.png", i + 40 * (name == "dog"))
    folders = Classification(ClassificationData(source=str(tmp_path / "folders"), validation_share=0))
    assert folders.load("test").notes == (
        "2 of 4 pictures of the test split are in train too, byte for byte, e.g. test/cat/1.png as train/cat/1.png.",
    )


def test_bad_pictures_in_a_table(tmp_path: Path) -> None:
    write_picture(tmp_path / "1.png")
    write_picture(tmp_path / "2.png", 2)
    write_csv(tmp_path / "t.csv", "path,label", ["1.png,a", "2.png,b", "3.png,a", "1.png,a"])
    options: dict[str, Any] = {"source": str(tmp_path / "t.csv"), "validation_share": 0, "test_share": 0}
    with pytest.raises(ImageError, match=r"t\.csv, line 4 .*3\.png.*there is no such picture.*on_bad_image: skip"):
        Classification(ClassificationData(**options)).load("train")
    loaded = Classification(ClassificationData(**options, on_bad_image="skip")).load("train")
    assert Counter(e.truth for e in loaded.examples) == {"a": 2, "b": 1}
    assert [row for row, _ in loaded.refused] == ["3.png"]
    assert len({e.id for e in loaded.examples}) == 3
    write_tar(
        tmp_path / "t.tar",
        {"1.png": png(1)[:50], "1.cls": b"0", "2.png": png(2), "2.cls": b"1", "3.png": png(3), "3.cls": b"0"},
    )
    options["source"] = str(tmp_path / "t.tar")
    with pytest.raises(ImageError, match=r"t\.tar, key 1: the picture is damaged"):
        Classification(ClassificationData(**options)).load("train")


def test_a_run_reads_its_classes_again(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [3, 7, 3])
    first = Classification(ClassificationData(source=str(tmp_path), test_share=0, validation_share=0))
    assert first.answers() == ("3", "7")
    again = Classification(first.data)
    assert [e.truth for e in again.load("train").examples] == ["3", "7", "3"]


def test_a_key_of_an_archive_without_its_picture_is_a_sentence_or_left_out(tmp_path: Path) -> None:
    members = {f"{i}.{end}": data for i in range(8) for end, data in (("png", png(i)), ("cls", b"%d" % (i % 2)))}
    del members["3.png"]
    path = write_tar(tmp_path / "set-train-0.tar", members)
    table = read(path, class_names=("cat", "dog"))
    with pytest.raises(ImageError, match=r"set-train-0\.tar, key 3: has no picture; restore or remove it\."):
        table.splits["train"][3].picture.check(pixels=False)
    assert len(table.splits["train"]) == 8
