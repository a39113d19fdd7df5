from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from families import open_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from safetensors.torch import load_file

from foveal.config.checking import check
from foveal.config.reading import read_recipe
from foveal.config.sections import Recipe, Training
from foveal.errors import UserError
from foveal.tasks.comparison.task import Comparison, ComparisonData
from foveal.tasks.registry import find_task
from foveal.training.objectives import LabelObjective, NamedLosses, make_objective, symmetric_divergence
from foveal.training.rows import Row, make_row
from foveal.training.train import train

TASK = Comparison(ComparisonData(pictures=16, image_size=64, train=12, validation=3, test=3, wording="short"))
LINES = find_task("blindtest/lines")(find_task("blindtest/lines").Data())
ANSWERS = ("First", "Second", "Similar")
#: Where each answer goes when the pictures change places.
TURN = [1, 0, 2]
scores = st.lists(st.lists(st.floats(-20, 20), min_size=3, max_size=3), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    examples = TASK.load("train").examples
    return [make_row(TASK, examples[i], True) for i in range(4)]


@pytest.fixture(scope="module")
def opened(tiny: Callable[[str], Path]) -> tuple[Any, Any]:
    vlm, encoder = open_tiny(tiny("idefics3"), training=True)
    vlm.model.eval()
    return vlm, encoder


def objective(opened: tuple[Any, Any], weight: float = 2.0, ramp: float = 0.0) -> LabelObjective:
    vlm, encoder = opened
    return LabelObjective(encoder, ANSWERS, vlm.family, mirrored=TASK.mirrored, weight=weight, ramp=ramp)


# ------------------------------------------------------------------------------------------------- the divergence


def test_symmetric_divergence_of_two_distributions_by_hand() -> None:
    p, q = (0.7, 0.2, 0.1), (0.5, 0.25, 0.25)
    there = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    back = sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
    one, two = (torch.tensor([[math.log(x) for x in d]]) for d in (p, q))
    found = symmetric_divergence(one, two)
    assert found.shape == (1,)
    assert found.item() == pytest.approx((there + back) / 2, rel=1e-5)
    # Scores are known but for a constant.
    assert symmetric_divergence(one + 3, two - 5).item() == pytest.approx(found.item(), rel=1e-5)


@given(scores)
@settings(deadline=None, max_examples=50)
def test_divergence_is_symmetric_never_negative_and_zero_for_mirrored_scores(values: list[list[float]]) -> None:
    one = torch.tensor(values, dtype=torch.float64)
    two = one.flip(0)
    assert torch.allclose(symmetric_divergence(one, two), symmetric_divergence(two, one))
    assert (symmetric_divergence(one, two) >= 0).all()
    mirrored = one[:, TURN]
    assert symmetric_divergence(one, mirrored[:, TURN]).abs().max() == 0


# ------------------------------------------------------------------------------------------------- the loss


def fixed(monkeypatch: pytest.MonkeyPatch, table: torch.Tensor) -> None:
    monkeypatch.setattr("foveal.training.objectives.label_scores", lambda *_, **__: table)


def test_total_is_cross_entropy_plus_weight_times_ramp_times_divergence(opened, monkeypatch) -> None:
    table = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.5], [1.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    choice = torch.tensor([0, 2, 1, 2])
    fixed(monkeypatch, table)
    entropy = -sum(table.log_softmax(-1)[i, c].item() for i, c in enumerate(choice)) / 4
    # Two pairs: rows 0 and 2, rows 1 and 3, the latter two with First and Second exchanged.
    divergence = symmetric_divergence(table[:2], table[2:][:, TURN]).mean().item()
    assert divergence > 0.05
    # The ramp at its beginning, at a half, at its end and beyond.
    for done, share in ((0.0, 0.0), (0.2, 0.5), (0.4, 1.0), (1.0, 1.0)):
        loss = objective(opened, weight=0.8, ramp=0.4)
        loss.at(done)
        found = loss.loss(opened[0].model, {"choice": choice}, None)
        assert isinstance(found, NamedLosses)
        assert found.total.item() == pytest.approx(entropy + 0.8 * share * divergence, rel=1e-5)
        assert found.parts["ce"].item() == pytest.approx(entropy, rel=1e-5)
        assert found.parts["consistency"].item() == pytest.approx(divergence, rel=1e-5), "unweighted"
    # Without a ramp the weight is whole from the first step; a validation sums rows and divides afterwards.
    loss = objective(opened, weight=0.8, ramp=0.0)
    loss.at(0.0)
    whole = loss.loss(opened[0].model, {"choice": choice}, 1.0)
    assert whole.total.item() / 4 == pytest.approx(entropy + 0.8 * divergence, rel=1e-5)


def test_mirrored_scores_cost_nothing(opened, monkeypatch) -> None:
    table = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.5]])
    fixed(monkeypatch, torch.cat([table, table[:, TURN]]))
    found = objective(opened).loss(opened[0].model, {"choice": torch.tensor([0, 1, 1, 0])}, None)
    assert found.parts["consistency"].item() == 0 and found.total.item() == pytest.approx(found.parts["ce"].item())
    fixed(monkeypatch, torch.cat([table, table]))
    found = objective(opened).loss(opened[0].model, {"choice": torch.tensor([0, 1, 1, 0])}, None)
    assert found.parts["consistency"].item() > 0.1, "a model that does not see the order is not consistent"


def test_a_batch_has_each_row_and_its_mirror(opened, rows: Sequence[Row]) -> None:
    loss = objective(opened)
    batch = loss.collate(rows)
    truths = [r.prompt.answer for r in rows]
    half = len(rows)
    assert [ANSWERS[i] for i in batch["choice"]] == [*truths, *(TASK.mirrored[t] for t in truths)]
    assert loss.count(batch).item() == 2 * half == len(batch["input_ids"])
    pixels = batch["pixel_values"].reshape(2 * half, 2, -1)
    assert torch.equal(pixels[:half], pixels[half:].flip(1)), "the same pictures in the other order"


def test_the_gradient_of_the_divergence_alone_reaches_both_orders(opened, monkeypatch, rows) -> None:
    table = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.5]], requires_grad=True)
    fixed(monkeypatch, table)
    found = objective(opened, weight=1.0).loss(opened[0].model, {"choice": torch.tensor([0, 1])}, None)
    entropy = torch.nn.functional.cross_entropy(table, torch.tensor([0, 1]))
    (gradient,) = torch.autograd.grad(found.total - entropy, table)
    assert (gradient.abs() > 1e-3).any(1).all()
    # By finite differences.
    step = 1e-3
    for i, k in ((0, 0), (1, 1), (1, 2)):
        values = []
        for sign in (1, -1):
            moved = table.detach().clone()
            moved[i, k] += sign * step
            values.append(symmetric_divergence(moved[:1], moved[1:][:, TURN]).item())
        assert gradient[i, k].item() == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-3)


def test_four_batches_of_one_sum_to_a_batch_of_four(opened, rows: Sequence[Row]) -> None:
    vlm, _ = opened
    loss = objective(opened)
    count = loss.count(loss.collate(rows))

    def gradients(groups: Sequence[Sequence[Row]]) -> tuple[float, float, dict[str, torch.Tensor]]:
        vlm.model.zero_grad()
        total = consistency = 0.0
        for group in groups:
            found = loss.loss(vlm.model, loss.collate(group), count)
            found.total.backward()
            total, consistency = total + found.total.item(), consistency + found.parts["consistency"].item()
        return total, consistency, {n: p.grad.clone() for n, p in vlm.model.named_parameters() if p.grad is not None}

    whole, parts = gradients([rows]), gradients([[r] for r in rows])
    assert whole[0] == pytest.approx(parts[0], abs=1e-5) and whole[1] == pytest.approx(parts[1], abs=1e-5)
    assert whole[1] > 0
    assert whole[2].keys() == parts[2].keys()
    for name, gradient in whole[2].items():
        assert torch.allclose(gradient, parts[2][name], atol=2e-5), name
    vlm.model.zero_grad()


# ------------------------------------------------------------------------------------------------- the recipe

RECIPE = """\
task: comparison
data: {{pictures: 16, image_size: 64, train: 8, validation: 3, test: 3, wording: short}}
model: {{id: {model}, device: cpu}}
training: {{max_steps: 2, batch_size: 4, learning_rate: 1e-3, precision: float32, consistency: 0.5, consistency_ramp: 0.5}}
evaluation: {{batch_size: 8, shown: 2}}
objective: label
"""


def test_training_writes_both_parts_and_accumulates_alike(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE.format(model=tiny("idefics3")))
    weights = []
    for batch, accumulate in ((4, 1), (1, 4)):
        words = ["--output", str(tmp_path), "--name", f"b{batch}", "--training.batch_size", str(batch)]
        words += ["--training.accumulate", str(accumulate), "--training.evaluate", str(batch == 4).lower()]
        run = train(read_recipe(tmp_path / "r.yaml", words), Console(quiet=True)).run
        (row,) = run.read_metrics()
        assert row["train_total_loss"] == pytest.approx(row["train_loss"])
        # Two steps: at the first the ramp is at 0, at the second at its end.
        assert (
            row["train_ce_loss"] < row["train_total_loss"] <= row["train_ce_loss"] + 0.5 * row["train_consistency_loss"]
        )
        if batch == 4:
            assert row["val_total_loss"] == pytest.approx(
                row["val_ce_loss"] + 0.5 * row["val_consistency_loss"], rel=1e-4
            )
        weights.append(load_file(run.path / "checkpoints" / "last" / "model.safetensors"))
    for name, tensor in weights[0].items():
        assert (weights[1][name] - tensor).abs().max() < 2e-4, name


@pytest.mark.parametrize(
    ("task", "objective", "what"),
    [
        (
            TASK,
            "answer",
            "needs objective: label and a task that compares pictures, not answer with comparison; set it to 0.",
        ),
        (LINES, "label", "not label with blindtest/lines; set it to 0."),
    ],
)
def test_consistency_without_a_mirror_or_labels_is_one_sentence(opened, task, objective: str, what: str) -> None:
    recipe = Recipe(task.name, task.data, training=Training(consistency=0.5), objective=objective)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^training\.consistency: ") as caught:
        make_objective(recipe, task, opened[0])
    assert what in str(caught.value) and "\n" not in str(caught.value)


def test_consistency_of_zero_learns_one_order(opened, rows: Sequence[Row]) -> None:
    recipe = Recipe("comparison", TASK.data, objective="label")
    plain = make_objective(recipe, TASK, opened[0])
    assert plain.count(plain.collate(rows)).item() == len(rows)
    assert isinstance(plain.loss(opened[0].model, plain.collate(rows), None), torch.Tensor)


@pytest.mark.parametrize(
    ("key", "value"), [("consistency", -0.1), ("consistency_ramp", -0.1), ("consistency_ramp", 1.0)]
)
def test_a_weight_or_ramp_out_of_range_is_named(key: str, value: float) -> None:
    recipe = Recipe("comparison", TASK.data, training=Training(**{key: value}), objective="label")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"^training\.{key}: must be "):
        check(recipe)
