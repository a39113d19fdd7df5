"""Letters in pictures: the fonts that every installation has, and masks of words that are kept for the next picture.

The fonts are those that Pillow (Aileron) and matplotlib (DejaVu, STIX, Computer Modern) bring with them, so that the
same seed draws the same picture on every machine.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

#: Sans-serif first: the published pictures are set in such.
FONTS: Final = ("Aileron", "DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral", "cmss10")


@lru_cache(maxsize=256)
def font(name: str, height: float) -> ImageFont.FreeTypeFont:
    """A font at a size.

    Args:
        name: One of ``FONTS``.
        height: Size in pixels, as Pillow counts it (the em).
    """
    if name == "Aileron":
        default = ImageFont.load_default(height)
        assert isinstance(default, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
        return default
    return ImageFont.truetype(str(_folder() / f"{name}.ttf"), height)


@lru_cache(maxsize=1)
def _folder() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@lru_cache(maxsize=8192)
def word_mask(text: str, name: str, height: float) -> NDArray[np.uint8]:
    """How far a word covers each pixel of the box around its ink, 0 to 255, [H, W]; not to be written to.

    Args:
        text: One line.
        name: One of ``FONTS``.
        height: Size of the font in pixels; round it, or nothing is kept for the next picture.
    """
    left, top, right, bottom = font(name, height).getbbox(text)
    box = Image.new("L", (max(1, int(np.ceil(right - left))), max(1, int(np.ceil(bottom - top)))))
    ImageDraw.Draw(box).text((-left, -top), text, fill=255, font=font(name, height))
    mask = np.asarray(box)
    mask.flags.writeable = False
    return mask
