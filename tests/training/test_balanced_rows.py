from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from small import write_recipe, write_squares

from foveal.config.reading import read_recipe
from foveal.errors import UserError
from foveal.examples import Example, Loaded, Split
from foveal.prompts import Prompt
from foveal.results import Prediction
from foveal.runs import open_run
from foveal.tasks.capabilities import WeightedRows
from foveal.tasks.task import Task
from foveal.training.rows import Row, TrainingRows
from foveal.training.train import train
from foveal.training.trainer import FovealTrainer

QUIET = Console(quiet=True)


class Named(WeightedRows, Task):
    """Rows of groups; the question holds a number that is drawn, as an augmentation would be."""

    name, summary, Data = "named", "", dict

    def load(self, split: Split) -> Loaded:
        raise NotImplementedError

    def prompt(self, example: Example, rng: Any = None) -> Prompt:
        return Prompt((), f"{example.id} {rng.random() if rng else ''}", answer=str(example.truth))

    def parse(self, reply: str) -> str:
        return reply

    def measure(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
        return {}

    def weight(self, example: Example) -> float:
        return float(self.data.get(example.truth, 1.0))

    def groups(self, examples: Sequence[Example]) -> list[Any] | None:
        return None if self.data.get("natural") else [e.truth for e in examples]


def training_rows(sizes: Sequence[int], seed: int = 0, **data: Any) -> TrainingRows:
    examples = [Example(f"{g}-{i}", (), g) for g, size in enumerate(sizes) for i in range(size)]
    return TrainingRows(Named(data), examples, seed)


def epoch_of(rows: TrainingRows, epoch: int) -> list[Row]:
    rows.epoch = epoch
    return list(rows)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=7), st.integers(0, 3), st.integers(0, 5))
@settings(deadline=None, max_examples=80)
def test_groups_come_equally_often_and_so_do_the_members_of_each(sizes: list[int], seed: int, epoch: int) -> None:
    drawn = epoch_of(training_rows(sizes, seed), epoch)
    assert len(drawn) == sum(sizes)
    shares = Counter(row.example.truth for row in drawn)
    for group, size in enumerate(sizes):
        assert abs(shares[group] - sum(sizes) / len(sizes)) < 1
        used = Counter(row.example.id for row in drawn if row.example.truth == group)
        counts = [used[f"{group}-{i}"] for i in range(size)]
        assert max(counts) - min(counts) <= 1


def test_no_member_returns_before_all_others_of_its_group_over_epochs() -> None:
    rows = training_rows([90, 6, 4])
    for group, size in enumerate((90, 6, 4)):
        order = [r.example.id for e in range(6) for r in epoch_of(rows, e) if r.example.truth == group]
        assert len(order) == 200
        for start in range(0, len(order) - size, size):
            assert len(set(order[start : start + size])) == size


def test_natural_rows_are_the_examples_in_their_order() -> None:
    rows = training_rows([5, 1], natural=True)
    assert [r.example.id for r in epoch_of(rows, 3)] == ["0-0", "0-1", "0-2", "0-3", "0-4", "1-0"]


def test_rows_depend_on_seed_epoch_and_number_alone() -> None:
    one, two = training_rows([40, 3]), training_rows([40, 3])
    epoch_of(one, 0)
    epoch_of(one, 1)
    two.epoch = one.epoch = 2
    backwards = [two[i].prompt.user for i in reversed(range(43))]
    assert [r.prompt.user for r in one] == backwards[::-1]
    assert [r.prompt.user for r in epoch_of(one, 2)] != [r.prompt.user for r in epoch_of(one, 3)]
    other = epoch_of(training_rows([40, 3], seed=1), 2)
    assert [r.example.id for r in other] != [r.example.id for r in epoch_of(one, 2)]


def test_a_member_that_comes_again_is_augmented_anew() -> None:
    drawn = [r.prompt.user for r in epoch_of(training_rows([40, 2]), 0) if r.example.truth == 1]
    assert len(drawn) == 21 and len(set(drawn)) == 21


def test_a_loop_over_the_rows_ends_and_counts_from_behind() -> None:
    rows = training_rows([3, 2])
    assert len(list(rows)) == 5 and rows[-1].example.id == rows[4].example.id
    with pytest.raises(IndexError):
        rows[5]


def test_two_workers_hand_out_the_rows_that_none_does() -> None:
    rows = training_rows([30, 4, 2])
    rows.epoch = 1
    seen = []
    for workers in (0, 2):
        loader = torch.utils.data.DataLoader(rows, batch_size=4, num_workers=workers, collate_fn=list)
        seen.append([(r.example.id, r.prompt.user) for batch in loader for r in batch])
    assert seen[0] == seen[1] and len(seen[0]) == 36


def test_rows_carry_their_weights_and_nothing_weighs_0() -> None:
    rows = TrainingRows(Named({"natural": True, 0: 2.5}), [Example("a", (), 0), Example("b", (), 1)], 0)
    assert [r.weight for r in rows] == [2.5, 1.0]
    for bad in (0, -1, float("inf"), float("nan")):
        with pytest.raises(UserError, match=r"^a: the row's weight must be more than 0, not "):
            TrainingRows(Named({"natural": True, 0: bad}), [Example("a", (), 0)], 0)[0]


# ------------------------------------------------------------------------------------------------- the trainer


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_squares(tmp_path_factory.mktemp("squares"), {"train": 8, "validation": 1, "test": 1})
    for colour, kept in (("green", 3), ("blue", 1)):
        for file in sorted((root / "train" / colour).iterdir())[kept:]:
            file.unlink()
    return root


def digest(run: Path) -> str:
    return hashlib.sha256((run / "checkpoints" / "last" / "model.safetensors").read_bytes()).hexdigest()


def test_interrupted_runs_and_workers_draw_the_same_rows(tiny, unequal, tmp_path, monkeypatch) -> None:
    training = "  epochs: 2\n  save_steps: 2\n  evaluate: false\n"
    path = write_recipe(tmp_path / "r.yaml", unequal, tiny("idefics3"), training=training)
    words = ["--output", str(tmp_path), "--data.sampling", "balanced", "--training.batch_size", "2"]
    original, seen = FovealTrainer.training_step, []

    def step(self: FovealTrainer, model: Any, inputs: Any, count: Any = None) -> torch.Tensor:
        seen.append(self.state.global_step)
        if len(seen) == 9 and self.run.path.name == "broken":
            raise KeyboardInterrupt
        return original(self, model, inputs, count)

    monkeypatch.setattr(FovealTrainer, "training_step", step)
    whole = train(read_recipe(path, [*words, "--name", "whole"]), QUIET).run
    assert seen == list(range(12))
    two = train(read_recipe(path, [*words, "--name", "two", "--training.workers", "2"]), QUIET).run
    natural = train(read_recipe(path, [*words[:2], *words[4:], "--name", "natural"]), QUIET).run
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        train(read_recipe(path, [*words, "--name", "broken"]), QUIET)
    seen.clear()
    broken = open_run(tmp_path / "broken")
    train(read_recipe(broken.recipe), QUIET, resume=broken)
    assert seen == [8, 9, 10, 11], "it went on inside the second epoch"
    assert digest(broken.path) == digest(whole.path) == digest(two.path) != digest(natural.path)
