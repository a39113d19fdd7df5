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

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from foveal.errors import UserError
from foveal.examples import Split
from foveal.tasks.readers.annotations import (
    OnBad,
    SizedPicture,
    id_in,
    is_file,
    json_in,
    kind,
    numbers,
    read_bytes,
    read_json,
    records,
    side_in,
    text_in,
)
from foveal.tasks.segmentation.coco_polygons import FARTHEST, CocoTarget
from foveal.tasks.segmentation.objects import Query, Target
from foveal.tasks.segmentation.polygons import RleTarget
from foveal.tasks.segmentation.reading import Source

INSTANCES = "instances.json"
SPLIT_NAMES: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}
#: Folders of pictures, in the order in which they are searched.
PICTURES = ("images", "train2014", "images/train2014", "images/mscoco/images/train2014")
#: Parts of the test split of RefCOCO and RefCOCO+: people, and everything else.
Part = Literal["", "testA", "testB"]
#: What a pickle that is damaged or made to do harm can raise.
_NO_LIST: Final = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ImportError,
    OverflowError,
    MemoryError,
    RecursionError,
)
_Id = int | str


@dataclass(frozen=True)
class _Image:
    """A picture as the annotations know it."""

    file_name: str
    size: tuple[int, int]


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
        on_bad: At a missing picture.

    Raises:
        UserError: A file is missing or malformed, there are several files of references and none is chosen, the split
            is empty, or no picture is there.
    """
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder; check data.source.")
    if part and split != "test":
        raise UserError(f"{path}: {part} is a part of the test split, not of the {split} split; choose one of the two.")
    file = _choose(path, refs)
    chosen = [row for row in _references(file) if _belongs(row[2], split, part)]
    if not chosen:
        raise UserError(f"{file}: has no reference of the split {part or SPLIT_NAMES[split]}; choose another file.")
    instances = path / INSTANCES
    content = read_json(instances)
    images, categories = _images(content, instances), _categories(content, instances)
    annotations = _annotations(content, instances, {row[1].get("ann_id") for row in chosen})
    folders = (
        [pictures] if pictures else [path / "", *(base / name for base in (path, path / "..") for name in PICTURES)]
    )
    places: dict[_Id, Path | None] = {}
    queries, skipped = [], []
    seen: set[_Id] = set()
    for where, record, its_split in chosen:
        ref_id, image_id, ann_id = (id_in(record, key, where) for key in ("ref_id", "image_id", "ann_id"))
        if ref_id in seen:
            raise UserError(f"{where}: the ref_id {ref_id!r} occurs before; give each reference its own.")
        seen.add(ref_id)
        if image_id not in images:
            raise UserError(f"{where}: there is no picture with the id {image_id!r} in {instances}; correct image_id.")
        if ann_id not in annotations:
            raise UserError(f"{where}: there is no annotation with the id {ann_id!r} in {instances}; correct ann_id.")
        place, annotation = annotations[ann_id]
        if annotation.get("image_id") != image_id:
            raise UserError(f"{where}: the annotation {ann_id!r} belongs to another picture; correct image_id.")
        image = images[image_id]
        if image_id not in places:
            tried = (folder / image.file_name for folder in folders)
            places[image_id] = next((found for found in tried if is_file(found)), None)
        found = places[image_id]
        if found is None:
            reason = f"there is no such picture, which {instances} names; put it into {(pictures or path / 'images')}."
            if on_bad == "refuse":
                raise UserError(f"{image.file_name}: {reason}")
            skipped.append((image.file_name, reason))
            continue
        extra = {"split": its_split}
        if annotation.get("category_id") in categories:
            extra["category"] = categories[annotation["category_id"]]
        queries.append(
            Query(
                f"{its_split}/{ref_id}",
                SizedPicture(str(found), found, size=image.size),
                _texts(record, where),
                False,
                image.size,
                _target(annotation, image.size, place),
                extra,
            )
        )
    if not queries:
        raise UserError(
            f"{path}: none of the pictures of the {split} split is there; give the folder of COCO's train2014."
        )
    return Source(queries, f"{file} ({part or SPLIT_NAMES[split]})", tuple(dict.fromkeys(skipped)))


def load_plain_pickle(data: bytes, name: str) -> Any:
    """What a pickle holds, if that is nothing but lists, dictionaries, texts, numbers, truth values and None.

    A pickle can name any function and have it called. This one looks up no name at all, so it runs nothing.

    Args:
        data: The pickle, of Python 2 or 3.
        name: What errors call it.

    Raises:
        UserError: It is no pickle, or holds something else.
    """
    import io

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


def _choose(path: Path, refs: str) -> Path:
    """The file of references.

    Raises:
        UserError: There is none, or there are several and none is chosen.
    """
    # Of the two forms of one list the one that needs no pickle is read.
    found = {p.stem: p for ending in ("p", "json") for p in sorted(path.glob(f"refs*.{ending}"))}
    if refs:
        chosen = found.get(f"refs({refs})")
        if chosen is None:
            there = ", ".join(sorted(found)) or "none"
            raise UserError(f"{path}: has no refs({refs}).p or refs({refs}).json; of its kind there is {there}.")
        return chosen
    if not found:
        raise UserError(f"{path}: holds no refs(...).p, such as refs(unc).p; give the folder of refcoco, say.")
    if len(found) > 1:
        names = sorted(stem.removeprefix("refs").strip("()") for stem in found)
        raise UserError(f"{path}: holds references split by {' and by '.join(names)}; choose one of them.")
    return next(iter(found.values()))


def _references(path: Path) -> list[tuple[str, dict[str, Any], str]]:
    """Each reference with what errors call it and its split."""
    data = read_bytes(path)
    rows = json_in(data, str(path)) if path.suffix == ".json" else load_plain_pickle(data, str(path))
    if not isinstance(rows, list):
        raise UserError(f"{path}: holds {kind(rows)}, not a list of references; get the released file again.")
    found = []
    for number, row in enumerate(rows):
        where = f"{path}, reference {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where}: is {kind(row)}, not a dictionary; get the released file again.")
        found.append((where, row, text_in(row, "split", where)))
    return found


def _belongs(its_split: str, split: Split, part: Part) -> bool:
    if split == "test" and not part:
        return its_split.startswith("test")
    return its_split == (part or SPLIT_NAMES[split])


def _images(content: Mapping[str, Any], path: Path) -> dict[_Id, _Image]:
    images: dict[_Id, _Image] = {}
    for where, record in records(content, "images", path):
        key, name = id_in(record, "id", where), text_in(record, "file_name", where)
        if key in images:
            raise UserError(f"{where}: the id {key!r} is that of {images[key].file_name}, too; give each its own.")
        images[key] = _Image(name, (side_in(record, "width", where), side_in(record, "height", where)))
    return images


def _categories(content: Mapping[str, Any], path: Path) -> dict[_Id, str]:
    found = records(content, "categories", path) if "categories" in content else []
    return {id_in(record, "id", where): text_in(record, "name", where) for where, record in found}


def _annotations(content: Mapping[str, Any], path: Path, wanted: set[Any]) -> dict[_Id, tuple[str, dict[str, Any]]]:
    """The annotations that are referred to, by their ids."""
    found: dict[_Id, tuple[str, dict[str, Any]]] = {}
    for place, record in records(content, "annotations", path):
        key = id_in(record, "id", place)
        if key in wanted:
            if key in found:
                raise UserError(f"{place}: the id {key!r} occurs before; give each annotation its own.")
            found[key] = f"{path}, annotation {key}", record
    return found


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
    found = annotation.get("segmentation")
    if isinstance(found, dict):
        try:
            return RleTarget(size, (found,))
        except UserError as error:
            raise UserError(f"{where}, {error}") from None
    if not isinstance(found, list) or not found:
        what = "an empty list" if found == [] else kind(found)
        raise UserError(f"{where}: segmentation is {what}, not polygons or run lengths; correct it.")
    return CocoTarget(size, tuple(_polygon(one, f"{where}, segmentation[{i}]") for i, one in enumerate(found)))


def _polygon(flat: Any, where: str) -> Sequence[tuple[float, float]]:
    values = numbers(flat, len(flat)) if isinstance(flat, list) else None
    if values is None or len(values) < 6 or len(values) % 2:
        raise UserError(f"{where}: is not x, y, x, y, ... of three points or more; correct it or remove the polygon.")
    if any(abs(value) > FARTHEST for value in values):
        raise UserError(f"{where}: has a point farther than {FARTHEST:,} pixels away; correct it.")
    return tuple(zip(values[::2], values[1::2], strict=True))
