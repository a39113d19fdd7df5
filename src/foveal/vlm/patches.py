"""Patches of other libraries, each with the version that makes it unnecessary.

* ``stand_in_for_video_processors``: every video processor of transformers needs torchvision, so that without it a family
  that is only ever shown pictures (SmolVLM, Qwen-VL, InternVL) cannot be loaded. Unnecessary with: none yet (5.23).
* ``do_without_num2words``: SmolVLM spells out the number of a video's frames with this package, and refuses to load
  without it. Unnecessary with: none yet (5.23).
* ``keep_weights_as_loaded``: bitsandbytes repacks weights in place. Unnecessary with: none yet (0.50).

Logs and warnings are silenced in ``foveal.quiet``.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any, NoReturn

from torch import nn
from transformers import processing_utils
from transformers.image_processing_base import ImageProcessingMixin
from transformers.utils import cached_file

from foveal.errors import UserError

#: What decides where a file of a model is looked up; the other arguments of ``from_pretrained`` are about its contents.
_WHERE = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


class VideoPart(ImageProcessingMixin):  # type: ignore[misc]
    """Stands in for a processor's video processor: holds and saves its settings, and cannot process videos."""

    model_input_names: tuple[str, ...] = ()

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings
        # SmolVLM's chat template asks for these two, also where no video is shown.
        self.num_frames = settings.get("num_frames", 64)
        self.fps = settings.get("fps", 1)

    @classmethod
    def from_pretrained(cls, path_or_id: str | os.PathLike[str], **kwargs: Any) -> VideoPart:
        """Reads the settings from where transformers looks for them, in its order of precedence."""
        where = {key: kwargs[key] for key in _WHERE if key in kwargs}
        for name in ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json"):
            file = cached_file(path_or_id, name, **where, _raise_exceptions_for_missing_entries=False)
            settings = None if file is None else json.loads(Path(file).read_text(encoding="utf-8"))
            if name == "processor_config.json":  # also holds the other parts, or none of them
                settings = (settings or {}).get("video_processor")
            if settings is not None:
                return cls(**settings)
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """The settings as they were read, which is what transformers resolves the video processor's class from."""
        return copy.deepcopy(self.settings)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuses.

        Raises:
            UserError: Always.
        """
        raise UserError("Videos cannot be processed without torchvision; install it, or show single pictures.")


def stand_in_for_video_processors() -> None:
    """Makes transformers build a ``VideoPart`` wherever it would build a video processor, from now on."""
    processing_utils._LazyAutoProcessorMapping._MAPPING_NAMES["video_processor"] = (__name__, VideoPart.__name__)
    processing_utils.MODALITY_TO_BASE_CLASS_MAPPING["video_processor"] = ImageProcessingMixin.__name__


def do_without_num2words() -> None:
    """Makes SmolVLM's processor load without the package num2words, where it is not installed."""
    from transformers.models.smolvlm import processing_smolvlm

    processing_smolvlm.num2words = processing_smolvlm.num2words or str


def keep_weights_as_loaded(model: nn.Module) -> None:
    """Keeps bitsandbytes from repacking 4-bit weights in place at the first forward pass in eval mode, which it does on
    CPUs with avx512_bf16, and after which training and merging are silently wrong."""
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
