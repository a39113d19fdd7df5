from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from foveal.asking.asker import Asker
from foveal.asking.models import LocalModel
from foveal.asking.opening import make_asker, open_model
from foveal.config.sections import Evaluation, Model, Recipe, Training
from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.classification.task import Classification, ClassificationData
from foveal.vlm.generation import Generated
from foveal.vlm.logits import IGNORE

NAMES = ("cat", "black bird", "star", "3")
MODELS = ("builtin", "paligemma", "smolvlm", "qwen2_vl")


def examples(count: int = 3) -> list[Example]:
    colours = ((200, 30, 30), (20, 20, 220), (240, 240, 60))
    pictures = [Picture(str(i), Image.new("RGB", (56, 56), colours[i])) for i in range(count)]
    return [Example(str(i), (picture,), "cat") for i, picture in enumerate(pictures)]


class Asked:
    """Askers of a model that is loaded once."""

    def __init__(self, folder: str) -> None:
        self.recipe = Recipe(
            "classification", None, Model(id=folder, dtype="float32", device="cpu"), Training(precision="float32")
        )
        self.vlm = open_model(Classification(data()), self.recipe)

    def __call__(self, section: ClassificationData | None = None, **evaluation: Any) -> Asker:
        options = Evaluation(**{"max_new_tokens": 5, **evaluation})
        return make_asker(Classification(section or data()), self.vlm, replace(self.recipe, evaluation=options))


def data(**options: Any) -> ClassificationData:
    options = {"class_names": list(NAMES), "answer_format": "reasoning", "question": "What is it?", **options}
    return ClassificationData(source="gone", **options)


@pytest.fixture(scope="module", params=MODELS)
def asked(request: pytest.FixtureRequest, tiny: Any) -> Asked:
    return Asked(request.param if request.param == "builtin" else str(tiny(request.param)))


def naive(asker: Asker, example: Example, lead: str, *, mean: bool = False) -> list[float]:
    """Probabilities of the classes from full sequences, each by itself, as training has them."""
    scores = []
    assert isinstance(asker.model, LocalModel)
    model, encoder = asker.model.vlm.model, asker.model.encoder
    for name in NAMES:
        prompt = replace(asker.task.prompt(example), answer=f"{lead} {name}")
        batch = encoder.training_batch([prompt], ["x"])
        labels = batch.pop("labels")[0]
        with torch.no_grad():
            logits = model(**batch, use_cache=False).logits[0, :-1].float().log_softmax(-1)
        learned = logits[labels[1:] != IGNORE].gather(1, labels[labels != IGNORE][:, None])[:, 0]
        own = len(encoder.answer_ids(replace(prompt, reply_start=lead, answer=None), f" {name}"))
        scores.append(float(learned[-own:].sum()) / (own if mean else 1))
    return torch.tensor(scores, dtype=torch.float64).softmax(-1).tolist()


def chances(found: list[Prediction]) -> list[list[float]]:
    return [[p.probabilities[name] for name in NAMES] for p in found if p.probabilities is not None]


def test_the_class_is_scored_behind_the_models_own_reasons(asked: Asked) -> None:
    asker = asked()
    rows = examples()
    replies = [p.text for p in asked(method="generate").ask(rows)]
    found = list(asker.ask(rows))
    assert [p.text for p in found] == replies
    for p, table, example in zip(found, chances(found), rows, strict=True):
        assert sum(table) == pytest.approx(1, abs=1e-9)
        assert p.value == NAMES[table.index(max(table))] and p.truth == "cat"
        assert p.extra == {"generated": asker.task.parse(p.text)}
        lead = asker.task.reply_start(p.text)
        assert lead is not None
        assert table == pytest.approx(naive(asker, example, lead), abs=1e-4)


def test_probabilities_depend_neither_on_the_batch_nor_on_the_order_of_the_classes(asked: Asked) -> None:
    rows = examples()
    together = chances(list(asked().ask(rows)))
    alone = chances(list(asked(batch_size=1).ask(rows)))
    turned = chances(list(asked(data(class_names=list(NAMES[::-1]))).ask(rows[::-1])))[::-1]
    for other in (alone, turned):
        for one, two in zip(together, other, strict=True):
            assert one == pytest.approx(two, abs=1e-4)


def test_score_and_choose_ask_for_the_answer_at_once(asked: Asked) -> None:
    rows = examples()
    scored = list(asked(method="score").ask(rows))
    for p, table, example in zip(scored, chances(scored), rows, strict=True):
        assert p.text == p.value and not p.extra and sum(table) == pytest.approx(1, abs=1e-9)
        assert table == pytest.approx(naive(asked(), example, "Answer:"), abs=1e-4)
    chosen = list(asked(method="choose").ask(rows))
    assert all(p.text in NAMES and p.value == p.text and p.probabilities is None for p in chosen)


def test_probabilities_by_token_are_made_of_means(asked: Asked) -> None:
    rows = examples(1)
    found = list(asked(method="score", length_normalisation=True).ask(rows))
    assert chances(found)[0] == pytest.approx(naive(asked(), rows[0], "Answer:", mean=True), abs=1e-4)
    assert chances(found) != chances(list(asked(method="score").ask(rows)))


def test_generate_parses_only(asked: Asked) -> None:
    for p in asked(method="generate").ask(examples()):
        assert p.probabilities is None and p.value == asked().task.parse(p.text)


def test_bare_labels_are_scored_as_before(asked: Asked) -> None:
    (found,) = asked(data(answer_format="label")).ask(examples(1))
    assert found.text == found.value and found.extra == {} and found.probabilities is not None


def test_the_label_objective_needs_the_bare_answer(tmp_path: Path) -> None:
    recipe = Recipe("classification", None, objective="label")
    with pytest.raises(
        UserError, match=r"^objective: label learns the bare answer, but here classification asks for re"
    ):
        open_model(Classification(data()), recipe, training=True)


def test_the_models_own_answer_is_kept_beside_the_scored_one(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["Reasoning: It shines.\nAnswer: [star]", "Answer: a star", "It is red"]
    monkeypatch.setattr("foveal.asking.models.generate", lambda *_, **__: [Generated(text, 1.0) for text in said])
    asker, rows = asked(), examples()
    found = list(asker.ask(rows))
    assert [p.extra["generated"] for p in found] == ["star", None, None]
    assert asker.task.measure(rows, found)["unparsable"] == pytest.approx(2 / 3)
    leads = ["Reasoning: It shines.\nAnswer:", "Answer:", "It is red\nAnswer:"]
    for table, row, lead in zip(chances(found), rows, leads, strict=True):
        assert table == pytest.approx(naive(asker, row, lead), abs=1e-4)
