from __future__ import annotations

import csv
import random
import tracemalloc
from fractions import Fraction
from pathlib import Path

import pytest
from written_pairs import read_pairs

from foveal.errors import UserError
from foveal.images import Picture
from foveal.tasks.comparison.pair_files import write_pairs
from foveal.tasks.comparison.pairs import all_pairs, training_pairs
from foveal.tasks.comparison.scores import Rated


def rated(n: int, part: int = 60) -> list[Rated]:
    rng = random.Random(0)
    return [Rated(f"p{i}.jpg", Picture("", f"p{i}.jpg"), Fraction(rng.randint(part, 5 * part), part)) for i in range(n)]


def test_a_written_file_by_hand(tmp_path: Path) -> None:
    rows = [
        Rated('a "b", c.jpg', Picture("", ""), Fraction(173, 60)),
        Rated("ü.jpg", Picture("", ""), Fraction(5, 2)),
        Rated("d.jpg", Picture("", ""), Fraction(3)),
    ]
    path = tmp_path / "new" / "pairs.csv"
    every = all_pairs([r.score for r in rows], "0.2")
    counts = write_pairs(path, rows, every)
    lines = {
        ('a "b", c.jpg', "ü.jpg", "2.883333", "2.5", "First"),
        ('a "b", c.jpg', "d.jpg", "2.883333", "3", "Similar"),
        ("ü.jpg", "d.jpg", "2.5", "3", "Second"),
    }
    mirror = {"First": "Second", "Second": "First", "Similar": "Similar"}
    with path.open(encoding="utf-8", newline="") as stream:
        head, *lines_read = csv.reader(stream)
    assert head == ["img1", "img2", "score1", "score2", "label"] and len(lines_read) == 3
    for line in lines_read:
        assert tuple(line) in lines or (line[1], line[0], line[3], line[2], mirror[line[4]]) in lines
    assert counts["Similar"] == 1 and sum(counts.values()) == 3
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("part", "raters"), [(60, 60), (100, 0)])
def test_what_was_written_reads_back_exactly(tmp_path: Path, part: int, raters: int) -> None:
    rows = rated(40, part)
    pairs = training_pairs([r.score for r in rows], "0.3", 90)
    write_pairs(tmp_path / "p.csv", rows, pairs)
    file = read_pairs(tmp_path / "p.csv", raters)
    known = {r.id: r.score for r in rows}
    assert dict(zip(file.names, file.scores, strict=True)) == {n: known[n] for n in file.names}
    there = [(file.names[a], file.names[b], label) for a, b, label in file.pairs]
    assert there == [(rows[a].id, rows[b].id, label) for a, b, label in pairs]


def test_failures_leave_nothing_behind(tmp_path: Path) -> None:
    def broken() -> object:
        yield training_pairs([r.score for r in rated(9)], 1, 3)
        raise KeyboardInterrupt

    (tmp_path / "p.csv").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_pairs(tmp_path / "p.csv", rated(9), broken())  # type: ignore[arg-type]
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
    with pytest.raises(UserError, match=r"p\.csv.*(a part of the path is a file|a file of that name)"):
        write_pairs(tmp_path / "p.csv" / "q.csv", rated(9), [])


def test_604450_pairs_are_written_in_little_memory(tmp_path: Path) -> None:
    rows = rated(1100)
    tracemalloc.start()
    counts = write_pairs(tmp_path / "p.csv", rows, all_pairs([r.score for r in rows], "0.2"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(counts.values()) == 604_450
    with (tmp_path / "p.csv").open(encoding="utf-8") as stream:
        assert sum(1 for _ in stream) == 604_451
    assert peak < 100e6
