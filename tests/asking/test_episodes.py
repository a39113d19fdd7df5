"""Counting by a model that writes, with replies that are scripted in place of a model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.asking.asker import Asker
from foveal.asking.models import AnsweringModel, Keep, evaluating
from foveal.asking.replies import Reply
from foveal.config.sections import Evaluation
from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import Picture
from foveal.prompts import Prompt
from foveal.tasks.counting.marking import mark
from foveal.tasks.counting.objects import Thing
from foveal.tasks.counting.task import Counting, CountingData

SIZE = (100, 80)
SCRIPTS = {
    "three": ["10 10", "30 10", "50 60", "done"],
    "none": ["done"],
    "unreadable": ["10 10", "somewhere on the left"],
    "stuck": ["10 10", "90 90", "10 10", "10 11"],
    "limit": ["10 10", "20 20", "30 30", "40 40", "50 50"],
    "recovers": ["10 10", "10 10", "40 40", "done"],
}


@dataclass
class Script(AnsweringModel):
    """Replies by the row's name; keeps what was asked."""

    left: dict[str, list[str]]
    name: str = "script"
    settings: Mapping[str, Any] = field(default_factory=dict)
    batches: list[list[str]] = field(default_factory=list)
    seen: dict[str, list[Prompt]] = field(default_factory=dict)

    def reply(self, prompts: Sequence[Prompt], names: Sequence[str], keep: Keep | None = None) -> list[Reply]:
        self.batches.append(list(names))
        for name, prompt in zip(names, prompts, strict=True):
            self.seen.setdefault(name, []).append(prompt)
        return [Reply(self.left[n].pop(0), confidence=0.9 - 0.1 * len(self.seen[n])) for n in names]


@pytest.fixture
def script() -> Script:
    return Script({name: list(replies) for name, replies in SCRIPTS.items()})


def rows() -> list[Example]:
    pictures = {n: Image.new("RGB", SIZE, (200, 200, 30 * i)) for i, n in enumerate(SCRIPTS)}
    return [Example(n, (Picture(n, p),), 3, {"category": "cells"}) for n, p in pictures.items()]


def asker(model: AnsweringModel, batch: int = 10, **data: Any) -> Asker:
    task = Counting(CountingData(wording="short", max_points=5, **data))
    return Asker(task, model, Evaluation(batch_size=batch))


def test_pictures_are_counted_together_and_leave_the_batch_when_they_end(script: Script) -> None:
    found = {p.id: p for p in asker(script).ask(rows())}
    assert script.batches == [
        ["three", "none", "unreadable", "stuck", "limit", "recovers"],
        ["three", "unreadable", "stuck", "limit", "recovers"],
        ["three", "stuck", "limit", "recovers"],
        ["three", "stuck", "limit", "recovers"],
        ["limit"],
    ]
    assert all(not left for left in script.left.values())
    ends = {n: (p.value, p.extra["end"], p.extra["repeats"]) for n, p in found.items()}
    assert ends == {
        "three": (3, "done", 0), "none": (0, "done", 0), "unreadable": (1, "unreadable", 0), "stuck": (2, "stuck", 2),
        "limit": (5, "limit", 0), "recovers": (2, "done", 1),
    }  # fmt: skip
    assert found["three"].extra["points"] == [[10.5, 8.4], [30.5, 8.4], [50.5, 48.4]]
    assert found["three"].extra["step_confidence"] == pytest.approx([0.8, 0.7, 0.6, 0.5])
    assert found["three"].text == "3 (done)" and found["three"].truth == 3


def test_each_question_shows_the_points_so_far(script: Script) -> None:
    list(asker(script).ask(rows()))
    for name, repeats in (("three", []), ("recovers", [(10.5, 8.4)])):
        plain = next(e for e in rows() if e.id == name).images[0].open()
        points = {"three": [(10.5, 8.4), (30.5, 8.4), (50.5, 48.4)], "recovers": [(10.5, 8.4), *repeats, (40.5, 32.4)]}
        for k, prompt in enumerate(script.seen[name]):
            marked = mark(plain, [Thing(p) for p in points[name][:k]], "disc", 0.5, relative="image", size=0.8)
            assert np.array_equal(np.asarray(prompt.opened()[0]), np.asarray(marked))
            assert prompt.user == "next cells" and prompt.answer is None


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_counting_together_equals_counting_one_at_a_time(script: Script, batch: int) -> None:
    together = list(asker(script).ask(rows()))
    again = Script({name: list(replies) for name, replies in SCRIPTS.items()})
    done: list[int] = []
    assert list(asker(again, batch).ask(rows(), done.append)) == together
    assert max(map(len, again.batches)) == batch and sum(done) == 6


def test_all_points_at_once_are_one_question_with_points_beside_their_number(script: Script) -> None:
    script.left = {"three": ["10 10; 30 10; 50 60"], "none": ["done"], "unreadable": ["10 10; 3"]}
    found = list(asker(script, strategy="all_points").ask(rows()[:3]))
    assert [p.value for p in found] == [3, 0, None] and len(script.batches) == 1
    assert found[0].extra["points"] == [[10.5, 8.4], [30.5, 8.4], [50.5, 48.4]]
    assert script.seen["three"][0].user == "points cells"


def test_the_number_alone_is_asked_once(script: Script) -> None:
    script.left = {"three": ["4"], "none": ["many"]}
    found = list(asker(script, strategy="number").ask(rows()[:2]))
    assert [(p.value, p.text) for p in found] == [(4, "4"), (None, "many")]


def test_the_model_is_back_in_training_afterwards() -> None:
    module = torch.nn.Linear(1, 1).train()
    with evaluating(module, torch.bfloat16):
        assert not module.training and module(torch.zeros(1, 1)).dtype == torch.bfloat16
    assert module.training
    with pytest.raises(UserError, match="memory"), evaluating(module, torch.float32):
        raise torch.OutOfMemoryError
    assert module.training
