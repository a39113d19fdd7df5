from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from foveal.errors import UserError
from foveal.images import Picture
from foveal.tasks.comparison.scores import Rated, RatedSet, draw_folds
from foveal.tasks.comparison.sources import IMAGE_COLUMNS, SCORE_COLUMNS, folds_of, read_rated, read_table

TABLE = "image,score\n" + "".join(f"{i}.png,{i}\n" for i in range(20))


def test_folders_and_tables_are_refused_apart(tmp_path: Path) -> None:
    (tmp_path / "scut").mkdir()
    (tmp_path / "scut" / "All_labels.txt").write_text("CF1.jpg 2\nCM2.jpg 2.5\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "rated.csv").write_text(TABLE)
    assert [r.id for r in read_rated(str(tmp_path / "scut")).rows] == ["CF1.jpg", "CM2.jpg"]
    for source in (tmp_path / "own", tmp_path / "own" / "rated.csv"):
        assert len(read_rated(str(source)).rows) == 20


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
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
    rated = RatedSet(rows, "x", draw_folds(rows, 3, 1))
    assert folds_of(rated) == rated.folds
    assert [f.number for f in folds_of(rated, [3, 1, 3])] == [3, 1]
    with pytest.raises(UserError, match=r"folds: there is no fold 4; x has 1, 2, 3\."):
        folds_of(rated, [4])


def png(width: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, 5)).save(stream, "PNG")
    return stream.getvalue()


def test_csv_paths_are_relative_to_the_file_and_scores_exact(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a b.png").write_bytes(png(7))
    (tmp_path / "c.png").write_bytes(png(8))
    (tmp_path / "rated.csv").write_text(
        "note,image,score\nx,pictures/a b.png,0.1\n,c.png,2.883333\n", encoding="utf-8-sig"
    )
    rated = read_table(tmp_path / "rated.csv")
    assert [(r.id, r.score) for r in rated.rows] == [
        ("pictures/a b.png", Fraction(1, 10)),
        ("c.png", Fraction(2883333, 10**6)),
    ]
    assert [r.picture.open().width for r in rated.rows] == [7, 8]
    assert rated.folds == () and rated.place == str(tmp_path / "rated.csv")


def test_tsv_and_scores_of_a_number_of_ratings(tmp_path: Path) -> None:
    (tmp_path / "rated.tsv").write_text("file_name\trating\na.png\t2.33\nb.png\t1.67\n")
    assert [r.score for r in read_table(tmp_path / "rated.tsv", raters=3).rows] == [Fraction(7, 3), Fraction(5, 3)]


@pytest.mark.parametrize("image", IMAGE_COLUMNS)
def test_usual_names_of_columns_are_found(tmp_path: Path, image: str) -> None:
    for score in SCORE_COLUMNS:
        (tmp_path / "r.csv").write_text(f"other,{score.title()},{image.upper()}\n1,2,a\n1,3,b\n")
        assert [(r.id, r.score) for r in read_table(tmp_path / "r.csv").rows] == [("a", 2), ("b", 3)]


def test_options_choose_columns(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("image,score,face,beauty\nx,1,a,5\nx,1,b,6\n")
    rated = read_table(tmp_path / "r.csv", image_column="face", score_column="beauty")
    assert [(r.id, r.score) for r in rated.rows] == [("a", 5), ("b", 6)]


def test_pictures_inside_parquet_as_datasets_saves_them(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (10 + i, 6)) for i in range(3)]
    data = datasets.Dataset.from_dict(
        {
            "image": pictures,
            "beauty_score": [2.883333, 0.1, 3.0],
            "race": ["a", "a", "b"],
            "image_name": ["x", "y", "z"],
        },
        features=datasets.Features(
            {
                "image": datasets.Image(),
                "beauty_score": datasets.Value("float32"),
                "race": datasets.Value("string"),
                "image_name": datasets.Value("string"),
            }
        ),
    )
    data.to_parquet(tmp_path / "train-00000-of-00001.parquet")
    for source in (tmp_path, tmp_path / "train-00000-of-00001.parquet"):
        rated = read_table(source)
        assert [r.id for r in rated.rows] == ["00000", "00001", "00002"]
        # Of 32 bits, yet the decimals that they were.
        assert [r.score for r in rated.rows] == [Fraction("2.883333"), Fraction(1, 10), 3]
        assert [r.picture.open().size for r in rated.rows] == [(10, 6), (11, 6), (12, 6)]


def test_parquet_with_paths_bytes_and_several_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(9))
    write = pyarrow.parquet.write_table
    write(pyarrow.table({"image": ["a.png"], "score": ["1.5"]}), tmp_path / "1.parquet")
    write(pyarrow.table({"image": [png(4)], "score": [2]}), tmp_path / "2.parquet")
    write(pyarrow.table({"image": [{"bytes": png(5), "path": "n.png"}], "score": [2.5]}), tmp_path / "3.parquet")
    rated = read_table(tmp_path).rows
    assert [(r.id, r.score) for r in rated] == [("a.png", Fraction(3, 2)), ("00001", 2), ("n.png", Fraction(5, 2))]
    assert [r.picture.open().width for r in rated] == [9, 4, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,score\na,1\na,2\n", r"line 3: the picture a is rated in .*r\.csv, line 2 already; remove one"),
        ("image,score\na,1\nb,\n", r"line 3: the score '' is no number"),
        ("image,score\na,1\nb\n", r"line 3: the score '' is no number"),
        ("image,score\na,1\n,2\n", r"line 3: there is no picture; fill it in"),
        ("image,score\na,1\n", "holds 1 rated picture; to compare"),
        (
            "image,stars\na,1\n",
            r"has no column named like score, rating, mean_score; name one of image, stars in score_column",
        ),
        ("thing,score\na,1\n", "has no column named like image, .* in image_column"),
        ("", "name one of its columns"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(UserError, match=r"r\.csv.*" + message):
        read_table(tmp_path / "r.csv")


def test_other_wrong_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes(b"image,score\n\xff,1\n")
    with pytest.raises(UserError, match="cannot be read"):
        read_table(tmp_path / "r.csv")
    (tmp_path / "r.parquet").write_bytes(b"PAR?")
    with pytest.raises(UserError, match="cannot be read"):
        read_table(tmp_path / "r.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"image": ["a", "b"], "score": [1.0, None]}), tmp_path / "n.parquet")
    with pytest.raises(UserError, match=r"n\.parquet, row 1: the score 'None' is no number"):
        read_table(tmp_path / "n.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"image": [1, 2], "score": [1, 2]}), tmp_path / "i.parquet")
    with pytest.raises(UserError, match=r"i\.parquet, row 0: the picture is int, neither a path nor bytes"):
        read_table(tmp_path / "i.parquet")
    with pytest.raises(UserError, match="has no column 'x'; name one of image, score in image_column"):
        read_table(tmp_path / "i.parquet", image_column="x")
    with pytest.raises(UserError, match="there is no such table"):
        read_table(tmp_path / "nothing.csv")


@pytest.mark.parametrize("text", ["image,score\na.png,2,5\nb.png,3\n", "image;score\na.png;2,5\nb.png;3\n",
                                  'image,score\na.png,"2,5"\nb.png,3\n', "image\tscore\na.png\t2,5\nb.png\t3\n"])  # fmt: skip
def test_a_decimal_comma_is_never_cut_off(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(
        UserError,
        match=r"r\.csv, line 2: (has 3 cells, not 2|the score '2,5' is no number like 2\.5, which has a point)",
    ):
        read_rated(str(tmp_path))


def test_semicolons_backslashes_and_excels_first_line_are_read(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for k in range(2):
        Image.new("RGB", (4, 4), (k, 0, 0)).save(tmp_path / f"images/{k}.png")
    (tmp_path / "r.csv").write_text("sep=;\nimage;score\nimages\\0.png;2.5\nimages\\1.png;3\n")
    rows = read_rated(str(tmp_path / "r.csv")).rows
    assert [r.score for r in rows] == [Fraction(5, 2), 3] and [r.picture.open().getpixel((0, 0))[0] for r in rows] == [
        0,
        1,
    ]


def test_rated_pictures_elsewhere_need_their_folder_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/r.csv").write_text("image,score\n../0.png,1\n../1.png,2\n")
    with pytest.raises(UserError, match=r"line 2: its picture '\.\./0\.png' lies outside .*own, where none is opened"):
        read_rated(str(tmp_path / "own"))
    rows = read_rated(str(tmp_path / "own"), picture_folder=str(tmp_path)).rows
    assert [r.picture.source for r in rows] == [tmp_path / "0.png", tmp_path / "1.png"]
