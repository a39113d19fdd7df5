"""Reads FSC-147 (Ranjan et al. 2021, "Learning To Count Everything", CVPR) as it was released.

::

    images_384_VarV2/2.jpg               pictures, shrunken to a height of 384 pixels
    annotation_FSC147_384.json           {"2.jpg": {"H", "W", "ratio_h", "ratio_w", "points": [[x, y], ...],
                                                    "box_examples_coordinates": [[[x, y] four times], ...]}, ...}
    Train_Test_Val_FSC_147.json          {"train": ["7.jpg", ...], "val": [...], "test": [...], ...}
    ImageClasses_FSC147.txt              2.jpg<TAB>sea shells

Points and exemplar boxes are in pixels of the shrunken picture. H and W are the size before, and the ratios what it was
multiplied by; where a file has them they must lead to the picture's own size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from foveal.errors import ImageError, UserError
from foveal.examples import Split
from foveal.images import MAX_PIXELS, picture_size
from foveal.tasks.counting.coco import clipped
from foveal.tasks.counting.objects import Point, Query, Source, Thing, TwinCounter, Twins
from foveal.tasks.readers.annotations import OnBad, Refusals, check_pixels, kind, numbers, read_json
from foveal.tasks.readers.pictures import SizedPicture, find_picture
from foveal.tasks.readers.splits import RELEASED

PICTURES, ANNOTATIONS = "images_384_VarV2", "annotation_FSC147_384.json"
SPLIT_FILE, CLASSES = "Train_Test_Val_FSC_147.json", "ImageClasses_FSC147.txt"
#: Points up to so many pixels outside the picture are moved to its border: rounding and hasty clicks.
SLACK = 2.0


def read_fsc147(
    root: Path, split: Split, *, on_bad: OnBad = "refuse", twins: Twins = "once", max_pixels: int = MAX_PIXELS
) -> Source:
    """The queries of a split: one for each picture, all objects are points.

    ``extra`` holds ``exemplar_size``, the median width and height of the exemplar boxes in pixels, where there are any.

    Args:
        root: The folder of the files above.
        split: The lists val_coco and test_coco, parts of val and test, are not read.
        on_bad: At a point outside its picture, and at a picture that is missing or cannot be used.
        twins: How often a point is counted that is there several times. Published counts have each.
        max_pixels: Pictures with more pixels cannot be used.

    Raises:
        UserError: A file is missing or malformed, a picture is not annotated or has another size than its annotation.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; check data.source.")
    names = read_json(root / SPLIT_FILE).get(RELEASED[split])
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"{root / SPLIT_FILE}: {RELEASED[split]!r} is no list of file names; get the released file again."
        )
    annotations, classes = read_json(root / ANNOTATIONS), _classes(root / CLASSES)
    queries, refusals, once, values = [], Refusals(on_bad), TwinCounter(twins), list[float]()
    for name in dict.fromkeys(names):
        where, file = f"{root / ANNOTATIONS}, {name}", find_picture(name, [root / PICTURES])
        record = annotations.get(name)
        if not isinstance(record, dict):
            raise UserError(f"{where}: is {kind(record)}, but {SPLIT_FILE} lists it; add its annotation or remove it.")
        if name not in classes:
            raise UserError(f"{root / CLASSES}: has no line for {name}, which {SPLIT_FILE} lists; add one.")
        if file is None:
            reason = f"there is no such picture, which {SPLIT_FILE} lists; restore it or remove it from there."
            refusals.add(str(root / PICTURES / name), reason)
            continue
        try:
            size = picture_size(file, max_pixels=max_pixels)
        except ImageError as error:
            refusals.add_error(str(file), error)
            continue
        _check_frame(record, size, where, file)
        points, outside = _points(record, size, where)
        for number in outside:
            reason = f"lies outside its picture of {size[0]} x {size[1]} pixels; use the pictures of {PICTURES}."
            sentence = f"{where}: point {number}, {record['points'][number]}, {reason}"
            refusals.add(f"{where}, point {number}", reason, sentence)
        values += [v for point in points for v in point]
        things, extra = once.counted([Thing(point) for point in points]), _exemplar_size(record, size, where)
        queries.append(Query(name, SizedPicture(str(file), file, size=size), classes[name], things, size, extra=extra))
    if not queries:
        raise UserError(f"{root / PICTURES}: no picture of the {split} split is there; get the released pictures.")
    check_pixels(values, str(root / ANNOTATIONS))
    notes = once.notes(str(root / ANNOTATIONS), "points")
    return Source(queries, f"{root} ({RELEASED[split]})", tuple(refusals.rows), notes=notes)


def _classes(path: Path) -> dict[str, str]:
    """The category of each picture."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; get the released one.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); get the released file again.") from None
    classes = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if len(words) == 1:
            raise UserError(f"{path}, line {number}: {line!r} has no class after the file name; add it.")
        if words:
            classes[words[0]] = " ".join(words[1:])
    return classes


def _check_frame(record: Mapping[str, Any], size: tuple[int, int], where: str, file: Path) -> None:
    """Refuses a picture of another size than the one that was annotated."""
    for key, ratio_key, side, word in (("W", "ratio_w", size[0], "wide"), ("H", "ratio_h", size[1], "high")):
        given = numbers([record.get(key), record.get(ratio_key)], 2)
        # Some files that were made to look like this one give the final size and no ratio of it.
        if given is not None and min(abs(given[0] * given[1] - side), abs(given[0] - side)) > SLACK:
            raise UserError(
                f"{where}: {key} times {ratio_key} is {given[0] * given[1]:.0f}, but {file} is {side} pixels {word}; "
                f"use the pictures of {PICTURES}."
            )


def _points(record: Mapping[str, Any], size: tuple[int, int], where: str) -> tuple[list[Point], list[int]]:
    """The points in the picture, those at most ``SLACK`` away moved to its border, and the places of the others."""
    given = record.get("points")
    if not isinstance(given, list):
        raise UserError(f"{where}: points is {kind(given)}, not a list; get the released file again.")
    points, outside = [], []
    for number, value in enumerate(given):
        point = numbers(value, 2)
        if point is None:
            raise UserError(f"{where}: point {number} is {value!r}, not two numbers; correct or remove it.")
        inside = [min(max(v, 0.0), float(side)) for v, side in zip(point, size, strict=True)]
        if max(abs(a - b) for a, b in zip(point, inside, strict=True)) > SLACK:
            outside.append(number)
        else:
            points.append((inside[0], inside[1]))
    return points, outside


def _exemplar_size(record: Mapping[str, Any], size: tuple[int, int], where: str) -> dict[str, Any]:
    """Median width and height of the exemplar boxes; those without area in the picture do not count."""
    exemplars = record.get("box_examples_coordinates", [])
    if not isinstance(exemplars, list):
        raise UserError(f"{where}: box_examples_coordinates is {kind(exemplars)}, not a list; get the file again.")
    boxes = []
    for corners in exemplars:
        xy = [numbers(corner, 2) for corner in corners] if isinstance(corners, list) else []
        given = [corner for corner in xy if corner is not None]
        if len(given) != len(xy) or len(given) < 2:
            raise UserError(f"{where}: the exemplar box {corners!r} is not four corners; correct or remove it.")
        x, y = [c[0] for c in given], [c[1] for c in given]
        box = clipped((min(x), min(y), max(x), max(y)), size)
        if box is not None:
            boxes.append(box)
    if not boxes:
        return {}
    return {"exemplar_size": [median(b[2] - b[0] for b in boxes), median(b[3] - b[1] for b in boxes)]}
