"""``--section.key value`` words of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from foveal.config.keys import unknown_key
from foveal.config.values import COMMAND_LINE, Text, is_list, wrong_type
from foveal.errors import UserError


def overrides(arguments: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """``--section.key value`` pairs as a dictionary; a list takes several values (``--data.class_names cat dog``).

    Raises:
        UserError: A key is unknown or lacks its value.
    """
    out: dict[str, Any] = {}
    i = 0
    while i < len(arguments):
        word = arguments[i]
        if not word.startswith("--") or len(word) < 3:
            raise UserError(f"{word!r} is not expected here; settings are written --key value.")
        key, equals, value = word[2:].partition("=")
        if key not in known:
            raise unknown_key(key, known, COMMAND_LINE)
        i += 1
        if equals:
            values = [value]
        else:
            start = i
            while i < len(arguments) and not re.match(r"--[A-Za-z]", arguments[i]):
                i += 1
            values = list(arguments[start:i])
        if not values and known[key] is bool:
            out[key] = True
        elif not values:
            raise UserError(f"--{key} needs a value{' ([] for none)' if is_list(known[key]) else ''}.")
        elif is_list(known[key]):
            single = len(values) == 1 and values[0].startswith("[")
            out[key] = _list_in(key, values[0], known[key]) if single else values
        elif len(values) != 1:
            raise UserError(
                f"--{key} takes one value, not {len(values)} ({' '.join(values)}); quote a value with spaces."
            )
        else:
            out[key] = Text(values[0])
    return out


def _list_in(key: str, text: str, kind: Any) -> Any:
    """A list that was written as in YAML, e.g. ``[vision, projector]``."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise wrong_type(key, text, kind, COMMAND_LINE) from None
