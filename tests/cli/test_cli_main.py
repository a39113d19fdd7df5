from __future__ import annotations

import importlib
import io
import subprocess
import sys

import pytest

from foveal.cli.main import commands, main
from foveal.config.arguments import split_words
from foveal.errors import UserError


def test_without_a_word_it_shows_its_commands(command):
    said = command()
    assert said.code == 0 and all(name in said.out for name in commands())


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("trian", "There is no command 'trian'; did you mean 'train'?"),
        ("zzz", "There is no command 'zzz'; there are quickstart, train, evaluate, predict, rank, benchmark, data, tasks, models, doctor, completion."),
        ("--hepl", "There is no option '--hepl'; did you mean '--help'?"),
        ("", "There is no command ''; there are quickstart, train, evaluate, predict, rank, benchmark, data, tasks, models, doctor, completion."),
    ],
)  # fmt: skip
def test_unknown_commands_and_options(command, word, what):
    assert command(word).sentence() == what


@pytest.mark.parametrize("name", [name for name in commands() if name != "completion"])
def test_every_command_names_an_option_that_it_does_not_have(command, name):
    assert "--hlep" in command(name, "--hlep").sentence()


def run_with(monkeypatch, error: BaseException) -> None:
    def raises(*_: object) -> int:
        raise error

    monkeypatch.setattr(importlib.import_module("foveal.cli.tasks"), "run", raises)


def test_errors_of_the_system_become_sentences(command, monkeypatch):
    run_with(monkeypatch, OSError(36, "File name too long", "xxx"))
    assert command("tasks").sentence() == "xxx: File name too long; correct the path or what stands in its way."
    run_with(monkeypatch, OSError(24, "Too many open files"))
    assert command("tasks").sentence().startswith("The system: Too many open files")


def test_brackets_in_messages_are_no_markup(command, monkeypatch):
    run_with(monkeypatch, UserError("[red]a[/b] [x]: wrong"))
    assert command("tasks").sentence() == "[red]a[/b] [x]: wrong"


def test_errors_of_the_program_keep_their_traceback(monkeypatch):
    run_with(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["tasks"])


def test_names_that_are_not_utf8_are_printed(monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(
        importlib.import_module("foveal.cli.tasks"), "run", lambda _, console: console.print("gr\udcfcn.png") or 0
    )
    assert main(["tasks"]) == 0
    screen.flush()
    assert screen.buffer.getvalue() == b"gr\\udcfcn.png\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("words", ["completion bash", "tasks"])
def test_a_pipe_that_closes_early_is_no_error(words):
    line = f"{sys.executable} -m foveal.cli.main {words} | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""


def test_a_screen_that_is_full_or_closed():
    line = f"{sys.executable} -m foveal.cli.main tasks"
    full = subprocess.run(["bash", "-c", f"{line} > /dev/full"], capture_output=True, text=True, check=False)
    assert full.returncode == 2 and "No space left on device" in full.stderr and "Traceback" not in full.stderr
    closed = subprocess.run(["bash", "-c", f"{line} >&-"], capture_output=True, text=True, check=False)
    assert closed.returncode == 0 and closed.stderr == ""


# ---------------------------------------------------------------- a command's words and a recipe's settings


@pytest.mark.parametrize(
    ("words", "own", "rest"),
    [
        ("r.yaml --training.epochs 3", "r.yaml", "--training.epochs 3"),
        ("--training.epochs 3 r.yaml", "r.yaml", "--training.epochs 3"),
        ("--training.epochs=3 r.yaml", "r.yaml", "--training.epochs=3"),
        ("run a.png --model.image_size 64 b.png", "run a.png b.png", "--model.image_size 64"),
        ("run --limit 3 --data.class_names cat dog --out x", "run --limit 3 --out x", "--data.class_names cat dog"),
        ("run --model.freeze vision head", "run", "--model.freeze vision head"),
        ("run --limit=3 --skip-bad a.png", "run --limit=3 --skip-bad a.png", ""),
        ("--limit", "--limit", ""),
        ("run --training.learning_rate -1 a.png", "run a.png", "--training.learning_rate -1"),
    ],
)
def test_split_words(words, own, rest):
    found = split_words(words.split(), ("--skip-bad",), ("--limit", "--out"))
    assert found == (own.split(), rest.split())


def test_split_words_names_the_option_that_was_meant():
    for word, meant in {"--limti": "--limit", "--skip_bad": "--skip-bad"}.items():
        with pytest.raises(UserError, match=f"There is no option {word}; did you mean {meant}"):
            split_words(["run", word, "3"], ("--skip-bad",), ("--limit",))
    assert split_words(["--sede", "3"], (), ("--split",)) == ([], ["--sede", "3"]), (
        "a key's name is the recipe's business"
    )
