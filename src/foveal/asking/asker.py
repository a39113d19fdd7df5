"""Asks a model about examples: in batches, decoding ahead, by scoring, generation or steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice

from foveal.asking.answered import Answered
from foveal.asking.models import AnsweringModel, LocalModel, OwnModel
from foveal.asking.replies import Replies, Reply
from foveal.config.sections import Evaluation
from foveal.errors import ImageError, UserError
from foveal.examples import Example
from foveal.prompts import Prompt
from foveal.results import Prediction
from foveal.tasks.capabilities import Episode, Episodes, answers_of, reply_start_of
from foveal.tasks.task import Task

#: Seconds in which the built-in model scores an answer of a row on one CPU core, see ``benchmarks/label_scoring.py``.
_SCORE_SECONDS = 0.0013
#: From so many answers on, scoring them is remarked on.
_MANY_ANSWERS = 100
#: Pictures decoded at once.
_THREADS = min(8, os.cpu_count() or 1)


class Asker:
    """Asks a model about examples of a task.

    A local VLM scores a closed set of answers, generates text, does both (reasons first), or goes step by step; a served
    model only generates; a task's own model predicts examples itself.

    Args:
        task: The task.
        model: The model.
        options: The recipe's evaluation section.
        cache: Known replies, which are not asked for again; scores and choices are not cached.

    Attributes:
        batch_size: Examples at a time.

    Raises:
        UserError: The method does not suit the task or the model.
    """

    def __init__(
        self, task: Task, model: AnsweringModel | OwnModel, options: Evaluation, cache: Replies | None = None
    ) -> None:
        self.task, self.model, self.options, self.cache = task, model, options, cache
        self._answers: tuple[str, ...] = ()
        self.batch_size = options.batch_size
        if isinstance(model, OwnModel):
            return
        self.batch_size = max(options.batch_size, model.least_batch)
        scores = options.method in ("score", "choose")
        if isinstance(model, LocalModel):
            self._answers = answers_of(task) if options.method != "generate" else ()
        elif scores:
            raise UserError(
                f"evaluation.method: {options.method} needs a model that runs here, for a server gives no more than text; "
                "use generate."
            )
        if scores and not self._answers:
            raise UserError(
                f"evaluation.method: {options.method} needs a closed set of answers, which {task.name} has not; use generate."
            )

    def remark(self, rows: int) -> str:
        """A sentence where scoring so many rows takes a minute or more by a careful guess; else empty."""
        scores = rows * len(self._answers)
        minutes = scores * _SCORE_SECONDS / 60
        if self.options.method == "choose" or len(self._answers) < _MANY_ANSWERS or minutes < 1:
            return ""
        time = f"{minutes / 60:,.1f} hours" if minutes >= 90 else f"{minutes:,.0f} minutes"
        return (
            f"{len(self._answers):,} answers are scored for each of {rows:,} rows: about {time} on a CPU even with a small "
            "model. evaluation.method: choose or generate writes one answer for each row, without probabilities; "
            "evaluation.samples, or --samples, takes fewer rows."
        )

    def ask(
        self, examples: Iterable[Example], progress: Callable[[int], None] | None = None, *, ahead: bool = True
    ) -> Iterator[Prediction]:
        """Predictions in the order of the examples, a batch at a time.

        Args:
            examples: The examples, opened batch by batch; they may be endless.
            progress: Called with the number of examples done since the last call.
            ahead: See ``batches``.

        Raises:
            UserError: A picture is unreadable, a row too long, memory does not suffice, or a server refuses.
        """
        with closing(self.batches(examples, ahead=ahead)) as batches:
            for batch in batches:
                yield from (a.prediction for a in batch if a.prediction is not None)
                if progress is not None:
                    progress(len(batch))

    def batches(
        self, examples: Iterable[Example], *, skip_bad: bool = False, ahead: bool = True
    ) -> Generator[list[Answered], None, None]:
        """Answers in the order of the examples.

        Unreadable examples count towards the size of a batch, so that batches do not depend on ``skip_bad``.

        Args:
            examples: The examples.
            skip_bad: Whether the error of an unreadable picture is its answer; otherwise it is raised.
            ahead: Whether the next batch is fetched and decoded while the model computes. With a slow source, e.g. a
                camera, that would delay answers.

        Raises:
            ImageError: A picture cannot be read; the batches before it are answered.
            UserError: See ``ask``.
        """
        rows = iter(examples)
        with _pool() as pool:

            def start() -> list[tuple[Example, Future[Example | ImageError]]]:
                return [(e, pool.submit(_decoded, e)) for e in islice(rows, self.batch_size)]

            pending = start()
            while pending:
                batch = [(example, decoding.result()) for example, decoding in pending]
                readable = []
                for _, row in batch:
                    if not isinstance(row, ImageError):
                        readable.append(row)
                    elif not skip_bad:
                        raise row
                if ahead:
                    pending = start()
                predictions = iter(self._batch(readable) if readable else [])
                yield [
                    Answered(example, None, str(row))
                    if isinstance(row, ImageError)
                    else Answered(example, next(predictions))
                    for example, row in batch
                ]
                if not ahead:
                    pending = start()

    # ---------------------------------------------------------------- one batch

    def _batch(self, rows: Sequence[Example]) -> list[Prediction]:
        with self.model.evaluating():
            if isinstance(self.model, OwnModel):
                return self.model.predict(rows)
            if isinstance(self.task, Episodes):
                episodes = [self.task.episode(e) for e in rows]
                running = [e for e in episodes if e is not None]
                if len(running) == len(rows):
                    return self._in_steps(self.model, running, rows)
            prompts = [self.task.prompt(e) for e in rows]
            if isinstance(self.model, LocalModel) and self._answers:
                if (start := reply_start_of(self.task, "")) is not None:
                    return self._reasoned(self.model, rows, prompts, start)
                return self._closed(self.model, rows, prompts, self._answers)
            replies = reply_to(self.model, prompts, [e.id for e in rows], self.cache)
            return [
                Prediction(e.id, self.task.parse(r.answer, e), r.text, truth=e.truth, extra=r.facts())
                for e, r in zip(rows, replies, strict=True)
            ]

    def _closed(
        self, model: LocalModel, rows: Sequence[Example], prompts: Sequence[Prompt], texts: Sequence[str]
    ) -> list[Prediction]:
        """Scores the answers, or generates one of them; ``texts`` are the answers as they follow the prompts."""
        names = [e.id for e in rows]
        if self.options.method == "choose":
            answers = dict(zip(texts, self._answers, strict=True))
            chosen = [answers[text] for text in model.choose(prompts, texts, names)]
            return [
                Prediction(e.id, self.task.parse(text, e), text, truth=e.truth)
                for e, text in zip(rows, chosen, strict=True)
            ]
        predictions = []
        scores = model.score(prompts, texts, names)
        for example, shares in zip(rows, scores.double().softmax(-1).tolist(), strict=True):
            probabilities = dict(zip(self._answers, shares, strict=True))
            text = max(probabilities, key=lambda a: probabilities[a])
            value = self.task.parse(text, example)
            predictions.append(Prediction(example.id, value, text, probabilities, example.truth))
        return predictions

    def _reasoned(
        self, model: LocalModel, rows: Sequence[Example], prompts: Sequence[Prompt], start: str
    ) -> list[Prediction]:
        """Scores answers behind the model's reasons with method auto, else behind ``start``, without reasons."""
        texts: list[str] = []
        if self.options.method == "auto":
            texts = [r.text for r in reply_to(model, prompts, [e.id for e in rows], self.cache)]
        starts = [reply_start_of(self.task, text) or start for text in texts] or [start] * len(rows)
        extended = [replace(p, reply_start=s) for p, s in zip(prompts, starts, strict=True)]
        scored = self._closed(model, rows, extended, [f" {answer}" for answer in self._answers])
        if not texts:
            return scored
        return [
            replace(p, text=text, extra={"generated": self.task.parse(text, e)})
            for p, text, e in zip(scored, texts, rows, strict=True)
        ]

    def _in_steps(
        self, model: AnsweringModel, episodes: Sequence[Episode], rows: Sequence[Example]
    ) -> list[Prediction]:
        """Asks the next steps of all episodes together, until all are over."""
        while steps := [(e, p, r.id) for e, r in zip(episodes, rows, strict=True) if (p := e.prompt()) is not None]:
            replies = reply_to(model, [p for _, p, _ in steps], [name for _, _, name in steps], self.cache)
            for (episode, _, _), reply in zip(steps, replies, strict=True):
                episode.reply(reply.answer, reply.confidence)
        return [e.result() for e in episodes]


def reply_to(
    model: AnsweringModel, prompts: Sequence[Prompt], names: Sequence[str], cache: Replies | None = None
) -> list[Reply]:
    """The replies to a batch of prompts, in its order.

    Args:
        model: The model.
        prompts: The prompts.
        names: Name of each in errors.
        cache: Known replies, which are not asked for again; new ones are added as they come. Equal prompts are asked
            once.

    Raises:
        UserError: See ``AnsweringModel.reply``; or the cache cannot be written.
    """
    if cache is None:
        return model.reply(prompts, names)
    keys = [model.key(prompt) for prompt in prompts]
    places = list({key: i for i, key in enumerate(keys) if cache.get(key) is None}.values())
    if places:
        model.reply(
            [prompts[i] for i in places], [names[i] for i in places], lambda n, reply: cache.add(keys[places[n]], reply)
        )
    return [cache[key] for key in keys]


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _decoded(example: Example) -> Example | ImageError:
    """The example with its pictures in memory, or the error of one that cannot be read."""
    try:
        return example.decoded()
    except ImageError as error:
        return error
