"""Finds a model's own markers in text: a picture's place, the end of a turn.

A tokenizer reads ``<image>`` or ``<|im_end|>`` as a token wherever it stands. In a question, a class name or a sentence of
the data it would stand for a picture that is not there, or end the turn; so such text is refused, not changed. Nothing
here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from foveal.errors import UserError
from foveal.prompts import Prompt

#: Markers of the usual families, for served models, whose tokenizers are not here. Tags of HTML are none.
USUAL: Final = re.compile(
    r"<\|[A-Za-z0-9_]+\|>|<｜[^<>]{1,40}｜>|\[/?INST\]|\[IMG(?:_BREAK|_END)?\]|<(?:image|video|image_soft_token|IMG_CONTEXT|"
    r"fake_token_around_image|global-img|end_of_utterance|(?:start|end)_of_(?:image|turn)|row_\d+_col_\d+|bos|eos|pad)>"
)


def markers_of(processor: Any) -> re.Pattern[str]:
    """Matches the special tokens of a processor and of its tokenizer."""
    tokenizer = processor.tokenizer
    known = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    known |= {str(token) for token in tokenizer.all_special_tokens}
    known |= {value for name, value in vars(processor).items() if name.endswith("_token") and isinstance(value, str)}
    # A token such as "unk" or a line break is plain text as well.
    marks = [token for token in known if len(token) > 2 and not token.isspace() and not token.isalnum()]
    return re.compile("|".join(map(re.escape, sorted(marks, key=lambda token: (-len(token), token)))) or r"(?!)")


def check_plain(markers: re.Pattern[str], prompts: Sequence[Prompt], names: Iterable[str]) -> None:
    """Refuses prompts whose text holds a marker.

    Args:
        markers: See ``markers_of``.
        prompts: The prompts.
        names: Name of each in errors.

    Raises:
        UserError: Names the row, the text and the marker.
    """
    for prompt, name in zip(prompts, names, strict=True):
        texts = [("question", prompt.user), ("system text", prompt.system), ("answer", prompt.answer)]
        texts += [pair for turn in prompt.turns for pair in zip(("question", "answer"), turn, strict=True)]
        for what, text in texts:
            if text and (marker := _first(markers, text)):
                raise UserError(
                    f"{name}: the {what} holds {marker}, which the model reads as a mark of its own (a picture's place, "
                    "say, or the end of a turn) and not as text; take it out or write it otherwise."
                )


@lru_cache(maxsize=10_000)
def _first(markers: re.Pattern[str], text: str) -> str:
    found = markers.search(text)
    return found[0] if found else ""
