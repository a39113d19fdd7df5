from __future__ import annotations

import gc
import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from rich.console import Console
from transformers import PreTrainedModel

from foveal.config.reading import read_recipe
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.runs import fold_runs, open_run
from foveal.training import folds as module
from foveal.training.folds import parse_folds, summarise, train_folds

QUIET = Console(quiet=True)
RECIPE = """\
task: comparison
data: {{pictures: 16, image_size: 64, train: 6, validation: 3, test: 3, wording: short}}
model: {{id: {model}, device: cpu}}
training: {{epochs: 1, batch_size: 3, learning_rate: 1e-3, warmup: 0, precision: float32, evaluate: false}}
evaluation: {{batch_size: 8, shown: 1}}
objective: label
name: both
seed: 42
"""


# ------------------------------------------------------------------------------------------------- which folds


@pytest.mark.parametrize(
    ("text", "folds"),
    [("all", [1, 2, 3, 4, 5]), ("1", [1]), ("1,3", [1, 3]), ("3, 1 ,3", [3, 1]), ("07", [7]), ("1000", [1000])],
)
def test_folds_are_all_or_numbers(text: str, folds: list[int]) -> None:
    assert parse_folds(text) == folds


@pytest.mark.parametrize("text", ["", "0", "-1", "1,,2", "1;2", "1-3", "two", "ALL", "1.5", "²", "1" * 5000, "1,"])
def test_anything_else_is_one_sentence(text: str) -> None:
    with pytest.raises(UserError, match="is neither all nor numbers such as 1,3; folds are numbered from 1"):
        parse_folds(text)


def test_summary_of_three_folds_by_hand() -> None:
    found = summarise({1: {"accuracy": 0.5, "nll": 1.0}, 2: {"accuracy": 0.7}, 4: {"accuracy": 0.9, "pearson": 1.0}})
    assert found["folds"] == [1, 2, 4]
    assert list(found["metrics"]) == ["accuracy"], "only what all folds have"
    assert found["metrics"]["accuracy"]["mean"] == pytest.approx(0.7)
    assert found["metrics"]["accuracy"]["deviation"] == pytest.approx(0.2), "the sample deviation, by n - 1"
    assert found["metrics"]["accuracy"]["folds"] == [0.5, 0.7, 0.9]
    assert summarise({3: {"accuracy": 0.5}})["metrics"]["accuracy"] == {"mean": 0.5, "deviation": None, "folds": [0.5]}


# ------------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def recipe(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("folds")
    (folder / "r.yaml").write_text(RECIPE.format(model=tiny("idefics3")))
    return read_recipe(folder / "r.yaml", ["--output", str(folder)])


@pytest.fixture(scope="module")
def trained(recipe: Recipe) -> Path:
    """Two folds; tests must not write to it."""
    gc.collect()
    before = sum(issubclass(type(o), PreTrainedModel) for o in gc.get_objects())
    folder = train_folds(recipe, [1, 2], QUIET)
    gc.collect()
    assert sum(issubclass(type(o), PreTrainedModel) for o in gc.get_objects()) == before, (
        "the memory of the folds is let go"
    )
    return folder


@pytest.fixture
def copied(trained: Path, recipe: Recipe, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "both", symlinks=True)


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("nothing must be trained")


def at(recipe: Recipe, folder: Path, **changes: Any) -> Recipe:
    """The recipe with its runs elsewhere, and changes by dotted keys with a double underscore."""
    words = [w for k, v in changes.items() for w in (f"--{k.replace('__', '.')}", str(v))]
    return read_recipe(Path(recipe.output) / "r.yaml", ["--output", str(folder.parent), *words])


def test_two_folds_have_their_runs_seeds_and_a_summary(trained: Path) -> None:
    assert sorted(p.name for p in trained.iterdir()) == ["fold-1", "fold-2", "summary.json"]
    metrics = []
    for k in (1, 2):
        run = open_run(trained / f"fold-{k}")
        saved = yaml.safe_load(run.recipe.read_text())
        assert (saved["seed"], saved["data"]["fold"], saved["name"]) == (42 + k, k, f"fold-{k}")
        assert saved["data"]["seed"] == 42, "what divides the data is the same for all folds"
        assert run.report.is_file() and run.checkpoint("best").is_dir() and run.checkpoint("last").is_dir()
        metrics.append(json.loads((run.evaluation("test") / "results.json").read_text())["metrics"])
        assert f"fold {k}" in (run.path / "data.json").read_text()
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["folds"] == [1, 2] and summary["metrics"].keys() == metrics[0].keys() & metrics[1].keys()
    for name, found in summary["metrics"].items():
        values = [m[name] for m in metrics]
        assert found["folds"] == values and found["mean"] == pytest.approx(statistics.fmean(values))
        assert found["deviation"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert {"accuracy", "consistency", "nll"} <= summary["metrics"].keys()
    weights = [(trained / f"fold-{k}/checkpoints/last/model.safetensors").read_bytes() for k in (1, 2)]
    assert weights[0] != weights[1]


def test_a_finished_fold_is_not_trained_again(copied: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "train", never)
    old = (copied / "summary.json").read_text()
    (copied / "summary.json").unlink()
    assert train_folds(at(recipe, copied), [1, 2], QUIET) == copied
    assert (copied / "summary.json").read_text() == old
    train_folds(at(recipe, copied), [2], QUIET)
    assert json.loads((copied / "summary.json").read_text())["folds"] == [2]


def test_an_interrupted_fold_is_continued_and_the_rest_trained(
    copied: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fold 1 was ended after its training and before its report; of fold 2 there is a recipe and no checkpoint yet."""
    (copied / "fold-1/report.html").unlink()
    weights = (copied / "fold-1/checkpoints/last/model.safetensors").stat()
    for part in ("evaluation", "checkpoints"):
        shutil.rmtree(copied / "fold-2" / part)
    for file in ("report.html", "metrics.csv"):
        (copied / "fold-2" / file).unlink()
    seen: list[tuple[str | None, str | None]] = []

    def watched(one: Recipe, console: Console, *, resume: Any = None) -> Any:
        seen.append((one.name, None if resume is None else resume.path.name))
        return original(one, console, resume=resume)

    original = module.train
    monkeypatch.setattr(module, "train", watched)
    old = json.loads((copied / "summary.json").read_text())
    train_folds(at(recipe, copied), [1, 2], QUIET)
    assert seen == [("fold-1", "fold-1"), ("fold-2", "fold-2")]
    assert (copied / "fold-1/checkpoints/last/model.safetensors").stat().st_mtime == weights.st_mtime, (
        "only measured again"
    )
    assert (copied / "fold-1/report.html").is_file() and (copied / "fold-2/report.html").is_file()
    assert json.loads((copied / "summary.json").read_text()) == old, "and the numbers are the same"


def test_ctrl_c_tells_how_to_continue(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt("continue with: foveal train --resume x")

    monkeypatch.setattr(module, "train", interrupted)
    with pytest.raises(KeyboardInterrupt, match="continue with the same command and --name both"):
        train_folds(at(recipe, tmp_path / "both"), [1], QUIET)


# ------------------------------------------------------------------------------------------------- wrong input


def test_what_cannot_be_is_refused_before_anything_is_trained(
    copied: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "train", never)

    def refusal(one: Recipe, folds: list[int] | None = None) -> str:
        with pytest.raises(UserError) as caught:
            train_folds(one, folds or [1, 2], QUIET)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    lines = read_recipe(None, ["--task", "blindtest/lines"])
    assert refusal(lines) == "--folds: the task blindtest/lines has no folds; leave the option out."
    changed = at(recipe, copied, training__learning_rate="2e-3")
    assert refusal(changed) == (
        f"{copied / 'fold-1'}: was trained with training.learning_rate 0.001, not 0.002; choose another --name, or "
        "repeat its command."
    )
    assert "was trained with model.learning_rates" in refusal(
        at(recipe, copied, model__learning_rates="{projector: 5e-4}")
    )
    assert "fold-1: holds another run; choose another --name" in refusal(at(recipe, copied / "fold-1", name="fold-1"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert "other: is not empty; choose another --name" in refusal(at(recipe, tmp_path / "other", name="other"))
    assert "name: '../x' cannot be a folder's name" in refusal(at(recipe, tmp_path / "x", name="../x"))
    table = tmp_path / "rated.csv"
    table.write_text("image,score\n" + "".join(f"{i}.png,{i % 7}\n" for i in range(40)))
    for i in range(40):
        Image.new("L", (4, 4)).save(tmp_path / f"{i}.png")
    sourced = at(recipe, tmp_path / "new", name="new", data__source=table)
    assert "data.fold: there is no fold 6; " in refusal(sourced, [1, 6])
    assert not (tmp_path / "new").exists() and not (tmp_path / "both" / "fold-6").exists()
    (copied / "fold-2/evaluation/test/results.json").write_text("{")
    assert "results.json: cannot be read (" in refusal(at(recipe, copied))
    for name, value in {
        "WORLD_SIZE": "2",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "::1",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert "--folds: trains in one process; leave torchrun out" in refusal(at(recipe, copied))


def test_the_folder_of_folds_is_no_run_and_says_so(copied: Path) -> None:
    assert [p.name for p in fold_runs(copied)] == ["fold-1", "fold-2"] and fold_runs(copied / "fold-1") == []
    shutil.copytree(copied / "fold-1", copied / "fold-10", symlinks=True)
    assert [p.name for p in fold_runs(copied)] == ["fold-1", "fold-2", "fold-10"]
    with pytest.raises(UserError, match=r"both: holds runs of folds; name one of them, e\.g\. .*both/fold-1\."):
        open_run(copied)
