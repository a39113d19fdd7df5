from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from foveal.errors import UserError
from foveal.results import Prediction
from foveal.tasks.blindtest.all import PUZZLES, AllData, AllMake, BlindTest, find_sources
from foveal.tasks.registry import find_task


def blindtest(**data: Any) -> BlindTest:
    return BlindTest(AllData(**{"image_size": 64, "train": 70, "validation": 14, "test": 28, **data}))


def test_all_seven_are_registered_by_their_names() -> None:
    assert find_task("blindtest/all") is BlindTest
    assert {name: find_task(f"blindtest/{name}") for name in PUZZLES} == PUZZLES
    assert [task.name for task in PUZZLES.values()] == [f"blindtest/{name}" for name in PUZZLES]


def test_every_stretch_of_rows_has_all_puzzles() -> None:
    examples = blindtest().load("train").examples
    names = [e.fields["puzzle"] for e in examples]
    assert len(examples) == 70 and len({e.id for e in examples}) == 70
    assert all(set(names[i : i + 7]) == set(PUZZLES) for i in range(0, 70, 7))


def test_shares_hold_in_training_alone() -> None:
    task = blindtest(shares={"lines": 4.0})
    assert Counter(e.fields["puzzle"] for e in task.load("train").examples) == {
        name: 28 if name == "lines" else 7 for name in PUZZLES
    }
    assert set(Counter(e.fields["puzzle"] for e in task.load("test").examples).values()) == {4}


def test_both_asks_each_picture_both_questions() -> None:
    examples = blindtest(question="both").load("test").examples
    assert len(examples) == 56
    assert Counter((e.fields["puzzle"], e.fields["question"]) for e in examples) == {
        (name, which): 4 for name in PUZZLES for which in ("first", "second")
    }


@pytest.mark.parametrize("question", ["first", "second"])
@pytest.mark.parametrize("wording", ["published", "short"])
@pytest.mark.parametrize("answer_format", ["asked", "bare"])
def test_every_answer_is_read_back(question: Any, wording: Any, answer_format: Any) -> None:
    task = blindtest(question=question, wording=wording, answer_format=answer_format)
    for example in task.load("test").examples:
        prompt = task.prompt(example)
        assert prompt.answer is not None
        assert task.parse(prompt.answer, example) == example.truth
        if wording == "published":
            assert task.parse(f"{prompt.user}\n{prompt.answer}", example) == example.truth
        assert task.parse(prompt.user, example) is None
        assert "<" not in prompt.user and task.parse(prompt.answer) is None


def test_mixed_wording_is_drawn_in_training_only() -> None:
    task = blindtest(wording="mixed")
    example = task.load("train").examples[0]
    said = Counter(task.prompt(example, random.Random(i)).user for i in range(400))
    assert len(said) == 2 and min(said.values()) > 150
    assert task.prompt(example).user == PUZZLES["lines"].first.text


def test_the_headline_is_the_mean_over_the_puzzles() -> None:
    task = blindtest(puzzles=["lines", "circles"], shares={})
    examples = task.load("test").examples
    lines, ovals = ([e for e in examples if e.fields["puzzle"] == name] for name in ("lines", "circles"))
    # All lines right; half of the circles unparsable, the others right; two lines fewer are measured than circles.
    measured = [*lines[2:], *ovals]
    circles = [e.id for e in measured if e.fields["puzzle"] == "circles"]
    said = [Prediction(e.id, None if e.id in circles[::2] else e.truth, "") for e in measured]
    metrics = task.measure(measured, said)
    assert metrics["accuracy_lines"] == 1 and metrics["accuracy_circles"] == 0.5
    assert metrics["mean_accuracy"] == 0.75 and task.headline == "mean_accuracy"
    assert metrics["unparsable"] == pytest.approx(len(circles[::2]) / len(measured))
    assert task.chance(examples) == pytest.approx((5 / 14 + 9 / 14) / 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"puzzles": ["lines", "ovals"]}, "there is no puzzle 'ovals'; there are lines, circles"),
        ({"puzzles": []}, "name one puzzle or more"),
        ({"puzzles": ["lines", "lines"]}, "each once"),
        ({"shares": {"lines": 0.0}}, "lines: 0.0 is out of range"),
    ],
)
def test_wrong_settings(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        blindtest(**data)


def test_making_all_and_loading_them_back(tmp_path: Path) -> None:
    BlindTest.make(AllMake(str(tmp_path / "set"), split="test", num_images=1, image_size=64))
    saved = blindtest(source=str(tmp_path / "set")).load("test").examples
    assert Counter(e.fields["puzzle"] for e in saved) == {name: len(task.labels) for name, task in PUZZLES.items()}
    generated = {
        name: PUZZLES[name](PUZZLES[name].Data(image_size=64, test=len(PUZZLES[name].labels))).load("test").examples
        for name in PUZZLES
    }
    for name, rows in generated.items():
        found = [e for e in saved if e.fields["puzzle"] == name]
        assert [e.truth for e in found] == [e.truth for e in rows]
        assert found[-1].images[0].open().tobytes() == rows[-1].images[0].open().tobytes()
    with pytest.raises(UserError, match="exists already"):
        BlindTest.make(AllMake(str(tmp_path / "set"), split="test", num_images=1, image_size=64))
    shutil.rmtree(tmp_path / "set" / "grids")
    with pytest.raises(UserError, match=r"no pictures of the puzzle grids; leave it out of data\.puzzles"):
        blindtest(source=str(tmp_path / "set")).load("test")


def test_the_published_folders_are_found_by_their_pictures(real_data: Path) -> None:
    source = str(real_data / "blindtest")
    found = {name: [Path(p).name for p in find_sources(source, name, task.layout)] for name, task in PUZZLES.items()}
    assert found == {
        "lines": ["line_intersections"], "circles": ["touching_circles"], "letters": ["circled_letter"],
        "shapes": ["circles", "pentagons"], "squares": ["nested_squares"], "grids": ["grids"], "subway": ["subway"],
    }  # fmt: skip
    examples = blindtest(source=source).load("test").examples
    counts = Counter(e.fields["puzzle"] for e in examples)
    assert counts == {
        "lines": 90, "circles": 56, "letters": 40, "shapes": 60, "squares": 24, "grids": 30, "subway": counts["subway"]
    }  # fmt: skip
    assert counts["subway"] > 24
