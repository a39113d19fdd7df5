from __future__ import annotations

import pickle
from itertools import product

import pytest

from foveal.drawing.figures import COLOURS, SHAPES, Figure
from foveal.tasks.segmentation.sentences import KINDS, NOUNS, PICKS, Request


def figure(name: str, x: float = 0.5, y: float = 0.5, radius: float = 0.1) -> Figure:
    colour, noun = name.split()
    return Figure(next(shape for shape, word in NOUNS.items() if word == noun), colour, x, y, radius)


# Left to right, with sizes that go up and down.
ROW = [
    figure("red circle", 0.1, 0.2, 0.06),
    figure("blue circle", 0.3, 0.8, 0.08),
    figure("red square", 0.5, 0.5, 0.14),
    figure("green star", 0.7, 0.3, 0.1),
    figure("red circle", 0.9, 0.7, 0.12),
]


@pytest.mark.parametrize(
    ("request_", "phrase", "sentence"),
    [
        (Request("the", "red", "circles"), "the red circle", "What is the red circle?"),
        (Request("all", "blue"), "all blue shapes", "What are the blue shapes?"),
        (Request("all", "", "crosses"), "all crosses", "What are the crosses?"),
        (
            Request("largest", "red", without="circles"),
            "the largest red shape that is not a circle",
            "What is the largest red shape that is not a circle?",
        ),
        (
            Request("smallest", "", "stars", "red"),
            "the smallest star that is not red",
            "What is the smallest star that is not red?",
        ),
        (Request("all", "red", without="circles"), "all red shapes that are not circles", "What are the red shapes"),
        (Request("top right"), "the top right shape", "What is the top right shape?"),
        (Request("alone"), "the only shape of its colour", "What is the only shape of its colour?"),
        (Request("pair"), "the two shapes of one colour", "What are the two shapes of one colour?"),
    ],
)
def test_requests_are_written_as_phrases_and_as_sentences(request_: Request, phrase: str, sentence: str) -> None:
    assert request_.text == phrase
    assert request_.sentence.startswith(sentence)
    assert request_.sentence.endswith("?")


@pytest.mark.parametrize(
    ("request_", "meant"),
    [
        (Request("the", "blue", "circles"), (1,)),
        (Request("the", "", "stars"), (3,)),
        (Request("all", "red"), (0, 2, 4)),
        (Request("all", "red", "circles"), (0, 4)),
        (Request("largest"), (2,)),
        (Request("largest", "", "circles"), (4,)),
        (Request("largest", "red", without="squares"), (4,)),
        (Request("smallest", "", "circles", "red"), (1,)),
        (Request("smallest", without="red"), (1,)),
        (Request("leftmost", "red"), (0,)),
        (Request("leftmost", without="red"), (1,)),
        (Request("rightmost", without="circles"), (3,)),
        (Request("topmost", "red"), (0,)),
        (Request("bottommost"), (1,)),
        (Request("top left"), (0,)),
        (Request("bottom right"), (4,)),
        (Request("top right", "", "circles"), (4,)),
        (Request("largest", "purple"), ()),
        (Request("all", "green", "circles"), ()),
        (Request("largest", "blue", without="circles"), ()),
    ],
)
def test_requests_mean_the_figures_that_a_reader_would_point_at(request_: Request, meant: tuple[int, ...]) -> None:
    assert request_.select(ROW) == meant


def test_oddities_go_by_how_often_colours_occur() -> None:
    assert Request("alone").select(ROW) == (1, 3) and not Request("alone").clear(ROW)
    assert Request("pair").select(ROW) == () and not Request("pair").clear(ROW), "three of a colour are two and one"
    four = [ROW[0], ROW[1], ROW[2], ROW[3]]
    assert Request("pair").select(four) == (0, 2) and Request("pair").clear(four)
    three = [ROW[0], ROW[1], ROW[2]]
    assert Request("alone").select(three) == (1,) and Request("alone").clear(three)
    # Nothing is meant, beyond doubt.
    assert Request("alone").select([ROW[0], ROW[2]]) == () and Request("alone").clear([ROW[0], ROW[2]])
    assert Request("pair").select(ROW[1:4]) == () and Request("pair").clear(ROW[1:4])
    twice = [ROW[0], ROW[2], ROW[1], figure("blue star")]
    assert Request("pair").select(twice) == (0, 1, 2, 3) and not Request("pair").clear(twice)


def test_what_is_unclear_is_refused() -> None:
    assert not Request("the", "red").clear(ROW), "there are three"
    assert not Request("all", "green").clear(ROW), "there is one"
    assert not Request("largest", "green").clear(ROW), "there is one to choose from"
    assert not Request("largest", "red", without="stars").clear(ROW), "no red star is left out"
    assert not Request("largest", "red", without="circles").clear(ROW), "without the words it means the same"
    assert not Request("top right", "", "circles").clear(ROW), "it lies at the bottom"
    row = [*ROW, figure("blue star", 0.5, 0.9, 0.16)]
    assert Request("largest", without="stars").select(row) == Request("largest").select(row) == (2,)
    assert not Request("largest", without="squares").clear(row), "the square is hardly larger than the star"
    assert Request("largest", without="squares").select(row) == (5,)
    assert Request("bottom right").clear(ROW) and Request("topmost", "red").clear(ROW)
    assert Request("largest", "purple").clear(ROW), "none is there"
    assert not Request("largest", "purple", without="circles").clear(ROW)


@pytest.mark.parametrize(("ratio", "clear"), [(1.15, False), (1.19, False), (1.21, True), (1.5, True)])
def test_sizes_that_are_compared_differ_by_a_fifth(ratio: float, clear: bool) -> None:
    pair = [figure("red circle", 0.2, 0.2, 0.08), figure("red circle", 0.7, 0.7, 0.08 * ratio)]
    assert Request("largest").clear(pair) == clear
    assert Request("smallest").clear(pair) == clear


def test_a_larger_area_in_a_smaller_box_is_unclear() -> None:
    # A ring of radius 1.25 is larger by its box (2.25 to 1.68), hardly so by what is coloured (1.70 to 1.49).
    pair = [figure("red circle", 0.2, 0.2, 0.1), figure("red ring", 0.7, 0.7, 0.125)]
    assert not Request("largest").clear(pair)
    assert Request("largest").clear([pair[0], figure("red ring", 0.7, 0.7, 0.14)])


@pytest.mark.parametrize(("step", "clear"), [(0.02, False), (0.05, False), (0.07, True)])
def test_places_that_are_compared_lie_apart(step: float, clear: bool) -> None:
    pair = [figure("red circle", 0.2, 0.2), figure("red circle", 0.2 + step, 0.7)]
    assert Request("leftmost").clear(pair) == clear
    # The box has to lead as well: a large figure farther right may begin farther left.
    assert not Request("leftmost").clear([pair[0], figure("red circle", 0.28, 0.7, 0.2)])


@pytest.mark.parametrize(("x", "clear"), [(0.93, True), (0.75, True), (0.6, True), (0.55, False), (0.4, False)])
def test_corners_belong_to_figures_in_their_quarter(x: float, clear: bool) -> None:
    assert Request("top right").clear([figure("red circle", x, 0.1), figure("blue circle", 0.1, 0.9)]) == clear
    # Closest by the straight way, but not by the farther one: two people may disagree.
    assert not Request("top right").clear([figure("red circle", 0.7, 0.05), figure("red circle", 0.75, 0.25)])


def test_few_words_say_all() -> None:
    words: set[str] = set()
    for pick, colour, shape in product([p for kind in KINDS for p in PICKS[kind]], ["", *COLOURS], ["", *NOUNS]):
        for without in ("", "red", "circles"):
            asked = Request(pick, colour, shape, without)
            words |= {*asked.text.split(), *asked.sentence.rstrip("?").split()}
            assert asked.kind in KINDS and pickle.loads(pickle.dumps(asked)) == asked
    assert set(COLOURS) < words and set(NOUNS.values()) < words and set(NOUNS) < words
    assert len(words) == len(COLOURS) + 2 * len(NOUNS) + 26
    assert set(NOUNS) < set(SHAPES)
