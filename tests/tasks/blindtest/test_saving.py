from __future__ import annotations

import errno
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from foveal.errors import UserError
from foveal.tasks.blindtest.lines import Lines, LinesMake
from foveal.tasks.blindtest.saving import histogram, save_split

HEAD = "---\nsize_categories:\n- n<1K\n---\n\n# Cards\n"


def save(
    folder: Path,
    split: Any = "train",
    overwrite: bool = False,
    shade: int = 0,
    number: int = 4,
    head: str = "# Cards\n",
) -> None:
    drawn = (
        (Image.new("RGB", (8, 8), (shade, 0, 0)), {"label": i % 3, "note": "a, b", "label_second": 7})
        for i in range(number)
    )
    save_split(folder, split, drawn, dpi=90, head=head, section=lambda c: f"{len(c)} of {shade}\n", overwrite=overwrite)


def sample(folder: Path) -> Image.Image:
    with Image.open(folder / "sample.png") as image:
        return image.convert("RGB")


def test_saving(tmp_path: Path) -> None:
    save(tmp_path / "set")
    assert sorted(os.listdir(tmp_path / "set")) == ["README.md", "sample.png", "train"]
    table = (tmp_path / "set/train/metadata.csv").read_text()
    assert table.splitlines()[:2] == ["file_name,label,note,label_second", '00000.png,0,"a, b",7']
    with Image.open(tmp_path / "set/train/00000.png") as image:
        assert image.info["dpi"] == pytest.approx((90, 90), abs=0.1)


def test_other_splits_stay_and_the_card_describes_all(tmp_path: Path) -> None:
    save(tmp_path, "test", shade=1)
    save(tmp_path, "train", shade=2)
    card = "# Cards\n\n## Split train\n\n4 of 2\n\n## Split test\n\n4 of 1\n"
    assert (tmp_path / "README.md").read_text() == card
    with pytest.raises(UserError, match=r"train: exists already; .* --overwrite true"):
        save(tmp_path, "train", shade=3)
    assert (tmp_path / "README.md").read_text() == card
    save(tmp_path, "train", overwrite=True, shade=3, number=2)
    assert (tmp_path / "README.md").read_text() == card.replace("4 of 2", "2 of 3")
    assert sorted(os.listdir(tmp_path)) == ["README.md", "sample.png", "test", "train"]
    assert sorted(os.listdir(tmp_path / "train")) == ["00000.png", "00001.png", "metadata.csv"]


def test_the_sample_shows_the_first_split(tmp_path: Path) -> None:
    for split, shade, shown in (("validation", 50, 50), ("test", 90, 50), ("train", 130, 130), ("test", 170, 130)):
        save(tmp_path, split, shade=shade, overwrite=True)
        assert sample(tmp_path).getpixel((90, 90)) == (shown, 0, 0)
    narrow = sample(tmp_path).width
    save(tmp_path, number=30, overwrite=True)
    assert sample(tmp_path).width > narrow and sample(tmp_path).height < 500


def test_the_card_tells_the_size_and_keeps_what_the_user_wrote(tmp_path: Path) -> None:
    save(tmp_path, number=600, head=HEAD)
    assert "size_categories:\n- n<1K\n---" in (tmp_path / "README.md").read_text()
    card = tmp_path / "README.md"
    card.write_text(card.read_text().replace("---\n\n#", "license: cc0-1.0\n---\n\nMine.\n\n#"))
    save(tmp_path, "test", number=400, head=HEAD)
    assert card.read_text().startswith(
        "---\nsize_categories:\n- 1K<n<10K\nlicense: cc0-1.0\n---\n\nMine.\n\n# Cards\n\n## Split train\n"
    )
    save(tmp_path, "test", number=300, head=HEAD, overwrite=True)
    assert "\n- n<1K\n" in card.read_text()


def test_what_is_no_saved_split_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="not overwritten"):
        save(tmp_path, overwrite=True)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("failing", [3, 5])  # a picture of the split, and the sample
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool, failing: int
) -> None:
    folder = tmp_path / "set"
    if there:
        save(folder, shade=1)
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    saved: list[object] = []

    def fail(self: Image.Image, *_: object, **__: object) -> None:
        saved.append(self)
        if len(saved) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UserError, match="disk is full"):
        save(folder, overwrite=True)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file"):
        save(tmp_path / "file")


def test_histograms() -> None:
    assert histogram([2] * 1500 + [0, 10] * 750).splitlines() == [
        "| label | pictures | share | |",
        "| --- | ---: | ---: | --- |",
        "| 0 | 750 | 25.0 % | ██████████ |",
        "| 2 | 1,500 | 50.0 % | ████████████████████ |",
        "| 10 | 750 | 25.0 % | ██████████ |",
    ]
    assert [row.split()[1] for row in histogram(["b", "a", 3], "answer").splitlines()] == [
        "answer",
        "---",
        "3",
        "a",
        "b",
    ]


def test_the_card_of_a_puzzle(tmp_path: Path) -> None:
    options = {"num_images": 4, "image_size": 32}
    Lines.make(LinesMake(str(tmp_path), seed=5, **options))  # type: ignore[arg-type]
    Lines.make(LinesMake(str(tmp_path), split="test", style="varied", **options))  # type: ignore[arg-type]
    card = (tmp_path / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front == {
        "pretty_name": "Line intersections",
        "task_categories": ["visual-question-answering"],
        "tags": ["synthetic", "blindtest", "lines"],
        "size_categories": ["n<1K"],
    }
    assert "](sample.png)" in card and "`How many times do the blue and red lines touch each other? " in card
    train, test = card.split("## Split ")[1:]
    assert train.startswith("train\n") and "| seed | 5 |" in train and "| style | paper |" in train
    assert test.startswith("test\n") and "| seed | 0 |" in test and "| style | varied |" in test
    assert len(re.findall(r"^\| [012] \| 4 \| 33\.3 % \| █+ \|$", card, re.MULTILINE)) == 6
    assert not re.search("folder|overwrite|push_to_hub|private|licen", train + test)


@pytest.mark.parametrize("splits", [("train",), ("test",), ("validation", "test"), ("train", "validation", "test")])
@pytest.mark.parametrize("call", ["imagefolder", "folder"])
def test_datasets_loads_the_splits_and_not_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, splits: tuple[str, ...], call: str
) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "set"
    for number, split in enumerate(splits, 1):
        Lines.make(LinesMake(str(folder), split=split, num_images=number, image_size=32))  # type: ignore[arg-type]
    assert (folder / "sample.png").is_file()
    where = {"path": str(folder)} if call == "folder" else {"path": "imagefolder", "data_dir": str(folder)}
    loaded = datasets.load_dataset(**where, cache_dir=str(tmp_path / "cache"))
    assert {name: rows.num_rows for name, rows in loaded.items()} == {s: 3 * n for n, s in enumerate(splits, 1)}
    for number, split in enumerate(splits, 1):
        assert Counter(loaded[split]["label"]) == {0: number, 1: number, 2: number}
        assert {image.size for image in loaded[split]["image"]} == {(32, 32)}
