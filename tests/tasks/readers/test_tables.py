from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from foveal.errors import ImageError, UserError
from foveal.tasks.readers.annotations import json_in
from foveal.tasks.readers.pictures import find_picture, picture_path
from foveal.tasks.readers.tables import csv_rows, kind_of, read_csv

INT, TEXT, BINARY = ({"_type": "Value", "dtype": dtype} for dtype in ("int64", "string", "binary"))
IMAGE = {"_type": "Image"}
CAT_DOG = {"_type": "ClassLabel", "names": ["cat", "dog"]}
DIGITS = {"_type": "ClassLabel", "names": list("0123456789")}
LIST = {"_type": "List", "feature": INT}
PATHS = ["a/1.jpg", "a/2.jpg", "b/1.JPG"]
JPEG, PNG = b"\xff\xd8\xff\xe0" + bytes(8), b"\x89PNG\r\n\x1a\n" + bytes(8)


@pytest.mark.parametrize(
    ("feature", "samples", "kind"),
    [
        (IMAGE, [], "image"),
        (CAT_DOG, [], "class"),
        (DIGITS, [], "integer"),
        (LIST, [], "list"),
        ([INT], [], "list"),
        ({"_type": "Array2D"}, [], "list"),
        ({"bbox": LIST}, [], "group"),
        ("uint8", [], "integer"),
        ("double", [], "float"),
        ("bool", [], "bool"),
        (BINARY, [JPEG, PNG], "encoded"),
        ("large_binary", [b"%PDF-1.4"], "other"),
        (BINARY, [b"damaged", PNG], "encoded"),
        (TEXT, PATHS, "path"),
        (TEXT, ["", *PATHS], "path"),
        (TEXT, ["a.jpg", "b"], "text"),
        ("large_string", [], "text"),
        ("struct<x: int64>", [], "group"),
        ({"_type": "Audio"}, [], "other"),
        ("timestamp[ns]", [], "other"),
    ],
)
def test_kinds(feature: Any, samples: list[Any], kind: str) -> None:
    assert kind_of(feature, samples) == kind


@pytest.mark.parametrize("read", [csv_rows, read_csv])
@pytest.mark.parametrize(
    ("name", "text"),
    [("r.csv", "image,score\na.png,2,5\n"), ("r.csv", "image;score\na.png;2;5\n"), ("r.tsv", "image\tscore\na.png\t2\t5\n"),
     ("r.csv", "sep=;\nimage;score\na.png;2;\n"), ("r.TSV", "image\tscore\na.png\t2\t5\n")],
)  # fmt: skip
def test_more_cells_than_columns_are_refused_with_the_line(tmp_path: Path, read: Any, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    line = 3 if text.startswith("sep") else 2
    with pytest.raises(UserError) as refused:
        read(tmp_path / name)
    more = "; a cell with a comma needs quotes around it, and a decimal a point" if "e,s" in text else ""
    assert str(refused.value) == f"{tmp_path / name}, line {line}: has 3 cells, not 2; correct the line{more}."


@pytest.mark.parametrize(
    "text",
    ["image,label\n\"a,b.png\",x;y\n", "image;label\n'a,b.png';'x;y'\n", "image\tlabel\na,b.png\tx;y\n\t\n",
     "sep=|\nimage|label\na,b.png|x;y\n", '"sep=;"\r\n"image";"label"\r\n"a,b.png";"x;y"\r\n', "image,label\n,\n\"a,b.png\",x;y\n"],
)  # fmt: skip
def test_commas_semicolons_tabs_and_excels_first_line_are_recognised(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.csv").write_text(text.replace("'", '"'), encoding="utf-8-sig")
    header, ((_, row),) = csv_rows(tmp_path / "r.csv")
    assert (header, row) == (["image", "label"], {"image": "a,b.png", "label": "x;y"})
    assert read_csv(tmp_path / "r.csv").columns == {"image": ["a,b.png"], "label": ["x;y"]}


def test_a_quote_that_is_not_closed_and_two_columns_of_one_name_are_refused_in_every_table(tmp_path: Path) -> None:
    for text, what in (
        ('image,score\n"a.png,1\nb.png,2\n', "cannot be read"),
        ("x,x\n1,2\n", "two columns are called 'x'"),
    ):
        (tmp_path / "r.csv").write_text(text)
        for read in (csv_rows, read_csv):
            with pytest.raises(UserError, match=what):
                read(tmp_path / "r.csv")


def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.csv")
    with pytest.raises(UserError, match=r"r\.csv: is a pipe; give a file"):
        read_csv(tmp_path / "r.csv")


@pytest.mark.parametrize(
    "path", ["../secret.png", "a/../../secret.png", "/etc/secret.png", "..\\secret.png", "a/../../own-else/x.png"]
)
def test_paths_that_leave_the_data_are_refused_unless_their_folder_is_named(tmp_path: Path, path: str) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    with pytest.raises(ImageError) as refused:
        picture_path(own, path, "t.csv, line 2", (own,))
    assert str(refused.value) == (
        f"t.csv, line 2: its picture {path!r} lies outside {own}, where none is opened; move it there, or, if you trust "
        "the table, give its folder as data.picture_folder."
    )
    assert picture_path(own, path, "", (own, Path("/"))).is_absolute()


def test_paths_inside_the_data_may_take_any_form(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/p.png").write_bytes(b"x")
    for path in ("../images/p.png", str(tmp_path / "images/p.png"), "..\\images\\p.png", "./../images/./p.png"):
        assert picture_path(tmp_path / "tables", path, "", (tmp_path,)) == tmp_path / "images/p.png"
    # A file whose name has a backslash is read by that name.
    (tmp_path / "a\\b.png").write_bytes(b"x")
    assert picture_path(tmp_path, "a\\b.png", "") == tmp_path / "a\\b.png"
    # Relative paths are looked for in the named folder, too.
    other = tmp_path / "images"
    assert picture_path(tmp_path / "tables", "p.png", "", (tmp_path / "tables", other)) == other / "p.png"


@pytest.mark.parametrize("path", ["https://x.org/1.png", "https:/x.org/1.png", "S3://b/1.png", "file:///etc/x.png"])
def test_addresses_are_refused_as_they_were_written(path: str) -> None:
    with pytest.raises(UserError, match=f"line 3: {path} is an address, and none is fetched"):
        picture_path(Path("x"), path, "line 3")


def test_names_in_annotations_cannot_lead_out_of_the_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (folder / "p.png").write_bytes(b"x")
    assert find_picture("p.png", [folder]) == folder / "p.png" and find_picture("q.png", [folder]) is None
    assert find_picture("../secret.png", [folder, tmp_path]) == folder / "../secret.png"
    for name in ("../secret.png", str(tmp_path / "secret.png")):
        with pytest.raises(ImageError, match=r"leads out of .*own, and no picture elsewhere is opened"):
            find_picture(name, [folder])


@pytest.mark.parametrize(
    ("text", "what"),
    [('{"a": "\\ud800"}', "half a character"), ("[" * 100_000, "nested too deeply"), ("9" * 5000, "is no JSON (Exceeds the limit")],
)  # fmt: skip
def test_odd_json_is_a_sentence(text: str, what: str) -> None:
    with pytest.raises(UserError) as refused:
        json_in(text, "f.json")
    assert str(refused.value).startswith("f.json: ") and what in str(refused.value)
    assert json_in('"\\ud83d\\ude00 \\udcff"', "f.json") == "😀 \udcff"
