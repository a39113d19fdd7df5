"""The tower's dense stage goes on after a kill as if nothing had been, and learns."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "pretrain_builtin"))

import dense
import stage
from foveal.config.sections import Model
from foveal.vlm import resolution
from foveal.vlm.loading import load

WORDS = ("--pictures", "48", "--batch", "8", "--seed", "3", "--out")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SAVE_SECONDS", -1.0)  # after each step
    monkeypatch.setattr(dense, "probe", lambda *_: {})


def run(monkeypatch: pytest.MonkeyPatch, folder: Path) -> bytes:
    monkeypatch.setattr(sys, "argv", ["dense.py", *WORDS, str(folder)])
    dense.main()
    return (folder / "tower.safetensors").read_bytes()


def test_killed_and_run_again_it_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(monkeypatch, tmp_path / "whole")
    original, saves = stage.save, []

    def dying(path: Path, state: dict) -> None:
        if len(saves) == 3:
            raise MemoryError("killed")
        saves.append(state["step"])
        original(path, state)

    monkeypatch.setattr(stage, "save", dying)
    with pytest.raises(MemoryError):
        run(monkeypatch, tmp_path / "killed")
    monkeypatch.setattr(stage, "save", original)
    assert saves == [1, 2, 3]
    assert run(monkeypatch, tmp_path / "killed") == whole


def test_losses_fall_on_a_batch_that_is_learned_by_heart() -> None:
    torch.manual_seed(0)
    tower, heads = dense.build_tower(), dense.Heads(128)
    batch = dense.make_batch("a", 8, 112)
    optimizer = torch.optim.AdamW([*tower.parameters(), *heads.parameters()], lr=1e-3)
    totals = []
    for _ in range(25):
        parts = dense.losses(heads, tower(dense.normalised(batch)).last_hidden_state, batch)
        total = sum(dense.WEIGHTS[n] * v for n, v in parts.items())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert set(parts) == set(dense.WEIGHTS) and totals[-1] < 0.6 * totals[0]


@pytest.mark.parametrize("size", dense.SIZES)
def test_columns_and_rows_can_be_read_linearly_from_the_positions_of_each_size(size: int) -> None:
    side = size // dense.PATCH
    table = dense.build_tower().embeddings.position_embedding
    grid = table(torch.zeros(1, side * side, dtype=torch.long))[0].detach().double()
    place = torch.arange(side).double()
    for truth in (place.repeat(side), place.repeat_interleave(side)):
        read = torch.linalg.lstsq(grid, truth[:, None], driver="gelsd").solution
        assert ((grid @ read)[:, 0] - truth).abs().max() < 0.5


def test_positions_are_stretched_as_a_recipes_resolution_does_it() -> None:
    torch.manual_seed(0)
    table = torch.nn.Embedding(64, 8)
    for side in (8, 12, 18):
        ours = dense.stretched(table.weight.detach(), side)
        torch.testing.assert_close(ours, resolution._stretched(table, side).weight.detach())


def test_a_tower_in_the_recipes_loader_sees_what_it_saw_in_training(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vlm = load(Model(resolution=168))
    tower = dense.build_tower()
    own = load(Model()).base.model.vision_model.state_dict()
    tower.load_state_dict(own)
    pixels = torch.randn(2, 3, 168, 168)
    with torch.no_grad():
        ours, theirs = tower(pixels).last_hidden_state, vlm.base.model.vision_model(pixels).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_mixture_of_figures_begins_with_the_tower_of_a_language_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(5)
    model = {f"model.vision_model.{n}": p for n, p in dense.build_tower().state_dict().items()}
    save_file(model | {"lm_head.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    heads = dense.Heads(128)
    save_file(heads.state_dict(), tmp_path / "heads.safetensors")
    monkeypatch.setattr(sys, "argv", ["dense.py", "--pictures", "0", "--mixture", "figures", "--init", str(tmp_path), "--out", str(tmp_path / "a")])  # fmt: skip
    dense.main()
    for name, p in load_file(tmp_path / "a" / "tower.safetensors").items():
        assert torch.equal(p, model[f"model.vision_model.{name}"])
    assert torch.equal(load_file(tmp_path / "a" / "heads.safetensors")["read.weight"], heads.read.weight)


def test_pictures_of_figures_come_with_maps_of_all_their_figures() -> None:
    batch = dense.make_batch("a", 24, 168, "figures")
    assert batch["pixels"].shape == (24, 3, 168, 168) and batch["bits"].shape[:2] == (24, 144)
    middle = batch["bits"][..., 0]
    assert not middle.isnan().any() and 24 < middle.sum() < 24 * 34
    known = batch["classes"][..., 0] != -100
    assert torch.equal(known, middle == 1)
    assert batch["bits"][..., dense.scenes.BITS.index("marked")].sum() > 0
