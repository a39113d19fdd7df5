"""What is measured where the data are others than those that a model was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from foveal.config.sections import Model, Recipe, dump_recipe
from foveal.errors import UserError
from foveal.evaluation.evaluate import other_source
from foveal.runs import Run
from foveal.tasks.classification.task import Classification, ClassificationData
from foveal.tasks.comparison.task import Comparison, ComparisonData
from foveal.tasks.counting.task import Counting, CountingData
from foveal.tasks.task import load_split


def folders(root: Path, counts: dict[str, int]) -> Path:
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (4, 3), (i, len(folder), 0)).save(root / folder / f"{i}.png")
    return root


def classes(source: Path, *names: str, **changes: object) -> Classification:
    return Classification(ClassificationData(source=str(source), class_names=list(names), **changes))  # type: ignore[arg-type]


def test_class_folders_without_splits_are_measured_whole_and_lack_what_they_lack(tmp_path: Path) -> None:
    source = folders(tmp_path / "other", {"cat": 7, "dog": 5})
    task = classes(source, "cat", "dog", "fox")
    loaded = load_split(task, "test", other=True)
    assert (len(loaded.examples), loaded.whole, task.answers()) == (12, True, ("cat", "dog", "fox"))
    with pytest.raises(UserError, match="are not the class folders"):
        load_split(task, "test")  # what is trained on has the answers' classes
    only = load_split(classes(folders(tmp_path / "one", {"dog": 3}), "cat", "dog"), "test", other=True)
    assert [e.truth for e in only.examples] == ["dog"] * 3


def test_a_source_with_splits_gives_its_test_split_and_nothing_is_held_out_of_its_others(tmp_path: Path) -> None:
    source = folders(tmp_path / "other", {"train/cat": 6, "train/dog": 4, "test/cat": 2})
    task = classes(source, "dog", "cat")
    assert (len(load_split(task, "test", other=True).examples), load_split(task, "test", other=True).whole) == (
        2,
        False,
    )
    assert len(load_split(task, "train", other=True).examples) == 10
    with pytest.raises(UserError, match="has no pictures of a validation split, only of train, test; give --split"):
        load_split(task, "validation", other=True)
    alone = load_split(
        classes(folders(tmp_path / "b", {"train/cat": 3, "train/dog": 1}), "cat", "dog"), "test", other=True
    )
    assert (len(alone.examples), alone.whole) == (4, True)


def test_a_class_that_the_model_does_not_know_is_a_sentence(tmp_path: Path) -> None:
    source = folders(tmp_path / "other", {"cat": 1, "wolf": 2, "yak": 1})
    with pytest.raises(UserError) as caught:
        load_split(classes(source, "cat", "dog"), "test", other=True)
    assert str(caught.value) == (
        f"{source}: the class 'wolf' (of 2 rows) and 1 more is no answer of the model, which knows cat, dog; rename it as "
        "one of them, or leave those rows out."
    )


@pytest.mark.parametrize(
    ("labels", "names", "truths"),
    [
        ("dog\ncat\ndog", ("cat", "dog", "fox"), ["dog", "cat", "dog"]),
        ("1\n2\n2", ("0", "1", "2", "5"), ["1", "2", "2"]),  # numbers that are their own names
        ("2\n5\n2", ("1", "2", "5"), ["2", "5", "2"]),
        ("1\n0\n2", ("cat", "dog", "fox"), ["dog", "cat", "fox"]),  # numbers that the answers name
        ("1\n1\n1", ("cat", "dog", "fox"), ["dog"] * 3),
    ],
)
def test_tables_are_measured_whole_with_the_models_own_answers(
    tmp_path: Path, labels: str, names: tuple[str, ...], truths: list[str]
) -> None:
    folders(tmp_path, {"pictures": 3})
    rows = [f"pictures/{i}.png,{label}" for i, label in enumerate(labels.split())]
    (tmp_path / "t.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    loaded = load_split(classes(tmp_path / "t.csv", *names), "test", other=True)
    assert ([e.truth for e in loaded.examples], loaded.whole) == (truths, True)


def test_rated_pictures_without_folds_are_all_compared(tmp_path: Path) -> None:
    lines = "".join(f"p{i}.png,{i}\n" for i in range(12))
    for i in range(12):
        Image.new("L", (4, 4)).save(tmp_path / f"p{i}.png")
    (tmp_path / "rated.csv").write_text(f"image,score\n{lines}")
    task = Comparison(ComparisonData(source=str(tmp_path / "rated.csv"), test=0, both_orders=False))
    loaded = load_split(task, "test", other=True)
    assert (len(loaded.examples), loaded.whole) == (12 * 11 // 2, True)
    assert {name for e in loaded.examples for name in e.fields["ids"]} == {f"p{i}.png" for i in range(12)}


def test_a_coco_file_is_counted_whole(tmp_path: Path) -> None:
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 2, 2]} for i in range(2)]
    images = [{"id": i, "file_name": f"{i}.png", "width": 8, "height": 8} for i in range(2)]
    for i in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cells"}]}
    (tmp_path / "_annotations.coco.json").write_text(json.dumps(document))
    task = Counting(CountingData(source=str(tmp_path)))
    loaded = load_split(task, "test", other=True)
    assert (len(loaded.examples), loaded.whole) == (2, True)
    with pytest.raises(UserError, match="too few to hold some out"):
        load_split(task, "test")


def test_another_source_is_one_that_the_run_did_not_learn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path, {"mine": 1, "other": 1})
    monkeypatch.chdir(tmp_path)
    run = Run(tmp_path / "run")
    run.path.mkdir()

    def recipe(source: str, model: str = "builtin") -> Recipe:
        return Recipe("classification", ClassificationData(source=source), Model(id=model))

    run.recipe.write_text(dump_recipe(recipe("mine")))
    found = [other_source(recipe(s), run) for s in ("mine", str(tmp_path / "mine"), "./mine/", "other", "owner/name")]
    assert found == [False, False, False, True, True]
    assert not other_source(recipe("mine"), None) and other_source(recipe("mine", "http://127.0.0.1:1/v1"), None)
