"""The language stage goes on after a kill as if nothing had been, begins from a tower, and asks what its scenes show."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "pretrain_builtin"))

from safetensors.torch import load_file, save_file

import canvas
import dense
import dense_scenes
import figure_scenes
import scenes
import stage
import train
from foveal.tasks.counting.pointing import read_points
from foveal.vlm.finding import builtin_folder

WORDS = ("--scenes", "48", "--batch", "4", "--seed", "3", "--init", str(builtin_folder()), "--mixture", "figures")


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "tower.safetensors"
    save_file(dense.build_tower().state_dict(), path)
    return path


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> dict[str, torch.Tensor]:
    monkeypatch.setattr(sys, "argv", ["train.py", *WORDS, *more, "--out", str(folder)])
    train.main()
    return load_file(folder / "model.safetensors")


def test_killed_and_run_again_it_ends_in_the_same_weights(
    tmp_path: Path, tower: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "SAVE_SECONDS", -1.0)  # after each step
    monkeypatch.setattr(train, "scores", lambda *_: {})
    whole = run(monkeypatch, tmp_path / "whole", "--tower", str(tower))
    original, saves = stage.save, []

    def dying(path: Path, state: dict) -> None:
        if len(saves) == 4:  # between two groups of four batches, so that none is left out
            raise MemoryError("killed")
        saves.append(state["step"])
        original(path, state)

    monkeypatch.setattr(stage, "save", dying)
    with pytest.raises(MemoryError):
        run(monkeypatch, tmp_path / "killed", "--tower", str(tower))
    monkeypatch.setattr(stage, "save", original)
    assert saves == [1, 2, 3, 4]
    again = run(monkeypatch, tmp_path / "killed", "--tower", str(tower))
    assert all(torch.equal(p, whole[n]) for n, p in again.items())


def test_it_begins_with_the_given_tower_and_the_language_of_the_earlier_model(
    tmp_path: Path, tower: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *WORDS, "--tower", str(tower), "--out", str(tmp_path)])
    model, _ = train.build(train.arguments())
    state, old = model.state_dict(), load_file(builtin_folder() / "model.safetensors")
    for name, p in load_file(tower).items():
        assert torch.equal(state[f"model.vision_model.{name}"], p)
    for name, p in old.items():
        if "text_model" in name:
            assert torch.equal(state[name], p.float())
    connector = next(n for n in old if "connector" in n)
    assert not torch.equal(state[connector], old[connector].float())
    monkeypatch.setattr(sys, "argv", ["train.py", *WORDS, "--tower", str(tower), "--grown", "--out", str(tmp_path)])
    grown = train.build(train.arguments())[0].state_dict()
    assert torch.equal(grown[connector], old[connector].float())
    assert torch.equal(grown["model.vision_model.post_layernorm.weight"], load_file(tower)["post_layernorm.weight"])


def test_a_tower_that_rests_stays_as_it_is_while_the_language_learns(
    tmp_path: Path, tower: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "scores", lambda *_: {})
    rested = run(monkeypatch, tmp_path / "rested", "--tower", str(tower), "--frozen", "1")
    before = {f"model.vision_model.{n}": p.to(torch.bfloat16) for n, p in load_file(tower).items()}
    assert before and all(torch.equal(rested[n], p) for n, p in before.items())
    learned = run(monkeypatch, tmp_path / "learned", "--tower", str(tower))
    assert not all(torch.equal(learned[n], p) for n, p in before.items())
    old = load_file(builtin_folder() / "model.safetensors")
    assert any(not torch.equal(rested[n], p) for n, p in old.items() if "text_model" in n)


@pytest.mark.parametrize("view", [112, 168, 252])
def test_a_batch_has_as_many_picture_tokens_as_the_model_makes_of_its_pictures(view: int, tower: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["train.py", *WORDS, "--tower", str(tower), "--out", str(tmp_path)])
    model, processor = train.build(train.arguments())
    families = train.PLAIN | train.FIGURES
    made = [train.choose(random.Random(k), scenes.make(random.Random(k), families, view)) for k in range(6)]
    batch = train.collate(processor.tokenizer, made)
    assert batch["pixels"].shape[-2:] == (view, view)
    logits, target = train.forward(model, batch, "cpu")
    answers = [q.answer for s in made for q in s.questions]
    assert len(logits) == len(target) and target.tolist().count(processor.tokenizer.eos_token_id) == len(answers)
    text = processor.tokenizer.decode(target.tolist())
    assert text == "".join(f"{answer}<end_of_utterance>" for answer in answers)


def test_a_family_draws_the_same_scene_again_at_each_size() -> None:
    for name, (family, _) in (train.PLAIN | train.FIGURES | train.MANY_FIGURES).items():
        for view in (112, 168):
            one, two = (scenes.make(random.Random(f"{name} 5"), {name: (family, 1.0)}, view) for _ in range(2))
            assert one.questions == two.questions and one.questions
            for a, b in zip(one.images, two.images, strict=True):
                assert a.size == (view, view) and np.array_equal(np.asarray(a), np.asarray(b))


def test_lone_figures_come_first_and_crowds_later(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[set[str]] = []
    monkeypatch.setattr(
        train.scenes, "make", lambda rng, families, view: drawn.append(set(families)) or canvas.Scene([], [])
    )
    monkeypatch.setattr(train, "collate", lambda *_: {})
    monkeypatch.setattr(train, "choose", lambda _, scene: scene)
    batches = train.Batches(None, 0, 16, "all")
    for number, scene in ((0, 0), (200, 12_800), (400, 25_600), (700, 44_800)):
        drawn.clear()
        batches.group(number)
        now = set.union(*drawn) - {"pairs"}
        assert ("one" in now, "few" in now, "phrases" in now) == (scene < 10_000, scene >= 6_000, scene >= 30_000)
        assert set(train.PLAIN) & now == (set(train.PLAIN) if scene >= 24_000 else set())


def test_a_model_that_began_with_an_earlier_one_meets_all_families_that_stay_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[set[str]] = []
    monkeypatch.setattr(
        train.scenes, "make", lambda rng, families, view: drawn.append(set(families)) or canvas.Scene([], [])
    )
    monkeypatch.setattr(train, "collate", lambda *_: {})
    monkeypatch.setattr(train, "choose", lambda _, scene: scene)
    train.Batches(None, 0, 16, "all", begun=True).group(0)
    assert set.union(*drawn) - {"pairs"} == {*train.PLAIN, "points", "marked", "phrases"}


def test_heads_are_written_for_a_next_stage(tmp_path: Path, tower: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "scores", lambda *_: {})
    heads = tmp_path / "heads.safetensors"
    torch.manual_seed(4)
    save_file(train.Heads(128).state_dict(), heads)
    run(monkeypatch, tmp_path / "one", "--tower", str(tower), "--heads", str(heads), "--frozen", "1")
    before, after = load_file(heads), load_file(tmp_path / "one" / "heads.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[n], p) for n, p in after.items())
    run(monkeypatch, tmp_path / "two", "--tower", str(tower), "--heads", str(heads))
    after = load_file(tmp_path / "two" / "heads.safetensors")
    assert not all(torch.equal(before[n], p) for n, p in after.items())


def test_maps_tell_the_cells_that_the_replies_name() -> None:
    names = list(dense_scenes.CLASSES)
    compared = 0
    for seed in range(60):
        scene = scenes.make(random.Random(seed), {"points": (figure_scenes.points, 1.0)}, 168)
        here = np.flatnonzero(scene.maps.bits[:, 0] == 1)
        table = [dict(zip(names, row, strict=True)) for row in scene.maps.classes[here].tolist()]
        if len(here) < int((scene.maps.part > 0).any()):
            continue
        for q in scene.questions:
            if q.kind != "points":
                continue
            colour, shape = q.text.removeprefix("points ").split()
            cells = {
                f"{chr(97 + row['column'])},{chr(97 + row['row'])}" for row in table
                if (dense_scenes.SHAPE_NAMES[row["shape"]], dense_scenes.COLOUR_NAMES[row["colour"]]) == (shape, colour)
            }  # fmt: skip
            said = set() if q.answer == "done" else set(q.answer.split("; "))
            # Of two middles in one patch, one is in the maps.
            assert cells <= said
            compared += cells == said
    assert compared > 60


def test_a_marked_scene_knows_which_figures_are_marked() -> None:
    bit = dense_scenes.BITS.index("marked")
    for seed in range(30):
        scene = scenes.make(random.Random(seed), {"marked": (figure_scenes.marked, 1.0)}, 168)
        maps = scene.maps
        marked, centre = maps.bits[:, bit] == 1, maps.bits[:, 0] == 1
        assert not (marked & ~centre).any()
        if scene.questions[0].answer == "done" and len(scene.questions) == 1 and centre.any():
            colour, shape = scene.questions[0].text.removeprefix("next ").split()
            target = (maps.classes[:, 0] == dense_scenes.SHAPE_NAMES.index(shape)) & (
                maps.classes[:, 1] == dense_scenes.COLOUR_NAMES.index(colour)
            )
            assert (marked == target).all()


def test_dense_losses_of_a_batch_count_only_scenes_that_have_maps(tower: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["train.py", *WORDS, "--tower", str(tower), "--out", str(tmp_path)])
    model, processor = train.build(train.arguments())
    seen = train.Seen(model)
    with_maps = [scenes.make(random.Random(k), {"points": (figure_scenes.points, 1.0)}, 112) for k in range(3)]
    without = [scenes.make(random.Random(k), {"objects": (scenes.objects, 1.0)}, 112) for k in range(2)]
    assert "maps" not in train.collate(processor.tokenizer, without)
    torch.manual_seed(0)
    heads = train.Heads(128)
    found = []
    for made in (with_maps, with_maps + without):
        batch = train.collate(processor.tokenizer, made)
        train.forward(model, batch, "cpu")
        assert seen.states.shape == (len(made), 64, 128)
        found.append(dense.losses(heads, seen.states, batch["maps"]))
    for name, value in found[0].items():
        assert value.item() == pytest.approx(found[1][name].item(), rel=1e-4), name


def test_questions_about_figures_are_answered_from_their_geometry() -> None:
    import figure_scenes

    for seed in range(40):
        scene: canvas.Scene = figure_scenes.points(random.Random(seed))
        for q in scene.questions:
            if q.kind == "count":
                category = q.text.removeprefix("count ")
                reply = next(p.answer for p in scene.questions if p.text == f"points {category}")
                points = read_points(reply, (168, 168), "cells")
                assert points is not None and len(points) == int(q.answer)
        marked = figure_scenes.marked(random.Random(seed))
        assert all(
            q.answer == "done" or len(read_points(q.answer, (168, 168), "cells") or ()) == 1 for q in marked.questions
        )
