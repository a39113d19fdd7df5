"""Makes a start for counting and segmentation from a run of segmentation: the VLM, and beside it the mask decoder.

foveal train segmentation --model.id build/figures --model.freeze '[vision, projector, language]' --name masks ...
python scripts/pretrain_builtin/figures.py runs/masks --out src/foveal/assets/builtin-figures
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from foveal.asking.opening import open_model
from foveal.config.reading import read_recipe
from foveal.tasks.registry import open_task
from foveal.tasks.segmentation.specialist import Segmenter
from foveal.tasks.segmentation.start import save_start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    recipe = read_recipe(args.run / "recipe.yaml")
    segmenter = open_model(open_task(recipe), recipe, weights=args.run / "checkpoints" / "best")
    assert isinstance(segmenter, Segmenter)
    save_start(segmenter.model, segmenter.vlm.processor, args.out, torch.bfloat16)


if __name__ == "__main__":
    main()
