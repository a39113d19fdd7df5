"""Constrained decoding: the model generates one of a closed set of answers.

At every step only tokens that continue some answer keep their score; the rest get minus infinity. An answer that
begins another ("no", "no lines") differs by its end token.

The steps are greedy: each takes the likeliest token that is allowed. The result can differ from the answer of highest
probability as a whole, which ``scoring.score`` finds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.vlm.encoding import Encoder
from foveal.vlm.loading import Vlm
from foveal.vlm.scoring import to_device


class AnswerTrie:
    """The token ids of a closed set of answers as a tree, whose leaves are answers.

    Args:
        answers: Token ids of each answer, its end token last and nowhere else.

    Raises:
        ValueError: There is no answer, two are the same, or one begins another, end token included.
    """

    def __init__(self, answers: Sequence[Sequence[int]]) -> None:
        if not answers or not all(answers):
            raise ValueError("no answers, or one without tokens")
        self._next: list[dict[int, int]] = [{}]
        self._answer: dict[int, int] = {}
        for k, ids in enumerate(answers):
            node = 0
            for token in ids:
                if node in self._answer:
                    raise ValueError(f"answer {self._answer[node]} begins answer {k}")
                if token not in self._next[node]:
                    self._next.append({})
                    self._next[node][token] = len(self._next) - 1
                node = self._next[node][token]
            if node in self._answer or self._next[node]:
                raise ValueError(f"answer {k} is, or begins, another one")
            self._answer[node] = k

    def walk(self, ids: Sequence[int]) -> tuple[tuple[int, ...], int | None]:
        """Follows some tokens through the tree.

        Args:
            ids: The tokens so far; what follows a complete answer is padding.

        Returns:
            The tokens that may follow, and the answer's index once it is complete (then none may follow).

        Raises:
            ValueError: The tokens begin no answer.
        """
        node = 0
        for token in ids:
            if node in self._answer:
                break
            if token not in self._next[node]:
                raise ValueError(f"the tokens {list(ids)} begin no answer")
            node = self._next[node][token]
        return tuple(self._next[node]), self._answer.get(node)


class OnlyAnswers(LogitsProcessor):  # type: ignore[misc]
    """Masks all tokens but those that continue one of the row's answers; for greedy decoding and sampling.

    Args:
        tries: The answers of each row; an answer's tokens may depend on the prompt.
        start: Length of the padded prompts; all rows are padded on the left.
        end: The token that follows a complete answer.
    """

    def __init__(self, tries: Sequence[AnswerTrie], *, start: int, end: int) -> None:
        self.tries, self.start, self.end = tries, start, end

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores [B, V], minus infinity for every token that continues no answer."""
        out = torch.full_like(scores, -torch.inf)
        lowest = torch.finfo(scores.dtype).min
        for row, (trie, ids) in enumerate(zip(self.tries, input_ids[:, self.start :].tolist(), strict=True)):
            allowed = list(trie.walk(ids)[0]) or [self.end]
            # The model's generation settings may forbid a token of an answer; NaN comes from broken weights.
            out[row, allowed] = scores[row, allowed].nan_to_num(nan=lowest, neginf=lowest)
        return out


@torch.inference_mode()
def generate_choice(
    vlm: Vlm, encoder: Encoder, prompts: Sequence[Prompt], answers: Sequence[str], *, names: Sequence[str]
) -> list[str]:
    """The answer that the model generates for each prompt, out of a closed set.

    Args:
        vlm: The model.
        encoder: Its encoder; rows are padded on the left.
        prompts: The prompts.
        answers: The closed set.
        names: Name of each row in errors.

    Returns:
        One of ``answers`` for each prompt.

    Raises:
        UserError: A row does not fit into the model's context; there are no answers; the tokenizer cannot encode one, or
            encodes two alike; or the model's generation settings stop it early.
    """
    if not answers:
        raise UserError("There are no answers to choose from; name at least one.")
    batch = encoder.encode(prompts, side="left", names=names)
    encoder.check_prompts(batch, names)
    start = batch["input_ids"].shape[1]
    ids = [[encoder.answer_ids(prompt, answer) for answer in answers] for prompt in prompts]
    _check_distinct(ids, answers)
    tries = [AnswerTrie(row) for row in ids]
    out = vlm.model.generate(  # type: ignore[operator]
        **to_device(batch, vlm), max_new_tokens=max(len(one) for row in ids for one in row), do_sample=False,
        num_beams=1, temperature=None, top_p=None, top_k=None, eos_token_id=sorted(encoder.end_ids),
        pad_token_id=encoder.tokenizer.pad_token_id or encoder.end_id,
        logits_processor=LogitsProcessorList([OnlyAnswers(tries, start=start, end=encoder.end_id)]),
    )  # fmt: skip
    replies = []
    for trie, row, name in zip(tries, out[:, start:].tolist(), names, strict=True):
        answer = trie.walk(row)[1]
        if answer is None:
            raise UserError(
                f"{name}: the model was stopped within an answer; remove max_time and stop_strings from its "
                "generation_config.json."
            )
        replies.append(answers[answer])
    return replies


def _check_distinct(ids: Sequence[Sequence[tuple[int, ...]]], answers: Sequence[str]) -> None:
    for row in ids:
        for k, tokens in enumerate(row):
            if tokens in row[:k]:
                raise UserError(
                    f"The answers {answers[row.index(tokens)]!r} and {answers[k]!r} are the same to this model's "
                    "tokenizer; leave one out or word it differently."
                )
