"""Contact sheets: many small pictures with captions in one."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from foveal.files import write_bytes
from foveal.images import upright_rgb

#: Colours of sheets, and the pixels between their pictures.
PAPER, FRAME = "#ffffff", "#d5dade"
GAP = 12
_INK, _RIGHT, _WRONG = "#1c2126", "#1a7440", "#b3261e"
_LINES = 3


def contact_sheet(
    items: Sequence[tuple[Image.Image, str]],
    columns: int,
    cell: int = 160,
    *,
    marks: Sequence[bool | None] | None = None,
) -> Image.Image:
    """Pictures side by side, each fitted into a square and captioned.

    Args:
        items: Pictures and captions, in reading order.
        columns: Pictures in a row.
        cell: Width and height of a picture, in pixels.
        marks: For each item, whether to mark it as right (a green tick) or wrong (a red cross), or None for no mark.

    Raises:
        ValueError: There are no items, fewer than one column, cells below 16 pixels, or marks of another number.
    """
    if not items or columns < 1 or cell < 16 or (marks is not None and len(marks) != len(items)):
        raise ValueError(
            f"no contact sheet of {len(items)} items, {columns} columns, cells of {cell} pixels and {marks=}"
        )
    columns = min(columns, len(items))
    size = max(10, round(cell / 13))
    font, line_height = ImageFont.load_default(size), round(size * 1.3)
    captions = [wrap(text, cell, font.getlength, _LINES) for _, text in items]
    rows = [range(first, min(first + columns, len(items))) for first in range(0, len(items), columns)]
    lines = [max(len(captions[i]) for i in row) for row in rows]
    heights = [cell + (6 + n * line_height if n else 0) + GAP for n in lines]
    sheet = Image.new("RGB", (GAP + columns * (cell + GAP), GAP + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for place, i in enumerate(row):
            left = GAP + place * (cell + GAP)
            picture = ImageOps.contain(upright_rgb(items[i][0]), (cell, cell), Image.Resampling.LANCZOS)
            at = left + (cell - picture.width) // 2, top + (cell - picture.height) // 2
            sheet.paste(picture, at)
            draw.rectangle((left - 1, top - 1, left + cell, top + cell), outline=FRAME)
            if marks is not None and (mark := marks[i]) is not None:
                _draw_mark(draw, left + cell - 4, top + 4, max(12, cell // 9), mark)
            for k, text in enumerate(captions[i]):
                draw.text((left, top + cell + 6 + k * line_height), text, fill=_INK, font=font)
        top += height
    return sheet


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Saves a sheet as PNG.

    Raises:
        UserError: The file cannot be written.
    """
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    write_bytes(path, stream.getvalue())


def wrap(text: str, width: float, measure: Callable[[str], float], lines: int) -> list[str]:
    """Breaks text between words, and inside words that are too long, into at most ``lines`` lines.

    Args:
        text: The text; its own line breaks are kept.
        width: What a line may measure.
        measure: Gives a text's width.
        lines: Largest number of lines; the last one ends in an ellipsis where text is left over.
    """
    broken: list[str] = []
    for paragraph in text.strip().splitlines():
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}" if line else word
            if measure(joined) <= width:
                line = joined
                continue
            if line:
                broken.append(line)
            while measure(word) > width and len(word) > 1:
                cut = next((k for k in range(len(word) - 1, 1, -1) if measure(word[:k]) <= width), 1)
                broken.append(word[:cut])
                word = word[cut:]
            line = word
        broken.append(line)
    if len(broken) <= lines:
        return broken
    last = broken[lines - 1]
    while last and measure(f"{last}…") > width:
        last = last[:-1]
    return [*broken[: lines - 1], f"{last.rstrip()}…"]


def _draw_mark(draw: ImageDraw.ImageDraw, right: float, top: float, side: float, mark: bool) -> None:
    """A tick or a cross in a disc whose top right corner is given."""

    def at(x: float, y: float) -> tuple[float, float]:
        return right - side + x * side, top + y * side

    draw.ellipse((*at(0, 0), *at(1, 1)), fill=_RIGHT if mark else _WRONG, outline=PAPER)
    wide = max(1, round(side / 9))
    if mark:
        draw.line([at(0.27, 0.53), at(0.43, 0.68), at(0.73, 0.34)], fill=PAPER, width=wide, joint="curve")
    else:
        draw.line([at(0.32, 0.32), at(0.68, 0.68)], fill=PAPER, width=wide)
        draw.line([at(0.68, 0.32), at(0.32, 0.68)], fill=PAPER, width=wide)
