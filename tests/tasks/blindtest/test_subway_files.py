from __future__ import annotations

import csv
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from foveal.errors import UserError
from foveal.examples import Example
from foveal.results import Prediction
from foveal.tasks.blindtest.all import AllData, BlindTest
from foveal.tasks.blindtest.generate import Scenes
from foveal.tasks.blindtest.puzzle import PuzzleData, PuzzleMake
from foveal.tasks.blindtest.subway import Subway


def subway(**data: Any) -> Subway:
    return Subway(PuzzleData(**data))


def table(folder: Path, text: str | None) -> Path:
    name = "60f86334-1bc6-42cd-abdd-8eaa1fe8178e.png"
    (folder / "maps").mkdir()
    Image.new("RGB", (32, 32)).save(folder / "maps" / name)
    if text is not None:
        (folder / "maps.csv").write_text(f"file,AB,AC,AD,BC,BD,CD,asked_pairs\n{text.format(name)}\n")
    return folder / "maps"


def test_tables_beside_published_pictures(tmp_path: Path) -> None:
    examples = subway(source=str(table(tmp_path, "{},0,2,1,1,2,0,CA BC"))).load("test").examples
    assert [(e.truth, e.fields["from"], e.fields["to"]) for e in examples] == [(2, "C", "A"), (1, "B", "C")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the table beside the folder has no line for it"),
        ("other.png,0,1,0,0,1,0,AC", "the table beside the folder has no line for it"),
        ("{},0,4,0,0,1,0,AC", "AC is '4', not 1, 2 or 3, though it is asked about"),
        ("{},0,1,0,0,1,0,BA", "AB is '0', not 1, 2 or 3"),
        ("{},0,1,0,0,1,0,AE", "asked_pairs has 'AE', not two of the stations"),
        ("{},0,1,0,0,1,0,AA", "asked_pairs has 'AA'"),
        ("{},0,1,0,0,1,0,A", "asked_pairs has 'A'"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        subway(source=str(table(tmp_path, text))).load("test")


@pytest.mark.parametrize("text", ["0", "4", "", "two", "1.0", "-1"])
def test_wrong_labels(text: str) -> None:
    with pytest.raises(ValueError, match="not 1, 2 or 3"):
        Subway.layout.truth(text)


# Questions and replies.


def test_prompts_and_answers() -> None:
    example = subway(test=1).load("test").examples[0]
    start, end = example.fields["from"], example.fields["to"]
    task = subway()
    prompt = task.prompt(example)
    assert prompt.user == (
        f"How many single-colored paths go from {start} to {end}? Answer with a number in curly brackets, e.g., {{3}}"
    )
    assert prompt.answer == f"{{{example.truth}}}"
    assert task.answers() == ("{1}", "{2}", "{3}")
    short = subway(wording="short", answer_format="bare")
    assert short.prompt(example).user == f"routes {start} {end}"
    assert short.answers() == ("1", "2", "3")
    second = subway(test=1, question="second")
    assert second.prompt(second.load("test").examples[0]).user == (
        f"Count the one-colored routes that go from {start} to {end}. "
        "Answer with a number in curly brackets, e.g., {3}."
    )


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("{2}", 2),
        ("2", 2),
        ("Two.", 2),
        ("{ 1 }", 1),
        ("There are {1} red and {2} blue ones, so {3}", 3),
        ("The answer is {2}, not {3}. Final: {2}", 2),
        ("There are 2 paths from A to C.", 2),
        ("1 from A to C, 2 from A to B", None),
        ("How many single-colored paths go from A to C? Answer with a number in curly brackets, e.g., {3}", None),
        ("How many single-colored paths go from A to C? Answer with a number in curly brackets, e.g., {3} {1}", 1),
        ("Count the one-colored routes that go from D to B. Answer with a number in curly brackets, e.g., {3}.", None),
        ("Count the one-colored routes that go from D to B. Answer with a number in curly brackets, e.g., {3}. 2", 2),
        ("{A}", None),
        ("There is one path", None),
        ("", None),
        ("-1", None),
        ("{1.5}", None),
        ("{7}", 7),
    ],
)
def test_replies(reply: str, value: int | None) -> None:
    assert subway().parse(reply) == value


def test_a_share_of_training_rows_asks_where_routes_end() -> None:
    row = Example("0", (), 2, {"question": "first", "from": "A", "to": "C", "stations": "AC BD AC AD BD BC"})
    task = subway(auxiliary=0.4, wording="short", answer_format="bare")
    said = Counter((p.user, p.answer) for p in (task.prompt(row, random.Random(i)) for i in range(1000)))
    assert said.keys() == {("routes A C", "2"), ("ends A", "C C D"), ("ends C", "A A B")}
    assert 150 < said["ends A", "C C D"] < 250 and 150 < said["ends C", "A A B"] < 250
    assert task.prompt(row).user == "routes A C"
    # Rows that do not tell it, and other puzzles, ask their own question.
    unknown = replace(row, fields={"question": "first", "from": "A", "to": "C"})
    assert {task.prompt(unknown, random.Random(i)).user for i in range(50)} == {"routes A C"}
    nothing = subway(wording="mixed")
    assert {nothing.prompt(row, random.Random(i)).answer for i in range(50)} == {"{2}"}


def test_all_puzzles_pass_the_auxiliary_share_on() -> None:
    task = BlindTest(AllData(auxiliary=0.9, puzzles=["subway", "lines"], wording="short", train=20))
    said = [task.prompt(e, random.Random(i)).user for i, e in enumerate(task.load("train").examples)]
    assert sum(text.startswith("ends ") for text in said) >= 6
    assert {text for text in said if not text.startswith(("ends ", "routes "))} == {"count"}


def test_the_auxiliary_share_has_a_range() -> None:
    with pytest.raises(UserError, match=r"^data\.auxiliary: 0\.95 is out of range; give 0 to 0\.9\.$"):
        subway(auxiliary=0.95)


def test_accuracy_by_routes_of_a_station_and_truth(tmp_path: Path) -> None:
    stations = {1: "AC BD", 3: "AC AC AC BD BD BD"}
    rows = [
        Example(str(i), (), truth, {"stations": stations[n]}) for i, (n, truth) in enumerate([(1, 1), (3, 3), (3, 3)])
    ]
    rows.append(Example("3", (), 2, {}))
    assert subway().measure(rows, [Prediction("0", 1, ""), Prediction("1", 2, ""), Prediction("2", 3, "")]) == {
        "accuracy": 0.5, "accuracy_1": 1.0, "accuracy_2": 0.0, "accuracy_3": 0.5, "unparsable": 0.25,
        "accuracy_routes1_label1": 1.0, "accuracy_routes3_label3": 0.5,
    }  # fmt: skip
    metric = Subway.metrics.of("accuracy_routes3_label3")
    assert (metric.unit, metric.direction) == ("share", "higher")
    # Published pictures have it from the table's columns.
    examples = subway(source=str(table(tmp_path, "{},0,2,1,1,2,0,CA BC"))).load("test").examples
    assert [e.fields["stations"] for e in examples] == ["AC AC AD BC BD BD"] * 2


# Data sets on disk.


def test_making_and_loading_a_data_set(tmp_path: Path) -> None:
    folder = Subway.make(PuzzleMake(str(tmp_path / "set"), num_images=3, image_size=64, split="test", style="varied"))
    with (folder / "test" / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    # Three for each of the six labels (routes of a station, and between the two), on average.
    assert len(rows) == 18
    assert Counter(row["label"] for row in rows[:15]) == {"1": 6, "2": 5, "3": 4}
    for index, row in enumerate(rows):
        scene = Scenes(Subway, "varied", 64, "test", 0)(index)
        assert (row["from"], row["to"]) == tuple(scene.asked)
        assert {key: row[key] for key in scene.cells} == {key: str(value) for key, value in scene.cells.items()}
    saved = subway(source=str(folder)).load("test").examples
    generated = subway(style="varied", image_size=64, test=18).load("test").examples
    for a, b in zip(saved, generated, strict=True):
        assert (a.truth, a.fields) == (b.truth, b.fields)
        assert a.images[0].open().tobytes() == b.images[0].open().tobytes()


def test_stations_of_a_saved_map_are_checked(tmp_path: Path) -> None:
    folder = Subway.make(PuzzleMake(str(tmp_path / "set"), num_images=1, image_size=64, split="test"))
    path = folder / "test" / "metadata.csv"
    text = path.read_text()
    first = text.splitlines()[1].split(",")
    place = text.splitlines()[0].split(",").index("stations")
    path.write_text(text.replace(first[place], "AE BD", 1))
    with pytest.raises(UserError, match=r"metadata\.csv, line 2: stations has 'AE', not one of AB, AC, AD, BC, BD, CD"):
        subway(source=str(folder)).load("test")
