from __future__ import annotations

from pathlib import Path

import pytest
from picture_tables import png

from foveal.errors import ImageError
from foveal.examples import Split
from foveal.images import Encoded, Picture
from foveal.tasks.classification import duplicates
from foveal.tasks.classification.rows import Row


def row(name: str, value: int) -> Row:
    return Row(name, Picture(name, Encoded(name, lambda: png(value))), "x")


def test_counts_of_each_pair_of_splits() -> None:
    parts: dict[Split, list[Row]] = {
        "train": [row("a", 1), row("b", 2), row("c", 2), row("d", 3)],
        "validation": [row("e", 4), row("f", 3)],
        "test": [row("g", 2), row("h", 2), row("i", 4)],
    }
    train_validation = "1 of 2 pictures of the validation split is in train too, byte for byte, e.g. f as d."
    train_test = "2 of 3 pictures of the test split are in train too, byte for byte, e.g. g as c."
    validation_test = "1 of 3 pictures of the test split is in validation too, byte for byte, e.g. i as e."
    assert duplicates.shared_pictures(parts, "train") == (train_validation, train_test)
    assert duplicates.shared_pictures(parts, "validation") == (train_validation, validation_test)
    assert duplicates.shared_pictures(parts, "test") == (train_test, validation_test)
    assert duplicates.shared_pictures({"train": parts["train"]}, "train") == ()


def test_files_of_one_length_alone_are_read(tmp_path: Path) -> None:
    def file(name: str, data: bytes) -> Row:
        (tmp_path / name).write_bytes(data)
        return Row(name, Picture(name, tmp_path / name), "x")

    parts: dict[Split, list[Row]] = {
        "train": [file("a", b"12"), file("b", b"123"), Row("gone", Picture("gone", tmp_path / "gone"), "x")],
        "test": [file("c", b"12"), file("d", b"34"), file("e", b"1234")],
    }
    (note,) = duplicates.shared_pictures(parts, "test")
    assert note.startswith("1 of 3 pictures of the test split is in train too") and note.endswith("c as a.")


def test_too_many_and_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bytes:
        raise ImageError("gone")

    bad = Row("a", Picture("a", Encoded("a", fail)), "x")
    assert duplicates.shared_pictures({"train": [bad], "test": [bad]}, "test") == ()
    monkeypatch.setattr(duplicates, "LIMIT", 1)
    (note,) = duplicates.shared_pictures({"train": [bad], "test": [bad]}, "test")
    assert note == "Identical pictures in two splits were not looked for: there are more than 1 rows."


def test_one_picture_with_two_labels() -> None:
    def labelled(name: str, value: int, label: str) -> Row:
        return Row(name, row(name, value).picture, label)

    parts: dict[Split, list[Row]] = {
        "train": [labelled("a", 1, "cat"), labelled("b", 1, "dog"), labelled("c", 2, "cat"), labelled("d", 2, "cat")],
        "test": [labelled("e", 2, "dog")],
    }
    assert duplicates.shared_pictures({"train": parts["train"]}, "train") == (
        "1 picture has two labels, though the files are the same byte for byte, e.g. a (cat) and b (dog): one of them is "
        "wrong.",
    )
    assert duplicates.shared_pictures(parts, "train")[0].startswith("2 pictures have two labels")
    assert duplicates.shared_pictures(parts, "test")[0].startswith("1 picture has two labels, though")
    assert "e.g. e (dog) and c (cat)" in duplicates.shared_pictures(parts, "test")[0]
