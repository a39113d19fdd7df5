"""Pictures are read ahead, answered in order and forgotten."""

from __future__ import annotations

import gc
import time
import tracemalloc
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_answers import BLACK, FACTS, SIZE, Brightness, Drawn, Fake, Named, asker, rows_of

from foveal.asking import answer_files
from foveal.asking.answer_files import open_answers
from foveal.asking.pictures import stream
from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import Picture
from foveal.results import Prediction
from foveal.tasks.capabilities import check_words


def test_an_endless_stream_is_read_two_batches_ahead_and_answered_in_order():
    taken = []

    def endless():
        for i in range(10**9):
            taken.append(i)
            yield Drawn(None).example_of([Picture(f"{i}.png", BLACK)])

    batches = list(islice(asker(Drawn(None)).batches(endless()), 3))
    assert [a.path.name for b in batches for a in b] == [f"{i}.png" for i in range(3 * SIZE)]
    assert len(taken) == 4 * SIZE


class Quick(Fake):
    size = 100

    def predict(self, rows):
        return [Prediction(r.id, "dark", "dark", {"dark": 1.0}) for r in rows]


def peak(count: int, out: Path, each=None) -> int:
    """Most bytes that Python held while so many pictures were asked, beyond those that it held before."""
    names = (Path(f"pictures/{i:07}.png") for i in range(count))
    gc.collect()
    tracemalloc.start()
    try:
        with open_answers(out, FACTS, 100) as answers:
            stream(asker(Drawn(None), Quick()), names, answers, each=each)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(answer_files, "PART_ROWS", 200)
    kept = []
    peak(200, tmp_path / f"warm.{suffix}")  # what is imported and cached at first
    small, large = (peak(n, tmp_path / f"{n}.{suffix}") for n in (500, 4000))
    holding = peak(4000, tmp_path / f"kept.{suffix}", each=kept.append)
    assert sum(map(len, kept)) == 4000 and holding - small > 1_000_000
    assert large - small < (holding - small) / 4
    if suffix == "jsonl":
        assert len(rows_of(tmp_path / "4000.jsonl")) == 4000
        return
    facts = pq.read_metadata(tmp_path / "4000.parquet")
    assert facts.num_rows == 4000
    assert max(facts.row_group(i).num_rows for i in range(facts.num_row_groups)) <= 2 * answer_files.PART_ROWS


def test_pictures_are_decoded_while_the_model_computes(tmp_path):
    class Slow(Brightness):
        def example_of(self, pictures, words=None):
            def draw():
                time.sleep(0.05)
                return Image.new("RGB", (8, 8))

            return Example(pictures[0].name, (Picture(pictures[0].name, draw),))

    started = time.monotonic()
    tally = stream(asker(Slow(None), Fake(pause=0.1)), (Path(str(i)) for i in range(5 * SIZE)), None)
    # One after the other: 5 batches of 0.1 s and 20 pictures of 0.05 s.
    assert tally.rows == 20 and time.monotonic() - started < 1.3


def test_words_are_taken_by_tasks_that_need_them_only():
    with pytest.raises(UserError, match=r"^text: brightness takes no words about a picture; leave it out\.$"):
        stream(asker(Brightness(None)), [], None, text="red")
    for text in (None, " "):
        with pytest.raises(UserError, match=r"^text: named needs words about the pictures; give them, e\.g\. --text"):
            stream(asker(Named(None)), [], None, text=text)
    check_words(Named, "the red cup")
