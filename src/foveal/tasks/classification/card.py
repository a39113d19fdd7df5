"""What the README.md of a data set says to the machine: configurations, the files of their splits, class names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from foveal.errors import UserError


@dataclass(frozen=True)
class Card:
    """The YAML at the head of a README.md, as far as it says where which rows are.

    Attributes:
        files: For each configuration, patterns of the files of each split; empty where the card is silent.
        default: Configurations that call themselves the default one.
        names: For each configuration and column, the class names that it notes.
    """

    files: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    default: tuple[str, ...] = ()
    names: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)

    def split_of(self, path: str) -> tuple[str, str] | None:
        """The configuration and the split of a file, or None where the card does not name it."""
        for config, splits in self.files.items():
            for split, patterns in splits.items():
                if any(fnmatchcase(path, _plain(pattern)) for pattern in patterns):
                    return config, split
        return None


def read_card(folder: Path) -> Card:
    """The card of a folder; an empty one where there is none, or none that can be read."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        found = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
        head = yaml.safe_load(found[1]) if found else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return Card()  # it helps where it is there, and nothing needs it
    if not isinstance(head, dict):
        return Card()
    files: dict[str, dict[str, list[str]]] = {}
    default = []
    for config in _dicts(head.get("configs")):
        name = str(config.get("config_name", "default"))
        splits = _splits(config.get("data_files"))
        if splits:
            files[name] = splits
            if name == "default" or config.get("default") is True:
                default.append(name)
    names = {str(info.get("config_name", "default")): _names(info) for info in _dicts(head.get("dataset_info"))}
    return Card(files, tuple(default), names)


def read_mapping(folder: Path) -> dict[int, str]:
    """Which number means which class, from a file mapping.json in a folder; nothing where there is none.

    Raises:
        UserError: It is there and says something else.
    """
    file = folder / "mapping.json"
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, list):
            return {number: str(name) for number, name in enumerate(found)}
        if all(isinstance(value, int) for value in found.values()):
            pairs = {int(value): str(key) for key, value in found.items()}
        else:
            pairs = {int(key): str(value) for key, value in found.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: is no table of numbers and class names ({error}); correct or remove it.") from None
    if len(pairs) != len(found) or len(set(pairs.values())) != len(pairs):
        raise UserError(f"{file}: names a number or a class twice; correct or remove it.")
    return pairs


def _dicts(value: Any) -> list[dict[str, Any]]:
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, dict)]


def _splits(value: Any) -> dict[str, list[str]]:
    if isinstance(value, str):
        return {"train": [value]}
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return {"train": list(value)}
    found: dict[str, list[str]] = {}
    for entry in _dicts(value):
        path = entry.get("path")
        if "split" in entry and path:
            found.setdefault(str(entry["split"]), []).extend([path] if isinstance(path, str) else map(str, path))
    return found


def _names(info: Mapping[str, Any]) -> dict[str, list[str]]:
    """The class names of each column in a card's list of features."""
    found = {}
    for feature in _dicts(info.get("features")):
        dtype = feature.get("dtype")
        label = dtype.get("class_label") if isinstance(dtype, dict) else None
        names = label.get("names") if isinstance(label, dict) else None
        if isinstance(names, dict):
            found[str(feature.get("name"))] = [
                str(names[key]) for key in sorted(names, key=lambda k: (len(str(k)), str(k)))
            ]
        elif isinstance(names, list):
            found[str(feature.get("name"))] = [str(name) for name in names]
    return found


def _plain(pattern: str) -> str:
    return pattern.removeprefix("./").replace("**/", "*").replace("**", "*")
