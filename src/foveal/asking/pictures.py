"""A user's pictures: finding them, asking about any number of them, and exporting their answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from foveal.asking.answer_files import AnswerFile
from foveal.asking.answered import Answered, Tally
from foveal.asking.asker import Asker
from foveal.errors import UserError
from foveal.images import LeftOut, Picture, walk_images
from foveal.tasks.capabilities import Export, check_words
from foveal.tasks.task import Task


def find_pictures(places: Sequence[str | os.PathLike[str]], left: LeftOut | None = None) -> Iterator[Path]:
    """The pictures of files and folders, in the order of ``places``, each path once.

    A picture or folder that is also named itself comes in its own place, not in that of the folder around it.

    Args:
        places: The files and folders.
        left: Counts the other files of the folders.

    Raises:
        ImageError: See ``walk_images``.
    """
    named = {p: p.is_dir() for p in dict.fromkeys(map(Path, places))}
    for place, is_folder in named.items():
        if not is_folder:
            yield place
            continue
        inner = {p for p, other in named.items() if other and p != place and p.is_relative_to(place)}
        for path in walk_images(place, left):
            if path not in named and inner.isdisjoint(path.parents):
                yield path


def stream(
    asker: Asker,
    pictures: Iterable[Path],
    answers: AnswerFile | None,
    *,
    text: str | None = None,
    skip_bad: bool = False,
    each: Callable[[list[Answered]], None] | None = None,
) -> Tally:
    """Asks about the pictures that have no row in ``answers`` yet, and appends their rows.

    At most two batches of pictures are in memory.

    Args:
        asker: Asks the model.
        pictures: Paths, which may be endless.
        answers: The file, new or continued, which its opener closes; None writes nothing.
        text: The user's words, where the task takes them.
        skip_bad: Whether an unreadable picture gets a row with the error; otherwise the error is raised.
        each: Called with each batch before its rows are written.

    Returns:
        Counts of the whole file, or of the new answers without a file.

    Raises:
        UserError: The text does not fit the task, a picture cannot be read or does not fit the model, or the file
            cannot be written. Rows that were written stay, to be continued.
    """
    task = asker.task
    check_words(task, text)
    tally = answers.tally if answers is not None else Tally()
    new = (p for p in pictures if answers is None or p not in answers)
    examples = (task.example_of([Picture(str(p), p, task.max_pixels)], text) for p in new)
    with closing(asker.batches(examples, skip_bad=skip_bad)) as batches:
        for batch in batches:
            if each is not None:
                each(batch)
            if answers is not None:
                answers.append(batch)
            else:
                tally.add_all(batch)
    if answers is not None:
        answers.finish()
    return tally


def common_folder(places: Sequence[str | os.PathLike[str]]) -> Path:
    """The innermost folder that all of the named files and folders are in; of a single folder, itself."""
    folders = [p if p.is_dir() else p.parent for p in (Path(os.path.abspath(place)) for place in places)]
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # on several drives
        return Path()


def export_folder(folder: Path, picture: Path, base: Path) -> Path:
    """The folder of an answer's files: its path in ``folder`` is the picture's path in ``base``, so that pictures of the
    same name do not collide."""
    inner = Path(os.path.abspath(picture)).parent
    if not inner.is_relative_to(base):
        return folder.joinpath(*(p for p in inner.parts if p != inner.anchor))
    return folder / inner.relative_to(base)


def export_answers(task: Task, batch: Sequence[Answered], folder: Path, base: Path) -> None:
    """Writes the files of a batch's answers; see ``export_folder``.

    Raises:
        UserError: The task's answers are no files, or one cannot be written.
    """
    if not isinstance(task, Export):
        raise UserError(f"--files: the answers of {task.name} are no files; leave --files out.")
    for a in batch:
        if a.prediction is not None:
            task.export(a.example, a.prediction, export_folder(folder, a.path, base))
