from __future__ import annotations

import math
import random
from collections import Counter
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from picture_folders import write_digits, write_folders, write_picture

from foveal.errors import ImageError, UserError
from foveal.examples import SPLITS
from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.classification import task as module
from foveal.tasks.classification.task import Classification, ClassificationData
from foveal.tasks.readers import checking


def make_task(root: Path, **options: Any) -> Classification:
    return Classification(ClassificationData(source=str(root), **options))


def named(*names: str) -> Classification:
    return Classification(ClassificationData(source="gone", class_names=list(names)))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "plain", {"cat": 20, "dog": 30, "eel": 10})


def test_found_by_name() -> None:
    (point,) = entry_points(group="foveal.tasks", name="classification")
    assert point.load() is Classification
    assert Classification.name == "classification"
    assert Classification.Data is ClassificationData
    assert Classification.headline == "accuracy"


def test_rows_of_a_split_layout(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train/cat": 3, "train/dog": 2, "valid/dog": 1, "test/cat": 2})
    task = make_task(tmp_path)
    train, validation, test = (task.load(split) for split in SPLITS)
    assert [e.truth for e in train.examples] == ["cat"] * 3 + ["dog"] * 2
    assert [e.id for e in validation.examples] == ["valid/dog/000.png"]
    assert [e.truth for e in test.examples] == ["cat", "cat"]
    assert train.source == str(tmp_path)
    assert train.refused == ()
    assert train.examples[0].images[0].open().size == (4, 3)
    assert task.answers() == ("cat", "dog")


def test_plain_layout_is_held_out_stratified_and_disjoint(plain: Path) -> None:
    loaded = {split: make_task(plain).load(split) for split in SPLITS}
    ids = [e.id for split in SPLITS for e in loaded[split].examples]
    assert len(ids) == len(set(ids)) == 60
    have = {split: Counter(e.truth for e in loaded[split].examples) for split in SPLITS}
    assert have["test"] == {"cat": 4, "dog": 6, "eel": 2}
    assert have["validation"] == {"cat": 2, "dog": 3, "eel": 1}
    assert have["train"] == {"cat": 14, "dog": 21, "eel": 7}
    assert loaded["test"].source == f"{plain} (0.2 of each class held out, seed 0)"
    assert loaded["train"].source == f"{plain} (without 0.2 for test and 0.1 for validation of each class, seed 0)"


def test_splits_are_the_same_each_time_wherever_the_folder_lies(plain: Path, tmp_path: Path) -> None:
    moved = write_folders(tmp_path / "moved", {"cat": 20, "dog": 30, "eel": 10})
    for split in SPLITS:
        ids = [e.id for e in make_task(plain).load(split).examples]
        assert ids == [e.id for e in make_task(moved).load(split).examples]
        assert ids != [e.id for e in make_task(plain, seed=1).load(split).examples]


def test_validation_is_held_out_of_train_where_there_is_none(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train/a": 10, "train/b": 20, "test/a": 3})
    task = make_task(tmp_path, validation_share=0.2)
    assert Counter(e.truth for e in task.load("validation").examples) == {"a": 2, "b": 4}
    assert Counter(e.truth for e in task.load("train").examples) == {"a": 8, "b": 16}
    assert len(task.load("test").examples) == 3


def test_validation_folder_leaves_train_whole(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train/a": 10, "train/b": 20, "dev/a": 3})
    assert len(make_task(tmp_path).load("train").examples) == 30


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    write_folders(tmp_path / "x", {"train/a": 10, "train/b": 20})
    with pytest.raises(UserError, match=r"no pictures for the test split; add .*x/test"):
        make_task(tmp_path / "x").load("test")
    with pytest.raises(UserError, match=r"no pictures for the validation split; raise data\.validation_share"):
        make_task(tmp_path / "x", validation_share=0).load("validation")
    write_folders(tmp_path / "y", {"test/a": 1, "test/b": 1})
    assert len(make_task(tmp_path / "y").load("test").examples) == 2
    for split in ("train", "validation"):
        with pytest.raises(UserError, match=rf"no pictures for the {split} split; add .*y/{split}"):
            make_task(tmp_path / "y").load(split)  # type: ignore[arg-type]


def test_limit_is_spread_over_the_classes(plain: Path) -> None:
    task = make_task(plain, limit=7)
    assert Counter(e.truth for e in task.load("train").examples) == {"cat": 3, "dog": 2, "eel": 2}
    assert Counter(e.truth for e in task.load("test").examples) == {"cat": 3, "dog": 2, "eel": 2}
    assert Counter(e.truth for e in make_task(plain, limit=30).load("train").examples) == {
        "cat": 12,
        "dog": 11,
        "eel": 7,
    }


def test_class_names_give_the_order_of_the_answers(plain: Path) -> None:
    task = make_task(plain, class_names=["eel", "cat", "dog"])
    assert task.answers() == ("eel", "cat", "dog")
    labels = {e.id.split("/")[0]: e.truth for e in task.load("train").examples}
    assert labels == {"cat": "cat", "dog": "dog", "eel": "eel"}


def test_class_names_must_be_the_folders_names(plain: Path) -> None:
    with pytest.raises(UserError) as error:
        make_task(plain, class_names=["cat", "dog", "owl"]).load("train")
    message = str(error.value)
    for words in ("cat, dog, owl", "cat, dog, eel", "only in class_names: owl", "only folders: eel", str(plain)):
        assert words in message


def test_names_read_from_the_folder_are_kept_in_the_data_section(plain: Path) -> None:
    data = ClassificationData(source=str(plain))
    task = Classification(data)
    assert task.data.class_names == ["cat", "dog", "eel"]
    assert data.class_names == []


def test_a_task_with_names_does_not_need_the_folder(tmp_path: Path) -> None:
    task = named("cat", "dog")
    assert task.answers() == ("cat", "dog")
    path = write_picture(tmp_path / "x.png")
    example = task.example_of([Picture(str(path), path)])
    assert example.truth is None
    assert task.prompt(example).answer is None
    with pytest.raises(UserError, match="gone: there is no such folder"):
        task.load("train")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": -1}, r"data\.limit: -1 is negative; give 0"),
        ({"validation_share": 1.0}, r"data\.validation_share: 1\.0 is no share; give a number from 0"),
        ({"test_share": -0.1}, r"data\.test_share: -0\.1 is no share"),
        ({"test_share": 0.6, "validation_share": 0.4}, "leave nothing to learn from; lower one"),
        ({"class_names": ["a", "b", "a"]}, r"data\.class_names: 'a' occurs twice; give each name once"),
        ({"class_names": ["a"]}, r"data\.class_names: 'a' is the only class; at least two"),
        ({"descriptions": {"owl": "a bird"}}, r"data\.descriptions: 'owl' is no class; the classes are cat, dog, eel"),
        ({"source": " "}, r"data\.source: is empty; give the folder"),
        ({"source": "/nowhere/at all"}, r"/nowhere/at all: there is no such folder; check data\.source"),
    ],
)
def test_errors_of_the_data_section(plain: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Classification(ClassificationData(**{"source": str(plain), **options}))


def test_prompt(plain: Path) -> None:
    task = make_task(
        plain, system="You are an expert.", descriptions={"eel": "a long fish", "cat": "it has {whiskers}"}
    )
    example = task.load("train").examples[0]
    prompt = task.prompt(example, random.Random(0))
    assert prompt.user == (
        "Which of these is shown in the picture: cat, dog, eel?\ncat: it has {whiskers}\neel: a long fish"
    )
    assert prompt.system == "You are an expert."
    assert prompt.answer == "cat"
    assert [image.mode for image in prompt.opened()] == ["RGB"]
    assert make_task(plain, question="What is it {here}?").prompt(example).user == "What is it {here}?"


def broken(root: Path) -> list[Path]:
    write_folders(root, {"a": 30, "b": 30})
    first, second = root / "a/003.png", root / "b/004.png"
    first.write_bytes(first.read_bytes()[:45])
    second.write_bytes(b"")
    return [first, second]


def test_bad_pictures_are_refused(tmp_path: Path) -> None:
    first, second = broken(tmp_path)
    with pytest.raises(ImageError) as error:
        make_task(tmp_path, validation_share=0, test_share=0).load("train")
    message = str(error.value)
    for words in (str(first), "damaged or truncated", "1 more pictures", "`data.on_bad_image: skip`"):
        assert words in message
    first.unlink()
    with pytest.raises(ImageError) as error:
        make_task(tmp_path, validation_share=0, test_share=0).load("train")
    assert f"{second}: the file is empty" in str(error.value)
    assert "more pictures" not in str(error.value)


def test_bad_pictures_are_skipped_and_reported(tmp_path: Path) -> None:
    first, second = broken(tmp_path)
    loaded = make_task(tmp_path, validation_share=0, test_share=0, on_bad_image="skip").load("train")
    assert len(loaded.examples) == 58
    assert [row for row, _ in loaded.refused] == ["a/003.png", "b/004.png"]
    assert [reason.split(":")[0] for _, reason in loaded.refused] == [str(first), str(second)]


def test_a_class_that_loses_all_its_pictures(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train/a": 3, "train/b": 1, "test/a": 1})
    (tmp_path / "train/b/000.png").write_text("text")
    with pytest.raises(UserError, match=r"no picture of 'b' in the train split can be used.*b/000\.png: not a picture"):
        make_task(tmp_path, on_bad_image="skip").load("train")


def test_of_many_pictures_the_headers_alone_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(tmp_path)
    monkeypatch.setattr(checking, "FULL_CHECK", 59)
    loaded = make_task(tmp_path, validation_share=0, test_share=0, on_bad_image="skip").load("train")
    assert [row for row, _ in loaded.refused] == ["b/004.png"]
    monkeypatch.setattr(checking, "FULL_CHECK", 60)
    loaded = make_task(tmp_path, validation_share=0, test_share=0, on_bad_image="skip").load("train")
    assert [row for row, _ in loaded.refused] == ["a/003.png", "b/004.png"]


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("cat", "cat"),
        ("Cat", "cat"),
        (" cat.\n", "cat"),
        ('"cat"', "cat"),
        ("“cat”.", "cat"),
        ("**cat**", "cat"),
        ("St. Bernard", "St. Bernard"),
        ("st. bernard.", "St. Bernard"),
        ("hot dog", "hot dog"),
        ("dog", "dog"),
        ("mud_flat", "mud_flat"),
        ("Answer: cat", "cat"),
        ("It has whiskers.\nAnswer: cat", "cat"),
        ("Reasoning: a dog would bark. Answer: cat.", "cat"),
        ("Answer: dog\nNo, wait.\nAnswer: cat", "cat"),
        ("ANSWER : 'Cat'\nbecause of its ears", "cat"),
        ("**Answer:** cat", "cat"),
        ("", None),
        ("   ", None),
        (".", None),
        ("a cat", None),
        ("It is a cat.", None),
        ("cat or dog", None),
        ("cat, dog", None),
        ("cats", None),
        ("mud flat", None),
        ("zebra", None),
        ("Answer: cat or dog", None),
        ("Answer: cat\nAnswer: zebra", None),
        ("Answer:\ncat", None),
        ("Answer:", None),
        ("My answer is cat", None),
        ("0", None),
    ],
)
def test_parser(reply: str, value: str | None) -> None:
    assert named("cat", "dog", "hot dog", "St. Bernard", "mud_flat").parse(reply) == value


def test_parser_with_names_that_differ_in_case_only() -> None:
    task = named("Turkey", "turkey", "answer: x")
    assert task.parse("turkey") == "turkey"
    assert task.parse("Turkey.") == "Turkey"
    assert task.parse("TURKEY") is None
    assert task.parse("Answer: x") == "answer: x"


@pytest.mark.parametrize("names", [("cat", "cat."), ("'dog'", "dog"), ("...", "cat")])
def test_names_that_replies_cannot_tell_apart(names: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="cannot be told from another; rename the class"):
        named(*names)


def test_parser_reads_accents_in_either_form() -> None:
    assert named("cafe\N{COMBINING ACUTE ACCENT}", "tea").parse("caf\u00e9") == "cafe\N{COMBINING ACUTE ACCENT}"


def test_each_answer_is_parsed_as_itself(plain: Path) -> None:
    task = make_task(plain)
    assert [task.parse(answer) for answer in task.answers()] == list(task.answers())


def test_measure_and_chance(plain: Path) -> None:
    task = make_task(plain)
    examples = [e for e in task.load("test").examples if e.truth != "eel"]  # 4 cats, 6 dogs
    values = ["cat", "cat", None, "dog", *["dog"] * 5, "eel"]
    predictions = [Prediction(e.id, value, str(value)) for e, value in zip(examples, values, strict=True)]
    measured = task.measure(examples, predictions[::-1])
    assert measured == pytest.approx(
        {
            "accuracy": 0.7,
            "balanced_accuracy": (0.5 + 5 / 6) / 2,
            "macro_f1": (2 * 2 / (4 + 2) + 2 * 5 / (6 + 6)) / 2,
            "unparsable": 0.1,
            "recall/cat": 0.5,
            "recall/dog": 5 / 6,
            "precision/cat": 1,
            "precision/dog": 5 / 6,
            "f1/cat": 2 / 3,
            "f1/dog": 5 / 6,
        }
    )
    assert task.chance(examples) == 0.6
    assert task.chance([]) == pytest.approx(1 / 3)
    assert task.chance(task.load("test").examples[:4] + examples[-4:]) == 0.5
    with pytest.raises(UserError, match="no rows to measure"):
        task.measure([], [])


def test_probabilities_are_measured_where_all_predictions_have_them(plain: Path) -> None:
    task = make_task(plain)
    examples = [e for e in task.load("test").examples if e.truth != "eel"]  # 4 cats, 6 dogs
    chances = {"eel": 0.1, "dog": 0.6, "cat": 0.3}  # in another order than the names
    predictions = [Prediction(e.id, "dog", "dog", chances) for e in examples]
    measured = task.measure(examples, predictions[::-1])
    assert measured["top2_accuracy"] == 1 and "top3_accuracy" not in measured
    assert measured["ece"] == pytest.approx(0) and measured["ece_adaptive"] == pytest.approx(0)  # 0.6 of them are dogs
    assert measured["brier"] == pytest.approx(0.4 * (0.01 + 0.36 + 0.49) + 0.6 * (0.01 + 0.16 + 0.09))
    assert measured["nll"] == pytest.approx(-0.4 * math.log(0.3) - 0.6 * math.log(0.6))
    assert "precision/cat" not in measured and measured["recall/cat"] == measured["f1/cat"] == 0
    without = task.measure(examples, [Prediction(examples[0].id, "dog", "dog"), *predictions[1:]])
    assert set(measured) - set(without) == {"top2_accuracy", "ece", "ece_adaptive", "brier", "nll"}
    assert without["accuracy"] == measured["accuracy"] == 0.6


def test_digits(tmp_path: Path) -> None:
    task = make_task(write_digits(tmp_path, train=20, test=5))
    assert task.answers() == tuple("0123456789")
    assert [len(task.load(split).examples) for split in SPLITS] == [180, 20, 50]
    assert task.chance(task.load("test").examples) == pytest.approx(0.1)


def test_real_photographs(real_data: Path) -> None:
    root = real_data / "cifar10_subset"
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    task = make_task(root)
    assert task.answers() == names
    test = task.load("test")
    assert Counter(e.truth for e in test.examples) == dict.fromkeys(names, 20)
    assert Counter(e.truth for e in task.load("train").examples) == dict.fromkeys(names, 36)
    assert Counter(e.truth for e in task.load("validation").examples) == dict.fromkeys(names, 4)
    assert Counter(e.truth for e in make_task(root, validation_share=0).load("train").examples) == dict.fromkeys(
        names, 40
    )
    assert {e.images[0].open().size for e in test.examples} == {(32, 32)}
    assert test.refused == ()


def test_thousands_of_classes_are_not_compared_each_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, bare = Counter[str](), module._bare
    monkeypatch.setattr(module, "_bare", lambda text: calls.update("x") or bare(text))
    names = [f"Class {i}" for i in range(2000)]
    task = named(*names)
    assert [task.parse(f" '{name.lower()}'. ") for name in names] == names
    assert calls["x"] < 20 * len(names)
