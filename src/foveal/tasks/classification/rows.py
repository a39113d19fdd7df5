"""Labelled pictures, and how they are read from tables; a picture's file is opened only when the picture is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from foveal.errors import ImageError, UserError
from foveal.examples import SPLITS, Split
from foveal.images import Encoded, Picture
from foveal.tasks.classification.columns import Detected, detect
from foveal.tasks.classification.labels import name_labels, read_mapping
from foveal.tasks.readers.annotations import OnBad, Refusals
from foveal.tasks.readers.pictures import picture_path
from foveal.tasks.readers.splits import Splits, find_splits
from foveal.tasks.readers.tables import Frame, class_names, kind_of


@dataclass(frozen=True)
class Row:
    """One labelled picture.

    Attributes:
        id: Unique in its source and the same on every machine, e.g. the path below the source's folder.
        picture: Decoded when opened.
        label: Name of its class.
        reason: Why it is of that class, as its table's cell has it; None where the table has no reasons.
    """

    id: str
    picture: Picture
    label: str
    reason: Any = None


@dataclass(frozen=True)
class Table:
    """The labelled pictures of a source.

    Attributes:
        names: All class names, in the source's order.
        splits: The rows of each split that the source has.
        whole: The source has no splits: ``splits`` holds all rows as ``train``, and the test rows are held out of them.
        numbered: The data themselves have the name of each number, in the order of ``names``.
        origin: Where the rows came from; empty for the source as it was given.
        notes: What was guessed about the source, and why, a sentence each.
        skipped: (row, reason) of each row of a split that is left out, as it has no label.
    """

    names: tuple[str, ...]
    splits: Mapping[Split, Sequence[Row]]
    whole: bool = False
    numbered: bool = False
    origin: str = ""
    notes: tuple[str, ...] = ()
    skipped: Mapping[Split, Sequence[tuple[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """The settings of a recipe about its source; what is empty is guessed.

    Attributes:
        image_column: Column of the pictures.
        label_column: Column of the labels.
        class_names: The names of the classes; where numbers have no names in the data, from 0 on.
        splits: The source's split that serves as train, validation or test.
        config: The configuration, where the source has several tables.
        reasoning_column: Column of the reasons; none are read without it.
        on_bad_label: Whether rows without a label are an error, or left out.
        answering: Whether the classes are the answers of a model that did not learn from this source, which may lack some.
        picture_folder: Folder of the pictures that a table names, where they lie elsewhere.
    """

    image_column: str = ""
    label_column: str = ""
    class_names: tuple[str, ...] = ()
    splits: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    reasoning_column: str = ""
    on_bad_label: OnBad = "refuse"
    answering: bool = False
    picture_folder: str = ""


@dataclass(frozen=True)
class _Cell:
    """A row before its label has a name."""

    id: str
    where: str
    picture: str | Encoded | None
    label: Any
    folder: Path
    reason: Any = None


@dataclass(frozen=True)
class Tables:
    """The tables of a source.

    Attributes:
        files: The files of each split of the source.
        opened: Opens a file.
        root: Where a mapping.json may lie.
        origin: What messages call the source.
        names: Class names of columns, from the source's README.md.
        notes: What was guessed before, a sentence each.
        roots: Folders that pictures must lie in, see ``picture_path``.
    """

    files: Mapping[str, Sequence[Path]]
    opened: Callable[[Path], Frame]
    root: Path
    origin: str
    names: Mapping[str, Sequence[str]]
    notes: Sequence[str] = ()
    roots: tuple[Path, ...] = ()


def table_of(tables: Tables, wanted: Wanted) -> Table:
    """The rows of a source's tables.

    Raises:
        UserError: Columns, splits or labels are missing, ambiguous, contradictory or for another task.
    """
    train = wanted.splits.get("train", "train")
    likely_train = train if train in tables.files else next(iter(tables.files))
    first = _first_with_rows(tables, likely_train)
    columns = columns_of(first, wanted)
    if len(tables.files) > 1 and columns.split:
        reasons = tuple(reason for reason in columns.reasons if repr(columns.split) not in reason)
        columns = replace(columns, split="", reasons=reasons)
    splits, cells = _read_splits(tables, columns, wanted)
    known, naming = _known(columns, first, tables.names, tables.root)
    labels = name_labels(
        {split: [cell.label for cell in rows] for split, rows in cells.items()},
        kind_of(first.features[columns.label], [row.get(columns.label) for row in first.samples()]),
        known,
        wanted.class_names,
        f"the column {columns.label!r} of {tables.origin}",
        answering=wanted.answering,
        chosen=bool(wanted.label_column),
    )
    parts: dict[Split, Sequence[Row]] = {}
    skipped: dict[Split, Sequence[tuple[str, str]]] = {}
    notes: list[str] = []
    for split, rows in cells.items():
        refusals = Refusals(wanted.on_bad_label)
        labelled, truths = _truths(rows, labels.of[split], columns.label, split, refusals)
        if rows and not truths:
            notes.append(f"The {split} split has no labels and is left out.")
            continue
        parts[split], places = _rows(labelled, truths, splits.chosen[split], tables.roots)
        notes += places
        if refusals.rows:
            skipped[split] = refusals.rows
            notes.append(f"{len(refusals.rows):,} of {len(rows):,} rows of the {split} split have no label: left out.")
    if not any(parts.values()):
        raise UserError(f"{tables.origin}: holds no labelled rows; check data.source.")
    if len(labels.names) < 2 and not wanted.answering:
        where = f"{tables.origin}, column {columns.label!r}"
        raise UserError(f"{where}: there is only one class, {labels.names[0]!r}; at least two are needed.")
    whole = splits.whole or (list(parts) == ["train"] and not wanted.splits)
    sentences = (*tables.notes, *columns.reasons, *splits.reasons, *naming, *labels.notes, *notes)
    return Table(labels.names, parts, whole, labels.numbered, tables.origin, tuple(dict.fromkeys(sentences)), skipped)


def _first_with_rows(tables: Tables, split: str) -> Frame:
    """The first table that has rows, of this split where one has.

    Raises:
        UserError: None has.
    """
    every = [*tables.files[split], *(file for files in tables.files.values() for file in files)]
    opened = map(tables.opened, every)
    first = next((frame for frame in opened if frame.samples()), None)
    if first is None:
        raise UserError(f"{every[0]}: holds no rows; add some, or check data.source.")
    return first


def columns_of(frame: Frame, wanted: Wanted) -> Detected:
    """The columns of the pictures, labels and splits."""
    reasons = wanted.reasoning_column
    if reasons and reasons not in frame.features:
        raise UserError(
            f"data.reasoning_column: {frame.place} has no column {reasons!r}; its columns are {', '.join(frame.features)}."
        )
    return detect(
        # Reasons look like captions, and are no label.
        {name: feature for name, feature in frame.features.items() if name != reasons},
        frame.samples(),
        image_column=wanted.image_column,
        label_column=wanted.label_column,
        where=str(frame.place),
    )


def _read_splits(tables: Tables, columns: Detected, wanted: Wanted) -> tuple[Splits, dict[Split, list[_Cell]]]:
    """The splits that are used, and the rows of each: by the column of splits where there is one, else by file."""
    cells: Mapping[str, list[_Cell]]
    if columns.split:
        (files,) = tables.files.values()
        cells = _by_column([tables.opened(file) for file in files], columns, wanted.reasoning_column)
        splits = find_splits(list(cells), wanted.splits, tables.origin)
    else:
        splits = find_splits(list(tables.files), wanted.splits, tables.origin)
        cells = {
            name: _cells([tables.opened(f) for f in tables.files[name]], columns, name, wanted.reasoning_column)
            for name in splits.chosen.values()
        }
    return splits, {split: cells[splits.chosen[split]] for split in SPLITS if split in splits.chosen}


def _truths(
    cells: Sequence[_Cell], labels: Sequence[str | None], column: str, split: str, refusals: Refusals
) -> tuple[list[_Cell], list[str]]:
    """The rows that have a class, and their classes; none where no row has one.

    Raises:
        UserError: Some rows have a class, and others have none, and these are not to be left out.
    """
    pairs = [(cell, label) for cell, label in zip(cells, labels, strict=True) if label is not None]
    missing = [cell for cell, label in zip(cells, labels, strict=True) if label is None] if pairs else []
    words = sorted({str(cell.label).strip() for cell in missing if isinstance(cell.label, str)} - {""})
    for cell in missing:
        said = f" ({cell.label.strip()!r})" if isinstance(cell.label, str) and cell.label.strip() else ""
        named = (
            f"; if {' or '.join(map(repr, words))} is a class, list all classes in data.class_names" if words else ""
        )
        sentence = (
            f"{cell.where}: has no label in {column!r}{said}; fill it in or remove the row, or set data.on_bad_label: "
            f"skip, which leaves out {len(missing):,} of {len(cells):,} rows of the {split} split{named}."
        )
        refusals.add(cell.where, f"has no label in {column!r}{said}.", sentence)
    return [cell for cell, _ in pairs], [label for _, label in pairs]


def _cells(frames: Sequence[Frame], columns: Detected, split: str, reasons_in: str) -> list[_Cell]:
    """The rows of a split."""
    cells: list[_Cell] = []
    taken: set[str] = set()
    for frame in frames:
        for column in (columns.image, columns.label):
            if column not in frame.features:
                raise UserError(f"{frame.place}: has no column {column!r}; it has {', '.join(frame.features)}.")
        names = class_names(frame.features[columns.label])
        if names != columns.names:
            raise UserError(
                f"{frame.place}: its class names for {columns.label!r}, {', '.join(names) or 'none'}, are not "
                f"{', '.join(columns.names) or 'none'} as in the source's other files; save them with one mapping."
            )
        pictures, labels = frame.pictures(columns.image), frame.values(columns.label)
        keys = frame.values("__key__") if "__key__" in frame.features else []
        # A split that nothing is learned from needs no reasons; the rows of train are asked for theirs.
        has_reasons = reasons_in and reasons_in in frame.features
        reasons = frame.values(reasons_in) if has_reasons else [None] * len(labels)
        for i, (picture, label, reason) in enumerate(zip(pictures, labels, reasons, strict=True)):
            name = picture if isinstance(picture, str) else f"{frame.place.stem}/{keys[i]}" if keys else ""
            name = name or f"{split}/{len(cells)}"
            if name in taken:
                name = f"{name}#{len(cells)}"
            taken.add(name)
            cells.append(_Cell(name, frame.where(i), picture, label, frame.place.parent, reason))
    return cells


def _by_column(frames: Sequence[Frame], columns: Detected, reasons_in: str) -> dict[str, list[_Cell]]:
    """The rows of each value of the column of splits."""
    splits = [str(value).strip() for frame in frames for value in frame.values(columns.split)]
    groups: dict[str, list[_Cell]] = {}
    for split, cell in zip(splits, _cells(frames, columns, "row", reasons_in), strict=True):
        groups.setdefault(split, []).append(cell)
    return groups


def _known(
    columns: Detected, frame: Frame, names: Mapping[str, Sequence[str]], root: Path
) -> tuple[dict[int, str], list[str]]:
    """The class of each number, where the data have it, and a sentence about where it was found.

    Raises:
        UserError: Two places contradict each other.
    """
    known = dict(enumerate(columns.names))
    notes = []
    listed = list(names.get(columns.label, ()))
    if listed and listed != [str(i) for i in range(len(listed))] and not known:
        known = dict(enumerate(listed))
        notes.append(f"The {len(known)} class names are those of README.md for {columns.label!r}.")
    mapping = read_mapping(root) or read_mapping(frame.place.parent)
    if mapping and known and mapping != known:
        raise UserError(
            f"{root / 'mapping.json'}: says {', '.join(f'{n} {mapping[n]}' for n in sorted(mapping))}, but the table says "
            f"{', '.join(f'{n} {known[n]}' for n in sorted(known))}; correct or remove one."
        )
    if mapping and not known:
        known = mapping
        notes.append(f"The {len(known)} class names are those of mapping.json.")
    return known, notes


def _rows(
    cells: Sequence[_Cell], truths: Sequence[str], split: str, roots: Sequence[Path]
) -> tuple[list[Row], list[str]]:
    """Rows with their pictures; paths are tried below the table's folder until one is there."""
    pattern, notes = "{cell}", []
    first = next(((c, t) for c, t in zip(cells, truths, strict=True) if isinstance(c.picture, str) and c.picture), None)
    if first is not None:
        pattern = _pattern(first[0], first[1], split)
        if pattern != "{cell}":
            notes.append(f"Pictures of {split!r} lie at {pattern.replace('{cell}', 'PATH')} beside the table.")
    rows = []
    for cell, truth in zip(cells, truths, strict=True):
        if isinstance(cell.picture, Encoded):
            rows.append(Row(cell.id, Picture(cell.where, cell.picture), truth, cell.reason))
            continue
        try:
            # A row of an archive may have a label and no picture.
            path = _at(pattern, cell.picture or "", split, truth)
            file = picture_path(cell.folder, path, cell.where, roots)
            rows.append(Row(cell.id, Picture(f"{cell.where} ({file})", file), truth, cell.reason))
        except ImageError as error:
            rows.append(Row(cell.id, Picture(cell.where, Encoded(cell.where, partial(_refuse, error))), truth))
    return rows, notes


#: Where the pictures of a table may lie, below its folder.
_PATTERNS = (
    "{cell}", "images/{cell}", "{split}/{cell}", "{label}/{cell}", "{split}/{label}/{cell}", "data/{cell}",
    "data/{split}/{cell}", "data/{split}/{label}/{cell}", "images/{split}/{cell}", "data/{label}/{cell}",
)  # fmt: skip


def _pattern(cell: _Cell, label: str, split: str) -> str:
    """The pattern by which the picture of a row is found; the plain path where no pattern fits."""
    path = str(cell.picture)
    if Path(path).is_absolute() or ".." in Path(path).parts:
        return "{cell}"
    return next((p for p in _PATTERNS if (cell.folder / _at(p, path, split, label)).is_file()), "{cell}")


def _at(pattern: str, path: str, split: str, label: str) -> str:
    if not path or pattern == "{cell}":
        return path
    return pattern.replace("{split}", split).replace("{label}", label).replace("{cell}", path)


def _refuse(error: ImageError) -> bytes:
    raise error
