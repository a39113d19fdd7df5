from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from foveal.errors import UserError
from foveal.tasks.counting.marking import (
    PALETTE,
    STYLES,
    Resize,
    Style,
    _digits,
    _glyphs,
    contrasting,
    mark,
    to_lab,
    varied_mark,
)
from foveal.tasks.counting.objects import Thing

ALPHAS = (0.2, 0.3, 0.5, 1.0)
lengths = st.integers(1, 5000)


def boxed(x: float, y: float, width: float, height: float) -> Thing:
    return Thing((x, y), (x - width / 2, y - height / 2, x + width / 2, y + height / 2))


def noise(side: int = 96, seed: int = 0) -> Image.Image:
    """A picture with coarse texture."""
    small = np.random.default_rng(seed).integers(0, 256, (side // 6, side // 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def plain(color: tuple[int, int, int] = (120, 120, 120), side: int = 96) -> Image.Image:
    return Image.new("RGB", (side, side), color)


def changed(before: Image.Image, after: Image.Image) -> np.ndarray:
    return np.abs(np.asarray(after, dtype=int) - np.asarray(before, dtype=int)).max(axis=2)


@settings(deadline=None)
@given(lengths, lengths, st.integers(1, 1000), st.floats(0, 1), st.floats(0, 1))
def test_a_point_comes_back_from_a_resize(width: int, height: int, side: int, u: float, v: float) -> None:
    resize = Resize.longest((width, height), side)
    assert max(resize.target) == side
    point = (u * width, v * height)
    there = resize.point(point)
    assert 0 <= there[0] <= resize.target[0] * (1 + 1e-12)
    assert 0 <= there[1] <= resize.target[1] * (1 + 1e-12)
    assert resize.back(there) == pytest.approx(point, abs=1e-6)
    assert resize.inverse.inverse == resize


@pytest.mark.parametrize("size", [(640, 480), (317, 501), (100, 90), (1200, 33)])
@pytest.mark.parametrize("side", [224, 97])
def test_what_is_drawn_at_a_point_is_found_there_after_the_resize_and_marked_there(
    size: tuple[int, int], side: int
) -> None:
    resize = Resize.longest(size, side)
    for share in ((0.31, 0.42), (0.5, 0.5), (0.83, 0.61)):
        point = (share[0] * size[0], share[1] * size[1])
        radius = min(size) / 8
        image = Image.new("RGB", size)
        dot = mark(image, [boxed(*point, 2 * radius, 2 * radius)], "mask", 1, color="white")
        small = np.asarray(resize.image(dot).convert("L"), dtype=float)
        ys, xs = np.mgrid[: small.shape[0], : small.shape[1]] + 0.5
        centre = (float((xs * small).sum() / small.sum()), float((ys * small).sum() / small.sum()))
        assert centre == pytest.approx(resize.point(point), abs=0.1)
        marked = mark(resize.image(image), [Thing(resize.point(point))], "disc", 0.5, color="white")
        weight = np.asarray(marked.convert("L"), dtype=float)
        seen = resize.back((float((xs * weight).sum() / weight.sum()), float((ys * weight).sum() / weight.sum())))
        # Half a pixel of the picture that the model sees, which is what a pixel there can tell.
        limit = [0.5 * max(1, a / b) for a, b in zip(size, resize.target, strict=True)]
        assert abs(seen[0] - point[0]) <= limit[0]
        assert abs(seen[1] - point[1]) <= limit[1]


def test_a_resize_converts_boxes_and_pictures_and_refuses_others() -> None:
    resize = Resize.longest((200, 100), 50)
    assert resize.target == (50, 25)
    assert resize.thing(boxed(100, 40, 20, 10)) == boxed(25, 10, 5, 2.5)
    assert resize.thing(Thing((8, 4))) == Thing((2, 1))
    assert resize.image(Image.new("RGB", (200, 100))).size == (50, 25)
    image = Image.new("RGB", (50, 25))
    assert Resize.longest((50, 25), 50).image(image) is image
    assert Resize.longest((1000, 1), 10).target == (10, 1)
    with pytest.raises(ValueError, match="a picture of"):
        resize.image(image)
    with pytest.raises(ValueError, match="no resize"):
        Resize.longest((10, 10), 0)


def test_colours_in_cielab_have_their_published_values() -> None:
    # Lindbloom's calculator, sRGB at D65.
    expected = [(100, 0, 0), (53.24, 80.09, 67.20), (87.73, -86.18, 83.18), (32.30, 79.19, -107.86), (0, 0, 0)]
    colors = [(255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)]
    np.testing.assert_allclose(to_lab(colors), expected, atol=0.02)


def test_some_colour_of_the_palette_is_far_from_any_colour() -> None:
    axis = np.arange(0, 256, 15)
    colors = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    chosen = np.array(contrasting(colors.tolist()))
    away = np.linalg.norm(to_lab(chosen) - to_lab(colors), axis=1)
    assert away.min() > 129  # a just noticeable difference is about 2.3
    slow = [max(PALETTE, key=lambda p: float(np.linalg.norm(to_lab([p]) - to_lab([c])))) for c in colors[::97]]
    assert [tuple(c) for c in chosen[::97]] == slow
    assert contrasting([]) == []


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_marks_are_seen_on_any_ground_and_more_so_with_a_larger_alpha(style: Style, alpha: float) -> None:
    grounds = [plain(c) for c in [*PALETTE, (0, 0, 0), (255, 255, 255), (120, 120, 120), (120, 135, 150)]]
    for ground in [*grounds, noise()]:
        marked = mark(ground, [boxed(48, 48, 30, 30)], style, alpha)
        touched = changed(ground, marked) > 0
        before, after = (to_lab(np.asarray(i)[touched]) for i in (ground, marked))
        # Pixels at edges are covered in part. A just noticeable difference is about 2.3.
        assert np.quantile(np.linalg.norm(after - before, axis=1), 0.75) > 15 * min(2, alpha / 0.2)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_disc_has_its_colour_alpha_size_and_place(alpha: float) -> None:
    ground = plain((100, 150, 200))
    marked = mark(ground, [boxed(40, 50, 40, 40)], "disc", alpha, color="red", size=0.5)
    pixels = np.asarray(marked, dtype=float)
    expected = (1 - alpha) * np.array([100, 150, 200]) + alpha * np.array([255, 0, 0])
    np.testing.assert_allclose(pixels[50, 40], expected, atol=0.5)
    cover = (pixels[..., 0] - 100) / (155 * alpha)
    assert cover.sum() == pytest.approx(math.pi * 10**2, rel=0.02)
    ys, xs = np.mgrid[:96, :96] + 0.5
    assert (cover * xs).sum() / cover.sum() == pytest.approx(40, abs=0.1)
    assert (cover * ys).sum() / cover.sum() == pytest.approx(50, abs=0.1)


def test_a_box_is_its_outline_and_a_mask_its_ellipse() -> None:
    thing = boxed(48, 48, 60, 30)
    box = np.asarray(mark(plain((0, 0, 0)), [thing], "box", 1, color="white"), dtype=float)[..., 0] / 255
    width = max(2, 0.08 * math.sqrt(60 * 30))
    assert box.sum() == pytest.approx((60 + width) * (30 + width) - (60 - width) * (30 - width), rel=0.01)
    assert box[48, 48] == 0
    assert box[48, 18] == box[33, 48] == 1
    mask = np.asarray(mark(plain((0, 0, 0)), [thing], "mask", 1, color="white"), dtype=float)[..., 0] / 255
    assert mask.sum() == pytest.approx(math.pi * 30 * 15, rel=0.01)
    exact = np.zeros((96, 96))
    drawn = Image.new("L", (96 * 8, 96 * 8))
    ImageDraw.Draw(drawn).ellipse((18 * 8, 33 * 8, 78 * 8 - 1, 63 * 8 - 1), fill=255)
    exact = np.asarray(drawn.resize((96, 96), Image.Resampling.BOX), dtype=float) / 255
    assert np.abs(mask - exact).max() < 0.15
    assert np.abs(mask - exact).mean() < 0.002


@pytest.mark.parametrize("style", STYLES)
def test_sizes_follow_the_object_or_the_picture(style: Style) -> None:
    def area(thing: Thing, side: int, **options: str) -> int:
        ground = plain(side=side)
        return int((changed(ground, mark(ground, [thing], style, 1, **options)) > 0).sum())  # type: ignore[arg-type]

    small, large = boxed(100, 100, 30, 30), boxed(100, 100, 90, 90)
    assert area(large, 200) > 2 * area(small, 200)
    assert area(large, 200, relative="image") == area(small, 200, relative="image") == area(Thing((100, 100)), 200)
    assert area(Thing((100, 100)), 800) > 2 * area(Thing((100, 100)), 200)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("ground", [noise(32, 1), noise(32, 2), plain((0, 0, 0), 32), plain((255, 255, 255), 32)])
def test_numbers_are_legible_at_any_alpha(alpha: float, ground: Image.Image) -> None:
    # The smallest digits; each number is closest to its own glyphs among those of 1 to 60.
    thing = boxed(16, 16, 8, 8)
    size = _digits(thing, 0.5, 1, 60)
    assert size == 10
    for number in (1, 7, 8, 10, 13, 18, 38, 60):
        others = [thing.point] * (number - 1)
        marked = mark(ground, [*(Thing((-99.0, -99.0)) for _ in others), thing], "number", alpha)
        gray = np.asarray(marked.convert("L"), dtype=float)
        fits = {}
        for guess in range(1, 61):
            digits, rim = _glyphs(str(guess), size)
            top = math.floor(16 - digits.shape[0] / 2 + 0.5)
            left = math.floor(16 - digits.shape[1] / 2 + 0.5)
            patch = gray[top : top + digits.shape[0], left : left + digits.shape[1]]
            inside, around = digits > 0.5, (rim > 0.5) & (digits < 0.2)
            fits[guess] = abs(patch[inside].mean() - patch[around].mean()) * math.sqrt(inside.sum())
            if guess == number:
                assert abs(patch[inside].mean() - patch[around].mean()) > 140
        assert max(fits, key=lambda guess: fits[guess]) == number


@pytest.mark.parametrize("style", STYLES)
@settings(deadline=None)
@given(
    x=st.floats(0, 40), y=st.floats(0, 30), width=st.floats(0, 60), height=st.floats(0, 60), alpha=st.floats(0.01, 1)
)
def test_anything_in_a_picture_can_be_marked_and_the_picture_stays(
    style: Style, x: float, y: float, width: float, height: float, alpha: float
) -> None:
    image = Image.new("RGB", (40, 30), (9, 99, 199))
    left, top, right, bottom = max(0, x - width), max(0, y - height), min(40, x + width), min(30, y + height)
    marked = mark(image, [Thing((x, y), (left, top, right, bottom)), Thing((x, y))], style, alpha)
    assert marked.size == (40, 30)
    assert set(image.getdata()) == {(9, 99, 199)}
    if alpha >= 0.2:
        assert changed(image, marked).max() > 0


def test_varied_marks_are_of_one_alpha_size_and_colour_that_the_seed_decides_and_are_seen() -> None:
    alphas, sizes, hues = [], [], set()
    for seed in range(120):
        ground = plain(tuple(np.random.default_rng(seed).integers(0, 256, 3).tolist()))
        things = [boxed(24, 24, 20, 20), boxed(70, 70, 20, 20)]
        marked = varied_mark(ground, things, size=1.2, seed=str(seed))
        assert np.array_equal(np.asarray(marked), np.asarray(varied_mark(ground, things, size=1.2, seed=str(seed))))
        before, after = np.asarray(ground, float), np.asarray(marked, float)
        assert np.array_equal(after[24, 24], after[70, 70])
        moved = after[24, 24] - before[24, 24]
        # At an alpha of 0.2; a just noticeable difference is about 2.3.
        assert np.linalg.norm(to_lab([after[24, 24]]) - to_lab([before[24, 24]])) > 7
        channel = int(np.abs(moved).argmax())
        cover = (after[:48, :48, channel] - before[:48, :48, channel]) / moved[channel]
        sizes.append(2 * math.sqrt(cover.sum() / math.pi) / 20 / 1.2)
        hues.add(tuple(np.round(moved / np.abs(moved).max(), 1)))
        alphas.append(np.abs(moved).max() / 255)
    assert min(sizes) > 0.74 and max(sizes) < 1.26 and min(sizes) < 0.8 and max(sizes) > 1.2
    assert len(hues) > 60 and min(alphas) < 0.2 and max(alphas) > 0.6


def test_a_quarter_of_varied_pictures_has_the_colour_that_contrasts_most() -> None:
    ground, thing = plain((222, 32, 38)), boxed(48, 48, 40, 40)
    ink = np.array(contrasting([(222, 32, 38)])[0]) - (222, 32, 38)
    same = 0
    for seed in range(400):
        moved = np.asarray(varied_mark(ground, [thing], seed=str(seed)), float)[48, 48] - (222, 32, 38)
        same += bool(moved @ ink / np.linalg.norm(moved) / np.linalg.norm(ink) > 0.999)
    assert same / 400 == pytest.approx(0.25, abs=0.07)


def test_no_things_leave_the_picture_as_it_is_in_another_copy() -> None:
    image = noise()
    marked = mark(image, [])
    assert marked is not image
    assert changed(image, marked).max() == 0


@pytest.mark.parametrize("style", STYLES)
def test_sixty_marks_take_milliseconds(style: Style) -> None:
    image = noise(222)
    things = [boxed(12 + 20 * (k % 10), 12 + 30 * (k // 10), 18, 22) for k in range(60)]
    mark(image, things, style)
    times = []
    for _ in range(5):
        start = time.process_time()
        mark(image, things, style)
        times.append(time.process_time() - start)
    assert min(times) < 0.05  # about 5 ms on a core of its own


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "above 0"),
        ({"alpha": 1.1}, "at most 1"),
        ({"alpha": math.nan}, "at most 1"),
        ({"size": 0}, "above 0"),
        ({"color": "octarine"}, "contrast, a name or #rrggbb"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        mark(plain(), [], **options)  # type: ignore[arg-type]
