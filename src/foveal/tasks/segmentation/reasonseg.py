"""Reads ReasonSeg (Lai et al. 2024, "LISA", CVPR; github.com/dvlab-research/LISA) as it was released, and data like it.

::

    reason_seg/ReasonSeg/
      train/ val/ test/           X.jpg with its X.json, side by side
      explanatory/train.json      [{"query", "outputs", "image": "X.jpg", "json": "X.json"}, ...]

    X.json    {"text": ["the sentence", "a paraphrase", ...], "is_sentence": true,
               "shapes": [{"label": "target" | "ignore" | "flag", "points": [[x, y], ...]}, ...]}

The folders of the splits may lie in ``reason_seg/ReasonSeg``, in ``ReasonSeg`` or directly where the path points. Points
are in pixels of the upright picture and may lie outside it. Tables of the same data are read by ``reasonseg_tables``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveal.errors import UserError
from foveal.examples import SPLITS, Split
from foveal.images import MAX_PIXELS, SUFFIXES, check_name, is_hidden, picture_size
from foveal.tasks.readers.annotations import (
    OnBad,
    Refusals,
    beyond_note,
    check_pixels,
    json_in,
    kind,
    numbers,
    reaches_beyond,
    read_bytes,
    side_in,
    text_in,
)
from foveal.tasks.readers.pictures import SizedPicture
from foveal.tasks.readers.splits import RELEASED, split_folders
from foveal.tasks.segmentation.objects import Query, Source
from foveal.tasks.segmentation.polygons import PolygonTarget, Shape
from foveal.tasks.segmentation.reasonseg_tables import find_tables, read_tables

#: Where the folders of the splits may lie.
ROOTS = (Path("reason_seg/ReasonSeg"), Path("ReasonSeg"), Path())
EXPLANATORY = Path("explanatory/train.json")
_SIDES = ("imageWidth", "imageHeight")
#: What is not UTF-8 among the released files.
FALLBACK = "cp1252"


@dataclass(frozen=True)
class Annotation:
    """What one JSON file says.

    Attributes:
        texts: The sentence and its paraphrases.
        is_sentence: Whether they are whole sentences; else phrases. True where the file does not say.
        shapes: All of them, in the file's order, those to be ignored and those without meaning ("flag"), too.
        size: Width and height of the picture that they were drawn on, where the file says (LabelMe's do).
    """

    texts: tuple[str, ...]
    is_sentence: bool
    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None = None


def read_reasonseg(
    path: Path, split: Split, *, on_bad: OnBad = "refuse", explanatory: bool = False, max_pixels: int = MAX_PIXELS
) -> Source:
    """The queries of a split: one for each picture.

    A folder of pictures and JSON files without folders of splits is a test split. An annotation without a shape that is
    meant is an empty target.

    Args:
        path: The folder of the release, one above it, one folder of pictures, or parquet (see ``read_tables``).
        split: Which one.
        on_bad: At a picture or a JSON file that cannot be used, that lacks the other, or that has another size.
        explanatory: Puts the answers of ``explanatory/train.json`` into ``extra["explanation"]`` of the train split's
            queries that have one; tables have none.
        max_pixels: Pictures with more pixels cannot be used.

    Raises:
        UserError: There is no such folder or split, something cannot be used, or nothing is left.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder; check data.source.")
    tables = find_tables(path)
    if tables:
        return read_tables(path, tables, split, on_bad=on_bad)
    root, folder = _split_folder(path, split)
    explanations = _explanations(root / EXPLANATORY) if explanatory and split == "train" else {}
    queries: list[Query] = []
    refusals, shapes, beyond = Refusals(on_bad), 0, 0
    for stem, pictures, annotation in _pairs(folder):
        try:
            query, target = _query(split, stem, pictures, annotation, explanations, max_pixels)
            drawn = [shape for shape in target.shapes if not shape.is_flag]
            shapes += len(drawn)
            beyond += sum(reaches_beyond(shape.sides[0], shape.sides[1], query.size) for shape in drawn)
            queries.append(query)
        except UserError as error:
            refusals.add_error(str(annotation or pictures[0]), error)
    if not queries:
        raise UserError(f"{folder}: holds no picture with its JSON file; check data.source.")
    notes = ["One folder without splits is taken as the test split."] if root == folder else []
    if explanations:
        count = sum("explanation" in q.extra for q in queries)
        notes.append(
            f"{count} of {len(queries)} queries have a written answer, of {len(explanations)} in {EXPLANATORY}."
        )
    notes += beyond_note(str(folder), "shapes", beyond, shapes)
    return Source(queries, str(folder), tuple(refusals.rows), tuple(notes))


def parse_annotation(text: str | bytes, name: str) -> Annotation:
    """What a JSON file says.

    Args:
        text: Its content; bytes are UTF-8, or else cp1252.
        name: What errors call it.

    Raises:
        UserError: It is no JSON, or something in it is missing or malformed.
    """
    content = json_in(text, name, fallback=FALLBACK)
    if not isinstance(content, dict):
        raise UserError(f"{name}: holds {kind(content)} where an object with text and shapes is needed; correct it.")
    texts = content.get("text")
    if not isinstance(texts, list) or not texts:
        what = "an empty list" if texts == [] else kind(texts)
        raise UserError(f"{name}: text is {what}, not a list of sentences; write what the picture is asked.")
    for number, one in enumerate(texts):
        if not isinstance(one, str) or not one.strip():
            what = "empty" if isinstance(one, str) else kind(one)
            raise UserError(f"{name}: text[{number}] is {what}, not a sentence; write or remove it.")
    is_sentence = content.get("is_sentence", True)
    if not isinstance(is_sentence, bool):
        raise UserError(f"{name}: is_sentence is {kind(is_sentence)}, not true or false; correct or remove it.")
    shapes = content.get("shapes")
    if not isinstance(shapes, list):
        raise UserError(f"{name}: shapes is {kind(shapes)}, not a list; give a list of polygons, empty for none.")
    read = tuple(_shape(shape, f"{name}, shapes[{number}]") for number, shape in enumerate(shapes))
    sides = [side_in(content, key, name) for key in _SIDES if content.get(key) is not None]
    size = (sides[0], sides[1]) if len(sides) == 2 else None
    return Annotation(tuple(one.strip() for one in texts), is_sentence, read, size)


def _shape(record: Any, where: str) -> Shape:
    if not isinstance(record, dict):
        raise UserError(f"{where}: is {kind(record)}, not an object with label and points; correct or remove it.")
    label, points = text_in(record, "label", where), record.get("points")
    if not isinstance(points, list) or not points:
        what = "an empty list" if points == [] else kind(points)
        raise UserError(f"{where}: points is {what}, not a list of points; correct it or remove the shape.")
    read = []
    for number, value in enumerate(points):
        point = numbers(value, 2)
        if point is None:
            raise UserError(f"{where}: points[{number}] is not two numbers; correct it or remove the shape.")
        read.append((point[0], point[1]))
    # LabelMe draws more than polygons: two corners of a rectangle, say, would be painted as a line.
    drawn = record.get("shape_type", "polygon")
    if drawn != "polygon" and label.lower() != "flag":
        raise UserError(f"{where}: shape_type is {drawn!r}, not 'polygon'; draw it as a polygon.")
    try:
        return Shape(label, tuple(read))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _query(
    split: Split, stem: str, pictures: list[Path], annotation: Path | None, explanations: Mapping[str, str],
    max_pixels: int,
) -> tuple[Query, PolygonTarget]:  # fmt: skip
    """The query of one pair of files, and its target.

    Raises:
        UserError: One of the two is missing or cannot be used.
    """
    if annotation is None:
        raise UserError(f"{pictures[0]}: has no {stem}.json beside it; restore that or remove the picture.")
    if not pictures:
        raise UserError(f"{annotation}: has no picture {stem}.jpg beside it; restore that or remove the file.")
    if len(pictures) > 1:
        names = " and ".join(p.name for p in pictures)
        raise UserError(f"{annotation}: {names} both have its name; keep the one that was annotated.")
    content = parse_annotation(read_bytes(annotation), str(annotation))
    check_pixels((v for shape in content.shapes for point in shape.points for v in point), str(annotation))
    size = picture_size(pictures[0], max_pixels=max_pixels)
    _check_place(content, annotation, pictures[0], size)
    extra = {"explanation": explanations[annotation.name]} if annotation.name in explanations else {}
    picture, target = SizedPicture(str(pictures[0]), pictures[0], size=size), PolygonTarget(size, content.shapes)
    name = f"{RELEASED[split]}/{stem}"
    return Query(name, picture, content.texts, content.is_sentence, size, target, extra), target


def _check_place(content: Annotation, annotation: Path, picture: Path, size: tuple[int, int]) -> None:
    """Refuses shapes that were not drawn on this picture at its size."""
    remedy = "use the picture that was annotated, unturned and unscaled"
    is_size = f"{picture.name}, which is {size[0]} x {size[1]} pixels"
    if content.size is not None and content.size != size:
        raise UserError(
            f"{annotation}: was drawn on a picture of {content.size[0]} x {content.size[1]} pixels ({', '.join(_SIDES)}), "
            f"not on {is_size}; {remedy}."
        )
    drawn = [(number, shape) for number, shape in enumerate(content.shapes) if not shape.is_flag]
    for number, shape in drawn:
        if shape.is_outside(size):
            (left, right), (top, bottom) = ((min(along), max(along)) for along in shape.sides)
            raise UserError(
                f"{annotation}, shapes[{number}]: the shape {shape.label!r} (x {left:g} to {right:g}, y {top:g} to "
                f"{bottom:g}) lies wholly outside {is_size}; {remedy}, or correct the shape."
            )


def _pairs(folder: Path) -> list[tuple[str, list[Path], Path | None]]:
    """For each name in a folder its pictures and its JSON file, sorted by name."""
    pictures: dict[str, list[Path]] = {}
    annotations: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if is_hidden(file.name) or not file.is_file():
            continue
        check_name(file)
        if file.suffix.lower() in SUFFIXES:
            pictures.setdefault(file.stem, []).append(file)
        elif file.suffix.lower() == ".json":
            annotations[file.stem] = file
    names = sorted(pictures.keys() | annotations.keys())
    return [(name, pictures.get(name, []), annotations.get(name)) for name in names]


def _split_folder(path: Path, split: Split) -> tuple[Path, Path]:
    """The folder of all splits and that of one; the same one twice where there are no splits.

    Raises:
        UserError: There is none, or two are one split.
    """
    for root in (path / place for place in ROOTS):
        there = split_folders(root)
        if not there:
            continue
        folders = sorted(there.get(split, []))
        if len(folders) > 1:
            raise UserError(f"{root}: {folders[0].name} and {folders[1].name} are both the {split} split; remove one.")
        if not folders:
            only = ", ".join(s for s in SPLITS if s in there)
            raise UserError(f"{root}: has no {split} split, only {only}; add a folder {RELEASED[split]}.")
        return root, folders[0]
    if not path.is_dir() or not any(annotation and pictures for _, pictures, annotation in _pairs(path)):
        raise UserError(
            f"{path}: holds neither folders train, val and test, nor pictures with their JSON files, nor parquet; "
            "check data.source."
        )
    if split != "test":
        raise UserError(
            f"{path}: has no folders of splits, so it is a test split only; put the {split} pictures into a folder "
            f"{RELEASED[split]} there."
        )
    return path, path


def _explanations(path: Path) -> dict[str, str]:
    """The written answers by the name of the JSON file that they belong to."""
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file; get the released one, or learn without it (--data.explanatory false)."
        )
    rows = json_in(read_bytes(path), str(path), fallback=FALLBACK)
    if not isinstance(rows, list):
        raise UserError(f"{path}: holds {kind(rows)}, not a list; get the released file again.")
    explanations = {}
    for number, row in enumerate(rows):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where}: is {kind(row)}, not an object with json and outputs; correct or remove it.")
        explanations[text_in(row, "json", where)] = text_in(row, "outputs", where)
    return explanations
