"""Reads a split of a source of counted pictures, whatever its format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from foveal.errors import UserError
from foveal.examples import Split
from foveal.images import MAX_PIXELS
from foveal.tasks.counting.coco import FILE_NAME, read_coco
from foveal.tasks.counting.fsc147 import ANNOTATIONS, read_fsc147
from foveal.tasks.counting.objects import Source, Twins
from foveal.tasks.counting.omnicount import read_omnicount
from foveal.tasks.readers.annotations import OnBad
from foveal.tasks.readers.hold_out import below_half, hold_out, origin


def read_source(
    path: Path, split: Split, *, categories: Sequence[str] = (), absent: int = 0, seed: int = 0,
    validation_share: float = 0.1, on_bad: OnBad = "refuse", twins: Twins = "once", pictures: str = "",
    max_pixels: int = MAX_PIXELS,
) -> Source:  # fmt: skip
    """A split of a COCO file, of FSC-147, or of domains of OmniCount.

    See ``read_omnicount``, ``read_coco`` and ``read_fsc147`` for the arguments; of a COCO file, ``validation_share`` is
    held out for the test, too, and 0 gives all of it.

    Raises:
        UserError: The source or its split is missing or malformed.
    """
    without_domains = path.is_file() or any((path / name).is_file() for name in (FILE_NAME, ANNOTATIONS))
    if without_domains and categories:
        raise UserError(f"data.categories: chooses domains of OmniCount, which {path} has not; leave it out.")
    if is_one_file(path):
        folder = Path(pictures).expanduser() if pictures else None
        source = read_coco(path, pictures=folder, absent=absent, seed=seed, on_bad=on_bad, twins=twins)
        return _divided(source, split, validation_share, seed) if validation_share else source
    if pictures:
        raise UserError(f"data.pictures: is for COCO files, which {path} is not; leave it out.")
    if (path / ANNOTATIONS).is_file():
        return read_fsc147(path, split, on_bad=on_bad, twins=twins, max_pixels=max_pixels)
    return read_omnicount(
        path, split, categories=categories, absent=absent, seed=seed, validation_share=validation_share, on_bad=on_bad,
        twins=twins,
    )  # fmt: skip


def _divided(source: Source, split: Split, share: float, seed: int) -> Source:
    """A split of a file that has none: the test and the validation pictures are held out by the seed."""
    origins = {origin(query.picture.name) for query in source.queries}
    if len(origins) < 3:
        raise UserError(f"{source.place}: {len(origins)} pictures are too few to hold some out; give at least 3.")
    shares: dict[Split, float] = {"test": share, "validation": share}
    parts = hold_out(source.queries, shares, seed, name=lambda query: origin(query.picture.name), draw=below_half)
    pictures = len({query.picture.name for query in parts[split]})
    place = f"{source.place} ({split}: {pictures} pictures, seed {seed})"
    return replace(source, queries=parts[split], place=place)


def is_one_file(path: Path) -> bool:
    """Whether a source is one COCO file, which has no splits."""
    return path.is_file() or (path / FILE_NAME).is_file()
