"""Guesses which columns of a table are the picture and its label, and says why.

Columns are recognised by their types (as `datasets` stores them) and then by their names. Tables that are not one picture
with one class are refused with the reason: masks, boxes, several labels, scores, captions, questions with answers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from foveal.errors import UserError
from foveal.tasks.readers.splits import split_of_name
from foveal.tasks.readers.tables import Kind, class_names, kind_of

#: Usual names of a column of pictures or of paths to them.
IMAGE_NAMES = (
    "image", "img", "pixel_values", "picture", "photo", "jpg", "png", "jpeg", "webp", "images", "tile", "image_path",
    "img_path", "image_file_path", "file_name", "filename", "file_path", "filepath", "file_id", "path", "file", "image_id",
)  # fmt: skip
#: Usual names of a column of labels; the first two are preferred over the others.
LABEL_NAMES = (
    "label", "labels", "fine_label", "category", "class", "class_label", "target", "y", "species", "digit", "cls",
    "class_name", "class_id", "category_id", "breed", "variety", "ner", "coarse_label",
)  # fmt: skip
#: Columns with the names that belong to the numbers in a column ``label``.
SPELLED = (
    "label_name", "label_text", "label_str", "class_name", "category_name", "feature_name", "species_name", "cls_name",
)  # fmt: skip
#: Columns that hold the split of each row.
SPLIT_COLUMNS = ("split", "subset", "set", "phase")
_MASKS = re.compile(r"mask|annot|segm|seg\b|label|semantic|depth|target|gt", re.IGNORECASE)
_CAPTIONS = (
    "caption", "captions", "text", "texts", "sentence", "sentences", "sentences_raw", "description", "prompt", "txt",
)  # fmt: skip
_ASK = "set data.{key} to the right one."


@dataclass(frozen=True)
class Detected:
    """The columns that were guessed, or taken from the recipe, and why.

    Attributes:
        image: Column of the pictures.
        label: Column of the labels.
        names: The class names of the label's numbers, in order; empty where the data have none.
        split: Column with the split of each row; empty where there is none.
        reasons: A sentence for each guess.
    """

    image: str
    label: str
    names: tuple[str, ...] = ()
    split: str = ""
    reasons: tuple[str, ...] = ()


def detect(
    features: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]] = (),
    *,
    image_column: str = "",
    label_column: str = "",
    where: str = "The table",
) -> Detected:
    """Finds the columns of a table of classified pictures.

    Args:
        features: For each column its type, as ``kind_of`` takes it.
        samples: A few rows.
        image_column: Taken instead of a guess.
        label_column: Taken instead of a guess.
        where: What messages call the table.

    Raises:
        UserError: There is no such column, or several could be it, or the table is for another task.
    """
    values = {name: [row.get(name) for row in samples] for name in features}
    kinds = {name: kind_of(feature, values[name]) for name, feature in features.items()}
    kinds |= {name: "integer" for name, kind in kinds.items() if kind == "float" and are_whole(values[name])}
    columns = f"its columns are {', '.join(features) or 'none'}"
    for key, name in (("image_column", image_column), ("label_column", label_column)):
        if name and name not in features:
            raise UserError(f"data.{key}: {where} has no column {name!r}; {columns}.")
    image, why = _image(kinds, image_column, label_column, where, columns)
    reasons = [f"The picture is the column {image!r}: {why}."]
    label, why = _label(kinds, values, image, label_column, where, columns)
    reasons.append(f"The label is the column {label!r}: {why}.")
    names = class_names(features[label])
    if names:
        reasons.append(f"The {len(names)} class names are those that the data give for {label!r}.")
    split = next(
        (n for n in features if _usual(n) in SPLIT_COLUMNS and n not in (image, label) and _splits(values[n])), ""
    )
    if split:
        reasons.append(f"The column {split!r} says which split a row belongs to.")
    return Detected(image, label, names, split, tuple(reasons))


def are_whole(values: Sequence[Any]) -> bool:
    """Whether numbers, of which there are some, are whole: 1.0 is; what is no number (a cell is empty) does not count."""
    numbers = []
    for value in values:
        with suppress(TypeError, ValueError):
            numbers.append(float(value))
    finite = [number for number in numbers if math.isfinite(number)]
    return bool(finite) and all(number.is_integer() for number in finite)


def _splits(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(v, str) and split_of_name(v.strip()) is not None for v in values)


def _image(kinds: Mapping[str, Kind], given: str, label: str, where: str, columns: str) -> tuple[str, str]:
    if given:
        if kinds[given] in ("image", "encoded", "path", "text"):
            return given, "data.image_column says so"
        raise UserError(
            f"data.image_column: {where}, column {given!r} holds {_plain(kinds[given])}, no pictures; {columns}."
        )
    tiers: tuple[tuple[Kind, str], ...] = (
        ("image", "the only one of pictures"),
        ("encoded", "the only one of encoded pictures"),
        ("path", "its values are names of picture files"),
    )
    for kind, why in tiers:
        candidates = [name for name, k in kinds.items() if k == kind and name != label]
        if len(candidates) > 1 and kind == "path":
            known = [name for name in candidates if _usual(name) in IMAGE_NAMES]
            if len(known) == 1 and not any(_MASKS.search(name) for name in candidates):
                return known[0], f"{why}, and of {_listed(candidates)} it has a usual name"
        if len(candidates) > 1:
            masks = [name for name in candidates if _MASKS.search(name)]
            what = (
                f"{_listed(masks)} look like masks or maps of each pixel (segmentation)" if masks else "one is needed"
            )
            raise UserError(
                f"{where}: has {len(candidates)} columns of pictures, {_listed(candidates)}, and {what}; if it has classes too, "
                "set data.image_column and data.label_column."
            )
        if candidates:
            return candidates[0], why
    raise UserError(
        f"{where}: has no column of pictures or of paths to them; {columns}; {_ASK.format(key='image_column')}"
    )


def _label(
    kinds: Mapping[str, Kind],
    values: Mapping[str, Sequence[Any]],
    image: str,
    given: str,
    where: str,
    columns: str,
) -> tuple[str, str]:
    if given:
        _refuse_label(given, kinds[given], values[given], where, given=True)
        return given, "data.label_column says so"
    others = {name: kind for name, kind in kinds.items() if name != image and not name.startswith("__")}
    classes = [name for name, kind in others.items() if kind == "class" and _usual(name) not in SPLIT_COLUMNS]
    if classes:
        return _preferred(classes, "of the columns with named classes", where)
    named = [name for name in others if _usual(name) in LABEL_NAMES]
    _refuse_task(others, named, where)
    usable = [name for name in named if others[name] in ("integer", "bool", "text")]
    if not usable and named:
        _refuse_label(named[0], others[named[0]], values[named[0]], where)
    if usable:
        numbers = [name for name in usable if others[name] == "integer"]
        spelled = [name for name in others if _usual(name) in SPELLED and others[name] == "text"]
        if numbers and len(spelled) == 1 and set(usable) <= {*numbers, *spelled}:
            return spelled[0], f"the numbers in {_listed(numbers)} have no names, and it has"
        label, why = _preferred(usable, "of the columns with a usual name", where)
        _refuse_label(label, others[label], values[label], where)
        return label, why
    return _only_other(others, values, where, columns)


def _only_other(
    others: Mapping[str, Kind], values: Mapping[str, Sequence[Any]], where: str, columns: str
) -> tuple[str, str]:
    """The one column beside the picture, where its values occur more than once; otherwise the table is refused."""
    if len(others) == 1:
        (name, kind) = next(iter(others.items()))
        filled = [v for v in values[name] if v is not None]
        if kind in ("integer", "bool", "text") and len(filled) > len(set(filled)):
            _refuse_label(name, kind, values[name], where)
            return name, "the only other one, and its values repeat"
    raise UserError(
        f"{where}: has no column of labels ({', '.join(LABEL_NAMES[:6])} ...); {columns}; {_ASK.format(key='label_column')}"
    )


def _preferred(candidates: Sequence[str], among: str, where: str) -> tuple[str, str]:
    """The label column among several candidates, and why."""
    if len(candidates) == 1:
        return candidates[0], f"the only one {among}"
    first = [name for name in candidates if _usual(name) in LABEL_NAMES[:2]]
    if len(first) == 1:
        return first[0], f"{among} {_listed(candidates)} it has the usual name"
    fine = [name for name in candidates if "fine" in _usual(name)]
    rest = [name for name in candidates if "coarse" not in _usual(name)]
    if len(fine) == 1 and rest == fine:
        return fine[0], f"it is finer than {_listed([n for n in candidates if n not in fine])}"
    usual = [name for name in candidates if _usual(name) in LABEL_NAMES]
    if len(usual) == 1:
        return usual[0], f"{among} {_listed(candidates)} it has a usual name"
    raise UserError(f"{where}: {_listed(candidates)} could each be the label; {_ASK.format(key='label_column')}")


def _refuse_task(others: Mapping[str, Kind], named: Sequence[str], where: str) -> None:
    """Refuses tables of other tasks."""
    if any(others[name] in ("integer", "bool", "text") for name in named):
        return
    lower = {_usual(name): name for name in others}
    boxes = [n for n in ("objects", "bbox", "bboxes", "boxes", "annotations", "digits") if n in lower]
    boxes = [n for n in boxes if others[lower[n]] in ("list", "group")]
    captions = [n for n in _CAPTIONS if n in lower and others[lower[n]] in ("text", "list")]
    what = ""
    if "question" in lower or "questions" in lower:
        what = "questions with answers (visual question answering)"
    elif boxes:
        what = f"boxes of several objects in a picture ({lower[boxes[0]]!r}, detection)"
    elif captions and not named:
        what = f"captions ({lower[captions[0]]!r})"
    if what:
        raise UserError(f"{where}: holds {what}, not one class for each picture; {_ASK.format(key='label_column')}")


def _refuse_label(name: str, kind: Kind, values: Sequence[Any], where: str, *, given: bool = False) -> None:
    """Refuses a column that holds no classes."""
    why = {
        # What the recipe names is taken at its word, where it can be a class at all.
        **({} if given else {"float": "fractions (regression: a score, no class)", "path": "names of picture files"}),
        "list": "lists (several labels in a row)",
        "image": "pictures (segmentation)",
        "encoded": "encoded pictures (segmentation)",
        "group": "groups of values",
        "other": "values of another type",
    }.get(kind, "")
    words = [len(str(v).split()) for v in values if v is not None]
    different = len({str(v) for v in values})
    if not given and kind == "text" and len(words) >= 2 and sum(words) > 5 * len(words) and different == len(values):
        why = "a sentence of its own in each row (captions)"
    if why:
        key = "data.label_column: " if given else ""
        raise UserError(f"{key}{where}, column {name!r} holds {why}; one class for each picture is needed.")


def _usual(name: str) -> str:
    """A column's name as the lists above have it; ``json.label`` is a label in the JSON file of an archive's row."""
    return name.lower().removeprefix("json.")


def _plain(kind: Kind) -> str:
    return {"class": "classes", "integer": "numbers", "bool": "yes and no", "float": "fractions", "list": "lists"}.get(
        kind, "other values"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
