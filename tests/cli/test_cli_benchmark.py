from __future__ import annotations

import itertools
import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from foveal.cli.completion import whole_parser
from stand_in import completion, serving


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


SMALL = ("--puzzles", "lines", "--count", 3, "--image_size", 64)


def test_a_server_is_asked_and_the_table_shown(command):
    with serving(answer=lambda _: completion("{1}")) as server:
        said = command("benchmark", "blindtest", "--model", server.url, *SMALL, "--concurrency", 2)
    assert said.code == 0 and said.err == ""
    assert "6 questions of model-a; replies are kept in runs/benchmark-blindtest-model-a-" in said.out
    assert re.search(r"lines +1st +3 +33\.3 +6\.1–79\.2 +0\.0 +33\.3 +31\.8 +64\.1 +44\.4 +68\.6", said.out)
    assert re.search(r"lines +mean +6 +33\.3", said.out) and "6 new replies in" in said.out
    results = next(Path("runs").glob("*/results.json"))
    assert f"Results: {results.with_name('table.md')}" in said.out
    assert json.loads(results.read_text())["options"]["concurrency"] == 2


def test_the_table_is_whole_on_a_narrow_screen(command, monkeypatch):
    with serving() as server:
        command("benchmark", "blindtest", "--model", server.url, "--out", "x", "--count", 10, "--image_size", 64)
        monkeypatch.setenv("COLUMNS", "60")
        said = command("benchmark", "blindtest", "--resume", "x")
    assert said.code == 0 and "0 new replies" in said.out and "…" not in said.out
    for word in ("shapes/pentagons", "all puzzles", "Gemini-", "95 %", "interval"):
        assert word in said.out


def test_a_run_is_asked_with_its_own_settings(command, run):
    said = command("benchmark", "blindtest", "--model", run, *SMALL, "--max_new_tokens", 2, "--out", "out")
    assert said.code == 0 and "6 questions of x;" in said.out
    found = json.loads(Path("out/results.json").read_text())
    assert found["run"] == "runs/x" and found["checkpoint"].startswith("epoch-") and found["family"] == "idefics3"
    assert "has no checkpoint 'epoch-9'" in command(
        "benchmark", "blindtest", "--model", run, *SMALL, "--checkpoint", "epoch-9"
    ).sentence()  # fmt: skip


def test_a_folder_of_a_model_is_asked(command, tiny):
    said = command("benchmark", "blindtest", "--model", tiny("paligemma"), *SMALL, "--wording", "short",
                   "--max_new_tokens", 2, "--questions", "second", "--model.dtype", "float32", "--limit", 2)  # fmt: skip
    assert said.code == 0 and "2 questions of" in said.out and re.search(r"lines +2nd +2 ", said.out)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("", "The following arguments are required: NAME; `foveal benchmark --help` tells more."),
        ("blidntest", "Argument NAME: invalid choice: 'blidntest'"),
        ("blindtest", "--model is required: a run's folder, a model (builtin, a folder, a Hub id), or http://SERVER/v1."),
        ("blindtest --model", "Argument --model: expected one argument"),
        ("blindtest --model builtin --puzzles lnies", "--puzzles: there is no puzzle 'lnies'; there are lines, circles,"),
        ("blindtest --model builtin --puzzles lines,lines", "--puzzles: name each puzzle once."),
        ("blindtest --model builtin --puzzles lines circles", "Unrecognized arguments: circles"),
        ("blindtest --model builtin --questions third", "Argument --questions: invalid choice: 'third'"),
        ("blindtest --model builtin --style tutorial", "--style: circles has no style 'tutorial'; choose from paper, varied."),
        ("blindtest --model builtin --limit -1", "--limit: must be at least 0, not -1."),
        ("blindtest --model builtin --count 0", "--count: must be at least 1, not 0."),
        ("blindtest --model builtin --temperature nan", "--temperature: must be at least 0, not nan."),
        ("blindtest --model builtin --timeout 0", "--timeout: must be more than 0, not 0."),
        ("blindtest --model builtin --concurrency x", "Argument --concurrency: invalid int value: 'x'"),
        ("blindtest --model builtin --source nowhere", "--source: nowhere: there is no such folder"),
        ("blindtest --model builtin --source empty", "--source: empty: holds "),
        ("blindtest --model nope", "model.id: 'nope' is no local folder, and the Hub does not have it"),
        ("blindtest --model ./nope", "model.id: there is no model folder './nope'; check the path."),
        ("blindtest --model empty", "model.id: empty is not a model in Hub layout (it has no config.json)."),
        ("blindtest --model builtin --model.dvice cpu", "--model.dvice"),
        ("blindtest --model builtin --data.style varied", "There is no option --data.style; settings of the model are written"),
        ("blindtest --model builtin --sauce x", "There is no option --sauce; did you mean --source?"),
        ("blindtest --model http://127.0.0.1:1", "http://127.0.0.1:1/v1: the server cannot be reached ("),
        ("blindtest --model http://", "'http://' is no address of a server; give one like http://localhost:8000/v1."),
        ("blindtest --model http://me:pw@host", "A server's address may not hold a user, a key or settings;"),
        ("blindtest --resume nowhere", "nowhere: holds no benchmark that was begun (no benchmark.json); give its folder."),
        ("blindtest --resume empty --out empty", "--resume: names the folder already; leave --out away."),
        ("blindtest --model builtin --out full", "full: holds no benchmark that was begun (no benchmark.json);"),
        ("blindtest --model builtin --out full/file/x", "cannot be written: full/file is a file; choose another folder."),
    ],
)  # fmt: skip
def test_one_sentence_and_nothing_left(here, command, words, what):
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/file").write_text("x")
    small = () if "--count" in words or "--puzzles" in words or "--style" in words else ("--count", 2)
    before = sorted(str(p) for p in here.rglob("*"))
    assert what in command("benchmark", *words.split(), *small).sentence()
    assert sorted(str(p) for p in here.rglob("*")) == before


def test_shells_complete_its_options():
    benchmark = whole_parser()._subparsers._group_actions[0].choices["benchmark"]
    options = benchmark._actions[-1].choices["blindtest"]._option_string_actions
    assert "--served_model" in options and "--model.device" in options and "--training.epochs" not in options


@pytest.fixture
def interruptible():
    """Ctrl-C as at a terminal; a process that a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_what_can_be_gone_on_with(command):
    over, given = threading.Event(), itertools.count()

    def answer(body):
        number = next(given)
        if number == 5:  # both workers have kept two replies and wait for more
            os.kill(os.getpid(), signal.SIGINT)
        if number >= 4:
            over.wait(60)
        return completion("{1}")

    with serving(answer=answer) as server:
        try:
            said = command("benchmark", "blindtest", "--model", server.url, "--puzzles", "lines", "--count", 30,
                           "--image_size", 64, "--concurrency", 2, "--out", "out dir")  # fmt: skip
        finally:
            over.set()
        kept = len(Path("out dir/responses.jsonl").read_text().splitlines())
        assert said.code == 130 and kept == 4
        assert said.err.strip() == (
            f"foveal: interrupted; {kept} replies are kept; go on with: foveal benchmark blindtest --resume 'out dir'"
        )
        assert not Path("out dir/results.json").exists()
        asked = server.count
        said = command("benchmark", "blindtest", "--resume", "out dir", "--concurrency", 8)
        assert said.code == 0 and server.count - asked == 60 - kept
        assert f"{60 - kept} new replies" in said.out and Path("out dir/results.json").exists()
