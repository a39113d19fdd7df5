from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from picture_folders import write_folders, write_picture
from picture_tables import write_csv

from foveal.errors import UserError
from foveal.tasks.classification.labels import name_labels, similar_names
from foveal.tasks.classification.rows import Table, Wanted
from foveal.tasks.classification.sources import read_source
from foveal.tasks.classification.task import Classification, ClassificationData


def table_of(tmp_path: Path, cells: list[str], **wanted: Any) -> Table:
    for i in range(len(cells)):
        write_picture(tmp_path / f"{i}.png", i)
    file = write_csv(tmp_path / "t.csv", "path,label", [f"{i}.png,{cell}" for i, cell in enumerate(cells)])
    return read_source(str(file), Wanted(**wanted))


def labels(table: Table) -> list[str]:
    return [row.label for row in table.splits["train"]]


@pytest.mark.parametrize("word", ["NaN", "NULL", "None", "n/a", "NA", "<NA>", "#N/A"])
def test_a_word_for_nothing_is_no_class(tmp_path: Path, word: str) -> None:
    with pytest.raises(UserError) as error:
        table_of(tmp_path, ["cat", word, "dog", ""])
    assert str(error.value) == (
        f"{tmp_path}/t.csv, line 3: has no label in 'label' ({word!r}); fill it in or remove the row, or set "
        f"data.on_bad_label: skip, which leaves out 2 of 4 rows of the train split; if {word!r} is a class, list all "
        "classes in data.class_names."
    )
    table = table_of(tmp_path, ["cat", word, "dog", ""], on_bad_label="skip")
    assert labels(table) == ["cat", "dog"] and table.names == ("cat", "dog")
    assert "2 of 4 rows of the train split have no label: left out." in table.notes
    assert table.skipped["train"] == [
        (f"{tmp_path}/t.csv, line 3", f"has no label in 'label' ({word!r})."),
        (f"{tmp_path}/t.csv, line 5", "has no label in 'label'."),
    ]
    assert labels(table_of(tmp_path, ["cat", word, "dog"], class_names=("cat", "dog", word))) == ["cat", word, "dog"]


def test_rows_without_labels_are_reported_as_left_out(tmp_path: Path) -> None:
    table_of(tmp_path, ["cat", "dog", "null"] * 12, on_bad_label="skip")
    data = ClassificationData(source=str(tmp_path / "t.csv"), on_bad_label="skip", test_share=0.2)
    loaded = Classification(data).load("train")
    assert Classification(data).answers() == ("cat", "dog")
    assert [where for where, _ in loaded.refused] == [f"{tmp_path}/t.csv, line {n}" for n in range(4, 38, 3)]


@pytest.mark.parametrize(("kind", "rows"), [("jsonl", [None, "None"]), ("parquet", [None, "nan"])])
def test_null_in_other_tables(tmp_path: Path, kind: str, rows: list[Any]) -> None:
    import json

    import pyarrow.parquet  # type: ignore[import-untyped]

    table = [{"image": f"{i}.png", "label": label} for i, label in enumerate(["a", "b", *rows])]
    file = tmp_path / f"t.{kind}"
    if kind == "jsonl":
        file.write_text("\n".join(map(json.dumps, table)))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), file)
    with pytest.raises(UserError, match=r"has no label in 'label'; .* leaves out 2 of 4 rows of the train split"):
        read_source(str(file), Wanted())
    assert labels(read_source(str(file), Wanted(on_bad_label="skip"))) == ["a", "b"]


def test_numbers_among_words_for_nothing_stay_numbers() -> None:
    given = name_labels({"train": ["0", "1", "NaN"]}, "text", {}, ["cat", "dog"], "the column")
    assert given.of == {"train": ["cat", "dog", None]}
    assert name_labels({"train": ["007", "008", "NaN"]}, "text", {}, [], "x").of == {"train": ["007", "008", None]}


def test_one_class_is_refused_in_tables_as_in_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"t\.csv, column 'label': there is only one class, 'cat'; at least two"):
        table_of(tmp_path, ["cat", "cat"])
    write_csv(tmp_path / "train.csv", "path,label", ["0.png,0", "1.png,0"])
    data = ClassificationData(
        source=str(tmp_path / "train.csv"), class_names=["a", "b"], test_share=0, validation_share=0
    )
    with pytest.raises(UserError, match="every row of the train split is of the class 'a'; add rows of the others"):
        Classification(data).load("train")


def test_a_table_without_rows_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"t\.csv: holds no rows; add some, or check data\.source\."):
        table_of(tmp_path, [])


def test_whole_numbers_with_a_point_are_classes(tmp_path: Path) -> None:
    assert labels(table_of(tmp_path, ["0.0", "1.0", "1.0"])) == ["0", "1", "1"]
    assert labels(table_of(tmp_path, ["0.0", "1.0", "1.0"], class_names=("no", "yes"))) == ["no", "yes", "yes"]
    assert name_labels({"train": [0.0, 1.0, math.nan]}, "float", {}, [], "x").of == {"train": ["0", "1", None]}


def test_fractions_are_classes_only_where_the_recipe_names_their_column(tmp_path: Path) -> None:
    cells = ["0.5", "1.0", "0.5"]
    with pytest.raises(UserError, match="fractions"):
        table_of(tmp_path, cells)
    assert labels(table_of(tmp_path, cells, label_column="label")) == cells
    # The columns are recognised by their first rows.
    with pytest.raises(UserError, match=r"holds fractions, e\.g\. 0\.5 .* name the column in data\.label_column"):
        table_of(tmp_path, [*["0.0", "1.0"] * 30, "0.5"])


def test_names_that_differ_in_writing_alone_are_remarked_on(tmp_path: Path) -> None:
    sentence = (
        "The classes 'Cat' and 'cat', 'hot dog' and 'hot_dog' differ only in upper and lower case, blanks, hyphens or "
        "underscores: if they are one, give them one name."
    )
    assert similar_names(["Cat", "cat", "hot dog", "hot_dog", "-1", "1", "C", "C++"]) == (sentence,)
    assert similar_names(["cat", "dog"]) == ()
    write_folders(tmp_path, {"Cat": 3, "cat": 3})
    assert any("'Cat' and 'cat' differ only" in note for note in Classification(data_of(tmp_path)).load("train").notes)


def data_of(root: Path, **options: Any) -> ClassificationData:
    return ClassificationData(source=str(root), **options)


def test_a_small_validation_split_is_remarked_on(tmp_path: Path) -> None:
    write_folders(tmp_path, {"a": 30, "b": 30})
    sentence = (
        "The validation split has only 6 rows: which checkpoint is the best is chosen by chance then; give more, or raise "
        "data.validation_share."
    )
    assert sentence in Classification(data_of(tmp_path)).load("validation").notes
    assert sentence not in Classification(data_of(tmp_path)).load("train").notes
    large = Classification(data_of(tmp_path, validation_share=0.4)).load("validation")
    assert len(large.examples) == 24 and not any("only" in note for note in large.notes)
