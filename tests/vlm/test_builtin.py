from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from foveal.config.sections import Model
from foveal.prompts import Prompt
from foveal.vlm.encoding import Encoder
from foveal.vlm.finding import builtin_folder
from foveal.vlm.generation import generate
from foveal.vlm.loading import load
from foveal.vlm.scoring import score

SCRIPTS = Path(__file__).parents[2] / "scripts" / "pretrain_builtin"


@pytest.fixture(scope="module")
def builtin():
    vlm = load(Model(device="cpu"))
    return vlm, Encoder(vlm.processor, family=vlm.family, context=vlm.context)


@pytest.fixture(scope="module")
def scenes():
    sys.path.insert(0, str(SCRIPTS))
    import glyphs
    import scenes

    yield scenes, glyphs
    sys.path.remove(str(SCRIPTS))


def test_package_data_is_at_most_8_megabytes_and_safetensors_only():
    files = [p for p in builtin_folder().rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 8_000_000
    assert not [p for p in files if p.suffix in (".bin", ".pt", ".pth", ".pkl")]


def test_it_is_an_ordinary_model_folder():
    folder = builtin_folder()
    assert AutoConfig.from_pretrained(folder).model_type == "idefics3"
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert 1_000_000 < sum(p.numel() for p in model.parameters()) < 4_000_000
    assert AutoProcessor.from_pretrained(folder).chat_template


def test_blank_white_picture_is_a_picture_and_not_padding(builtin):
    vlm, encoder = builtin
    white = Prompt((Image.new("RGB", (112, 112), "white"),), "How many shapes are in the picture?")
    reply = generate(vlm, encoder, [white], max_new_tokens=8, names=["white"])[0].text
    assert re.fullmatch(r"\d+", reply)


def test_model_card_tells_data_time_seed_and_the_measured_scores():
    card = (builtin_folder() / "README.md").read_text()
    facts = json.loads((builtin_folder() / "scores.json").read_text())
    assert f"{facts['scenes']:,}" in card and "seed" in card and "minutes" in card
    for kind in ("digit", "colour", "higher"):
        assert f"{100 * facts['scores'][kind]['exact']:.1f}" in card, kind


@pytest.mark.parametrize(
    ("kind", "answers", "least"), [("digit", tuple("0123456789"), 0.5), ("slope", ("up", "down"), 0.55)]
)
def test_it_kept_what_pre_training_taught(builtin, scenes, kind, answers, least):
    vlm, encoder = builtin
    family = scenes[1].character if kind == "digit" else scenes[0].profiles
    rng = random.Random("held out")
    rows = []
    while len(rows) < 200:
        scene = family(rng)
        rows += [(scene.images[0], q) for q in scene.questions if q.kind == kind]
    right = 0
    for start in range(0, 200, 50):
        part = rows[start : start + 50]
        prompts = [Prompt((image,), q.text) for image, q in part]
        best = score(vlm, encoder, prompts, answers, names=[str(i) for i in range(50)]).argmax(-1).tolist()
        right += sum(answers[b] == q.answer for b, (_, q) in zip(best, part, strict=True))
    assert right / 200 >= least


def test_no_blindtest_puzzle_is_in_the_pre_training_scenes(scenes):
    """No question about lines crossing or touching each other, circled letters, tables, nesting, or routes."""
    forbidden = re.compile(r"cross|intersect|touch|overlap|circled|rows|columns|nested|path|route|square.*inside", re.I)
    rng = random.Random(0)
    modules = scenes
    families = [
        getattr(m, n)
        for m in modules
        for n in ("objects", "profiles", "strokes", "textures", "pairs", "character", "word", "digit_grid")
        if hasattr(m, n)
    ]
    asked = {q.text for f in families for _ in range(150) for q in f(rng).questions}
    assert len(asked) > 200
    offending = [
        t for t in asked if forbidden.search(t.replace("cross?", "?").replace("crosss", "").replace(" cross", ""))
    ]
    assert not offending


def test_the_blindtest_model_answers_generated_puzzles_in_free_text():
    from foveal.asking.opening import make_asker, open_model
    from foveal.config.sections import Evaluation, Model, Recipe
    from foveal.tasks.blindtest.all import AllData, BlindTest

    task = BlindTest(AllData(style="paper", image_size=336, test=140, question="either", answer_format="bare"))
    recipe = Recipe(
        task.name, task.data, model=Model("builtin-blindtest"), evaluation=Evaluation(max_new_tokens=8, batch_size=70)
    )
    rows = task.load("test").examples
    metrics = task.measure(rows, list(make_asker(task, open_model(task, recipe), recipe).ask(rows)))
    assert metrics["unparsable"] == 0
    assert metrics["mean_accuracy"] > 0.85 > 2 * task.chance(rows)


def test_the_counting_model_counts_generated_scenes_by_pointing():
    from foveal.asking.opening import make_asker, open_model
    from foveal.config.sections import Evaluation, Model, Recipe
    from foveal.tasks.counting.task import Counting, CountingData, MarkingData

    marks = MarkingData(size=1.6, alpha=0.8, color="cyan")
    data = CountingData(test=66, max_objects=10, point_format="cells", wording="short", marking=marks)
    task = Counting(data)
    recipe = Recipe(
        task.name, data, model=Model("builtin-counting"), evaluation=Evaluation(max_new_tokens=12, batch_size=66)
    )
    rows = task.load("test").examples
    metrics = task.measure(rows, list(make_asker(task, open_model(task, recipe), recipe).ask(rows)))
    assert metrics["mae"] < 0.9 and task.chance(rows) > 2.5
    assert metrics["exact_accuracy"] > 0.5 and metrics["point_f1"] > 0.85
