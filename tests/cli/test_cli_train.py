from __future__ import annotations

import pytest
import yaml


def test_print_config_resolves_file_and_overrides_and_writes_nothing(place, command):
    said = command(
        "train", "--training.epochs", 7, "r.yaml", "--data.class_names", "red", "green", "blue", "--print_config"
    )
    assert said.code == 0 and said.err == ""
    shown = yaml.safe_load(said.out)
    assert shown["training"]["epochs"] == 7 and shown["data"]["class_names"] == ["red", "green", "blue"]
    assert shown["training"]["learning_rate"] == 1e-3, "written 1e-3 in the file"
    (place / "again.yaml").write_text(said.out)
    assert command("train", "again.yaml", "--print_config").out == said.out
    assert sorted(p.name for p in place.iterdir()) == ["again.yaml", "r.yaml"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("", "Give a recipe in front of the settings, e.g. `foveal train "),
        ("--data.class_names cat dog r.yaml", "Give a recipe in front of the settings"),
        ("r.yaml more.yaml", "Unrecognized arguments: more.yaml; `foveal train --help` tells more."),
        ("r.yaml -x", "Unrecognized arguments: -x;"),
        ("r.yaml --resum runs/x", "There is no option --resum; did you mean --resume?"),
        ("r.yaml --print-config", "There is no option --print-config; did you mean --print_config?"),
        ("--resume", "Argument --resume: expected one argument"),
        ("quickstrat", "There is no recipe 'quickstrat'; did you mean 'quickstart'?"),
        ("zzz", "There is no recipe 'zzz'; there are blindtest-all, "),
        ("zzz --help", "There is no recipe 'zzz';"),
        ("--task nope --help", "There is no task 'nope'; there are "),
        ("rr.yaml", "rr.yaml: there is no such recipe; did you mean r.yaml?"),
        ("folder", "folder: is a folder; give a recipe's YAML file."),
        ("deep/er.yaml", "deep/er.yaml: there is no such recipe; check the path."),
        ("--task classification", "data.source is required; set it in the recipe or with --data.source."),
        ("r.yaml --data.source nowhere", "nowhere: there is no such folder; check data.source."),
        ("r.yaml --data.source folder", "folder: holds no pictures ("),
        ("r.yaml --output r.yaml", "cannot be written: r.yaml is a file; choose another folder."),
        ("r.yaml --name ../x", "name: '../x' cannot be a folder's name; choose one without slashes."),
        ("r.yaml --training.epochs", "--training.epochs needs a value."),
    ],
)
def test_one_sentence_and_nothing_left(place, command, words, what):
    (place / "folder").mkdir()
    assert what in command("train", *words.split()).sentence()
    assert sorted(p.name for p in place.iterdir()) == ["folder", "r.yaml"]


def test_a_run_in_place_of_a_recipe(run, command):
    message = command("train", run).sentence()
    assert message == (
        "runs/x: is a run; continue it with --resume runs/x, or repeat it with runs/x/recipe.yaml --name NEW."
    )
    assert "holds another run" in command("train", "runs/x/recipe.yaml", "--output", "runs", "--name", "x").sentence()


def test_a_recipe_that_comes_with_foveal_needs_its_folder(place, command):
    message = command("train", "classification-folder").sentence()
    assert message.endswith("data.source is required; set it in the recipe or with --data.source.")
    assert "classification-folder.yaml" in message


def test_help_of_a_recipe_shows_its_tasks_keys(place, command):
    assert "--data.on_bad_image" in command("train", "r.yaml", "--help").out
    assert "--data.style" in command("train", "--task", "blindtest/lines", "--help").out
