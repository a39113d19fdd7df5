"""What the puzzles share: lazy rows, disjoint splits, saved and published pictures, and a strict reader of numbers."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from PIL import Image

from foveal.errors import ImageError, UserError
from foveal.files import new_folder, write_text
from foveal.images import SUFFIXES, Picture
from foveal.tasks.task import SPLITS, Example, Loaded, Prediction, Split

#: What a folder or a parquet file of a split may be called.
_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "val"),
    "test": ("test",),
}
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
#: An example in braces, as prompts give one: a model that repeats it has not answered.
_EXAMPLE = re.compile(
    r"(?:\be\.\s?g\.|\beg\b|\bfor (?:example|instance)\b|\bsuch as\b)[\s,:]*\{[^{}]*\}", re.IGNORECASE
)
_BRACES = re.compile(r"\{\s*([0-9]{1,9})\s*\}")
_NUMBER = re.compile(r"[-+]?[0-9]+(?:[.,][0-9]+)*")


def read_number(reply: str, prompts: Iterable[str] = ()) -> int | None:
    """The one whole number that a reply gives, or None.

    The last number in braces wins. Without braces, the reply must hold a single number, in digits, or be a single
    number word. Numbers of a prompt that the reply repeats, and of its "e.g., {2}", are not read.

    Args:
        reply: What the model wrote.
        prompts: Questions that it may have repeated.
    """
    reply = " ".join(reply.split())
    for prompt in prompts:
        if any(c.isdigit() for c in prompt):
            reply = re.sub(re.escape(" ".join(prompt.split())), " ", reply, flags=re.IGNORECASE)
    reply = _EXAMPLE.sub(" ", reply)
    in_braces = _BRACES.findall(reply)
    if in_braces:
        return int(in_braces[-1])
    word = reply.strip(" .,!:;*_`'\"{}()[]").lower()
    if word in _WORDS:
        return _WORDS.index(word)
    numbers = set(_NUMBER.findall(reply))
    number = numbers.pop() if len(numbers) == 1 else ""
    return int(number) if number.isdigit() and len(number) < 10 else None


def measure_labels(examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
    """Accuracy, its value on the rows of each truth that occurs (``accuracy_2``), and the share of unparsable replies.

    Rows without a prediction count as unparsable.
    """
    if not examples:
        raise UserError("There are no rows to measure.")
    values = {p.id: p.value for p in predictions}
    right: dict[Any, list[bool]] = {}
    for example in examples:
        value = values.get(example.id)
        right.setdefault(example.truth, []).append(value is not None and value == example.truth)
    return {
        "accuracy": sum(map(sum, right.values())) / len(examples),
        **{f"accuracy_{truth}": sum(hits) / len(hits) for truth, hits in sorted(right.items())},
        "unparsable": sum(values.get(e.id) is None for e in examples) / len(examples),
    }


@dataclass(frozen=True)
class LazyRows(Sequence[Example]):
    """Rows that are made when they are asked for.

    Attributes:
        length: How many there are.
        row: Makes the row of an index from 0 on; it must be picklable, for the data loader's processes.
    """

    length: int
    row: Callable[[int], Example]

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self.row(i) for i in range(*index.indices(self.length))]
        return self.row(range(self.length)[index])


def balanced_choice(choices: int, seed: int, split: Split, index: int) -> int:
    """Which of the choices row ``index`` gets: each once in every block of ``choices`` rows, in random order.

    Every prefix of a split is balanced to within one, and no even stride through it is biased.
    """
    block, place = divmod(index, choices)
    digest = hashlib.blake2b(f"{seed}/{split}/{block}".encode(), digest_size=8).digest()
    number, left = int.from_bytes(digest, "little"), list(range(choices))
    for _ in range(place):
        number, k = divmod(number, len(left))
        left.pop(k)
    return left[number % len(left)]


def split_of(values: Sequence[int]) -> Split:
    """The only split that a geometry may occur in, whatever the seed: half of all go to train, a quarter to each other.

    Args:
        values: Whole numbers of up to 32 bits that describe the geometry.
    """
    bucket = zlib.crc32(struct.pack(f"<{len(values)}i", *values)) & 3
    return "train" if bucket < 2 else "validation" if bucket == 2 else "test"


def check_range(key: str, value: float, low: float, high: float) -> None:
    """Refuses an option that is out of range.

    Raises:
        UserError: It is.
    """
    if not low <= value <= high:
        raise UserError(f"{key}: {value} is out of range; give {low} to {high}.")


def load_pictures(
    source: str, split: Split, truth: Callable[[str], Any], *, truth_in_name: re.Pattern[str], column: str
) -> Loaded:
    """The rows of a split on disk.

    Layouts, in the order in which they are looked for:

    * a ``.parquet`` file or a folder of them as `datasets` saves it, with the columns image and label;
    * ``SPLIT/metadata.csv`` with file_name and label, as ``foveal data make`` writes it;
    * ``SPLIT/LABEL/*.png``;
    * a flat folder of the published pictures, which serves as the test split: ``truth_in_name`` finds their labels.

    Args:
        source: The file or folder.
        split: Which rows.
        truth: Checks a label's text and gives its value; raises ValueError with what is wrong with it.
        truth_in_name: Matches published pictures' names, with the label's text as its first group.
        column: The label's column in a CSV file that has the name of the flat folder and lies beside it. Where there
            is such a file it must agree with the names.

    Raises:
        UserError: There is no such source or split, or a row is malformed.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".parquet":
        own = next((s for s in SPLITS if re.split("[-_.]", path.stem)[0] in _NAMES[s]), "test")
        if own != split:
            raise UserError(
                f"data.source: {path}: serves as the {own} split; give a folder that has a {split} split too."
            )
        return _from_parquet([path], truth, source)
    if not path.is_dir():
        raise UserError(f"data.source: {path}: there is no such folder or .parquet file; check the path.")
    tables, folder = _find_split(path, split)
    if tables:
        return _from_parquet(tables, truth, source)
    if folder is not None:
        return (
            _from_metadata(folder, truth) if (folder / "metadata.csv").is_file() else _from_label_folders(folder, truth)
        )
    there = [s for s in SPLITS if any(_find_split(path, s))]
    if there:
        raise UserError(
            f"data.source: {path / split}: there is no {split} split, only {', '.join(there)}; "
            "make it with `foveal data make`."
        )
    flat = sorted(p for p in path.iterdir() if truth_in_name.match(p.name))
    if not flat:
        raise UserError(
            f"data.source: {path}: holds neither a folder or .parquet file named {split} nor published pictures; "
            "check the path, or give `generate`."
        )
    if split != "test":
        raise UserError(
            f"data.source: {path}: published pictures serve as the test split, there is no {split} split; "
            "use a folder that `foveal data make` wrote, or give `generate`."
        )
    return _from_names(path, flat, truth, truth_in_name, column)


def _find_split(path: Path, split: Split) -> tuple[list[Path], Path | None]:
    """A split's parquet files, and its folder."""
    names = _NAMES[split]
    tables = {
        t
        for n in names
        for pattern in (f"{n}*.parquet", f"data/{n}*.parquet", f"{n}/*.parquet")
        for t in path.glob(pattern)
    }
    return sorted(tables), next((path / n for n in names if (path / n).is_dir()), None)


def _checked(text: str, truth: Callable[[str], Any], where: str) -> Any:
    try:
        return truth(text)
    except ValueError as error:
        raise UserError(f"{where}: {error}; correct or remove it.") from None


def _from_metadata(folder: Path, truth: Callable[[str], Any]) -> Loaded:
    table = folder / "metadata.csv"
    rows = []
    for number, row in _read_csv(table, ("file_name", "label")):
        where = f"{table}, line {number}"
        path = folder / row["file_name"]
        if not path.is_file():
            raise UserError(f"{where}: there is no picture {path}; restore it or remove the line.")
        value = _checked(row["label"], truth, where)
        rows.append(Example(row["file_name"], (Picture(str(path), path),), value))
    return Loaded(rows, str(folder))


def _read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Rows with their line numbers, checked to have the columns."""
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); make the data set again.") from None
    for column in columns:
        if column not in (reader.fieldnames or ()):
            raise UserError(f"{path}: has no column {column!r}; it must have {', '.join(columns)}.")
        for number, row in rows:
            if not row[column]:
                raise UserError(f"{path}, line {number}: {column} is empty; fill it in or remove the line.")
    return rows


def _from_label_folders(folder: Path, truth: Callable[[str], Any]) -> Loaded:
    rows = []
    for label in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        value = _checked(label.name, truth, str(label))
        for path in sorted(p for p in label.iterdir() if p.suffix.lower() in SUFFIXES):
            rows.append(Example(f"{label.name}/{path.name}", (Picture(str(path), path),), value))
    if not rows:
        raise UserError(f"{folder}: holds neither metadata.csv nor folders of pictures named by label; make it again.")
    return Loaded(rows, str(folder))


def _from_names(
    folder: Path, pictures: Sequence[Path], truth: Callable[[str], Any], pattern: re.Pattern[str], column: str
) -> Loaded:
    table = folder.with_name(folder.name + ".csv")
    listed = {r["file"]: (n, r[column]) for n, r in _read_csv(table, ("file", column))} if table.is_file() else {}
    rows = []
    for path in pictures:
        match = pattern.match(path.name)
        value = _checked(match[1] if match else "", truth, str(path))
        number, text = listed.get(path.name, (0, None))
        if text is not None and _checked(text, truth, f"{table}, line {number}") != value:
            raise UserError(
                f"{table}, line {number}: {column} is {text}, but the name of {path.name} says {value}; correct one."
            )
        rows.append(Example(path.name, (Picture(str(path), path),), value))
    return Loaded(rows, str(folder))


@dataclass(frozen=True)
class _ParquetRow:
    """Makes rows of a parquet table, whose pictures are encoded bytes or paths of files, as `datasets` has them."""

    images: Any
    truths: Sequence[Any]
    source: str

    def __call__(self, index: int) -> Example:
        cell = self.images[index].as_py()
        source = (cell.get("bytes") or cell.get("path")) if isinstance(cell, dict) else cell
        if not source:
            raise ImageError(f"{self.source}, row {index}: has no picture; restore or remove it.")
        return Example(str(index), (Picture(f"{self.source}, row {index}", source),), self.truths[index])


def _from_parquet(paths: Sequence[Path], truth: Callable[[str], Any], source: str) -> Loaded:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    tables = []
    for path in paths:
        try:
            tables.append(pyarrow.parquet.read_table(path, columns=["image", "label"]))
        except (pyarrow.ArrowException, OSError, KeyError) as error:
            raise UserError(f"{path}: is no parquet file with the columns image and label ({error}).") from None
        if set(tables[-1].column_names) != {"image", "label"}:
            raise UserError(f"{path}: has no columns image and label; it has {tables[-1].column_names}.")
    table = pyarrow.concat_tables(tables)
    images = table.column("image")
    if not (pyarrow.types.is_struct(images.type) or pyarrow.types.is_binary(images.type)):
        raise UserError(
            f"{source}: the column image holds {images.type}, no pictures; save it with `Dataset.to_parquet`."
        )
    labels = table.column("label").to_pylist()
    truths = [_checked(str(label), truth, f"{source}, row {i}") for i, label in enumerate(labels)]
    return Loaded(LazyRows(len(truths), _ParquetRow(images, truths, source)), source)


def save_split(
    folder: Path,
    split: Split,
    rows: Iterable[tuple[Image.Image, Mapping[str, Any]]],
    *,
    dpi: int,
    head: str,
    section: Callable[[Sequence[Mapping[str, Any]]], str],
    overwrite: bool,
) -> None:
    """Writes pictures and labels as `datasets`' imagefolder reads them, and describes them in ``README.md``.

    The split's folder appears whole or not at all; other splits stay as they are.

    Args:
        folder: Holds the splits.
        split: Which one to write.
        rows: Pictures with the cells of their line of ``metadata.csv``, ``label`` among them; drawn as they are saved.
        dpi: Noted in the pictures.
        head: Beginning of a new ``README.md``.
        section: Text of the split's section in it, from the rows' cells.
        overwrite: Replace a split that is there.

    Raises:
        UserError: The split is there (and not to be replaced), or the disk is full or may not be written.
    """
    target = folder / split
    if target.exists():
        if not overwrite:
            raise UserError(f"{target}: exists already; choose another folder or split, or give --overwrite true.")
        if not (target / "metadata.csv").is_file():
            raise UserError(f"{target}: is not overwritten, for it has no metadata.csv and so is not a saved split.")
    fresh = not folder.exists()
    # Beside a split that is replaced, the new one is finished before the old one is touched.
    place = folder / f".{split}.new" if target.exists() else target
    if place != target:
        shutil.rmtree(place, ignore_errors=True)
    try:
        with new_folder(place) as temporary:
            cells = []
            for index, (image, cell) in enumerate(rows):
                name = f"{index:05d}.png"
                image.save(temporary / name, dpi=(dpi, dpi))
                cells.append({"file_name": name, **cell})
            table = io.StringIO(newline="")
            writer = csv.DictWriter(table, list(cells[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(cells)
            (temporary / "metadata.csv").write_text(table.getvalue(), encoding="utf-8")
            _write_card(folder / "README.md", head, split, section(cells))
    except BaseException:
        if fresh:
            with suppress(OSError):
                (folder / "README.md").unlink(missing_ok=True)
                folder.rmdir()
        raise
    if place != target:
        old = folder / f".{split}.old"
        shutil.rmtree(old, ignore_errors=True)
        os.replace(target, old)
        os.replace(place, target)
        shutil.rmtree(old, ignore_errors=True)


def _write_card(path: Path, head: str, split: Split, section: str) -> None:
    """Replaces the split's section of the dataset card; the others' stay."""
    pieces = re.split(r"^## Split ", path.read_text(encoding="utf-8"), flags=re.MULTILINE) if path.is_file() else [head]
    sections = {p.split("\n", 1)[0].strip(): p.split("\n", 1)[1].strip() for p in pieces[1:] if "\n" in p}
    sections[split] = section.strip()
    body = [f"## Split {s}\n\n{sections[s]}\n" for s in SPLITS if s in sections]
    write_text(path, "\n".join([pieces[0].rstrip() + "\n", *body]))
