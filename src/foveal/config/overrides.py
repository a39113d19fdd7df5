"""``--section.key value`` words of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from foveal.config.keys import unknown_key
from foveal.config.values import COMMAND_LINE, Text, is_list, wrong_type
from foveal.config.yaml_files import parse_yaml
from foveal.errors import UserError


def overrides(arguments: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """``--section.key value`` pairs as a dictionary; a list takes several values (``--data.class_names cat dog``).

    Raises:
        UserError: A key is unknown or lacks its value.
    """
    out: dict[str, Any] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or len(word) < 3:
            raise UserError(f"{word!r} is not expected here; settings are written --key value.")
        key, equals, value = word[2:].partition("=")
        if key not in known:
            raise unknown_key(key, known, COMMAND_LINE)
        out[key] = _value(key, [value] if equals else _take_values(words), known[key])
    return out


def _take_values(words: list[str]) -> list[str]:
    """Takes the words in front of the next key away."""
    number = next((i for i, word in enumerate(words) if re.match(r"--[A-Za-z]", word)), len(words))
    values = words[:number]
    del words[:number]
    return values


def _value(key: str, values: list[str], kind: Any) -> Any:
    """What a key was given: true for a switch without a value, a list, or one text."""
    if not values and kind is bool:
        return True
    if not values:
        raise UserError(f"--{key} needs a value{' ([] for none)' if is_list(kind) else ''}.")
    if is_list(kind):
        as_list = len(values) == 1 and values[0].startswith("[")
        return _list_in(key, values[0], kind) if as_list else values
    if len(values) != 1:
        raise UserError(f"--{key} takes one value, not {len(values)} ({' '.join(values)}); quote a value with spaces.")
    return Text(values[0])


def _list_in(key: str, text: str, kind: Any) -> Any:
    """A list that was written as in YAML, e.g. ``[vision, projector]``."""
    try:
        return parse_yaml(text, f"--{key}")
    except UserError:
        raise wrong_type(key, text, kind, COMMAND_LINE) from None
