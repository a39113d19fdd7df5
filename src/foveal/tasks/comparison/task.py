"""The comparison task: which of two pictures has more of a rated quality: First, Second or Similar?"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from foveal.config.checking import check_ranges
from foveal.errors import UserError
from foveal.examples import SPLITS, Example, Loaded, Split
from foveal.images import Picture
from foveal.prompts import Prompt
from foveal.results import Prediction
from foveal.tasks.capabilities import BlindGuess, ClosedAnswers, Drawing, Generator, MirroredPairs
from foveal.tasks.comparison.generate import SIDES, Quality, Synthetic
from foveal.tasks.comparison.making import PairsMake, make_pairs
from foveal.tasks.comparison.metrics import METRICS, MIRRORED, measure_verdicts
from foveal.tasks.comparison.pairs import LABELS, Pairs, all_pairs, check_threshold, training_pairs
from foveal.tasks.comparison.scores import Rated, RatedSet, hold_out
from foveal.tasks.comparison.sources import folds_of, read_rated
from foveal.tasks.lazy import Numbered
from foveal.tasks.readers.annotations import OnBad
from foveal.tasks.readers.checking import Checked, check_pictures
from foveal.tasks.task import Task
from foveal.terminal import counted

#: A verdict as a word of its own: not the one in "first-rate" or "dissimilar".
_VERDICT = re.compile(r"(?<![\w-])(first|second|similar)(?![\w-])", re.IGNORECASE)
#: Words that deny a verdict.
_NEGATION = re.compile(r"\b(not|neither|nor|never|cannot)\b|n['’]t\b", re.IGNORECASE)
#: Distance between the seeds of two folds' generated pictures.
_FOLD_STEP = 1_000_000


@dataclass
class ComparisonData:
    """Where the rated pictures come from, which pairs are made of them, and how they are compared."""

    source: str = "generate"
    """`generate` draws rated pictures; or a folder of SCUT-FBP5500, or a table (.csv, .tsv, .parquet) of pictures and
    scores, or a folder that holds one."""
    quality: Quality = "dots"
    """What is rated in generated pictures: dots, area, brightness or slope."""
    pictures: int = 800
    """Generated pictures to make training pairs of; a quarter as many for validation and for the test."""
    image_size: int = 112
    """Side of generated pictures in pixels."""
    train: int = 9_000
    """Training pairs, as many of each answer."""
    validation: int = 300
    """Validation pairs that choose the best checkpoint, as many of each answer."""
    test: int = 600
    """Test pairs, evenly spread over all pairs of the test pictures; 0 takes all."""
    threshold: float = 0.4
    """Largest difference of scores that is Similar; compared exactly."""
    intervals: list[float] = field(default_factory=list)
    """Rising bounds of score differences, from the threshold on: training pairs are drawn equally from each interval."""
    fold: int = 1
    """Which division into training and test pictures, from 1 on: the source's own folds, or five drawn ones. Of
    generated pictures each fold has its own."""
    validation_share: float = 0.1
    """Share of a fold's training pictures that is held out for validation, with scores like the others'."""
    seed: int = 42
    """Seed of pictures, folds and pairs."""
    both_orders: bool = True
    """Validation and test pairs are asked in both orders, which measures how much the order decides."""
    asked: str = "more of the quality"
    """What the question names: Which picture shows ASKED?"""
    wording: Literal["sentence", "short"] = "sentence"
    """How it is asked: in a sentence, or in a word for a small model."""
    image_column: str = ""
    """Column of the pictures in a table; found by its name by default."""
    picture_folder: str = ""
    """Folder of the pictures that a table names, where they lie elsewhere. Without it no path may lead out of the
    source: a table from others could name any file of this machine."""
    score_column: str = ""
    """Column of the scores in a table; found by its name by default."""
    on_bad: OnBad = "refuse"
    """At pictures that cannot be used: refuse stops with a sentence, skip leaves them out of all pairs and counts them."""
    raters: int = 0
    """Number of whole ratings that a table's scores are the means of; 0 takes scores as written."""


class Comparison(ClosedAnswers, BlindGuess, MirroredPairs, Drawing, Generator, Task):
    """Which of two pictures has more?"""

    name = "comparison"
    summary = "Compare two pictures by a rated quality: First, Second or Similar; rankings follow."
    Data = ComparisonData
    metrics = METRICS
    Make = PairsMake
    mirrored = MIRRORED
    pictures = 2

    def __init__(self, data: ComparisonData) -> None:
        super().__init__(data)
        with _settings(threshold="threshold"):
            check_threshold(data.threshold)
        check_ranges(
            data, "data.", pictures=(16, 1_000_000), image_size=SIDES, train=(1, 10**8), validation=(1, 10**8),
            test=(0, 10**8), fold=(1, 1000), validation_share=(0.01, 0.9), raters=(0, 10**6),
        )  # fmt: skip
        if "\n" in data.asked or not data.asked.strip():
            raise UserError("data.asked: give what the question names, e.g. --data.asked 'more dots'.")

    # ---------------------------------------------------------------- data

    def load(self, split: Split) -> Loaded:
        """The pairs of a split; no picture is in two splits.

        Where pairs are asked in both orders, all come in one order first and then all in the other: an even number of
        rows that is spread evenly over them has both orders of each of its pairs.

        Raises:
            UserError: The source is missing or malformed, has too few pictures, or one that cannot be used.
        """
        rated, place = self.rated(split)
        return self._loaded(rated, place, split)

    def load_other(self, split: Split) -> Loaded:
        """The pairs of a source that the model has not learned from: of all its pictures where it has no folds.

        Raises:
            UserError: See ``load``.
        """
        if self.data.source == "generate":
            return self.load(split)
        rated = self._read()
        if rated.folds:
            return self.load(split)
        return replace(self._loaded(rated.rows, rated.place, "test"), whole=True)

    def _loaded(self, rated: Sequence[Rated], place: str, split: Split) -> Loaded:
        checked = Checked(rated, (), ())
        if self.data.source != "generate":
            checked = check_pictures(
                rated, lambda row: (row.picture,), max_pixels=self.max_pixels, on_bad=self.data.on_bad
            )
        rows = checked.rows
        if len(rows) < 4:
            more = "raise data.validation_share, or give more" if split == "validation" else "give more"
            raise UserError(f"{place}: {len(rows)} pictures are too few for pairs; {more}.")
        with _settings(number=split, intervals="intervals"):
            pairs = self._pairs([r.score for r in rows], split)
        twice = self.data.both_orders and split != "train"
        examples = Numbered(len(pairs) * (1 + twice), partial(_example, rows, pairs))
        source = f"{place}: {counted(len(pairs), 'pair')} of {counted(len(rows), 'picture')}"
        return Loaded(examples, source, checked.refused, checked.notes)

    def rated(self, split: Split) -> tuple[Sequence[Rated], str]:
        """The rated pictures of a split, and where they came from.

        Raises:
            UserError: The source is missing or malformed, or has no such fold.
        """
        data = self.data
        if data.source == "generate":
            count = data.pictures if split == "train" else data.pictures // 4
            seed = data.seed + _FOLD_STEP * (data.fold - 1)
            rows = list(Synthetic(data.quality, count, split, seed, data.image_size))
            return rows, f"generated: {data.quality}, seed {data.seed}, fold {data.fold}, {split}"
        rated = self._read()
        with _settings(folds="fold"):
            fold = folds_of(rated, [data.fold], data.seed)[0]
        place = f"{rated.place}, fold {fold.number}, {split}"
        if split == "test":
            return fold.test, place
        train, validation = hold_out(fold.train, data.validation_share, data.seed)
        return (validation if split == "validation" else train), place

    def _read(self) -> RatedSet:
        """All rated pictures of the source, with its folds."""
        data = self.data
        with _settings(source="source"):
            return read_rated(
                data.source, image_column=data.image_column, score_column=data.score_column, raters=data.raters,
                on_bad=data.on_bad,
                picture_folder=data.picture_folder,
            )  # fmt: skip

    def _pairs(self, scores: Sequence[Any], split: Split) -> Pairs:
        data = self.data
        seed = data.seed + data.fold + 1000 * SPLITS.index(split)
        if split != "test":
            intervals = data.intervals if split == "train" else None
            return training_pairs(scores, data.threshold, getattr(data, split), seed, intervals)
        every = all_pairs(scores, data.threshold, seed)
        number = min(data.test or len(every), len(every))
        return every.take([i * len(every) // number for i in range(number)])

    # ---------------------------------------------------------------- questions

    def prompt(self, example: Example, rng: random.Random | None = None) -> Prompt:
        """Both pictures and the question."""
        if self.data.wording == "short":
            user = "compare"
        else:
            user = f"Which picture shows {self.data.asked}, the first or the second? Answer First, Second or Similar."
        return Prompt(example.images, user, answer=example.truth)

    def answers(self) -> tuple[str, ...]:
        """First, Second and Similar."""
        return LABELS

    def mirror(self, example: Example) -> Example:
        """The pictures in the other order."""
        fields: dict[str, Any] = {
            key: tuple(reversed(value)) for key, value in example.fields.items() if isinstance(value, tuple)
        }
        if "swapped" in example.fields:
            fields["swapped"] = not example.fields["swapped"]
        truth = None if example.truth is None else MIRRORED[example.truth]
        return replace(
            example, images=tuple(reversed(example.images)), truth=truth, fields={**example.fields, **fields}
        )

    def parse(self, reply: str, example: Example | None = None) -> str | None:
        """The one verdict in a reply; None where there are none or several, or the reply has a negation."""
        verdicts = {word.capitalize() for word in _VERDICT.findall(reply)}
        return verdicts.pop() if len(verdicts) == 1 and not _NEGATION.search(reply) else None

    def measure(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
        """Accuracy, macro accuracy, per class, swap metrics, calibration, and how well the ranking that follows agrees
        with the scores; see ``measure_verdicts``."""
        return measure_verdicts(examples, predictions)

    def chance(self, examples: Sequence[Example]) -> float:
        """Accuracy of always giving the most frequent verdict."""
        counts = Counter(e.truth for e in examples)
        return max(counts.values(), default=0) / max(1, len(examples))

    def draw(self, example: Example, prediction: Prediction | None = None) -> Image.Image:
        """Both pictures side by side."""
        pictures = [p.open() for p in example.images]
        height = min(256, max(p.height for p in pictures))
        # A panorama is fitted by its width.
        scales = [min(height / p.height, 2 * height / p.width) for p in pictures]
        scaled = [
            p.resize((max(1, round(p.width * s)), max(1, round(p.height * s))))
            for p, s in zip(pictures, scales, strict=True)
        ]
        gap = max(4, height // 24)
        sheet = Image.new("RGB", (sum(p.width for p in scaled) + gap, height), "white")
        sheet.paste(scaled[0], (0, (height - scaled[0].height) // 2))
        sheet.paste(scaled[1], (scaled[0].width + gap, (height - scaled[1].height) // 2))
        return sheet

    def example_of(self, pictures: Sequence[Picture], words: str | None = None) -> Example:
        """Two pictures of a user's."""
        if len(pictures) != 2:
            raise UserError("A comparison needs two pictures; rank a folder with `foveal rank RUN FOLDER`.")
        names = tuple(p.name for p in pictures)
        return Example("|".join(names), tuple(pictures), None, {"ids": names})

    def pair(self, a: Rated, b: Rated) -> Example:
        """The row of two pictures whose order is not known."""
        return Example(f"{a.id}|{b.id}", (a.picture, b.picture), None, {"ids": (a.id, b.id)})

    @classmethod
    def make(cls, options: PairsMake) -> Path:
        """Writes files of pairs; see ``make_pairs``."""
        return make_pairs(options)


@contextmanager
def _settings(**keys: str) -> Iterator[None]:
    """In an error that begins with an argument's name, puts the name of the setting in ``data`` in its place."""
    try:
        yield
    except UserError as error:
        name, _, rest = str(error).partition(":")
        if name not in keys:
            raise
        raise UserError(f"data.{keys[name]}:{rest}") from None


def _example(rows: Sequence[Rated], pairs: Pairs, index: int) -> Example:
    """The row of a pair: all in one order come first, then all in the other."""
    swapped, number = divmod(index, len(pairs))
    a, b = rows[int(pairs.first[number])], rows[int(pairs.second[number])]
    truth: str = LABELS[int(pairs.label[number])]
    if swapped:
        a, b, truth = b, a, MIRRORED[truth]
    return Example(
        f"{number}: {a.id} | {b.id}", (a.picture, b.picture), truth,
        {"ids": (a.id, b.id), "scores": (float(a.score), float(b.score)), "pair": number, "swapped": bool(swapped)},
    )  # fmt: skip
