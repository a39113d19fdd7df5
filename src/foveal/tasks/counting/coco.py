"""Reads any COCO detection file (https://cocodataset.org/#format-data) into queries: a row for each picture and category.

Only ``images`` (id, file_name, width, height), ``annotations`` (id, image_id, category_id, bbox, iscrowd) and
``categories`` (id, name) are read. A box is [left, top, width, height] in pixels; what sticks out of the picture is cut
off, and the middle of what is left is the object's point. Categories of one name are one category.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foveal.errors import UserError
from foveal.tasks.counting.objects import Box, Query, Source, Thing, TwinCounter, Twins
from foveal.tasks.readers.annotations import (
    CocoImage,
    Id,
    OnBad,
    Refusals,
    are_shares,
    beyond_note,
    coco_categories,
    coco_images,
    id_in,
    kind,
    numbers,
    reaches_beyond,
    read_json,
    records,
)
from foveal.tasks.readers.hold_out import rank
from foveal.tasks.readers.pictures import SizedPicture, find_picture

#: What exports call the file in the folder of their pictures.
FILE_NAME = "_annotations.coco.json"


def read_coco(
    path: Path, *, pictures: Path | None = None, domain: str = "", absent: int = 0, seed: int = 0,
    on_bad: OnBad = "refuse", twins: Twins = "once",
) -> Source:  # fmt: skip
    """The queries of a COCO detection file.

    Annotations of crowds are left out and counted, in total and as ``crowds`` in the query's ``extra``; a category that
    occurs in a picture as a crowd only has no query there.

    Args:
        path: The file, or a folder that holds ``_annotations.coco.json``.
        pictures: Folder of the pictures; by default the file's own, or ``images`` or the folder that the file's name ends
            in (``val2017`` of ``instances_val2017.json``) in it or beside it.
        domain: Put in front of the queries' ids, and their ``domain``.
        absent: For each picture, up to so many queries for categories of this file that do not occur in it.
        seed: Decides which.
        on_bad: At a box without area inside its picture, and at a missing picture.
        twins: How often a box is counted that is there several times.

    Raises:
        UserError: The file or a picture is missing, or the file is malformed; all boxes are shares of the sides; no query
            is left.
    """
    path = path / FILE_NAME if path.is_dir() else path
    folders = _folders(path, pictures)
    content = read_json(path)
    names, images, refusals = coco_categories(content, path), _images(content, path), Refusals(on_bad)
    objects = _Objects(names, images, refusals)
    for place, record in records(content, "annotations", path):
        objects.add(record, f"{path}, annotation {record['id']}" if isinstance(record.get("id"), int | str) else place)
    if are_shares(objects.edges):
        raise UserError(
            f"{path}: all boxes lie within 0 and 1, as shares of the picture's sides, where COCO has pixels; multiply them "
            "by the pictures' width and height."
        )
    categories, queries, once = objects.categories(), [], TwinCounter(twins)
    for image_id, image in images.items():
        file = find_picture(image.file_name, folders)
        if file is None:
            reason = f"there is no such picture, which {path} names; restore it, or give the pictures' folder in data.pictures."
            refusals.add(str(folders[0] / image.file_name), reason)
            continue
        picture, things = SizedPicture(str(file), file, size=image.size), objects.things.get(image_id, {})
        present = [name for name in categories if name in things]
        missing = [name for name in categories if name not in things and not objects.hidden(image_id, name)]
        missing.sort(key=lambda name: rank(seed, f"{domain}/{image.file_name}/{name}"))
        for name in (*present, *missing[:absent]):
            extra = {"crowds": crowds} if (crowds := objects.crowds[image_id, name]) else {}
            query_id = "/".join(filter(None, (domain, image.file_name, name)))
            counted = once.counted(things.get(name, ()))
            queries.append(Query(query_id, picture, name, counted, image.size, domain, extra))
    if not queries:
        raise UserError(f"{path}: has no object that can be counted; check that it is the right file.")
    notes = (*objects.notes(str(path)), *once.notes(str(path), "boxes"))
    return Source(queries, str(path), tuple(refusals.rows), sum(objects.crowds.values()), notes)


def _folders(path: Path, pictures: Path | None) -> list[Path]:
    """Where the pictures of a file may lie.

    Raises:
        UserError: The folder that was given does not exist.
    """
    if pictures is not None:
        if not pictures.is_dir():
            raise UserError(f"data.pictures: there is no folder {pictures}; check the path.")
        return [pictures]
    # Never the folder of another split: its pictures may have the same names.
    ending = path.stem.rpartition("_")[2]
    near = [
        base / name for base in (path.parent, path.parent.parent) for name in (ending, "images", f"images/{ending}")
    ]
    return [path.parent, *near]


def _images(content: Mapping[str, Any], path: Path) -> dict[Id, CocoImage]:
    """The pictures by id, each listed once."""
    images = coco_images(content, path)
    files: dict[str, Id] = {}
    for key, image in images.items():
        if files.setdefault(image.file_name, key) != key:
            raise UserError(
                f"{image.where}: {image.file_name} is listed before, with the id {files[image.file_name]!r}; list each "
                "picture once."
            )
    return images


@dataclass
class _Objects:
    """The objects of a file, collected from its annotations.

    Attributes:
        names: Categories by id.
        images: Pictures by id.
        refusals: Collects boxes that cannot be used.
        things: Objects by picture and category.
        crowds: Numbers of crowds by both.
        spoilt: Numbers of boxes without area by both.
        edges: The edges of all boxes as they are written.
        beyond: Boxes that leave their picture by far.
    """

    names: Mapping[Id, str]
    images: Mapping[Id, CocoImage]
    refusals: Refusals
    things: dict[Id, dict[str, list[Thing]]] = field(default_factory=dict)
    crowds: Counter[tuple[Id, str]] = field(default_factory=Counter)
    spoilt: Counter[tuple[Id, str]] = field(default_factory=Counter)
    edges: list[float] = field(default_factory=list)
    beyond: int = 0

    def categories(self) -> list[str]:
        """The categories that have objects. Exports list others, too, such as Roboflow's super-category."""
        used = {name for things in self.things.values() for name in things}
        return [name for name in dict.fromkeys(self.names.values()) if name in used]

    def hidden(self, image_id: Id, name: str) -> bool:
        """Whether a category is in a picture in a form that cannot be counted."""
        return (image_id, name) in self.crowds or (image_id, name) in self.spoilt

    def notes(self, where: str) -> tuple[str, ...]:
        """Sentences about crowds, and about boxes that leave their pictures."""
        beyond = beyond_note(where, "boxes", self.beyond, len(self.edges) // 4)
        if not (count := sum(self.crowds.values())):
            return beyond
        pictures = len({image_id for image_id, _ in self.crowds})
        return (
            f"{where}: {count:,} annotations of crowds (iscrowd: 1) in {pictures:,} pictures are left out, as they do not say "
            "how many objects there are.",
            *beyond,
        )

    def add(self, record: Mapping[str, Any], where: str) -> None:
        """Adds an annotation.

        Raises:
            UserError: It is malformed, or its box cannot be used.
        """
        image_id, category_id = id_in(record, "image_id", where), id_in(record, "category_id", where)
        if image_id not in self.images:
            raise UserError(f"{where}: there is no picture with the id {image_id!r}; correct image_id or remove it.")
        if category_id not in self.names:
            raise UserError(
                f"{where}: there is no category with the id {category_id!r}; correct category_id or remove it."
            )
        crowd = record.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise UserError(f"{where}: iscrowd is {crowd!r}, not 0 or 1; correct it.")
        name = self.names[category_id]
        if crowd:
            self.crowds[image_id, name] += 1
            return
        bbox = numbers(record.get("bbox"), 4)
        if bbox is None:
            raise UserError(
                f"{where}: bbox is {kind(record.get('bbox'))} where four numbers are needed (left, top, width, "
                "height); correct it or remove the annotation."
            )
        width, height = self.images[image_id].size
        sides = (bbox[0], bbox[0] + bbox[2]), (bbox[1], bbox[1] + bbox[3])
        self.edges += [*sides[0], *sides[1]]
        self.beyond += reaches_beyond(*sides, (width, height))
        box = clipped((sides[0][0], sides[1][0], sides[0][1], sides[1][1]), (width, height))
        if box is None:
            reason = f"covers nothing of its picture of {width} x {height} pixels; correct or remove it."
            self.refusals.add(where, f"the box {record['bbox']} {reason}")
            self.spoilt[image_id, name] += 1
            return
        centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        self.things.setdefault(image_id, {}).setdefault(name, []).append(Thing(centre, box))


def clipped(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of a box that lies in a picture of this width and height, or None where that has no area."""
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[2], float(size[0])), min(box[3], float(size[1]))
    return (left, top, right, bottom) if right > left and bottom > top else None
