"""Loading and saving processors, also of families that take videos on machines without torchvision.

In transformers, the processors of SmolVLM, Qwen-VL, InternVL and others own a video processor, and every video processor
needs torchvision, so that without it a family that is only ever shown pictures cannot be loaded. Here such a processor
gets a ``VideoPart`` instead: it keeps the settings of the real one and writes them back, so that what was saved loads
with all its parts wherever torchvision is installed.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from transformers.image_processing_base import ImageProcessingMixin
from transformers.utils import cached_file

from foveal.errors import UserError
from foveal.files import disk_errors

if TYPE_CHECKING:
    from transformers import ProcessorMixin

#: What decides where a file of a model is looked up; the other arguments of ``from_pretrained`` are about its contents.
_WHERE = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")

_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?")


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


def torchvision_works() -> bool:
    """Whether torchvision is installed.

    Raises:
        UserError: It is installed but cannot be imported, which makes transformers unusable too.
    """
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(
            f"torchvision is installed but does not fit the installed torch ({_first_line(error)}): "
            "remove it with `pip uninstall torchvision`, it is not needed here."
        ) from error
    return True


def stand_in_for_video_processors() -> None:
    """Makes transformers build a ``VideoPart`` wherever it would build a video processor, from now on."""
    from transformers import processing_utils

    processing_utils._LazyAutoProcessorMapping._MAPPING_NAMES["video_processor"] = (__name__, VideoPart.__name__)
    processing_utils.MODALITY_TO_BASE_CLASS_MAPPING["video_processor"] = ImageProcessingMixin.__name__


def load_processor(
    path_or_id: str | os.PathLike[str], *, revision: str | None = None, trust_remote_code: bool = False
) -> ProcessorMixin:
    """The processor of a model, with or without torchvision installed.

    Without it pictures are processed by Pillow, and the processors that transformers itself loads later in this process
    (e.g. from a checkpoint) do without videos too.

    Args:
        path_or_id: A Hub id or a folder in Hub layout.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Run Python code that comes with the model.

    Raises:
        UserError: There is no such model, it has no processor for pictures and text, it brings code that is not
            trusted, or torchvision is broken.
    """
    if not Path(path_or_id).is_dir() and not _HUB_ID.fullmatch(os.fspath(path_or_id)):
        raise UserError(f"{path_or_id}: there is no such folder; check the path.")
    if not torchvision_works():
        stand_in_for_video_processors()
    from transformers import AutoProcessor, ProcessorMixin
    from transformers.models.smolvlm import processing_smolvlm

    # SmolVLM spells out the number of a video's frames with this package, and refuses to load without it.
    processing_smolvlm.num2words = processing_smolvlm.num2words or str
    try:
        processor = AutoProcessor.from_pretrained(path_or_id, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        remedy = "check the id or the folder, and the connection if it is on the Hub"
        if "trust_remote_code" in str(error):
            remedy = "if you have read and trust that code, set model.trust_remote_code: true"
        raise UserError(f"{path_or_id}: the processor cannot be loaded ({_first_line(error)}): {remedy}.") from error
    if not isinstance(processor, ProcessorMixin):
        raise UserError(
            f"{path_or_id}: this is no model for pictures and text (it only has a {type(processor).__name__}); "
            "choose a vision-language model."
        )
    return processor


def save_processor(processor: ProcessorMixin, folder: str | os.PathLike[str]) -> None:
    """Writes a processor in Hub layout, for ``load_processor`` here and ``AutoProcessor`` elsewhere.

    Raises:
        UserError: The disk is full or may not be written.
    """
    with disk_errors(Path(folder)):
        processor.save_pretrained(folder)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
