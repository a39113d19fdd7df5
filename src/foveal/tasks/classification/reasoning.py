"""Prompts, answers with reasons, and the parts of replies with reasons; texts may come from files.

A reply with reasons has the form ``Reasoning: ...`` and, on a line of its own, ``Answer: CLASS``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from foveal.config.yaml_files import parse_yaml
from foveal.errors import UserError
from foveal.files import check_input
from foveal.tasks.classification.rows import Row
from foveal.tasks.classification.settings import ClassificationData
from foveal.tasks.readers.missing import is_missing

#: Keys whose text may be in a file.
_TEXTS: Final = ("system", "question", "instructions")
_MARK: Final = re.compile(r"\banswer\s*:", re.IGNORECASE)


def read_texts(data: ClassificationData) -> ClassificationData:
    """The section with the texts of the files that it names by ``@FILE`` or ``descriptions_file``.

    Raises:
        UserError: A file is missing, empty or malformed; descriptions are given twice.
    """
    texts: dict[str, Any] = {}
    for key in _TEXTS:
        value = getattr(data, key)
        if value is not None and value.startswith("@"):
            texts[key] = _read(value[1:], f"data.{key}")
            if texts[key].startswith("@"):
                raise UserError(f"{value[1:]}: begins with @, which stands for a file; begin the text otherwise.")
    if not data.descriptions_file:
        return replace(data, **texts)
    if data.descriptions:
        raise UserError("data.descriptions_file: there are data.descriptions too; remove one of the two.")
    file = data.descriptions_file.removeprefix("@")
    return replace(data, **texts, descriptions=_mapping(file), descriptions_file="")


def _read(name: str, key: str) -> str:
    path = Path(name).expanduser()
    check_input(path)
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise UserError(f"{key}: there is no file {name or '@'}{where}; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{key}: {name} cannot be read ({error}); give a text file in UTF-8.") from None
    if not text:
        raise UserError(f"{key}: {name} is empty; write the text into it.")
    return text


def _mapping(name: str) -> dict[str, str]:
    """The descriptions of a YAML file; JSON is YAML too."""
    trouble = "{name}{at}: is neither YAML nor JSON ({error}); correct it."
    descriptions = parse_yaml(_read(name, "data.descriptions_file"), name, trouble)
    if not isinstance(descriptions, dict):
        raise UserError(f"{name}: holds no descriptions; write a line CLASS: DESCRIPTION for each class.")
    for key, value in descriptions.items():
        # YAML reads no and 3 as something else than text.
        if not isinstance(key, str) or not isinstance(value, str):
            raise UserError(f"{name}: {key!r}: {value!r} is no name with a text; put both in quotes.")
    return dict(descriptions)


def check_reasons(data: ClassificationData, names: Sequence[str]) -> None:
    """Refuses keys that contradict each other.

    Args:
        data: The section, its texts read.
        names: The class names.

    Raises:
        UserError: Two keys contradict each other, or one needs another that is missing.
    """
    if data.reasoning_source != "none" and data.answer_format != "reasoning":
        raise UserError(
            f"data.reasoning_source: {data.reasoning_source} needs data.answer_format: reasoning; set it, or leave the "
            "source at none."
        )
    if data.reasoning_source == "column" and not data.reasoning_column:
        raise UserError("data.reasoning_column: is empty; name the column that holds the reasons.")
    if data.reasoning_column and data.reasoning_source != "column":
        raise UserError("data.reasoning_column: is read with data.reasoning_source: column only; set it too.")
    if data.reasoning_column and data.reasoning_column in (data.image_column, data.label_column):
        raise UserError(
            f"data.reasoning_column: {data.reasoning_column!r} is the picture or the label; name the column of the reasons."
        )
    for key in ("question", "system"):
        if "{descriptions}" in (getattr(data, key) or "") and not data.descriptions:
            raise UserError(
                f"data.{key}: has a place for {{descriptions}}, but data.descriptions is empty; fill it, or take the "
                "place out."
            )
    missing = [name for name in names if name not in data.descriptions]
    if data.reasoning_source == "template" and "{description}" in data.reasoning_template and missing:
        raise UserError(
            f"data.reasoning_template: asks for the {{description}} of each class, but {missing[0]!r} has none in "
            "data.descriptions; add it, or word the template without."
        )


def asked(data: ClassificationData) -> tuple[str, str | None]:
    """The question and the system text, with the names and descriptions of the classes put in.

    Descriptions that neither text has a place for follow the question, and the instructions for reasons come last.
    """
    lines = [f"{name}: {data.descriptions[name]}" for name in data.class_names if name in data.descriptions]
    texts = {"classes": ", ".join(data.class_names), "descriptions": "\n".join(lines)}
    parts = [_filled(data.question, texts)]
    if not any("{descriptions}" in text for text in (data.question, data.system or "")):
        parts += lines
    if data.answer_format == "reasoning" and data.instructions:
        parts.append(data.instructions)
    return "\n".join(parts), None if data.system is None else _filled(data.system, texts)


def _filled(text: str, values: Mapping[str, str]) -> str:
    """A text with its {places} filled, in one pass, so that braces in a value stay as they are."""
    return re.sub("|".join(rf"\{{{name}\}}" for name in values), lambda match: values[match[0][1:-1]], text)


def answer(data: ClassificationData, name: str, reason: str | None) -> str:
    """The answer that is learned for a picture of the class.

    Args:
        data: The section.
        name: The class.
        reason: The reason of the row, with ``reasoning_source: column``.
    """
    if data.answer_format == "label":
        return name
    if data.reasoning_source == "template":
        description = data.descriptions.get(name, "").strip().rstrip(".")
        reason = _filled(data.reasoning_template, {"class": name, "description": description})
    # A row without a reason gets none: a made-up one would teach the model to make reasons up.
    return f"Reasoning: {reason}\nAnswer: {name}" if reason else f"Answer: {name}"


def reason_of(row: Row, column: str) -> str:
    """The reason of a training row, without a ``Reasoning:`` in front of it.

    Raises:
        UserError: It is missing, no text, or holds an answer too.
    """
    cell = row.reason
    if not is_missing(cell) and not isinstance(cell, str):
        raise UserError(f"{row.picture.name}: {cell!r} in {column!r} is no text; write the reason out.")
    text = re.sub(r"^\s*reasoning\s*:", "", cell if isinstance(cell, str) else "", flags=re.IGNORECASE).strip()
    if is_missing(text):
        raise UserError(
            f"{row.picture.name}: has no reason in {column!r}; fill it in, remove the row, or set "
            "data.reasoning_source: none."
        )
    if mark := _MARK.search(text):
        raise UserError(
            f"{row.picture.name}: the reason in {column!r} holds {mark[0]!r}, behind which the class is looked for; leave "
            "the reason alone in the cell."
        )
    return text


def reply_start(reply: str) -> str:
    """The reply up to its last ``Answer:``; one is appended where it has none."""
    marks = list(_MARK.finditer(reply))
    return reply[: marks[-1].end()].strip() if marks else f"{reply.strip()}\nAnswer:".lstrip()


def behind_answer(reply: str) -> str:
    """The rest of the line behind the last ``Answer:`` of a reply; empty where there is none."""
    marks = list(_MARK.finditer(reply))
    return reply[marks[-1].end() :].partition("\n")[0] if marks else ""
