"""Turns the labels of a column, numbers or words, into class names; the meaning of a number is never guessed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveal.errors import UserError
from foveal.tasks.readers.annotations import json_in, read_bytes
from foveal.tasks.readers.missing import is_missing
from foveal.tasks.readers.tables import Kind

#: Most classes that a message lists.
_LISTED = 20


@dataclass(frozen=True)
class Labels:
    """Labels as class names.

    Attributes:
        names: All class names, in the order of the data.
        of: The class of each row of each split; None where a row has none.
        numbered: The data themselves have the name of each number.
        notes: What was assumed, a sentence each.
    """

    names: tuple[str, ...]
    of: Mapping[str, Sequence[str | None]]
    numbered: bool
    notes: tuple[str, ...] = ()


def name_labels(
    values: Mapping[str, Sequence[Any]],
    kind: Kind,
    known: Mapping[int, str],
    given: Sequence[str],
    where: str,
    *,
    answering: bool = False,
    chosen: bool = False,
) -> Labels:
    """The class of each row.

    A cell that is empty, or holds a word for that like NaN or null, has no class, unless a class has that very name.
    Words are class names, sorted where the data have no order. Numbers have the names that the data give; without them,
    the names given, counted from 0; without those, each number is its own name.

    Args:
        values: The cells of each split, ``train`` first.
        kind: What the column holds, see ``columns.kind_of``.
        known: The name of each number, where the data have them.
        given: ``data.class_names``.
        where: What messages call the column.
        answering: Whether the names given are a model's answers: the data need not have the same ones.
        chosen: Whether the recipe names the column; fractions are classes only then.

    Raises:
        UserError: The names given contradict the data's own, a number has no name, fractions were not asked for, or a
            split has a class that ``train`` lacks.
    """
    hidden = bool(known) or kind == "class"
    names = {*given, *known.values()}
    cleaned = {split: [_cleaned(value, hidden, names) for value in cells] for split, cells in values.items()}
    kind, cleaned = _whole_numbers(values, cleaned, kind, where, chosen=chosen)
    if kind == "bool":
        cleaned = {split: [None if v is None else str(v).lower() for v in cells] for split, cells in cleaned.items()}
        if given and set(given) != {"false", "true"}:
            if len(given) != 2:
                raise UserError(
                    f"data.class_names: has {len(given)} names, but {where} has 2 values; give one for each."
                )
            known_bool = {"false": given[0], "true": given[-1]}
            note = f"False is {given[0]!r} and True is {given[1]!r}, by the order of data.class_names."
            of = {split: [known_bool.get(v or "") for v in cells] for split, cells in cleaned.items()}
            return Labels(tuple(given), of, False, (note,))
    elif known and kind in ("class", "integer"):
        return _by_mapping(cleaned, known, () if answering else given, where)
    elif kind in ("class", "integer"):
        # A model that knows 1, 3 and 7 means the numbers themselves.
        numbers_themselves = answering and all(name.lstrip("-").isdecimal() for name in given)
        return _by_number(cleaned, () if numbers_themselves else given, where)
    return _by_word(cleaned, where, answering)


def _whole_numbers(
    values: Mapping[str, Sequence[Any]], cleaned: dict[str, list[Any]], kind: Kind, where: str, *, chosen: bool
) -> tuple[Kind, dict[str, list[Any]]]:
    """The column as integers, where it holds whole numbers written as fractions or among words for nothing.

    Raises:
        UserError: It holds fractions that the recipe does not ask for.
    """
    filled = [str(v) for cells in cleaned.values() for v in cells if v is not None]
    # Words for nothing among them make numbers look like words.
    gone = any(
        v is None and isinstance(w, str) and w for s in values for v, w in zip(cleaned[s], values[s], strict=True)
    )
    if not filled or not (kind == "float" or (kind == "text" and gone)):
        return kind, cleaned
    if all(map(_WHOLE.fullmatch, filled)):
        return "integer", {s: [None if v is None else int(float(v)) for v in cells] for s, cells in cleaned.items()}
    if kind == "float" and not chosen:
        odd = next(text for text in filled if not _WHOLE.fullmatch(text))
        raise UserError(
            f"{where}: holds fractions, e.g. {odd} (regression: a score, no class); if each is a class, name the "
            "column in data.label_column."
        )
    return kind, cleaned


#: Whole numbers, also with zeros behind a point; with zeros in front ("007") they are names.
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)(\.0*)?")


def _cleaned(value: Any, hidden: bool, names: Collection[str] = ()) -> Any:
    """A cell without blanks around it; None where it has no class, e.g. -1 in a column whose numbers have names."""
    if isinstance(value, str):
        value = value.strip()
    return None if is_missing(value, names) or (hidden and str(value) == "-1") else value


def _by_mapping(
    values: Mapping[str, Sequence[Any]], known: Mapping[int, str], given: Sequence[str], where: str
) -> Labels:
    names = tuple(known[number] for number in sorted(known))
    if given and tuple(given) != names:
        raise UserError(
            f"data.class_names: {_numbered(dict(enumerate(given)))} contradicts {where}, whose own mapping is "
            f"{_numbered(known)}; leave data.class_names out, or give exactly the data's own."
        )
    by_text = {**{str(number): name for number, name in known.items()}, **{name: name for name in names}}
    of: dict[str, Sequence[str | None]] = {}
    for split, cells in values.items():
        unknown = next((i for i, v in enumerate(cells) if v is not None and str(v) not in by_text), None)
        if unknown is not None:
            raise UserError(
                f"{where}, row {unknown} of {split}: {cells[unknown]!r} is none of {_numbered(known)}; correct the row."
            )
        of[split] = [None if v is None else by_text[str(v)] for v in cells]
    return Labels(names, of, True)


def _by_number(values: Mapping[str, Sequence[Any]], given: Sequence[str], where: str) -> Labels:
    numbers = {split: [None if v is None else int(v) for v in cells] for split, cells in values.items()}
    used = sorted({n for cells in numbers.values() for n in cells if n is not None})
    as_text = tuple(map(str, used))
    if not given or set(given) == set(as_text):
        note = f"The numbers in {where} have no names: each is its own; data.class_names would name them, from 0 on."
        of = {split: [None if n is None else str(n) for n in cells] for split, cells in numbers.items()}
        return Labels(as_text, of, False, (note,))
    if used and not 0 <= used[0] <= used[-1] < len(given):
        raise UserError(
            f"data.class_names: names the numbers 0 to {len(given) - 1}, but those in {where} run from {used[0]} to "
            f"{used[-1]}; give a name for each, from 0 on."
        )
    note = f"The numbers in {where} have no names in the data: {_numbered(dict(enumerate(given)))} is the order of "
    note += "data.class_names, which nothing confirms."
    of = {split: [None if n is None else given[n] for n in cells] for split, cells in numbers.items()}
    return Labels(tuple(given), of, False, (note,))


def _by_word(values: Mapping[str, Sequence[Any]], where: str, answering: bool) -> Labels:
    used = {split: {str(v) for v in cells if v is not None} for split, cells in values.items()}
    every = set().union(*used.values())
    names = every if answering else used.get("train") or every
    for split, words in used.items():
        unknown = sorted(words - names)
        if unknown:
            raise UserError(
                f"{where}: the {split} split has {', '.join(map(repr, unknown[:_LISTED]))}, which train lacks; rename or "
                "remove such rows, or add some to train."
            )
    of = {split: [None if v is None else str(v) for v in cells] for split, cells in values.items()}
    return Labels(tuple(sorted(names)), of, False, (f"The {len(names)} class names are the words in {where}.",))


def similar_names(names: Sequence[str]) -> tuple[str, ...]:
    """A sentence about classes whose names differ only in upper and lower case, blanks, hyphens or underscores."""
    groups: dict[str, list[str]] = {}
    for name in names:
        form = unicodedata.normalize("NFKC", name).casefold()
        groups.setdefault(re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W_])", "", form), []).append(name)
    same = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if not same:
        return ()
    more = f" and {len(same) - 3:,} more" if len(same) > 3 else ""
    return (
        f"The classes {', '.join(same[:3])}{more} differ only in upper and lower case, blanks, hyphens or underscores: "
        "if they are one, give them one name.",
    )


def _numbered(names: Mapping[int, str]) -> str:
    texts = [f"{number} {names[number]}" for number in sorted(names)]
    return ", ".join(texts) if len(texts) <= _LISTED else f"{', '.join(texts[:_LISTED])} … ({len(texts)} classes)"


def read_mapping(folder: Path) -> dict[int, str]:
    """The class of each number, from a file mapping.json in a folder; empty where there is none.

    Raises:
        UserError: The file is malformed, or names a number or a class twice.
    """
    file = folder / "mapping.json"
    if not file.is_file():
        return {}
    try:
        trouble = "is no table of numbers and class names ({error}); correct or remove it."
        content = json_in(read_bytes(file), str(file), trouble=trouble)
        if isinstance(content, list):
            return {number: str(name) for number, name in enumerate(content)}
        if all(isinstance(value, int) for value in content.values()):
            pairs = {int(value): str(key) for key, value in content.items()}
        else:
            pairs = {int(key): str(value) for key, value in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: is no table of numbers and class names ({error}); correct or remove it.") from None
    if len(pairs) != len(content) or len(set(pairs.values())) != len(pairs):
        raise UserError(f"{file}: names a number or a class twice; correct or remove it.")
    return pairs
