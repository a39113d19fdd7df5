"""Reads pictures in class folders: ``root/<split>/<class>/...`` or ``root/<class>/...``.

A class folder may hold further folders. A picture outside every class folder has no label and is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from foveal.errors import ImageError, UserError
from foveal.examples import SPLITS, Split
from foveal.images import SUFFIXES, LeftOut, Picture, check_name, find_images, is_hidden, walk_images
from foveal.tasks.classification.rows import Row, Table
from foveal.tasks.readers.splits import SPLIT_NAMES, split_folders, split_of_name, subfolders


def read_folder(
    root: Path, given: Mapping[str, str] | None = None, classes: Collection[str] = (), *, answering: bool = False
) -> Table:
    """All rows below ``root`` and the names of the classes, sorted.

    Args:
        root: The folder.
        given: The folder that serves as ``train``, ``validation`` or ``test``, where the recipe names it.
        classes: The classes, where the recipe names them: folders of these names are no splits.
        answering: Whether a model's answers are the classes, so that the folder may hold any number of them, and a split
            others than ``train``.

    Raises:
        UserError: The folder is missing or has no picture, there are fewer than two classes, one is empty, a split
            has a class that ``train`` lacks, it is unclear which folders are splits, or a name is not UTF-8.
    """
    splits = class_splits(root, given, classes)
    names = class_names(root, given, classes, least=1 if answering else 2)
    left, rows = LeftOut(), {}
    for split, folder in (splits or {"train": root}).items():
        unknown = sorted({f.name for f in subfolders(folder)} - set(names))
        if unknown and not answering:
            raise UserError(
                f"{folder}: {_listed(unknown, split)} not among the classes of {splits['train']}; "
                "rename or remove them, or add them there."
            )
        rows[split] = _rows(root, folder, left)
    for place in {root, *splits.values()}:
        _count_strays(place, left)
    notes = [*_chosen(root, splits, dict(given or {})), left.sentence()]
    return Table(names, rows, whole=not splits, notes=tuple(note for note in notes if note))


def class_names(
    root: Path, given: Mapping[str, str] | None = None, classes: Collection[str] = (), *, least: int = 2
) -> tuple[str, ...]:
    """The names of the class folders, sorted: those of ``train`` where there are splits.

    Args:
        root: See ``read_folder``.
        given: See ``read_folder``.
        classes: See ``read_folder``.
        least: Fewest that there may be.

    Raises:
        UserError: See ``read_folder``.
    """
    splits = class_splits(root, given, classes)
    folders = [splits["train"]] if "train" in splits else list(splits.values()) or [root]
    names = sorted({f.name for folder in folders for f in subfolders(folder)})
    if len(names) >= least:
        return tuple(names)
    where = ", ".join(map(str, folders))
    if names:
        raise UserError(f"{where}: there is only one class, {names[0]!r}; at least two folders of pictures are needed.")
    left = LeftOut()
    if has_pictures(folders[0], left):
        raise UserError(f"{where}: the pictures lie in no class folder; put those of each class into one of its own.")
    raise UserError(f"{where}: holds no pictures ({', '.join(SUFFIXES)}){_passed_over(left)}; check the path.")


def class_splits(
    root: Path, given: Mapping[str, str] | None = None, classes: Collection[str] = ()
) -> dict[Split, Path]:
    """The folder of each split; none where ``root`` holds the class folders itself.

    A folder with the name of a split is one only if it holds folders, for a class may be called "train".

    Args:
        root: See ``read_folder``.
        given: See ``read_folder``.
        classes: See ``read_folder``.

    Raises:
        UserError: There is no such folder, two folders are one split, splits lie beside other pictures or inside class
            folders, or it is unclear whether a folder is a split or a class.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; check data.source.")
    splits = _given_splits(root, dict(given or {}))
    inside = subfolders(root)
    if not given and classes and set(classes) == {folder.name for folder in inside}:
        return {}
    for split, called in split_folders(root).items():
        folders = sorted(folder for folder in called if subfolders(folder) and folder not in splits.values())
        if split in splits or not folders:
            continue
        if len(folders) > 1:
            both = f"{folders[0].name!r} and {folders[1].name!r}"
            raise UserError(
                f"{root}: {both} are both the {split} split; remove one, or set data.splits, e.g. "
                f"--data.splits '{{{split}: {folders[0].name}}}'."
            )
        splits[split] = folders[0]
    splits = {split: splits[split] for split in SPLITS if split in splits}
    if not splits:
        _check_classes(root, inside)
    for folder in inside if splits and not given else ():
        if folder not in splits.values() and has_pictures(folder):
            raise UserError(
                f"{folder}: lies beside the split folder {next(iter(splits.values())).name!r}, but is no split with "
                "class folders in it; sort its pictures into class folders or move it elsewhere, or name the folders "
                "of the splits in data.splits."
            )
    return splits


def _given_splits(root: Path, given: Mapping[str, str]) -> dict[Split, Path]:
    """The folders that the recipe names.

    Raises:
        UserError: There is no such split or folder, or it holds no class folders.
    """
    splits: dict[Split, Path] = {}
    for key, name in given.items():
        if key not in SPLITS:
            raise UserError(f"data.splits: {key!r} is no split; give train, validation or test.")
        folder = root / name
        if not folder.is_dir() or root.resolve() not in folder.resolve().parents:
            there = ", ".join(f.name for f in subfolders(root)) or "none"
            raise UserError(f"data.splits: {root} has no folder {name!r}; its folders are {there}.")
        if not subfolders(folder):
            raise UserError(f"data.splits: {folder} holds no class folders; sort its pictures into such.")
        splits[SPLIT_NAMES[key]] = folder
    return splits


def _check_classes(root: Path, inside: list[Path]) -> None:
    """Refuses class folders that may be splits, and splits inside class folders.

    Raises:
        UserError: The remedy.
    """
    filled = [folder for folder in inside if has_pictures(folder)]
    named = [folder.name for folder in filled if split_of_name(folder.name)]
    # "train" is a class of many sets of vehicles, the others are none of any.
    if named and not (len(filled) > 1 and [name.lower() for name in named] == ["train"]):
        quoted = " and ".join([", ".join(map(repr, named[:-1]))] * (len(named) > 1) + [repr(named[-1])])
        is_named = "has the name of a split, but holds" if len(named) == 1 else "have the names of splits, but hold"
        listed = ", ".join(folder.name for folder in filled)
        what = f", or, if every folder is a class, set data.class_names: [{listed}]" if len(filled) > 1 else ""
        raise UserError(
            f"{root}: {quoted} {is_named} pictures and no class folders; sort the pictures of each split into class "
            f"folders (train/CLASS, test/CLASS){what}."
        )
    for folder in filled:
        within = [place.name for place in subfolders(folder) if split_of_name(place.name)]
        if len({split_of_name(name) for name in within}) > 1:
            raise UserError(
                f"{folder}: holds the split folders {', '.join(map(repr, within))}, which must be around the class folders; "
                f"turn them round, {within[0]}/{folder.name} in place of {folder.name}/{within[0]}."
            )


def _chosen(root: Path, splits: Mapping[Split, Path], given: Mapping[str, str]) -> list[str]:
    """Sentences about the folders that serve as splits under another name, and about those that are left out."""
    notes = []
    for split, folder in splits.items():
        name = folder.relative_to(root).as_posix()
        if split in given:
            notes.append(f"The {split} split is the folder {name!r}: data.splits says so.")
        elif name != split:
            notes.append(f"The {split} split is the folder {name!r}: a usual name of it.")
    if not splits and (trains := [f.name for f in subfolders(root) if split_of_name(f.name)]):
        notes.append(f"{trains[0]!r} is taken as a class, not as a split, as it holds no class folders.")
    rest = [f.name for f in subfolders(root) if not any(f in (s, *s.parents) for s in splits.values())]
    if given and rest:
        notes.append(f"Left out, and never merged with another: {', '.join(map(repr, rest))}; data.splits says so.")
    return notes


def has_pictures(folder: Path, left: LeftOut | None = None) -> bool:
    """Whether any picture lies below ``folder``; ``left`` counts the files before it that are none."""
    try:
        return next(walk_images(folder, left), None) is not None
    except ImageError:
        return False


def _rows(root: Path, folder: Path, left: LeftOut) -> list[Row]:
    rows = []
    for place in subfolders(folder):
        of_class = LeftOut()
        try:
            files = find_images(place, of_class)
        except ImageError:
            raise UserError(
                f"{place}: the folder of the class {place.name!r} holds no pictures ({', '.join(SUFFIXES)})"
                f"{_passed_over(of_class)}; add some or remove the folder."
            ) from None
        left.merge(of_class)
        for file in files:
            check_name(file, place)
        rows += [Row(file.relative_to(root).as_posix(), Picture(str(file), file), place.name) for file in files]
    return rows


def _passed_over(left: LeftOut) -> str:
    """What a folder without pictures holds, for a message about it."""
    return f" ({left.sentence().removesuffix('.')})" if left.count else ""


def _count_strays(folder: Path, left: LeftOut) -> None:
    """Counts the pictures and the links to nothing in a folder of class folders."""
    for path in sorted(folder.iterdir()):
        if is_hidden(path.name) or path.is_dir():
            continue
        if not path.exists():
            left.add("that are links to nothing", path)
        elif path.suffix.lower() in SUFFIXES:
            left.add("outside every class folder", path)


def _listed(names: list[str], split: Split) -> str:
    quoted = ", ".join(repr(name) for name in names)
    of = f"of the {split} split"
    return f"the class {quoted} {of} is" if len(names) == 1 else f"the classes {quoted} {of} are"
