"""A task, a model and pictures small enough to test how answers are streamed and written."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from foveal.asking.answer_files import open_answers
from foveal.asking.asker import Asker
from foveal.asking.models import OwnModel
from foveal.asking.pictures import find_pictures, stream
from foveal.config.sections import Evaluation
from foveal.examples import Example, Loaded
from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.capabilities import UserWords
from foveal.tasks.task import Task

FACTS = {"task": "brightness", "model": "m", "text": None, "recipe": "0123"}
SIZE = 4
BLACK = Image.new("RGB", (8, 8))


class Brightness(Task):
    name = "brightness"

    def load(self, split):
        return Loaded((), "")

    def prompt(self, example, rng=None):
        raise NotImplementedError

    def parse(self, reply, example=None):
        return reply

    def measure(self, examples, predictions):
        return {}


class Drawn(Brightness):
    """Pictures without files."""

    def example_of(self, pictures, words=None):
        return Example(pictures[0].name, (Picture(pictures[0].name, lambda: BLACK),))


class Named(UserWords, Brightness):
    name = "named"


class Fake(OwnModel):
    """Answers depend on the whole batch, as a padded batch's last digits do."""

    size = SIZE

    def __init__(self, pause=0.0):
        self.pause, self.batches = pause, []

    def evaluating(self):
        return nullcontext()

    def predict(self, rows):
        time.sleep(self.pause)
        self.batches.append([Path(r.id).name for r in rows])
        levels = [r.images[0].open().getpixel((0, 0))[0] for r in rows]
        found = []
        for row, level in zip(rows, levels, strict=True):
            share = level / 255 / 3 + sum(levels) / 1e6
            value = "light" if level > 127 else "dark"
            chances = {"light": share, "dark": 1 - share}
            found.append(Prediction(row.id, value, value + "!", chances, extra={"levels": levels}))
        return found


def asker(task, fake=None):
    fake = fake or Fake()
    return Asker(task, fake, Evaluation(batch_size=fake.size))


def write_pictures(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (8, 8), (i * 37 % 256, 0, 0)).save(folder / f"{i:03}.png")
    return folder


def go(folder: Path, out: Path, fake: Fake | None = None, facts=FACTS, each=None, **options):
    with open_answers(out, facts, SIZE) as answers:
        return stream(asker(Brightness(None), fake), find_pictures([folder]), answers, each=each, **options)


def rows_of(path: Path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def both(tmp_path: Path):
    return [tmp_path / "a.jsonl", tmp_path / "a.parquet"]


def every(tmp_path: Path):
    return [*both(tmp_path), tmp_path / "a.csv"]


def table(path: Path):
    return pq.read_table(path).to_pylist()


def content(path: Path):
    return table(path) if path.suffix == ".parquet" else path.read_bytes()
