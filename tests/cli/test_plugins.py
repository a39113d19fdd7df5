"""Tasks and commands of other packages, whole and broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from foveal import plugins
from foveal.cli.completion import whole_parser

ENTRY_POINTS = """\
[foveal.tasks]
broken = plugin_broken:Task
missing = plugin_nowhere:Task
number = plugin_number:VALUE

[foveal.commands]
greet = plugin_greet
unwell = plugin_broken
idle = plugin_number
benchmark.speed = plugin_greet
data.look = plugin_greet
"""
GREET = '''"""`foveal greet`: greet by name.

More of it.
"""

import argparse


def parser():
    p = argparse.ArgumentParser(prog="foveal greet")
    p.add_argument("--name")
    return p


def run(arguments, console):
    console.print("Hello", parser().parse_args(arguments).name)
    return 3
'''
FILES = {
    "plugin_greet.py": GREET,
    "plugin_broken.py": '"""A file that fails."""\n1 / 0\n',
    "plugin_number.py": "VALUE = 3\n",
    "other-0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: other\nVersion: 0.1\n",
    "other-0.1.dist-info/entry_points.txt": ENTRY_POINTS,
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a package of these files for one test."""

    def install(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        plugins._points.cache_clear()

    yield install
    monkeypatch.undo()
    plugins._points.cache_clear()


@pytest.fixture
def other(installed) -> None:
    installed(FILES)


BROKEN = (
    "left out: The task 'broken' (plugin_broken:Task of the package other) cannot be imported: ZeroDivisionError: division "
    "by zero; correct or uninstall it."
)


def test_tasks_are_listed_and_the_broken_ones_left_out_with_a_sentence(other, command):
    for words in (["tasks"], ["data", "make"]):
        said = command(*words)
        assert said.code == 0 and said.err == "" and "blindtest/lines" in said.out
        left = [line for line in said.out.splitlines() if line.startswith("left out: ")]
        assert left[0] == BROKEN and len(left) == 3
        assert "The task 'missing' (plugin_nowhere:Task of the package other) cannot be imported: ModuleNot" in left[1]
        assert left[2].startswith("left out: The task 'number' is no subclass of foveal.tasks.task.Task;")


def test_a_broken_task_is_a_sentence_wherever_it_is_named(other, command):
    reason = BROKEN.removeprefix("left out: ")
    for words in (["tasks", "broken"], ["data", "make", "broken"], ["train", "--task", "broken"]):
        assert command(*words).sentence() == reason
    for words in (["tasks", "number"], ["data", "make", "number"], ["train", "--task", "number"]):
        assert "The task 'number' is no subclass of foveal.tasks.task.Task" in command(*words).sentence()


def test_a_command_is_listed_with_its_summary_and_run(other, command):
    said = command("--help")
    assert "  greet       greet by name\n" in said.out and "  unwell      A file that fails\n" in said.out
    assert "data.look" not in said.out
    assert command("greet", "--name", "you").out == "Hello you\n" and command("greet").code == 3
    assert command("data", "look", "--name", "data").out == "Hello data\n"
    assert command("benchmark", "speed", "--name", "speed").out == "Hello speed\n"
    assert "there are make, look, pairs and inspect." in command("data", "mak").sentence()
    assert "speed" in command("benchmark", "--help").out


def test_a_broken_command_is_a_sentence(other, command):
    assert (
        command("unwell").sentence().startswith("The command 'unwell' (plugin_broken of the package other) cannot be")
    )
    assert command("idle").sentence() == "The command 'idle' has no function run; correct its package's entry points."
    assert command("gret").sentence() == "There is no command 'gret'; did you mean 'greet'?"


def test_shells_complete_what_is_whole(other):
    commands = whole_parser()._subparsers._group_actions[0].choices
    assert "--name" in commands["greet"]._option_string_actions and "unwell" not in commands and "idle" not in commands
    assert "--name" in commands["benchmark"]._actions[-1].choices["speed"]._option_string_actions
    assert "--data.style" in commands["train"]._option_string_actions


def test_a_summary_is_read_without_importing(other):
    assert plugins.summary("command", "unwell") == "A file that fails"
    assert plugins.summary("command", "greet") == "greet by name"
    assert plugins.summary("command", "idle") == ""
    assert plugins.summary("task", "missing") == ""


def test_one_name_of_two_packages_is_a_sentence(installed, command):
    twice = {f"{name}-1.dist-info/entry_points.txt": f"[foveal.commands]\ngreet = {name}\n" for name in ("one", "two")}
    infos = {
        f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n" for name in ("one", "two")
    }
    installed(twice | infos)
    assert command("--help").sentence() == "Two packages bring a command named 'greet'; uninstall one."
