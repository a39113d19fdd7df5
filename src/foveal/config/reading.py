"""Reads recipes: YAML files and dotted overrides, checked against the typed sections of the recipe's task.

Unknown keys, wrong types and impossible values become one sentence that names the key and the nearest right name.
Type conversion is jsonargparse's (PyYAML alone reads ``3e-4`` as text).
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import difflib
import json
import re
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from foveal import plugins
from foveal.config.sections import Evaluation, Model, Recipe, Training, check
from foveal.errors import UserError

#: Sections that all tasks' recipes have; a task may have keys of its own in ``model``.
_COMMON = {"model": Model, "training": Training, "evaluation": Evaluation}
#: Keys that every recipe once had and only some tasks' have now -> the value that says nothing.
_RETIRED = {"model.vision": "vlm", "model.sam": "small"}
_TOP = ("task", "objective", "name", "output", "seed")
#: What messages about a key from the command line begin with; about one from a file, its name and a colon.
_COMMAND_LINE = "--"


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
    for name, section in _sections(task).items():
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
    known = _top_keys()
    for name, section in _sections(task).items():
        known |= _keys_of(section, name)
    return known


def common_keys() -> dict[str, Any]:
    """Every dotted key that all tasks' recipes have -> its type."""
    known = _top_keys()
    for name, section in _COMMON.items():
        known |= _keys_of(section, name)
    return known


def _top_keys() -> dict[str, Any]:
    return {name: typing.get_type_hints(Recipe)[name] for name in _TOP}


def _sections(task: str) -> dict[str, type]:
    """The sections of a task's recipe.

    Raises:
        UserError: There is no such task.
    """
    kind = plugins.find("task", task)
    return {"data": kind.Data, **_COMMON, "model": kind.Model}


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


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which PyYAML takes the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping whose keys differ."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"the key {key.value!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        UserError: It is missing, not YAML, or holds something else.
    """
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), _Loader)
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
        what = {type(None): "empty", list: "a list"}.get(type(value), f"only {value!r}")
        raise UserError(f"{path}: is {what}; a recipe is a mapping of keys and sections (task, data, model, ...).")
    return value


def flatten(value: Mapping[str, Any], known: Mapping[str, Any], where: str = "", prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; a mapping that is itself a value (learning_rates) stays one.

    A section without anything in it has its defaults.

    Raises:
        UserError: A section is a plain value, or a key is given nested and dotted.
    """
    out: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if name not in sections(known):
            new = {name: item}
        elif isinstance(item, Mapping):
            new = flatten(item, known, where, f"{name}.")
        elif item is None:
            new = {}
        else:
            raise UserError(f"{where}{_no_value(name, known)}, not {_shown(item)}.")
        if both := sorted(out.keys() & new.keys()):
            raise UserError(f"{where}{both[0]}: is given twice; remove one.")
        out |= new
    return out


def sections(known: Mapping[str, Any]) -> list[str]:
    """The sections that dotted keys lie in, e.g. model and model.lora."""
    parts = [key.split(".") for key in known]
    return list(dict.fromkeys(".".join(p[:i]) for p in parts for i in range(1, len(p))))


def _no_value(section: str, known: Mapping[str, Any]) -> str:
    example = next(k for k in known if k.startswith(f"{section}."))
    return f"{section}: is a section with keys of its own, e.g. {example}"


def unknown_key(key: str, known: Mapping[str, Any], where: str) -> UserError:
    """The sentence for a key that no recipe of the task has.

    Args:
        key: What was given.
        known: All keys.
        where: The file and a colon, or ``_COMMAND_LINE``.
    """
    dashes = where == _COMMAND_LINE
    name, given = key.replace("-", "_"), f"--{key}" if dashes else repr(key)
    start = "There" if dashes else f"{where}there"
    parent = name.rpartition(".")[0]
    if dashes and parent in known:
        return UserError(f"{start} is no key {given}; give --{parent} whole, e.g. --{parent} '{{name: value}}'.")
    if dashes and key in sections(known):
        return UserError(f"--{_no_value(key, known)}.")
    last = {k.rpartition(".")[2]: k for k in list(known)[::-1]}
    near = [last[leaf]] if (leaf := name.rpartition(".")[2]) in last else []
    near = near or difflib.get_close_matches(name, [*known, *sections(known)], n=1, cutoff=0.75)
    near = near or [last[n] for n in difflib.get_close_matches(leaf, last, n=1, cutoff=0.75)]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {f'--{near[0]}' if dashes else repr(near[0])}?" if near else "`--help` lists all keys."
    return UserError(f"{start} is no key {given}; {hint}")


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
            raise unknown_key(key, known, _COMMAND_LINE)
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
            out[key] = _Text(values[0])
    return out


def _list_in(key: str, text: str, kind: Any) -> Any:
    """A list that was written as in YAML, e.g. ``[vision, projector]``."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise _wrong_type(key, text, kind, _COMMAND_LINE) from None


class _Text(str):
    """A value from the command line, which the parser shall convert by type; one from YAML has a type already."""


def is_list(kind: Any) -> bool:
    """Whether a key takes several values."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(is_list(k) for k in typing.get_args(kind))
    return typing.get_origin(kind) in (list, tuple)


def _converted(values: Mapping[str, Any], known: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Dotted keys with their values as the keys' types want them.

    Raises:
        UserError: A key is unknown, or a value of the wrong type.
    """
    for key in values:
        if key not in known:
            raise unknown_key(key, known, where)
    parsed = {}
    for key, value in values.items():
        _check_plain(key, value, known[key], where)
        if type(value) is str and str in _alternatives(known[key]):
            parsed[key] = value  # the text "null" stays one
            continue
        try:
            parsed[key] = _convert(value, known[key])
        except (ArgumentError, argparse.ArgumentError, TypeError, ValueError) as error:
            raise _wrong_type(key, value, known[key], where) from error
    return parsed


def _assemble(task: str, parsed: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from dotted keys of the right types.

    Raises:
        UserError: A required key is missing, or a value impossible.
    """
    missing = [k for k in _required(_sections(task)["data"], "data") if parsed.get(k) is None]
    if missing:
        raise UserError(f"{where}{missing[0]} is required; set it in the recipe or with --{missing[0]}.")
    parts = {name: _instance(section, name, parsed) for name, section in _sections(task).items()}
    recipe = Recipe(**parts, **{k: parsed[k] for k in _TOP if k in parsed})
    check(recipe)
    return recipe


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


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the type itself."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _check_plain(key: str, value: Any, kind: Any, where: str) -> None:
    """Types that a conversion from text would let pass: true for a number, 3.7 for a count, a number for a name."""
    if isinstance(value, _Text):
        return
    options = _alternatives(kind)
    if value is None and type(None) in options:
        return
    wrong = (
        (isinstance(value, bool) and bool not in options)
        or (value is None)
        or (str in options and not isinstance(value, str))
        or (isinstance(value, str) and bool in options)
        or (isinstance(value, Mapping) and not all(isinstance(name, str) for name in value))
    )
    if wrong:
        raise _wrong_type(key, value, kind, where)


def _wrong_type(key: str, value: Any, kind: Any, where: str) -> UserError:
    options = choices(kind)
    for given in value if isinstance(value, list) else [value]:
        if options and isinstance(given, str) and given not in options:
            near = difflib.get_close_matches(given, options, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(options)}."
            return UserError(f"{where}{key}: {str(given)!r} is not possible; {hint}")
    # YAML reads no, 3 and 2024-01-01 as something else than text.
    text = str in _alternatives(kind)
    quotes = "; put it in quotes" if text and isinstance(value, bool | int | float | datetime.date) else ""
    return UserError(f"{where}{key}: must be {_name(kind)}, not {_shown(value)}{quotes}.")


def _shown(value: Any) -> str:
    """A value as YAML writes it."""
    if isinstance(value, str):
        return repr(str(value))
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value), str(value))


def choices(kind: Any) -> list[str]:
    """The texts that a key takes, where it takes but a few."""
    if typing.get_origin(kind) is typing.Literal:
        return [str(a) for a in typing.get_args(kind)]
    return [c for a in typing.get_args(kind) for c in choices(a)]


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
        UserError: A key is unknown, a required one missing, or a value of the wrong type or impossible.
    """
    where = f"{path}: " if path is not None else ""
    raw = read_yaml(path) if path is not None else {}
    task = task_of(raw, arguments, where)
    try:
        known = keys(task)
    except UserError as error:
        raise UserError(f"{where if raw.get('task') == task else ''}{error}") from None
    written = flatten(raw, known, where)
    for key, blank in _RETIRED.items():
        # Runs kept all keys with their defaults.
        if key not in known and written.get(key) == blank:
            del written[key]
    values = _converted(written, known, where)
    changed = _converted(overrides(arguments, known), known, _COMMAND_LINE)
    return _assemble(task, {**values, **changed, "task": task}, where)


def read_model_section(arguments: Sequence[str]) -> Model:
    """The section ``model`` from ``--model.key value`` arguments, without a recipe or a task.

    Raises:
        UserError: A key is unknown, or a value of the wrong type.
    """
    known = _keys_of(Model, "model")
    section: Model = _instance(Model, "model", _converted(overrides(arguments, known), known, _COMMAND_LINE))
    return section


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
    values = _converted(overrides(arguments, known), known, _COMMAND_LINE)
    missing = [
        k.removeprefix("section.") for k in _required(cls, "section") if k.removeprefix("section.") not in values
    ]
    if missing:
        raise UserError(f"--{missing[0]} is required.")
    return cls(**values)
