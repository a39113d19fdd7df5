"""Classification: which of K classes does a picture show?"""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from foveal.errors import UserError
from foveal.examples import Example, Loaded, Split
from foveal.prompts import Prompt
from foveal.results import Metrics, Prediction
from foveal.tasks.capabilities import BlindGuess, ClosedAnswers, ReasonsFirst, WeightedRows
from foveal.tasks.classification import metrics, reasoning
from foveal.tasks.classification.balance import check_balance, class_weights, sentence, spread
from foveal.tasks.classification.duplicates import shared_pictures
from foveal.tasks.classification.labels import similar_names
from foveal.tasks.classification.metrics import METRICS
from foveal.tasks.classification.rows import Row, Table, Wanted
from foveal.tasks.classification.settings import ClassificationData
from foveal.tasks.classification.sources import read_source
from foveal.tasks.readers.checking import check_pictures
from foveal.tasks.readers.hold_out import hold_out
from foveal.tasks.task import Task

__all__ = ["Classification", "ClassificationData"]

#: A validation split with fewer rows is remarked on.
FEW = 20
#: Stripped from both ends of a reply and of a class name before the two are compared.
WRAPPING = " \t\r\n\"'`“”‘’«».*[]"


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
        table = _table(self.data)
        origin = table.origin or str(_root(self.data))
        self._check_names(table, origin)
        rows, source = self._rows(table, split, origin)
        if split == "train" and len({row.label for row in rows}) == 1:
            raise UserError(
                f"{source}: every row of the train split is of the class {rows[0].label!r}; add rows of the others."
            )
        loaded = self._loaded(table, split, rows, source)
        return replace(loaded, notes=(*loaded.notes, *self._shared(table, split)))

    def load_other(self, split: Split) -> Loaded:
        """The rows of a source that the model has not learned from: a split, or all where there are no splits.

        ``class_names`` stay the answers; the source may lack some of them, but has no others.

        Raises:
            UserError: See ``load``; or a row is of a class that is no answer of the model.
        """
        table = _table(self.data, answering=True)
        origin = table.origin or str(_root(self.data))
        whole = table.whole or (len(table.splits) == 1 and split not in table.splits)
        rows = [row for part in table.splits.values() for row in part] if whole else table.splits.get(split, ())
        if not rows:
            there = ", ".join(part for part, its in table.splits.items() if its)
            raise UserError(f"{origin}: has no pictures of a {split} split, only of {there}; give --split.")
        if strange := Counter(row.label for row in rows if row.label not in self.data.class_names):
            name, count = min(strange.items())
            more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            raise UserError(
                f"{origin}: the class {name!r} (of {count} rows){more} is no answer of the model, which knows "
                f"{', '.join(self.data.class_names)}; rename it as one of them, or leave those rows out."
            )
        return replace(self._loaded(table, split, rows, origin), whole=whole)

    def _loaded(self, table: Table, split: Split, rows: Sequence[Row], source: str) -> Loaded:
        """Rows as examples, as many as ``limit`` says; every picture was checked."""
        root = _root(self.data)
        chosen = spread(rows, self.data.limit, self.data.seed)
        checked = check_pictures(
            chosen, lambda row: (row.picture,), max_pixels=self.max_pixels, on_bad=self.data.on_bad_image,
            key="data.on_bad_image", row_name=lambda row: row.id,
        )  # fmt: skip
        good, refused = checked.rows, checked.refused
        lost = sorted({row.label for row in chosen} - {row.label for row in good})
        if lost:
            raise UserError(
                f"{table.origin or root}: no picture of {', '.join(map(repr, lost))} in the {split} split can be used, "
                f"the first because of {refused[0][1]}"
            )
        notes = [*table.notes, *similar_names(table.names), *checked.notes]
        if split == "validation" and len(good) < FEW:
            notes.append(
                f"The validation split has only {len(good)} {'row' if len(good) == 1 else 'rows'}: which checkpoint is the "
                "best is chosen by chance then; give more, or raise data.validation_share."
            )
        weights = class_weights(self.data.class_weights, [row.label for row in good]) if split == "train" else {}
        if weights:
            notes.append(sentence(weights))
        examples = [Example(row.id, (row.picture,), row.label, self._fields(row, split, weights)) for row in good]
        return Loaded(examples, source, (*table.skipped.get(split, ()), *refused), tuple(notes))

    def _fields(self, row: Row, split: Split, weights: Mapping[str, float]) -> dict[str, Any]:
        """The reason and the loss weight of a row, where it has them."""
        fields: dict[str, Any] = {"weight": weights.get(row.label, 1.0)} if weights else {}
        # Only training rows must have reasons.
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
        """Sentences about pictures that this split shares with others, or that have two labels."""
        _, parts = self._parts(table)
        limited = {s: spread(rows, self.data.limit, self.data.seed) for s, rows in parts.items() if rows}
        return shared_pictures(limited, split)

    def _check_names(self, table: Table, origin: str) -> None:
        given, known = set(self.data.class_names), set(table.names)
        kind = "classes" if table.origin else "class folders"
        short = "classes" if table.origin else "folders"
        if given != known:
            raise UserError(
                f"data.class_names: {', '.join(self.data.class_names)} are not the {kind} of {origin}, which are "
                f"{', '.join(table.names)} (only in class_names: {', '.join(sorted(given - known)) or 'none'}; only "
                f"{short}: {', '.join(sorted(known - given)) or 'none'}); give exactly the {short}' names."
            )

    def _parts(self, table: Table) -> tuple[dict[Split, float], dict[Split, Sequence[Row]]]:
        """The share of each split that is held out, and the rows of all splits, read or held out."""
        data = self.data
        shares: dict[Split, float] = {}
        if table.whole:
            shares["test"] = data.test_share
        if "validation" not in table.splits:
            shares["validation"] = data.validation_share
        rows = table.splits.get("train", ())
        held = hold_out(rows, shares, data.seed, name=lambda row: row.id, group=lambda row: row.label)
        return shares, {**table.splits, **held}

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
        name = self._class(reply)
        return self._class(reasoning.behind_answer(reply)) if name is None else name

    def reply_start(self, reply: str) -> str | None:
        """With ``answer_format: reasoning``, the reply up to its last ``Answer:``."""
        return reasoning.reply_start(reply) if self.data.answer_format == "reasoning" else None

    def _written(self, name: str) -> tuple[str, ...]:
        """The answer as it stands behind reasons, where these are asked for."""
        return (f"Answer: {name}",) if self.data.answer_format == "reasoning" else ()

    def _class(self, text: str) -> str | None:
        plain, folded = _by_form(tuple(self.data.class_names))
        bare = _bare(text)
        for same in (plain.get(bare, ()), folded.get(bare.casefold(), ())):
            if len(same) == 1:
                return same[0]
        return None

    def measure(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
        """Accuracy, balanced accuracy, macro F1, the share of unparsable replies, and precision, recall and F1 of each class.

        Only classes that have rows among the examples count in the means and have metrics of their own; a class that no
        reply names has no precision. Where all predictions have probabilities, ``metrics.probability_metrics`` join in.
        """
        return metrics.measure_classes(examples, predictions, self.data.class_names)

    def chance(self, examples: Sequence[Example]) -> float:
        """Accuracy of the better of two blind guessers: always the most frequent class, or any class at random."""
        uniform = 1 / len(self.data.class_names)
        counts = Counter(e.truth for e in examples)
        return max(uniform, max(counts.values()) / len(examples)) if counts else uniform


def _bare(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip(WRAPPING))


@lru_cache(maxsize=8)
def _by_form(names: tuple[str, ...]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The classes of each bare name, and of each bare name without regard to upper and lower case."""
    plain: dict[str, list[str]] = {}
    folded: dict[str, list[str]] = {}
    for name in names:
        plain.setdefault(_bare(name), []).append(name)
        folded.setdefault(_bare(name).casefold(), []).append(name)
    return plain, folded


def _root(data: ClassificationData) -> Path:
    return Path(data.source).expanduser()


def _table(data: ClassificationData, *, answering: bool = False) -> Table:
    names, splits = tuple(data.class_names), dict(data.splits)
    wanted = Wanted(
        data.image_column, data.label_column, names, splits, data.config, data.reasoning_column, data.on_bad_label,
        answering, data.picture_folder,
    )  # fmt: skip
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
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UserError(f"data.class_names: {', '.join(map(repr, twice))} occurs twice; give each name once.")
    if len(names) == 1:
        raise UserError(f"data.class_names: {names[0]!r} is the only class; at least two are needed.")
