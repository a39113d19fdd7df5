from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_segmenter import batch_of, chosen, objective_of, opened, recipe_of, tiny_sam
from torch import nn
from torch.nn import functional

from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.tasks.segmentation.model import GridToTokens, PatchesToFineGrid, PatchesToGrid, SharedEncoderSegmenter
from foveal.tasks.segmentation.specialist import Segmenter
from foveal.tasks.segmentation.square import Square
from foveal.training.rows import make_row
from foveal.vlm.components import component_modules, component_of
from foveal.vlm.encoding import append_answers

Open = Callable[..., Segmenter]
#: A template-less family whose prompts are read in both directions; tables apart; shuffled patches; scaled tables.
CASES = [(f, v) for f in ("paligemma", "smolvlm", "idefics3", "gemma3") for v in ("vlm", "sam", "separate")]
CASES += [("qwen2_vl", "sam"), ("internvl", "vlm"), ("builtin", "vlm"), ("builtin", "sam")]


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam")
    tiny_sam().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def segmenter(tiny: Callable[[str], Path], sam: Path, tmp_path_factory: pytest.TempPathFactory) -> Open:
    """A segmenter of a family, built once for the same words; its weights must stay as they are."""
    folder = tmp_path_factory.mktemp("segmenter")

    @functools.cache
    def get(family: str, vision: str, *words: str) -> Segmenter:
        source = "builtin" if family == "builtin" else tiny(family)
        more = ("--data.train", 40, "--data.instances", "true", "--data.scenes.empty_share", 0.3, *words)
        loaded = opened(recipe_of(folder, source, "--model.vision", vision, "--model.sam", sam, *more), training=True)
        loaded.model.eval()
        return loaded

    return get


def shares(batch: dict[str, Any], name: str) -> np.ndarray:
    return batch[name].numpy().astype(np.float64) / 255


def mask_losses(logits: np.ndarray, target: np.ndarray, weight: np.ndarray, iou: float) -> tuple[float, float, float]:
    """BCE, Dice and IoU-head loss of one mask, pixel after pixel."""
    bce = inter = both = 0.0
    seen = meant = hit = 0.0
    for x, t, w in zip(logits.ravel(), target.ravel(), weight.ravel(), strict=True):
        p = 1 / (1 + math.exp(-x))
        bce -= w * (t * math.log(p) + (1 - t) * math.log(1 - p))
        inter, both = inter + w * p * t, both + w * (p + t)
        seen, meant, hit = seen + w * (x > 0), meant + w * (t > 0.5), hit + w * (x > 0 and t > 0.5)
    union = seen + meant - hit
    dice = 1 - (2 * inter / 1000 + 1e-6) / (both / 1000 + 1e-6)
    return bce / weight.sum(), dice, (iou - (hit / union if union else 1)) ** 2


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize(("family", "vision"), [("paligemma", "vlm"), ("internvl", "sam"), ("idefics3", "separate")])
@torch.no_grad()
def test_the_losses_are_means_of_each_row_added_up(segmenter: Open, family: str, vision: str) -> None:
    own = segmenter(family, vision)
    batch = batch_of(own, chosen(own, (1, 0, 2)))
    out = own.model(**batch)
    assert out.rows.tolist() == [0, 2, 2] and batch["amounts"].tolist() == [1, 0, 2]
    labels = batch["labels"]
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "targets", "counted", "amounts", "sam_pixels")}
    arguments, _ = own.model.vlm_inputs(inputs, batch.get("sam_pixels"))
    chances = own.model.vlm(**arguments, use_cache=False).logits.double().log_softmax(-1)
    wanted = dict.fromkeys(("text", "bce", "dice", "iou"), 0.0)
    for i in range(3):
        losses = [-chances[i, k - 1, labels[i, k]].item() for k in range(1, labels.shape[1]) if labels[i, k] >= 0]
        wanted["text"] += sum(losses) / len(losses) / 3
        masks = [m for m in range(3) if out.rows[m] == i]
        for k, m in enumerate(masks):
            drawn = functional.interpolate(out.masks[m][None, None].double(), size=(32, 32), mode="bilinear")[0, 0]
            target, weight = shares(batch, "targets")[i, k], shares(batch, "counted")[i]
            three = mask_losses(drawn.numpy(), target, weight, out.ious[m].item())
            for name, value in zip(("bce", "dice", "iou"), three, strict=True):
                wanted[name] += value / len(masks) / 3
    assert {k: v.item() for k, v in out.losses.items()} == pytest.approx(wanted, rel=1e-4)
    total = wanted["text"] + 2 * wanted["bce"] + 0.5 * wanted["dice"] + 0.1 * wanted["iou"]
    assert out.loss.item() == pytest.approx(total, rel=1e-4)
    assert min(wanted.values()) > 1e-5


@pytest.mark.parametrize(("family", "vision"), CASES)
@torch.no_grad()
def test_a_batch_is_its_rows_one_by_one(segmenter: Open, family: str, vision: str) -> None:
    own = segmenter(family, vision)
    examples = chosen(own, (2, 0, 1, 1))
    whole = own.model(**batch_of(own, examples), normaliser=7.0)
    parts = [own.model(**batch_of(own, [e]), normaliser=7.0) for e in examples]
    assert [len(p.masks) for p in parts] == [2, 0, 1, 1]
    for name, value in whole.losses.items():
        assert sum(p.losses[name].item() for p in parts) == pytest.approx(value.item(), abs=1e-5), name
    assert sum(p.loss.item() for p in parts) == pytest.approx(whole.loss.item(), abs=1e-4)
    alone = torch.cat([p.masks for p in parts])
    assert torch.allclose(whole.masks, alone, atol=1e-4) and alone.std() > 1e-3


@torch.no_grad()
def test_without_a_normaliser_the_loss_is_the_mean_of_the_rows(segmenter: Open) -> None:
    own = segmenter("paligemma", "vlm")
    batch = batch_of(own, chosen(own, (2, 1)))
    assert own.model(**batch).loss.item() == pytest.approx(own.model(**batch, normaliser=2).loss.item(), rel=1e-6)


# ---------------------------------------------------------------- several sentences about a picture


@torch.no_grad()
@pytest.mark.parametrize(("family", "vision"), [("builtin", "vlm"), ("idefics3", "separate")])
def test_a_row_of_several_sentences_has_the_mask_of_each_and_looks_once(
    segmenter: Open, family: str, vision: str
) -> None:
    own = segmenter(family, vision, "--data.phrases", "3", "--data.instances", "false")
    examples = own.task.load("train").examples[:8]
    rows = [make_row(own.task, e, False, "1") for e in examples]
    amounts = [len(own.task.learned(r.example, r.prompt)) for r in rows]
    row, example = next((r, e) for r, e, n in zip(rows, examples, amounts, strict=True) if n == 3)
    looks: list[int] = []
    tower = own.vlm.base.get_submodule(component_modules(own.vlm.base, "vision")[0])
    handle = tower.register_forward_hook(lambda *_: looks.append(1))
    batch = objective_of(own).collate([row])
    out = own.model(**batch)
    handle.remove()
    assert looks == [1] and out.rows.tolist() == [0, 0, 0] and batch["amounts"].tolist() == [3]
    for k, one in enumerate((example, *example.more)):
        share, _ = Square((64, 64)).mask_to_target(one.truth.target.whole(), 32)
        assert np.abs(shares(batch, "targets")[0, k] - share).max() < 0.003
    # The first question is the one that is asked alone: the same tokens, and the same mask.
    alone = batch_of(own, [example])
    length = alone["input_ids"].shape[1]
    assert torch.equal(batch["input_ids"][:, :length], alone["input_ids"])
    assert torch.equal(batch["labels"][:, :length], alone["labels"])
    assert torch.allclose(out.masks[:1], own.model(**alone).masks, atol=1e-4) and out.masks.std() > 1e-3
    shown = objective_of(own).preview([row])
    assert shown.partition("masks: ")[2].count(" of the picture") == 3 and shown.count("[[<SEG>]]") == 3


# ---------------------------------------------------------------- learning and answering see the same


def only_token(own: Segmenter) -> Any:
    """Makes the model write nothing but the token."""

    def hook(_: nn.Module, __: Any, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[..., own.model.config.token] = 1e4
        return out

    return own.vlm.base.get_output_embeddings().register_forward_hook(hook)


@pytest.mark.parametrize(("family", "vision"), CASES)
@torch.no_grad()
def test_masks_of_a_written_reply_are_those_of_the_same_answer(segmenter: Open, family: str, vision: str) -> None:
    own = segmenter(family, vision)
    examples = [*chosen(own, (1, 2)), *chosen(own, (0,))]
    inputs, pixels, _ = own.inputs(examples)
    token = own.model.config.token
    handle = only_token(own)
    try:
        ids, written = own.model.generate(inputs, pixels, max_new_tokens=3, end_ids=[own.encoder.end_id], pad_id=0)
    finally:
        handle.remove()
    assert ids.tolist() == [[token] * 3] * 3 and written.rows.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    # The same as a learned answer: padded on the other side, all tokens at once, and the end behind them.
    prompts, _ = own.pictures.padded([own.task.prompt(e) for e in examples])
    batch = own.encoder.encode(prompts, side="right")
    batch = append_answers(batch, [[token] * 3 + [own.encoder.end_id]] * 3, own.vlm.family, 0)
    learned = own.model(**batch, sam_pixels=pixels)
    assert learned.loss is None and torch.equal(learned.rows, written.rows)
    assert torch.allclose(learned.masks, written.masks, atol=1e-4)
    assert torch.allclose(learned.ious, written.ious, atol=1e-4)
    assert written.masks.std() > 1e-3


@torch.no_grad()
def test_a_reply_without_the_token_has_no_mask(segmenter: Open) -> None:
    own = segmenter("llava", "vlm")
    inputs, pixels, _ = own.inputs(chosen(own, (1, 0)))
    ids, out = own.model.generate(inputs, pixels, max_new_tokens=2, end_ids=[own.encoder.end_id], pad_id=0)
    assert not (ids == own.model.config.token).any()
    assert out.masks.shape == (0, 16, 16) and out.ious.shape == out.rows.shape == (0,)


# ---------------------------------------------------------------- one look


@pytest.mark.parametrize("vision", ["vlm", "sam", "separate"])
@pytest.mark.parametrize("family", ["paligemma", "idefics3"])
@torch.no_grad()
def test_every_encoder_that_is_needed_runs_once(segmenter: Open, family: str, vision: str) -> None:
    own = segmenter(family, vision)
    base, runs = own.vlm.base, {"tower": 0, "sam": 0}

    def counting(name: str) -> Any:
        def hook(*_: Any) -> None:
            runs[name] += 1

        return hook

    towers = component_modules(base, "vision")
    handles = [base.get_submodule(n).register_forward_hook(counting("tower")) for n in towers]
    if own.model.sam.vision_encoder is not None:
        handles.append(own.model.sam.vision_encoder.register_forward_hook(counting("sam")))
    batch = batch_of(own, chosen(own, (2, 1)))
    once = {"tower": int(vision != "sam"), "sam": int(vision != "vlm")}
    try:
        own.model(**batch)
        assert runs == once
        handles.append(only_token(own))
        inputs, pixels, _ = own.inputs(chosen(own, (1, 2)))
        own.model.generate(inputs, pixels, max_new_tokens=3, end_ids=[own.encoder.end_id], pad_id=0)
        assert runs == {k: 2 * v for k, v in once.items()}
    finally:
        for handle in handles:
            handle.remove()
    gone = [n for n, m in base.named_modules() if isinstance(m, nn.Identity)]
    assert (len(towers) == 0) == (vision == "sam") and (own.model.sam.vision_encoder is None) == (vision == "vlm")
    if vision == "sam":
        assert len([n for n in gone if "vision" in n or "connector" in n or "projector" in n]) == 2
        assert not any("vision" in n or "projector" in n for n, _ in own.model.vlm.named_parameters())


@pytest.mark.parametrize("family", ["paligemma", "llava", "idefics3", "gemma3", "internvl", "builtin"])
@torch.no_grad()
def test_patches_lie_where_the_picture_is(segmenter: Open, family: str) -> None:
    own = segmenter(family, "vlm")
    # Without attention no patch hears of another, so a spot moves the patches that it covers and no others.
    mixing = [
        p for n, p in own.vlm.base.named_parameters()
        if component_of(n) == "vision" and re.search(r"attn|attention", n) and re.search(r"out_proj|o_proj|projection_layer", n)
    ]  # fmt: skip
    assert mixing
    kept = [p.clone() for p in mixing]

    def patches(spot: tuple[int, int] | None) -> torch.Tensor:
        # A wide picture: its spots are quarters of the square's sides.
        pixels = np.random.default_rng(0).integers(0, 160, (200, 400, 3), dtype=np.uint8)
        if spot is not None:
            pixels[spot[1] * 100 : spot[1] * 100 + 100, spot[0] * 100 : spot[0] * 100 + 100] = 255
        prompts, _ = own.pictures.padded([Prompt((Image.fromarray(pixels),), "?")])
        with own.model.record() as recorded:
            own.vlm.base(**own.encoder.encode(prompts, side="left"))
        return recorded.patches[0][0]

    try:
        for p in mixing:
            p.zero_()
        blank = patches(None)
        side = math.isqrt(len(blank))
        assert side**2 == len(blank)
        for spot in [(x, y) for y in range(2) for x in range(4)]:
            change = (patches(spot) - blank).norm(dim=-1)
            y, x = divmod(int(change.argmax()), side)
            assert (x * 4 // side, y * 4 // side) == spot if side >= 4 else (x, y) == tuple(v * side // 4 for v in spot)
    finally:
        for p, old in zip(mixing, kept, strict=True):
            p.copy_(old)


@torch.no_grad()
def test_patches_come_to_the_same_place_of_the_grid() -> None:
    torch.manual_seed(0)
    for n, grid in ((4, 16), (16, 16), (12, 64), (64, 16)):
        module = PatchesToGrid(8, 4, grid)
        flat = torch.zeros(1, n * n, 8)
        for row, column in ((0, 0), (n - 1, 1), (n // 2, n - 1)):
            spot = flat.clone()
            spot[0, row * n + column] = 20
            change = (module(spot) - module(flat)).square().sum((0, 1)).view(-1)
            y, x = divmod(int(change.argmax()), grid)
            assert abs((x + 0.5) / grid - (column + 0.5) / n) < 0.5 / n + 1.6 / grid
            assert abs((y + 0.5) / grid - (row + 0.5) / n) < 0.5 / n + 1.6 / grid


@torch.no_grad()
def test_a_patch_comes_to_its_four_places_of_the_fine_grid_and_leaves_the_rest_alone() -> None:
    torch.manual_seed(0)
    module = PatchesToFineGrid(8, 4)
    flat = torch.randn(1, 144, 8)
    before = module(flat)
    assert before.shape == (1, 4, 24, 24)
    # The norm is over a place's channels: each has mean 0 and variance 1, whatever the others hold.
    assert before.mean(1).abs().max() < 1e-5 and (before.var(1, unbiased=False) - 1).abs().max() < 1e-2
    for row, column in ((0, 0), (11, 3), (5, 7)):
        spot = flat.clone()
        spot[0, row * 12 + column] += 20
        changed = (module(spot) - before).abs().amax((0, 1)) > 1e-6
        expected = torch.zeros(24, 24, dtype=torch.bool)
        # Smoothing reaches one place further.
        expected[max(0, 2 * row - 1) : 2 * row + 3, max(0, 2 * column - 1) : 2 * column + 3] = True
        assert torch.equal(changed, expected)


@torch.no_grad()
def test_a_fine_decoder_draws_from_twice_the_patches_and_opens_from_its_folder(tmp_path: Path) -> None:
    words = ("--model.sam", "fine", "--model.resolution", "84")
    own = opened(recipe_of(tmp_path, "builtin", *words), training=True)
    own.model.eval()
    batch = batch_of(own, chosen(own, (1,)))
    out = own.model(**batch)
    assert own.model.sam.grid == 12 and out.masks.shape == (1, 48, 48)
    own.model.save_pretrained(tmp_path / "saved")
    again = SharedEncoderSegmenter.from_pretrained(tmp_path / "saved")
    assert isinstance(again.to_grid, PatchesToFineGrid)
    assert torch.allclose(again(**batch).masks, out.masks, atol=1e-5) and out.masks.std() > 1e-3
    # A checkpoint of the other decoder is refused; the one that it belongs to opens it as before.
    small = recipe_of(tmp_path, "builtin", "--model.sam", "small", "--model.resolution", "84")
    with pytest.raises(
        UserError, match=r"does not fit this model \(to_grid\.\w+\.weight\); give the model section that"
    ):
        opened(small, weights=tmp_path / "saved")


def test_all_of_a_fine_decoder_learns(segmenter: Open) -> None:
    own = segmenter("builtin", "vlm", "--model.sam", "fine")
    _, moved = learned(own)
    names = {n for n, p in own.model.named_parameters() if p.requires_grad and n.startswith(("to_", "sam."))}
    assert names <= moved and "to_grid.spread.weight" in names


@pytest.mark.parametrize(("grid", "n"), [(16, 4), (16, 2), (16, 8), (64, 8)])
def test_a_picture_token_is_its_block_of_the_grid(grid: int, n: int) -> None:
    torch.manual_seed(0)
    module = GridToTokens(3, grid, 5)
    places = torch.randn(2, 3, grid, grid, requires_grad=True)
    tokens = module(places, n * n)
    assert tokens.shape == (2, n * n, 5)
    row, column = n // 2, n - 1
    (slope,) = torch.autograd.grad(tokens[1, row * n + column].sum(), places)
    weight = slope[1].abs().sum(0)
    assert slope[0].abs().sum() == 0
    centres = (torch.arange(grid) + 0.5) / grid
    middle = ((weight.sum(1) * centres).sum() / weight.sum(), (weight.sum(0) * centres).sum() / weight.sum())
    # Scaling mixes in neighbours, which the rim has on one side only.
    assert abs(middle[0] - (row + 0.5) / n) < 0.35 / n and abs(middle[1] - (column + 0.5) / n) < 0.35 / n
    if grid == 4 * n:
        block = torch.zeros(grid, grid, dtype=torch.bool)
        block[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = True
        assert (weight[~block] == 0).all() and (weight[block] > 0).all()


# ---------------------------------------------------------------- gradients


def learned(own: Segmenter, amounts: Sequence[int] = (1, 2)) -> tuple[set[str], set[str]]:
    """Names of the parameters that got a gradient, and of those of them where it is not zero."""
    own.model.train()
    own.model.zero_grad()
    own.model(**batch_of(own, chosen(own, amounts))).loss.backward()
    own.model.eval()
    given = {n: p.grad for n, p in own.model.named_parameters() if p.grad is not None}
    return set(given), {n for n, g in given.items() if g.abs().sum() > 0}


FROZEN = ("--model.freeze", "[vision, projector, language]")
LORA = ("--model.adapter", "lora", "--model.lora.r", "2", "--model.lora.dropout", "0")


@pytest.mark.parametrize("variant", ["plain", "frozen", "lora"])
@pytest.mark.parametrize(
    ("family", "vision"), [("paligemma", "vlm"), ("internvl", "sam"), ("internvl", "separate"), ("idefics3", "vlm")]
)
def test_gradients_reach_all_that_learns_and_nothing_else(
    segmenter: Open, family: str, vision: str, variant: str
) -> None:
    words = {"plain": (), "frozen": FROZEN, "lora": LORA}[variant]
    # Another random seed in the words would share the module; the word keeps it apart from the other tests.
    own = segmenter(family, vision, "--data.seed", "1", *words)
    if variant == "lora":
        for name, parameter in own.model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1)
    got, moved = learned(own)
    trainable = {n for n, p in own.model.named_parameters() if p.requires_grad}
    assert got <= trainable
    # Only CLIP's last layer, whose output nobody takes, and its norm behind the pooled state stay without.
    idle = {n for n in trainable - moved if "vision_tower" not in n}
    assert not idle
    vlm = {n for n in trainable if n.startswith("vlm.")}
    assert {"to_prompt.0.weight", "to_prompt.2.weight"} <= moved
    part = {"vlm": "to_grid.project.weight", "sam": "to_tokens.project.0.weight", "separate": None}[vision]
    assert part is None or part in moved
    assert any(n.startswith("sam.mask_decoder.transformer") for n in moved)
    assert not any(n.startswith(("sam.vision_encoder", "sam.positions", "sam.no_mask")) for n in trainable)
    tied = family in ("paligemma",)
    rows = {n for n in moved if n.startswith("rows.")}
    if variant == "plain":
        assert not rows and any("embed_tokens" in n for n in moved)
    else:
        assert rows == {"rows.embed_read"} if tied else rows == {"rows.embed_read", "rows.embed_write"}
        assert (vlm == set()) if variant == "frozen" else all("lora_" in n for n in vlm)
    if variant == "lora":
        assert any("lora_A" in n for n in moved) and {n for n in vlm if "lora_A" in n} <= moved
