from __future__ import annotations

import pytest

from foveal.asking.opening import make_asker, open_model
from foveal.config.sections import Evaluation, Recipe
from foveal.errors import UserError
from foveal.tasks.blindtest.lines import Lines, LinesData


def asker(method, **data):
    task = Lines(LinesData(test=6, image_size=64, **data))
    recipe = Recipe(task.name, task.data, evaluation=Evaluation(method=method, batch_size=4))
    return task, make_asker(task, open_model(task, recipe), recipe)


def test_choosing_writes_only_answers_where_free_text_writes_others():
    task, free = asker("generate", wording="published", answer_format="asked")
    _, choose = asker("choose", wording="published", answer_format="asked")
    rows = list(task.load("test").examples)
    assert any(p.text not in task.answers() for p in free.ask(rows))
    said = list(choose.ask(rows))
    assert all(p.text in task.answers() and p.value in (0, 1, 2) and p.probabilities is None for p in said)


def test_choosing_needs_a_closed_set():
    with pytest.raises(UserError, match=r"evaluation\.method: choose needs a closed set of answers"):
        from foveal.tasks.blindtest.shapes import Shapes

        task = Shapes(Shapes.Data(question="either"))
        recipe = Recipe(task.name, task.data, evaluation=Evaluation(method="choose"))
        make_asker(task, open_model(task, recipe), recipe)
