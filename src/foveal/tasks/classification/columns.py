"""Guesses which columns of a table are the picture and its label, and what its splits are, and says why.

Types are asked first (`datasets` notes them), then names. What is not one picture with one class is refused with the
reason: masks, boxes, several labels in a row, scores, captions, questions with answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from foveal.errors import UserError
from foveal.examples import Split
from foveal.images import SUFFIXES

Kind = Literal["image", "encoded", "path", "class", "integer", "bool", "text", "float", "list", "group", "other"]

#: What a split may be called, in any case.
SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
#: Usual names of a column of pictures, of paths too.
IMAGE_NAMES = (
    "image", "img", "pixel_values", "picture", "photo", "jpg", "png", "jpeg", "webp", "images", "tile", "image_path",
    "img_path", "image_file_path", "file_name", "filename", "file_path", "filepath", "file_id", "path", "file", "image_id",
)  # fmt: skip
#: Usual names of a column of labels, the more telling first; the first two win over the others.
LABEL_NAMES = (
    "label", "labels", "fine_label", "category", "class", "class_label", "target", "y", "species", "digit", "cls",
    "class_name", "class_id", "category_id", "breed", "variety", "ner", "coarse_label",
)  # fmt: skip
#: Columns that spell out what the numbers in a column ``label`` stand for.
SPELLED = (
    "label_name", "label_text", "label_str", "class_name", "category_name", "feature_name", "species_name", "cls_name",
)  # fmt: skip
#: Columns that say which split a row belongs to.
SPLIT_COLUMNS = ("split", "subset", "set", "phase")
_MASKS = re.compile(r"mask|annot|segm|seg\b|label|semantic|depth|target|gt", re.IGNORECASE)
_CAPTIONS = (
    "caption",
    "captions",
    "text",
    "texts",
    "sentence",
    "sentences",
    "sentences_raw",
    "description",
    "prompt",
    "txt",
)
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
_ASK = "set data.{key} to the right one."


@dataclass(frozen=True)
class Detected:
    """What was guessed, or taken from the recipe, and why.

    Attributes:
        image: Column of the pictures.
        label: Column of the labels.
        names: What the label's numbers stand for, where the data say it, in order; empty otherwise.
        split: Column that says which split a row belongs to; empty where there is none.
        reasons: A sentence for each guess.
    """

    image: str
    label: str
    names: tuple[str, ...] = ()
    split: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Splits:
    """The names in a source that serve as each split, and why.

    Attributes:
        chosen: The source's name of each split that it has.
        whole: The source has no splits: its rows are those of ``chosen["train"]``.
        reasons: A sentence for each guess.
    """

    chosen: Mapping[Split, str]
    whole: bool
    reasons: tuple[str, ...] = ()


def kind_of(feature: Any, samples: Sequence[Any] = ()) -> Kind:
    """What a column holds.

    Args:
        feature: As `datasets` describes it in JSON, e.g. ``{"_type": "Image"}``, or the name of a type in Arrow, e.g.
            ``int64``.
        samples: A few of its values.
    """
    if isinstance(feature, list):
        return "list"
    if isinstance(feature, Mapping):
        named = feature.get("_type")
        if named == "Image":
            return "image"
        if named == "ClassLabel":
            # Numbers that are called as they are have no names.
            return "class" if class_names(feature) else "integer"
        if named in ("Sequence", "List", "LargeList") or str(named).startswith("Array"):
            return "list"
        if named != "Value":
            return "group" if named is None else "other"
        feature = feature.get("dtype", "")
    return _kind_of_type(str(feature), [s for s in samples if s is not None and s not in ("", b"")])


def _kind_of_type(text: str, samples: Sequence[Any]) -> Kind:
    if inner := re.match(r"dictionary<values=([^,>]+)", text):
        text = inner[1]
    if text.startswith(("list", "large_list", "fixed_size_list")):
        return "list"
    if text.startswith("struct"):
        return "image" if re.fullmatch(r"struct<(bytes: \w+, path: \w+|path: \w+, bytes: \w+)>", text) else "group"
    if re.match(r"u?int\d+$", text):
        return "integer"
    if text.startswith(("float", "double", "half", "decimal")):
        return "float"
    if text in ("bool", "boolean"):
        return "bool"
    if "binary" in text:
        return "encoded" if not samples or any(bytes(s[:8]).startswith(_MAGIC) for s in samples) else "other"
    if "string" in text:
        paths = [str(s).strip().lower().endswith(SUFFIXES) for s in samples]
        return "path" if paths and all(paths) else "text"
    return "other"


def class_names(feature: Any) -> tuple[str, ...]:
    """The names of a ``ClassLabel``; none for another feature, and none where each number is its own name."""
    if not isinstance(feature, Mapping) or feature.get("_type") != "ClassLabel":
        return ()
    names = tuple(str(name) for name in feature.get("names") or ())
    return () if names == tuple(str(i) for i in range(len(names))) else names


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
        features: Name of each column to what ``kind_of`` takes.
        samples: A few rows.
        image_column: Taken instead of a guess.
        label_column: Taken instead of a guess.
        where: What a message calls the table.

    Raises:
        UserError: There is no such column, or several could be it, or the table is for another task.
    """
    values = {name: [row.get(name) for row in samples] for name in features}
    kinds = {name: kind_of(feature, values[name]) for name, feature in features.items()}
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


def _splits(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(v, str) and v.strip().lower() in SPLIT_NAMES for v in values)


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
        found = [name for name, k in kinds.items() if k == kind and name != label]
        if len(found) > 1 and kind == "path":
            known = [name for name in found if _usual(name) in IMAGE_NAMES]
            if len(known) == 1 and not any(_MASKS.search(name) for name in found):
                return known[0], f"{why}, and of {_listed(found)} it has a usual name"
        if len(found) > 1:
            masks = [name for name in found if _MASKS.search(name)]
            what = (
                f"{_listed(masks)} look like masks or maps of each pixel (segmentation)" if masks else "one is needed"
            )
            raise UserError(
                f"{where}: has {len(found)} columns of pictures, {_listed(found)}, and {what}; if it has classes too, "
                "set data.image_column and data.label_column."
            )
        if found:
            return found[0], why
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


def _preferred(found: Sequence[str], among: str, where: str) -> tuple[str, str]:
    """The one of several labels that is meant, and why."""
    if len(found) == 1:
        return found[0], f"the only one {among}"
    first = [name for name in found if _usual(name) in LABEL_NAMES[:2]]
    if len(first) == 1:
        return first[0], f"{among} {_listed(found)} it has the usual name"
    fine = [name for name in found if "fine" in _usual(name)]
    rest = [name for name in found if "coarse" not in _usual(name)]
    if len(fine) == 1 and rest == fine:
        return fine[0], f"it is finer than {_listed([n for n in found if n not in fine])}"
    usual = [name for name in found if _usual(name) in LABEL_NAMES]
    if len(usual) == 1:
        return usual[0], f"{among} {_listed(found)} it has a usual name"
    raise UserError(f"{where}: {_listed(found)} could each be the label; {_ASK.format(key='label_column')}")


def _refuse_task(others: Mapping[str, Kind], named: Sequence[str], where: str) -> None:
    """Refuses tables of other tasks, which have no column of one class for each picture."""
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
        "float": "fractions (regression: a score, no class)",
        "list": "lists (several labels in a row)",
        "image": "pictures (segmentation)",
        "encoded": "encoded pictures (segmentation)",
        "path": "names of picture files",
        "group": "groups of values",
        "other": "values of another type",
    }.get(kind, "")
    words = [len(str(v).split()) for v in values if v is not None]
    different = len({str(v) for v in values})
    if kind == "text" and len(words) >= 2 and sum(words) > 5 * len(words) and different == len(values):
        why = "a sentence of its own in each row (captions)"
    if why:
        key = "data.label_column: " if given else ""
        raise UserError(f"{key}{where}, column {name!r} holds {why}; one class for each picture is needed.")


def find_splits(names: Sequence[str], given: Mapping[str, str] | None = None, where: str = "The source") -> Splits:
    """Which of a source's splits serve as train, validation and test.

    A split whose name is not a usual one (``few_shot_5``, ``partition_0.1x``, ``extra``) is left out unless it is
    asked for by name; splits are never merged. A source whose only split is train, or one of any name, has no splits.

    Args:
        names: The source's own.
        given: Which of them serves as ``train``, ``validation`` or ``test``.
        where: What a message calls the source.

    Raises:
        UserError: There is no such split, two could be one, or none has a usual name.
    """
    given = dict(given or {})
    there = f"the source has {', '.join(names) or 'none'}"
    chosen: dict[Split, str] = {}
    reasons = []
    for key, name in given.items():
        if key not in SPLIT_NAMES.values():
            raise UserError(f"data.splits: {key!r} is no split; give train, validation or test.")
        if name not in names:
            raise UserError(f"data.splits: {where} has no split {name!r}; {there}.")
        chosen[SPLIT_NAMES[key]] = name
        reasons.append(f"The {key} split is {name!r}: data.splits says so.")
    for name in names:
        split = SPLIT_NAMES.get(name.lower())
        if split is None or split in given or name in given.values():
            continue
        if split in chosen:
            raise UserError(
                f"{where}: {chosen[split]!r} and {name!r} are both the {split} split; set data.splits, e.g. "
                f"--data.splits '{{{split}: {name}}}'."
            )
        chosen[split] = name
        if name != split:
            reasons.append(f"The {split} split is {name!r}: a usual name of it.")
    left = [name for name in names if name not in chosen.values()]
    if not chosen and len(names) == 1:
        return Splits({"train": names[0]}, True, (*reasons, f"All rows are in {names[0]!r}: there are no splits."))
    if not chosen:
        raise UserError(f"{where}: none of its splits is called train, validation or test; {there}; set data.splits.")
    if left:
        reasons.append(f"Left out, and never merged with another: {_listed(left)}; data.splits chooses by name.")
    whole = list(chosen) == ["train"] and not given
    if whole:
        reasons.append(f"The source has no split beside {chosen['train']!r}: the others are held out of it.")
    return Splits(chosen, whole, tuple(reasons))


def split_of_file(path: str) -> tuple[str, str]:
    """The configuration and the split that the name of a table's file tells, as `datasets` lays files out.

    ``data/train-00000-of-00002.parquet`` is train, ``fine/test-0.parquet`` is test of fine, ``fine/val/0000.parquet``
    is val of fine.

    Args:
        path: Relative to the source's folder, with / between its parts.
    """
    pure = PurePosixPath(path)
    parents = [part for part in pure.parent.parts if part not in ("data", ".")]
    name = re.sub(r"(^|[-_.])\d+([-_]of[-_]\d+)?([-_.][0-9a-f]{16})?$", "", pure.stem)
    if name.lower() in ("", "part", "data", "shard", "file", "metadata", "images", "table", "labels"):
        name = parents.pop() if parents else pure.stem
    elif name.lower() not in SPLIT_NAMES:
        words = [word for word in re.split(r"[-_.]", name) if word.lower() in SPLIT_NAMES]
        inside = re.search(r"shot|partition|partial|few", name, re.IGNORECASE)
        if len(words) == 1 and not inside and (name.startswith(words[0]) or name.endswith(words[0])):
            name = words[0]
        elif parents and parents[-1].lower() in SPLIT_NAMES:
            name = parents.pop()
    return "/".join(parents), name


def _usual(name: str) -> str:
    """A column's name as the lists above have it; ``json.label`` is a label in the JSON file of an archive's row."""
    return name.lower().removeprefix("json.")


def _plain(kind: Kind) -> str:
    return {"class": "classes", "integer": "numbers", "bool": "yes and no", "float": "fractions", "list": "lists"}.get(
        kind, "other values"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
