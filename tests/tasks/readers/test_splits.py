from __future__ import annotations

from pathlib import Path

import pytest

from foveal.errors import UserError
from foveal.tasks.readers.splits import find_splits, split_folders, split_of_file, split_of_name


@pytest.mark.parametrize(
    ("names", "chosen", "whole"),
    [
        (["train", "test"], {"train": "train", "test": "test"}, False),
        (["train", "val", "test"], {"train": "train", "validation": "val", "test": "test"}, False),
        (["train", "valid"], {"train": "train", "validation": "valid"}, False),
        (["Train", "Dev"], {"train": "Train", "validation": "Dev"}, False),
        (["train", "test", "extra"], {"train": "train", "test": "test"}, False),
        (["test", "train", "val", "few_shot_5", "partition_0.1x"], {"train": "train", "validation": "val", "test": "test"}, False),
        (["train"], {"train": "train"}, True),
        (["train", "few_shot_5"], {"train": "train"}, True),
        (["full"], {"train": "full"}, True),
        (["test"], {"test": "test"}, False),
    ],
)  # fmt: skip
def test_splits(names: list[str], chosen: dict[str, str], whole: bool) -> None:
    splits = find_splits(names)
    assert dict(splits.chosen) == chosen and splits.whole == whole
    left = [name for name in names if name not in chosen.values()]
    assert [name for name in left if not any(repr(name) in r and "Left out" in r for r in splits.reasons)] == []


def test_splits_of_the_recipe() -> None:
    names = ["train", "val", "test", "few_shot_5", "partition_0.1x"]
    splits = find_splits(names, {"train": "few_shot_5"})
    assert dict(splits.chosen) == {"train": "few_shot_5", "validation": "val", "test": "test"}
    assert "The train split is 'few_shot_5': data.splits says so." in splits.reasons
    assert splits.reasons[-1].startswith("Left out, and never merged with another: 'train', 'partition_0.1x'")
    for given, words in (
        ({"train": "few_shot_50"}, r"data\.splits: x has no split 'few_shot_50'; the source has train, val"),
        ({"training": "train"}, r"data\.splits: 'training' is no split; give train, validation or test"),
    ):
        with pytest.raises(UserError, match=words):
            find_splits(names, given, "x")
    with pytest.raises(UserError, match=r"'val' and 'dev' are both the validation split; set data\.splits"):
        find_splits(["train", "val", "dev"])
    assert find_splits(["train", "val", "dev"], {"validation": "dev"}).chosen["validation"] == "dev"
    with pytest.raises(UserError, match="none of its splits is called train, validation or test; the source has a, b"):
        find_splits(["a", "b"])


@pytest.mark.parametrize(
    ("path", "config", "split"),
    [
        ("data/train-00000-of-00002.parquet", "", "train"),
        ("data/validation-00000-of-00001-0123456789abcdef.parquet", "", "validation"),
        ("plain_text/test-00000-of-00001.parquet", "plain_text", "test"),
        ("cropped_digits/extra-00001-of-00002.parquet", "cropped_digits", "extra"),
        ("default/val/0000.parquet", "default", "val"),
        ("default/partial-train/0003.parquet", "default", "partial-train"),
        ("train.csv", "", "train"),
        ("train/metadata.csv", "", "train"),
        ("train/part-0.parquet", "", "train"),
        ("metadata.csv", "", "metadata"),
        ("annotation.csv", "", "annotation"),
        ("few_shot/5_shot.csv", "few_shot", "5_shot"),
        ("data/few_shot_train_5-00000-of-00001.parquet", "", "few_shot_train_5"),
        ("imagenet1k-train-0012.tar", "", "train"),
        ("cifar10-test-000000.tar", "", "test"),
        ("test/00001.tar", "", "test"),
        ("train_images.parquet", "", "train"),
    ],
)
def test_split_of_a_file(path: str, config: str, split: str) -> None:
    assert split_of_file(path) == (config, split)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("TRAINING", "train"), ("trn", "train"), ("train2017", "train"), ("train_images", "train"), ("trainset", "train"),
        ("Valid", "validation"), ("dev", "validation"), ("val-1", "validation"),
        ("testing", "test"), ("tst", "test"), ("eval", "test"), ("test1", "test"), ("Test Data", "test"),
        ("partial-train", None), ("test tube", None), ("few_shot_train_5", None), ("data", None), ("datasets", None),
        ("trainer", None), ("été-test", None), ("7", None),
    ],
)  # fmt: skip
def test_the_split_that_a_name_means(name: str, split: str | None) -> None:
    assert split_of_name(name) == split


def test_a_plain_name_goes_before_a_numbered_one(tmp_path: Path) -> None:
    for name in ("train", "train_100", "test1", "VAL"):
        (tmp_path / name).mkdir()
    assert split_folders(tmp_path) == {
        "train": [tmp_path / "train"], "test": [tmp_path / "test1"], "validation": [tmp_path / "VAL"],
    }  # fmt: skip
    splits = find_splits(["train", "train_100", "test1"])
    assert dict(splits.chosen) == {"train": "train", "test": "test1"}
    assert splits.reasons[-1].startswith("Left out, and never merged with another: 'train_100'")
