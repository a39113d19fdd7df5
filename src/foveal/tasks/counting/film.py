"""The count as a film: one frame for each object, with the marks so far and a ring around the next point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from foveal.images import upright_rgb
from foveal.metrics.formats import percent
from foveal.tasks.counting.marking import Relative, Resize, Style, mark
from foveal.tasks.counting.objects import Point, Thing

#: Longest side of a frame's picture in pixels.
SIDE: Final = 480
_PAPER, _INK, _QUIET = "#ffffff", "#1c2126", "#5f6b76"
_GAP: Final = 12
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def frames(
    image: Image.Image, things: Sequence[Thing], category: str, *, style: Style = "disc", alpha: float = 0.5,
    color: str = "contrast", size: float = 0.5, relative: Relative = "object", ending: str = "done",
    confidences: Sequence[float | None] | None = None, side: int = SIDE,
) -> list[Image.Image]:  # fmt: skip
    """The frames of a count, all of one size.

    Frame k, from 0, has marks on the first k things and a ring with a cross around the next; the last frame has all
    marks. Below the picture stand the count so far and what happened.

    Args:
        image: The picture.
        things: What was pointed at, in this order, in pixels of the picture; a box is used where there is one.
        category: What was counted.
        style: See ``mark``.
        alpha: See ``mark``.
        color: See ``mark``.
        size: See ``mark``.
        relative: See ``mark``.
        ending: How the count ended, e.g. ``done`` or ``stopped at the limit``; stands on the last frame.
        confidences: Of each point and of the ending, where they are known.
        side: Longest side of the picture in a frame, in pixels; small pictures are enlarged.

    Returns:
        One frame more than there are things.

    Raises:
        ValueError: There are other than len(things) + 1 confidences.
        UserError: See ``mark``.
    """
    if confidences is not None and len(confidences) != len(things) + 1:
        raise ValueError(f"{len(confidences)} confidences of {len(things)} points and an ending")
    image = upright_rgb(image)
    resize = Resize.longest(image.size, side)
    picture, things = resize.image(image), [resize.thing(thing) for thing in things]
    captions = _captions(len(things), category, ending, confidences or [None] * (len(things) + 1))
    font = ImageFont.load_default(max(11, round(side / 26)))
    # All frames have the height that the longest caption needs.
    lines = 1 if all(font.getlength("".join(c)) + 3 * _GAP <= picture.width for c in captions) else 2
    pictures = []
    for k, caption in enumerate(captions):
        marked = mark(picture, things[:k], style, alpha, color=color, size=size, relative=relative)
        if k < len(things):
            _ring(marked, things[k], side)
        pictures.append(_with_caption(marked, caption, lines, font))
    return pictures


def _captions(number: int, category: str, ending: str, confidences: Sequence[float | None]) -> list[tuple[str, str]]:
    """The count so far and what happened, for each frame."""
    events = [*(f"next: {k + 1}" for k in range(number)), ending]
    sure = ["" if c is None else f"  ({percent(c, places=0)})" for c in confidences]
    return [(f"{k} {category}", events[k] + sure[k]) for k in range(number + 1)]


def _ring(image: Image.Image, thing: Thing, side: int) -> None:
    """Draws a ring with the beginnings of a cross around a point, dark on light so that it is seen on any ground."""
    radius = max(side / 32, 0.35 * (thing.extent or 0))
    # Four times as large and then shrunk: Pillow's own lines are not smooth.
    scale, reach = 4, math.ceil(radius * 1.6) + 3
    x, y = thing.point
    left, top = math.floor(x) - reach, math.floor(y) - reach
    light, dark = (Image.new("L", (2 * reach * scale,) * 2) for _ in range(2))
    centre: Point = ((x - left) * scale, (y - top) * scale)
    for canvas, wide in ((light, side / 80), (dark, side / 200)):
        _draw_ring(ImageDraw.Draw(canvas), centre, radius * scale, max(1, round(max(wide, 1.5) * scale)))
    for canvas, ink in ((light, "#ffffff"), (dark, "#111111")):
        shrunk = canvas.resize((2 * reach, 2 * reach), Image.Resampling.BOX)
        image.paste(Image.new("RGB", shrunk.size, ink), (left, top), shrunk)


def _draw_ring(draw: ImageDraw.ImageDraw, centre: Point, radius: float, wide: int) -> None:
    x, y = centre
    outer = radius + wide / 2
    draw.ellipse((x - outer, y - outer, x + outer, y + outer), outline=255, width=wide)
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        near, far = radius * 0.75, radius * 1.45 + wide / 2
        draw.line((x + dx * near, y + dy * near, x + dx * far, y + dy * far), fill=255, width=wide)


def _with_caption(picture: Image.Image, caption: tuple[str, str], lines: int, font: _Font) -> Image.Image:
    """A picture above two texts: one at the left and one at the right, or on two lines below each other."""
    top, bottom = font.getbbox("Ag")[1::2]
    leading = round(1.35 * (bottom - top))
    frame = Image.new("RGB", (picture.width, math.ceil(picture.height + leading * lines + 0.7 * _GAP)), _PAPER)
    frame.paste(picture, (0, 0))
    draw = ImageDraw.Draw(frame)
    y = picture.height + 0.5 * _GAP - top
    left, right = (_cut(text, picture.width - 2 * _GAP, font) for text in caption)
    draw.text((_GAP, y), left, fill=_INK, font=font)
    at = (picture.width - _GAP - font.getlength(right), y) if lines == 1 else (_GAP, y + leading)
    draw.text(at, right, fill=_QUIET, font=font)
    return frame


def _cut(text: str, width: float, font: _Font) -> str:
    """A text, shortened with an ellipsis where it is too wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
