from __future__ import annotations

import os
from pathlib import Path

import pytest
from picture_folders import write_folders, write_picture
from picture_tables import write_csv, write_parquet

from foveal.errors import UserError
from foveal.tasks.classification.folder import read_folder
from foveal.tasks.classification.rows import Table, Wanted
from foveal.tasks.classification.sources import read_source


def labels(table: Table) -> dict[str, list[str]]:
    return {split: [row.label for row in rows] for split, rows in table.splits.items()}


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("training", "Validation", "testing"),
        ("TRN", "dev", "tst"),
        ("Train", "valid", "eval"),
        ("train", "val2", "test1"),
        ("train_images", "Val Set", "testset"),
        ("data-train", "validation_data", "evaluation"),
    ],
)
def test_split_folders_in_all_usual_spellings(tmp_path: Path, train: str, validation: str, test: str) -> None:
    write_folders(tmp_path, {f"{train}/cat": 2, f"{train}/dog": 1, f"{validation}/dog": 1, f"{test}/cat": 1})
    table = read_folder(tmp_path)
    assert labels(table) == {"train": ["cat", "cat", "dog"], "validation": ["dog"], "test": ["cat"]}
    assert f"The test split is the folder {test!r}: a usual name of it." in table.notes


def test_folders_of_the_recipe(tmp_path: Path) -> None:
    write_folders(tmp_path, {"a/cat": 2, "a/dog": 1, "b/dog": 1, "c/cat": 1, "val/cat": 1})
    table = read_source(str(tmp_path), Wanted(splits={"train": "a", "test": "b"}))
    assert labels(table) == {"train": ["cat", "cat", "dog"], "validation": ["cat"], "test": ["dog"]}
    assert not table.whole
    assert table.notes[0] == "The train split is the folder 'a': data.splits says so."
    assert "Left out, and never merged with another: 'c'; data.splits says so." in table.notes
    for given, words in (
        ({"train": "x"}, r"data\.splits: .* has no folder 'x'; its folders are a, b, c, val"),
        ({"train": "a/cat"}, r"data\.splits: .*a/cat holds no class folders"),
        ({"train": "../"}, r"data\.splits: .* has no folder '\.\./'"),
        ({"learn": "a"}, "'learn' is no split; give train, validation or test"),
    ):
        with pytest.raises(UserError, match=words):
            read_folder(tmp_path, given)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"train": 2, "test1": 2}, "'test1' and 'train' have the names of splits, but hold pictures and no class folders"),
        ({"cat": 1, "dog": 1, "test": 1}, "'test' has the name of a split, but holds pictures and no class folders"),
        ({"train": 2}, "'train' has the name of a split, but holds pictures and no class folders"),
        ({"cat/train": 1, "cat/test": 1, "dog/train": 1}, "cat: holds the split folders 'test', 'train', which must be around"),
        ({"testing/a": 1, "tst/a": 1, "train/a": 1}, "'testing' and 'tst' are both the test split; remove one, or set data.splits"),
    ],
)  # fmt: skip
def test_folders_that_may_be_splits_or_classes_are_refused(tmp_path: Path, counts: dict[str, int], words: str) -> None:
    write_folders(tmp_path, counts)
    with pytest.raises(UserError, match=words):
        read_source(str(tmp_path), Wanted())


def test_folders_that_class_names_list_are_classes(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train": 2, "test": 1})
    table = read_source(str(tmp_path), Wanted(class_names=("train", "test")))
    assert labels(table) == {"train": ["test", "train", "train"]} and table.whole


def test_a_train_among_vehicles_is_a_class_with_a_note(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train": 1, "plane": 1})
    table = read_folder(tmp_path)
    assert table.names == ("plane", "train")
    assert "'train' is taken as a class, not as a split, as it holds no class folders." in table.notes


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_metadata_beside_loose_pictures(tmp_path: Path, ending: str) -> None:
    for split, names in {"training": ("cat", "dog", "cat"), "test": ("dog",)}.items():
        write_folders(tmp_path, {split: len(names)})
        rows = [{"file_name": f"{i:03d}.png", "label": name} for i, name in enumerate(names)]
        file = tmp_path / split / f"metadata.{ending}"
        if ending == "csv":
            write_csv(file, "file_name,label", [f"{r['file_name']},{r['label']}" for r in rows])
        elif ending == "jsonl":
            file.write_text("".join(f'{{"file_name": "{r["file_name"]}", "label": "{r["label"]}"}}\n' for r in rows))
        else:
            import pyarrow.parquet  # type: ignore[import-untyped]

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    table = read_source(str(tmp_path), Wanted())
    assert labels(table) == {"train": ["cat", "dog", "cat"], "test": ["dog"]}
    assert [row.picture.source for row in table.splits["test"]] == [tmp_path / "test/000.png"]
    assert read_source(str(tmp_path / "training" / f"metadata.{ending}"), Wanted()).whole


def test_captions_beside_class_folders_are_not_read(tmp_path: Path) -> None:
    write_folders(tmp_path, {"cat": 1, "dog": 1})
    write_csv(
        tmp_path / "metadata.csv", "file_name,text", ["cat/000.png,a cat sits here", "dog/000.png,a dog runs there"]
    )
    table = read_source(str(tmp_path), Wanted())
    assert labels(table) == {"train": ["cat", "dog"]}
    (note,) = [n for n in table.notes if "metadata.csv" in n]
    assert note.startswith(f"Not read, as there are class folders: {tmp_path}/metadata.csv: holds captions ('text')")
    write_csv(tmp_path / "metadata.csv", "file_name,text", [])
    assert labels(read_source(str(tmp_path), Wanted())) == {"train": ["cat", "dog"]}


@pytest.mark.parametrize("name", [b"caf\xe9/000.png", b"cat/caf\xe9.png", b"cat/\xff/000.png"])
def test_a_name_that_is_no_utf8_is_named(tmp_path: Path, name: bytes) -> None:
    write_folders(tmp_path, {"cat": 1, "dog": 1})
    path = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.link(tmp_path / "dog/000.png", path)
    with pytest.raises(UserError, match=r"(caf\\xe9|caf\\xe9\.png|cat/\\xff): its name is not UTF-8; rename it\."):
        read_source(str(tmp_path), Wanted())


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    write_folders(
        tmp_path, {"a": 1, "b": 1, "@eaDir/a": 2, "a/@eaDir": 1, "a/.ipynb_checkpoints": 1, "$RECYCLE.BIN": 1}
    )
    for name in ("a/1.HEIC", "b/2.heic", "a/Thumbs.db", "b/3", "a/.hidden", "b/desktop.ini"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a/gone.png").symlink_to(tmp_path / "nowhere.png")
    write_picture(tmp_path / "stray.png")
    write_picture(tmp_path / "b/4.png").rename(tmp_path / "b/4.jfif")
    table = read_folder(tmp_path)
    assert [row.id for row in table.splits["train"]] == ["a/000.png", "b/000.png", "b/4.jfif"]
    assert table.splits["train"][2].picture.open().size == (4, 3)
    assert table.notes == (
        f"5 files left out: 2 ending in .heic (e.g. {tmp_path}/a/1.HEIC), 1 outside every class folder (e.g. "
        f"{tmp_path}/stray.png), 1 that are links to nothing (e.g. {tmp_path}/a/gone.png), 1 without an ending (e.g. "
        f"{tmp_path}/b/3).",
    )


def test_a_class_of_pictures_that_are_not_read_says_what_it_holds(tmp_path: Path) -> None:
    write_folders(tmp_path, {"a": 1, "b": 0})
    (tmp_path / "b/1.heic").write_bytes(b"x")
    with pytest.raises(
        UserError, match=r"class 'b' holds no pictures .*\(1 file left out: 1 ending in \.heic \(e\.g\. .*\)\)"
    ):
        read_folder(tmp_path)


def test_parquet_beside_split_folders_stays_unread(tmp_path: Path) -> None:
    write_folders(tmp_path, {"training/a": 1, "training/b": 1, "testing/a": 1})
    write_parquet(tmp_path / "other.parquet", [0, 1])
    assert set(read_source(str(tmp_path), Wanted()).splits) == {"train", "test"}
