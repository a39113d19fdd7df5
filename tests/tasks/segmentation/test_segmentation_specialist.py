from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from tiny_segmenter import chosen, objective_of, opened, recipe_of, tiny_sam
from transformers import AutoModel

from foveal.config.reading import read_recipe
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.images import Picture
from foveal.runs import Run, open_run
from foveal.tasks.segmentation import rle
from foveal.tasks.segmentation.model import SegmenterOutput, SharedEncoderSegmenter
from foveal.tasks.segmentation.specialist import Segmenter
from foveal.training.train import train

QUIET = Console(quiet=True)
Tiny = Callable[[str], Path]
LORA = ("--model.adapter", "lora", "--model.lora.r", 2)
FROZEN = ("--model.freeze", "[vision, projector, language]")


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam")
    tiny_sam().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("segmenting")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """A run of two epochs. Tests must not write to it."""
    return train(recipe_of(folder, "builtin", "--name", "two-epochs"), QUIET).run


def weights(run: Run, checkpoint: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run.checkpoints / checkpoint / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def table(run: Run) -> list[dict[str, str]]:
    with (run.path / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def token_only(segmenter: Segmenter, model: SharedEncoderSegmenter) -> SegmenterOutput:
    """The masks of replies that are three tokens."""

    def hook(_: object, __: object, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[..., model.config.token] = 1e4
        return out

    handle = model._base.get_output_embeddings().register_forward_hook(hook)
    try:
        inputs, pixels, _ = segmenter.inputs(segmenter.task.load("test").examples)
        return model.generate(inputs, pixels, max_new_tokens=3, end_ids=[segmenter.encoder.end_id], pad_id=0)[1]
    finally:
        handle.remove()


def shaken(segmenter: Segmenter) -> None:
    """Moves all that learns, as a training would."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in segmenter.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))


# ---------------------------------------------------------------- checkpoints


@pytest.mark.parametrize(("family", "vision"), [("paligemma", "vlm"), ("llava", "sam"), ("idefics3", "separate")])
def test_a_whole_checkpoint_opens_from_its_folder_alone(
    tiny: Tiny, folder: Path, tmp_path: Path, family: str, vision: str
) -> None:
    one = opened(recipe_of(folder, tiny(family), "--model.vision", vision, "--model.attention", "sdpa"), training=True)
    shaken(one)
    one.model.eval().save_pretrained(tmp_path)
    wanted = token_only(one, one.model)
    torch.manual_seed(7)
    for model in (SharedEncoderSegmenter.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert isinstance(model, SharedEncoderSegmenter) and not model.training
        masks = token_only(one, model)
        assert torch.equal(masks.masks, wanted.masks) and torch.equal(masks.ious, wanted.ious)
        assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in one.model.parameters())
    assert wanted.masks.std() > 1e-3


@pytest.mark.parametrize(
    ("family", "vision", "new", "words"),
    [
        ("paligemma", "vlm", True, LORA), ("llava", "sam", True, FROZEN), ("llava", "separate", False, LORA),
        ("idefics3", "vlm", False, ()), ("paligemma", "sam", True, ("--model.freeze", "[vision]")),
        ("paligemma", "vlm", True, (*LORA, "--model.lora.also_train", "[projector]")),
    ],
)  # fmt: skip
def test_other_checkpoints_hold_what_learns_and_open_with_their_recipe(
    tiny: Tiny, folder: Path, sam: Path, tmp_path: Path, family: str, vision: str, new: bool, words: tuple[object, ...]
) -> None:
    recipe = recipe_of(folder, tiny(family), "--model.vision", vision, "--model.sam", "small" if new else sam, *words)
    one = opened(recipe, training=True)
    shaken(one)
    one.model.eval().save_pretrained(tmp_path)
    wanted = token_only(one, one.model)
    saved = load_file(tmp_path / "model.safetensors")
    trainable = {n for n, p in one.model.named_parameters() if p.requires_grad}
    # A SAM that was drawn anew is kept whole: nobody else has its positions.
    drawn = {n for n, _ in one.model.named_parameters() if n.startswith("sam.") and new}
    assert saved.keys() == trainable | drawn
    assert ("sam.positions.positional_embedding" in saved) == new
    learns = {"rows.embed_read" in saved, any("lora_A" in n for n in saved), any("embed_tokens" in n for n in saved)}
    assert learns == {False, True}
    # Another seed: whatever is not in the checkpoint must come from where it came from before.
    again = opened(recipe, weights=tmp_path, seed=8)
    assert not any(p.requires_grad for p in again.model.parameters())
    masks = token_only(again, again.model)
    # Weights that are mapped from a file may lie otherwise in memory, and sums round in another way.
    assert torch.allclose(masks.masks, wanted.masks, atol=1e-5) and torch.allclose(masks.ious, wanted.ious, atol=1e-5)
    assert wanted.masks.std() > 1e-3
    with pytest.raises(UserError, match=r"holds only the weights that were learned; open the run with foveal\.load"):
        SharedEncoderSegmenter.from_pretrained(tmp_path)


def test_a_checkpoint_of_another_model_or_of_nothing_is_refused(tiny: Tiny, folder: Path, sam: Path, run: Run) -> None:
    here = run.checkpoint("best")
    for words in (("--model.vision", "separate"), ("--model.sam", sam), ("--model.freeze", "[language]")):
        recipe = recipe_of(folder, "builtin", *words)
        if words[0] == "--model.vision" or words[0] == "--model.sam":
            with pytest.raises(UserError, match=r"does not fit this model \(.*\); give the model section that it was"):
                opened(recipe, weights=here)
    with pytest.raises(UserError, match="does not fit this model"):
        opened(recipe_of(folder, tiny("paligemma")), weights=here)
    with pytest.raises(UserError, match="is no checkpoint of a segmenter"):
        opened(recipe_of(folder, "builtin"), weights=folder)


# ---------------------------------------------------------------- training


def test_each_epoch_is_a_row_with_the_parts_of_the_loss(run: Run) -> None:
    rows = table(run)
    assert [float(r["epoch"]) for r in rows] == [1, 2]
    for row in rows:
        for split in ("train", "val"):
            text, bce, dice, iou = (float(row[f"{split}_{p}_loss"]) for p in ("text", "bce", "dice", "iou"))
            assert float(row[f"{split}_loss"]) == pytest.approx(text + 2 * bce + 0.5 * dice + 0.1 * iou, rel=1e-4)
        assert 0 <= float(row["val_giou"]) <= 1
    assert float(rows[1]["train_text_loss"]) < float(rows[0]["train_text_loss"])
    assert {"train_text_loss", "val_iou_loss"} <= rows[0].keys()
    assert "masks: " in (run.path / "label_mask.txt").read_text()


def test_a_resumed_training_ends_in_the_same_weights(run: Run) -> None:
    path = shutil.copytree(run.path, run.path.parent / "resumed", symlinks=True)
    shutil.rmtree(path / "checkpoints" / "epoch-2")
    for link in ("best", "last"):
        (path / "checkpoints" / link).unlink()
        (path / "checkpoints" / link).symlink_to("epoch-1")
    resumed = train(read_recipe(path / "recipe.yaml"), QUIET, resume=open_run(path)).run
    assert not same(weights(run, "epoch-1"), weights(run))
    assert same(weights(resumed), weights(run))
    losses = [[r[c] for c in r if c.endswith("_loss")] for r in table(run)]
    assert [[r[c] for c in r if c.endswith("_loss")] for r in table(resumed)] == losses


def test_four_batches_of_one_are_one_of_four(folder: Path, tiny: Tiny) -> None:
    def steps(batch: int) -> Run:
        words = ("--training.max_steps", 1, "--training.evaluate", "false", "--training.max_grad_norm", 0)
        words += ("--data.instances", "true", "--data.scenes.empty_share", 0.3, "--data.train", 4)
        words += (
            "--training.optimizer",
            "adafactor",
            "--training.learning_rate",
            1e-4,
            *LORA,
            "--model.lora.dropout",
            0,
        )
        size = ("--training.batch_size", batch, "--training.accumulate", 4 // batch, "--name", f"b{batch}")
        return train(recipe_of(folder, tiny("paligemma"), *words, *size), QUIET).run

    four, one = steps(4), steps(1)
    for part in ("text", "bce", "dice", "iou"):
        values = [float(table(r)[0][f"train_{part}_loss"]) for r in (one, four)]
        assert values[0] == pytest.approx(values[1], rel=1e-4), part
    for name, tensor in weights(four).items():
        assert (weights(one)[name] - tensor).abs().max() < 1e-5, name


# ---------------------------------------------------------------- answers


def test_masks_have_the_pictures_own_sizes_whatever_the_batch(tiny: Tiny, folder: Path, tmp_path: Path) -> None:
    segmenter = opened(recipe_of(folder, tiny("llava"), "--model.vision", "separate"))
    rows, sizes = [], [(300, 100), (64, 64), (90, 211)]
    draw = np.random.default_rng(0)
    for i, (width, height) in enumerate(sizes):
        Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        rows.append(
            segmenter.task.example_of(
                [Picture(str(tmp_path / f"{i}.png"), tmp_path / f"{i}.png")], "the red ones " * (i + 1)
            )
        )

    def hook(_: object, __: object, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[..., segmenter.model.config.token] = 1e4
        return out

    segmenter.vlm.base.get_output_embeddings().register_forward_hook(hook)
    segmenter.options.max_new_tokens = 2
    with torch.inference_mode():
        together = segmenter.ask(rows)
        alone = [segmenter.ask([r])[0] for r in rows]
    for row, one, other, (width, height) in zip(rows, together, alone, sizes, strict=True):
        assert one.id == row.id and one.text.count("<SEG>") == 2
        assert len(one.extra["masks"]) == 2 and rle.decode(one.value).shape == (height, width)
        assert all(rle.decode(m).shape == (height, width) for m in one.extra["masks"])
        # Rounding may turn a pixel that is right on the edge.
        assert (rle.decode(one.value) != rle.decode(other.value)).mean() < 0.001
        assert one.extra["predicted_iou"] == pytest.approx(other.extra["predicted_iou"], abs=2e-4)


def test_the_first_row_is_shown_with_the_area_of_its_mask(tiny: Tiny, folder: Path) -> None:
    from foveal.training.rows import make_row

    segmenter = opened(recipe_of(folder, tiny("paligemma")), training=True)
    (example,) = chosen(segmenter, (1,))
    shown = objective_of(segmenter).preview([make_row(segmenter.task, example, False)])
    area = (example.truth.target.whole() == 1).mean()
    assert "[[<SEG>]]" in shown and shown.endswith(f"masks: {area:.1%} of the picture")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--objective label", "objective: segmentation learns text and masks together; leave objective at answer."),
        ("--evaluation.method score", "evaluation.method: masks come with a written reply; leave it at auto."),
        ("--data.segmenter.mask_size 8", "data.segmenter.mask_size: 8 is out of range; give 16 to 2048."),
        ("--data.segmenter.mask_size 4096", "data.segmenter.mask_size: 4096 is out of range; give 16 to 2048."),
        ("--model.sam nobody/nothing", "model.sam: 'nobody/nothing' cannot be loaded ("),
    ],
)
def test_what_it_cannot_do_is_refused_in_a_sentence(folder: Path, words: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        opened(recipe_of(folder, "builtin", *words.split()), training=True)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_consistency_is_refused(folder: Path) -> None:
    recipe: Recipe = recipe_of(folder, "builtin")
    recipe.training.consistency = 0.5
    with pytest.raises(UserError, match=r"training\.consistency: segmentation has no mirrored pairs; set it to 0"):
        opened(recipe, training=True)


def test_a_model_without_turns_refuses_several_sentences_in_a_row(tiny: Tiny, folder: Path) -> None:
    with pytest.raises(UserError) as error:
        opened(recipe_of(folder, tiny("paligemma"), "--data.phrases", 2), training=True)
    assert str(error.value).startswith("data.phrases: set it to 1 for ")
    assert str(error.value).endswith(
        "(paligemma). The model has no chat template, so a row can have one question; ask one at a time."
    )


@pytest.mark.parametrize(
    ("family", "vision", "message"),
    [
        ("qwen2_vl", "vlm", "cannot lend its vision to the mask decoder, for it packs patches in an order of its own"),
        (
            "mllama",
            "vlm",
            "cannot lend its vision to the mask decoder, for it cuts a picture into 4; use sam or separate",
        ),
        ("mllama", "sam", "cannot look through SAM's encoder, for it takes no picture tokens from outside; use vlm or"),
        ("qwen3_vl", "sam", "cannot look through SAM's encoder, for "),
    ],
)
def test_families_that_cannot_share_their_encoder_say_why(
    tiny: Tiny, folder: Path, family: str, vision: str, message: str
) -> None:
    with pytest.raises(UserError) as error:
        opened(recipe_of(folder, tiny(family), "--model.vision", vision))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_tiles_are_switched_off_for_one_square(tiny: Tiny, folder: Path) -> None:
    from foveal.prompts import Prompt

    for family in ("idefics3", "internvl"):
        segmenter = opened(recipe_of(folder, tiny(family)))
        for side in (28, 100, 1000):
            batch = segmenter.encoder.encode([Prompt((Image.new("RGB", (side, side)),), "?")], side="left")
            assert batch["pixel_values"].reshape(-1, 3, 28, 28).shape[0] == 1, (family, side)
