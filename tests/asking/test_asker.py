from __future__ import annotations

import pytest

from foveal.asking.opening import make_asker, open_model
from foveal.config.sections import Evaluation, Recipe
from foveal.errors import UserError
from foveal.tasks.blindtest.lines import Lines, LinesData
from foveal.tasks.classification.task import Classification, ClassificationData


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


def test_scoring_many_answers_says_how_long_it_takes():
    task = named(*(f"class {i}" for i in range(5000)))
    model = open_model(task, Recipe(task.name, task.data))

    def remark(method, rows):
        return make_asker(task, model, Recipe(task.name, task.data, evaluation=Evaluation(method=method))).remark(rows)

    assert remark("auto", 1000) == (
        "5,000 answers are scored for each of 1,000 rows: about 1.8 hours on a CPU even with a small model. "
        "evaluation.method: choose or generate writes one answer for each row, without probabilities; evaluation.samples, "
        "or --samples, takes fewer rows."
    )
    assert "about 11 minutes" in remark("score", 100)
    assert remark("auto", 5) == remark("choose", 1000) == remark("generate", 1000) == ""


def named(*names):
    return Classification(ClassificationData(source="gone", class_names=list(names)))
