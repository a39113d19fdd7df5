"""Writes a model of the language stage as it ships: bfloat16, and looking at pictures of the size that its task uses.

python scripts/pretrain_builtin/publish.py build/figures --out src/foveal/assets/builtin-counting --resolution 168
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from foveal.config.sections import Model
from foveal.vlm.loading import load
from foveal.vlm.processors import save_processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of the stage")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resolution", type=int, help="side of the pictures in pixels; by default the model's own")
    args = parser.parse_args()
    vlm = load(Model(id=args.model, device="cpu", resolution=args.resolution))
    vlm.base.to(torch.bfloat16).save_pretrained(args.out)
    save_processor(vlm.processor, args.out)
    for file in args.out.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    main()
