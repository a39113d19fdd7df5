from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from picture_folders import write_folders, write_picture
from picture_tables import png, write_csv, write_tar

from foveal.config.reading import read_recipe
from foveal.config.sections import Recipe, dump_recipe
from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.classification import reasoning, settings
from foveal.tasks.classification.task import Classification, ClassificationData

LOOKS = {"cra": "a bowl-shaped depression.", "rid": "an elongated crest"}


def named(**options: Any) -> Classification:
    return Classification(ClassificationData(source="gone", **{"class_names": ["cra", "rid"], **options}))


def reasoned(**options: Any) -> Classification:
    return named(answer_format="reasoning", **options)


def row(folder: Path, truth: str | None = None, **fields: Any) -> Example:
    task = named()
    path = write_picture(folder / "x.png")
    example = task.example_of([Picture(str(path), path)])
    return Example(example.id, example.images, truth, fields)


# ---------------------------------------------------------------- what is asked


def test_descriptions_follow_the_question_unless_a_text_has_a_place_for_them(tmp_path: Path) -> None:
    lines = "cra: a bowl-shaped depression.\nrid: an elongated crest"
    plain = named(descriptions=LOOKS).prompt(row(tmp_path))
    assert plain.user == f"Which of these is shown in the picture: cra, rid?\n{lines}" and plain.system is None
    placed = named(descriptions=LOOKS, question="Look:\n{descriptions}\nOne of {classes}?").prompt(row(tmp_path))
    assert placed.user == f"Look:\n{lines}\nOne of cra, rid?"
    prompt = named(descriptions=LOOKS, question="Which?", system="Of {classes}:\n{descriptions}").prompt(row(tmp_path))
    assert (prompt.user, prompt.system) == ("Which?", f"Of cra, rid:\n{lines}")


def test_braces_in_a_description_and_in_the_question_stay_as_they_are(tmp_path: Path) -> None:
    task = named(descriptions={"cra": "like {classes}"}, question="{classes}: {descriptions} {5} {x}")
    assert task.prompt(row(tmp_path)).user == "cra, rid: cra: like {classes} {5} {x}"


def test_instructions_for_reasons_come_last_and_only_with_reasons(tmp_path: Path) -> None:
    start = "Which of these is shown in the picture: cra, rid?"
    assert named().prompt(row(tmp_path)).user == start
    assert reasoned().prompt(row(tmp_path)).user == f"{start}\n{settings.INSTRUCTIONS}"
    assert "\nReasoning: [" in settings.INSTRUCTIONS and "\nAnswer: [" in settings.INSTRUCTIONS
    assert reasoned(instructions="Say why.").prompt(row(tmp_path)).user == f"{start}\nSay why."
    assert reasoned(instructions="").prompt(row(tmp_path)).user == start


def test_texts_of_files_are_kept_in_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("system.txt").write_text("You know Mars.\nIt is red.\n", encoding="utf-8")
    Path("question.txt").write_text("Which of {classes}?", encoding="utf-8")
    Path("looks.yaml").write_text("cra: a bowl\nrid: 'a crest: long'\n", encoding="utf-8")
    data = {"system": "@system.txt", "question": "@question.txt", "instructions": f"@{tmp_path / 'system.txt'}"}
    task = named(**data, descriptions_file="looks.yaml")
    assert task.data.system == task.data.instructions == "You know Mars.\nIt is red."
    assert task.data.question == "Which of {classes}?"
    assert task.data.descriptions == {"cra": "a bowl", "rid": "a crest: long"} and task.data.descriptions_file == ""
    # The run's recipe needs the files no more, and gives the same task.
    (tmp_path / "recipe.yaml").write_text(dump_recipe(Recipe("classification", task.data)), encoding="utf-8")
    for file in ("system.txt", "question.txt", "looks.yaml"):
        Path(file).unlink()
    assert Classification(read_recipe(tmp_path / "recipe.yaml", []).data).data == task.data
    Path("looks.json").write_text(json.dumps(LOOKS), encoding="utf-8")
    assert named(descriptions_file="@looks.json").data.descriptions == LOOKS


@pytest.mark.parametrize(
    ("options", "files", "words"),
    [
        ({"system": "@s.txt"}, {}, r"data\.system: there is no file s\.txt in .*; check the path"),
        ({"question": "@q.txt"}, {"q.txt": " \n"}, r"data\.question: q\.txt is empty"),
        ({"question": "@q.txt"}, {"q.txt": "@home"}, r"q\.txt: begins with @"),
        ({"descriptions_file": "d.yaml"}, {}, r"data\.descriptions_file: there is no file d\.yaml"),
        ({"descriptions_file": "d.yaml"}, {"d.yaml": "- a"}, r"d\.yaml: holds no descriptions"),
        ({"descriptions_file": "d.yaml"}, {"d.yaml": "a: [b"}, r"d\.yaml, line 1: is neither YAML nor JSON"),
        ({"descriptions_file": "d.yaml"}, {"d.yaml": "cra: 3"}, r"d\.yaml: 'cra': 3 is no name with a text"),
        ({"descriptions_file": "d.yaml"}, {"d.yaml": "crab: x"}, r"data\.descriptions: 'crab' is no class"),
        ({"descriptions_file": "d.yaml", "descriptions": LOOKS}, {"d.yaml": "cra: x"}, "remove one of the two"),
        ({"question": "{descriptions}?"}, {}, r"data\.question: has a place for \{descriptions\}, but"),
    ],
)
def test_files_and_places_that_cannot_be_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], files: dict[str, str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        Path(name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        named(**options)


# ---------------------------------------------------------------- what is answered


def test_the_answer_is_the_class_or_stands_behind_reasons(tmp_path: Path) -> None:
    example = row(tmp_path, "cra", reason="It is round.")
    assert named().prompt(example).answer == "cra"
    assert reasoned().prompt(row(tmp_path, "cra")).answer == "Answer: cra"
    column = reasoned(reasoning_source="column", reasoning_column="why")
    assert column.prompt(example).answer == "Reasoning: It is round.\nAnswer: cra"
    assert column.prompt(row(tmp_path, "cra")).answer == "Answer: cra"
    assert reasoned().prompt(row(tmp_path)).answer is None


def test_reasons_are_invented_only_where_the_recipe_asks_for_the_template_by_name(tmp_path: Path) -> None:
    assert reasoned(descriptions=LOOKS).prompt(row(tmp_path, "cra")).answer == "Answer: cra"
    template = reasoned(descriptions=LOOKS, reasoning_source="template")
    text = "Reasoning: The picture shows a bowl-shaped depression. This is what cra looks like.\nAnswer: cra"
    assert template.prompt(row(tmp_path, "cra")).answer == text
    task = reasoned(reasoning_source="template", reasoning_template="I see {class}, {nothing}.")
    assert task.prompt(row(tmp_path, "rid")).answer == "Reasoning: I see rid, {nothing}.\nAnswer: rid"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reasoning_source": "template"}, r"data\.reasoning_source: template needs data\.answer_format: reasoning"),
        ({"answer_format": "reasoning", "reasoning_source": "column"}, r"data\.reasoning_column: is empty"),
        ({"reasoning_column": "why"}, r"data\.reasoning_column: is read with data\.reasoning_source: column only"),
        (
            {"answer_format": "reasoning", "reasoning_source": "column", "reasoning_column": "y", "label_column": "y"},
            r"data\.reasoning_column: 'y' is the picture or the label",
        ),
        (
            {"answer_format": "reasoning", "reasoning_source": "template", "descriptions": {"cra": "x"}},
            r"data\.reasoning_template: .* 'rid' has none in data\.descriptions",
        ),
    ],
)
def test_keys_that_contradict_each_other(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        named(**options)


# ---------------------------------------------------------------- reasons of the data


def table(folder: Path, reasons: list[Any], header: str = "image,label,why", **options: Any) -> Classification:
    for i in range(len(reasons)):
        write_picture(folder / f"{i}.png", i)
    write_csv(folder / "train.csv", header, [f"{i}.png,{'ab'[i % 2]},{r}" for i, r in enumerate(reasons)])
    options |= {"answer_format": "reasoning", "reasoning_source": "column", "reasoning_column": "why"}
    return Classification(ClassificationData(source=str(folder), **options))


def test_reasons_of_a_table_are_the_answers_of_its_rows(tmp_path: Path) -> None:
    task = table(tmp_path, ["round", "Reasoning: long", '"two, parts"', "d", "e", "f", "g", "h"])
    answers = {}
    for split in ("train", "validation", "test"):
        for example in task.load(split).examples:  # type: ignore[arg-type]
            answers[example.id] = task.prompt(example).answer
    assert answers["0.png"] == "Reasoning: round\nAnswer: a"
    assert answers["1.png"] == "Reasoning: long\nAnswer: b"
    assert answers["2.png"] == "Reasoning: two, parts\nAnswer: a"
    assert len(answers) == 8


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (" ", r"train\.csv, line 4 \(.*2\.png\): has no reason in 'why'; fill it in, remove the row, or set"),
        ("n/a", r"train\.csv, line 4 .*has no reason in 'why'"),
        ("Reasoning:", r"train\.csv, line 4 .*has no reason"),
        ("It is so. Answer: a", r"train\.csv, line 4 .*holds 'Answer:', behind which the class is looked for"),
    ],
)
def test_a_training_row_without_a_usable_reason_is_refused(tmp_path: Path, cell: str, words: str) -> None:
    task = table(tmp_path, ["x", "y", cell, "z"], validation_share=0, test_share=0)
    with pytest.raises(UserError, match=words):
        task.load("train")


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"data\.reasoning_column: .*train\.csv has no column 'why'; its columns are im"
    ):
        table(tmp_path, ["x", "y"], header="image,label,because")
    write_folders(tmp_path / "folders", {"a": 3, "b": 3})
    data = ClassificationData(str(tmp_path / "folders"), answer_format="reasoning", reasoning_source="column")
    data.reasoning_column = "why"
    with pytest.raises(UserError, match=r"data\.reasoning_column: is for tables, and .* folders of pictures"):
        Classification(data)


def test_a_split_that_nothing_is_learned_from_needs_no_reasons(tmp_path: Path) -> None:
    for i in range(4):
        write_picture(tmp_path / f"{i}.png", i)
    write_csv(tmp_path / "train.csv", "image,label,caption", ["0.png,a,x", "1.png,b,y"])
    write_csv(tmp_path / "validation.csv", "image,label", ["2.png,a"])
    write_csv(tmp_path / "test.csv", "image,label,caption", ["3.png,b,"])
    data = ClassificationData(str(tmp_path), answer_format="reasoning", reasoning_source="column")
    data.reasoning_column = "caption"
    task = Classification(data)
    answers = [[task.prompt(e).answer for e in task.load(s).examples] for s in ("train", "validation", "test")]  # type: ignore[arg-type]
    assert answers[0] == ["Reasoning: x\nAnswer: a", "Reasoning: y\nAnswer: b"]
    assert answers[1:] == [["Answer: a"], ["Answer: b"]]


def test_reasons_of_parquet_and_of_the_json_files_in_tars(tmp_path: Path) -> None:
    cells = {"image": [png(i) for i in range(2)], "label": ["a", "b"], "why": ["round", None]}
    (tmp_path / "p").mkdir()
    pyarrow.parquet.write_table(pyarrow.table(cells), tmp_path / "p/train.parquet")
    options: dict[str, Any] = {
        "answer_format": "reasoning", "reasoning_source": "column", "validation_share": 0, "test_share": 0,
    }  # fmt: skip
    task = Classification(ClassificationData(str(tmp_path / "p"), reasoning_column="why", **options))
    with pytest.raises(UserError, match=r"train\.parquet, row 1: has no reason in 'why'"):
        task.load("train")
    members = {}
    for i, label in enumerate("ab"):
        members |= {f"{i}.png": png(i), f"{i}.json": json.dumps({"label": label, "why": f"as {i}"}).encode()}
    write_tar(tmp_path / "t/train.tar", members)
    tars = Classification(ClassificationData(str(tmp_path / "t"), reasoning_column="json.why", label_column="json.label", **options))  # fmt: skip
    answers = [tars.prompt(e).answer for e in tars.load("train").examples]
    assert answers == ["Reasoning: as 0\nAnswer: a", "Reasoning: as 1\nAnswer: b"]


# ---------------------------------------------------------------- replies


@pytest.mark.parametrize(
    ("reply", "lead", "value"),
    [
        ("Reasoning: It is round.\nAnswer: cra", "Reasoning: It is round.\nAnswer:", "cra"),
        ("Reasoning: a crest\nAnswer: rid\nAnswer: [CRA].", "Reasoning: a crest\nAnswer: rid\nAnswer:", "cra"),
        ("**Answer:** rid", "**Answer:", "rid"),
        ("answer : no idea", "answer :", None),
        ("Reasoning: It is", "Reasoning: It is\nAnswer:", None),
        ("cra", "cra\nAnswer:", "cra"),
        ("  ", "Answer:", None),
        ("", "Answer:", None),
    ],
)
def test_a_reply_is_taken_apart_at_its_last_answer(reply: str, lead: str, value: str | None) -> None:
    task = reasoned()
    assert task.reply_start(reply) == lead and named().reply_start(reply) is None
    assert task.parse(reply) == value


def test_each_written_answer_is_read_as_its_class() -> None:
    task = reasoned(reasoning_source="template", descriptions=LOOKS)
    for name in task.answers():
        assert task.parse(reasoning.answer(task.data, name, None)) == name
        assert task.parse(f"{task.reply_start('')} {name}") == name


def test_unparsable_is_the_share_of_the_models_own_answers_that_are_no_class(tmp_path: Path) -> None:
    examples = [Example(str(i), (), "cra") for i in range(4)]
    generated = ["cra", None, "rid", None]
    chances = {"cra": 0.75, "rid": 0.25}
    predictions = [Prediction(str(i), "cra", "x", chances, extra={"generated": g}) for i, g in enumerate(generated)]
    measured = reasoned().measure(examples, predictions)
    assert measured["unparsable"] == 0.5 and measured["accuracy"] == 1
    without = [Prediction(p.id, None if i else "cra", "x") for i, p in enumerate(predictions)]
    assert reasoned().measure(examples, without)["unparsable"] == 0.75


def test_the_recipe_of_a_reasoning_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    task = reasoned(descriptions=LOOKS, reasoning_source="template", system="Look.")
    text = dump_recipe(Recipe("classification", task.data))
    assert yaml.safe_load(text)["data"]["instructions"] == settings.INSTRUCTIONS
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    assert read_recipe(tmp_path / "r.yaml", []).data == task.data
