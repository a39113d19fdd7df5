"""Reads any COCO detection file (https://cocodataset.org/#format-data) into queries: a row for each picture and category.

Only ``images`` (id, file_name, width, height), ``annotations`` (id, image_id, category_id, bbox, iscrowd) and
``categories`` (id, name) are read. A box is [left, top, width, height] in pixels; what sticks out of the picture is cut
off, and the middle of what is left is the object's point. Categories of one name are one category.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveal.errors import UserError
from foveal.tasks.counting.objects import Box, Query, Thing
from foveal.tasks.counting.reading import Source
from foveal.tasks.readers.annotations import (
    OnBad,
    SizedPicture,
    id_in,
    is_file,
    kind,
    numbers,
    rank,
    read_json,
    records,
    side_in,
    text_in,
)

#: What exports call the file in the folder of their pictures.
FILE_NAME = "_annotations.coco.json"
_Id = int | str


def read_coco(
    path: Path,
    *,
    pictures: Path | None = None,
    domain: str = "",
    absent: int = 0,
    seed: int = 0,
    on_bad: OnBad = "refuse",
) -> Source:
    """The queries of a COCO detection file.

    Annotations of crowds are left out and counted, in total and as ``crowds`` in the query's ``extra``; a category that
    occurs in a picture as a crowd only has no query there.

    Args:
        path: The file, or a folder that holds ``_annotations.coco.json``.
        pictures: Folder of the pictures; the file's own by default.
        domain: Put in front of the queries' ids, and their ``domain``.
        absent: For each picture, up to so many queries for categories of this file that do not occur in it.
        seed: Decides which.
        on_bad: At a box without area inside its picture, and at a missing picture.

    Raises:
        UserError: The file or a picture is missing, or the file is malformed; no query is left.
    """
    path = path / FILE_NAME if path.is_dir() else path
    content = read_json(path)
    names = _names(content, path)
    images = _images(content, path)
    things, crowds, spoilt, skipped = _things(content, path, names, images, on_bad)
    # Exports list categories that nothing belongs to, such as Roboflow's super-category.
    used = {name for found in things.values() for name in found}
    categories = [name for name in dict.fromkeys(names.values()) if name in used]
    queries = []
    for image_id, (file_name, size) in images.items():
        file = (pictures or path.parent) / file_name
        if not is_file(file):
            reason = f"there is no such picture, which {path} names; restore it or give the folder of the pictures."
            if on_bad == "refuse":
                raise UserError(f"{file}: {reason}")
            skipped.append((str(file), reason))
            continue
        picture = SizedPicture(str(file), file, size=size)
        found = things.get(image_id, {})
        shown = [name for name in categories if name in found]
        free: list[str] = []
        if absent:
            hidden = {name for name in categories if (image_id, name) in crowds or (image_id, name) in spoilt}
            unseen = [name for name in categories if name not in found and name not in hidden]
            free = sorted(unseen, key=lambda name: rank(seed, f"{domain}/{file_name}/{name}"))
        for name in (*shown, *free[:absent]):
            count = crowds[image_id, name]
            extra = {"crowds": count} if count else {}
            row = "/".join(filter(None, (domain, file_name, name)))
            queries.append(Query(row, picture, name, tuple(found.get(name, ())), size, domain, extra))
    if not queries:
        raise UserError(f"{path}: has no object that can be counted; check that it is the right file.")
    return Source(queries, str(path), tuple(skipped), sum(crowds.values()))


def _names(content: Mapping[str, Any], path: Path) -> dict[_Id, str]:
    """Category names by id, in the file's order."""
    names: dict[_Id, str] = {}
    for where, record in records(content, "categories", path):
        key, name = id_in(record, "id", where), text_in(record, "name", where)
        if names.setdefault(key, name) != name:
            raise UserError(f"{where}: the id {key!r} is that of {names[key]!r}, too; give each category its own.")
    return names


def _images(content: Mapping[str, Any], path: Path) -> dict[_Id, tuple[str, tuple[int, int]]]:
    """File names and sizes by picture id, in the file's order."""
    images: dict[_Id, tuple[str, tuple[int, int]]] = {}
    files: dict[str, _Id] = {}
    for where, record in records(content, "images", path):
        key, name = id_in(record, "id", where), text_in(record, "file_name", where)
        if key in images:
            raise UserError(f"{where}: the id {key!r} is that of {images[key][0]}, too; give each picture its own.")
        if files.setdefault(name, key) != key:
            raise UserError(f"{where}: {name} is listed before, with the id {files[name]!r}; list each picture once.")
        images[key] = name, (side_in(record, "width", where), side_in(record, "height", where))
    return images


_Found = dict[_Id, dict[str, list[Thing]]]
_Pairs = Counter[tuple[_Id, str]]


def _things(
    content: Mapping[str, Any],
    path: Path,
    names: Mapping[_Id, str],
    images: Mapping[_Id, tuple[str, tuple[int, int]]],
    on_bad: OnBad,
) -> tuple[_Found, _Pairs, _Pairs, list[tuple[str, str]]]:
    """Objects by picture and category; numbers of crowds and of boxes without area by both; what was skipped, why."""
    things: _Found = {}
    crowds: _Pairs = Counter()
    spoilt: _Pairs = Counter()
    skipped = []
    for place, record in records(content, "annotations", path):
        where = f"{path}, annotation {record['id']}" if isinstance(record.get("id"), int | str) else place
        image_id, category_id = id_in(record, "image_id", where), id_in(record, "category_id", where)
        if image_id not in images:
            raise UserError(f"{where}: there is no picture with the id {image_id!r}; correct image_id or remove it.")
        if category_id not in names:
            raise UserError(
                f"{where}: there is no category with the id {category_id!r}; correct category_id or remove it."
            )
        crowd = record.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise UserError(f"{where}: iscrowd is {crowd!r}, not 0 or 1; correct it.")
        name = names[category_id]
        if crowd:
            crowds[image_id, name] += 1
            continue
        given = numbers(record.get("bbox"), 4)
        if given is None:
            raise UserError(
                f"{where}: bbox is {kind(record.get('bbox'))} where four numbers are needed (left, top, width, "
                "height); correct it or remove the annotation."
            )
        size = images[image_id][1]
        box = clipped((given[0], given[1], given[0] + given[2], given[1] + given[3]), size)
        if box is None:
            reason = (
                f"the box {record['bbox']} covers nothing of its picture of {size[0]} x {size[1]} pixels; correct or "
                "remove it."
            )
            if on_bad == "refuse":
                raise UserError(f"{where}: {reason}")
            skipped.append((where, reason))
            spoilt[image_id, name] += 1
            continue
        centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        things.setdefault(image_id, {}).setdefault(name, []).append(Thing(centre, box))
    return things, crowds, spoilt, skipped


def clipped(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of a box that lies in a picture of this width and height, or None where that has no area."""
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[2], float(size[0])), min(box[3], float(size[1]))
    return (left, top, right, bottom) if right > left and bottom > top else None
