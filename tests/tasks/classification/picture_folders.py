"""Folders of pictures for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def write_picture(path: Path, value: int = 0) -> Path:
    """A small PNG of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (value % 256, 0, 0)).save(path)
    return path


def write_folders(root: Path, counts: Mapping[str, int]) -> Path:
    """``counts`` says how many pictures each folder below ``root`` gets, e.g. {"train/cat": 3}; 0 leaves it empty."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            write_picture(root / folder / f"{i:03d}.png", i)
    return root


def write_digits(root: Path, *, train: int, test: int) -> Path:
    """scikit-learn's 8x8 digits, four times enlarged, in the layout root/<split>/<class>/; counts are per class."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for digit in range(10):
        rows = np.flatnonzero(digits.target == digit)[: train + test]
        for i, row in enumerate(rows):
            gray = Image.fromarray((digits.images[row] * 15.9375).astype(np.uint8))
            folder = root / ("train" if i < train else "test") / str(digit)
            folder.mkdir(parents=True, exist_ok=True)
            gray.resize((32, 32), Image.Resampling.NEAREST).save(folder / f"{row:04d}.png")
    return root
