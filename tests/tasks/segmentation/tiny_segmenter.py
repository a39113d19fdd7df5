"""A tiny SAM, and segmenters around tiny VLMs, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import SamConfig, SamModel
from transformers import SamMaskDecoderConfig as DecoderConfig
from transformers import SamPromptEncoderConfig as PromptConfig
from transformers import SamVisionConfig as VisionConfig

from foveal.asking.opening import open_model
from foveal.config.reading import read_recipe
from foveal.config.sections import Recipe
from foveal.examples import Example
from foveal.tasks.registry import find_task
from foveal.tasks.segmentation.specialist import Segmenter
from foveal.training.objectives import Objective, make_objective
from foveal.training.rows import make_row

RECIPE = """\
task: segmentation
data:
  train: 12
  validation: 2
  test: 2
  wording: short
  weights: {iou: 0.1}
  scenes: {image_size: 64}
  segmenter: {mask_size: 32}
training: {epochs: 2, batch_size: 4, learning_rate: 1e-3, precision: float32, keep_epochs: 0}
evaluation: {batch_size: 2, shown: 1, max_new_tokens: 3, before: false}
"""


def tiny_sam(seed: int = 0) -> SamModel:
    """Pictures of 64 pixels, a grid of 4 x 4, masks of 16 x 16; weights large enough that all inputs show."""
    config = SamConfig(
        vision_config=VisionConfig(
            hidden_size=16, output_channels=16, num_hidden_layers=1, num_attention_heads=2, image_size=64,
            patch_size=16, window_size=2, global_attn_indexes=[0], num_pos_feats=8, mlp_dim=16,
        ).to_dict(),
        prompt_encoder_config=PromptConfig(hidden_size=16, image_size=64, patch_size=16).to_dict(),
        mask_decoder_config=DecoderConfig(
            hidden_size=16, mlp_dim=16, num_hidden_layers=2, num_attention_heads=2, iou_head_hidden_dim=16
        ).to_dict(),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SamModel(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def recipe_of(folder: Path, source: object, *words: object) -> Recipe:
    """The recipe above for a VLM; ``folder`` takes its file and its runs."""
    file = folder / "segmentation.yaml"
    file.write_text(RECIPE)
    fixed = ["--model.id", source, "--model.device", "cpu", "--output", folder / "runs"]
    if source == "builtin":
        fixed += ["--model.resolution", 56]
    return read_recipe(file, [str(w) for w in (*fixed, *words)])


def opened(recipe: Recipe, *, weights: Path | None = None, training: bool = False, seed: int | None = 0) -> Segmenter:
    """The segmenter of a recipe; whatever is drawn anew comes from ``seed``."""
    if seed is not None:
        torch.manual_seed(seed)
    segmenter = open_model(find_task("segmentation")(recipe.data), recipe, weights=weights, training=training)
    assert isinstance(segmenter, Segmenter)
    return segmenter


def chosen(segmenter: Segmenter, amounts: Sequence[int]) -> list[Example]:
    """Training examples whose answers have so many masks each."""
    picked: list[Example] = []
    examples = segmenter.task.load("train").examples
    for amount in amounts:
        picked.append(next(e for e in examples if e not in picked and len(segmenter.task.targets(e)) == amount))
    return picked


def objective_of(segmenter: Segmenter) -> Objective:
    """What the segmenter learns by."""
    return make_objective(Recipe("segmentation", segmenter.task.data), segmenter.task, segmenter)


def batch_of(segmenter: Segmenter, examples: Sequence[Example]) -> dict[str, Any]:
    """What the objective makes of examples."""
    return objective_of(segmenter).collate([make_row(segmenter.task, e, False) for e in examples])
