"""The tower's dense stage goes on after a kill as if nothing had been, and learns."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "pretrain_builtin"))

import dense
import stage

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


def test_columns_and_rows_can_be_read_linearly_from_the_positions() -> None:
    grid = dense.waves(18, 128).double()
    place = torch.arange(18).double()
    assert torch.equal(dense.build_tower().embeddings.position_embedding.weight, dense.waves(18, 128))
    for truth in (place.repeat(18), place.repeat_interleave(18)):
        read = torch.linalg.lstsq(grid, truth[:, None], driver="gelsd").solution
        assert ((grid @ read)[:, 0] - truth).abs().max() < 0.1


def test_positions_are_stretched_to_a_larger_grid() -> None:
    name = "embeddings.position_embedding.weight"
    old = {name: torch.arange(144.0)[:, None].expand(144, 4)}
    grown = dense.fitted(old, 18)[name].view(18, 18, 4)
    # Corners keep their values. The middle of the fourth of 18 columns lies at 3.5 / 18, which is 1.83 of 12 columns' middles.
    assert grown[0, 0, 0].item() == 0 and grown[17, 17, 0].item() == pytest.approx(143)
    assert grown[0, 3, 0].item() == pytest.approx(2 - 1 / 6, abs=1e-4)
