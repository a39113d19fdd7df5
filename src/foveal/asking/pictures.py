"""A model asked about any number of pictures: a batch at a time is in memory, and one more is decoded meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from foveal.asking.answer_files import Answered, AnswerFile, Tally
from foveal.asking.asker import Predictor
from foveal.errors import ImageError
from foveal.examples import Example
from foveal.images import Picture, walk_images
from foveal.tasks.capabilities import check_words
from foveal.tasks.task import Task

#: Pictures decoded at once.
_THREADS = min(8, os.cpu_count() or 1)


def find_pictures(places: Sequence[str | os.PathLike[str]]) -> Iterator[Path]:
    """The pictures of files and folders in the order in which these are named; each path comes once.

    A picture that is named itself comes in its own place and not in its folder's, and so does a folder in a folder.

    Raises:
        ImageError: See ``walk_images``.
    """
    named = {p: p.is_dir() for p in dict.fromkeys(map(Path, places))}
    for place, is_folder in named.items():
        if not is_folder:
            yield place
            continue
        inner = {p for p, other in named.items() if other and p != place and p.is_relative_to(place)}
        for path in walk_images(place):
            if path not in named and inner.isdisjoint(path.parents):
                yield path


def ask(
    task: Task, predictor: Predictor, pictures: Iterable[Path], *, text: str | None = None, skip_bad: bool = False
) -> Generator[list[Answered], None, None]:
    """Answers in the order of the pictures, a batch at a time.

    Batches are made of the pictures as they come, the unreadable ones among them, so that which pictures are asked
    together does not depend on ``skip_bad``.

    Args:
        task: What is asked.
        predictor: Who is.
        pictures: Paths, which may be endless; at most two batches of them are taken ahead.
        text: The user's words, where the task takes them.
        skip_bad: Whether unreadable pictures are answered by the reason; otherwise they are raised.

    Raises:
        ImageError: A picture cannot be read; the batches before it were answered.
        UserError: The text does not fit the task, or a picture does not fit the model.
    """
    check_words(task, text)
    paths = iter(pictures)
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")

    def start() -> list[tuple[Path, Example, Future[Example | ImageError]]]:
        batch = list(islice(paths, predictor.options.batch_size))
        examples = [task.example_of([Picture(str(path), path, task.max_pixels)], text) for path in batch]
        return [(p, e, pool.submit(_decoded, e)) for p, e in zip(batch, examples, strict=True)]

    try:
        ahead = start()
        while ahead:
            now = [(path, example, decoding.result()) for path, example, decoding in ahead]
            if not skip_bad:
                for _, _, found in now:
                    if isinstance(found, ImageError):
                        raise found
            ahead = start()
            good = [found for _, _, found in now if not isinstance(found, ImageError)]
            predictions = iter(list(predictor.predict(good)) if good else [])
            yield [
                Answered(path, example, None, str(found))
                if isinstance(found, ImageError)
                else Answered(path, example, next(predictions))
                for path, example, found in now
            ]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def stream(
    task: Task,
    predictor: Predictor,
    pictures: Iterable[Path],
    answers: AnswerFile | None,
    *,
    text: str | None = None,
    skip_bad: bool = False,
    each: Callable[[list[Answered]], None] | None = None,
) -> Tally:
    """Asks about the pictures that ``answers`` has no row of, and adds their rows to it.

    Args:
        task: What is asked.
        predictor: Who is.
        pictures: Paths.
        answers: The file, new or to be continued; None keeps nothing.
        text: The user's words, where the task takes them.
        skip_bad: Whether unreadable pictures get a row with the reason; otherwise the first one ends it.
        each: Called with each batch before its rows are written: what it makes is there when they are.

    Returns:
        Counts of the whole file, or of what was asked where there is none.

    Raises:
        UserError: See ``ask``; or the file cannot be written. What was written stays, to be continued.
    """
    tally = answers.tally if answers is not None else Tally()
    asked = pictures if answers is None else (p for p in pictures if p not in answers)
    batches = ask(task, predictor, asked, text=text, skip_bad=skip_bad)
    try:
        for batch in batches:
            if each is not None:
                each(batch)
            if answers is not None:
                answers.append(batch)
                continue
            for a in batch:
                tally.add(a.prediction.value if a.prediction else None, a.error)
    finally:
        batches.close()
        if answers is not None:
            answers.close()
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
    """Where the files that an answer amounts to go: below ``folder`` as the picture lies below ``base``, so that pictures
    of one name in several folders do not meet.
    """
    inner = Path(os.path.abspath(picture)).parent
    if not inner.is_relative_to(base):
        return folder.joinpath(*(p for p in inner.parts if p != inner.anchor))
    return folder / inner.relative_to(base)


def _decoded(example: Example) -> Example | ImageError:
    """The example with its pictures in memory, or why they cannot be."""
    try:
        return example.decoded()
    except ImageError as error:
        return error
