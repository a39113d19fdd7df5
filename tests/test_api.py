from __future__ import annotations

import json
from itertools import count, islice

import pytest
from PIL import Image

import foveal
from foveal.errors import UserError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    recipe = folder / "recipe.yaml"
    recipe.write_text("task: blindtest/lines\nevaluation: {batch_size: 2}\n")
    return foveal.load(recipe, data__wording="short", data__answer_format="bare")


def pictures(count):
    return [Image.new("RGB", (40 + i, 40), (i * 20, 0, 0)) for i in range(count)]


def test_an_answer_has_probabilities_that_sum_to_1(model, tmp_path):
    pictures(1)[0].save(tmp_path / "a.png")
    answer = model.predict(tmp_path / "a.png")
    assert sum(answer.probabilities.values()) == pytest.approx(1) and set(answer.probabilities) == {"0", "1", "2"}
    assert answer.confidence == max(answer.probabilities.values())
    assert str(answer.prediction) == answer.response and answer.name == str(tmp_path / "a.png")


def test_a_batch_equals_one_by_one_and_paths_equal_pictures(model, tmp_path):
    given = pictures(5)
    for i, picture in enumerate(given):
        picture.save(tmp_path / f"{i}.png")
    batch = list(model.predict_batch(given))
    alone = [model.predict(tmp_path / f"{i}.png") for i in range(5)]
    assert [a.prediction for a in batch] == [a.prediction for a in alone]
    for a, b in zip(batch, alone, strict=True):
        assert a.probabilities == pytest.approx(b.probabilities, abs=2e-2)  # bfloat16


def test_a_stream_is_read_a_batch_at_a_time(model):
    opened = []

    def stream():
        for i in range(1000):
            opened.append(i)
            yield pictures(1)[0]

    answers = model.predict_batch(stream())
    next(answers)
    assert len(opened) == 2


def test_an_endless_stream_is_answered_as_far_as_it_is_asked(model):
    opened = []

    def drawn(i):
        opened.append(i)
        return Image.new("RGB", (40 + i, 40), (i * 20, 0, 0))

    answers = list(islice(model.predict_batch(map(drawn, count())), 3))
    assert [a.name for a in answers] == ["picture 0", "picture 1", "picture 2"]
    assert all(a.prediction is not None for a in answers)
    assert len(opened) == 4  # two batches of two


def test_a_folder_is_written_as_the_answers_of_its_pictures(model, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i, picture in enumerate(pictures(3)):
        picture.save(folder / f"{i}.png")
    tally = model.predict_folder(folder, tmp_path / "a.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    answers = list(model.predict_batch(sorted(folder.iterdir())))
    assert [(r["id"], r["value"], r["probabilities"]) for r in rows] == [
        (a.name, a.prediction, a.probabilities) for a in answers
    ]
    assert tally.rows == 3 and sum(tally.counts.values()) == 3
    assert model.predict_folder(str(folder), str(tmp_path / "a.jsonl")) == tally
    with pytest.raises(UserError, match="holds no pictures"):
        (tmp_path / "empty").mkdir()
        model.predict_folder(tmp_path / "empty", tmp_path / "b.jsonl")
    for call in (model.predict_folder, lambda f, o, text: model.predict(f, text=text)):
        with pytest.raises(UserError, match="text: blindtest/lines takes no words"):
            call(folder, tmp_path / "b.jsonl", text="red")


def test_mistakes_are_sentences(model, tmp_path):
    with pytest.raises(UserError, match=r"there is no such"):
        foveal.load(tmp_path / "nothing")
    with pytest.raises(UserError, match="There is no key"):
        foveal.load("blindtest-lines", data__stile="paper")
    with pytest.raises(UserError, match="missing"):
        model.predict(tmp_path / "missing.png")
    with pytest.raises(AttributeError):
        foveal.nothing  # noqa: B018
