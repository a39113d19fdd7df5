"""Recipes as YAML files."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from foveal.config.keys import no_value, sections
from foveal.config.values import as_yaml
from foveal.errors import UserError
from foveal.files import check_input, check_text


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which PyYAML takes the last without a word, and names the line of a value that
    there cannot be, such as a 13th month.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError) as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None

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
    check_input(path)
    try:
        text = path.read_text(encoding="utf-8")
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
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        what = {type(None): "empty", list: "a list"}.get(type(value), f"only {value!r}")
        raise UserError(f"{path}: is {what}; a recipe is a mapping of keys and sections (task, data, model, ...).")
    return value


def parse_yaml(text: str, name: str, trouble: str = "{name}: is not valid YAML{where} ({error}).") -> Any:
    """The value that YAML text holds; JSON is YAML, too.

    Args:
        text: The text.
        name: What errors call it.
        trouble: The sentence for text that is not YAML, with places for {name}, {error}, and the line as {where} or {at}.

    Raises:
        UserError: It is not YAML, holds an impossible date or number, a text with half a character, or is nested too deeply.
    """
    try:
        value = yaml.load(text, _Loader)
    except RecursionError:
        raise UserError(f"{name}: is nested too deeply; write it flatter.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where, at = (f" in line {mark.line + 1}", f", line {mark.line + 1}") if mark else ("", "")
        what = getattr(error, "problem", None) or getattr(error, "reason", error)
        raise UserError(trouble.format(name=name, where=where, at=at, error=what)) from None
    check_text(value, name)
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
            raise UserError(f"{where}{no_value(name, known)}, not {as_yaml(item)}.")
        if both := sorted(out.keys() & new.keys()):
            raise UserError(f"{where}{both[0]}: is given twice; remove one.")
        out |= new
    return out
