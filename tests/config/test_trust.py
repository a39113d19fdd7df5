from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from foveal.cli.main import main
from foveal.config.finding import recipe_or_run
from foveal.config.reading import read_recipe
from foveal.config.sections import Model
from foveal.config.trust import check_trust, remember_trust
from foveal.errors import UserError
from foveal.tasks.blindtest.benchmark_options import Options, resolve, save

MODEL = Model("org/model", trust_remote_code=True)
RECIPE = """task: blindtest/lines
model:
  id: {model}
  trust_remote_code: true
"""
SENTENCE = (
    "{run}: was not made here, and its model.trust_remote_code would run Python code that comes with {model}; "
    "read that code, then give --model.trust_remote_code true."
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A run whose recipe names a model in its own folder, whose code leaves a mark when it is imported."""
    run = tmp_path / "run"
    model = run / "model"
    model.mkdir(parents=True)
    (run / "recipe.yaml").write_text(RECIPE.format(model=model))
    (run / "checkpoints" / "best").mkdir(parents=True)
    auto = {"AutoConfig": "evil.Evil", "AutoModelForImageTextToText": "evil.Evil"}
    (model / "config.json").write_text(f'{{"model_type": "evil", "auto_map": {auto}}}'.replace("'", '"'))
    (model / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: ...\n")
    return run


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "RUN"], ["predict", "RUN", "a.png"], ["train", "--resume", "RUN"], ["doctor", "RUN"],
        ["train", "RUN/recipe.yaml"], ["benchmark", "blindtest", "--model", "RUN"], ["data", "inspect", "RUN"],
    ],
)  # fmt: skip
def test_no_command_runs_code_because_a_run_from_elsewhere_says_so(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main([word.replace("RUN", str(foreign)) for word in command]) != 0
    said = " ".join("".join(capsys.readouterr()).split())
    assert "was not made here, and its model.trust_remote_code would run" in said
    assert not (tmp_path / "ran").exists()


def test_trust_is_given_again_on_the_command_line(foreign: Path) -> None:
    model = foreign / "model"
    with pytest.raises(UserError) as error:
        recipe_or_run(str(foreign), [])
    assert str(error.value) == SENTENCE.format(run=foreign, model=model)
    for words in (["--model.trust_remote_code", "true"], ["--model.trust_remote_code=true"]):
        assert recipe_or_run(str(foreign), words)[0].model.trust_remote_code
    assert not recipe_or_run(str(foreign), ["--model.trust_remote_code=false"])[0].model.trust_remote_code


def test_a_recipe_that_is_no_runs_says_itself_whom_it_trusts(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE.format(model="org/model"))
    assert read_recipe(tmp_path / "mine.yaml").model.trust_remote_code


def test_what_was_made_here_is_trusted_until_its_place_its_model_or_the_models_code_changes(
    foreign: Path, tmp_path: Path, cache: Path
) -> None:
    local = replace(MODEL, id=str(foreign / "model"))
    remember_trust(foreign, local)
    remember_trust(foreign, MODEL)
    check_trust(foreign, MODEL)
    check_trust(foreign, local)
    for place, model in (
        (tmp_path / "copy", MODEL),
        (foreign, replace(MODEL, revision="x")),
        (foreign, Model("b", trust_remote_code=True)),
    ):
        with pytest.raises(UserError, match="was not made here"):
            check_trust(place, model)
    (foreign / "model" / "evil.py").write_text("changed")
    with pytest.raises(UserError, match="was not made here"):
        check_trust(foreign, local)
    shutil.rmtree(cache)
    with pytest.raises(UserError, match="was not made here"):
        check_trust(foreign, MODEL)


def test_without_trust_nothing_is_asked_or_noted(tmp_path: Path, cache: Path) -> None:
    remember_trust(tmp_path, Model("org/model"))
    check_trust(tmp_path, Model("org/model"))
    assert not cache.exists()


def test_without_a_cache_that_can_be_written_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember_trust(tmp_path, MODEL)


def test_a_benchmark_from_elsewhere_is_not_resumed_with_code_that_it_trusts(tmp_path: Path) -> None:
    options = Options(model="org/model", settings=("--model.trust_remote_code", "true"))
    save(options, tmp_path / "made")
    assert resolve({}, None, tmp_path / "made") == (options, tmp_path / "made")
    shutil.copytree(tmp_path / "made", tmp_path / "copy")
    with pytest.raises(UserError, match=r"copy: was not made here, and its model\.trust_remote_code would run"):
        resolve({}, None, tmp_path / "copy")
    assert resolve({"settings": options.settings}, None, tmp_path / "copy")[0] == options
