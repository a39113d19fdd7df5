"""Reads SCUT-FBP5500 (Liang et al. 2018, arXiv 1801.06345; github.com/HCIILAB/SCUT-FBP5500-Database-Release).

5,500 faces, 350 x 350 pixels, each rated from 1 to 5 by the same 60 people; the score is the mean. For research that is
not commercial only. Both layouts are read, wherever they lie below the given folder::

    data/{1..5}/{train,test}_{1..5}.txt                                        as on GitHub; names ftw437.jpg
    Images/*.jpg                                                               as in the release's zip; names CF437.jpg
    train_test_files/All_labels.txt
    train_test_files/split_of_60%training and 40%testing/{train,test}.txt      not read
    train_test_files/5_folders_cross_validations_files/cross_validation_{1..5}/{train,test}_{1..5}.txt

A line is a picture's name and its score: ``CF437.jpg 2.883333``. Names of one way of naming are read as the other's: a
picture's id is always the newer one's, and its file is found in ``Images`` under either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from foveal.errors import UserError
from foveal.images import Picture
from foveal.tasks.comparison.scores import Fold, Rated, RatedSet, exact
from foveal.tasks.readers.annotations import OnBad

#: People who rated each face: scores are multiples of 1/60.
RATERS = 60
#: The older and the newer names' beginnings: Caucasian and Asian, females and males.
NAMES = {"ftw": "CF", "fty": "AF", "mtw": "CM", "mty": "AM"}
_NAME = re.compile(r"(ftw|fty|mtw|mty|CF|AF|CM|AM)(\d+)\.(jpe?g|png)", re.IGNORECASE)
_LIST = re.compile(r"(train|test)_(\d+)\.txt")
_OLDER = {new: old for old, new in NAMES.items()}


@dataclass(frozen=True)
class _Line:
    """A line of a list: the picture's id and score, and where it stands."""

    id: str
    score: Fraction
    where: str


def newer_name(name: str) -> str | None:
    """A picture's name in the newer way, ``CF437.jpg`` for ``ftw437.jpg``; None where it is in neither."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    start = match[1]
    return f"{NAMES.get(start.lower()) or start.upper()}{int(match[2])}.jpg"


def older_name(name: str) -> str | None:
    """A picture's name in the older way, ``ftw437.jpg`` for ``CF437.jpg``; None where it is in neither."""
    newer = newer_name(name)
    return None if newer is None else _OLDER[newer[:2]] + newer[2:]


def is_scut(root: Path) -> bool:
    """Whether the folder holds lists of the data set."""
    return bool(_lists(root)) or bool(_visible(root, "All_labels.txt"))


def read_scut(root: Path, *, on_bad: OnBad = "refuse") -> RatedSet:
    """All pictures with their scores, and the official folds where their lists are there.

    Without a folder ``Images`` the scores can be worked with all the same; opening a picture is then an error.

    Args:
        root: A folder in one of the layouts, or one that holds it.
        on_bad: Whether a picture that ``Images`` lacks ends it, or can only not be opened.

    Raises:
        UserError: There are no lists, one is malformed or has a picture twice or in both parts, two of them give a
            picture different scores or are different versions of one fold, or ``Images`` lacks a picture.
    """
    labels = [_read(path) for path in _visible(root, "All_labels.txt")]
    lists = {key: _one([_read(p) for p in paths]) for key, paths in sorted(_lists(root).items())}
    if not labels and not lists:
        raise UserError(
            f"{root}: holds neither train_1.txt and test_1.txt in data/1 or cross_validation_1 nor All_labels.txt; "
            "give the folder of SCUT-FBP5500."
        )
    numbers = sorted({number for number, _ in lists})
    for number in numbers:
        for part in ("train", "test"):
            if (number, part) not in lists:
                raise UserError(f"{root}: fold {number} has no {part}_{number}.txt; restore it or remove the fold.")
    _check_disjoint(lists, numbers)
    tests = [line for number in numbers for line in lists[number, "test"]]
    trains = [line for number in numbers for line in lists[number, "train"]]
    known = _agreed([*(line for lines in labels for line in lines), *tests, *trains])
    pictures = _Pictures(root, on_bad)
    rows = {line.id: Rated(line.id, pictures.find(line), line.score) for line in known.values()}
    folds = tuple(
        Fold(
            number,
            tuple(rows[line.id] for line in lists[number, "train"]),
            tuple(rows[line.id] for line in lists[number, "test"]),
        )
        for number in numbers
    )
    return RatedSet(tuple(rows.values()), str(root), folds)


def _visible(root: Path, pattern: str) -> list[Path]:
    """Files of that name below the folder, the nearest first; what archives bring along (``._NAME``) is left out."""
    files = (p for p in root.rglob(pattern) if p.is_file())
    inside = [p for p in files if not any(s.startswith((".", "__MACOSX")) for s in p.relative_to(root).parts)]
    return sorted(inside, key=lambda p: (len(p.parts), str(p)))


def _lists(root: Path) -> dict[tuple[int, str], list[Path]]:
    """Lists of each fold and part."""
    lists: dict[tuple[int, str], list[Path]] = {}
    for path in _visible(root, "*_*.txt"):
        match = _LIST.fullmatch(path.name)
        if match and path.parent.name in (match[2], f"cross_validation_{match[2]}"):
            lists.setdefault((int(match[2]), match[1]), []).append(path)
    return lists


def _read(path: Path) -> list[_Line]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); fetch the data set again.") from None
    lines: dict[str, _Line] = {}
    for number, words in enumerate((line.split() for line in text.splitlines()), start=1):
        where = f"{path}, line {number}"
        if not words:
            continue
        name = newer_name(words[0])
        if len(words) != 2 or name is None:
            raise UserError(
                f"{where}: {' '.join(words)[:60]!r} is not a picture's name and score like 'CF437.jpg 2.883333'; "
                "correct or remove it."
            )
        try:
            score = exact(words[1], RATERS)
        except ValueError as error:
            raise UserError(f"{where}: the score {error}; correct or remove it.") from None
        if name in lines:
            raise UserError(f"{where}: {words[0]} is in the list already ({lines[name].where}); remove one.")
        lines[name] = _Line(name, score, where)
    if not lines:
        raise UserError(f"{path}: is empty; fetch the data set again.")
    return list(lines.values())


def _one(versions: list[list[_Line]]) -> list[_Line]:
    """The list of a fold's part; where both layouts lie side by side, their lists must be equal."""
    for other in versions[1:]:
        if [(line.id, line.score) for line in other] != [(line.id, line.score) for line in versions[0]]:
            first, second = (v[0].where.rsplit(", line", 1)[0] for v in (versions[0], other))
            raise UserError(f"{first} and {second} differ; give the folder of one of them.")
    return versions[0]


def _check_disjoint(lists: Mapping[tuple[int, str], list[_Line]], numbers: list[int]) -> None:
    tested: dict[str, _Line] = {}
    for number in numbers:
        train = {line.id: line for line in lists[number, "train"]}
        for line in lists[number, "test"]:
            other = train.get(line.id) or tested.get(line.id)
            if other is not None:
                raise UserError(f"{line.where}: {line.id} is in {other.where} too; fetch the data set again.")
            tested[line.id] = line


def _agreed(lines: Iterable[_Line]) -> dict[str, _Line]:
    """The pictures, each once, in the order in which they come first."""
    known: dict[str, _Line] = {}
    for line in lines:
        other = known.setdefault(line.id, line)
        if other.score != line.score:
            raise UserError(
                f"{line.where}: the score of {line.id} is not the one in {other.where}; correct one of them."
            )
    return known


class _Pictures:
    """The files of the pictures, from one listing of their folder."""

    def __init__(self, root: Path, on_bad: OnBad) -> None:
        folders = sorted(
            (p for p in root.rglob("*") if p.name.lower() == "images" and p.is_dir()), key=lambda p: len(p.parts)
        )
        self.folder = folders[0] if folders else root / "Images"
        self.names = {n: p for p in self.folder.iterdir() if (n := newer_name(p.name))} if folders else {}
        self.complete = bool(folders) and on_bad == "refuse"

    def find(self, line: _Line) -> Picture:
        """The picture of a line.

        Raises:
            UserError: The folder of pictures exists and lacks the picture, which is not to be left out.
        """
        path = self.names.get(line.id, self.folder / line.id)
        if self.complete and line.id not in self.names:
            raise UserError(
                f"{line.where}: {self.folder} holds neither {line.id} nor {older_name(line.id)}; restore the picture."
            )
        return Picture(str(path), path)
