from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from families import open_tiny, picture
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

import foveal
from foveal.config.sections import Model
from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.vlm.encoding import Encoder
from foveal.vlm.generation import generate
from foveal.vlm.loading import load
from foveal.vlm.logits import IGNORE
from foveal.vlm.processors import save_processor
from foveal.vlm.resolution import set_resolution
from foveal.vlm.scoring import score

ANSWERS = ("one", "two lines", "a cat here")


@pytest.fixture(scope="module")
def llava_next(tiny, tmp_path_factory) -> Path:
    """A tiny LLaVA-NeXT from the parts of the tiny LLaVA: tiles of 28 pixels in up to three of them."""
    folder = tmp_path_factory.mktemp("tiles") / "llava_next"
    shutil.copytree(tiny("llava"), folder)
    pinpoints = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "llava_next", "image_grid_pinpoints": pinpoints, "architectures": None}
    config = AutoConfig.for_model(**config)
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    file = folder / "processor_config.json"
    told = json.loads(file.read_text()) | {"processor_class": "LlavaNextProcessor"}
    told["image_processor"] |= {"image_processor_type": "LlavaNextImageProcessor", "image_grid_pinpoints": pinpoints}
    file.write_text(json.dumps(told))
    return folder


@pytest.fixture
def source(tiny, llava_next):
    return lambda family: llava_next if family == "llava_next" else tiny(family)


def ask(size) -> Prompt:
    return Prompt((picture(3, size),), "How many red lines?")


def tokens(processor, family, size) -> int:
    """How many tokens of a prompt stand for a picture of that size."""
    batch = Encoder(processor, family=family).encode([ask(size)], side="left")
    name = {"internvl": "<IMG_CONTEXT>"}.get(family, "<image>")
    return int((batch["input_ids"] == processor.tokenizer.convert_tokens_to_ids(name)).sum())


# Idefics3: 4 tokens a tile and an overview; the picture is enlarged to 56 pixels. InternVL: 4 tokens a tile, at most 2
# and an overview. LLaVA-NeXT: 16 tokens of the overview, and those of the tiles that are not padding, with a line break
# behind each row of them; without tiles 4 rows of 4 and their breaks, or half of them.
@pytest.mark.parametrize(
    ("family", "size", "tiled", "plain"),
    [
        ("idefics3", (56, 56), 20, 4),
        ("idefics3", (20, 20), 20, 4),
        ("idefics3", (200, 90), 12, 4),
        ("internvl", (112, 56), 12, 4),
        ("llava_next", (56, 56), 16 + 8 * 9, 16 + 4 * 5),
        ("llava_next", (112, 56), 16 + 4 * 9, 16 + 2 * 5),
    ],
)
def test_a_picture_without_tiles_takes_the_tokens_of_one_view(source, tmp_path, family, size, tiled, plain):
    folder = str(source(family))
    whole, one = load(Model(id=folder, device="cpu")), load(Model(id=folder, device="cpu", tiles=False))
    assert tokens(whole.processor, family, size) == tiled
    assert tokens(one.processor, family, size) == plain
    # What a run saves beside its weights keeps the setting, here and elsewhere.
    save_processor(one.processor, tmp_path)
    one.base.save_pretrained(tmp_path)
    assert tokens(AutoProcessor.from_pretrained(tmp_path), family, size) == plain
    again = load(Model(id=str(tmp_path), device="cpu"))
    encoder = open_tiny(tmp_path)[1]
    with torch.no_grad():
        batch = encoder.encode([ask(size)], side="left")
        torch.testing.assert_close(again.model(**batch).logits, one.model(**batch).logits)


@pytest.mark.parametrize("family", ["idefics3", "internvl", "llava_next"])
def test_scores_replies_and_gradients_without_tiles(source, family):
    vlm, encoder = open_tiny(source(family), tiles=False)
    rows = [ask((56, 56)), ask((112, 56))]
    ours = score(vlm, encoder, rows, ANSWERS, names=list("ab"))
    for i, row in enumerate(rows):
        for k, answer in enumerate(ANSWERS):
            batch = encoder.training_batch([Prompt(row.images, row.user, answer=answer)], ["x"])
            target = batch.pop("labels")[0, 1:]
            with torch.no_grad():
                logits = vlm.model(**batch, use_cache=False).logits[0, :-1].log_softmax(-1)
            keep = target != IGNORE
            naive = float(logits[keep].gather(1, target[keep][:, None]).sum())
            assert float(ours[i, k]) == pytest.approx(naive, abs=1e-4)
    assert len(generate(vlm, encoder, rows, max_new_tokens=3, names=list("ab"))) == 2

    vlm.model.requires_grad_(True)
    batch = encoder.training_batch([Prompt(rows[0].images, "?", answer="one")], ["x"])
    vlm.model(**batch).loss.backward()
    towers = [p.grad for n, p in vlm.model.named_parameters() if "vision" in n and p.grad is not None]
    assert towers and sum(float(g.abs().sum()) for g in towers) > 0


@pytest.mark.parametrize("family", ["paligemma", "llava", "smolvlm", "qwen2_vl", "gemma3"])
def test_families_without_tiles_stay_as_they_are(tiny, family):
    (_, plain), (_, same) = open_tiny(tiny(family)), open_tiny(tiny(family), tiles=False)
    a, b = (e.encode([ask((112, 56))], side="left") for e in (plain, same))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_tiles_that_cannot_be_switched_off_are_said(tiny):
    with pytest.raises(
        UserError, match=r"model.tiles: the family mllama always .*; leave it out, and set .*image_size: 28"
    ):
        load(Model(id=str(tiny("mllama")), device="cpu", tiles=False))
    encoder = open_tiny(tiny("mllama"))[1]
    encoder.image_size = 28
    assert encoder.encode([ask((112, 56))], side="left")["aspect_ratio_ids"].tolist() == [[1]]  # 1 x 1


def test_the_view_may_be_larger_where_there_are_no_tiles(tiny):
    folder = str(tiny("idefics3"))
    with pytest.raises(UserError, match=r"cuts pictures into tiles.* or set model\.tiles: false to show one view"):
        load(Model(id=folder, device="cpu", resolution=56))
    vlm = load(Model(id=folder, device="cpu", resolution=56, tiles=False))
    assert tokens(vlm.processor, "idefics3", (30, 30)) == 16
    with pytest.raises(UserError, match="give a multiple of 14"):
        set_resolution(vlm.base, vlm.processor, 50)


def test_a_run_keeps_the_setting(tiny, tmp_path, monkeypatch):
    from rich.console import Console

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "training"))
    from small import write_recipe, write_squares

    from foveal.config.reading import read_recipe
    from foveal.training.train import train

    squares = write_squares(tmp_path / "squares", {"train": 2, "validation": 1, "test": 1})
    path = write_recipe(tmp_path / "r.yaml", squares, tiny("idefics3"), model="  tiles: false\n",
                        training="  epochs: 1\n")  # fmt: skip
    run = train(read_recipe(path, ["--output", str(tmp_path), "--name", "run"]), Console(quiet=True)).run
    assert "<image> x4" in (run.path / "label_mask.txt").read_text()
    assert "tiles: false" in run.recipe.read_text()
    saved = AutoProcessor.from_pretrained(run.path / "checkpoints" / "best")
    model = foveal.load(run.path)
    asked = model._asker.model.vlm.processor
    assert tokens(saved, "idefics3", (90, 90)) == tokens(asked, "idefics3", (90, 90)) == 4
    assert model.predict(picture(0)).prediction in ("red", "green", "blue")
