"""The one way to ask a model about examples: batches, decoding ahead, and how each kind of question is put."""

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

#: Pictures decoded at once.
_THREADS = min(8, os.cpu_count() or 1)


class Asker:
    """Asks a model about examples of a task.

    A VLM that runs here scores a closed set of answers, writes free text, does both (reasons first), or goes step by
    step; a served model writes only; a task's own model is asked as it likes.

    Args:
        task: What is asked, and how replies are read.
        model: The model.
        options: The recipe's evaluation section.
        cache: Replies that are kept, and not asked for again. What is scored or chosen is not kept.

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

    def ask(
        self, examples: Iterable[Example], progress: Callable[[int], None] | None = None, *, ahead: bool = True
    ) -> Iterator[Prediction]:
        """Predictions in the order of the examples, a batch at a time.

        Args:
            examples: What is asked about, opened batch by batch; they may be endless.
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

        Batches are made of the examples as they come, the unreadable ones among them, so that which are asked together
        does not depend on ``skip_bad``.

        Args:
            examples: What is asked about.
            skip_bad: Whether examples with unreadable pictures are answered by the reason; otherwise it is raised.
            ahead: Whether the next batch is fetched and decoded while the model computes. Examples that have to be
                waited for, e.g. those of a camera, would keep answers waiting.

        Raises:
            ImageError: A picture cannot be read; the batches before it were answered.
            UserError: See ``ask``.
        """
        rows = iter(examples)
        with _pool() as pool:

            def start() -> list[tuple[Example, Future[Example | ImageError]]]:
                return [(e, pool.submit(_decoded, e)) for e in islice(rows, self.batch_size)]

            waiting = start()
            while waiting:
                now = [(example, decoding.result()) for example, decoding in waiting]
                good = []
                for _, row in now:
                    if not isinstance(row, ImageError):
                        good.append(row)
                    elif not skip_bad:
                        raise row
                if ahead:
                    waiting = start()
                predictions = iter(self._batch(good) if good else [])
                yield [
                    Answered(example, None, str(row))
                    if isinstance(row, ImageError)
                    else Answered(example, next(predictions))
                    for example, row in now
                ]
                if not ahead:
                    waiting = start()

    # ---------------------------------------------------------------- one batch

    def _batch(self, rows: Sequence[Example]) -> list[Prediction]:
        with self.model.evaluating():
            if isinstance(self.model, OwnModel):
                return self.model.predict(rows)
            if isinstance(self.task, Episodes):
                episodes = [self.task.episode(e) for e in rows]
                talks = [e for e in episodes if e is not None]
                if len(talks) == len(rows):
                    return self._in_steps(self.model, talks, rows)
            prompts = [self.task.prompt(e) for e in rows]
            if isinstance(self.model, LocalModel) and self._answers:
                if (bare := reply_start_of(self.task, "")) is not None:
                    return self._reasoned(self.model, rows, prompts, bare)
                return self._closed(self.model, rows, prompts, self._answers)
            replies = reply_to(self.model, prompts, [e.id for e in rows], self.cache)
            return [
                Prediction(e.id, self.task.parse(r.answer, e), r.text, truth=e.truth, extra=r.facts())
                for e, r in zip(rows, replies, strict=True)
            ]

    def _closed(
        self, model: LocalModel, rows: Sequence[Example], prompts: Sequence[Prompt], texts: Sequence[str]
    ) -> list[Prediction]:
        """Scores, or writes, one of the answers; ``texts`` are the answers as they stand behind the prompts."""
        names = [e.id for e in rows]
        if self.options.method == "choose":
            of = dict(zip(texts, self._answers, strict=True))
            chosen = [of[t] for t in model.choose(prompts, texts, names)]
            return [
                Prediction(e.id, self.task.parse(text, e), text, truth=e.truth)
                for e, text in zip(rows, chosen, strict=True)
            ]
        out = []
        table = model.score(prompts, texts, names)
        for example, shares in zip(rows, table.double().softmax(-1).tolist(), strict=True):
            probabilities = dict(zip(self._answers, shares, strict=True))
            text = max(probabilities, key=lambda a: probabilities[a])
            out.append(Prediction(example.id, self.task.parse(text, example), text, probabilities, example.truth))
        return out

    def _reasoned(
        self, model: LocalModel, rows: Sequence[Example], prompts: Sequence[Prompt], bare: str
    ) -> list[Prediction]:
        """The answer behind reasons: the model's own with method auto, none otherwise."""
        texts: list[str] = []
        if self.options.method == "auto":
            texts = [r.text for r in reply_to(model, prompts, [e.id for e in rows], self.cache)]
        starts = [reply_start_of(self.task, text) or bare for text in texts] or [bare] * len(rows)
        behind = [replace(p, reply_start=start) for p, start in zip(prompts, starts, strict=True)]
        scored = self._closed(model, rows, behind, [f" {answer}" for answer in self._answers])
        if not texts:
            return scored
        return [
            replace(p, text=text, extra={"generated": self.task.parse(text, e)})
            for p, text, e in zip(scored, texts, rows, strict=True)
        ]

    def _in_steps(
        self, model: AnsweringModel, episodes: Sequence[Episode], rows: Sequence[Example]
    ) -> list[Prediction]:
        """Steps of all episodes together; those that are over leave the batch."""
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
        prompts: The questions.
        names: What an error calls each.
        cache: What is in it is not asked, and what is new is added as it comes; equal questions are asked once.

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
    """The example with its pictures in memory, or why they cannot be."""
    try:
        return example.decoded()
    except ImageError as error:
        return error
