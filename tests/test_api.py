from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import foveal
from foveal.errors import UserError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    recipe = folder / "recipe.yaml"
    recipe.write_text("task: blindtest/lines\nevaluation: {batch_size: 2}\n")
    return foveal.load(recipe, data__wording="short", data__answer_format="bare")


@pytest.fixture(scope="module")
def comparing(tmp_path_factory):
    recipe = tmp_path_factory.mktemp("comparing") / "recipe.yaml"
    recipe.write_text("task: comparison\nevaluation: {batch_size: 2}\n")
    return foveal.load(recipe, data__wording="short")


def pictures(count):
    return [Image.new("RGB", (40 + i, 40), (i * 20, 0, 0)) for i in range(count)]


def test_an_answer_has_probabilities_that_sum_to_1(model, tmp_path):
    pictures(1)[0].save(tmp_path / "a.png")
    answer = model.predict(tmp_path / "a.png")
    assert sum(answer.probabilities.values()) == pytest.approx(1) and set(answer.probabilities) == {"0", "1", "2"}
    assert answer.confidence == max(answer.probabilities.values())
    assert str(answer.prediction) == answer.response and answer.name == str(tmp_path / "a.png")


def test_a_batch_equals_one_by_one_and_paths_equal_pictures(model, tmp_path):
    given = pictures(5)
    for i, picture in enumerate(given):
        picture.save(tmp_path / f"{i}.png")
    batch = list(model.predict_batch(given))
    alone = [model.predict(tmp_path / f"{i}.png") for i in range(5)]
    assert [a.prediction for a in batch] == [a.prediction for a in alone]
    for a, b in zip(batch, alone, strict=True):
        assert a.probabilities == pytest.approx(b.probabilities, abs=2e-2)  # bfloat16


def test_a_stream_is_read_a_batch_at_a_time(model):
    opened = []

    def stream():
        for i in range(1000):
            opened.append(i)
            yield pictures(1)[0]

    answers = model.predict_batch(stream())
    next(answers)
    assert len(opened) == 2


def test_an_endless_stream_is_answered_as_far_as_it_is_asked(model):
    opened = []

    def drawn(i):
        opened.append(i)
        return Image.new("RGB", (40 + i, 40), (i * 20, 0, 0))

    answers = list(islice(model.predict_batch(map(drawn, count())), 3))
    assert [a.name for a in answers] == ["picture 0", "picture 1", "picture 2"]
    assert all(a.prediction is not None for a in answers)
    assert len(opened) == 4  # two batches of two


def test_a_folder_is_written_as_the_answers_of_its_pictures(model, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i, picture in enumerate(pictures(3)):
        picture.save(folder / f"{i}.png")
    tally = model.predict_folder(folder, tmp_path / "a.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    answers = list(model.predict_batch(sorted(folder.iterdir())))
    assert [(r["id"], r["value"], r["probabilities"]) for r in rows] == [
        (a.name, a.prediction, a.probabilities) for a in answers
    ]
    assert tally.rows == 3 and sum(tally.counts.values()) == 3
    assert model.predict_folder(str(folder), str(tmp_path / "a.jsonl")) == tally
    with pytest.raises(UserError, match="holds no pictures"):
        (tmp_path / "empty").mkdir()
        model.predict_folder(tmp_path / "empty", tmp_path / "b.jsonl")
    for call in (model.predict_folder, lambda f, o, text: model.predict(f, text=text)):
        with pytest.raises(UserError, match="text: blindtest/lines takes no words"):
            call(folder, tmp_path / "b.jsonl", text="red")


def test_mistakes_are_sentences(model, tmp_path):
    with pytest.raises(UserError, match=r"there is no such"):
        foveal.load(tmp_path / "nothing")
    with pytest.raises(UserError, match="There is no key"):
        foveal.load("blindtest-lines", data__stile="paper")
    with pytest.raises(UserError, match="missing"):
        model.predict(tmp_path / "missing.png")
    with pytest.raises(AttributeError):
        foveal.nothing  # noqa: B018


# ---------------------------------------------------------------- pictures in any form


def same(answer, other):
    return (answer.prediction, answer.probabilities, answer.response) == (
        other.prediction, other.probabilities, other.response,
    )  # fmt: skip


def test_a_picture_in_any_form_has_one_answer(model, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (48, 40, 3), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    expected = model.predict(Image.fromarray(pixels))
    opaque = np.dstack([pixels, np.full((48, 40), 255, np.uint8)])
    for given in (
        str(path), path, content, bytearray(content), io.BytesIO(content), pixels, opaque, np.asfortranarray(pixels),
        foveal.Picture("mine", path), [path], (pixels,),
    ):  # fmt: skip
        assert same(model.predict(given), expected), type(given)
    with path.open("rb") as stream:
        answer = model.predict(stream)
    assert same(answer, expected) and answer.name == str(path)
    assert model.predict(content).name == "picture 0"


def test_gray_and_black_and_white_arrays_are_pictures(model):
    gray = np.random.default_rng(1).integers(0, 256, (40, 40), np.uint8)
    assert same(model.predict(gray), model.predict(np.dstack([gray] * 3)))
    mask = gray > 127
    assert same(model.predict(mask), model.predict(mask.astype(np.uint8) * 255))


def test_a_buffer_that_is_written_over_before_the_batch_is_full_is_answered_as_it_was(model):
    frames = np.random.default_rng(2).integers(0, 256, (4, 40, 40, 3), np.uint8)
    buffer = np.empty_like(frames[0])

    def camera():
        for frame in frames:
            buffer[:] = frame
            yield buffer

    assert all(
        same(a, b) for a, b in zip(model.predict_batch(camera()), model.predict_batch(list(frames)), strict=True)
    )


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (np.zeros((4, 4), np.float32), r"float32 has no agreed white; convert it, e.g. \(255 \* array\).*uint8"),
        (np.zeros((4, 4), np.int64), "an array of int64 is no picture; convert it to uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\) is no picture"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4\) is no picture"),
        (np.zeros(4, np.uint8), r"shape \(4,\) is no picture"),
        (3, "picture 0: int is no picture; give a path"),
        (None, "picture 0: NoneType is no picture"),
        ({"path": "a.png"}, "picture 0: dict is no picture"),
        (object(), "picture 0: object is no picture"),
        (io.StringIO("text"), "open it in binary mode"),
        (b"no picture", "not a picture in a known format"),
        (b"", "the file is empty"),
        ("", "cannot be read"),
        ("a\0b", "cannot be a path"),
        ((), "blindtest/lines asks about one picture at a time, not 0"),
        (["a.png", "b.png"], "blindtest/lines asks about one picture at a time, not 2"),
    ],
)
def test_what_is_no_picture_is_a_sentence(model, given, sentence):
    with pytest.raises(UserError, match=sentence):
        model.predict(given)


def test_a_closed_file_is_a_sentence(model, tmp_path):
    stream = (tmp_path / "a.png").open("wb")
    with stream, pytest.raises(UserError, match="open in binary mode"):
        model.predict(stream)
    with (tmp_path / "a.png").open("rb") as stream:
        pass
    with pytest.raises(UserError, match=r"a\.png: cannot be read \(.*closed"):
        model.predict(stream)


@pytest.mark.parametrize(
    "given", ["a.png", b"bytes", Path("a.png"), io.BytesIO(), Image.new("L", (4, 4)), np.zeros((4, 4, 3), np.uint8), 3]
)
def test_a_single_picture_is_no_batch(model, given):
    with pytest.raises(UserError, match="predict_batch takes several pictures"):
        list(model.predict_batch(given))


def test_frames_of_a_film_are_a_batch(model):
    frames = np.random.default_rng(3).integers(0, 256, (3, 40, 40, 3), np.uint8)
    assert len(list(model.predict_batch(frames))) == 3


# ---------------------------------------------------------------- two pictures


def test_two_pictures_are_compared(comparing, tmp_path):
    one, two = pictures(2)
    one.save(tmp_path / "one.png")
    two.save(tmp_path / "two.png")
    answer = comparing.predict((one, np.asarray(two)))
    assert set(answer.probabilities) == {"First", "Second", "Similar"}
    assert answer.prediction in answer.probabilities and answer.name == "picture 0 (1 of 2)|picture 0 (2 of 2)"
    again = comparing.predict([tmp_path / "one.png", tmp_path / "two.png"])
    assert same(again, answer) and again.name == f"{tmp_path / 'one.png'}|{tmp_path / 'two.png'}"
    batch = list(comparing.predict_batch([(one, two), (two, one), (two, two)]))
    assert len(batch) == 3 and batch[0].probabilities == pytest.approx(answer.probabilities, abs=2e-2)


@pytest.mark.parametrize("given", ["a.png", ("a.png",), ("a.png", "b.png", "c.png"), np.zeros((2, 4, 4), np.uint8)])
def test_a_wrong_number_of_pictures_is_a_sentence(comparing, given):
    with pytest.raises(UserError, match=r"picture 0: comparison asks about a tuple of 2 pictures at a time, not [13]"):
        comparing.predict(given)


def test_a_folder_of_single_pictures_cannot_be_compared(comparing, tmp_path):
    pictures(1)[0].save(tmp_path / "a.png")
    with pytest.raises(UserError, match="needs two pictures"):
        comparing.predict_folder(tmp_path, tmp_path / "answers.jsonl")


# ---------------------------------------------------------------- threads


def test_threads_may_ask_one_model(model):
    given = list(np.random.default_rng(4).integers(0, 256, (40, 40, 40, 3), np.uint8))
    serial = [model.predict(p) for p in given]
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda start: [model.predict(p) for p in given[start : start + 5]], range(0, 40, 5)))
    threaded = [answer for part in parts for answer in part]
    assert len(threaded) == 40 and all(same(a, b) for a, b in zip(threaded, serial, strict=True))
    assert len({tuple(a.probabilities.values()) for a in serial}) > 20  # the pictures differ


# ---------------------------------------------------------------- recipes, training, measuring


SMALL = {
    "data__train": 16, "data__validation": 4, "data__test": 6, "data__image_size": 56, "training__max_steps": 1,
    "training__batch_size": 4, "evaluation__batch_size": np.int64(4),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return foveal.train("blindtest-lines", output=str(tmp_path_factory.mktemp("runs")), name="small", **SMALL)


def test_a_training_gives_a_run_its_results_and_its_model(trained):
    assert trained.path.name == "small" and (trained.path / "report.html").is_file()
    before, result = trained.results
    assert (
        before.label == "before training"
        and isinstance(result, foveal.Result)
        and result.rows == 6
        and 0 <= result.values["accuracy"] <= 1
    )
    loaded = foveal.load(trained.path)
    picture = pictures(1)[0]
    assert same(trained.model.predict(picture), loaded.predict(picture))
    assert repr(loaded) == repr(trained.model)
    folder = trained.path.parent / "photos"
    folder.mkdir()
    picture.save(folder / "a.png")
    tally = trained.model.predict_folder(folder, folder / "answers.jsonl")
    assert loaded.predict_folder(folder, folder / "answers.jsonl") == tally  # continues it: the same model
    assert repr(loaded) == "Model(task='blindtest/lines', model='builtin', checkpoint='epoch-1', device='cpu')"


def test_a_run_is_measured_again(trained):
    before = trained.results[-1]
    again = foveal.evaluate(trained.path)
    assert again.values == before.values and again.rows == 6
    result = foveal.evaluate(
        str(trained.path), split="validation", samples=3, name="few", checkpoint="last", evaluation__batch_size=2
    )
    assert result.rows == 3 and len(result.predictions) == 3 and (trained.path / "evaluation/few/report.html").is_file()


def test_a_recipe_of_python_is_one_of_a_file(tmp_path, model):
    recipe = foveal.Recipe("blindtest/lines", {"wording": "short", "answer_format": "bare"})
    recipe.evaluation.batch_size = 2
    made = foveal.load(recipe)
    picture = pictures(1)[0]
    assert same(made.predict(picture), model.predict(picture))
    with pytest.raises(UserError, match=r"^Recipe: data\.wording: 'shrt' is not possible; did you mean 'short'\?"):
        foveal.load(foveal.Recipe("blindtest/lines", {"wording": "shrt"}))
    with pytest.raises(UserError, match="There is no key"):
        foveal.evaluate(recipe, data__stile="paper")
    result = foveal.evaluate(recipe, samples=2, output=str(tmp_path), name=None, data__test=4, data__image_size=56)
    assert result.rows == 2 and len(list(tmp_path.glob("*/evaluation/test/results.json"))) == 1


def test_keys_take_what_python_has(tmp_path):
    lists = foveal.load("blindtest-all", data__puzzles=["lines"], model__device="cpu", model__tiles=False)
    assert lists.task.data.puzzles == ["lines"]
    few = foveal.load("classification-folder", data__source=Path("photos"), data__class_names=("cat", "dog"))
    assert few.task.data.source == "photos" and list(few.task.data.class_names) == ["cat", "dog"]


def test_mistakes_in_training_and_measuring_are_sentences(trained):
    with pytest.raises(UserError, match="is a run; continue it with"):
        foveal.train(trained.path)
    with pytest.raises(UserError, match="data__train: is None; leave it out"):
        foveal.train("quickstart", data__train=None)
    with pytest.raises(UserError, match="'tset' is none; choose one of train, validation, test"):
        foveal.evaluate(trained.path, split="tset")
    for samples in (-1, "3", 2.5, None):
        with pytest.raises(UserError, match=f"samples: must be a whole number of at least 0, not {samples!r}"):
            foveal.evaluate(trained.path, samples=samples)
    with pytest.raises(UserError, match=r"name: must be a folder's name, not 3\."):
        foveal.evaluate(trained.path, name=3)
    with pytest.raises(UserError, match="has no checkpoint 'epoch-9'"):
        foveal.load(trained.path, checkpoint="epoch-9")


# ---------------------------------------------------------------- names and types


def python(*words, **options):
    environment = {**os.environ, "PYTHONPATH": str(Path(foveal.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, env=environment, **options
    )


def test_all_names_are_there_and_no_others():
    stub = Path(foveal.__file__).with_name("__init__.pyi").read_text()
    for name in foveal.__all__:
        assert getattr(foveal, name) is not None and f'"{name}"' in stub and name in dir(foveal)
    assert stub.count('    "') == len(foveal.__all__)
    with pytest.raises(AttributeError, match="module 'foveal' has no attribute 'nothing'"):
        foveal.nothing  # noqa: B018


def test_importing_foveal_imports_next_to_nothing():
    code = "import sys; before = set(sys.modules); import foveal; print(*sorted(set(sys.modules) - before))"
    assert {name.partition(".")[0] for name in python("-c", code).stdout.split()} <= {"foveal", "importlib", "warnings"}
    code = "import sys, foveal; [getattr(foveal, n) for n in foveal.__all__]; print('torch' in sys.modules)"
    assert python("-c", code).stdout.strip() == "False"


def test_the_package_is_the_command():
    assert python("-m", "foveal", "--version").stdout == f"foveal {foveal.__version__}\n"
    wrong = python("-m", "foveal", "trian")
    assert wrong.returncode == 2 and "did you mean 'train'?" in wrong.stderr


USER = """
from pathlib import Path

import numpy as np

import foveal


def main() -> None:
    trained = foveal.train("quickstart", data__train=8, training__epochs=1)
    path: Path = trained.path
    value: float = trained.results[-1].value
    model: foveal.Model = foveal.load(path, checkpoint="last", model__device="cpu")
    answer: foveal.Answer = model.predict("photo.jpg", text=None)
    confidence: float | None = answer.confidence
    response: str = answer.response
    for one in model.predict_batch([path / "a.png", b"", np.zeros((4, 4), np.uint8)]):
        print(one.prediction, one.probabilities, one.name, one.extra)
    model.predict(("a.png", "b.png"))
    rows: int = model.predict_folder("photos", path / "answers.parquet", skip_bad=True).rows
    result: foveal.Result = foveal.evaluate(path, split="validation", samples=10)
    recipe = foveal.Recipe("counting", data={})
    print(value, confidence, response, rows, result.interval, foveal.train(recipe).model, foveal.__version__)


class Colours(foveal.Task):
    metrics = foveal.Metrics((foveal.Metric("accuracy", "share", "higher"),))

    def ask(self, example: foveal.Example) -> foveal.Prompt:
        return foveal.Prompt(example.images, "Which colour?")
"""
WRONG = """
import foveal

foveal.load(3)
foveal.evaluate("run", split="tset")
foveal.load("run").predict(3.5)
foveal.load("run").predict("a.png").sureness
number: int = foveal.load("run").predict("a.png").response
foveal.nothing
"""


@pytest.mark.slow
def test_a_users_file_is_checked_by_mypy(tmp_path):
    (tmp_path / "right.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(WRONG)
    environment = {**os.environ, "MYPYPATH": str(Path(foveal.__file__).parents[1])}
    words = [
        "--strict",
        "--follow-imports=silent",
        "--no-error-summary",
        "--hide-error-context",
        "right.py",
        "wrong.py",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = [line.split(" ", 1)[0].rstrip(":") for line in done.stdout.splitlines() if ": error:" in line]
    assert wrong == [f"wrong.py:{line}:".rstrip(":") for line in (4, 5, 6, 7, 8, 9)], done.stdout + done.stderr
