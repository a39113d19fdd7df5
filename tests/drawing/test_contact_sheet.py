import pytest
from PIL import Image

from foveal.drawing.contact_sheet import contact_sheet, wrap


def red(width=40, height=40):
    return Image.new("RGB", (width, height), "red")


def by_characters(text):
    return float(len(text))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("short", ["short"]),
        ("two words", ["two words"]),
        ("three small words", ["three small", "words"]),
        ("abcdefghijklmnopqrstuvw", ["abcdefghijkl", "mnopqrstuvw"]),
        ("a abcdefghijklmnopqr", ["a", "abcdefghijkl", "mnopqr"]),
        ("one two three four five six seven eight nine", ["one two", "three four", "five six se…"]),
        ("first\nsecond", ["first", "second"]),
    ],
)
def test_wrap(text, lines):
    found = wrap(text, 12, by_characters, 3)
    assert all(len(line) <= 12 for line in found)
    assert found == lines or (found[:2] == lines[:2] and found[2].endswith("…") and lines[2].endswith("…"))


def test_a_width_that_fits_nothing_still_ends():
    assert wrap("abc", 0.5, by_characters, 5) == ["a", "b", "c"]


def test_size_and_places():
    sheet = contact_sheet([(red(), "") for _ in range(5)], columns=3, cell=100)
    assert sheet.size == (12 + 3 * 112, 12 + 2 * 112)
    for place in range(5):
        x, y = 12 + place % 3 * 112, 12 + place // 3 * 112
        assert sheet.getpixel((x, y)) == sheet.getpixel((x + 99, y + 99)) == (255, 0, 0)
        assert sheet.getpixel((x - 5, y - 5)) == (255, 255, 255)
    assert sheet.getpixel((12 + 2 * 112 + 50, 12 + 112 + 50)) == (255, 255, 255)


def test_pictures_keep_their_shape_in_the_middle_of_the_cell():
    sheet = contact_sheet([(red(200, 50), "")], columns=4, cell=100)
    assert sheet.size == (124, 124)
    assert sheet.getpixel((62, 62)) == (255, 0, 0)
    assert sheet.getpixel((62, 12 + 36)) == (255, 255, 255)
    assert sheet.getpixel((62, 12 + 39)) == (255, 0, 0)


def test_captions_are_written_below_and_need_room():
    plain, named = contact_sheet([(red(), "")], 1), contact_sheet([(red(), "truth 2, answer 1")], 1)
    assert named.height > plain.height
    below = named.crop((12, 12 + 162, 172, named.height))
    assert below.getextrema()[0][0] < 80
    assert contact_sheet([(red(), "word " * 200)], 1).height == contact_sheet([(red(), "a\nb\nc")], 1).height


def test_marks_differ_in_shape_and_colour():
    none, right, wrong = (contact_sheet([(red(), "")], 1, marks=[m]) for m in (None, True, False))
    assert none.tobytes() == contact_sheet([(red(), "")], 1).tobytes()
    assert len({none.tobytes(), right.tobytes(), wrong.tobytes()}) == 3
    paper = [[sum(p == 255 for p in i.convert("RGB").getchannel("G").tobytes())] for i in (right, wrong)]
    assert paper[0] != paper[1]


@pytest.mark.parametrize(
    ("items", "columns", "cell", "marks"),
    [
        ([], 3, 160, None),
        ([(red(), "")], 0, 160, None),
        ([(red(), "")], 1, 4, None),
        ([(red(), "")], 1, 160, [True, False]),
    ],
)
def test_impossible_sheets_are_refused(items, columns, cell, marks):
    with pytest.raises(ValueError, match="no contact sheet"):
        contact_sheet(items, columns, cell, marks=marks)
