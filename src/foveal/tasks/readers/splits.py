"""The names of splits, and how the folders, files and splits of a source are found by them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from foveal.errors import UserError
from foveal.examples import Split
from foveal.images import check_name, is_hidden

#: The names of splits, the more usual ones first.
SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "eval": "test",
    "evaluation": "test",
}
#: Words that stand beside the name of a split: ``train_images``, ``Test Set``.
_BESIDE = ("set", "data", "dataset", "images", "image", "imgs", "img", "pictures", "photos", "folder", "split")
#: The usual names of the splits of published data sets.
RELEASED: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}


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


def split_named(text: str) -> Split | None:
    """The split that the first such word in a text names: ``reason-val-2`` is validation; None without one."""
    words = re.split("[^a-z]+", text.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def split_of_name(name: str) -> Split | None:
    """The split that a name means, in upper or lower case, numbered or not: ``Testing``, ``test1``, ``train_images``.

    Any further word makes it another name: ``partial-train`` and ``test tube`` mean no split.
    """
    words = [word for word in re.split("[^a-z]+", name.lower()) if word and word not in _BESIDE]
    if len(words) != 1 or not re.fullmatch(r"[a-z0-9 _.-]*", name.lower()):
        return None
    return SPLIT_NAMES.get(words[0]) or SPLIT_NAMES.get(words[0].removesuffix("set"))


def split_folders(*roots: Path) -> dict[Split, list[Path]]:
    """The folders of each split that has any, in upper or lower case.

    Args:
        roots: What they lie in; one that is no folder holds none.

    Returns:
        Those with the more usual name first, and of one name those of the earlier root. Folders like ``test1`` and
        ``train_images`` are a split's only where none has its plain name.
    """
    usual = list(SPLIT_NAMES)
    plain: dict[Split, list[tuple[int, int, Path]]] = {}
    others: dict[Split, list[tuple[int, int, Path]]] = {}
    for place, root in enumerate(roots):
        for folder in root.iterdir() if root.is_dir() else ():
            name = folder.name.lower()
            split = split_of_name(name)
            if split is not None and folder.is_dir():
                group, rank = (plain, usual.index(name)) if name in SPLIT_NAMES else (others, len(usual))
                group.setdefault(split, []).append((rank, place, folder))
    there = {split: sorted(plain.get(split) or others[split]) for split in (*plain, *others)}
    return {split: [folder for _, _, folder in ranked] for split, ranked in there.items()}


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder``, sorted; hidden ones and those that systems add are left out.

    Raises:
        UserError: A name is not UTF-8.
    """
    folders = sorted(p for p in folder.iterdir() if not is_hidden(p.name) and p.is_dir())
    for place in folders:
        check_name(place)
    return folders


def split_files(root: Path, split: Split, ending: str) -> list[Path]:
    """The files of a split by their own names or by that of their folder, as `datasets` lays them out, sorted."""
    names = [name for name, its in SPLIT_NAMES.items() if its == split]
    patterns = [p for name in names for p in (f"{name}*", f"data/{name}*", f"{name}/*")]
    return sorted({file for pattern in patterns for file in root.glob(f"{pattern}{ending}")})


def find_splits(names: Sequence[str], given: Mapping[str, str] | None = None, where: str = "The source") -> Splits:
    """Which of a source's splits serve as train, validation and test.

    A split whose name is not a usual one (``few_shot_5``, ``partition_0.1x``, ``extra``) is left out unless it is
    asked for by name; splits are never merged. A source whose only split is train, or one of any name, has no splits.

    Args:
        names: The splits of the source.
        given: The one that serves as ``train``, ``validation`` or ``test``, where the recipe names it.
        where: What messages call the source.

    Raises:
        UserError: There is no such split, two could be one, or none has a usual name.
    """
    given = dict(given or {})
    there = f"the source has {', '.join(names) or 'none'}"
    chosen = _given_splits(names, given, where, there)
    reasons = [f"The {split} split is {name!r}: data.splits says so." for split, name in chosen.items()]
    reasons += _usual_splits(names, chosen, where)
    if not chosen and len(names) == 1:
        return Splits({"train": names[0]}, True, (f"All rows are in {names[0]!r}: there are no splits.",))
    if not chosen:
        raise UserError(f"{where}: none of its splits is called train, validation or test; {there}; set data.splits.")
    left = [name for name in names if name not in chosen.values()]
    if left:
        reasons.append(
            f"Left out, and never merged with another: {', '.join(map(repr, left))}; data.splits chooses by name."
        )
    whole = list(chosen) == ["train"] and not given
    if whole:
        reasons.append(f"The source has no split beside {chosen['train']!r}: the others are held out of it.")
    return Splits(chosen, whole, tuple(reasons))


def _given_splits(names: Sequence[str], given: Mapping[str, str], where: str, there: str) -> dict[Split, str]:
    """The splits that the recipe names, checked."""
    for key, name in given.items():
        if key not in SPLIT_NAMES.values():
            raise UserError(f"data.splits: {key!r} is no split; give train, validation or test.")
        if name not in names:
            raise UserError(f"data.splits: {where} has no split {name!r}; {there}.")
    return {SPLIT_NAMES[key]: name for key, name in given.items()}


def _usual_splits(names: Sequence[str], chosen: dict[Split, str], where: str) -> list[str]:
    """Adds the splits that have a usual name to those that the recipe names; a sentence for each guess."""
    given, reasons = dict(chosen), []
    plain = {SPLIT_NAMES[name.lower()] for name in names if name.lower() in SPLIT_NAMES}
    for name in names:
        split = SPLIT_NAMES.get(name.lower()) or split_of_name(name)
        if split is None or split in given or name in given.values():
            continue
        if split in plain and name.lower() not in SPLIT_NAMES:
            continue  # ``train_100`` beside ``train`` is left out
        if split in chosen:
            raise UserError(
                f"{where}: {chosen[split]!r} and {name!r} are both the {split} split; set data.splits, e.g. "
                f"--data.splits '{{{split}: {name}}}'."
            )
        chosen[split] = name
        if name != split:
            reasons.append(f"The {split} split is {name!r}: a usual name of it.")
    return reasons


def split_of_file(path: str) -> tuple[str, str]:
    """The configuration and the split in the name of a table's file, as `datasets` lays files out.

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
        elif parents and split_of_name(parents[-1]):
            name = parents.pop()
    return "/".join(parents), name
