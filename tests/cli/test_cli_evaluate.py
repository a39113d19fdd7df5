from __future__ import annotations

import json
import shutil

import pytest

from stand_in import completion, serving


def test_a_run_is_measured_anew(run, command):
    said = command("evaluate", run, "--split", "validation", "--checkpoint", "last", "--samples", 4, "--as", "few")
    assert said.code == 0 and said.err == ""
    results = json.loads((run / "evaluation/few/results.json").read_text())
    assert results["rows"] == 4 and results["split"] == "validation" and results["checkpoint"] == "epoch-1"
    assert f"{results['metrics']['accuracy']:.4f}" in said.out and str(run / "evaluation/few/report.html") in said.out
    assert len((run / "evaluation/few/predictions.jsonl").read_text().splitlines()) == 4


def test_settings_may_stand_before_the_run(run, command):
    said = command("evaluate", "--evaluation.method", "generate", run, "--evaluation.max_new_tokens", 2, "--samples", 1)
    assert said.code == 0 and "unparsable" in said.out


def test_a_recipes_model_is_measured_as_it_is(place, command):
    assert command("evaluate", "r.yaml", "--name", "e", "--samples", 2).code == 0
    assert sorted(p.name for p in (place / "runs/e").iterdir()) == ["environment.json", "evaluation", "recipe.yaml"]
    message = command("evaluate", "runs/e").sentence()
    assert message == "runs/e: has no checkpoint 'best' yet; train it with `foveal train --resume runs/e`."


def test_a_served_model_is_measured_and_not_trained(place, command):
    with serving(answer=lambda _: completion("red")) as server:
        url = f"{server.url}/v1"
        said = command("evaluate", "r.yaml", "--model.id", url, "--name", "e", "--model.server.concurrency", 2)
        assert said.code == 0 and server.most <= 2
        rows = [
            json.loads(line) for line in (place / "runs/e/evaluation/test/predictions.jsonl").read_text().splitlines()
        ]
        results = json.loads((place / "runs/e/evaluation/test/results.json").read_text())
        assert results["checkpoint"] == "model-a" and results["model"] == url and server.count == len(rows)
        right = sum(r["truth"] == "red" for r in rows)
        assert results["metrics"]["accuracy"] == right / len(rows) and [r["tokens_out"] for r in rows] == [3] * len(
            rows
        )
        message = command("train", "r.yaml", "--model.id", url).sentence()
    assert message.startswith("model.id: is the address of a server, whose model cannot be trained")
    words = ("evaluate", "r.yaml", "--model.id", "http://127.0.0.1:1", "--model.server.tries", 0)
    assert command(*words).sentence() == "model.server.tries: must be at least 1, not 0."


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("", "The following arguments are required: RUN|RECIPE; `foveal evaluate --help` tells more."),
        ("runs/xx", "runs/xx: there is no such run or recipe; did you mean runs/x?"),
        ("runs", "runs: holds no run (it has no recipe.yaml); give the folder of a run, e.g. runs/NAME."),
        ("nope", "There is no recipe 'nope'; there are "),
        ("runs/x --checkpoint epoch-9", "runs/x: has no checkpoint 'epoch-9'; choose one of best, epoch-1, last."),
        ("runs/x --checkpoint ../..", "runs/x: has no checkpoint '../..'; choose one of best, epoch-1, last."),
        ("runs/x --split tset", "Argument --split: invalid choice: 'tset' (choose from "),
        ("runs/x --samples -1", "--samples: must be at least 0."),
        ("runs/x --samples two", "Argument --samples: invalid int value: 'two'"),
        ("runs/x --sample 2", "There is no option --sample; did you mean --samples?"),
        ("runs/x --as ../x", "--as: '../x' cannot be a folder's name; choose one without slashes."),
        ("runs/x --as .x", "--as: '.x' cannot be a folder's name; choose one without slashes."),
        ("runs/x --evaluation.batch_size 0", "evaluation.batch_size: must be at least 1, not 0."),
        (
            "runs/x --evaluation.method generat",
            "--evaluation.method: 'generat' is not possible; did you mean 'generate'?",
        ),
        ("runs/x --data.source nowhere", "nowhere: there is no such folder; check data.source."),
        ("runs/x --model.id builtin", "builtin is not the model of "),
        ("r.yaml --name x", "runs/x: holds another run; choose another --name"),
        ("r.yaml --model.id ./nowhere", "model.id: there is no model folder './nowhere'; check the path."),
    ],
)
def test_one_sentence_and_nothing_left(place, run, command, words, what):
    before = sorted(str(p) for p in place.rglob("*"))
    assert what in command("evaluate", *words.split()).sentence()
    assert sorted(str(p) for p in place.rglob("*")) == before


@pytest.mark.parametrize("damage", ["truncated", "no configuration", "bad recipe"])
def test_damaged_runs(run, command, damage):
    folder = (run / "checkpoints/best").resolve()
    if damage == "truncated":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
        what = f"{folder}: the model cannot be loaded"
    elif damage == "no configuration":
        (folder / "config.json").unlink()
        what = f"{folder}: its config.json is missing"
    else:
        (run / "recipe.yaml").write_text("task: [\n")
        what = "runs/x/recipe.yaml: is not valid YAML in line 2"
    assert what in command("evaluate", run).sentence()


def test_best_is_last_where_nothing_was_measured(run, command):
    (run / "checkpoints/best").unlink()
    assert command("evaluate", run, "--samples", 1).code == 0
    shutil.rmtree(run / "checkpoints")
    assert "has no checkpoint 'best' yet" in command("evaluate", run).sentence()


def test_other_data_are_measured_whole_or_by_their_test_split(place, run, command, squares):
    shutil.copytree(squares / "train", place / "flat")
    shutil.rmtree(place / "flat" / "blue")
    said = command("evaluate", run, "--data.source", "flat", "--as", "flat")
    assert said.code == 0 and "on 8 rows of flat (all rows: it has no splits)" in said.out
    results = json.loads((run / "evaluation/flat/results.json").read_text())
    assert (results["rows"], results["split"]) == (8, "all")
    shutil.copytree(squares, place / "again")
    said = command("evaluate", run, "--data.source", "again", "--as", "again")
    assert said.code == 0 and "on 6 rows of again (its test split)" in said.out
