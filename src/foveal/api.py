"""Foveal from Python.

import foveal

trained = foveal.train("quickstart", data__style="paper", training__epochs=1)
answer = trained.model.predict("photo.jpg")
print(answer.prediction, answer.confidence, answer.probabilities, answer.response)

model = foveal.load("runs/NAME")
for answer in model.predict_batch(paths):
    ...
model.predict_folder("photos", "answers.parquet")
print(foveal.evaluate("runs/NAME", split="validation").value)
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveal.asking.answered import Tally
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.examples import SPLITS, Example, Split
from foveal.images import Picture
from foveal.results import Result
from foveal.runs import Run
from foveal.tasks.capabilities import check_words
from foveal.tasks.task import Task

#: What a picture may be given as: a path, the bytes of a file, an open binary file, an array [H, W], [H, W, 3] or
#: [H, W, 4] of uint8 or bool, or a picture in memory.
PictureLike = str | os.PathLike[str] | bytes | BinaryIO | NDArray[np.uint8] | NDArray[np.bool_] | Image.Image | Picture
#: One picture, or a tuple of as many as a question of the task is about.
Given = PictureLike | tuple[PictureLike, ...] | list[PictureLike]
#: A recipe: the name of one that ships, a YAML file, or a ``Recipe``.
RecipeLike = str | os.PathLike[str] | Recipe


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
    """A model that is ready to be asked, from any number of threads, whose batches it answers one after the other.

    Attributes:
        task: Its task.
        id: The recipe's ``model.id``.
        checkpoint: What was opened: a checkpoint's name, or the model's id where there is no run.
        device: Where it runs: a device of PyTorch, or ``server``.
    """

    def __init__(self, recipe: Recipe, asker: Any, checkpoint: str, facts: Mapping[str, Any]) -> None:
        self.task: Task = asker.task
        self.id, self.checkpoint, self.device = recipe.model.id, checkpoint, _device(asker)
        self._asker, self._facts = asker, facts

    def __repr__(self) -> str:
        return (
            f"Model(task={self.task.name!r}, model={self.id!r}, checkpoint={self.checkpoint!r}, device={self.device!r})"
        )

    def predict(self, picture: Given, *, text: str | None = None) -> Answer:
        """The answer on one picture.

        Args:
            picture: The picture in any form of ``PictureLike``; a tuple of two for tasks that compare.
            text: Words about it, where the task takes them.

        Raises:
            UserError: The picture cannot be read, there are too many or too few, or the text does not fit the task.
        """
        return next(self.predict_batch([picture], text=text))

    def predict_batch(self, pictures: Iterable[Given], *, text: str | None = None) -> Iterator[Answer]:
        """Answers in the order of the pictures, which may be endless: a batch is opened at a time.

        Args:
            pictures: What ``predict`` takes, any number of times.
            text: Words about each of them, where the task takes them.

        Raises:
            UserError: See ``predict``; it is raised where the answer would come.
        """
        _check_text(self.task, text)
        rows = (self._example(given, number, text) for number, given in enumerate(_several(pictures)))
        for p in self._asker.ask(rows, ahead=False):
            yield Answer(p.value, p.confidence, p.probabilities, p.text, p.id, p.extra)

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
            UserError: A picture cannot be read, the text does not fit the task, or the file cannot be written, is being
                written by another process or thread, or holds answers of another model.
        """
        from foveal.asking.answer_files import open_answers
        from foveal.asking.pictures import find_pictures, stream
        from foveal.images import walk_images

        _check_text(self.task, text)
        folder, out = _path(folder, "folder"), _path(out, "out")
        next(walk_images(folder))
        with open_answers(out, {**self._facts, "text": text}, self._asker.batch_size) as answers:
            return stream(self._asker, find_pictures([folder]), answers, text=text, skip_bad=skip_bad)

    def _example(self, given: Given, number: int, text: str | None) -> Example:
        pictures = given if isinstance(given, tuple | list) else (given,)
        wanted = self.task.pictures
        if len(pictures) != wanted:
            how = "one picture" if wanted == 1 else f"a tuple of {wanted} pictures"
            raise UserError(f"picture {number}: {self.task.name} asks about {how} at a time, not {len(pictures)}.")
        names = [f"picture {number}{f' ({i} of {wanted})' if wanted > 1 else ''}" for i in range(1, wanted + 1)]
        return self.task.example_of(
            [_picture(p, name, self.task.max_pixels) for p, name in zip(pictures, names, strict=True)], text
        )


@dataclass(frozen=True)
class Trained:
    """What a training left.

    Attributes:
        path: The run's folder, which ``load`` and ``evaluate`` take.
        results: Measurements: before the training where the recipe asks for one, and after it.
        model: The best checkpoint, ready to be asked.
    """

    path: Path
    results: tuple[Result, ...]
    model: Model


def train(recipe: RecipeLike, **keys: Any) -> Trained:
    """Trains a model by a recipe, measures it and writes a run folder, as ``foveal train`` does.

    Args:
        recipe: The name of a recipe that ships, a YAML file, or a ``Recipe``.
        keys: Keys of the recipe that shall differ, with __ for the dots: ``training__epochs=1``.

    Raises:
        UserError: There is no such recipe or key, or something else that a user can put right.
    """
    resolved, run = _open_recipe(recipe, keys)
    if run is not None:
        raise UserError(
            f"{run.path}: is a run; continue it with `foveal train --resume {run.path}`, or repeat it with {run.recipe} "
            "and another name."
        )
    from foveal.asking.answer_files import facts_of
    from foveal.config.reading import read_recipe
    from foveal.training.train import train as run_training

    done = run_training(resolved, _console())
    kept = read_recipe(done.run.recipe)  # with what the task learned of its data
    best = done.run.checkpoint("best").name
    model = Model(kept, done.asker, best, facts_of(kept, done.run, best, None))
    return Trained(done.run.path, tuple(done.results), model)


def evaluate(
    run_or_recipe: RecipeLike,
    *,
    split: Split | None = None,
    checkpoint: str = "best",
    samples: int = 0,
    name: str | None = None,
    **keys: Any,
) -> Result:
    """Measures a run, or a recipe's model as it is, and writes results and a report, as ``foveal evaluate`` does.

    Args:
        run_or_recipe: A run's folder, or a recipe.
        split: What is measured; the recipe's ``evaluation.split`` by default. Another source than the run's is measured
            whole where it has no splits, else its test split.
        checkpoint: ``best``, ``last`` or ``epoch-N``.
        samples: Rows, evenly spread over the split; 0 for all.
        name: Name of the folder below the run's ``evaluation``; the split's by default.
        keys: Keys of the recipe that shall differ, with __ for the dots: ``data__source="photos"``.

    Raises:
        UserError: There is no such run, checkpoint, split or key, or something else that a user can put right.
    """
    if split is not None and split not in SPLITS:
        raise UserError(f"split: {split!r} is none; choose one of {', '.join(SPLITS)}.")
    if not isinstance(samples, int | np.integer) or samples < 0:
        raise UserError(f"samples: must be a whole number of at least 0, not {samples!r}.")
    if name is not None and not isinstance(name, str):
        raise UserError(f"name: must be a folder's name, not {name!r}.")
    recipe, run = _open_recipe(run_or_recipe, keys)
    from foveal.evaluation.evaluate import evaluate as measure_split

    result, _ = measure_split(recipe, run, _console(), split=split, checkpoint=checkpoint, samples=samples, name=name)
    return result


def load(run: RecipeLike, *, checkpoint: str = "best", **keys: Any) -> Model:
    """Opens a run, or a recipe's model as it is.

    Args:
        run: A run's folder, or a recipe.
        checkpoint: ``best``, ``last`` or ``epoch-N``.
        keys: Keys of the recipe that shall differ, with __ for the dots: ``model__device="cuda"``.

    Raises:
        UserError: There is no such run, checkpoint or key.
    """
    recipe, opened = _open_recipe(run, keys)
    from foveal.asking.answer_files import facts_of
    from foveal.asking.opening import open_asker

    asker, name = open_asker(recipe, opened, checkpoint)
    return Model(recipe, asker, name, facts_of(recipe, opened, checkpoint, None))


def _device(asker: Any) -> str:
    loaded = getattr(asker.model, "vlm", None) or getattr(asker.model, "specialist", None)
    return str(loaded.device) if loaded else "server"


def _open_recipe(what: RecipeLike, keys: Mapping[str, Any]) -> tuple[Recipe, Run | None]:
    """The recipe with its keys changed and the run it is of, if any; the machine is made ready for its device.

    Raises:
        UserError: There is neither, or no such key.
    """
    from foveal.config.finding import recipe_or_run
    from foveal.config.reading import changed_recipe
    from foveal.devices import prepare
    from foveal.quiet import quiet

    if not isinstance(what, str | os.PathLike | Recipe):
        raise UserError(
            f"{type(what).__name__} is no recipe; give a run's folder, the name or the YAML file of a recipe, or a Recipe."
        )
    words = [f"--{key.replace('__', '.')}={_value(key, value)}" for key, value in keys.items()]
    if isinstance(what, Recipe):
        recipe, run = changed_recipe(what, words), None
    else:
        recipe, run = recipe_or_run(os.fsdecode(what), words)
    prepare(recipe.model.device)
    quiet()
    return recipe, run


def _value(key: str, value: Any) -> str:
    """A key's value as the command line takes it."""
    if value is None:
        raise UserError(f"{key}: is None; leave it out.")
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    return json.dumps(value, default=lambda v: v.item() if isinstance(v, np.generic) else str(v))


def _path(given: object, what: str) -> Path:
    if not isinstance(given, str | os.PathLike) or not os.fspath(given) or "\0" in os.fsdecode(given):
        raise UserError(f"{what}: must be a path, not {given!r}.")
    return Path(os.fsdecode(given))


def _check_text(task: Task, text: object) -> None:
    if text is not None and not isinstance(text, str):
        raise UserError(f"text: must be words, not {text!r}.")
    check_words(task, text)


def _console() -> Any:
    from foveal.terminal import Terminal

    # Of several processes (torchrun) only the first one writes.
    return Terminal(highlight=False, markup=False, quiet=os.environ.get("RANK", "0") != "0")


def _several(pictures: Iterable[Given]) -> Iterable[Given]:
    """The pictures, where they are several: the parts of a single one would be asked about otherwise.

    Raises:
        UserError: They are a single one, or nothing that can be walked through.
    """
    flat = isinstance(pictures, np.ndarray) and pictures.ndim < 4
    single = isinstance(pictures, str | bytes | os.PathLike | Image.Image | Picture) or hasattr(pictures, "read")
    if flat or single or not isinstance(pictures, Iterable):
        raise UserError("predict_batch takes several pictures, e.g. a list; use predict for a single one.")
    return pictures


def _picture(given: object, name: str, max_pixels: int) -> Picture:
    """A user's picture.

    Args:
        given: Hopefully a ``PictureLike``.
        name: What it is called unless it has a path.
        max_pixels: Refused when opened if it has more pixels than that.

    Raises:
        UserError: It is of no kind that can be a picture.
    """
    if isinstance(given, Picture):
        return given.limited(max_pixels)
    if isinstance(given, str | os.PathLike):
        path = os.fsdecode(given)
        return Picture(path, Path(path), max_pixels)
    if isinstance(given, bytes | bytearray | memoryview):
        return Picture(name, bytes(given), max_pixels)
    if isinstance(given, Image.Image):
        return Picture(name, given, max_pixels)
    if isinstance(given, np.ndarray):
        return Picture(name, _from_array(given, name), max_pixels)
    if hasattr(given, "read"):
        return _from_file(given, name, max_pixels)
    raise UserError(
        f"{name}: {type(given).__name__} is no picture; give a path, the bytes of a file, an open binary file, an array "
        "of uint8 or a PIL image."
    )


def _from_file(file: Any, name: str, max_pixels: int) -> Picture:
    name = file.name if isinstance(getattr(file, "name", None), str) else name
    try:
        content = file.read()
    except (OSError, ValueError) as error:  # closed, write-only, or a text file that is no text
        raise UserError(f"{name}: cannot be read ({error}); give a file that is open in binary mode.") from None
    if not isinstance(content, bytes):
        raise UserError(f"{name}: is open as text; open it in binary mode, with 'rb'.")
    return Picture(name, content, max_pixels)


def _from_array(array: NDArray[Any], name: str) -> Image.Image:
    if isinstance(array, np.ma.MaskedArray):
        raise UserError(f"{name}: a masked array has pixels without a colour; give them one, with its filled().")
    if array.dtype.kind == "f":
        raise UserError(
            f"{name}: {array.dtype} has no agreed white; convert it, e.g. (255 * array).round().astype('uint8') where "
            "white is 1."
        )
    if array.dtype not in (np.uint8, np.bool_):
        raise UserError(f"{name}: an array of {array.dtype} is no picture; convert it to uint8, with 255 for white.")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or array.size == 0:
        raise UserError(
            f"{name}: an array of shape {array.shape} is no picture; give [height, width], or with 3 or 4 channels at the "
            "end."
        )
    # A copy: a camera's buffer is written over before the batch is full.
    return Image.fromarray(array.astype(np.uint8) * 255 if array.dtype == np.bool_ else array.copy())
