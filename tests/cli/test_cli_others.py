"""`foveal tasks`, `models`, `completion` and `quickstart`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml


def test_tasks_and_what_one_of_them_can_say(command):
    said = command("tasks")
    assert said.code == 0 and "blindtest/lines" in said.out and "classification" in said.out and "accuracy" in said.out
    assert "--data.source SOURCE" in command("tasks", "classification").out
    assert command("tasks", "clas").sentence() == "There is no task 'clas'; did you mean 'classification'?"
    assert "Unrecognized arguments: more" in command("tasks", "classification", "more").sentence()


def test_models_and_the_components_of_one(command, tmp_path):
    said = command("models")
    assert said.code == 0 and "builtin" in said.out and "google/paligemma2-3b-pt-224" in said.out
    said = command("models", "builtin")
    assert said.code == 0 and all(part in said.out for part in ("vision", "projector", "language", "context 2048"))
    assert "'nope' is no local folder, and the Hub does not have it" in command("models", "nope").sentence()
    assert "is not a model in Hub layout (it has no config.json)" in command("models", tmp_path).sentence()
    assert "Unrecognized arguments: more" in command("models", "builtin", "more").sentence()


def test_completion_of_words_in_bash(command, tmp_path):
    said = command("completion", "bash")
    assert said.code == 0
    (tmp_path / "script").write_text(said.out)

    def complete(*words: str) -> list[str]:
        line = f'. ./script; COMP_WORDS=({" ".join(map(repr, words))}); COMP_CWORD={len(words) - 1}; _shtab_foveal; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.split()

    assert complete("foveal", "tr") == ["train"]
    assert complete("foveal", "train", "--training.ep") == ["--training.epochs"]
    assert complete("foveal", "train", "--training.schedule", "p") == ["plateau"]
    assert complete("foveal", "evaluate", "--spl") == ["--split"]
    assert complete("foveal", "evaluate", "--split", "") == ["train", "validation", "test"]
    assert complete("foveal", "data", "") == ["make", "pairs", "inspect"]
    assert complete("foveal", "data", "pairs", "--thr") == ["--threshold"]
    assert complete("foveal", "benchmark", "") == ["blindtest", "segmentation"]
    assert complete("foveal", "benchmark", "blindtest", "--served") == ["--served_model"]
    assert complete("foveal", "benchmark", "segmentation", "--training.prec") == ["--training.precision"]
    assert complete("foveal", "rank", "--comp") == ["--comparisons"]
    assert complete("foveal", "tasks", "cl") == ["classification"]
    assert complete("foveal", "benchmark", "blind") == ["blindtest"]
    assert complete("foveal", "benchmark", "blindtest", "--puz") == ["--puzzles"]
    assert complete("foveal", "benchmark", "segmentation", "--rep") == ["--repeats"]
    (tmp_path / "mine.yaml").touch()
    assert complete("foveal", "train", "mi") == ["mine.yaml"]


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_completion_for_other_shells(command, shell):
    said = command("completion", shell)
    assert said.code == 0 and "training.epochs" in said.out


def test_completion_of_an_unknown_shell(command):
    assert "Argument shell: invalid choice: 'cmd'" in command("completion", "cmd").sentence()
    assert "The following arguments are required: shell" in command("completion").sentence()


def test_quickstart_shows_its_recipe_and_refuses_what_is_wrong(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = command("quickstart", "--data.train", 99, "--print_config")
    shown = yaml.safe_load(said.out)
    assert said.code == 0 and shown["data"]["train"] == 99 and shown["model"]["id"] == "builtin"
    for words, what in {
        "--data.trian 5": "There is no key --data.trian; did you mean --data.train?",
        "--training.epochs zero": "--training.epochs: must be a number, not 'zero'.",
        "mine.yaml": "Unrecognized arguments: mine.yaml;",
        "--name a/b": "name: 'a/b' cannot be a folder's name",
        "--print-config": "There is no option --print-config; did you mean --print_config?",
    }.items():
        assert what in command("quickstart", *words.split()).sentence()
    assert not list(Path.cwd().iterdir())
