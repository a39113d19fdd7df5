from __future__ import annotations

import errno
import os
import pickle
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from foveal.errors import UserError
from foveal.tasks.blindtest.common import (
    LazyRows,
    balanced_choice,
    load_pictures,
    measure_labels,
    read_number,
    save_split,
    split_of,
)
from foveal.tasks.task import SPLITS, Example, Loaded, Prediction

QUESTION = "How many? Answer with a number in curly brackets, e.g., {5}."


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("{2}", 2),
        (" { 2 } ", 2),
        ("The answer is {1}.", 1),
        ("First I thought {1}, but it is {2}.", 2),
        ("3 lines, 4 points: {1}", 1),
        (r"$\boxed{2}$", 2),
        ("{12}", 12),
        ("{7}", 7),  # no possible answer, but an answer: wrong, not unparsable
        ("2", 2),
        ("2.", 2),
        (" 2 \n", 2),
        ("**2**", 2),
        ("There are 2 points. So: 2", 2),
        ("Two", 2),
        ("zero.", 0),
        ("{two}", 2),
        ("{2", 2),
        (f"{QUESTION} The answer is {{1}}", 1),
        (f"{QUESTION.upper()}\n1", 1),
        ("Put your answer in curly brackets, e.g., {2}. The answer is {1}", 1),
        ("e.g. {2}: 0", 0),
        # No answer:
        ("", None),
        (QUESTION, None),
        ("How many?  Answer with a number\nin curly brackets, e.g., {5}.", None),
        ("Put your answer in curly brackets, e.g., {2}.", None),
        ("for example {2}", None),
        ("1 or 2", None),
        ("1-2", None),
        ("There are two points", None),
        ("-1", None),
        ("{-1}", None),
        ("1.5", None),
        ("{}", None),
        ("{x}", None),
        ("²", None),
        ("٢", None),
        ("I cannot tell.", None),
        ("9" * 5000, None),
    ],
)
def test_reading_a_number(reply: str, number: int | None) -> None:
    assert read_number(reply, [QUESTION, "count"]) == number


@given(st.text(), st.integers(0, 999_999_999), st.text())
def test_reading_never_fails_and_the_last_braces_win(before: str, number: int, after: str) -> None:
    assert read_number(before) is None or isinstance(read_number(before), int)
    if not re.search(r"\{\s*[0-9]", after) and not re.search(
        r"g[\s,:.]*$|example[\s,:]*$|instance[\s,:]*$|as[\s,:]*$", before
    ):
        assert read_number(f"{before} {{{number}}} {after}") == number


def rows(*truths: int) -> list[Example]:
    return [Example(str(i), (), t) for i, t in enumerate(truths)]


def test_measuring() -> None:
    said = [Prediction(str(i), value, "") for i, value in enumerate((0, 2, None, 2))]
    assert measure_labels(rows(0, 1, 1, 2), said[::-1]) == {
        "accuracy": 0.5,
        "accuracy_0": 1.0,
        "accuracy_1": 0.0,
        "accuracy_2": 1.0,
        "unparsable": 0.25,
    }
    assert measure_labels(rows(2, 2), []) == {"accuracy": 0.0, "accuracy_2": 0.0, "unparsable": 1.0}
    with pytest.raises(UserError, match="no rows"):
        measure_labels([], [])


def square(index: int) -> Example:
    return Example(str(index), (), index**2)


def test_lazy_rows() -> None:
    lazy = LazyRows(5, square)
    assert len(lazy) == 5
    assert [e.truth for e in lazy] == [0, 1, 4, 9, 16]
    assert lazy[-1].truth == 16
    assert [e.truth for e in lazy[1:4:2]] == [1, 9]
    for outside in (5, -6):
        with pytest.raises(IndexError):
            lazy[outside]
    assert pickle.loads(pickle.dumps(lazy))[3].truth == 9


@given(st.integers(1, 7), st.integers(0, 2**40), st.integers(0, 100), st.sampled_from(SPLITS))
def test_every_prefix_is_balanced(choices: int, seed: int, length: int, split: Any) -> None:
    counts = Counter(balanced_choice(choices, seed, split, i) for i in range(length))
    numbers = [counts[c] for c in range(choices)]
    assert sum(numbers) == length
    assert max(numbers) - min(numbers) <= 1


@pytest.mark.parametrize("stride", [2, 3, 6, 30])
def test_strides_are_not_biased(stride: int) -> None:
    counts = Counter(balanced_choice(3, 0, "test", i) for i in range(0, 3000 * stride, stride))
    assert all(900 < n < 1100 for n in counts.values()) and len(counts) == 3


def test_shares_of_the_splits() -> None:
    counts = Counter(split_of((80, 800, i, -i)) for i in range(4000))
    assert counts["train"] == pytest.approx(2000, abs=150)
    assert counts["validation"] == pytest.approx(1000, abs=150)


def truth(text: str) -> int:
    if text not in ("0", "1", "2"):
        raise ValueError(f"the label is {text!r}, not 0, 1 or 2")
    return int(text)


NAMED = re.compile(r"gt_(\d+)_.*\.png$")


def load(source: Path, split: Any = "test") -> Loaded:
    return load_pictures(str(source), split, truth, truth_in_name=NAMED, column="points")


def picture(shade: int = 0) -> Image.Image:
    return Image.new("RGB", (8, 8), (shade, 0, 0))


def save(folder: Path, split: Any = "train", overwrite: bool = False, shade: int = 0, number: int = 4) -> None:
    drawn = ((picture(shade), {"label": i % 3, "note": "a, b"}) for i in range(number))
    save_split(
        folder, split, drawn, dpi=90, head="# Cards\n", section=lambda c: f"{len(c)} of {shade}\n", overwrite=overwrite
    )


def test_saving_and_loading(tmp_path: Path) -> None:
    save(tmp_path / "set")
    assert sorted(os.listdir(tmp_path / "set")) == ["README.md", "train"]
    table = (tmp_path / "set/train/metadata.csv").read_text()
    assert table.splitlines()[:2] == ["file_name,label,note", '00000.png,0,"a, b"']
    with Image.open(tmp_path / "set/train/00000.png") as image:
        assert image.info["dpi"] == pytest.approx((90, 90), abs=0.1)
    loaded = load(tmp_path / "set", "train")
    assert [e.truth for e in loaded.examples] == [0, 1, 2, 0]
    assert loaded.examples[1].id == "00001.png"
    assert loaded.examples[1].images[0].open().size == (8, 8)
    assert loaded.source == str(tmp_path / "set" / "train")


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
    assert sorted(os.listdir(tmp_path)) == ["README.md", "test", "train"]
    assert sorted(os.listdir(tmp_path / "train")) == ["00000.png", "00001.png", "metadata.csv"]


def test_what_is_no_saved_split_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="not overwritten"):
        save(tmp_path, overwrite=True)


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    folder = tmp_path / "set"
    if there:
        save(folder, shade=1)
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    saved: list[object] = []

    def fail(self: Image.Image, *_: object, **__: object) -> None:
        saved.append(self)
        if len(saved) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UserError, match="disk is full"):
        save(folder, overwrite=True)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file"):
        save(tmp_path / "file")


def test_folders_named_by_label(tmp_path: Path) -> None:
    for label in "012":
        (tmp_path / "val" / label).mkdir(parents=True)
        picture().save(tmp_path / "val" / label / "0000.png")
    loaded = load(tmp_path, "validation")
    assert [(e.id, e.truth) for e in loaded.examples] == [("0/0000.png", 0), ("1/0000.png", 1), ("2/0000.png", 2)]
    (tmp_path / "val" / "many").mkdir()
    with pytest.raises(UserError, match="label is 'many', not 0, 1 or 2"):
        load(tmp_path, "validation")
    (tmp_path / "test").mkdir()
    with pytest.raises(UserError, match="neither metadata"):
        load(tmp_path, "test")


def test_published_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("gt_2_image_0.png", "gt_0_image_7.png", "notes.png"):
        picture().save(folder / name)
    assert [(e.id, e.truth) for e in load(folder).examples] == [("gt_0_image_7.png", 0), ("gt_2_image_0.png", 2)]
    with pytest.raises(UserError, match="published pictures serve as the test split"):
        load(folder, "train")
    table = tmp_path / "pictures.csv"
    table.write_text("file,points\ngt_2_image_0.png,2\n")
    assert len(load(folder).examples) == 2
    table.write_text("file,points\ngt_2_image_0.png,1\n")
    with pytest.raises(UserError, match=r"pictures.csv, line 2: points is 1, but the name of gt_2_image_0.png says 2"):
        load(folder)
    table.write_text("file,count\n")
    with pytest.raises(UserError, match="no column 'points'"):
        load(folder)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file_name,label\n00000.png,3\n", "line 2: the label is '3', not 0, 1 or 2"),
        ("file_name,label\n00000.png,\n", "line 2: label is empty"),
        ("file_name,label\n00000.png,1\n9.png,1\n", "line 3: there is no picture"),
        ("file_name,answer\n00000.png,1\n", "no column 'label'"),
        ("", "no column 'file_name'"),
    ],
)
def test_malformed_tables_are_named(tmp_path: Path, table: str, message: str) -> None:
    save(tmp_path)
    (tmp_path / "train" / "metadata.csv").write_text(table)
    with pytest.raises(UserError, match=r"metadata\.csv.*" + re.escape(message)):
        load(tmp_path, "train")


def test_tables_in_other_encodings(tmp_path: Path) -> None:
    save(tmp_path)
    table = tmp_path / "train" / "metadata.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert len(load(tmp_path, "train").examples) == 4
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path, "train")


def test_missing_sources(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: there is no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="or give `generate`"):
        load(tmp_path)
    save(tmp_path)
    with pytest.raises(UserError, match=r"there is no validation split, only train; make it with `foveal data make`"):
        load(tmp_path, "validation")


def parquet(path: Path, labels: list[Any], column: str = "label") -> None:
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    kind = Value("string" if isinstance(labels[0], str) else "int64")
    data = {"image": [picture(i) for i in range(len(labels))], column: labels}
    Dataset.from_dict(data, features=Features({"image": ImageFeature(), column: kind})).to_parquet(path)


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "pictures.parquet"
    parquet(path, [2, 0, 1])
    loaded = load(path)
    assert [e.truth for e in loaded.examples] == [2, 0, 1]
    again = pickle.loads(pickle.dumps(loaded.examples))
    assert again[2].images[0].open().getpixel((0, 0)) == (2, 0, 0)
    with pytest.raises(UserError, match="serves as the test split"):
        load(path, "train")


def test_folders_of_parquet(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for i, labels in enumerate((["0", "1"], ["2"])):
        parquet(tmp_path / "data" / f"train-0000{i}-of-00002.parquet", labels)
    assert [e.truth for e in load(tmp_path, "train").examples] == [0, 1, 2]
    with pytest.raises(UserError, match="only train"):
        load(tmp_path, "validation")
    assert load(tmp_path / "data" / "train-00001-of-00002.parquet", "train").examples[0].truth == 2


def test_malformed_parquet(tmp_path: Path) -> None:
    parquet(tmp_path / "test.parquet", [0, 5])
    with pytest.raises(UserError, match="row 1: the label is '5'"):
        load(tmp_path)
    parquet(tmp_path / "test.parquet", [0, 1], column="answer")
    with pytest.raises(UserError, match="columns image and label"):
        load(tmp_path)
    (tmp_path / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="no parquet file"):
        load(tmp_path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": ["a.png"], "label": [0]}), tmp_path / "test.parquet")
    with pytest.raises(UserError, match="holds string, no pictures"):
        load(tmp_path)
    pq.write_table(pa.table({"image": [{"bytes": None, "path": None}], "label": [0]}), tmp_path / "test.parquet")
    with pytest.raises(UserError, match="row 0: has no picture"):
        load(tmp_path).examples[0]
