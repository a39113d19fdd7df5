"""Where the language model looks: three of its attention heads are told which tokens a question and its answer are about.

Without this a small language model learns to point at a lone figure in minutes, and then for fifty thousand scenes at any of
several, whichever kind is asked for. Told where to look, it begins to choose by kind after ten thousand. The heads are ordinary ones:

* at the last token of a question, one looks at all places that are meant;
* before each letter of a cell, one looks back at that token, and in the next layer one looks at the cell's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from canvas import Point


class Head(NamedTuple):
    """A head that is told where to look. The layer before the first brings the words of a kind together."""

    layer: int
    number: int


#: From a question to all its places, from a letter back to the question, and from a letter to its place.
HEADS = (Head(1, 0), Head(1, 3), Head(2, 0))
ASKED, BACK, SAID = range(len(HEADS))
#: One of ``HEADS``, row of the batch, place of the token that looks, and of the one that it is to see.
Look = tuple[int, int, int, int]


def looks_of(
    points: Sequence[Point], words: Sequence[str], row: int, start: int, asked: int, first: int, side: int
) -> list[Look]:
    """What the tokens of one question and its answer should see.

    Args:
        points: What the answer points at.
        words: The answer's tokens; the last letters of cells are those of the points.
        row: Of the batch.
        start: Place of the answer's first token in the row.
        asked: Place of the last token of the question's own text.
        first: Place of the first picture token.
        side: Picture tokens in a row of the picture.
    """
    seen = [first + token_of(point, side) for point in points]
    looks = [(ASKED, row, asked, token) for token in sorted(set(seen))]
    letters = [k for k, word in enumerate(words) if len(word.lstrip("\u0120")) == 1 and word[-1].isalpha()]
    # Words before the cells may be spelled in letters, too.
    for k, place in enumerate(letters[len(letters) - 2 * len(seen) :]):
        # A token is said by the one before it.
        looks += [(BACK, row, start + place - 1, asked), (SAID, row, start + place - 1, seen[k // 2])]
    return looks


def token_of(point: Point, side: int) -> int:
    """Number of the picture token that a point lies on; ``point`` in parts of the picture's width and height."""
    x, y = (min(int(v * side), side - 1) for v in point)
    return y * side + x


class Attention:
    """The newest attention of those of ``HEADS`` that a model has, each [rows, tokens, tokens]. Its language must be eager."""

    def __init__(self, model: Any) -> None:
        self.weights: dict[int, torch.Tensor] = {}
        for layer in {head.layer for head in HEADS}:
            model.model.text_model.layers[layer].self_attn.register_forward_hook(self._keeper(layer))

    def _keeper(self, layer: int) -> Any:
        def keep(_: nn.Module, __: Any, out: Any) -> None:
            for k, head in enumerate(HEADS):
                if head.layer == layer and head.number < out[1].shape[1]:
                    self.weights[k] = out[1][:, head.number]

        return keep


def loss(weights: dict[int, torch.Tensor], looks: Sequence[Look] | torch.Tensor) -> torch.Tensor:
    """Negative logarithm of the attention on what should be seen: the sum of the heads' means.

    Args:
        weights: By number of the head, [rows, tokens, tokens].
        looks: [n, 4], see ``Look``.
    """
    table = torch.as_tensor(looks)
    parts = []
    for k, weight in weights.items():
        row, place, token = table[table[:, 0] == k, 1:].to(weight.device).T
        if not len(row):
            continue
        # All tokens that one token should see count together.
        who, index = torch.unique(row * weight.shape[1] + place, return_inverse=True)
        mass = torch.zeros(len(who), device=weight.device).index_add(0, index, weight[row, place, token].float())
        parts.append(-torch.log(mass + 1e-6).mean())
    return torch.stack(parts).sum()
