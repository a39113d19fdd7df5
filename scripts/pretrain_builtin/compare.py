"""Does the pre-training pay? Fine-tunes the built-in model and the same model from random weights by the same recipes.

    python scripts/pretrain_builtin/compare.py --out build/compare

Three jobs, none of whose pictures the pre-training saw: BlindTest lines, scikit-learn's handwritten digits, and pairs of
ring-shaped pictures in one frame ("which ring is thicker", a quality that no pre-training pair has). Prints held-out
accuracy of both starts beside chance. Nothing is claimed of the pre-training that this table does not show.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from transformers import AutoProcessor

from build import build_model
from foveal.vlm.finding import builtin_folder

TRAINING = {
    "lines": ["--training.epochs", "1"],
    "digits": ["--training.epochs", "5", "--training.muon_learning_rate", "0.01"],
    "pairs": ["--training.epochs", "1"],
}


def digits(folder: Path) -> Path:
    """scikit-learn's 1,797 digits as picture folders: 1,348 to train on and 449 held out, by index."""
    from sklearn.datasets import load_digits

    data = load_digits()
    for i, (pixels, label) in enumerate(zip(data.images, data.target, strict=True)):
        split = "test" if i % 4 == 3 else "train"
        target = folder / split / str(label)
        target.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.clip(pixels * 16, 0, 255).astype(np.uint8))
        image.resize((112, 112), Image.Resampling.BICUBIC).save(target / f"{i}.png")
    return folder


def rings(folder: Path, train: int = 6000, test: int = 999, seed: int = 5) -> Path:
    """Two rings side by side; the class tells which is thicker (relative to its radius), or that they are alike."""
    rng = random.Random(seed)
    names = ("First", "Second", "Similar")
    for split, count in (("train", train), ("test", test)):
        for i in range(count):
            answer = names[i % 3]
            a = rng.uniform(0.1, 0.9)
            b = a
            while answer != "Similar" and (abs(a - b) < 0.15 or (answer == "First") != (a > b)):
                a, b = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9)
            image = Image.new("RGB", (224, 224), "white")
            draw = ImageDraw.Draw(image)
            for k, share in enumerate((a, b)):
                r = rng.uniform(26, 48)
                x, y = 56 + 112 * k + rng.uniform(-5, 5), 112 + rng.uniform(-40, 40)
                ink = rng.choice(("red", "blue", "green", "black", "purple"))
                draw.ellipse((x - r, y - r, x + r, y + r), outline=ink, width=max(1, round(r * share)))
            target = folder / split / answer
            target.mkdir(parents=True, exist_ok=True)
            image.resize((112, 112), Image.Resampling.LANCZOS).save(target / f"{i}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--lines", type=int, default=6400, help="training pictures of the lines job")
    args = parser.parse_args()
    args.out.mkdir(parents=True)

    torch.manual_seed(0)
    processor = AutoProcessor.from_pretrained(builtin_folder())
    scratch = args.out / "scratch-model"
    build_model(processor.tokenizer).save_pretrained(scratch)
    processor.save_pretrained(scratch)
    jobs = {
        "lines": ["quickstart", "--data.train", str(args.lines), "--data.test", "1500"],
        "digits": ["classification-folder", "--data.source", str(digits(args.out / "digits"))],
        "pairs": ["classification-folder", "--data.source", str(rings(args.out / "rings"))],
    }
    table = []
    for job, words in jobs.items():
        for start, model in (("pre-trained", "builtin"), ("scratch", str(scratch))):
            for seed in args.seeds:
                name = f"{job}-{start}-{seed}"
                command = [
                    sys.executable,
                    "-m",
                    "foveal.cli.main",
                    "train",
                    *words,
                    *TRAINING[job],
                    "--model.id",
                    model,
                ]
                command += [
                    "--seed",
                    str(seed),
                    "--output",
                    str(args.out),
                    "--name",
                    name,
                    "--evaluation.before",
                    "false",
                ]
                with (args.out / f"{name}.log").open("w") as log:
                    subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
                found = json.loads((args.out / name / "evaluation/test/results.json").read_text())
                row = (job, start, seed, found["metrics"]["accuracy"], found["chance"], found["rows"])
                table.append(row)
                print(
                    f"{job:<8}{start:<13}seed {seed}  accuracy {row[3]:.4f}  chance {row[4]:.3f}  {row[5]} held out",
                    flush=True,
                )
    (args.out / "table.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
