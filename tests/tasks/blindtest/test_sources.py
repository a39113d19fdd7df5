from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from foveal.errors import UserError
from foveal.examples import Example
from foveal.tasks.blindtest.lines import Lines, LinesData
from foveal.tasks.blindtest.sources import Label, Layout, Row, agreed, load_rows


def truth(text: str) -> int:
    if text not in ("0", "1", "2"):
        raise ValueError(f"the label is {text!r}, not 0, 1 or 2")
    return int(text)


def labels(match: re.Match[str], cells: Mapping[str, str] | None) -> list[Label]:
    value = agreed(match[1], cells, "points", truth)
    return [Label((value, value))]


LAYOUT = Layout(truth, re.compile(r"gt_(\d+)_.*\.png$"), labels, columns=("points",), hub_tasks=("Points", "Dots"))


def load(source: Path, split: Any = "test", layout: Layout = LAYOUT) -> Sequence[Row]:
    return load_rows(str(source), split, layout)[0]


def truths(rows: Sequence[Row]) -> list[Any]:
    assert all(a == b for a, b in (row.truths for row in rows))
    return [row.truths[0] for row in rows]


def picture(shade: int = 0) -> Image.Image:
    return Image.new("RGB", (8, 8), (shade, 0, 0))


def save(folder: Path, split: str = "train", number: int = 4, **cells: str) -> None:
    """A split as it is saved, with further columns."""
    (folder / split).mkdir(parents=True)
    lines = [",".join(("file_name", "label", *cells))]
    for i in range(number):
        picture(i).save(folder / split / f"{i:05d}.png")
        lines.append(",".join((f"{i:05d}.png", str(i % 3), *cells.values())))
    (folder / split / "metadata.csv").write_text("\n".join(lines) + "\n")


def test_saved_splits(tmp_path: Path) -> None:
    save(tmp_path / "set")
    rows, source = load_rows(str(tmp_path / "set"), "train", LAYOUT)
    assert truths(rows) == [0, 1, 2, 0]
    assert rows[1].id == "00001.png" and rows[1].which is None and not rows[1].fields
    assert rows[1].picture.open().size == (8, 8)
    assert source == str(tmp_path / "set" / "train")


def test_two_truths_and_fields(tmp_path: Path) -> None:
    layout = Layout(truth, LAYOUT.published, labels, fields=("from",), two_truths=True)
    save(tmp_path, label_second="1", **{"from": "A"})
    assert [(r.truths, r.fields) for r in load(tmp_path, "train", layout)[:2]] == [
        ((0, 1), {"from": "A"}),
        ((1, 1), {"from": "A"}),
    ]
    (tmp_path / "test" / "0").mkdir(parents=True)
    with pytest.raises(UserError, match=r"folders named by label do not tell label_second, from; use a metadata\.csv"):
        load(tmp_path, "test", layout)


def test_folders_named_by_label(tmp_path: Path) -> None:
    for label in "012":
        (tmp_path / "val" / label).mkdir(parents=True)
        picture().save(tmp_path / "val" / label / "0000.png")
    rows = load(tmp_path, "validation")
    assert [(r.id, r.truths) for r in rows] == [("0/0000.png", (0, 0)), ("1/0000.png", (1, 1)), ("2/0000.png", (2, 2))]
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
    assert truths(load(folder)) == [0, 2]
    assert [r.id for r in load(folder)] == ["gt_0_image_7.png", "gt_2_image_0.png"]
    with pytest.raises(UserError, match="published pictures serve as the test split"):
        load(folder, "train")
    table = tmp_path / "pictures.csv"
    table.write_text("file,points\ngt_2_image_0.png,2\n")
    assert len(load(folder)) == 2
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
    assert len(load(tmp_path, "train")) == 4
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
    rows = load(path)
    assert truths(rows) == [2, 0, 1]
    again = pickle.loads(pickle.dumps(rows))
    assert [r.id for r in again[1:]] == ["1", "2"]
    assert again[2].picture.open().getpixel((0, 0)) == (2, 0, 0)
    with pytest.raises(UserError, match="serves as the test split"):
        load(path, "train")


def test_folders_of_parquet(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for i, labels in enumerate((["0", "1"], ["2"])):
        parquet(tmp_path / "data" / f"train-0000{i}-of-00002.parquet", labels)
    assert truths(load(tmp_path, "train")) == [0, 1, 2]
    with pytest.raises(UserError, match="only train"):
        load(tmp_path, "validation")
    assert load(tmp_path / "data" / "train-00001-of-00002.parquet", "train")[0].truths == (2, 2)


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
        load(tmp_path)[0].picture.open()


def test_class_labels_are_read_by_name(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["2", "0", "1"])})
    data = {"image": [picture(), picture()], "label": ["0", "2"]}
    Dataset.from_dict(data, features=features).to_parquet(tmp_path / "validation.parquet")
    assert truths(load(tmp_path, "validation")) == [0, 2]


def test_folders_in_data(tmp_path: Path) -> None:
    save(tmp_path / "data", "valid")
    assert truths(load(tmp_path, "validation")) == [0, 1, 2, 0]


# XAI/vlmsareblind.

LINES = "Line Plot Intersections"
FIRST, SECOND = Lines.first.text, Lines.second.text
ROWS = [
    (LINES, FIRST, "2"),
    ("Touching Circles", "Are the two circles touching each other? Answer with Yes/No.", "Yes"),
    (LINES, SECOND, "2"),
    (LINES, FIRST.replace(" ", "  ").replace("e.g., ", "e.g.,"), "{0}"),
    (LINES, "How often do they meet?", "1"),
    ("Circled Letter", "Which letter is being circled?", "a"),
]


def published(path: Path, rows: Sequence[tuple[str, str, str]] = ROWS) -> Path:
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    text = Value("string")
    features = {"task": text, "image": ImageFeature(), "prompt": text, "groundtruth": text, "metadata": text}
    data: dict[str, list[Any]] = {
        "task": [r[0] for r in rows],
        "image": [picture(i) for i in range(len(rows))],
        "prompt": [r[1] for r in rows],
        "groundtruth": [r[2] for r in rows],
        "metadata": ["{}" for _ in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(data, features=Features(features)).to_parquet(path)
    return path


def rows_of(source: Path, **data: Any) -> list[Example]:
    return list(Lines(LinesData(source=str(source), **data)).load("test").examples)


def test_the_published_data_set(tmp_path: Path) -> None:
    file = published(tmp_path / "set" / "data" / "valid-00000-of-00001.parquet")
    published(tmp_path / "flat" / "all.parquet")
    for source in (file, tmp_path / "set", tmp_path / "flat"):
        rows = rows_of(source, question="both")
        assert [(e.id, e.truth) for e in rows] == [("0", 2), ("2", 2), ("3", 0), ("4", 1)]
        assert [e.fields.get("question") for e in rows] == ["first", "second", "first", None]
        # Each row has its own picture, question and row.
        assert [e.images[0].open().getpixel((0, 0)) for e in rows] == [(i, 0, 0) for i in (0, 2, 3, 4)]
        task = Lines(LinesData(source=str(source)))
        assert [task.prompt(e).user for e in rows] == [ROWS[i][1] for i in (0, 2, 3, 4)]
        assert task.prompt(rows[1]).answer == "{2}"
        for split in ("train", "validation"):
            with pytest.raises(UserError, match=r"serves? as the test split.*" + split):
                task.load(split)
    assert [r.id for r in pickle.loads(pickle.dumps(load_rows(str(file), "test", Lines.layout)[0]))] == list("0234")


@pytest.mark.parametrize(
    ("question", "ids"), [("first", "034"), ("second", "24"), ("either", "0234"), ("both", "0234")]
)
def test_the_question_chooses_published_rows(tmp_path: Path, question: str, ids: str) -> None:
    rows = rows_of(published(tmp_path / "valid.parquet"), question=question)
    assert [e.id for e in rows] == list(ids)
    assert [e.truth for e in rows] == [{"0": 2, "2": 2, "3": 0, "4": 1}[i] for i in ids]


def test_published_rows_with_short_wording(tmp_path: Path) -> None:
    source = published(tmp_path / "valid.parquet")
    rows = rows_of(source, question="both")
    task = Lines(LinesData(source=str(source), wording="short", answer_format="bare"))
    # A row that asks neither question keeps its own words.
    assert [task.prompt(e).user for e in rows] == ["count", "count", "count", "How often do they meet?"]
    assert task.prompt(rows[0]).answer == "2"


def test_published_files_in_parts(tmp_path: Path) -> None:
    for part in range(2):
        published(tmp_path / "data" / f"valid-0000{part}-of-00002.parquet", ROWS[3 * part : 3 * part + 3])
    rows = rows_of(tmp_path, question="both")
    assert [(e.id, e.truth) for e in rows] == [("0", 2), ("2", 2), ("3", 0), ("4", 1)]
    assert [e.images[0].open().getpixel((0, 0)) for e in rows] == [(i, 0, 0) for i in (0, 2, 0, 1)]


def test_beside_other_splits(tmp_path: Path) -> None:
    published(tmp_path / "valid.parquet")
    parquet(tmp_path / "train.parquet", [0, 1])
    assert truths(load_rows(str(tmp_path), "train", Lines.layout)[0]) == [0, 1]
    with pytest.raises(UserError, match="there is no validation split, only train"):
        load_rows(str(tmp_path), "validation", Lines.layout)
    assert len(load_rows(str(tmp_path), "test", Lines.layout)[0]) == 4


def test_malformed_published_rows(tmp_path: Path) -> None:
    file = published(tmp_path / "valid.parquet", [(LINES, FIRST, "1"), (LINES, FIRST, "7")])
    with pytest.raises(UserError, match=r"valid.parquet, row 1: the label is '7', not 0, 1 or 2; correct"):
        rows_of(file)
    published(file, [("Nested Squares", FIRST, "1")])
    with pytest.raises(UserError, match="has no row of Line Plot Intersections that asks the first question"):
        rows_of(file)
    published(file, [(LINES, FIRST, "")])
    with pytest.raises(UserError, match="row 0: the label is ''"):
        rows_of(file)
    published(file, [(LINES, " ", "1")])
    with pytest.raises(UserError, match="row 0: prompt is empty"):
        rows_of(file)
    with pytest.raises(UserError, match="has no pictures of this puzzle"):
        load(file, "test", Layout(truth, LAYOUT.published, labels))


def test_both_questions_of_a_saved_split(tmp_path: Path) -> None:
    save(tmp_path, "test")
    rows = rows_of(tmp_path, question="both")
    assert [e.id for e in rows[:3]] == ["00000.png/first", "00000.png/second", "00001.png/first"]
    assert [e.truth for e in rows] == [0, 0, 1, 1, 2, 2, 0, 0]
    assert [e.fields["question"] for e in rows_of(tmp_path, question="either")] == ["first", "second"] * 2


@pytest.mark.parametrize(
    ("module", "name", "task", "first", "second", "label", "value", "fields"),
    [
        (
            *("circles", "Circles", "Touching Circles", "Are the two circles touching each other? Answer with Yes/No."),
            *("Are the two circles overlapping? Answer with Yes/No.", "Yes", "Yes", {}),
        ),
        (
            *("letters", "Letters", "Circled Letter", "Which letter is being circled?"),
            *("Which character is being highlighted with a red oval?", "A", "a", {}),
        ),
        (
            *("shapes", "Shapes", "Olympic Counting - Pentagons"),
            "How many pentagons are in the image? Answer with only the number in numerical format.",
            "Count the pentagons in the image. Answer with a number in curly brackets e.g. {3}.",
            *("7", 7, {"shape": "pentagons"}),
        ),
        (
            *("squares", "Squares", "Nested Squares"),
            "Count total number of squares in the image. Answer with only the number in numerical format in curly "
            "brackets e.g. {3}.",
            "How many squares are in the image? Please answer with a number in curly brackets e.g., {10}.",
            *("4", 4, {}),
        ),
        (
            *("grids", "Grids", "Counting Grid - Word Grids"),
            "Count the number of rows and columns and answer with numbers in curly brackets. For example, rows={5} "
            "columns={6}",
            "How many rows and columns are in the table? Answer with only the numbers in a pair (row, column), e.g., "
            "(5,6)",
            *("(5, 6)", None, {}),
        ),
        (
            *("subway", "Subway", "Subway Connections"),
            "How many single-colored paths go from A to D? Answer with a number in curly brackets, e.g., {3}",
            "Count the one-colored routes that go from A to D. Answer with a number in curly brackets, e.g., {3}.",
            *("1", 1, {"from": "A", "to": "D"}),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() and value.islower() else "",
)
def test_every_puzzle_reads_its_published_rows(
    tmp_path: Path,
    module: str,
    name: str,
    task: str,
    first: str,
    second: str,
    label: str,
    value: Any,
    fields: dict[str, str],
) -> None:
    puzzle = getattr(pytest.importorskip(f"foveal.tasks.blindtest.{module}"), name)
    source = published(tmp_path / "valid.parquet", [*ROWS[:1], (task, second, label), (task, first, label)])
    loaded = puzzle(puzzle.Data(source=str(source), question="both"))
    rows = list(loaded.load("test").examples)
    assert [(e.id, e.fields["question"]) for e in rows] == [("1", "second"), ("2", "first")]
    for row, text in zip(rows, (second, first), strict=True):
        assert loaded.prompt(row).user == text
        assert row.fields == {"question": row.fields["question"], "text": text, "task": task, **fields}
        assert loaded.parse(loaded.prompt(row).answer) == row.truth
        assert value is None or row.truth == value


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_damaged_pictures_of_a_saved_split_are_refused_or_left_out(tmp_path: Path, kind: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32)).save(stream, "PNG")
    whole, cut = stream.getvalue(), stream.getvalue()[:50]
    if kind == "folder":
        for number, content in enumerate((whole, cut, whole)):
            (tmp_path / "test" / str(number)).mkdir(parents=True)
            (tmp_path / "test" / str(number) / "a.png").write_bytes(content)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        images = [{"bytes": content, "path": None} for content in (whole, cut, whole)]
        pq.write_table(pa.table({"image": images, "label": [0, 1, 2]}), tmp_path / "test.parquet")
    with pytest.raises(UserError, match=r"the picture is damaged .*`data\.on_bad: skip` leaves such pictures out\."):
        Lines(Lines.Data(source=str(tmp_path))).load("test")
    loaded = Lines(Lines.Data(source=str(tmp_path), on_bad="skip")).load("test")
    assert [e.truth for e in loaded.examples] == [0, 2] and len(loaded.refused) == 1
    assert all(e.images[0].open().size == (32, 32) for e in loaded.examples)
