from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

import datasets
import pytest
from picture_tables import png, write_parquet

from foveal.config.reading import read_recipe
from foveal.errors import UserError
from foveal.tasks.classification.task import Classification, ClassificationData

RECIPES = Path(__file__).parents[3] / "src/foveal/recipes"
MARS = ("classification-mars", "classification-mars-reasoning")
#: The data set's own numbers, as its authors' mapping.json has them.
OWN = {
    "ael": 0, "rou": 1, "cli": 2, "aec": 3, "tex": 4, "smo": 5, "fss": 6, "rid": 7, "fse": 8, "sfe": 9, "fsf": 10, "fsg": 11,
    "sfx": 12, "cra": 13, "mix": 14,
}  # fmt: skip
NAMES = sorted(OWN, key=lambda name: OWN[name])
#: An order that goes round, in which all but two numbers mean another class.
WRONG = "ael aec cli rid fsf sfe fsg fse fss cra sfx mix rou smo tex".split()
#: Splits of the set on the Hub and how many rows the copy gets; the small ones repeat rows of train.
SPLITS = {"train": 30, "val": 15, "test": 15, "few_shot_5": 15, "few_shot_train_1_shot": 15, "partition_0.10x": 15}


def hub_copy(root: Path, names: Sequence[str] | None, *, splits: Sequence[str] = tuple(SPLITS)) -> Path:
    """A set with as many splits as the one on the Hub; row i of each is of class i modulo 15."""
    for number, split in enumerate(splits):
        labels = [i % 15 for i in range(SPLITS[split])]
        path = root / f"data/{split}-00000-of-00001.parquet"
        write_parquet(path, labels, first=100 * number, names=names)
    files = "".join(f"  - split: {split}\n    path: data/{split}-*\n" for split in splits)
    (root / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    return root


def recipe(name: str, source: Path, *words: str) -> ClassificationData:
    data = read_recipe(RECIPES / f"{name}.yaml", ["--data.source", str(source), *words]).data
    assert isinstance(data, ClassificationData)
    return data


def pictures(task: Classification, split: str) -> list[int]:
    """The number of each picture, which is its colour."""
    opened = [e.images[0].open().getpixel((0, 0)) for e in task.load(split).examples]  # type: ignore[arg-type]
    return [red + 256 * green for red, green, _ in opened]  # type: ignore[misc]


@pytest.mark.parametrize("name", MARS)
def test_the_recipes_order_is_that_of_the_data(name: str, tmp_path: Path) -> None:
    data = recipe(name, tmp_path)
    assert {c: i for i, c in enumerate(data.class_names)} == OWN
    assert set(data.descriptions) == set(OWN)
    assert "straight" in data.descriptions["ael"] and "curved" in data.descriptions["aec"]
    assert data.splits == {"train": "train", "validation": "val", "test": "test"}


@pytest.mark.parametrize("name", MARS)
@pytest.mark.parametrize("names", [None, NAMES], ids=["numbers", "named"])
def test_rows_have_the_right_class_and_small_splits_are_left_out(
    name: str, names: Sequence[str] | None, tmp_path: Path
) -> None:
    task = Classification(recipe(name, hub_copy(tmp_path, names)))
    assert task.answers() == tuple(NAMES)
    for number, (split, source_split) in enumerate({"train": "train", "validation": "val", "test": "test"}.items()):
        loaded = task.load(split)  # type: ignore[arg-type]
        assert [e.truth for e in loaded.examples] == [NAMES[i % 15] for i in range(SPLITS[source_split])]
        assert pictures(task, split) == [100 * number + i for i in range(SPLITS[source_split])]
        left = "Left out, and never merged with another: 'few_shot_5', 'few_shot_train_1_shot', 'partition_0.10x'"
        assert any(left in note for note in loaded.notes)


def test_numbers_without_names_are_said_to_be_named_by_the_recipe(tmp_path: Path) -> None:
    task = Classification(recipe("classification-mars", hub_copy(tmp_path, None)))
    assert any("0 ael, 1 rou, 2 cli, 3 aec" in n and "which nothing confirms" in n for n in task.load("train").notes)


def test_a_few_shots_are_learned_from_when_asked_for(tmp_path: Path) -> None:
    words = ("--data.splits", "{train: few_shot_5, validation: val, test: test}")
    task = Classification(recipe("classification-mars", hub_copy(tmp_path, NAMES), *words))
    assert pictures(task, "train") == [300 + i for i in range(15)]
    assert pictures(task, "test") == [200 + i for i in range(15)]


def test_another_order_is_refused_with_both_shown(tmp_path: Path) -> None:
    assert [a == b for a, b in zip(WRONG, NAMES, strict=True)].count(False) == 13
    words = ("--data.class_names", *WRONG)
    task = Classification(recipe("classification-mars", hub_copy(tmp_path, NAMES), *words))
    with pytest.raises(UserError) as error:
        task.load("train")
    message = str(error.value)
    assert ", ".join(f"{i} {name}" for i, name in enumerate(WRONG)) + " contradicts" in message
    assert "own mapping is " + ", ".join(f"{i} {name}" for i, name in enumerate(NAMES)) in message


def test_prompts_name_every_code_once_and_the_answer_is_the_code(tmp_path: Path) -> None:
    source = hub_copy(tmp_path, NAMES)
    plain, reasons = (Classification(recipe(name, source)) for name in MARS)
    example = plain.load("train").examples[3]
    for task, answer in ((plain, "aec"), (reasons, "Answer: aec")):
        prompt = task.prompt(example)
        assert prompt.answer == answer and "Mars" in (prompt.system or "")
        assert [line[:3] for line in prompt.user.splitlines() if line[3:5] == ": "] == NAMES
    assert "Reasoning: [" in reasons.prompt(example).user and "Reasoning" not in plain.prompt(example).user
    assert reasons.parse("Reasoning: parallel ridges.\nAnswer: ael") == "ael"


@pytest.mark.parametrize(
    ("name", "image", "split", "classes"),
    [("classification-cifar10", "img", "test", 10), ("classification-food101", "image", "validation", 101)],
)
def test_two_splits_of_the_hub_are_train_and_test(
    name: str, image: str, split: str, classes: int, tmp_path: Path
) -> None:
    names = [f"{a}{b}" for a in string.ascii_lowercase for b in "abcd"][:classes]
    features = datasets.Features({image: datasets.Image(), "label": datasets.ClassLabel(names=names)})
    for first, (source_split, rows) in enumerate({"train": 20, split: 1}.items()):
        cells = [{"bytes": png(i + 40_000 * first), "path": None} for i in range(rows * classes)]
        labels = [i % classes for i in range(rows * classes)]
        table = datasets.Dataset.from_dict({image: cells, "label": labels}, features=features)
        (tmp_path / "data").mkdir(exist_ok=True)
        table.to_parquet(str(tmp_path / f"data/{source_split}-00000-of-00001.parquet"))
    task = Classification(recipe(name, tmp_path))
    held = {"classification-cifar10": 2, "classification-food101": 1}[name]
    counts = {s: len(task.load(s).examples) for s in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert counts == {"train": (20 - held) * classes, "validation": held * classes, "test": classes}
    assert task.answers() == tuple(names)
