from __future__ import annotations

from pathlib import Path

import pytest
from picture_folders import write_folders, write_picture

from foveal.errors import UserError
from foveal.tasks.classification.folder import class_names, class_splits, read_folder


def test_split_layout(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train/cat": 3, "train/dog": 2, "val/dog": 1, "test/cat": 1})
    table = read_folder(tmp_path)
    assert table.names == ("cat", "dog")
    assert not table.whole
    assert {split: [row.id for row in rows] for split, rows in table.splits.items()} == {
        "train": [f"train/cat/00{i}.png" for i in range(3)] + ["train/dog/000.png", "train/dog/001.png"],
        "validation": ["val/dog/000.png"],
        "test": ["test/cat/000.png"],
    }
    row = table.splits["test"][0]
    assert row.label == "cat"
    assert row.picture.source == tmp_path / "test/cat/000.png"
    assert row.picture.name == str(tmp_path / "test/cat/000.png")


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev", "Val", "VALID"])
def test_names_of_the_validation_folder(tmp_path: Path, name: str) -> None:
    write_folders(tmp_path, {"Train/a": 1, "Train/b": 1, f"{name}/a": 1, "TEST/b": 1})
    assert class_splits(tmp_path) == {
        "train": tmp_path / "Train",
        "validation": tmp_path / name,
        "test": tmp_path / "TEST",
    }


def test_plain_layout(tmp_path: Path) -> None:
    write_folders(tmp_path, {"b": 2, "a": 1})
    table = read_folder(tmp_path)
    assert table.whole
    assert table.names == ("a", "b")
    assert [row.id for row in table.splits["train"]] == ["a/000.png", "b/000.png", "b/001.png"]


def test_pictures_in_folders_of_a_class_folder(tmp_path: Path) -> None:
    write_folders(tmp_path, {"a/2020": 1, "a/2021/june": 2, "b": 1})
    table = read_folder(tmp_path)
    assert [(row.id, row.label) for row in table.splits["train"]] == [
        ("a/2020/000.png", "a"),
        ("a/2021/june/000.png", "a"),
        ("a/2021/june/001.png", "a"),
        ("b/000.png", "b"),
    ]


def test_class_that_is_called_as_a_split(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train": 2, "plane": 2, "test": 1})
    table = read_folder(tmp_path, classes=["train", "plane", "test"])
    assert table.whole
    assert table.names == ("plane", "test", "train")


def test_hidden_files_and_strays_are_no_rows(tmp_path: Path) -> None:
    write_folders(tmp_path, {"a": 1, "b": 1, ".thumbs": 1, "__MACOSX/a": 1, "a/.cache": 1})
    write_picture(tmp_path / "overview.png")
    write_picture(tmp_path / "a/._000.png")
    (tmp_path / "b/notes.txt").write_text("no picture")
    assert [row.id for row in read_folder(tmp_path).splits["train"]] == ["a/000.png", "b/000.png"]


def test_class_folder_may_be_a_link(tmp_path: Path) -> None:
    write_folders(tmp_path / "data", {"a": 1})
    write_folders(tmp_path / "elsewhere", {"b": 2})
    (tmp_path / "data/b").symlink_to(tmp_path / "elsewhere/b")
    assert [row.label for row in read_folder(tmp_path / "data").splits["train"]] == ["a", "b", "b"]


def test_only_a_test_split(tmp_path: Path) -> None:
    write_folders(tmp_path, {"test/a": 1, "test/b": 1})
    table = read_folder(tmp_path)
    assert table.names == ("a", "b")
    assert set(table.splits) == {"test"}


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, ["holds no pictures", "check the path"]),
        ({"a": 1}, ["only one class, 'a'", "at least two"]),
        ({"train/a": 1, "test/a": 1}, ["train", "only one class, 'a'"]),
        ({".": 3}, ["lie in no class folder", "one of its own"]),
        ({"a": 1, "b": 0}, ["/b: ", "class 'b'", "holds no pictures", "add some or remove"]),
        ({"train/a": 1, "train/b": 1, "test/a": 0}, ["test/a: ", "holds no pictures"]),
        (
            {"train/a": 1, "train/b": 1, "test/a": 1, "test/c": 1},
            ["/test: the class 'c' of the test split is not among the classes of", "/train;", "rename or remove"],
        ),
        (
            {"train/a": 1, "train/b": 1, "val/c": 1, "val/d": 1},
            ["/val: the classes 'c', 'd' of the validation split are not among"],
        ),
        ({"train/a": 1, "train/b": 1, "val/a": 1, "dev/a": 1}, ["'dev' and 'val'", "validation split", "remove one"]),
        ({"train/a": 1, "train/b": 1, "test": 2}, ["/test: lies beside", "'train'", "sort its pictures"]),
        ({"train/a": 1, "train/b": 1, "plane": 2}, ["/plane: lies beside", "move it elsewhere"]),
    ],
)
def test_errors_name_the_folder_and_the_remedy(tmp_path: Path, counts: dict[str, int], words: list[str]) -> None:
    write_folders(tmp_path, counts)
    with pytest.raises(UserError) as error:
        read_folder(tmp_path)
    message = str(error.value)
    assert str(tmp_path) in message
    for word in words:
        assert word in message


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: there is no such folder; check data\.source"):
        class_names(tmp_path / "nowhere")
    write_picture(tmp_path / "file.png")
    with pytest.raises(UserError, match="there is no such folder"):
        class_names(tmp_path / "file.png")


def test_empty_folders_beside_splits_do_not_matter(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train/a": 1, "train/b": 1, "validation": 0, "labels": 0})
    (tmp_path / "labels/a.txt").write_text("1")
    assert set(read_folder(tmp_path).splits) == {"train"}
