"""Films of pictures: an animated GIF, or the frames side by side."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from foveal.drawing.contact_sheet import FRAME, GAP, PAPER
from foveal.files import write_bytes

#: Milliseconds for which a frame is shown, and the last one.
SHOWN, HELD = 600, 2500


def save_gif(frames: Sequence[Image.Image], path: Path) -> None:
    """Saves frames as a GIF that repeats.

    Args:
        frames: The frames, of one size.
        path: The file; replaced in one step.

    Raises:
        ValueError: There are no frames.
        UserError: The file cannot be written.
    """
    if not frames:
        raise ValueError("no frames")
    # One palette for all frames, so that pixels that stay do not flicker: from the first, which shows the picture bare,
    # and the last, which has all that was drawn on it.
    both = Image.new("RGB", (frames[0].width, 2 * frames[0].height))
    both.paste(frames[0], (0, 0))
    both.paste(frames[-1], (0, frames[0].height))
    palette = both.quantize(256, method=Image.Quantize.MEDIANCUT)
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [*[SHOWN] * (len(drawn) - 1), HELD]
    stream = io.BytesIO()
    drawn[0].save(stream, "GIF", save_all=True, append_images=drawn[1:], duration=times, loop=0, optimize=False)
    write_bytes(path, stream.getvalue())


def film_sheet(frames: Sequence[Image.Image], *, columns: int = 4, limit: int = 24, cell: int = 240) -> Image.Image:
    """Frames side by side, in reading order; cells have the frames' shape, so no space is lost.

    Args:
        frames: The frames, of one size.
        columns: Frames in a row; fewer where there are fewer frames.
        limit: Most frames on the sheet; of more, that many are taken at equal steps, the first and the last among them.
        cell: Width of a frame on the sheet in pixels.

    Raises:
        ValueError: There are no frames, or an argument is too small.
    """
    if not frames or columns < 1 or limit < 2 or cell < 16:
        raise ValueError(f"no sheet of {len(frames)} frames with {columns=}, {limit=}, {cell=}")
    steps = min(limit, len(frames))
    chosen = [frames[round(k * (len(frames) - 1) / max(1, steps - 1))] for k in range(steps)]
    columns = min(columns, steps)
    height = max(1, round(cell * frames[0].height / frames[0].width))
    rows = math.ceil(steps / columns)
    sheet = Image.new("RGB", (GAP + columns * (cell + GAP), GAP + rows * (height + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for k, frame in enumerate(chosen):
        left, top = GAP + k % columns * (cell + GAP), GAP + k // columns * (height + GAP)
        sheet.paste(frame.resize((cell, height), Image.Resampling.LANCZOS), (left, top))
        draw.rectangle((left - 1, top - 1, left + cell, top + height), outline=FRAME)
    return sheet
