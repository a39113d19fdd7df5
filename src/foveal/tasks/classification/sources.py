"""Recognises a source of classified pictures, fetches it where it is on the Hub, and lists its files.

The card in the README.md of a data set names the files of each configuration and split.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from foveal.config.yaml_files import parse_yaml
from foveal.errors import UserError
from foveal.files import check_input
from foveal.images import SUFFIXES, is_hidden
from foveal.tasks.classification.folder import class_names, has_pictures, read_folder
from foveal.tasks.classification.rows import Table, Tables, Wanted, columns_of, table_of
from foveal.tasks.readers.annotations import json_in
from foveal.tasks.readers.json_lines import read_json_lines
from foveal.tasks.readers.shards import read_tar
from foveal.tasks.readers.splits import split_of_file, subfolders
from foveal.tasks.readers.tables import IN_MEMORY, Frame, open_arrow, read_csv

#: Files of rows, by ending.
_TABLES = (".parquet", ".arrow", ".csv", ".tsv", ".jsonl", ".tar")
#: Files called ``metadata``, of which the first kind that is there is the table of pictures that lie loose.
_METADATA = ((".csv", ".tsv"), (".jsonl",), (".parquet",))
_PACKED = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
#: Folders that hold a table's pictures.
_HOLDER = re.compile(r"(^|[_-])(train|test|val|valid|images?|imgs?|pictures|photos)([_-]|$)", re.IGNORECASE)
#: What is fetched from the Hub.
_FETCHED = (
    "README.md", "mapping.json", "state.json", "dataset_dict.json", "dataset_info.json",
    *(f"*{s}" for s in _TABLES), *(f"*{s}" for s in SUFFIXES), *(f"*{s.upper()}" for s in SUFFIXES),
)  # fmt: skip
#: Data sets that are often called without their owner, under names that the Hub no longer has.
_MOVED = {
    "cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100", "food101": "ethz/food101", "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist", "beans": "AI-Lab-Makerere/beans", "svhn": "ufldl-stanford/svhn",
    "imagenet-1k": "ILSVRC/imagenet-1k", "cats_vs_dogs": "microsoft/cats_vs_dogs",
}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """The facts about files and classes in the YAML at the head of a README.md.

    Attributes:
        files: For each configuration, patterns of the files of each split; empty where the card is silent.
        default: Configurations that are marked as the default.
        names: For each configuration and column, its class names.
    """

    files: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    default: tuple[str, ...] = ()
    names: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)

    def split_of(self, path: str) -> tuple[str, str] | None:
        """The configuration and the split of a file, or None where the card does not name it."""
        for config, splits in self.files.items():
            for split, patterns in splits.items():
                if any(fnmatchcase(path, _plain(pattern)) for pattern in patterns):
                    return config, split
        return None


@dataclass(frozen=True)
class Files:
    """The files of a source's splits.

    Attributes:
        splits: The files of each split of the source.
        card: The facts in its README.md.
        config: The configuration that was chosen.
        notes: What was guessed.
    """

    splits: Mapping[str, Sequence[Path]]
    card: Card = field(default_factory=Card)
    config: str = ""
    notes: tuple[str, ...] = ()


def read_source(source: str, wanted: Wanted) -> Table:
    """All rows of a source.

    In the order in which they are looked for: a table or an archive; a folder that `datasets` saved; a folder with
    ``metadata.csv``, ``metadata.jsonl`` or ``metadata.parquet`` that has labels; of class folders; of parquet or Arrow
    files; of tar archives (WebDataset); of tables with paths.
    Where there is nothing of that path, OWNER/NAME or OWNER/NAME@REVISION of a data set on the Hub, which holds any of
    these.

    Args:
        source: The path or name.
        wanted: The recipe's settings about it.

    Raises:
        UserError: There is no such source, it is malformed, or for another task.
    """
    path = Path(source).expanduser()
    if path.exists():
        return _read(path, str(path), wanted)
    from foveal import hub  # its client takes a while to import

    if not hub.is_source(source):
        moved = _MOVED.get(source)
        hint = f"on the Hub the data set of that name is {moved}" if moved else "check data.source"
        raise UserError(f"{source}: there is no such folder; {hint}.")
    place, origin = hub.locate(source, _FETCHED)
    try:
        return _read(place, origin, wanted, from_hub=True)
    except UserError as error:
        # A message names the data set, not where its copy lies.
        raise type(error)(str(error).replace(str(place), source)) from error


def _read(path: Path, origin: str, wanted: Wanted, *, from_hub: bool = False) -> Table:
    check_input(path)
    if path.is_file():
        if path.suffix.lower() not in _TABLES:
            remedy = "unpack it and give the folder" if path.suffix.lower() in _PACKED else "give a folder"
            raise UserError(f"{path}: is no table of pictures; {remedy}, or a file ending in {', '.join(_TABLES)}.")
        files = Files({split_of_file(path.name)[1]: [path]})
        return _table(files, path.parent, origin, wanted)
    if saved := _saved(path):
        return _table(Files(saved), path, origin, wanted)
    metadata = _metadata(path)
    if not wanted.label_column and _class_folders(path, wanted):
        why = _no_labels(metadata[0], wanted) if metadata else ""
        if why or not metadata:
            return _folders(path, origin, wanted, from_hub, why)
    for endings in ((".parquet",), (".arrow",), (".tar",), (".csv", ".tsv", ".jsonl")):
        tables = metadata or _find(path, endings, depth=1 if ".csv" in endings else 3)
        if tables:
            return _table(_sorted(tables, path, wanted, origin), path, origin, wanted)
    if from_hub and not has_pictures(path):
        raise UserError(
            f"{origin}: has no table and no loose pictures, perhaps archives or a script; give "
            "OWNER/NAME@refs/convert/parquet, where the Hub keeps most data sets as parquet."
        )
    return _folders(path, origin, wanted, from_hub)


def _metadata(path: Path) -> list[Path]:
    """The files called ``metadata`` of the first kind that is there."""
    for endings in _METADATA:
        if found := [p for p in _find(path, endings, depth=3) if p.stem.lower() == "metadata"]:
            return found
    return []


def _no_labels(table: Path, wanted: Wanted) -> str:
    """A sentence about a table beside class folders that gives its pictures no classes, e.g. captions; else empty."""
    frame = _open(table)
    try:
        columns_of(frame, wanted)
    except UserError as error:
        return f"Not read, as there are class folders: {error}"
    return "" if frame.samples() else f"Not read, as there are class folders: {table}: holds no rows."


def _folders(path: Path, origin: str, wanted: Wanted, from_hub: bool, why: str = "") -> Table:
    """The rows of class folders.

    Args:
        path: The folder.
        origin: What messages call it.
        wanted: The recipe's settings.
        from_hub: Whether it is from the Hub.
        why: A sentence about a table that is not read.

    Raises:
        UserError: See ``read_folder``; or the recipe asks for something that only tables have.
    """
    for key in ("image_column", "label_column", "reasoning_column", "config", "picture_folder"):
        if getattr(wanted, key):
            raise UserError(f"data.{key}: is for tables, and {origin} holds folders of pictures; remove the key.")
    table = read_folder(path, wanted.splits, wanted.class_names, answering=wanted.answering)
    tables = [t for t in _find(path, _TABLES, depth=1) if not why.count(str(t))]
    notes = [f"The {len(table.names)} class names are those of the folders."] if tables or from_hub else []
    if tables:
        notes.append(f"Not read, as there are class folders: {', '.join(t.name for t in tables)}.")
    notes += [why] if why else []
    return replace(table, origin=origin if from_hub else "", notes=(*notes, *table.notes))


def _table(files: Files, root: Path, origin: str, wanted: Wanted) -> Table:
    every = [file for group in files.splits.values() for file in group]
    mapped = sum(file.stat().st_size for file in every if file.suffix.lower() == ".parquet") > IN_MEMORY

    roots = (root, Path(wanted.picture_folder).expanduser()) if wanted.picture_folder else (root,)

    def opened(file: Path) -> Frame:
        return _open(file, mapped=mapped, roots=roots)

    names = files.card.names.get(files.config) or files.card.names.get(files.config or "default") or {}
    return table_of(Tables(files.splits, opened, root, origin, names, files.notes, roots), wanted)


def _open(file: Path, *, mapped: bool = False, roots: tuple[Path, ...] = ()) -> Frame:
    """A table or an archive; see ``ArrowFile`` for the options."""
    suffix = file.suffix.lower()
    if suffix == ".tar":
        return read_tar(file)
    if suffix in (".csv", ".tsv"):
        return read_csv(file)
    if suffix == ".jsonl":
        return read_json_lines(file)
    return open_arrow(file, mapped=mapped, roots=roots)


def _saved(path: Path) -> dict[str, list[Path]]:
    """The files of each split of a folder written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`.

    Raises:
        UserError: One of its index files is missing or damaged.
    """
    whole = path / "dataset_dict.json"
    file = whole
    try:
        if whole.is_file():
            splits = json_in(whole.read_bytes(), str(whole))["splits"]
            folders = {str(split): path / str(split) for split in splits}
        elif (path / "state.json").is_file():
            folders = {"": path}
        else:
            return {}
        splits_of = {}
        for split, folder in folders.items():
            file = folder / "state.json"
            state = json_in(file.read_bytes(), str(file))
            splits_of[split or str(state.get("_split") or "train")] = [
                folder / Path(entry["filename"]).name for entry in state["_data_files"]
            ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); save the data set again with `save_to_disk`.") from None
    return splits_of


def _find(root: Path, endings: Sequence[str], depth: int) -> list[Path]:
    """Files of some endings, at most so many folders deep, sorted; hidden ones are left out."""
    files = [p for p in root.iterdir() if p.suffix.lower() in endings and not is_hidden(p.name) and p.is_file()]
    if depth > 1:
        files += [p for folder in subfolders(root) for p in _find(folder, endings, depth - 1)]
    return sorted(files)


def _class_folders(root: Path, wanted: Wanted) -> bool:
    """Whether a folder has class folders; ``train_images`` and ``test_images`` beside a table are none."""
    try:
        given = wanted.splits if all((root / name).is_dir() for name in wanted.splits.values()) else {}
        names = class_names(root, given, wanted.class_names)
    except UserError:
        return False
    if not _find(root, (".csv", ".tsv", ".jsonl"), depth=1):
        return any(has_pictures(folder) for folder in subfolders(root))
    return not all(_HOLDER.search(n) for n in names) and all(has_pictures(folder) for folder in subfolders(root))


def _sorted(files: Sequence[Path], root: Path, wanted: Wanted, origin: str) -> Files:
    """The files of the splits of one configuration.

    Raises:
        UserError: There are several configurations, and none was asked for or is the default.
    """
    card = read_card(root)
    groups: dict[str, dict[str, list[Path]]] = {}
    for file in files:
        relative = file.relative_to(root).as_posix()
        place = card.split_of(relative) if card.files else split_of_file(relative)
        if place is not None:
            groups.setdefault(place[0], {}).setdefault(place[1], []).append(file)
    if not groups:  # the card names other files
        card = Card(names=card.names)
        for file in files:
            config, split = split_of_file(file.relative_to(root).as_posix())
            groups.setdefault(config, {}).setdefault(split, []).append(file)
    configs = [config for config in groups if config in card.default] or list(groups)
    names = ", ".join(repr(config) for config in groups)
    if wanted.config and wanted.config not in groups:
        raise UserError(f"data.config: {origin} has no configuration {wanted.config!r}; it has {names}.")
    if not wanted.config and len(configs) > 1:
        raise UserError(f"{origin}: holds several tables, {names}; choose one with data.config.")
    config = wanted.config or configs[0]
    rest = [other for other in groups if other != config]
    notes = (f"The table is {config!r}, the default one; left out: {', '.join(map(repr, rest))}.",) if rest else ()
    return Files(groups[config], card, config, () if wanted.config else notes)


def read_card(folder: Path) -> Card:
    """The card of a folder; an empty one where there is none, or none that can be read."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        block = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
        head = parse_yaml(block[1], str(folder / "README.md")) if block else None
    except (OSError, UnicodeDecodeError, UserError):
        return Card()  # nothing depends on the card
    if not isinstance(head, dict):
        return Card()
    files: dict[str, dict[str, list[str]]] = {}
    default = []
    for config in _dicts(head.get("configs")):
        name = str(config.get("config_name", "default"))
        splits = _splits(config.get("data_files"))
        if splits:
            files[name] = splits
            if name == "default" or config.get("default") is True:
                default.append(name)
    names = {str(info.get("config_name", "default")): _names(info) for info in _dicts(head.get("dataset_info"))}
    return Card(files, tuple(default), names)


def _dicts(value: Any) -> list[dict[str, Any]]:
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, dict)]


def _splits(value: Any) -> dict[str, list[str]]:
    if isinstance(value, str):
        return {"train": [value]}
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return {"train": list(value)}
    splits: dict[str, list[str]] = {}
    for entry in _dicts(value):
        path = entry.get("path")
        if "split" in entry and path:
            splits.setdefault(str(entry["split"]), []).extend([path] if isinstance(path, str) else map(str, path))
    return splits


def _names(info: Mapping[str, Any]) -> dict[str, list[str]]:
    """The class names of each column in a card's list of features."""
    columns = {}
    for feature in _dicts(info.get("features")):
        dtype = feature.get("dtype")
        label = dtype.get("class_label") if isinstance(dtype, dict) else None
        names = label.get("names") if isinstance(label, dict) else None
        if isinstance(names, dict):
            columns[str(feature.get("name"))] = [
                str(names[key]) for key in sorted(names, key=lambda k: (len(str(k)), str(k)))
            ]
        elif isinstance(names, list):
            columns[str(feature.get("name"))] = [str(name) for name in names]
    return columns


def _plain(pattern: str) -> str:
    return pattern.removeprefix("./").replace("**/", "*").replace("**", "*")
