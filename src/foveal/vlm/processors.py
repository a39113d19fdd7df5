"""Loading and saving processors, also of families that take videos on machines without torchvision.

There such a processor gets a ``patches.VideoPart`` in place of its video processor: it keeps the settings of the real one
and writes them back, so that what was saved loads with all its parts wherever torchvision is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from pathlib import Path

from transformers import ProcessorMixin

from foveal.errors import UserError
from foveal.files import disk_errors
from foveal.vlm.patches import do_without_num2words, stand_in_for_video_processors

_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?")


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
    do_without_num2words()
    # Only now, for a torchvision that does not fit breaks this import.
    from transformers import AutoProcessor

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
