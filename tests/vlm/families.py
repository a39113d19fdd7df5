"""What the tests of several modules need of a tiny model: loaded, with its encoder and prompts with real pixels."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from foveal.config.sections import Lora, Model
from foveal.prompts import Prompt
from foveal.vlm.encoding import Encoder
from foveal.vlm.loading import Vlm, load

#: Every family that the issue names, and two more.
FAMILIES = (
    "paligemma", "paligemma2", "llava", "mllama", "idefics3", "smolvlm", "qwen2_vl", "qwen2_5_vl", "gemma3", "qwen3_vl", "internvl",
)  # fmt: skip


def picture(seed: int, size: tuple[int, int] = (56, 56)) -> Image.Image:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def prompts(count: int, answers: tuple[str, ...] = ("two", "one cat", "a")) -> list[Prompt]:
    """Prompts of different lengths, one picture each."""
    rng = random.Random(0)
    words = ["how", "many", "red", "lines", "cross", "the", "blue", "ones", "here", "and", "there"]
    return [
        Prompt((picture(i),), " ".join(rng.choices(words, k=3 + 2 * i)) + "?", answer=answers[i % len(answers)])
        for i in range(count)
    ]


def open_tiny(folder: Path, *, training: bool = False, **model: object) -> tuple[Vlm, Encoder]:
    """A tiny model with its encoder, in float32 with eager attention."""
    recipe = Model(id=str(folder), dtype="float32", device="cpu", attention="eager", **model)  # type: ignore[arg-type]
    vlm = load(recipe, training=training)
    return vlm, Encoder(vlm.processor, family=vlm.family, context=vlm.context)


LORA = Lora(r=4, alpha=8, dropout=0.0, components=["language"])
