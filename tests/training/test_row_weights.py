from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from families import open_tiny, prompts
from rich.console import Console
from safetensors.torch import load_file
from small import write_recipe, write_squares
from torch.nn.functional import cross_entropy

from foveal.config.checking import check
from foveal.config.reading import read_recipe
from foveal.config.sections import Recipe, Training
from foveal.errors import UserError
from foveal.examples import Example
from foveal.tasks.comparison.task import Comparison, ComparisonData
from foveal.tasks.counting.task import Counting, CountingData
from foveal.tasks.specialist import Specialist
from foveal.training import objectives
from foveal.training.objectives import AnswerObjective, LabelObjective, make_objective, symmetric_divergence
from foveal.training.rows import Row
from foveal.training.train import train
from foveal.training.trainer import FovealTrainer
from foveal.vlm.logits import IGNORE
from foveal.vlm.scoring import score

ANSWERS = ("two", "one cat", "a")
WEIGHTS = (0.25, 3.0, 1.0, 7.5)
MIRRORED = {"two": "one cat", "one cat": "two", "a": "a"}


@pytest.fixture(scope="module")
def opened(tiny: Any) -> tuple[Any, Any]:
    vlm, encoder = open_tiny(tiny("idefics3"), training=True)
    vlm.model.eval()
    return vlm, encoder


def rows(weights: tuple[float, ...] = WEIGHTS) -> list[Row]:
    made = prompts(len(weights), ANSWERS)
    return [Row(Example(str(i), ()), p, weight=w) for i, (p, w) in enumerate(zip(made, weights, strict=True))]


# ------------------------------------------------------------------------------------------------- the losses


@torch.no_grad()
def test_answer_loss_is_the_weighted_mean_over_tokens_of_full_logits(opened) -> None:
    vlm, encoder = opened
    objective = AnswerObjective(encoder)
    batch = objective.collate(rows())
    found = objective.loss(vlm.model, batch, None)
    above = below = 0.0
    for row in rows():
        alone = encoder.training_batch([row.prompt], ["x"])
        labels = alone.pop("labels")[0].tolist()
        chances = vlm.model(**alone, use_cache=False).logits[0].double().softmax(-1)
        for place, token in enumerate(labels):
            if token != IGNORE:
                above -= row.weight * math.log(chances[place - 1, token].item())
                below += row.weight
    assert objective.count(batch).item() == pytest.approx(below, rel=1e-6)
    assert found.item() == pytest.approx(above / below, rel=1e-5)
    plain = objective.loss(vlm.model, objective.collate(rows((1.0,) * 4)), None)
    assert abs(found.item() - plain.item()) > 1e-3, "the weights matter here"


@torch.no_grad()
def test_label_loss_is_the_weighted_mean_over_rows(opened) -> None:
    vlm, encoder = opened
    objective = LabelObjective(encoder, ANSWERS, vlm.family)
    batch = objective.collate(rows())
    scores = score(vlm, encoder, [r.prompt for r in rows()], ANSWERS, names=list("abcd")).double().softmax(-1)
    losses = [-math.log(scores[i, i % 3].item()) for i in range(4)]
    expected = sum(w * x for w, x in zip(WEIGHTS, losses, strict=True)) / sum(WEIGHTS)
    assert objective.count(batch).item() == sum(WEIGHTS)
    assert objective.loss(vlm.model, batch, None).item() == pytest.approx(expected, rel=1e-5)
    assert abs(expected - sum(losses) / 4) > 1e-3, "the weights matter here"


def test_weights_of_1_leave_batches_as_they_were(opened) -> None:
    vlm, encoder = opened
    for objective in (AnswerObjective(encoder), LabelObjective(encoder, ANSWERS, vlm.family)):
        assert "weights" not in objective.collate(rows((1.0, 1.0)))
        assert objective.collate(rows((1.0, 2.0)))["weights"].tolist() == [1.0, 2.0]
        counts = [objective.count(objective.collate(rows(w))) for w in ((1.0, 1.0), (1.0, 2.0))]
        assert {c.dtype for c in counts} == {torch.float32}, "counts are added up over batches and processes"


@torch.no_grad()
@pytest.mark.parametrize("kind", ["answer", "label"])
def test_equal_weights_of_any_scale_give_the_unweighted_loss(opened, kind: str) -> None:
    vlm, encoder = opened
    objective = AnswerObjective(encoder) if kind == "answer" else LabelObjective(encoder, ANSWERS, vlm.family)
    one, other = (objective.loss(vlm.model, objective.collate(rows((w,) * 4)), None).item() for w in (1.0, 0.3))
    assert one == pytest.approx(other, rel=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("weights", [(1.0,) * 4, WEIGHTS])
def test_smoothed_answer_loss_equals_torch_on_full_logits(opened, weights: tuple[float, ...]) -> None:
    vlm, encoder = opened
    objective = AnswerObjective(encoder, smoothing=0.2)
    batch = objective.collate(rows(weights))
    found = objective.loss(vlm.model, batch, None).item()
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "weights")}
    logits = vlm.model(**inputs, use_cache=False).logits[:, :-1]
    target = batch["labels"][:, 1:]
    if weights == WEIGHTS:
        sums = [cross_entropy(x, t, reduction="sum", label_smoothing=0.2) for x, t in zip(logits, target, strict=True)]
        tokens = (target != IGNORE).sum(1)
        expected = (torch.stack(sums) * torch.tensor(WEIGHTS)).sum() / (tokens * torch.tensor(WEIGHTS)).sum()
    else:
        expected = cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORE, label_smoothing=0.2)
    assert found == pytest.approx(expected.item(), rel=1e-5)
    assert abs(found - AnswerObjective(encoder).loss(vlm.model, batch, None).item()) > 1e-3


@torch.no_grad()
def test_smoothed_label_loss_spreads_over_the_answers(opened) -> None:
    vlm, encoder = opened
    objective = LabelObjective(encoder, ANSWERS, vlm.family, smoothing=0.3)
    logs = score(vlm, encoder, [r.prompt for r in rows()], ANSWERS, names=list("abcd")).double().log_softmax(-1)
    # By hand: 0.7 of the target on the right answer and 0.1 on each of the three.
    losses = [-(0.7 * logs[i, i % 3] + 0.1 * logs[i].sum()).item() for i in range(4)]
    expected = sum(w * x for w, x in zip(WEIGHTS, losses, strict=True)) / sum(WEIGHTS)
    assert objective.loss(vlm.model, objective.collate(rows()), None).item() == pytest.approx(expected, rel=1e-5)


def test_mirrors_weigh_as_their_rows_and_are_smoothed(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    vlm, encoder = opened
    pairs = [
        Row(r.example, r.prompt, type(r.prompt)(r.prompt.images, r.prompt.user, answer=MIRRORED[r.prompt.answer]), w)
        for r, w in zip(rows(), WEIGHTS, strict=True)
    ]
    objective = LabelObjective(
        encoder, ANSWERS, vlm.family, mirrored=MIRRORED, weight=0.8, smoothing=0.3
    )  # fmt: skip
    batch = objective.collate(pairs)
    assert batch["weights"].tolist() == [*WEIGHTS, *WEIGHTS] and objective.count(batch).item() == 2 * sum(WEIGHTS)
    table = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(objectives, "label_scores", lambda *_, **__: table)
    found = objective.loss(vlm.model, batch, None)
    both = torch.tensor(WEIGHTS * 2)
    entropy = (cross_entropy(table, batch["choice"], reduction="none", label_smoothing=0.3) * both).sum() / both.sum()
    apart = symmetric_divergence(table[:4], table[4:][:, [1, 0, 2]]).tolist()
    divergence = sum(w * d for w, d in zip(WEIGHTS, apart, strict=True)) / sum(WEIGHTS)
    assert found.parts["ce"].item() == pytest.approx(entropy.item(), rel=1e-5)
    assert found.parts["consistency"].item() == pytest.approx(divergence, rel=1e-5)
    assert found.total.item() == pytest.approx(entropy.item() + 0.8 * divergence, rel=1e-5)


# ------------------------------------------------------------------------------------------------- the trainer


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("squares"), {"train": 6, "validation": 2, "test": 1})


@pytest.fixture
def descent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain gradient descent: Adam divides by the root of its second moment, which lifts rounding."""

    def create(self: FovealTrainer, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = torch.optim.SGD([p for p in self.model.parameters() if p.requires_grad], lr=0.1)
        made: torch.optim.Optimizer = self.optimizer
        return made

    monkeypatch.setattr(FovealTrainer, "create_optimizer", create)


@pytest.mark.parametrize("objective", ["answer", "label"])
def test_weighted_batch_1_accumulated_8_times_equals_batch_8(tiny, squares, tmp_path, descent, objective: str) -> None:
    path = write_recipe(
        tmp_path / "r.yaml", squares, tiny("idefics3"), training="  max_steps: 2\n  label_smoothing: 0.1\n"
    )
    found = []
    for batch, accumulate, weights in ((8, 1, "{red: 4, green: 0.2}"), (1, 8, "{red: 4, green: 0.2}"), (8, 1, "none")):
        words = ["--output", str(tmp_path), "--name", f"{batch}{weights[0]}", "--objective", objective]
        words += ["--training.batch_size", str(batch), "--training.accumulate", str(accumulate)]
        run = train(read_recipe(path, [*words, "--data.class_weights", weights]), Console(quiet=True)).run
        found.append((run.read_metrics()[0], load_file(run.path / "checkpoints" / "last" / "model.safetensors")))
    (whole, one), (parts, other), (plain, unweighted) = found
    assert whole["train_loss"] == pytest.approx(parts["train_loss"], abs=1e-6)
    assert max((other[name] - tensor).abs().max().item() for name, tensor in one.items()) < 1e-6
    assert abs(whole["train_loss"] - plain["train_loss"]) > 1e-4
    assert max((unweighted[name] - tensor).abs().max().item() for name, tensor in one.items()) > 1e-4


def test_validation_rows_all_count_1(tiny, squares, tmp_path) -> None:
    losses = []
    for name, weights in (("a", "none"), ("b", "{red: 40, green: 0.2}")):
        # The model hardly moves, so that both runs validate the same weights.
        path = write_recipe(tmp_path / "r.yaml", squares, tiny("idefics3"), training="  max_steps: 1\n")
        words = ["--output", str(tmp_path), "--name", name, "--training.learning_rate", "1e-12"]
        run = train(read_recipe(path, [*words, "--data.class_weights", weights]), Console(quiet=True)).run
        losses.append(run.read_metrics()[0])
    assert losses[0]["val_loss"] == pytest.approx(losses[1]["val_loss"], abs=1e-6)
    assert abs(losses[0]["train_loss"] - losses[1]["train_loss"]) > 1e-4


# ------------------------------------------------------------------------------------------------- the recipe


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_a_smoothing_out_of_range_is_named(value: float) -> None:
    recipe = Recipe("comparison", ComparisonData(), training=Training(label_smoothing=value))
    with pytest.raises(UserError, match=r"^training\.label_smoothing: must be a share from 0 to below 1, not "):
        check(recipe)


def test_a_models_own_loss_refuses_smoothing() -> None:
    class Own(Specialist):
        model = torch.nn.Linear(1, 1)
        open = save_parts = ask = None  # type: ignore[assignment]

    recipe = Recipe("counting", CountingData(), training=Training(label_smoothing=0.1))
    recipe.model.id = "point-counter"
    with pytest.raises(UserError, match=r"^training\.label_smoothing: point-counter has a loss of its own") as caught:
        make_objective(recipe, Counting(CountingData()), Own())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("consistency", [0.0, 0.5])
def test_smoothing_of_the_recipe_reaches_every_objective(opened, consistency: float) -> None:
    task = Comparison(ComparisonData(pictures=16, image_size=64, train=12, validation=3, test=3, wording="short"))
    training = Training(label_smoothing=0.25, consistency=consistency)
    made = [make_objective(Recipe("comparison", task.data, training=training, objective="label"), task, opened[0])]
    if not consistency:
        made.append(make_objective(Recipe("comparison", task.data, training=training), task, opened[0]))
    assert [m.smoothing for m in made] == [0.25] * len(made)
