from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from foveal.errors import UserError
from foveal.tasks.classification.labels import Labels, name_labels
from foveal.tasks.readers.tables import Kind

MARS = dict(enumerate("ael rou cli aec tex smo fss rid fse sfe fsf fsg sfx cra mix".split()))
#: The order of a command line that was published for the same data: 13 of 15 numbers would mean another class.
WRONG = "ael aec cli rid fsf sfe fsg fse fss cra sfx mix rou smo tex".split()


def named(
    values: Sequence[Any] | Mapping[str, Sequence[Any]],
    kind: Kind,
    known: Mapping[int, str] | None = None,
    given: Sequence[str] = (),
) -> Labels:
    return name_labels(
        values if isinstance(values, Mapping) else {"train": values}, kind, known or {}, given, "the column"
    )


def test_a_mapping_of_the_data() -> None:
    labels = named({"train": [0, 3, 14], "test": [-1, None]}, "class", MARS)
    assert labels.names == tuple(MARS.values()) and labels.numbered
    assert labels.of == {"train": ["ael", "aec", "mix"], "test": [None, None]}
    assert named(["3", "aec"], "integer", MARS, tuple(MARS.values())).of == {"train": ["aec", "aec"]}


def test_a_list_in_another_order_is_refused_with_both_shown() -> None:
    assert sum(MARS[i] != name for i, name in enumerate(WRONG)) == 13
    with pytest.raises(UserError) as error:
        named([0], "class", MARS, WRONG)
    assert f"data.class_names: {', '.join(f'{i} {n}' for i, n in enumerate(WRONG))} contradicts" in str(error.value)
    assert f"own mapping is {', '.join(f'{i} {n}' for i, n in MARS.items())};" in str(error.value)
    many = {i: f"class {i}" for i in range(1000)}
    with pytest.raises(UserError, match=r"0 a, 1 b contradicts .*19 class 19 … \(1000 classes\);"):
        named([0], "class", many, ["a", "b"])


def test_numbers_without_names() -> None:
    labels = named([10, 9, 9], "integer")
    assert labels.names == ("9", "10") and labels.of == {"train": ["10", "9", "9"]} and not labels.numbered
    assert named([1, 0], "integer", {}, ["cat", "dog"]).of == {"train": ["dog", "cat"]}
    assert named([9, 10], "integer", {}, ["10", "9"]).of == {"train": ["9", "10"]}
    for values in ([1, 2], [-1, 0]):
        with pytest.raises(UserError, match=rf"names the numbers 0 to 1, but .* run from {values[0]} to {values[1]}"):
            named(values, "integer", {}, ["cat", "dog"])


def test_words() -> None:
    labels = named({"train": [" dog", "cat", ""], "test": ["cat"]}, "text", {}, ["dog", "cat"])
    assert labels.names == ("cat", "dog") and labels.of == {"train": ["dog", "cat", None], "test": ["cat"]}
    assert labels.notes == ("The 2 class names are the words in the column.",)


def test_yes_and_no() -> None:
    assert named([True, False, None], "bool").of == {"train": ["true", "false", None]}
    assert named(["True", "false"], "bool", {}, ["no", "yes"]).of == {"train": ["yes", "no"]}
    with pytest.raises(UserError, match="has 3 names, but the column has 2 values"):
        named([True], "bool", {}, ["a", "b", "c"])
