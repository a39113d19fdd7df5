"""Classification: which of K classes does a picture show?"""

from __future__ import annotations

import os
import random
import unicodedata
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from foveal.errors import ImageError, UserError
from foveal.examples import Example, Loaded, Split
from foveal.metrics import confusion
from foveal.prompts import Prompt
from foveal.results import Metrics, Prediction
from foveal.tasks.capabilities import BlindGuess, ClosedAnswers, ReasonsFirst, WeightedRows
from foveal.tasks.classification import metrics, reasoning
from foveal.tasks.classification.balance import Weights, check_balance, class_weights, sentence
from foveal.tasks.classification.duplicates import shared_pictures
from foveal.tasks.classification.labelling import Wanted
from foveal.tasks.classification.metrics import METRICS
from foveal.tasks.classification.rows import Row, Table, hold_out, spread
from foveal.tasks.classification.sources import read_source
from foveal.tasks.task import Task

#: Up to so many pictures of a split are decoded before the training; of more, the headers alone are checked.
FULL_CHECK = 20_000
#: Laid aside at both ends of a reply and of a class name before the two are compared.
WRAPPING = " \t\r\n\"'`“”‘’«».*[]"


@dataclass
class ClassificationData:
    """Pictures with one label each, wherever they are: folders, tables, archives, the Hub."""

    source: str
    """Class folders (source/<split>/<class>/... or source/<class>/...), a folder that `datasets` saved, a CSV, TSV or
    parquet file or a folder of such, WebDataset tars, or OWNER/NAME[@REVISION] on the Hub."""
    image_column: str = ""
    """Column of a table that holds the pictures, or paths to them; found by type and name by default."""
    label_column: str = ""
    """Column of a table that holds the labels; found by type and name by default."""
    class_names: list[str] = field(default_factory=list)
    """The names of all classes: the data's own, or, where labels are numbers without names, a name for each from 0 on.
    Their order is that of the answers; by default the data's own order."""
    splits: dict[str, str] = field(default_factory=dict)
    """Which of a table's splits serves as train, validation or test, e.g. {train: few_shot_5}; by name by default."""
    config: str = ""
    """Which of several tables of a source, e.g. a configuration of a data set on the Hub."""
    descriptions: dict[str, str] = field(default_factory=dict)
    """What a class looks like, e.g. {cra: a bowl-shaped depression}; follows the question, a line for each, unless
    question or system has a place for it."""
    descriptions_file: str = ""
    """A YAML or JSON file with the descriptions, in place of them."""
    question: str = "Which of these is shown in the picture: {classes}?"
    """What the model is asked, or @FILE; {classes} becomes the class names, {descriptions} the descriptions."""
    system: str | None = None
    """Instructions in front of the question, or @FILE; {classes} and {descriptions} are filled in as in the question."""
    answer_format: Literal["label", "reasoning"] = "label"
    """label: the answer is the class. reasoning: the model says what it sees, and then `Answer: CLASS`."""
    instructions: str = reasoning.INSTRUCTIONS
    """With answer_format: reasoning, what follows the question, or @FILE."""
    reasoning_source: Literal["none", "column", "template"] = "none"
    """With answer_format: reasoning, where the reasons to learn from come from. none: only `Answer: CLASS` is learned.
    column: the data's own. template: made of the class's description; such reasons are invented and teach the form only."""
    reasoning_column: str = ""
    """With reasoning_source: column, the column of a table, or json.NAME of the JSON files in tars, that holds them."""
    reasoning_template: str = reasoning.TEMPLATE
    """With reasoning_source: template, the reason; {class} and {description} are filled in."""
    limit: int = 0
    """Rows of each split, spread evenly over the classes; 0 takes all."""
    validation_share: float = 0.1
    """Share of each class held out of train where the source has no validation split."""
    test_share: float = 0.2
    """Share of each class held out for the test where the source has no splits at all."""
    seed: int = 0
    """Decides which rows are held out, and which are taken with a limit."""
    class_weights: Weights = "none"
    """How much a training row of each class counts in the loss, e.g. {rare: 5} (1 for the others); balanced gives every
    class the same sum: rows / (classes x rows of the class)."""
    sampling: Literal["natural", "balanced"] = "natural"
    """natural: an epoch has each training row once. balanced: as many rows, but as many of each class as of any other."""
    on_bad_image: Literal["refuse", "skip"] = "refuse"
    """At a picture that cannot be opened: refuse stops before the training, skip leaves it out and reports it."""


class Classification(ClosedAnswers, BlindGuess, WeightedRows, ReasonsFirst, Task):
    """One picture, one of K classes.

    The names of the classes are read from the source when the task is made, unless the data section has them: with
    ``class_names`` a task answers questions where the pictures it was trained on are gone.
    """

    name: ClassVar[str] = "classification"
    summary: ClassVar[str] = "Which of K classes does a picture show? Class folders, tables, archives, the Hub."
    Data: ClassVar[type] = ClassificationData
    metrics: ClassVar[Metrics] = METRICS
    data: ClassificationData

    def __init__(self, data: ClassificationData) -> None:
        """Checks the data section.

        Raises:
            UserError: A value is out of range, a name is given twice, unknown or ambiguous, or the source is missing.
        """
        data = reasoning.read_texts(data)
        _check_ranges(data)
        names = data.class_names or list(_names(data))
        unknown = sorted(set(data.descriptions) - set(names))
        if unknown:
            raise UserError(
                f"data.descriptions: {', '.join(map(repr, unknown))} is no class; the classes are {', '.join(names)}."
            )
        check_balance(data.class_weights, data.sampling, names)
        reasoning.check_reasons(data, names)
        super().__init__(replace(data, class_names=names))
        for name in names:
            if not _bare(name) or any(self.parse(text) != name for text in (name, *self._written(name))):
                raise UserError(
                    f"data: a reply of {name!r} cannot be told from another; rename the class so that its name differs "
                    "from the others in more than quotes and full stops."
                )

    def load(self, split: Split) -> Loaded:
        """The rows of a split; every picture was checked.

        Raises:
            UserError: The source is missing or malformed, has no rows for the split, or its classes are not those
                of ``class_names``.
            ImageError: A picture cannot be used, and ``on_bad_image`` does not say skip.
        """
        root = _root(self.data)
        table = _table(self.data)
        self._check_names(table, table.origin or str(root))
        rows, source = self._rows(table, split, table.origin or str(root))
        chosen = spread(rows, self.data.limit, self.data.seed)
        good, refused = self._check_pictures(chosen)
        lost = sorted({row.label for row in chosen} - {row.label for row in good})
        if lost:
            raise UserError(
                f"{table.origin or root}: no picture of {', '.join(map(repr, lost))} in the {split} split can be used, "
                f"the first because of {refused[0][1]}"
            )
        notes = [*table.notes, *self._shared(table, split)]
        weights = class_weights(self.data.class_weights, [row.label for row in good]) if split == "train" else {}
        if weights:
            notes.append(sentence(weights))
        examples = [Example(row.id, (row.picture,), row.label, self._fields(row, split, weights)) for row in good]
        return Loaded(examples, source, refused, tuple(notes))

    def _fields(self, row: Row, split: Split, weights: Mapping[str, float]) -> dict[str, Any]:
        """What the row's prompt and its part in the loss need beside picture and label."""
        fields: dict[str, Any] = {"weight": weights.get(row.label, 1.0)} if weights else {}
        # What nothing is learned from needs no reasons.
        if self.data.reasoning_column and (split == "train" or row.reason):
            fields["reason"] = reasoning.reason_of(row, self.data.reasoning_column)
        return fields

    def weight(self, example: Example) -> float:
        """The weight of the row's class, which ``load`` found from all training rows."""
        return float(example.fields.get("weight", 1.0))

    def groups(self, examples: Sequence[Example]) -> Sequence[Hashable] | None:
        """The classes, where ``data.sampling`` is balanced."""
        return [e.truth for e in examples] if self.data.sampling == "balanced" else None

    def _shared(self, table: Table, split: Split) -> tuple[str, ...]:
        """Sentences about pictures that this split shares with others."""
        _, parts = self._parts(table)
        limited = {s: spread(rows, self.data.limit, self.data.seed) for s, rows in parts.items() if rows}
        return shared_pictures(limited, split)

    def _check_names(self, table: Table, origin: str) -> None:
        given, found = set(self.data.class_names), set(table.names)
        kind = "classes" if table.origin else "class folders"
        short = "classes" if table.origin else "folders"
        if given != found:
            raise UserError(
                f"data.class_names: {', '.join(self.data.class_names)} are not the {kind} of {origin}, which are "
                f"{', '.join(table.names)} (only in class_names: {', '.join(sorted(given - found)) or 'none'}; only "
                f"{short}: {', '.join(sorted(found - given)) or 'none'}); give exactly the {short}' names."
            )

    def _parts(self, table: Table) -> tuple[dict[Split, float], dict[Split, Sequence[Row]]]:
        """The share of each split that is held out, and the rows of all splits, read or held out."""
        data = self.data
        shares: dict[Split, float] = {}
        if table.whole:
            shares["test"] = data.test_share
        if "validation" not in table.splits:
            shares["validation"] = data.validation_share
        return shares, {**table.splits, **hold_out(table.splits.get("train", ()), shares, data.seed)}

    def _rows(self, table: Table, split: Split, origin: str) -> tuple[Sequence[Row], str]:
        """The rows of a split, read or held out, and where they came from."""
        data = self.data
        shares, parts = self._parts(table)
        rows = parts.get(split, ())
        if not rows:
            key = f"{split}_share"
            add = "give a source that has one, or set data.splits" if table.origin else f"add {_root(data) / split}"
            remedy = f"raise data.{key}" if split in shares and table.splits.get("train") else add
            raise UserError(f"{origin}: there are no pictures for the {split} split; {remedy}.")
        if split in shares:
            return rows, f"{origin} ({shares[split]:g} of each class held out, seed {data.seed})"
        rest = " and ".join(f"{share:g} for {name}" for name, share in shares.items() if share > 0)
        held_out = f" (without {rest} of each class, seed {data.seed})" if split == "train" and rest else ""
        return rows, f"{origin}{held_out}"

    def _check_pictures(self, rows: Sequence[Row]) -> tuple[list[Row], tuple[tuple[str, str], ...]]:
        """The rows whose pictures can be used, and (id, reason) of the others."""
        pixels = len(rows) <= FULL_CHECK

        def complaint(row: Row) -> str | None:
            try:
                row.picture.limited(self.max_pixels).check(pixels=pixels)
            except ImageError as error:
                return str(error)
            return None

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            reasons = list(pool.map(complaint, rows))
        good = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
        refused = tuple((row.id, reason) for row, reason in zip(rows, reasons, strict=True) if reason is not None)
        if refused and self.data.on_bad_image == "refuse":
            more = f" {len(refused) - 1} more pictures cannot be used either." if len(refused) > 1 else ""
            raise ImageError(f"{refused[0][1]}{more} `data.on_bad_image: skip` leaves such pictures out.")
        return good, refused

    def prompt(self, example: Example, rng: random.Random | None = None) -> Prompt:
        """The picture and the question with the names and descriptions of the classes; there is no augmentation."""
        question, system = reasoning.asked(self.data)
        answer = None
        if example.truth is not None:
            answer = reasoning.answer(self.data, example.truth, example.fields.get("reason"))
        return Prompt(example.images, question, system, answer)

    def answers(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(self.data.class_names)

    def parse(self, reply: str, example: Example | None = None) -> str | None:
        """The class that the reply names: the whole reply is its name, or what follows the last ``Answer:`` is.

        Quotes, asterisks, brackets and full stops around the name and upper or lower case do not matter. A name inside a
        sentence does not count.
        """
        found = self._class(reply)
        if found is not None:
            return found
        return self._class(reasoning.behind_answer(reply))

    def reply_start(self, reply: str) -> str | None:
        """With ``answer_format: reasoning``, the reply up to its last ``Answer:``."""
        return reasoning.reply_start(reply) if self.data.answer_format == "reasoning" else None

    def _written(self, name: str) -> tuple[str, ...]:
        """The answer as it is written behind reasons, where they are asked for."""
        return (f"Answer: {name}",) if self.data.answer_format == "reasoning" else ()

    def _class(self, text: str) -> str | None:
        names = self.data.class_names
        for form in (_bare, lambda t: _bare(t).casefold()):
            same = [name for name in names if form(name) == form(text)]
            if len(same) == 1:
                return same[0]
        return None

    def measure(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
        """Accuracy, balanced accuracy, macro F1, the share of unparsable replies, and precision, recall and F1 of each class.

        Only classes that have rows among the examples count in the means and have metrics of their own; a class that no
        reply names has no precision. Where all predictions have probabilities, ``metrics.probability_metrics`` join in.
        """
        if not examples:
            raise UserError("There are no rows to measure.")
        said = {p.id: p for p in predictions}
        names = self.data.class_names
        truths, values = [e.truth for e in examples], [said[e.id].value for e in examples]
        matrix = confusion.confusion_matrix(truths, values, names)
        found = {
            "accuracy": confusion.accuracy(matrix),
            "balanced_accuracy": confusion.balanced_accuracy(matrix),
            "macro_f1": confusion.macro_f1(matrix),
            "unparsable": confusion.unparsable(matrix) if (lost := reasoning.unparsable(predictions)) is None else lost,
        }
        answers = {self.parse(answer): answer for answer in self.answers()}
        chances = [said[e.id].probabilities for e in examples]
        known = [[row[answers[name]] for name in names] for row in chances if row is not None]
        if len(known) == len(examples):
            places = [names.index(truth) for truth in truths]
            right = [value == truth for value, truth in zip(values, truths, strict=True)]
            found |= metrics.probability_metrics(known, places, right)
        occurs = matrix.sum(axis=1) > 0
        each = {
            "recall": confusion.recalls(matrix),
            "precision": confusion.precisions(matrix),
            "f1": confusion.f1_scores(matrix),
        }
        for base, figures in each.items():
            shown = zip(names, figures, occurs, strict=True)
            found |= {f"{base}/{name}": float(x) for name, x, here in shown if here and not np.isnan(x)}
        return found

    def chance(self, examples: Sequence[Example]) -> float:
        """Accuracy of the better of two blind guessers: always the most frequent class, or any class at random."""
        uniform = 1 / len(self.data.class_names)
        counts = Counter(e.truth for e in examples)
        return max(uniform, max(counts.values()) / len(examples)) if counts else uniform


def _bare(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip(WRAPPING))


def _root(data: ClassificationData) -> Path:
    return Path(data.source).expanduser()


def _table(data: ClassificationData) -> Table:
    names, splits = tuple(data.class_names), dict(data.splits)
    wanted = Wanted(data.image_column, data.label_column, names, splits, data.config, data.reasoning_column)
    return read_source(data.source, wanted)


def _names(data: ClassificationData) -> tuple[str, ...]:
    return _table(data).names


def _check_ranges(data: Any) -> None:
    if not data.source.strip():
        raise UserError("data.source: is empty; give the folder of the pictures, a table, or OWNER/NAME on the Hub.")
    if data.limit < 0:
        raise UserError(f"data.limit: {data.limit} is negative; give 0 for all rows, or a number of rows.")
    for key in ("validation_share", "test_share"):
        if not 0 <= getattr(data, key) < 1:
            raise UserError(f"data.{key}: {getattr(data, key)} is no share; give a number from 0 to below 1.")
    if data.validation_share + data.test_share >= 1:
        raise UserError("data: validation_share and test_share leave nothing to learn from; lower one.")
    names = data.class_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"data.class_names: {', '.join(map(repr, twice))} occurs twice; give each name once.")
    if len(names) == 1:
        raise UserError(f"data.class_names: {names[0]!r} is the only class; at least two are needed.")
