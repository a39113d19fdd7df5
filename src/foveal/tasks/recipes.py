"""Reads recipes: YAML files and dotted overrides, checked against the typed sections of the recipe's task.

Unknown keys, wrong types and impossible values become one sentence that names the key and the nearest right name.
Type conversion is jsonargparse's (PyYAML alone reads ``3e-4`` as text).
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from foveal.errors import UserError
from foveal.recipe import Evaluation, Model, Recipe, Training
from foveal.tasks.task import find_task

_SECTIONS = {"model": Model, "training": Training, "evaluation": Evaluation}
_TOP = ("task", "objective", "name", "output", "seed")


def recipe_parser(task: str, *, prog: str = "foveal train", description: str = "") -> ArgumentParser:
    """A parser of all keys of a task's recipe, with their docstrings as help.

    Raises:
        UserError: There is no such task.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    # default_env off and no config file option: the YAML is read by us, so that its errors can name file and key.
    parser = ArgumentParser(prog=prog, description=description, exit_on_error=False, add_help=False)
    helps = _field_helps(Recipe)
    hints = typing.get_type_hints(Recipe)
    defaults = {f.name: f.default for f in dataclasses.fields(Recipe)}
    for name in _TOP:
        default = task if name == "task" else defaults[name]
        parser.add_argument(f"--{name}", type=hints[name], default=default, help=helps[name])
    parser.add_class_arguments(find_task(task).Data, "data")
    for name, section in _SECTIONS.items():
        parser.add_class_arguments(section, name)
    return parser


@cache
def _field_helps(cls: type) -> dict[str, str]:
    """Docstrings below the fields of a dataclass."""
    import docstring_parser

    source = docstring_parser.parse_from_object(cls)
    return {p.arg_name: (p.description or "").replace("\n", " ") for p in source.params}


def keys(task: str) -> dict[str, Any]:
    """Every dotted key of a task's recipe -> its type."""
    found: dict[str, Any] = {name: typing.get_type_hints(Recipe)[name] for name in _TOP}
    for name, section in {"data": find_task(task).Data, **_SECTIONS}.items():
        found |= _keys_of(section, name)
    return found


def _keys_of(cls: type, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        kind = hints[f.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            found |= _keys_of(kind, f"{prefix}.{f.name}")
        else:
            found[f"{prefix}.{f.name}"] = kind
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        UserError: It is missing, not YAML, or holds something else.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "check the path."
        raise UserError(f"{path}: there is no such recipe; {hint}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give a recipe's YAML file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not a text file; give a recipe's YAML file.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}: is not valid YAML{where} ({getattr(error, 'problem', error)}).") from None
    if not isinstance(value, dict):
        raise UserError(
            f"{path}: a recipe is a mapping of sections (task, data, model, ...), not {type(value).__name__}."
        )
    return value


def flatten(value: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; a mapping that is itself a value (learning_rates) stays one."""
    out: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and name not in known:
            out |= flatten(item, known, f"{name}.") if item else {}
        else:
            out[name] = item
    return out


def unknown_key(key: str, known: Mapping[str, Any], where: str) -> UserError:
    """The sentence for a key that no recipe of the task has."""
    last = key.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    near = near or [k for k in known if k.rsplit(".", 1)[-1] == last][:1]
    near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "`--help` lists all keys."
    return UserError(f"{where}there is no key {key!r}; {hint}")


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
            raise UserError(f"{word!r} is not expected here; settings are written --section.key value.")
        key, equals, value = word[2:].partition("=")
        if key not in known:
            raise unknown_key(key, known, "")
        i += 1
        if equals:
            values = [value]
        else:
            start = i
            while i < len(arguments) and not re.match(r"--[A-Za-z]", arguments[i]):
                i += 1
            values = list(arguments[start:i])
        if _is_list(known[key]):
            single = len(values) == 1 and values[0].startswith("[")
            out[key] = yaml.safe_load(values[0]) if single else values
        elif not values and known[key] is bool:
            out[key] = True
        elif len(values) != 1:
            raise UserError(f"--{key} takes one value, not {len(values)}.")
        else:
            out[key] = _Text(values[0])
    return out


class _Text(str):
    """A value from the command line, which the parser shall convert by type; one from YAML has a type already."""


def _is_list(kind: Any) -> bool:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(_is_list(k) for k in typing.get_args(kind))
    return typing.get_origin(kind) in (list, tuple)


def build(task: str, values: Mapping[str, Any], where: str = "") -> Recipe:
    """A recipe from dotted keys.

    Args:
        task: The task's name.
        values: Dotted key -> value.
        where: What errors begin with, e.g. the file's name and a colon.

    Raises:
        UserError: A key is unknown, a required one missing, or a value of the wrong type.
    """
    known = keys(task)
    for key in values:
        if key not in known:
            raise unknown_key(key, known, where)
    parsed = {}
    for key, value in values.items():
        _check_plain(key, value, known[key], where)
        try:
            parsed[key] = _convert(value, known[key])
        except (ArgumentError, argparse.ArgumentError, TypeError, ValueError) as error:
            raise _wrong_type(key, value, known[key], where) from error
    missing = [k for k in _required(find_task(task).Data, "data") if parsed.get(k) is None]
    if missing:
        raise UserError(f"{where}{missing[0]} is required; set it in the recipe or with --{missing[0]}.")
    sections = {"data": find_task(task).Data, **_SECTIONS}
    parts = {name: _instance(section, name, parsed) for name, section in sections.items()}
    return Recipe(**parts, **{k: parsed[k] for k in _TOP if k in parsed})


def _instance(cls: type, prefix: str, parsed: Mapping[str, Any]) -> Any:
    """A dataclass, and those inside it, from converted dotted keys; what is not named has its default."""
    values: dict[str, Any] = {}
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        key, kind = f"{prefix}.{f.name}", hints[f.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            values[f.name] = _instance(kind, key, parsed)
        elif key in parsed:
            values[f.name] = parsed[key]
    return cls(**values)


def _required(cls: type, prefix: str) -> list[str]:
    """Dotted keys of fields without a default."""
    return [
        f"{prefix}.{f.name}"
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]


def _convert(value: Any, kind: Any) -> Any:
    """A value as its key's type wants it.

    Raises:
        ArgumentError: It cannot be.
    """
    parser = ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("--value", type=kind)
    return _plain(parser.parse_args([f"--value={_argument(value)}"]).value)


def _argument(value: Any) -> str:
    return str(value) if isinstance(value, str) else json.dumps(value)


def _check_plain(key: str, value: Any, kind: Any, where: str) -> None:
    """Types that a conversion from text would let pass: true for a number, 3.7 for a count, a number for a name."""
    if isinstance(value, _Text):
        return
    options = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if value is None and type(None) in options:
        return
    wrong = (
        (isinstance(value, bool) and bool not in options)
        or (value is None)
        or (str in options and not isinstance(value, str))
        or (isinstance(value, str) and bool in options)
    )
    if wrong:
        raise _wrong_type(key, value, kind, where)


def _wrong_type(key: str, value: Any, kind: Any, where: str) -> UserError:
    options = _choices(kind)
    if options and isinstance(value, str):
        near = difflib.get_close_matches(value, options, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(options)}."
        return UserError(f"{where}{key}: {str(value)!r} is not possible; {hint}")
    shown = value if not isinstance(value, str) else str(value)
    return UserError(f"{where}{key}: must be {_name(kind)}, not {shown!r}.")


def _choices(kind: Any) -> list[str]:
    if typing.get_origin(kind) is typing.Literal:
        return [str(a) for a in typing.get_args(kind)]
    return [c for a in typing.get_args(kind) for c in _choices(a)]


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
    return str(value) if isinstance(value, _Text) else value


def task_of(values: Mapping[str, Any], arguments: Sequence[str], where: str) -> str:
    """The recipe's task: ``--task`` or the YAML's ``task``.

    Raises:
        UserError: Neither names one.
    """
    for i, word in enumerate(arguments):
        if word == "--task" and i + 1 < len(arguments):
            return arguments[i + 1]
        if word.startswith("--task="):
            return word.split("=", 1)[1]
    task = values.get("task")
    if not isinstance(task, str):
        raise UserError(
            f"{where or 'The recipe: '}task is required, e.g. `task: blindtest/lines`; `foveal tasks` lists them."
        )
    return task


def read_recipe(path: Path | None, arguments: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, changed by ``--section.key value`` arguments.

    Raises:
        UserError: See ``build``.
    """
    where = f"{path}: " if path is not None else ""
    raw = read_yaml(path) if path is not None else {}
    task = task_of(raw, arguments, where)
    known = keys(task)
    values = flatten(raw, known)
    for key in values:
        if key not in known:
            raise unknown_key(key, known, where)
    changed = overrides(arguments, known)
    if path is not None:
        # The file alone first, so that its errors name it; overrides may stand in for keys that it leaves open.
        build(task, {**{k: v for k, v in changed.items() if k not in values}, **values, "task": task}, where)
    return build(task, {**values, **changed, "task": task})


# -------------------------------------------------------------------- one section alone, for `foveal data make`


def section_keys(cls: type) -> dict[str, Any]:
    """Every key of a dataclass -> its type."""
    return {k.removeprefix("section."): v for k, v in _keys_of(cls, "section").items()}


def section_parser(cls: type, prog: str, description: str) -> ArgumentParser:
    """A parser of a dataclass's fields, with their docstrings as help."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog=prog, description=description, exit_on_error=False, add_help=False)
    parser.add_class_arguments(cls, None)
    return parser


def build_section(cls: type, arguments: Sequence[str], known: Mapping[str, Any]) -> Any:
    """A dataclass from ``--key value`` arguments.

    Raises:
        UserError: A key is unknown, a required one missing, or a value of the wrong type.
    """
    values = {}
    for key, value in overrides(arguments, known).items():
        try:
            values[key] = _convert(value, known[key])
        except (ArgumentError, argparse.ArgumentError, TypeError, ValueError) as error:
            raise _wrong_type(f"--{key}", value, known[key], "") from error
    missing = [
        k.removeprefix("section.") for k in _required(cls, "section") if k.removeprefix("section.") not in values
    ]
    if missing:
        raise UserError(f"--{missing[0]} is required.")
    return cls(**values)
