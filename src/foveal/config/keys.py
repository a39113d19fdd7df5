"""The keys that a task's recipe has, with their types and help."""

from __future__ import annotations

import dataclasses
import difflib
import operator
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from jsonargparse import ArgumentParser, set_parsing_settings

from foveal import plugins
from foveal.config.sections import Evaluation, Model, Recipe, Training
from foveal.config.values import COMMAND_LINE
from foveal.errors import UserError

#: Sections that all tasks' recipes have; a task may have keys of its own in ``model``.
_COMMON = {"model": Model, "training": Training, "evaluation": Evaluation}
#: Keys that lie in no section.
TOP = ("task", "objective", "name", "output", "seed")


def recipe_parser(task: str, *, prog: str = "foveal train", description: str = "") -> ArgumentParser:
    """A parser of all keys of a task's recipe, with their docstrings as help.

    Raises:
        UserError: There is no such task.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    # default_env off and no config file option: the YAML is read by us, so that its errors can name file and key.
    parser = ArgumentParser(prog=prog, description=description, exit_on_error=False, add_help=False)
    helps = _field_helps(Recipe)
    hints = _top_keys()
    defaults = {f.name: f.default for f in dataclasses.fields(Recipe)}
    for name in TOP:
        default = task if name == "task" else defaults[name]
        parser.add_argument(f"--{name}", type=hints[name], default=default, help=helps[name])
    for name, section in sections_of(task).items():
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
    for name, section in sections_of(task).items():
        known |= keys_of(section, name)
    return known


def common_keys() -> dict[str, Any]:
    """Every dotted key that all tasks' recipes have -> its type."""
    known = _top_keys()
    for name, section in _COMMON.items():
        known |= keys_of(section, name)
    return known


def _top_keys() -> dict[str, Any]:
    hints = typing.get_type_hints(Recipe)
    # Other packages can bring objectives.
    hints["objective"] = operator.getitem(Literal, plugins.names("objective"))
    return {name: hints[name] for name in TOP}


def sections_of(task: str) -> dict[str, type]:
    """The sections of a task's recipe.

    Raises:
        UserError: There is no such task, or it has no sections.
    """
    kind = plugins.find("task", task)
    own: dict[str, Any] = {"data": getattr(kind, "Data", None), "model": getattr(kind, "Model", None)}
    if not all(map(dataclasses.is_dataclass, own.values())):
        raise UserError(
            f"The task {task!r} is no subclass of foveal.tasks.task.Task with a dataclass Data; correct its package."
        )
    return {"data": own["data"], **_COMMON, "model": own["model"]}


def keys_of(cls: type, prefix: str) -> dict[str, Any]:
    """Every dotted key of a dataclass and of those inside it -> its type."""
    known: dict[str, Any] = {}
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        kind = hints[f.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            known |= keys_of(kind, f"{prefix}.{f.name}")
        else:
            known[f"{prefix}.{f.name}"] = kind
    return known


def section_keys(cls: type) -> dict[str, Any]:
    """Every key of a dataclass -> its type."""
    return {k.removeprefix("section."): v for k, v in keys_of(cls, "section").items()}


def section_parser(cls: type, prog: str, description: str) -> ArgumentParser:
    """A parser of a dataclass's fields, with their docstrings as help."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog=prog, description=description, exit_on_error=False, add_help=False)
    parser.add_class_arguments(cls, None)
    return parser


def sections(known: Mapping[str, Any]) -> list[str]:
    """The sections that dotted keys lie in, e.g. model and model.lora."""
    parts = [key.split(".") for key in known]
    return list(dict.fromkeys(".".join(p[:i]) for p in parts for i in range(1, len(p))))


def no_value(section: str, known: Mapping[str, Any]) -> str:
    """Says that a section is none of its keys."""
    example = next(k for k in known if k.startswith(f"{section}."))
    return f"{section}: is a section with keys of its own, e.g. {example}"


def unknown_key(key: str, known: Mapping[str, Any], where: str) -> UserError:
    """The sentence for a key that no recipe of the task has.

    Args:
        key: What was given.
        known: All keys.
        where: The file and a colon, or ``COMMAND_LINE``.
    """
    dashes = where == COMMAND_LINE
    name, given = key.replace("-", "_"), f"--{key}" if dashes else repr(key)
    start = "There" if dashes else f"{where}there"
    parent = name.rpartition(".")[0]
    if dashes and parent in known:
        return UserError(f"{start} is no key {given}; give --{parent} whole, e.g. --{parent} '{{name: value}}'.")
    if dashes and key in sections(known):
        return UserError(f"--{no_value(key, known)}.")
    last = {k.rpartition(".")[2]: k for k in list(known)[::-1]}
    near = [last[leaf]] if (leaf := name.rpartition(".")[2]) in last else []
    near = near or difflib.get_close_matches(name, [*known, *sections(known)], n=1, cutoff=0.75)
    near = near or [last[n] for n in difflib.get_close_matches(leaf, last, n=1, cutoff=0.75)]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {f'--{near[0]}' if dashes else repr(near[0])}?" if near else "`--help` lists all keys."
    return UserError(f"{start} is no key {given}; {hint}")
