from __future__ import annotations

import random
from typing import Any

from PIL import Image

from foveal.examples import Example
from foveal.images import Picture
from foveal.prompts import Prompt
from foveal.report.cards import Card, choose_cards, count_verdicts
from foveal.results import Prediction, Result
from foveal.tasks.blindtest.lines import Lines, LinesData
from foveal.tasks.capabilities import Drawing


def row(name: str, correct: bool | None, confidence: float | None, truth: int | None = 2) -> tuple[Example, Prediction]:
    value = None if correct is None else 2 if correct else 1
    chances = None if confidence is None else {str(value): confidence, "other": 0.0}
    example = Example(name, (Picture(name, Image.new("RGB", (8, 8))),), truth, {"question": "How many?"})
    return example, Prediction(name, value, str(value), chances, truth)


def result(rows: list[tuple[Example, Prediction]]) -> Result:
    examples, predictions = [e for e, _ in rows], [p for _, p in rows]
    return Result("a", "s", len(rows), {}, "accuracy", examples=examples, predictions=predictions)


class Drawn(Drawing, Lines):
    """Remembers what it drew."""

    def __init__(self) -> None:
        super().__init__(LinesData())
        self.drawn: list[str] = []

    def prompt(self, example: Example, rng: random.Random | None = None) -> Prompt:
        return Prompt(example.images, "How many?")

    def draw(self, example: Example, prediction: Prediction | None = None) -> Image.Image:
        self.drawn.append(example.id)
        return example.images[0].open()


def chosen(rows: list[tuple[Example, Prediction]], limit: int = 99) -> list[str]:
    return [card.id for card in choose_cards(Drawn(), result(rows), limit)]


def test_wrong_answers_come_first_then_unparsable_then_right_and_unknown_ones() -> None:
    right_sure, right_unsure = row("right sure", True, 0.99), row("right unsure", True, 0.4)
    wrong_sure, wrong_unsure, wrong = row("sure", False, 0.9), row("unsure", False, 0.5), row("wrong", False, None)
    unparsable, unknown = row("unparsable", None, None), row("unknown", False, 0.9, truth=None)
    mixed = [unknown, right_sure, wrong, right_unsure, unparsable, wrong_unsure, wrong_sure]
    wanted = [wrong_sure, wrong_unsure, wrong, unparsable, right_unsure, right_sure, unknown]
    assert chosen(mixed) == [e.id for e, _ in wanted]
    assert chosen([]) == []


def test_equals_keep_their_order() -> None:
    assert chosen([row(str(i), False, 0.5) for i in range(5)]) == list("01234")


def test_two_thirds_may_be_mistakes_and_only_what_is_shown_is_drawn() -> None:
    task = Drawn()
    rows = [row(f"{i}", i % 2 == 0, i / 100) for i in range(40)]
    cards = choose_cards(task, result(rows), 9)
    assert [c.id for c in cards] == ["39", "37", "35", "33", "31", "29", "0", "2", "4"] == task.drawn
    assert [c.verdict for c in cards] == ["wrong"] * 6 + ["right"] * 3
    few = [row("0", False, 0.5), *(row(f"{i}", True, 0.5) for i in range(1, 9))]
    assert chosen(few, 4) == ["0", "1", "2", "3"]


def test_a_task_may_say_itself_what_is_right() -> None:
    example, prediction = row("a", False, None)
    judged = Prediction("a", prediction.value, "1", truth=2, extra={"correct": True})
    assert choose_cards(Drawn(), result([(example, judged)]), 1)[0].verdict == "right"


def test_the_answer_is_the_reply_behind_the_value_where_that_tells_more() -> None:
    def answer(prediction: Prediction) -> str:
        return choose_cards(Drawn(), result([(row("a", True, None)[0], prediction)]), 2)[0].answer

    assert answer(Prediction("a", 2, "2")) == "2"
    assert answer(Prediction("a", None, "dunno")) == "dunno"
    assert answer(Prediction("a", 2, "They cross twice, so: 2", {"2": 1.0})) == "2 (They cross twice, so: 2)"
    assert answer(Prediction("a", [2], "two")) == "[2] (two)"


def card(verdict: Any) -> Card:
    return Card("", None, "q", "1", "2", verdict)


def test_counts() -> None:
    cards = [card(v) for v in ["right"] * 3 + ["wrong"] * 2 + ["unparsable"] + ["unknown"] * 4]
    assert count_verdicts(cards) == "2 of 6 wrong, 1 unparsable, 4 without a known truth"
    assert count_verdicts([card("unknown")]) == "1 without a known truth"
