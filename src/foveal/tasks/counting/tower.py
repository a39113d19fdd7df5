"""The frozen half of a PointCounter: patch features of pictures and text features of categories.

Pictures are stretched to the tower's square, never cropped, so that a point's shares of the sides hold in both frames.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer, CLIPConfig, SiglipConfig

from foveal.config.sections import Model
from foveal.errors import UserError
from foveal.vlm.families import family_of
from foveal.vlm.finding import BUILTINS
from foveal.vlm.loading import load, pick_device

#: Largest cache of features, in bytes.
CACHE_BYTES = 2 << 30


class FrozenTower:
    """A vision tower with a text encoder, neither of which learns.

    Attributes:
        source: Where it came from.
        side: Width and height of the pictures that it sees, in pixels.
        grid: Patches along a side.
        vision_width: Width of the patch features.
        text_width: Width of the text features.
    """

    def __init__(self, source: str, recipe: Model) -> None:
        self.source, self.device = source, pick_device(recipe.device)
        self._cache: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._cached_bytes = 0
        self._texts: dict[str, torch.Tensor] = {}
        self.hits = self.misses = 0
        if source in BUILTINS or _has_tower(source):
            self._open_vlm(source, recipe)
        else:
            self._open_clip(source, recipe)

    def _open_vlm(self, source: str, recipe: Model) -> None:
        """A vision-language model's tower, with its table of token embeddings as the text encoder."""
        vlm = load(Model(id=source, device=recipe.device, resolution=recipe.resolution))
        inner: Any = vlm.base
        config = inner.config.vision_config
        self.side, self.grid = config.image_size, config.image_size // config.patch_size
        self.vision_width, self.text_width = config.hidden_size, inner.config.text_config.hidden_size
        image_processor: Any = vlm.processor.image_processor
        self._mean, self._std = image_processor.image_mean, image_processor.image_std
        name = family_of(vlm.family).tower
        assert name is not None
        tower, table, tokenizer = inner.get_submodule(name), inner.get_input_embeddings(), vlm.processor.tokenizer

        def encode_text(text: str) -> torch.Tensor:
            ids = tokenizer(f" {text}", add_special_tokens=False, return_tensors="pt")["input_ids"].to(self.device)
            mean: torch.Tensor = table(ids).mean(1)
            return mean

        self._encode_pixels: Callable[[torch.Tensor], torch.Tensor] = lambda pixels: tower(pixels).last_hidden_state
        self._encode_text = encode_text

    def _open_clip(self, source: str, recipe: Model) -> None:
        if recipe.resolution is not None:
            raise UserError(
                f"model.resolution: only the tower of a built-in model can be stretched, not {source}; leave it out."
            )
        try:
            config = AutoConfig.from_pretrained(source)
            if not isinstance(config, CLIPConfig | SiglipConfig):
                raise UserError(
                    f"data.counter.tower: {source} has no vision tower with a text encoder; use a built-in model or a CLIP model."
                )
            model: Any = AutoModel.from_pretrained(source, use_safetensors=True, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(source)
            processor = AutoImageProcessor.from_pretrained(source)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise UserError(
                f"data.counter.tower: {source!r} cannot be loaded ({str(error).strip().splitlines()[0]}); "
                "give builtin, a folder, or check the connection."
            ) from error
        model = model.to(self.device).eval().requires_grad_(False)
        vision = config.vision_config
        self.side, self.grid = vision.image_size, vision.image_size // vision.patch_size
        self.vision_width = vision.hidden_size
        self._mean, self._std = processor.image_mean, processor.image_std
        patches = self.grid**2

        def encode_pixels(pixels: torch.Tensor) -> torch.Tensor:
            # CLIP puts a class token in front of its patches, SigLIP does not.
            states: torch.Tensor = model.vision_model(pixel_values=pixels).last_hidden_state
            return states[:, -patches:]

        def encode_text(text: str) -> torch.Tensor:
            ids = tokenizer(f"a photo of {text}", return_tensors="pt", truncation=True, padding=True).to(self.device)
            features: Any = model.get_text_features(**ids)
            pooled: torch.Tensor = features if isinstance(features, torch.Tensor) else features.pooler_output
            return pooled

        self._encode_pixels, self._encode_text = encode_pixels, encode_text
        self.text_width = self.text([""]).shape[1]

    def pixels(self, picture: Image.Image) -> torch.Tensor:
        """The picture as the tower's frame has it, uint8 [3, side, side]."""
        resized = picture.convert("RGB").resize((self.side, self.side), Image.Resampling.BOX)
        return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor, keys: Sequence[int] | None = None) -> torch.Tensor:
        """Patch features [B, P, V].

        Args:
            pixels: uint8 [B, 3, side, side].
            keys: Numbers that tell the pictures apart; features of known ones are not computed again.
        """
        if keys is None:
            return self._encode(pixels).float()
        new: dict[int, int] = {}
        for i, key in enumerate(keys):
            if key not in self._cache:
                new.setdefault(key, i)
        self.misses += len(new)
        self.hits += len(keys) - len(new)
        encoded = {key: self._cache[key] for key in keys if key not in new}
        for key in encoded:
            self._cache.move_to_end(key)
        if new:
            fresh = self._encode(pixels[list(new.values())])
            encoded |= dict(zip(new, fresh, strict=True))
            for key, features in zip(new, fresh.cpu(), strict=True):
                self._store(key, features.clone())
        return torch.stack([encoded[key].to(self.device).float() for key in keys])

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features in bfloat16, as the cache holds them, computed in float32 whatever the precision of the caller.

        So cached and new features are equal, and a resumed training does not differ.
        """
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (self._mean, self._std))
        with torch.autocast(self.device.type, enabled=False):
            return self._encode_pixels((pixels.to(self.device).float() / 255 - mean) / std).to(torch.bfloat16)

    def _store(self, key: int, features: torch.Tensor) -> None:
        self._cache[key] = features
        self._cached_bytes += features.nbytes
        while self._cached_bytes > CACHE_BYTES:
            _, old = self._cache.popitem(last=False)
            self._cached_bytes -= old.nbytes

    @torch.no_grad()
    def text(self, categories: Sequence[str]) -> torch.Tensor:
        """Text features [B, T] of categories."""
        with torch.autocast(self.device.type, enabled=False):
            for name in sorted(set(categories) - set(self._texts)):
                self._texts[name] = self._encode_text(name)[0].float()
        return torch.stack([self._texts[name] for name in categories])


def _has_tower(source: str) -> bool:
    """Whether a folder holds a vision-language model whose tower can be used alone."""
    file = Path(source).expanduser() / "config.json"
    if not file.is_file():
        return False
    try:
        return family_of(json.loads(file.read_text(encoding="utf-8")).get("model_type")).tower is not None
    except (ValueError, AttributeError):
        return False
