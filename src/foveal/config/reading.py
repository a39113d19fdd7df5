"""Reads recipes: YAML files and overrides, checked against the typed sections of the recipe's task.

Unknown keys, wrong types and impossible values become one sentence that names the key and the nearest right name.
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError

from foveal.config.checking import check
from foveal.config.keys import TOP, keys, keys_of, sections_of, unknown_key
from foveal.config.overrides import overrides
from foveal.config.sections import Model, Recipe
from foveal.config.trust import check_trust
from foveal.config.values import COMMAND_LINE, alternatives, check_plain, convert, wrong_type
from foveal.config.yaml_files import flatten, read_yaml
from foveal.errors import UserError
from foveal.runs import Run, is_run

#: Keys that recipes once had and only some tasks', or none, have now -> the value that says nothing.
RETIRED = {
    "model.vision": "vlm", "model.sam": "small", "data.counter.coordinate_weight": 1.0, "data.counter.done_weight": 0.5,
}  # fmt: skip


def read_recipe(path: Path | None, arguments: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, changed by ``--section.key value`` arguments.

    Raises:
        UserError: A key is unknown, a required one missing, or a value of the wrong type or impossible; or it is that of a
            run from elsewhere which would run code, see ``check_trust``.
    """
    if path is None:
        return _resolve({}, arguments, "")
    recipe = _resolve(read_yaml(path), arguments, f"{path}: ")
    if is_run(path.parent) and path.name == Run(path.parent).recipe.name:
        check_trust(path.parent, recipe.model, arguments)
    return recipe


def changed_recipe(recipe: Recipe, arguments: Sequence[str]) -> Recipe:
    """A recipe that was made in Python, changed by arguments and checked as one from a file is.

    Raises:
        UserError: See ``read_recipe``.
    """
    return _resolve(dataclasses.asdict(recipe), arguments, "Recipe: ")


def _resolve(raw: Mapping[str, Any], arguments: Sequence[str], where: str) -> Recipe:
    """A recipe from its sections and ``--section.key value`` arguments.

    Args:
        raw: The sections, as in YAML.
        arguments: What differs.
        where: What messages about the sections begin with.

    Raises:
        UserError: See ``read_recipe``.
    """
    task = task_of(raw, arguments, where)
    try:
        known = keys(task)
    except UserError as error:
        raise UserError(f"{where if raw.get('task') == task else ''}{error}") from None
    written = flatten(raw, known, where)
    for key, blank in RETIRED.items():
        # Runs kept all keys with their defaults.
        if key not in known and written.get(key) == blank:
            del written[key]
    values = _converted(written, known, where)
    changed = _converted(overrides(arguments, known), known, COMMAND_LINE)
    return _assemble(task, {**values, **changed, "task": task}, where)


def read_model_section(arguments: Sequence[str]) -> Model:
    """The section ``model`` from ``--model.key value`` arguments, without a recipe or a task.

    Raises:
        UserError: A key is unknown, or a value of the wrong type.
    """
    known = keys_of(Model, "model")
    section: Model = _instance(Model, "model", _converted(overrides(arguments, known), known, COMMAND_LINE))
    return section


def build_section(cls: type, arguments: Sequence[str], known: Mapping[str, Any]) -> Any:
    """A dataclass from ``--key value`` arguments.

    Raises:
        UserError: A key is unknown, a required one missing, or a value of the wrong type.
    """
    values = _converted(overrides(arguments, known), known, COMMAND_LINE)
    missing = [
        k.removeprefix("section.") for k in _required(cls, "section") if k.removeprefix("section.") not in values
    ]
    if missing:
        raise UserError(f"--{missing[0]} is required.")
    return cls(**values)


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
        check_plain(key, value, known[key], where)
        if type(value) is str and str in alternatives(known[key]):
            parsed[key] = value  # the text "null" stays one
            continue
        try:
            parsed[key] = convert(value, known[key])
        except (ArgumentError, argparse.ArgumentError, TypeError, ValueError) as error:
            raise wrong_type(key, value, known[key], where) from error
    return parsed


def _assemble(task: str, parsed: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from dotted keys of the right types.

    Raises:
        UserError: A required key is missing, or a value impossible.
    """
    missing = [k for k in _required(sections_of(task)["data"], "data") if parsed.get(k) is None]
    if missing:
        raise UserError(f"{where}{missing[0]} is required; set it in the recipe or with --{missing[0]}.")
    parts = {name: _instance(section, name, parsed) for name, section in sections_of(task).items()}
    recipe = Recipe(**parts, **{k: parsed[k] for k in TOP if k in parsed})
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
