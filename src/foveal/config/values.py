"""Values of a recipe's keys: converted by their types, and the sentences for those that cannot be.

Conversion is jsonargparse's (PyYAML alone reads ``3e-4`` as text).
"""

from __future__ import annotations

import datetime
import difflib
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from foveal.errors import UserError

#: What messages about a key from the command line begin with; about one from a file, its name and a colon.
COMMAND_LINE = "--"


#: Whole numbers from here on are beyond what other libraries count with.
_LARGEST = 2**63


class Text(str):
    """A value from the command line, which the parser shall convert by type; one from YAML has a type already."""


def is_list(kind: Any) -> bool:
    """Whether a key takes several values."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(is_list(k) for k in typing.get_args(kind))
    return typing.get_origin(kind) in (list, tuple)


def choices(kind: Any) -> list[str]:
    """The texts that a key takes, where it takes but a few."""
    if typing.get_origin(kind) is typing.Literal:
        return [str(a) for a in typing.get_args(kind)]
    return [c for a in typing.get_args(kind) for c in choices(a)]


def convert(value: Any, kind: Any) -> Any:
    """A value as its key's type wants it.

    Raises:
        ArgumentError: It cannot be.
    """
    if _fits(value, kind):
        return value  # the parser takes minutes for a list of 20,000 names
    parser = ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("--value", type=kind)
    return _plain(parser.parse_args([f"--value={_argument(value)}"]).value)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type already, whatever it may hold."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return isinstance(value, list) and all(_fits(entry, arguments[0]) for entry in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(key, arguments[0]) and _fits(entry, arguments[1]) for key, entry in value.items()
        )
    return kind in (str, int, float, bool) and type(value) is kind and (kind is not float or math.isfinite(value))


def _argument(value: Any) -> str:
    return str(value) if isinstance(value, str) else json.dumps(value)


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the type itself."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def check_plain(key: str, value: Any, kind: Any, where: str) -> None:
    """Types that a conversion from text would let pass: true for a number, 3.7 for a count, a number for a name."""
    if isinstance(value, Text):
        return
    options = alternatives(kind)
    if value is None and type(None) in options:
        return
    wrong = (
        (isinstance(value, bool) and bool not in options)
        or (value is None)
        or (str in options and not isinstance(value, str))
        or (isinstance(value, str) and bool in options)
        or (isinstance(value, Mapping) and not all(isinstance(name, str) for name in value))
        or (isinstance(value, int) and abs(value) >= _LARGEST)
    )
    if wrong:
        raise wrong_type(key, value, kind, where)


def wrong_type(key: str, value: Any, kind: Any, where: str) -> UserError:
    """The sentence for a value that its key's type does not take."""
    options = choices(kind)
    for given in value if isinstance(value, list) else [value]:
        if options and isinstance(given, str) and given not in options:
            near = difflib.get_close_matches(given, options, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(options)}."
            return UserError(f"{where}{key}: {str(given)!r} is not possible; {hint}")
    # YAML reads no, 3 and 2024-01-01 as something else than text.
    text = str in alternatives(kind)
    quotes = "; put it in quotes" if text and isinstance(value, bool | int | float | datetime.date) else ""
    return UserError(f"{where}{key}: must be {_name(kind)}, not {as_yaml(value)}{quotes}.")


def as_yaml(value: Any) -> str:
    """A value as YAML writes it."""
    if isinstance(value, str):
        return repr(str(value))
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value), str(value))


def _name(kind: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        type(None): "null",
        Any: "a value",
    }
    if kind in names:
        return names[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (list, tuple):
        return "a list, each entry " + _name(arguments[0])
    if origin is dict:
        return f"a mapping of names to values, each {_name(arguments[1])}"
    return " or ".join(_name(a) for a in arguments) or str(kind)


def _plain(value: Any) -> Any:
    """jsonargparse's namespaces as plain dictionaries; text from the command line as plain text."""
    if isinstance(value, Namespace):
        return value.as_dict()
    return str(value) if isinstance(value, Text) else value
