"""A small job for engine tests: coloured squares in folders, the tiny SmolVLM-like model, a few steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load_file

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (30, 50, 220)}


def write_squares(root: Path, rows: dict[str, int]) -> Path:
    """Folders ``root/<split>/<colour>/N.png`` of noisy coloured squares; ``rows`` per class and split."""
    rng = np.random.default_rng(0)
    for split, count in rows.items():
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                noise = rng.integers(-25, 26, (28, 28, 3))
                Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return root


def write_recipe(path: Path, data: Path, model_id: Path | str, /, **extra: str) -> Path:
    """A recipe over the squares; ``extra`` are further YAML lines by section."""
    sections = {
        "model": f"  id: {model_id}\n  device: cpu\n" + extra.get("model", ""),
        "training": "  batch_size: 4\n  learning_rate: 1e-3\n  precision: float32\n" + extra.get("training", ""),
        "evaluation": "  batch_size: 8\n  shown: 6\n" + extra.get("evaluation", ""),
    }
    text = f"task: classification\ndata:\n  source: {data}\n{extra.get('data', '')}"
    text += "".join(f"{name}:\n{lines}" for name, lines in sections.items()) + extra.get("top", "")
    path.write_text(text)
    return path


def foveal(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process of its own, on one thread."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200", **environment}
    return subprocess.run(
        [sys.executable, "-m", "foveal.cli.main", *words], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


def source_of(recipe: Path) -> str:
    """Where a recipe's data lie."""
    import yaml

    return str(yaml.safe_load(recipe.read_text())["data"]["source"])


def change(run: Path, old: str, new: str) -> None:
    text = (run / "recipe.yaml").read_text()
    assert old in text
    (run / "recipe.yaml").write_text(text.replace(old, new))


def is_whole(run: Path) -> bool:
    """Whether the run's last checkpoint can be read and nothing temporary lies about."""
    load_file(run / "checkpoints" / "last" / "model.safetensors")
    return not list(run.rglob(".*"))
