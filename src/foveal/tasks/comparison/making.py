"""Writes files of pairs for each fold of a rated set: balanced pairs for training, all pairs for evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from foveal.errors import UserError
from foveal.files import check_writable, new_folder
from foveal.metrics.formats import percent
from foveal.tasks.comparison.pair_files import write_pairs
from foveal.tasks.comparison.pairs import LABELS, Pairs, all_pairs, check_threshold, shares, training_pairs
from foveal.tasks.comparison.scores import Rated, RatedSet, decimal_text
from foveal.tasks.comparison.sources import folds_of, read_rated

_TITLE = """# Pairs of rated pictures

Made with `foveal data pairs` from {place}.

Each line is a pair of pictures: `img1`, `img2`, the mean ratings `score1`, `score2`, and `label`: First where the first
picture's score is larger, Second where the second's is, Similar where they differ by at most {threshold}.

{training}

No picture is in both files of a fold. In `eval` files each pair of the fold's test pictures is there once, and a coin
says which picture comes first. Scores that have no end as decimals are cut to six digits; the labels are from the
exact scores.

A label says how the people who rated the pictures would, on average, order the two. It is not a property of the
pictures, and other people may order them differently. The licence of the rated pictures holds for these files too.

| setting | |
| --- | --- |
| threshold | {threshold} |
| seed | {seed} (+ the fold's number for its pairs) |
| folds | {folds} |

| file | pictures | pairs | {labels} |
| --- | ---: | ---: | {dashes} |
"""


@dataclass
class PairsMake:
    """Writes files of pairs for each fold of a rated set, with the columns img1, img2, score1, score2 and label."""

    source: str
    """Folder of SCUT-FBP5500, or a .csv, .tsv or .parquet table of pictures and scores."""
    folder: str
    """Folder of the files, which must not be there yet; its README.md states what was made."""
    folds: list[int] = field(default_factory=list)
    """Numbers of the folds, from 1 on; all by default. A source without folds gets five, drawn by the seed."""
    number: int = 45_000
    """Pairs of a training file, as many of each label."""
    threshold: float = 0.2
    """Largest difference of scores that is Similar; compared exactly, so 0.2 includes 3.2 and 3.0."""
    seed: int = 42
    """Seed of everything random; the same options write the same files. Each fold's pairs add its number to it."""
    split: Literal["both", "train", "eval"] = "both"
    """Which files: train (balanced pairs of the fold's training pictures), eval (all pairs of its test pictures)."""
    intervals: list[float] = field(default_factory=list)
    """Rising bounds of score differences, from the threshold on, e.g. 0.2 0.5 1 4: First and Second are then drawn
    equally often from 0.2 to 0.5, 0.5 to 1 and 1 to 4, and none from outside. By default every pair is as likely."""
    image_column: str = ""
    """Column of the pictures in a table; found by its name by default (image, img, file_name ...)."""
    picture_folder: str = ""
    """Folder of the pictures that a table names, where they lie outside the source."""
    score_column: str = ""
    """Column of the scores in a table; found by its name by default (score, rating, mean_score ...)."""
    raters: int = 0
    """Number of whole ratings that a table's scores are the means of: 2.883333 of 60 is then taken as 173/60. 0 takes
    scores as written. SCUT-FBP5500 folders need none."""


def make_pairs(options: PairsMake) -> Path:
    """Writes ``train_foldK_PAIRS.csv`` and ``eval_foldK_PAIRS.csv`` of each fold and a ``README.md``.

    The folder appears whole or not at all.

    Returns:
        The folder.

    Raises:
        UserError: The folder is there, the source is missing or malformed, an option is out of range, there are too few
            pairs, or the disk is full.
    """
    folder = Path(options.folder).expanduser()
    if not options.folder.strip():
        raise UserError("folder: is empty; give the folder of the files.")
    threshold = check_threshold(options.threshold)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already; choose another folder or remove it.")
    check_writable(folder)
    rated = read_rated(
        options.source,
        image_column=options.image_column,
        score_column=options.score_column,
        raters=options.raters,
        picture_folder=options.picture_folder,
    )
    lines: list[str] = []
    with new_folder(folder) as temporary:
        for fold in folds_of(rated, options.folds, options.seed):
            seed = options.seed + fold.number
            if options.split != "eval":
                scores = [row.score for row in fold.train]
                drawn = training_pairs(scores, threshold, options.number, seed, options.intervals)
                lines.append(_write(temporary, f"train_fold{fold.number}", fold.train, drawn, len(drawn)))
            if options.split != "train":
                every = all_pairs([row.score for row in fold.test], threshold, seed)
                lines.append(_write(temporary, f"eval_fold{fold.number}", fold.test, every, len(every)))
        card = _card(options, rated) + "\n".join(lines) + "\n"
        (temporary / "README.md").write_text(card, encoding="utf-8", errors="backslashreplace")
    return folder


def _write(folder: Path, name: str, rows: Sequence[Rated], pairs: Pairs | Iterable[Pairs], number: int) -> str:
    """Writes a file and returns its line of the card's table."""
    file = f"{name}_{number}.csv"
    counts = write_pairs(folder / file, rows, pairs)
    part = shares(counts)
    columns = " | ".join(f"{counts[label]:,} ({percent(part[label], ' %')})" for label in LABELS)
    return f"| {file} | {len(rows):,} | {number:,} | {columns} |"


def _card(options: PairsMake, rated: RatedSet) -> str:
    bounds = " ".join(f"{bound:g}" for bound in options.intervals)
    how = f"equally often from each interval of differences between {bounds}" if bounds else "any pair as likely"
    return _TITLE.format(
        place=rated.place,
        threshold=decimal_text(check_threshold(options.threshold)),
        training=f"Pairs in `train` files are balanced over the labels, {how}; none is there twice.",
        seed=options.seed,
        folds="the source's own" if rated.folds else "drawn by the seed, with like scores in each",
        labels=" | ".join(LABELS),
        dashes=" | ".join(["---:"] * len(LABELS)),
    )
