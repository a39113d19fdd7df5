from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from clip_files import write_clip
from PIL import Image
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from foveal.config.sections import Model
from foveal.errors import UserError
from foveal.tasks.counting import tower as towers
from foveal.tasks.counting.tower import FrozenTower

CPU = Model(device="cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def small_clip(clip: Path) -> FrozenTower:
    return FrozenTower(str(clip), CPU)


@pytest.fixture(scope="module")
def builtin() -> FrozenTower:
    return FrozenTower("builtin", Model(device="cpu", resolution=56))


@pytest.fixture(params=["builtin", "small_clip"])
def tower(request: pytest.FixtureRequest) -> FrozenTower:
    frozen: FrozenTower = request.getfixturevalue(request.param)
    return frozen


def noise(number: int, side: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, 3, side, side), dtype=torch.uint8, generator=source)


def test_sizes_and_shapes(tower: FrozenTower) -> None:
    features, text = tower.encode(noise(3, tower.side)), tower.text(["red circles", "cells", "red circles"])
    assert features.shape == (3, tower.grid**2, tower.vision_width) and features.dtype == torch.float32
    assert text.shape == (3, tower.text_width) and text.dtype == torch.float32
    assert torch.equal(text[0], text[2]) and not torch.equal(text[0], text[1])
    assert not features.requires_grad and not text.requires_grad


def test_a_clip_in_hub_layout_gives_its_own_features(clip: Path, small_clip: FrozenTower) -> None:
    assert (small_clip.side, small_clip.grid, small_clip.vision_width, small_clip.text_width) == (32, 4, 40, 16)
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), CLIPTokenizer.from_pretrained(clip)
    pixels = noise(2, 32)
    pictures = [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in pixels]
    inputs = CLIPImageProcessor.from_pretrained(clip)(pictures, return_tensors="pt")
    ids = tokenizer("a photo of cells", return_tensors="pt")
    with torch.no_grad():
        states = model.vision_model(**inputs).last_hidden_state
        pooled = model.text_projection(model.text_model(**ids).pooler_output)
    # Without the class token in front; kept with 8 bits of mantissa.
    torch.testing.assert_close(small_clip.encode(pixels), states[:, 1:], rtol=2**-8, atol=1e-3)
    torch.testing.assert_close(small_clip.text(["cells"]), pooled)


def test_nothing_is_cropped_so_shares_of_the_sides_hold(tower: FrozenTower) -> None:
    width, height = 30 * tower.grid, 17 * tower.grid
    blank = Image.new("RGB", (width, height), (120, 120, 120))
    plain = tower.encode(tower.pixels(blank)[None])[0]
    for place in range(tower.grid**2):
        column, row = place % tower.grid, place // tower.grid
        dotted = blank.copy()
        x, y = (column + 0.5) / tower.grid * width, (row + 0.5) / tower.grid * height
        dotted.paste((255, 0, 0), (round(x - 9), round(y - 5), round(x + 9), round(y + 5)))
        change = (tower.encode(tower.pixels(dotted)[None])[0] - plain).norm(dim=1)
        assert int(change.argmax()) == place


def test_known_pictures_are_not_computed_again_and_their_features_stay(tower: FrozenTower, monkeypatch) -> None:
    pixels = noise(4, tower.side, seed=1)
    alone = tower.encode(pixels)
    hits, misses = tower.hits, tower.misses
    first = tower.encode(pixels[:3], [101, 102, 103])
    assert (tower.hits - hits, tower.misses - misses) == (0, 3)
    # Also beside new ones, in another order, twice in a batch, and under mixed precision.
    with torch.autocast("cpu", torch.bfloat16):
        second = tower.encode(pixels[[3, 2, 0, 3, 1]], [104, 103, 101, 104, 102])
    assert (tower.hits - hits, tower.misses - misses) == (4, 4)
    assert torch.equal(first, alone[:3]) and torch.equal(second, alone[[3, 2, 0, 3, 1]])
    monkeypatch.setattr(tower, "_encode_pixels", None)
    assert torch.equal(tower.encode(pixels, [101, 102, 103, 104]), alone)


def test_the_features_used_longest_ago_make_room(small_clip: FrozenTower, monkeypatch) -> None:
    tower = small_clip
    one = 16 * 40 * 2  # patches, width, bytes
    monkeypatch.setattr(towers, "CACHE_BYTES", 3 * one)
    monkeypatch.setattr(tower, "_cache", type(tower._cache)())
    monkeypatch.setattr(tower, "_cached_bytes", 0)
    pixels = noise(4, 32, seed=2)
    tower.encode(pixels[:3], [1, 2, 3])
    tower.encode(pixels[:1], [1])
    tower.encode(pixels[3:], [4])
    assert list(tower._cache) == [3, 1, 4] and tower._cached_bytes == 3 * one


def test_text_that_was_read_while_asking_can_be_learned_from(tower: FrozenTower) -> None:
    with torch.inference_mode():
        tower.text(["fresh words"])
        tower.encode(noise(1, tower.side, seed=3), [7])
    weight = torch.ones(tower.text_width, requires_grad=True)
    other = torch.ones(tower.vision_width, requires_grad=True)
    seen = tower.encode(noise(1, tower.side, seed=3), [7])
    ((tower.text(["fresh words"]) * weight).sum() + (seen * other).sum()).backward()
    torch.testing.assert_close(weight.grad, tower.text(["fresh words"])[0])


def test_wrong_towers_are_refused_in_a_sentence(clip: Path, tiny, tmp_path: Path) -> None:
    def refusal(source: object, model: Model = CPU) -> str:
        with pytest.raises(UserError) as error:
            FrozenTower(str(source), model)
        assert "\n" not in str(error.value)
        return str(error.value)

    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty").startswith(f"data.counter.tower: '{tmp_path}/empty' cannot be loaded (")
    assert refusal("nobody/nothing").startswith("data.counter.tower: 'nobody/nothing' cannot be loaded (")
    assert "has no vision tower with a text encoder; use a built-in model or a CLIP model." in refusal(tiny("llava"))
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "has no vision tower with a text encoder" in refusal(tmp_path / "bert")
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in clip.iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[: 900 if file.suffix == ".safetensors" else None])
    assert "cannot be loaded (" in refusal(broken)
    assert refusal(clip, Model(device="cpu", resolution=56)).startswith(
        "model.resolution: only the tower of a built-in"
    )
