from __future__ import annotations

import json
import shutil

import pytest

from foveal.doctor import machine


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(machine, "probe", lambda: "no answer")


def test_the_default_passes_and_is_written_as_json(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = command("doctor", "--model.device", "cpu", "--json", "found.json")
    assert said.code == 0 and said.err == "", said.out
    assert "warn  hub: " in said.out and "Nothing failed, " in said.out and "[[<end_of_utterance>]]" in said.out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["passed"] and {c["state"] for c in found["checks"]} == {"pass", "warn"}
    assert [c["name"] for c in found["checks"]][-2:] == ["checkpoints", "prediction"]
    assert all(set(c) == {"name", "state", "text", "remedy", "facts"} for c in found["checks"])
    assert not (tmp_path / "runs").exists(), "nothing else is written"


def test_a_run_and_what_is_missing_of_it(command, run):
    said = command("doctor", run)
    assert said.code == 0 and f"{run}/checkpoints" in " ".join(said.out.split()).replace(str(run.resolve()), str(run))
    shutil.rmtree(run / "checkpoints")
    said = command("doctor", run)
    assert said.code == 0 and "warn  checkpoint: " in said.out


def test_what_fails_ends_in_1(command, place):
    said = command("doctor", "r.yaml", "--data.source", "nowhere")
    assert said.code == 1 and said.err == "" and "fail  data: " in said.out and "1 failed" in said.out
    (place / "wrong.yaml").write_text("task: classification\ndata: {sauce: x}\n")
    said = command("doctor", "wrong.yaml")
    assert said.code == 1 and "fail  recipe: wrong.yaml: there is no key 'data.sauce'" in said.out
    assert "-> did you mean 'data.source'?" in said.out


def test_wrong_command_lines_end_in_2(command, place):
    for words, what in (
        (["nothing.yaml"], "there is no such recipe or run"),
        (["nothing"], "There is no recipe 'nothing'"),
        (["r.yaml", "--training.epoch", "3"], "did you mean --training.epochs?"),
        (["r.yaml", "--jsn", "x"], "did you mean --json?"),
        (["r.yaml", "r.yaml"], "Unrecognized arguments: r.yaml"),
        (["--json"], "expected one argument"),
        (["--json", "."], "is a folder"),
        (["--seed", "x"], "must be a whole number"),
        ([place], "holds no run"),
    ):
        assert what in command("doctor", *words).sentence(), words
