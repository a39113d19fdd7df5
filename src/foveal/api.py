"""Foveal from Python: open a run and ask it about pictures.

import foveal

run = foveal.load("runs/NAME")
answer = run.predict("photo.jpg")
print(answer.prediction, answer.confidence, answer.probabilities, answer.response)
for answer in run.predict_batch(paths):
    ...
run.predict_folder("photos", "answers.parquet")
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import Picture
from foveal.tasks.capabilities import check_words

if TYPE_CHECKING:
    from foveal.asking.answered import Tally
    from foveal.asking.asker import Asker

#: What a picture may be given as.
Given = str | os.PathLike[str] | Image.Image


@dataclass(frozen=True)
class Answer:
    """What a model says of a picture.

    Attributes:
        prediction: The value, in the form of the task (a class, a number ...); None where the reply could not be read.
        confidence: Probability of the prediction, where it is known.
        probabilities: Of each of the task's answers, where they are a closed set.
        response: The reply as it was written.
        name: The picture's path, or its place in the batch.
        extra: The task's own results, e.g. ``points``.
    """

    prediction: Any
    confidence: float | None
    probabilities: Mapping[str, float] | None
    response: str
    name: str
    extra: Mapping[str, Any] = field(default_factory=dict)


class Model:
    """A model that is ready to be asked.

    Attributes:
        task: Its task.
        checkpoint: What was opened.
    """

    def __init__(self, asker: Asker, checkpoint: str, facts: Mapping[str, Any]) -> None:
        self.task, self.checkpoint, self._asker, self._facts = asker.task, checkpoint, asker, facts

    def predict(self, picture: Given, *, text: str | None = None) -> Answer:
        """The answer on one picture.

        Args:
            picture: A path, or the picture.
            text: Words about it, where the task takes them.

        Raises:
            UserError: The picture cannot be read, or the text does not fit the task.
        """
        return next(self.predict_batch([picture], text=text))

    def predict_folder(
        self,
        folder: str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        text: str | None = None,
        skip_bad: bool = False,
    ) -> Tally:
        """Asks about all pictures below a folder and writes the answers to a file, as ``foveal predict --out`` does.

        However many there are, a batch of them is in memory. The same call continues the file after an interruption,
        asks about pictures that are new, and leaves a complete file as it is.

        Args:
            folder: Where the pictures are.
            out: The file: Parquet where it ends in ``.parquet``, else JSON lines.
            text: Words about the pictures, where the task takes them.
            skip_bad: Whether unreadable pictures get a row with the reason; otherwise the first one ends it.

        Returns:
            Counts of the whole file: rows, unreadable pictures, unreadable replies, and how often each answer came.

        Raises:
            UserError: A picture cannot be read, the text does not fit the task, or the file cannot be written or holds
                answers of another model.
        """
        from foveal.asking.answer_files import open_answers
        from foveal.asking.pictures import find_pictures, stream
        from foveal.images import walk_images

        check_words(self.task, text)
        next(walk_images(folder))
        answers = open_answers(Path(out), {**self._facts, "text": text}, self._asker.batch_size)
        return stream(self._asker, find_pictures([folder]), answers, text=text, skip_bad=skip_bad)

    def predict_batch(self, pictures: Iterable[Given], *, text: str | None = None) -> Iterator[Answer]:
        """Answers in the order of the pictures, which may be endless: a batch is opened at a time.

        Args:
            pictures: Paths, or pictures.
            text: Words about each of them, where the task takes them.

        Raises:
            UserError: A picture cannot be read, or the text does not fit the task.
        """
        check_words(self.task, text)
        rows = (self._example(picture, number, text) for number, picture in enumerate(pictures))
        for p in self._asker.ask(rows, ahead=False):
            yield Answer(p.value, p.confidence, p.probabilities, p.text, p.id, p.extra)

    def _example(self, picture: Given, number: int, text: str | None) -> Example:
        if isinstance(picture, Image.Image):
            return self.task.example_of([Picture(f"picture {number}", picture)], text)
        return self.task.example_of([Picture(str(picture), Path(picture), self.task.max_pixels)], text)


def load(run: str | os.PathLike[str], *, checkpoint: str = "best", **settings: Any) -> Model:
    """Opens a run, or a recipe's model as it is.

    Args:
        run: A run's folder, or a recipe.
        checkpoint: ``best``, ``last`` or ``epoch-N``.
        settings: Keys of the recipe that shall differ, with __ for the dots: ``model__device="cuda"``.

    Raises:
        UserError: There is no such run, checkpoint or key.
    """
    from foveal.asking.answer_files import facts_of
    from foveal.asking.opening import open_asker
    from foveal.config.finding import recipe_or_run
    from foveal.quiet import quiet

    words: list[str] = []
    for key, value in settings.items():
        if value is None:
            raise UserError(f"{key}: is None; leave it out.")
        words += [f"--{key.replace('__', '.')}", str(value)]
    recipe, opened = recipe_or_run(str(run), words)
    quiet()
    asker, name = open_asker(recipe, opened, checkpoint)
    return Model(asker, name, facts_of(recipe, opened, checkpoint, None))
