"""Reads pictures in class folders: ``root/<split>/<class>/...`` or ``root/<class>/...``.

A class folder may hold further folders. A picture outside every class folder has no label and is left out.
"""

from __future__ import annotations

from pathlib import Path

from foveal.errors import ImageError, UserError
from foveal.examples import Split
from foveal.images import SUFFIXES, Picture, find_images
from foveal.tasks.classification.rows import Row, Table
from foveal.tasks.readers.splits import split_folders, subfolders


def read_folder(root: Path, *, answering: bool = False) -> Table:
    """All rows below ``root`` and the names of the classes, sorted.

    Args:
        root: The folder.
        answering: Whether a model's answers are the classes, so that the folder may hold any number of them, and a split
            others than ``train``.

    Raises:
        UserError: The folder is missing or has no picture, there are fewer than two classes, one is empty, a split
            has a class that ``train`` lacks, or it is unclear which folders are splits.
    """
    splits = class_splits(root)
    names = class_names(root, least=1 if answering else 2)
    if not splits:
        return Table(names, {"train": _rows(root, root)}, whole=True)
    for split, folder in splits.items() if not answering else ():
        unknown = sorted({f.name for f in subfolders(folder)} - set(names))
        if unknown:
            raise UserError(
                f"{folder}: {_listed(unknown, split)} not among the classes of {splits['train']}; "
                "rename or remove them, or add them there."
            )
    return Table(names, {split: _rows(root, folder) for split, folder in splits.items()})


def class_names(root: Path, *, least: int = 2) -> tuple[str, ...]:
    """The names of the class folders, sorted: those of ``train`` where there are splits.

    Raises:
        UserError: See ``read_folder``.
    """
    splits = class_splits(root)
    folders = [splits["train"]] if "train" in splits else list(splits.values()) or [root]
    names = sorted({f.name for folder in folders for f in subfolders(folder)})
    if len(names) >= least:
        return tuple(names)
    where = ", ".join(map(str, folders))
    if names:
        raise UserError(f"{where}: there is only one class, {names[0]!r}; at least two folders of pictures are needed.")
    if has_pictures(folders[0]):
        raise UserError(f"{where}: the pictures lie in no class folder; put those of each class into one of its own.")
    raise UserError(f"{where}: holds no pictures ({', '.join(SUFFIXES)}); check the path.")


def class_splits(root: Path) -> dict[Split, Path]:
    """The folder of each split; none where ``root`` holds the class folders itself.

    A folder with the name of a split is one only if it holds folders, for a class may be called "train".

    Raises:
        UserError: There is no such folder, two folders are one split, or splits lie beside other pictures.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; check data.source.")
    splits: dict[Split, Path] = {}
    for split, called in split_folders(root).items():
        folders = sorted(folder for folder in called if subfolders(folder))
        if len(folders) > 1:
            both = f"{folders[0].name!r} and {folders[1].name!r}"
            raise UserError(f"{root}: {both} are both the {split} split; remove one.")
        if folders:
            splits[split] = folders[0]
    splits = dict(sorted(splits.items(), key=lambda item: item[1]))
    for folder in subfolders(root) if splits else ():
        if folder not in splits.values() and has_pictures(folder):
            raise UserError(
                f"{folder}: lies beside the split folder {next(iter(splits.values())).name!r}, but is no split with "
                "class folders in it; sort its pictures into class folders or move it elsewhere."
            )
    return splits


def has_pictures(folder: Path) -> bool:
    """Whether any picture lies below ``folder``."""
    try:
        return bool(find_images(folder))
    except ImageError:
        return False


def _rows(root: Path, folder: Path) -> list[Row]:
    rows = []
    for place in subfolders(folder):
        try:
            files = find_images(place)
        except ImageError:
            raise UserError(
                f"{place}: the folder of the class {place.name!r} holds no pictures ({', '.join(SUFFIXES)}); "
                "add some or remove the folder."
            ) from None
        rows += [Row(file.relative_to(root).as_posix(), Picture(str(file), file), place.name) for file in files]
    return rows


def _listed(names: list[str], split: Split) -> str:
    quoted = ", ".join(repr(name) for name in names)
    of = f"of the {split} split"
    return f"the class {quoted} {of} is" if len(names) == 1 else f"the classes {quoted} {of} are"
