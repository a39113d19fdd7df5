"""Pictures of masks: tinted areas with contours on the picture, and black and white files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foveal.drawing.figures import Colour, blend
from foveal.images import upright_rgb

#: Longest side of an overlay in pixels.
SIDE: Final = 2048
#: Colours that are distinct for any colour vision (Okabe and Ito 2008), without black, neighbours far apart.
PALETTE: Final[tuple[Colour, ...]] = (
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
    (204, 121, 167),
    (0, 158, 115),
    (0, 114, 178),
    (230, 159, 0),
)
#: Width of contours in pixels, and the distance between two hatching lines.
_LINE: Final = 2
_HATCH: Final = 12
_BLACK, _WHITE = (16, 16, 16), (255, 255, 255)
#: Value of pixels that a mask neither has nor lacks.
_IGNORED: Final = 255
_Pixels = NDArray[np.uint8]
_Flags = NDArray[np.bool_]


def overlay(
    image: Image.Image,
    masks: Sequence[_Flags | _Pixels],
    *,
    truth: _Pixels | None = None,
    alpha: float = 0.45,
    side: int = SIDE,
) -> Image.Image:
    """The picture with masks on it.

    Each mask is tinted in a colour of its own (``PALETTE``, from its start again after the last) and has a contour of
    that colour inside its edge; later masks lie on earlier ones. The truth has no tint, but a white and a black line
    around it, just outside its edge, so that an exact prediction does not hide it; where it reaches the picture's edge
    the lines are inside. Pixels that the truth ignores are hatched. All else stays as it is.

    Args:
        image: The picture; it is not changed.
        masks: Each [H, W] of the picture's size, boolean or of 0, 1 and 255, of which 1 is shown.
        truth: [H, W] of 0, 1 and 255, or None where it is unknown.
        alpha: How opaque the tint is, from 0 to 1.
        side: Longest side of the result in pixels; smaller pictures keep their size.

    Returns:
        In RGB.

    Raises:
        ValueError: A mask has another size than the picture.
    """
    image = upright_rgb(image)
    for mask in (*masks, *(() if truth is None else (truth,))):
        if mask.shape != (image.height, image.width):
            raise ValueError(f"a mask of shape {mask.shape} on a picture of {image.width} x {image.height}")
    scale = min(1.0, side / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    pixels = np.array(image if size == image.size else image.resize(size, Image.Resampling.LANCZOS))
    if truth is not None:
        _hatch(pixels, _resized(truth == _IGNORED, size))
    for number, mask in enumerate(masks):
        meant = _resized(mask == 1, size)
        colour = PALETTE[number % len(PALETTE)]
        _lay(pixels, meant, colour, alpha)
        _lay(pixels, meant & ~_shrunk(meant, _LINE), colour)
    if truth is not None:
        _rim(pixels, _resized(truth == 1, size))
    return Image.fromarray(pixels)


def mask_image(mask: _Flags | _Pixels) -> Image.Image:
    """A mask [H, W], boolean or of 0, 1 and 255, as a gray picture: 255 where it is 1, 0 elsewhere."""
    return Image.fromarray((mask == 1).astype(np.uint8) * np.uint8(255))


def _resized(flags: _Flags, size: tuple[int, int]) -> _Flags:
    """Flags for a picture of this size: set where at least half of a pixel is covered."""
    if flags.shape == (size[1], size[0]):
        return flags
    return np.asarray(mask_image(flags).resize(size, Image.Resampling.BOX)) >= 128


def _lay(pixels: _Pixels, where: _Flags, colour: Colour, alpha: float = 1.0) -> None:
    """Lays a colour on pixels, in place."""
    pixels[where] = blend(pixels[where], colour, np.float32(alpha))


def _grown(flags: _Flags, by: int) -> _Flags:
    """Flags with all pixels that are at most so many steps away, diagonal ones included."""
    height, width = flags.shape
    for axis, length in ((0, height), (1, width)):
        padded = np.pad(flags, [(by, by) if axis == a else (0, 0) for a in range(2)])
        flags = np.logical_or.reduce([padded.take(range(k, k + length), axis) for k in range(2 * by + 1)])
    return flags


def _shrunk(flags: _Flags, by: int) -> _Flags:
    """Flags without all pixels that are so few steps from what is not set; outside of the picture nothing is."""
    return ~_grown(np.pad(~flags, by, constant_values=True), by)[by:-by, by:-by]


def _rim(pixels: _Pixels, truth: _Flags) -> None:
    """Draws a white line around the truth and a black one around that, in place."""
    half = _LINE // 2
    # Beyond the picture there is no room, so the lines lie inside where the truth reaches its edge.
    inside = truth.copy()
    inside[:_LINE], inside[-_LINE:], inside[:, :_LINE], inside[:, -_LINE:] = False, False, False, False
    near = _grown(inside, half)
    _lay(pixels, _grown(inside, 2 * half) & ~near, _BLACK)
    _lay(pixels, near & ~inside, _WHITE)


def _hatch(pixels: _Pixels, where: _Flags) -> None:
    """Draws diagonal lines, white beside black, in place."""
    phase = np.add.outer(np.arange(where.shape[0]), np.arange(where.shape[1])) % _HATCH
    _lay(pixels, where & (phase < 2), _WHITE, 0.75)
    _lay(pixels, where & (phase >= 2) & (phase < 4), _BLACK, 0.75)
