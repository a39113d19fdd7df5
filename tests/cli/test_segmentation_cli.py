from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from foveal.tasks.segmentation import rle

RECIPE = """\
task: segmentation
data:
  wording: short
  answer: "{masks}"
  weights: {iou: 0.1}
  segmenter: {mask_size: 32}
model: {id: builtin, resolution: 56, device: cpu, sam: small}
training: {epochs: 1, batch_size: 1, learning_rate: 1e-3, precision: float32}
evaluation: {batch_size: 4, shown: 2, max_new_tokens: 3, split: validation}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a recipe, a picture and ReasonSeg's layout, in which the commands run."""
    (tmp_path / "r.yaml").write_text(RECIPE)
    for split, count in {"train": 6, "val": 4}.items():
        folder = tmp_path / "data" / split
        folder.mkdir(parents=True)
        for i in range(count):
            image = Image.new("RGB", (60, 40), (90, 90, 90))
            ImageDraw.Draw(image).rectangle((10, 10, 30, 29), (220, 30, 30))
            image.save(folder / f"{i}.jpg")
            points = [[10, 10], [30, 10], [30, 29], [10, 29]]
            told = {"text": ["the red one"], "is_sentence": bool(i % 2), "shapes": [
                {"label": "target", "shape_type": "polygon", "points": points},
                {"label": "ignore", "shape_type": "polygon", "points": [[40, 0], [59, 0], [59, 9]]},
            ]}  # fmt: skip
            (folder / f"{i}.json").write_text(json.dumps(told))
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (90, 50), (190, 30, 30)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_quick_run_on_a_few_rows_is_trained_measured_and_asked(place: Path, command) -> None:
    # Enough steps that the token is written.
    rates = ["--training.learning_rate", "3e-3", "--training.epochs", 10, "--training.save_epochs", 5]
    rates += ["--data.weights", "{text: 20.0}"]
    words = ["--data.source", "data", "--data.train", 5, "--data.validation", 3, "--name", "x", *rates]
    said = command("train", "r.yaml", *words)
    assert said.code == 0, said.err
    data = json.loads(Path("runs/x/data.json").read_text())["splits"]
    assert {k: v["rows"] for k, v in data.items()} == {"train": 5, "validation": 3}
    assert "[[<SEG>]]" in Path("runs/x/label_mask.txt").read_text()
    history = json.loads(Path("runs/x/history.json").read_text())
    assert [r["epoch"] for r in history] == list(range(1, 11)) and history[1]["train_loss"] < history[0]["train_loss"]
    parts = {"text", "bce", "dice", "iou"}
    assert parts <= {k.removeprefix("train_").removesuffix("_loss") for k in history[0]}
    assert {"val_giou", "val_ciou", "val_miou", "val_giou_short", "val_giou_long"} <= history[0].keys()
    results = json.loads(Path("runs/x/evaluation/validation/results.json").read_text())
    assert {"giou", "ciou", "precision_50", "box_giou", "unparsable", "baseline_giou/box"} <= results["metrics"].keys()
    # The same square in every picture: a fixed box finds almost all of it.
    assert results["chance"] > 0.8

    asked = ["--text", "the red one", "--files", "out", "--out", "a.jsonl", "--sheet", "s.png"]
    said = command("predict", "runs/x", "a.png", *asked)
    assert said.code == 0, said.err
    (row,) = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    table = json.loads(Path("out/a.rle.json").read_text())
    assert table["text"] == "the red one" and table["reply"] == row["text"]
    assert row["text"].count("<SEG>") >= 1, "it has learned to write the token"
    assert row["predicted_iou"] == table["predicted_iou"] and all(0 <= v <= 1 for v in row["predicted_iou"])
    with Image.open("out/a.mask.png") as image:
        assert image.size == (90, 50)
        pixels = np.asarray(image.convert("L"))
    assert set(np.unique(pixels)) <= {0, 255} and ((pixels == 255) == rle.decode(row["value"])).all()
    with Image.open("out/a.overlay.png") as image:
        assert image.size == (90, 50)
    assert Path("s.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("predict r.yaml a.png", "text: segmentation needs words about the pictures; give them, e.g. --text"),
        ("predict r.yaml a.png --text ''", "text: segmentation needs words about the pictures"),
        ("train r.yaml --data.source empty", "empty: holds neither folders train, val and test, nor pictures with "),
        ("train r.yaml --data.source nowhere", "nowhere: there is no such file or folder; check data.source."),
        ("train r.yaml --data.source data --data.refs unc", "data.refs: is for RefCOCO folders with instances.json"),
        ("train r.yaml --data.train 2 --model.sam BUILTIN", "is of type 'idefics3'; give a SAM such as "),
        ("train r.yaml --data.train 2 --model.sam empty", "model.sam: 'empty' cannot be loaded ("),
        (
            "train r.yaml --data.train 2 --model.id QWEN --model.vision vlm",
            "cannot lend its vision to the mask decoder",
        ),
        ("train r.yaml --data.train 2 --model.id MLLAMA --model.vision sam", "cannot look through SAM's encoder"),
        ("train r.yaml --data.weights '{text: -1}'", "the weight of the text loss is -1"),
        ("train r.yaml --data.losses lias", "data.losses: 'lias' is not possible; did you mean 'lisa'?"),
        ("train r.yaml --data.answer Sure", "data.answer: needs {masks} once, where the tokens go."),
        ("train r.yaml --data.segmenter.mask_size 4", "data.segmenter.mask_size: 4 is out of range; give 16 to 2048."),
        ("train r.yaml --objective label", "objective"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(place: Path, command, tiny, words: str, what: str) -> None:
    import shlex

    from foveal.vlm.finding import builtin_folder

    given = shlex.split(words)
    for name, folder in {
        "BUILTIN": builtin_folder,
        "QWEN": lambda: tiny("qwen2_5_vl"),
        "MLLAMA": lambda: tiny("mllama"),
    }.items():
        if name in given:
            given[given.index(name)] = str(folder())
            given += ["--model.resolution", "null"] if name != "BUILTIN" else []
    before = sorted(str(p) for p in place.rglob("*"))
    assert what in command(*given).sentence()
    assert sorted(str(p) for p in place.rglob("*")) == before


@pytest.mark.slow
def test_real_photographs_are_learned_for_two_epochs_and_measured(place: Path, real_data: Path, command) -> None:
    source = ["--data.source", real_data / "reasonseg_layout", "--data.wording", "question"]
    said = command("train", "r.yaml", *source, "--training.epochs", 2, "--name", "x")
    assert said.code == 0, said.err
    data = json.loads(Path("runs/x/data.json").read_text())["splits"]
    assert {k: v["rows"] for k, v in data.items()} == {"train": 1, "validation": 2}
    said = command("evaluate", "runs/x", "--split", "validation", *source)
    assert said.code == 0, said.err
    metrics = json.loads(Path("runs/x/evaluation/validation/results.json").read_text())["metrics"]
    assert 0 <= metrics["giou"] <= 1 and {"giou_short", "giou_long"} <= metrics.keys()
    picture = real_data / "reasonseg_layout" / "ReasonSeg" / "val" / "2011_000006.jpg"
    said = command("predict", "runs/x", picture, "--text", "the living beings", "--files", "out")
    assert said.code == 0, said.err
    (mask,) = Path("out").rglob("2011_000006.mask.png")
    with Image.open(mask) as image, Image.open(picture) as photograph:
        assert image.size == photograph.size
