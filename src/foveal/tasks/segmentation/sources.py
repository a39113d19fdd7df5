"""Reads a split of a source of segmented pictures, whatever its format."""

from __future__ import annotations

from pathlib import Path

from foveal.errors import UserError
from foveal.examples import Split
from foveal.images import MAX_PIXELS
from foveal.tasks.readers.annotations import OnBad
from foveal.tasks.segmentation.objects import Source
from foveal.tasks.segmentation.reasonseg import read_reasonseg
from foveal.tasks.segmentation.refcoco import INSTANCES, Part, read_refcoco


def read_source(
    path: Path, split: Split, *, refs: str = "", part: Part = "", explanatory: bool = False, on_bad: OnBad = "refuse",
    max_pixels: int = MAX_PIXELS,
) -> Source:  # fmt: skip
    """A split of a RefCOCO folder, or of ReasonSeg in any of its forms.

    See ``read_refcoco`` and ``read_reasonseg`` for the arguments.

    Raises:
        UserError: The source or its split is missing or malformed.
    """
    if (path / INSTANCES).is_file():
        return read_refcoco(path, split, refs=refs, part=part, on_bad=on_bad)
    for key, value in (("refs", refs), ("part", part)):
        if value:
            raise UserError(f"data.{key}: is for RefCOCO folders with {INSTANCES}, which {path} has not; leave it out.")
    return read_reasonseg(path, split, on_bad=on_bad, explanatory=explanatory, max_pixels=max_pixels)
