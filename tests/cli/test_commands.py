from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from PIL import Image

from foveal.cli.completion import whole_parser
from foveal.cli.main import commands, main
from foveal.config.finding import RECIPES as SHIPPED
from foveal.config.keys import keys
from foveal.config.reading import read_recipe
from foveal.config.sections import dump_recipe

RECIPES = sorted(SHIPPED.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_reads_and_survives_a_round_trip(path, tmp_path):
    words = ["--data.source", "folder"] if yaml.safe_load(path.read_text())["task"] == "classification" else []
    recipe = read_recipe(path, words)
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_recipe(recipe))
    assert read_recipe(copy) == recipe


def test_overrides_convert_by_type(tmp_path):
    recipe = read_recipe(
        RECIPES[0].parent / "classification-folder.yaml",
        ["--data.source", "x", "--data.class_names", "cat", "dog", "--training.learning_rate=3e-4", "--training.epochs", "3",
         "--model.lora.components", "[vision, language]", "--training.evaluate", "false", "--model.learning_rates", "{projector: 5e-4}"],
    )  # fmt: skip
    assert recipe.data.class_names == ["cat", "dog"]
    assert recipe.training.learning_rate == 3e-4 and recipe.training.epochs == 3.0
    assert recipe.model.lora.components == ["vision", "language"]
    assert recipe.training.evaluate is False and recipe.model.learning_rates == {"projector": 5e-4}


def test_yaml_number_in_scientific_notation_is_a_number(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("task: blindtest/lines\ntraining:\n  learning_rate: 3e-4\n")
    assert read_recipe(file).training.learning_rate == 3e-4


def test_print_config_shows_the_resolved_recipe(capsys):
    assert main(["train", "blindtest-lines", "--training.epochs", "7", "--print_config"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["training"]["epochs"] == 7 and shown["model"]["lora"]["r"] == 16 and shown["data"]["style"] == "varied"


def test_help_lists_every_key(capsys):
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    for key in keys("blindtest/lines"):
        assert f"--{key}" in text, key


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help(command, capsys):
    try:
        code = main([command, "--help"])
    except SystemExit as done:
        code = done.code
    assert code == 0 and "foveal" in capsys.readouterr().out


def test_tasks_and_models_are_listed(capsys):
    assert main(["tasks"]) == 0
    assert "blindtest/lines" in capsys.readouterr().out
    assert main(["tasks", "blindtest/lines"]) == 0
    assert "--data.style" in capsys.readouterr().out
    assert main(["models"]) == 0
    assert main(["models", "builtin"]) == 0
    assert "projector" in capsys.readouterr().out


def test_data_make_and_inspect(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        main(["data", "make", "blindtest/lines", "--folder", "lines", "--num_images", "4", "--image_size", "64"]) == 0
    )
    assert len(list(Path("lines/train").glob("*.png"))) == 12
    assert main(["data", "inspect", "blindtest-lines", "--data.source", "lines", "--count", "6"]) == 0
    out = capsys.readouterr().out
    assert "12 rows" in out and "33.3 %" in out
    assert Image.open("inspect.png").width > 300


def test_completion_script_completes_commands_and_recipe_keys(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    test = f"source {script}; COMP_WORDS=(foveal train --training.lea); COMP_CWORD=2; _shtab_foveal; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", test], capture_output=True, text=True, check=True)
    assert "--training.learning_rate" in done.stdout
    assert set(whole_parser()._subparsers._group_actions[0].choices) == set(commands())


@pytest.mark.slow
def test_small_quickstart_learns_line_intersections(tmp_path, monkeypatch, capsys):
    """5,600 pictures, a quarter of the whole job; 86 % was seen at that point of it with the learning rate still high."""
    monkeypatch.chdir(tmp_path)
    assert (
        main(["quickstart", "--data.train", "5600", "--data.test", "600", "--data.validation", "99", "--name", "q"])
        == 0
    )
    before = json.loads(Path("runs/q/evaluation/test-before/results.json").read_text())
    after = json.loads(Path("runs/q/evaluation/test/results.json").read_text())
    assert before["metrics"]["accuracy"] < 0.5
    assert after["metrics"]["accuracy"] > 0.75
    for name in ("report.html", "predictions.png", "metrics.csv", "curves.png"):
        assert (Path("runs/q") / name).stat().st_size > 500
    assert len(Path("runs/q/metrics.csv").read_text().splitlines()) == 5, "four measurements"
