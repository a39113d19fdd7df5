"""Reads RefCOCO, RefCOCO+ and RefCOCOg (Yu et al. 2016, ECCV; Mao et al. 2016, CVPR) as github.com/lichengunc/refer
released them.

::

    refcoco/
      refs(unc).p  refs(google).p       a pickled list of {"ref_id", "ann_id", "image_id", "category_id", "split",
                                        "sentences": [{"sent", "sent_id", "tokens", "raw"}, ...], "file_name"}, each
                                        file with splits of its own
      instances.json                    COCO's images, annotations and categories
    images/mscoco/images/train2014/     pictures

The same list may be a file ``refs(unc).json``, which needs no pickle. The pictures are also looked for in ``images``,
``train2014`` and ``images/train2014`` in the folder and beside it. A reference's own file_name carries its annotation
(COCO_train2014_000000581857_16.jpg) and names no picture: its image_id does.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from foveal.errors import UserError
from foveal.examples import Split
from foveal.tasks.readers.annotations import (
    CocoImage,
    Id,
    OnBad,
    Refusals,
    check_pixels,
    coco_categories,
    coco_images,
    id_in,
    json_in,
    kind,
    numbers,
    read_bytes,
    read_json,
    records,
    text_in,
)
from foveal.tasks.readers.pictures import SizedPicture, find_picture
from foveal.tasks.readers.splits import RELEASED
from foveal.tasks.segmentation.objects import Query, Source, Target
from foveal.tasks.segmentation.polygons import FARTHEST, CocoTarget, RleTarget

INSTANCES = "instances.json"
#: Folders of pictures, in the order in which they are searched.
PICTURES = ("images", "train2014", "images/train2014", "images/mscoco/images/train2014")
#: Parts of the test split of RefCOCO and RefCOCO+: people, and everything else.
Part = Literal["", "testA", "testB"]
#: What a damaged or malicious pickle can raise.
_NO_LIST: Final = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError,
    OverflowError, MemoryError, RecursionError,
)  # fmt: skip


def read_refcoco(
    path: Path, split: Split, *, refs: str = "", part: Part = "", pictures: Path | None = None, on_bad: OnBad = "refuse"
) -> Source:
    """The queries of a split: one for each reference, its texts all its phrases.

    ``extra`` holds the reference's own ``split`` (testA, say) and the ``category`` of its object.

    Args:
        path: The folder of the files above.
        split: The test split is testA and testB together where there are both.
        refs: Which of several files of references: ``unc``, ``google`` or ``umd``.
        part: Only that part of the test split.
        pictures: Folder of the pictures; see above by default.
        on_bad: At a missing picture, and at an object outside its picture.

    Raises:
        UserError: A file is missing or malformed, there are several files of references and none is chosen, the split
            is empty, or no picture is there.
    """
    references, chosen = _choose_references(path, split, refs, part)
    coco = _Coco.read(path / INSTANCES, {record.get("ann_id") for _, record, _ in chosen})
    folders = [pictures] if pictures else [path, *(base / name for base in (path, path / "..") for name in PICTURES)]
    find = cache(lambda name: find_picture(name, folders))
    queries, refusals, seen = [], Refusals(on_bad), set[Id]()
    for where, record, its_split in chosen:
        ref_id = id_in(record, "ref_id", where)
        if ref_id in seen:
            raise UserError(f"{where}: the ref_id {ref_id!r} occurs before; give each reference its own.")
        seen.add(ref_id)
        image, place, annotation = coco.of(record, where)
        file = find(image.file_name)
        if file is None:
            folder = pictures or path / "images"
            refusals.add(image.file_name, f"there is no such picture, which {coco.path} names; put it into {folder}.")
            continue
        try:
            target = _target(annotation, image.size, place)
            _check_inside(target, image, place)
        except UserError as error:
            refusals.add_error(place, error)
            continue
        extra = {"split": its_split}
        if annotation.get("category_id") in coco.categories:
            extra["category"] = coco.categories[annotation["category_id"]]
        picture = SizedPicture(str(file), file, size=image.size)
        queries.append(Query(f"{its_split}/{ref_id}", picture, _texts(record, where), False, image.size, target, extra))
    if not queries:
        raise UserError(
            f"{path}: none of the pictures of the {split} split is there; give the folder of COCO's train2014."
        )
    return Source(queries, f"{references} ({part or RELEASED[split]})", tuple(dict.fromkeys(refusals.rows)))


@dataclass(frozen=True)
class _Coco:
    """The file of instances.

    Attributes:
        path: The file.
        images: Its pictures by id.
        categories: The names of its categories by id.
        annotations: Those that are referred to by id, each with what errors call it.
    """

    path: Path
    images: Mapping[Id, CocoImage]
    categories: Mapping[Id, str]
    annotations: Mapping[Id, tuple[str, dict[str, Any]]]

    @classmethod
    def read(cls, path: Path, wanted: set[Any]) -> _Coco:
        """The file with the annotations of these ids."""
        content = read_json(path)
        categories = coco_categories(content, path) if "categories" in content else {}
        return cls(path, coco_images(content, path), categories, _annotations(content, path, wanted))

    def of(self, record: Mapping[str, Any], where: str) -> tuple[CocoImage, str, dict[str, Any]]:
        """A reference's picture, the name of its annotation in errors, and the annotation.

        Raises:
            UserError: There is no such picture or annotation, or they do not belong together.
        """
        image_id, ann_id = (id_in(record, key, where) for key in ("image_id", "ann_id"))
        if image_id not in self.images:
            raise UserError(f"{where}: there is no picture with the id {image_id!r} in {self.path}; correct image_id.")
        if ann_id not in self.annotations:
            raise UserError(f"{where}: there is no annotation with the id {ann_id!r} in {self.path}; correct ann_id.")
        place, annotation = self.annotations[ann_id]
        if annotation.get("image_id") != image_id:
            raise UserError(f"{where}: the annotation {ann_id!r} belongs to another picture; correct image_id.")
        return self.images[image_id], place, annotation


def load_plain_pickle(data: bytes, name: str) -> Any:
    """What a pickle holds, if that is nothing but lists, dictionaries, texts, numbers, truth values and None.

    A pickle can name any function and have it called. This one looks up no name at all, so it runs nothing.

    Args:
        data: The pickle, of Python 2 or 3.
        name: What errors call it.

    Raises:
        UserError: It is no pickle, or holds something else.
    """
    try:
        return _Plain(io.BytesIO(data), encoding="utf-8", errors="replace").load()
    except _NamedError as error:
        raise UserError(
            f"{name}: holds {error}, which is no plain data and is not loaded as it could run code; get the released "
            "file or save the list as JSON."
        ) from None
    except _NO_LIST as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{name}: is no pickle that can be read ({first}); get the released file again.") from None


class _NamedError(Exception):
    """A pickle names something that would have to be imported."""


class _Plain(pickle.Unpickler):
    """Reads data that needs no import."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuses every name."""
        raise _NamedError(f"{module}.{name}")


def _choose_references(
    path: Path, split: Split, refs: str, part: Part
) -> tuple[Path, list[tuple[str, dict[str, Any], str]]]:
    """The file of references, and those of the split; see ``_references``."""
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder; check data.source.")
    if part and split != "test":
        raise UserError(f"{path}: {part} is a part of the test split, not of the {split} split; choose one of the two.")
    file = _choose_file(path, refs)
    chosen = [row for row in _references(file) if _belongs(row[2], split, part)]
    if not chosen:
        raise UserError(f"{file}: has no reference of the split {part or RELEASED[split]}; choose another file.")
    return file, chosen


def _choose_file(path: Path, refs: str) -> Path:
    """The file of references.

    Raises:
        UserError: There is none, or there are several and none is chosen.
    """
    # Of the two forms of one list the one that needs no pickle is read.
    lists = {p.stem: p for ending in ("p", "json") for p in sorted(path.glob(f"refs*.{ending}"))}
    if refs:
        chosen = lists.get(f"refs({refs})")
        if chosen is None:
            there = ", ".join(sorted(lists)) or "none"
            raise UserError(f"{path}: has no refs({refs}).p or refs({refs}).json; of its kind there is {there}.")
        return chosen
    if not lists:
        raise UserError(f"{path}: holds no refs(...).p, such as refs(unc).p; give the folder of refcoco, say.")
    if len(lists) > 1:
        names = sorted(stem.removeprefix("refs").strip("()") for stem in lists)
        raise UserError(f"{path}: holds references split by {' and by '.join(names)}; choose one of them.")
    return next(iter(lists.values()))


def _references(path: Path) -> list[tuple[str, dict[str, Any], str]]:
    """Each reference with what errors call it and its split."""
    data = read_bytes(path)
    rows = json_in(data, str(path)) if path.suffix == ".json" else load_plain_pickle(data, str(path))
    if not isinstance(rows, list):
        raise UserError(f"{path}: holds {kind(rows)}, not a list of references; get the released file again.")
    references = []
    for number, row in enumerate(rows):
        where = f"{path}, reference {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where}: is {kind(row)}, not a dictionary; get the released file again.")
        references.append((where, row, text_in(row, "split", where)))
    return references


def _belongs(its_split: str, split: Split, part: Part) -> bool:
    if split == "test" and not part:
        return its_split.startswith("test")
    return its_split == (part or RELEASED[split])


def _annotations(content: Mapping[str, Any], path: Path, wanted: set[Any]) -> dict[Id, tuple[str, dict[str, Any]]]:
    """The annotations that are referred to, by their ids."""
    annotations: dict[Id, tuple[str, dict[str, Any]]] = {}
    for place, record in records(content, "annotations", path):
        key = id_in(record, "id", place)
        if key in wanted:
            if key in annotations:
                raise UserError(f"{place}: the id {key!r} occurs before; give each annotation its own.")
            annotations[key] = f"{path}, annotation {key}", record
    return annotations


def _texts(record: Mapping[str, Any], where: str) -> tuple[str, ...]:
    sentences = record.get("sentences")
    if not isinstance(sentences, list) or not sentences:
        what = "an empty list" if sentences == [] else kind(sentences)
        raise UserError(f"{where}: sentences is {what}, not a list of phrases; correct or remove the reference.")
    texts = []
    for number, sentence in enumerate(sentences):
        if not isinstance(sentence, dict):
            raise UserError(
                f"{where}: sentences[{number}] is {kind(sentence)}, not a dictionary; correct or remove it."
            )
        texts.append(text_in(sentence, "sent", f"{where}, sentences[{number}]"))
    return tuple(texts)


def _target(annotation: Mapping[str, Any], size: tuple[int, int], where: str) -> Target:
    """What an annotation encloses: its polygons together, or its run lengths."""
    drawn = annotation.get("segmentation")
    if isinstance(drawn, dict):
        try:
            return RleTarget(size, (drawn,))
        except UserError as error:
            raise UserError(f"{where}, {error}") from None
    if not isinstance(drawn, list) or not drawn:
        what = "an empty list" if drawn == [] else kind(drawn)
        raise UserError(f"{where}: segmentation is {what}, not polygons or run lengths; correct it.")
    polygons = tuple(_polygon(one, f"{where}, segmentation[{i}]") for i, one in enumerate(drawn))
    check_pixels((v for polygon in polygons for point in polygon for v in point), where)
    return CocoTarget(size, polygons)


def _check_inside(target: Target, image: CocoImage, where: str) -> None:
    """Refuses polygons of which none reaches into the picture."""
    if not isinstance(target, CocoTarget):
        return
    boxes = [tuple((min(along), max(along)) for along in zip(*polygon, strict=True)) for polygon in target.polygons]
    if all(any(high <= 0 or low >= side for (low, high), side in zip(box, image.size, strict=True)) for box in boxes):
        spans = [f"{min(box[i][0] for box in boxes):g} to {max(box[i][1] for box in boxes):g}" for i in (0, 1)]
        raise UserError(
            f"{where}: its polygons (x {spans[0]}, y {spans[1]}) lie wholly outside {image.file_name}, which is "
            f"{image.size[0]} x {image.size[1]} pixels; correct or remove it."
        )


def _polygon(flat: Any, where: str) -> Sequence[tuple[float, float]]:
    values = numbers(flat, len(flat)) if isinstance(flat, list) else None
    if values is None or len(values) < 6 or len(values) % 2:
        raise UserError(f"{where}: is not x, y, x, y, ... of three points or more; correct it or remove the polygon.")
    if any(abs(value) > FARTHEST for value in values):
        raise UserError(f"{where}: has a point farther than {FARTHEST:,} pixels away; correct it.")
    return tuple(zip(values[::2], values[1::2], strict=True))
