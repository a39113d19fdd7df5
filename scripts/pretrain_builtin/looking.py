"""Where the language model looks: one of its attention heads is told which picture tokens a question and its answer are about.

Without this a small language model learns to point at a lone figure in minutes, and then for a hundred thousand scenes at any of
several, whichever kind is asked for. Told where to look, it chooses by kind after some thousands. The head is an ordinary one: at
the last token of a question it should attend to all places that are meant, and before each letter of a cell to the cell's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from canvas import Point, Question

#: Layer and head of the language model that are told where to look. The layer before it brings the words of a kind together,
#: the one after it makes letters of what was seen.
LAYER, HEAD = 1, 0
#: Look: row of the batch, place of the token that looks, number of the picture token to see, and whether an answer looks.
Look = tuple[int, int, int, int]


def looks_of(tokenizer: Any, question: Question, row: int, start: int, asked: int, side: int) -> list[Look]:
    """What the tokens of one question and its answer should see.

    Args:
        tokenizer: Of the model.
        question: With the points of its answer.
        row: Of the batch.
        start: Place of the answer's first token in the row.
        asked: Place of the last token of the question's own text.
        side: Picture tokens in a row of the picture.
    """
    seen = [token_of(point, side) for point in question.points]
    looks = [(row, asked, token, 0) for token in sorted(set(seen))]
    words = tokenizer.convert_ids_to_tokens(tokenizer(question.answer, add_special_tokens=False)["input_ids"])
    letters = [k for k, word in enumerate(words) if len(word.lstrip("\u0120")) == 1 and word[-1].isalpha()]
    # Words before the cells may be spelled in letters, too.
    for k, place in enumerate(letters[len(letters) - 2 * len(seen) :]):
        # A token is said by the one before it.
        looks.append((row, start + place - 1, seen[k // 2], 1))
    return looks


def token_of(point: Point, side: int) -> int:
    """Number of the picture token that a point lies on; ``point`` in parts of the picture's width and height."""
    x, y = (min(int(v * side), side - 1) for v in point)
    return y * side + x


class Attention:
    """The newest attention of the head that is told where to look, [rows, tokens, tokens]. The language model must be eager."""

    def __init__(self, model: Any) -> None:
        self.weights = torch.empty(0)
        model.model.text_model.layers[LAYER].self_attn.register_forward_hook(self._keep)

    def _keep(self, _: nn.Module, __: Any, out: Any) -> None:
        self.weights = out[1][:, HEAD]


def loss(weights: torch.Tensor, looks: Sequence[Look] | torch.Tensor, first: int) -> torch.Tensor:
    """Mean negative logarithm of the attention on what should be seen; questions and answers weigh alike.

    Args:
        weights: Of the head, [rows, tokens, tokens].
        looks: [n, 4], see ``Look``.
        first: Place of the first picture token, the same in each row.
    """
    row, place, token, answer = torch.as_tensor(looks, device=weights.device).T
    length = weights.shape[1]
    # All picture tokens that one token should see count together.
    who, index = torch.unique(row * length + place, return_inverse=True)
    mass = torch.zeros(len(who), device=weights.device).index_add(0, index, weights[row, place, first + token])
    said = torch.zeros_like(who).index_put((index,), answer)
    each = -torch.log(mass + 1e-6)
    parts = [each[said == kind].mean() for kind in (0, 1) if (said == kind).any()]
    return torch.stack(parts).sum()
