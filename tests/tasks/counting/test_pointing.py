from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from point_formats import resolution

from foveal.errors import UserError
from foveal.tasks.counting.objects import Point
from foveal.tasks.counting.pointing import (
    DONE,
    FORMS,
    Form,
    conclusion,
    is_done,
    read_number,
    read_point,
    read_points,
    write_point,
    write_points,
)

SIZE = (200, 100)
forms = st.sampled_from(FORMS)
shares = st.tuples(st.floats(0, 1), st.floats(0, 1))
sizes = st.tuples(st.integers(1, 4000), st.integers(1, 4000))
labels = st.text(max_size=20)


def close(read: Point, written: Point, size: tuple[int, int], form: Form) -> bool:
    return all(abs(a - b) <= limit + 1e-6 for a, b, limit in zip(read, written, resolution(size, form), strict=True))


@settings(deadline=None)
@given(shares, sizes, forms, labels)
def test_a_written_point_is_read_within_the_resolution(
    share: Point, size: tuple[int, int], form: Form, label: str
) -> None:
    point = (share[0] * size[0], share[1] * size[1])
    read = read_point(write_point(point, size, form, label), size, form)
    assert isinstance(read, tuple)
    assert close(read, point, size, form)
    assert 0 <= read[0] <= size[0]
    assert 0 <= read[1] <= size[1]


@settings(deadline=None)
@given(st.lists(shares, max_size=30), sizes, forms, labels)
def test_all_points_are_read_in_their_order(points: list[Point], size: tuple[int, int], form: Form, label: str) -> None:
    points = [(x * size[0], y * size[1]) for x, y in points]
    text = write_points(points, size, form, label)
    read = read_points(text, size, form)
    assert read is not None
    assert len(read) == len(points)
    assert all(close(a, b, size, form) for a, b in zip(read, points, strict=True))
    single = read_point(text, size, form)
    assert (single is None) == (len(points) > 1)
    assert (single == DONE) == (not points)


@settings(deadline=None)
@given(shares, forms)
def test_writing_what_was_read_changes_nothing(share: Point, form: Form) -> None:
    text = write_point((share[0] * 384, share[1] * 384), (384, 384), form)
    read = read_point(text, (384, 384), form)
    assert isinstance(read, tuple)
    assert write_point(read, (384, 384), form) == text


@settings(deadline=None)
@given(st.text(alphabet='0123456789.,;<>xypointdone="/ \n-en%()', max_size=60), forms)
def test_any_text_is_read_as_points_inside_the_picture_or_not_at_all(text: str, form: Form) -> None:
    for x, y in read_points(text, SIZE, form) or ():
        assert 0 <= x <= SIZE[0]
        assert 0 <= y <= SIZE[1]
    read_number(text)


def test_the_formats_by_hand() -> None:
    point = (127.0, 44.5)
    assert write_point(point, SIZE, "percent", "apples") == '<point x="63.5" y="44.5" alt="apples">apples</point>'
    assert write_point(point, SIZE, "plain", "apples") == "63.5, 44.5"
    assert write_point(point, SIZE, "bins", "apples") == "63 44"
    assert write_point((14.0, 100.0), SIZE, "bins") == "07 99"
    many = [point, (24.0, 30.1)]
    assert write_points(many, SIZE, "percent", "apples") == (
        '<points x1="63.5" y1="44.5" x2="12.0" y2="30.1" alt="apples">apples</points>'
    )
    assert write_points(many, SIZE, "plain") == "63.5, 44.5; 12.0, 30.1"
    assert write_points(many, SIZE, "bins") == "63 44; 12 30"
    assert write_points([], SIZE, "bins") == "done"
    assert read_point("63 44", SIZE, "bins") == (127, 44.5)
    assert resolution(SIZE, "bins") == (1, 0.5)
    assert resolution(SIZE, "plain") == (0.1, 0.05)


def test_a_label_with_markup_stays_a_label() -> None:
    label = '6" <point x="1" y="2"> & \'more\''
    text = write_point((20, 20), SIZE, "percent", label)
    assert read_points(text, SIZE, "percent") == [(20, 20)]


@pytest.mark.parametrize(
    ("reply", "form"),
    [
        (' <point x="10.0" y="20.0" alt="a">a</point>', "percent"),
        ('The next is <point x="10" y="20">', "percent"),
        ("<point x='10.00' y='20.0' alt='an apple", None),
        ('<point y="20.0" x="10.0" alt="a"', None),
        ('<point y="20.0" x="10.0" alt="a">', "percent"),
        ('<points x1="10.0" y1="20.0" alt="a">a</points>', "percent"),
        ("10.0, 20.0", "plain"),
        (" (10,20).", "plain"),
        ("10%, 20%", "plain"),
        ("9.75, 19.5", None),
        ("<SUMMARY>I see 3, 4</SUMMARY><CONCLUSION>10.0, 20.0</CONCLUSION>", "plain"),
        ("<REASONING>50, 50</REASONING>\n<CONCLUSION> 10.0, 20.0", "plain"),
        ("<CONCLUSION>done</CONCLUSION><CONCLUSION>10.0, 20.0</CONCLUSION> 1, 2", "plain"),
    ],
)
def test_what_is_read_as_the_point_at_a_tenth_and_a_fifth(reply: str, form: Form | None) -> None:
    if form is None:
        assert read_point(reply, SIZE, "percent") is None
        assert read_point(reply, SIZE, "plain") != (20, 20)
    else:
        assert read_point(reply, SIZE, form) == pytest.approx((20, 20))


@pytest.mark.parametrize(
    ("reply", "form"),
    [
        ("nan, 20", "plain"), ("inf, 20", "plain"), ("-1, 20", "plain"), ("100.1, 20", "plain"), ("20", "plain"),
        ("1e1, 20", "plain"), ("1, 2, 3", "plain"), ("10 20", "plain"), ("1, 2; 3, 4", "plain"), ("", "plain"),
        ("10, 20 done", "plain"), ("١, ٢", "plain"), ("10, 20;", "plain"), ("I am done", "plain"),
        ("100 20", "bins"), ("63.5 44", "bins"), ("-1 20", "bins"), ("63 44 12", "bins"), ("6344", "bins"),
        ("10, 20", "percent"), ('<point x="10">', "percent"), ('<point x="10" y="nan">', "percent"),
        ('<point x="10" y="-2">', "percent"), ('<point x="10" y="200">', "percent"), ("<point>", "percent"),
        ('<point x="10" y="20" x="30">', "percent"), ('<point x1="1" y1="2" x2="3" y2="4">', "percent"),
        ('<point x="1" y="2"></point><point x="3" y="4"></point>', "percent"), ('<point x=10 y=20>', "percent"),
        ('<points x1="1" y1="2" x2="3" y2="4">', "percent"), ('<point x="1" y="2"><point x="3', "percent"),
        ("<SUMMARY>10, 20</SUMMARY>", "plain"), ("<REASONING>done", "bins"),
    ],
)  # fmt: skip
def test_what_is_no_single_point_is_none(reply: str, form: Form) -> None:
    assert read_point(reply, SIZE, form) is None


def test_several_points_are_read_where_all_are_asked_for() -> None:
    two = [(2, 2), (6, 4)]
    assert read_points('<points x1="1" y1="2" x2="3" y2="4" alt="a">a</points>', SIZE, "percent") == two
    assert read_points('There are 2: <points x2="3" y2="4" x1="1" y1="2">', SIZE, "percent") == two
    assert read_points('<point x="1" y="2">a</point> <point x="3" y="4">a</point>', SIZE, "percent") == two
    assert read_points('<points x1="1" y1="2" x2="3">', SIZE, "percent") is None
    assert read_points('<points x1="1" y1="2" x2="3" y2="400">', SIZE, "percent") is None
    assert read_points("1, 2; 3, 4", SIZE, "plain") == two
    assert read_points("1, 2; 3", SIZE, "plain") is None
    assert read_points("Done.", SIZE, "percent") == []


def test_done_is_the_word_alone() -> None:
    assert [is_done(text) for text in ("done", " Done. ", '"DONE"', "**done**")] == [True] * 4
    assert [is_done(text) for text in ("", "not done", "done 5", "do ne", "abandoned")] == [False] * 5
    assert read_point("<CONCLUSION>done</CONCLUSION>", SIZE, "bins") == DONE


def test_only_the_conclusion_of_stages_counts() -> None:
    stages = "<SUMMARY> a </SUMMARY>\n\n<CAPTION> b </CAPTION>\n\n<REASONING> 8 </REASONING>\n\n<CONCLUSION> 7 "
    assert conclusion(stages + "</CONCLUSION> 9") == " 7 "
    assert conclusion(stages) == " 7 "
    assert conclusion("<SUMMARY> 5") is None
    assert conclusion("no stages: 5") == "no stages: 5"


@pytest.mark.parametrize(
    ("reply", "count"),
    [
        ("7", 7), ("There are 7 apples.", 7), ("**7**", 7), ("{7}", 7), ("{7} of 9", 7), ("Count: 7", 7), ("0", 0),
        ("3 red and 4 green: 7 in all", 7), ("1,234 grains", 1234), ("3, 4", 4), ("7.", 7), ("(7)", 7), ("=7", 7),
        ("<REASONING>5</REASONING><CONCLUSION>There are 7.", 7), ("<REASONING>7", None), ("", None), ("seven", None),
        ("7.5", None), ("-7", None), ("7%", None), ("7 %", None), ("1/7", None), ("7th", None), ("v7", None),
        ("3-7", None), ("7-9", None), ("nan", None), ("7.5, 6.25", None), ("#7", None), ("12345678901", None),
        ('<point x="63.5" y="44.5">', None), ('<point x="63" y="44">', None), ("63 44", None), ("<b>7</b>", 7),
        ('Counting the <points x1="1" y1="2" x2="3" y2="4">cats</points> shows a total of 2.', 2),
    ],
)  # fmt: skip
def test_reading_a_number(reply: str, count: int | None) -> None:
    assert read_number(reply) == count


@pytest.mark.parametrize("point", [(-1, 5), (201, 5), (float("nan"), 5), (5, float("inf"))])
def test_a_point_outside_its_picture_is_not_written(point: Point) -> None:
    for form in FORMS:
        with pytest.raises(UserError, match="not inside its picture of 200 x 100"):
            write_point(point, SIZE, form)
