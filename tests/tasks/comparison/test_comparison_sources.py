from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from foveal.errors import UserError
from foveal.images import Picture
from foveal.tasks.comparison.scores import Rated, RatedSet, draw_folds
from foveal.tasks.comparison.sources import folds_of, read_rated

TABLE = "image,score\n" + "".join(f"{i}.png,{i}\n" for i in range(20))


def test_folders_and_tables_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "scut").mkdir()
    (tmp_path / "scut" / "All_labels.txt").write_text("CF1.jpg 2\nCM2.jpg 2.5\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "rated.csv").write_text(TABLE)
    assert [r.id for r in read_rated(str(tmp_path / "scut")).rows] == ["CF1.jpg", "CM2.jpg"]
    for source in (tmp_path / "own", tmp_path / "own" / "rated.csv"):
        assert len(read_rated(str(source)).rows) == 20


def test_what_is_no_source_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="source: is empty"):
        read_rated("")
    with pytest.raises(UserError, match="holds no table, and is no folder of SCUT-FBP5500"):
        read_rated(str(tmp_path))
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "b.tsv").write_text(TABLE)
    with pytest.raises(UserError, match=r"holds 2 \.csv or \.tsv tables, .* give one table"):
        read_rated(str(tmp_path))
    (tmp_path / "c.json").write_text("")
    with pytest.raises(UserError, match=r"is no table; give a \.csv, \.tsv or \.parquet file"):
        read_rated(str(tmp_path / "c.json"))


def test_folds_are_the_sources_own_or_five_drawn_ones() -> None:
    rows = tuple(Rated(f"{i}", Picture(f"{i}", f"{i}"), Fraction(i)) for i in range(40))
    drawn = folds_of(RatedSet(rows, "x"), seed=7)
    assert drawn == draw_folds(rows, 5, 7)
    own = RatedSet(rows, "x", draw_folds(rows, 3, 1))
    assert folds_of(own) == own.folds
    assert [f.number for f in folds_of(own, [3, 1, 3])] == [3, 1]
    with pytest.raises(UserError, match=r"folds: there is no fold 4; x has 1, 2, 3\."):
        folds_of(own, [4])
