from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

POINTS = """\
task: counting
data:
  train: 16
  validation: 2
  test: 2
  max_objects: 3
  image_size: 56
  distractors: 0
  max_points: 3
  counter: {hidden: 32, heads: 2}
model: {id: point-counter, device: cpu, resolution: 56}
training: {epochs: 1, batch_size: 8, learning_rate: 1e-3, precision: float32}
evaluation: {batch_size: 32, shown: 2}
"""
WRITING = POINTS.replace("id: point-counter", "id: builtin").replace("shown: 2", "shown: 2, max_new_tokens: 8")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with two recipes and a picture, in which the commands run."""
    (tmp_path / "points.yaml").write_text(POINTS)
    (tmp_path / "writing.yaml").write_text(WRITING)
    Image.new("RGB", (90, 60), (190, 200, 210)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def layout(place: Path) -> Path:
    """OmniCount's layout with one domain of one picture in each split."""
    content = {
        "images": [{"id": 0, "file_name": "1.jpg", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "cells"}],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9]}],
    }
    for split in ("train", "valid", "test"):
        folder = place / "data" / "Blood" / split
        folder.mkdir(parents=True)
        (folder / "_annotations.coco.json").write_text(json.dumps(content))
        Image.new("RGB", (40, 30)).save(folder / "1.jpg")
    (place / "empty").mkdir()
    return Path("data")


def table(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("recipe", ["points.yaml", "writing.yaml"])
def test_a_picture_is_counted_with_its_points_and_a_film(place: Path, command, recipe: str) -> None:
    words = ["--data.categories", "[red cells]", "--film", "films", "--out", "a.jsonl", "--sheet", "a.png.png"]
    said = command("predict", recipe, "a.png", *words)
    assert said.code == 0 and said.err == "" and "Films: 1 in films" in said.out
    (row,) = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert row["value"] == len(row["points"]) <= 3 and row["end"] in ("done", "limit", "stuck", "unreadable")
    assert all(0 <= x <= 90 and 0 <= y <= 60 for x, y in row["points"])
    assert all(0 <= c <= 1 for c in row["step_confidence"]) and "truth" not in row
    assert sorted(p.name for p in Path("films").iterdir()) == ["a.gif", "a.png"]
    with Image.open("films/a.gif") as film:
        assert film.n_frames == len(row["points"]) + 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("predict points.yaml a.png", "data.categories: what is counted in the pictures? Name it, e.g. "),
        (
            "predict points.yaml a.png --data.categories [a,b]",
            "data.categories: what is counted in the pictures? Name it",
        ),
        (
            "predict writing.yaml a.png --data.categories [a] --data.strategy number --film films",
            "--film: the answers of ",
        ),
        ("train points.yaml --data.source data --data.categories [blood]", "did you mean 'Blood'?"),
        (
            "train writing.yaml --data.source data --data.categories [Xyzzy]",
            "there is no domain 'Xyzzy' in data; there is Blood.",
        ),
        ("train points.yaml --data.source empty", "empty: holds no domain with a folder train, valid or test and its "),
        ("train points.yaml --data.source nowhere", "nowhere: there is no such folder; check data.source."),
        ("train points.yaml --data.source data/Blood/train --data.categories [cells]", "chooses domains of OmniCount"),
        (
            "train points.yaml --data.source data/Blood/train",
            "1 pictures are too few to hold some out; give at least 3.",
        ),
        ("train points.yaml --data.max_objects 61", "data.max_objects: 61 is out of range; give 0 to 60."),
        ("train points.yaml --data.marking.alpha 2", "data.marking.alpha: Marks cannot have an alpha of 2.0; "),
        ("train points.yaml --data.order readin_order", "order"),
        ("train points.yaml --model.adapter lora", "model.adapter: the model point-counter is trained whole; "),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(
    place: Path, layout: Path, command, words: str, what: str
) -> None:
    before = sorted(str(p) for p in place.rglob("*"))
    assert what in command(*words.split()).sentence()
    assert sorted(str(p) for p in place.rglob("*")) == before


def test_two_epochs_on_the_real_layout_and_a_count_of_the_trained_run(place: Path, layout: Path, command) -> None:
    said = command("train", "points.yaml", "--data.source", layout, "--training.epochs", 2, "--name", "x")
    assert said.code == 0, said.err
    assert [float(r["epoch"]) for r in table(Path("runs/x"))] == [1, 2]
    data = json.loads(Path("runs/x/data.json").read_text())["splits"]
    assert data["train"]["source"] == "data (Blood)" and data["train"]["rows"] == 1
    said = command("predict", "runs/x", "a.png", "--data.categories", "[cells]", "--film", "films")
    assert said.code == 0, said.err
    assert len(list(Path("films").iterdir())) == 2
    assert command("evaluate", "runs/x", "--split", "validation").code == 0


def test_adapters_of_a_model_that_writes_are_saved_on_their_own_and_count(
    place: Path, layout: Path, command, tiny
) -> None:
    model = ["--model.id", tiny("smolvlm"), "--model.resolution", "null", "--model.adapter", "lora"]
    words = ["--data.source", layout, "--data.point_format", "percent", "--data.max_points", 2, "--training.epochs", 2]
    said = command("train", "writing.yaml", *model, *words, "--name", "x")
    assert said.code == 0, said.err
    saved = {p.name for p in Path("runs/x/checkpoints/best").iterdir()}
    assert "adapter_model.safetensors" in saved and "model.safetensors" not in saved
    assert [float(r["epoch"]) for r in table(Path("runs/x"))] == [1, 2]
    said = command("predict", "runs/x", "a.png", "--data.categories", "[cells]", "--film", "films")
    assert said.code == 0 and "Films: 1 in films" in said.out


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["points.yaml", "writing.yaml"])
def test_real_photographs_are_learned_for_two_epochs_and_counted(
    place: Path, real_data: Path, command, recipe: str
) -> None:
    source = ["--data.source", real_data / "omnicount_layout", "--data.categories", "[Blood]"]
    words = ["--training.epochs", 2, "--data.wording", "short", "--evaluation.samples", 4, "--data.max_points", 2]
    said = command("train", recipe, *source, *words, "--name", "x")
    assert said.code == 0, said.err
    rows = table(Path("runs/x"))
    assert [float(r["epoch"]) for r in rows] == [1, 2]
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    data = json.loads(Path("runs/x/data.json").read_text())["splits"]
    assert {k: v["rows"] for k, v in data.items()} == {"train": 84, "validation": 27, "test": 26}
    metrics = json.loads(Path("runs/x/evaluation/test/results.json").read_text())["metrics"]
    assert {"mae", "exact_accuracy", "m_rmse_nz", "ended_done_share", "unparsable"} <= metrics.keys()
    assert "m_rmse" not in metrics  # not every picture is asked about every category
    picture = real_data / "omnicount_layout" / "Blood" / "test" / "BloodImage_00007.jpg"
    said = command("predict", "runs/x", picture, "--data.categories", "[RBC]", "--film", "films", "--out", "a.jsonl")
    assert said.code == 0, said.err
    assert json.loads(Path("a.jsonl").read_text())["id"] == str(picture)
    assert sorted(p.name for p in Path("films").iterdir()) == ["BloodImage_00007.gif", "BloodImage_00007.png"]
