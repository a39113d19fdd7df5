"""The base of all puzzles: generated scenes with exact answers, two published questions, and a strict parser.

A puzzle's own file has its styles (how scenes are drawn at random), the scenes' truth, the two questions and the names
of published pictures. Rows, splits, files and metrics are here.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from PIL import Image

from foveal.errors import UserError
from foveal.examples import Example, Loaded, Split
from foveal.images import Picture
from foveal.prompts import Prompt
from foveal.results import Prediction
from foveal.tasks.blindtest.generate import Generated, Scenes, block_of
from foveal.tasks.blindtest.replies import read_number
from foveal.tasks.blindtest.saving import SAMPLE, histogram, save_split
from foveal.tasks.blindtest.sources import Layout, Row, load_rows
from foveal.tasks.blindtest.wording import WHICH, Which
from foveal.tasks.capabilities import BlindGuess, ClosedAnswers, Generator
from foveal.tasks.lazy import Numbered
from foveal.tasks.readers.annotations import OnBad
from foveal.tasks.readers.checking import check_pictures
from foveal.tasks.task import Task

#: Values of the questions' placeholders, for an error message.
_EXAMPLES = {"from": "A", "to": "B", "shape": "circles"}


@dataclass(frozen=True)
class Question:
    """A question as it was published.

    Attributes:
        text: The question, with placeholders like ``<from>`` for the scene's fields.
        short: A word or two in its place, for models that are trained on them.
        answer: Formats a truth as the question asks.
    """

    text: str
    short: str
    answer: Callable[[Any], str] = str


#: A truth in curly brackets, the format of most questions.
in_braces: Final[Callable[[Any], str]] = "{{{}}}".format


@dataclass
class PuzzleData:
    """Where the pictures come from, and how the question is put."""

    source: str = "generate"
    """`generate`; or a folder that `foveal data make` wrote, a .parquet file or a folder of them, a data set on the Hub
    (OWNER/NAME or OWNER/NAME@REVISION, also XAI/vlmsareblind as it is), or a folder of published pictures, which serve
    as the test split."""
    picture_folder: str = ""
    """Folder of the pictures that a table names, where they lie elsewhere. Without it no path may lead out of the
    source: a table from others could name any file of this machine."""
    style: Literal["paper", "varied"] = "paper"
    """Look of generated pictures: paper with the published parameters, varied for training (wider)."""
    image_size: int = 224
    """Side of generated pictures in pixels."""
    train: int = 10_000
    """Generated pictures to train on; docs/blindtest.md says what is balanced."""
    validation: int = 999
    """Generated pictures that choose the best checkpoint."""
    test: int = 3_000
    """Generated pictures to measure with."""
    seed: int = 0
    """Seed of generated pictures."""
    question: Literal["first", "second", "either", "both"] = "first"
    """Which of BlindTest's two questions is asked: either asks one of them of each picture, both asks both."""
    wording: Literal["published", "short", "mixed"] = "published"
    """published: word for word; short: in a word or two, as suits PaliGemma and small models; mixed: training rows
    either way at random, others as published."""
    answer_format: Literal["asked", "bare"] = "asked"
    """asked: as the question asks, e.g. {2}; bare: 2."""
    on_bad: OnBad = "refuse"
    """At pictures of a source that cannot be used: refuse stops with a sentence, skip leaves them out and counts them."""
    auxiliary: float = 0.0
    """Share of training rows, 0 to 0.9, that ask something else about the picture from which the answer follows, where the
    puzzle has such a question and the row tells its answer: of a subway map `ends A`, the stations where the routes of A
    end, sorted (`C C D`). Validation and test never ask it."""
    ask: dict[str, str] = field(default_factory=dict)
    """What the question names when pictures of your own are asked about, e.g. {from: A, to: C} or {shape: circles}."""


@dataclass
class PuzzleMake:
    """Writes pictures with exact labels, which `datasets` loads as an imagefolder and data.source takes."""

    folder: str
    """Folder of the data set; its README.md describes what was made."""
    split: Split = "train"
    """Which split to write; others in the folder stay."""
    num_images: int = 100
    """Pictures for each label that is balanced; on average, where some labels come more often (subway)."""
    image_size: int = 224
    """Side of the pictures in pixels."""
    dpi: int = 100
    """Dots per inch, as in matplotlib: at a fixed size in pixels, lines get wider in proportion. At 100 they have the
    style's own width, at 200 twice that."""
    style: Literal["paper", "varied"] = "paper"
    """Look: paper or varied, as in the recipe's data.style."""
    seed: int = 0
    """Seed of everything random; the same options write the same pictures."""
    overwrite: bool = False
    """Replace the split if it is there."""
    push_to_hub: str | None = None
    """OWNER/NAME of a data set on the Hub that the split and the README.md are then sent to (after `hf auth login`);
    it is made if it is not there. The README.md names no licence: choose one."""
    private: bool = False
    """A data set that is made on the Hub is only for its owner to see."""

    def check(self) -> Path:
        """Checks the options.

        Returns:
            The folder.

        Raises:
            UserError: An option is out of range.
        """
        if not self.folder.strip():
            raise UserError("--folder: is empty; give the folder of the data set.")
        if self.push_to_hub is not None:
            from foveal.tasks.blindtest import hub

            hub.check_name("--push_to_hub", self.push_to_hub)
        elif self.private:
            raise UserError("--private: is for data sets on the Hub; give --push_to_hub OWNER/NAME too.")
        check_range("--num_images", self.num_images, 1, 10_000_000)
        check_range("--image_size", self.image_size, 32, 4096)
        check_range("--dpi", self.dpi, 20, 400)
        return Path(self.folder).expanduser()

    def push(self, folder: Path, parts: Sequence[str]) -> None:
        """Uploads splits of a folder to ``push_to_hub``, where it is set; see ``hub.push``."""
        if self.push_to_hub is not None:
            from foveal.tasks.blindtest import hub

            hub.push(folder, parts, self.push_to_hub, private=self.private)


@dataclass(frozen=True)
class _Examples:
    """Examples by index, one for each picture and question.

    Labels are balanced in each ``block`` of rows; with ``given`` each row comes with its question.
    """

    rows: Callable[[int], Row]
    question: Literal["first", "second", "either", "both"]
    block: int
    given: bool = False

    def __call__(self, index: int) -> Example:
        number, which = index, int(self.question == "second")
        if self.given:
            row = self.rows(number)
            # A question that is neither of the two has no name, only its text.
            name = {"question": row.which} if row.which else {}
            truth = row.truths[WHICH.index(row.which) if row.which else which]
            return Example(row.id, (row.picture,), truth, {**name, **row.fields})
        if self.question == "both":
            number, which = divmod(index, 2)
        elif self.question == "either":
            # The question alternates by block, so that the labels of each question are balanced.
            which = index // self.block % 2
        row = self.rows(number)
        id = f"{row.id}/{WHICH[which]}" if self.question == "both" else row.id
        return Example(id, (row.picture,), row.truths[which], {"question": WHICH[which], **row.fields})


class Puzzle(Generated, ClosedAnswers, BlindGuess, Generator, Task):
    """A puzzle of BlindTest.

    Class attributes:
        first: The first published question.
        second: The second.
        layout: Names and labels of pictures on disk and on the Hub.
        title: The puzzle's name in tables.
        card: A paragraph of the dataset card about the pictures and the columns.
        values: The answers of the published pictures.
        read: Returns the value in a reply, or None; the reply may repeat any of the texts that are given too.
    """

    first: ClassVar[Question]
    second: ClassVar[Question]
    layout: ClassVar[Layout]
    title: ClassVar[str]
    card: ClassVar[str]
    values: ClassVar[tuple[Any, ...]]
    read: ClassVar[staticmethod[[str, Sequence[str]], Any]] = staticmethod(read_number)
    Data: ClassVar[type] = PuzzleData
    Make: ClassVar[type] = PuzzleMake

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        check_range("data.image_size", data.image_size, 32, 4096)
        check_range("data.auxiliary", data.auxiliary, 0, 0.9)
        for split in ("train", "validation", "test"):
            check_range(f"data.{split}", getattr(data, split), 0, 100_000_000)

    @classmethod
    def questions(cls) -> dict[Which, Question]:
        """The two published questions."""
        return {"first": cls.first, "second": cls.second}

    def load(self, split: Split) -> Loaded:
        """The rows of a split; generated pictures are drawn when they are opened.

        Raises:
            UserError: The source or its split is missing or malformed, a picture cannot be used, or none are to be
                generated.
        """
        data = self.data
        times = 2 if data.question == "both" else 1
        if data.source != "generate":
            only = data.question if data.question in WHICH else None
            texts = [q.text for q in self.questions().values()]
            found, source = load_rows(data.source, split, self.layout, texts, only, data.picture_folder)
            checked = check_pictures(found, lambda row: (row.picture,), max_pixels=self.max_pixels, on_bad=data.on_bad)
            rows = checked.rows
            given = len(rows) > 0 and "text" in rows[0].fields
            examples = _Examples(rows.__getitem__, data.question, 1, given)
            count = len(rows) if given else times * len(rows)
            return Loaded(Numbered(count, examples), source, checked.refused, checked.notes)
        count = getattr(data, split)
        if count == 0:
            raise UserError(f"data.{split}: is 0; give the number of pictures to generate.")
        scenes = Scenes(type(self), data.style, data.image_size, split, data.seed)
        source = f"generated: style {data.style}, {data.image_size} pixels, seed {data.seed}, split {split}"
        return Loaded(Numbered(times * count, _Examples(scenes.row, data.question, len(block_of(type(self))))), source)

    def example_of(self, pictures: Sequence[Picture], words: str | None = None) -> Example:
        """A user's picture; the question's placeholders are filled from ``data.ask``.

        Raises:
            UserError: ``data.ask`` lacks one.
        """
        needed = re.findall(r"<(\w+)>", self.first.text)
        missing = [name for name in needed if name not in self.data.ask]
        if missing:
            example = ", ".join(f"{name}: {_EXAMPLES.get(name, '...')}" for name in needed)
            raise UserError(
                f"data.ask: the question needs {' and '.join(missing)}; give e.g. --data.ask '{{{example}}}': {self.first.text}"
            )
        return Example(pictures[0].name, tuple(pictures), fields=dict(self.data.ask))

    def prompt(self, example: Example, rng: random.Random | None = None) -> Prompt:
        """The picture with the recipe's question and, where it is known, the answer."""
        data, values = self.data, example.fields
        if rng is not None and data.auxiliary and rng.random() < data.auxiliary:
            other = self.auxiliary(example, rng)
            if other is not None:
                return Prompt(example.images, other[0], answer=other[1])
        question = self.questions()[values.get("question", "first" if data.question != "second" else "second")]
        short = rng is not None and rng.random() < 0.5 if data.wording == "mixed" else data.wording == "short"
        text = values.get("text")
        if text is None or (short and "question" in values):
            text = fill(question.short if short else question.text, values)
        answer = None
        if example.truth is not None:
            answer = str(example.truth) if data.answer_format == "bare" else question.answer(example.truth)
        return Prompt(example.images, text, answer=answer)

    def auxiliary(self, example: Example, rng: random.Random) -> tuple[str, str] | None:
        """Another question about a training row, from whose answer the row's own follows, and its answer.

        None where the puzzle has none or the row does not tell the answer.
        """
        return None

    def parse(self, reply: str, example: Example | None = None) -> Any:
        """The value in a reply, or None; numbers in a repeated question do not count."""
        return self.read(reply, [q.text for q in self.questions().values()])

    def answers(self) -> tuple[str, ...]:
        """The published answers as the model writes them; none where the questions ask for different formats."""
        if self.data.answer_format == "bare":
            return tuple(map(str, self.values))
        questions = WHICH if self.data.question in ("either", "both") else (self.data.question,)
        texts = {tuple(map(self.questions()[which].answer, self.values)) for which in questions}
        return texts.pop() if len(texts) == 1 else ()

    def measure(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
        """See ``measure_labels``."""
        return measure_labels(examples, predictions)

    def chance(self, examples: Sequence[Example]) -> float:
        """Accuracy of the better of two blind guessers: always the most frequent truth, or any answer at random."""
        counts = Counter(e.truth for e in examples)
        return max(1 / len(self.values), max(counts.values(), default=0) / max(len(examples), 1))

    @classmethod
    def make(cls, options: Any) -> Path:
        """Writes a split of generated pictures, equal to those of ``load`` with the same settings.

        Raises:
            UserError: An option is out of range, the split exists, the disk is full, or the upload failed.
        """
        folder: Path = options.check()
        scenes = Scenes(cls, options.style, options.image_size, options.split, options.seed, options.dpi / 100)
        save_split(
            folder,
            options.split,
            _drawn(scenes, len(cls.labels) * options.num_images, cls.layout.two_truths),
            dpi=options.dpi,
            head=_CARD.format(
                title=cls.title,
                name=cls.name,
                tag=cls.name.split("/")[-1],
                card=cls.card.strip(),
                questions="\n".join(f"{i}. `{q.text}`" for i, q in enumerate((cls.first, cls.second), 1)),
                sample=SAMPLE,
            ),
            section=partial(_section, options),
            overwrite=options.overwrite,
        )
        options.push(folder, [options.split])
        return folder


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


def check_range(key: str, value: float, low: float, high: float) -> None:
    """Checks an option's range.

    Raises:
        UserError: The value is outside.
    """
    if not low <= value <= high:
        raise UserError(f"{key}: {value} is out of range; give {low} to {high}.")


def fill(text: str, values: Mapping[str, Any]) -> str:
    """A question with each placeholder ``<name>`` replaced by the value of that name."""
    return re.sub(r"<(\w+)>", lambda match: str(values[match[1]]), text)


def _drawn(scenes: Scenes, count: int, two_truths: bool) -> Iterator[tuple[Image.Image, dict[str, Any]]]:
    """Pictures, each with its line of ``metadata.csv``."""
    for index in range(count):
        scene = scenes(index)
        first, second = scene.truths
        cells: dict[str, Any] = {"label": first}
        if first != second or two_truths:
            cells["label_second"] = second
        yield scene.draw(scenes.size), {**cells, **scene.fields, **scene.cells}


_CARD = """\
---
pretty_name: "{title}"
task_categories:
- visual-question-answering
tags:
- synthetic
- blindtest
- {tag}
size_categories:
- n<1K
---

# {title}

![Some of the pictures with their labels]({sample})

{card}

BlindTest (arXiv 2407.06581) asks:

{questions}

Made by `foveal data make {name}`; labels are exact.

Load it with `datasets.load_dataset("imagefolder", data_dir=FOLDER)`, or train on it with `--data.source FOLDER`; where
it is on the Hub, with `datasets.load_dataset("OWNER/NAME")` or `--data.source OWNER/NAME`.
"""


def _section(options: Any, cells: Sequence[Mapping[str, Any]]) -> str:
    omitted = ("folder", "overwrite", "push_to_hub", "private")
    settings = [(f.name, getattr(options, f.name)) for f in fields(options) if f.name not in omitted]
    lines = ["| option | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in settings), ""]
    lines.append(histogram(cell["label"] for cell in cells))
    if "label_second" in cells[0]:
        lines += ["", histogram((cell["label_second"] for cell in cells), "label of the second question")]
    return "\n".join(lines)
