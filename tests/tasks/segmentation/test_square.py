from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps

from foveal.errors import ImageError
from foveal.images import Picture
from foveal.prompts import Prompt
from foveal.tasks.segmentation.objects import IGNORE, Mask
from foveal.tasks.segmentation.square import Square, SquarePictures, geometry_error, probe_picture

SIZES = [(100, 100), (300, 100), (101, 333), (640, 480), (480, 640), (1500, 1000), (1500, 400)]
MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)


def drawn(size: tuple[int, int], shape: str) -> Mask:
    """A figure that fills a good part of a picture."""
    width, height = size
    image = Image.new("L", size)
    pen = ImageDraw.Draw(image)
    if shape == "circle":
        radius = 0.4 * min(size)
        pen.ellipse((0.55 * width - radius, height / 2 - radius, 0.55 * width + radius, height / 2 + radius), fill=1)
    else:
        corners = [(0.1, 0.2), (0.8, 0.05), (0.95, 0.7), (0.5, 0.95), (0.2, 0.8)]
        pen.polygon([(x * width, y * height) for x, y in corners], fill=1)
    return np.array(image)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def prepared(image: Image.Image) -> torch.Tensor:
    """As an image processor standardises."""
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)
    return ((pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None])[None]


@pytest.mark.parametrize("shape", ["circle", "polygon"])
@pytest.mark.parametrize("side", [168, 256])
@pytest.mark.parametrize("size", SIZES)
def test_a_mask_comes_back_from_the_square_as_it_was(size: tuple[int, int], side: int, shape: str) -> None:
    mask = drawn(size, shape)
    share, counted = Square(size).mask_to_target(mask, side)
    back = Square(size).logits_to_picture(torch.from_numpy(20 * (share - 0.5))[None])[0] > 0
    assert back.shape == mask.shape
    # A wide picture has few rows of the square: an outline is half a pixel of the square off at most.
    floor = 0.98 if min(size) / max(size) > 0.5 else 0.95
    assert iou(back.numpy(), mask == 1) >= floor
    # As much area is meant on the square as in the picture, but for the rim of pixels that the box filter rounds to.
    scale = (max(size) / side) ** 2
    assert (share * counted).sum() * scale == pytest.approx(mask.sum(), rel=0.02 if max(size) >= side else 0.03)


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (150, 150)])
def test_a_place_on_the_square_is_the_place_in_the_picture_times_one_scale(size: tuple[int, int]) -> None:
    frame = Square(size)
    assert frame.side == max(size)
    for x, y in [(0, 0), (37, 52), (size[0] - 1, size[1] - 1)]:
        mask = np.zeros((size[1], size[0]), dtype=np.uint8)
        mask[y, x] = 1
        for side in (frame.side * 2, frame.side // 2):
            share, counted = frame.mask_to_target(mask, side)
            ys, xs = np.nonzero(share * counted)
            scale = side / frame.side
            assert (xs.min(), ys.min()) == (int(x * scale), int(y * scale))
            assert (xs.max(), ys.max()) == (int((x + 1) * scale - 1e-9), int((y + 1) * scale - 1e-9))


def test_the_picture_lies_unscaled_in_the_top_left_corner() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    square = np.asarray(Square((70, 40)).pad(Image.fromarray(noise), (1, 2, 3)))
    assert square.shape == (70, 70, 3)
    assert (square[:40] == noise).all() and (square[40:] == (1, 2, 3)).all()
    with pytest.raises(ValueError, match=r"the picture is \(70, 40\), the frame is for \(40, 70\)"):
        Square((40, 70)).pad(Image.fromarray(noise))


@pytest.mark.parametrize("source", [16, 64])
def test_growing_keeps_a_ramp_where_it_was(source: int) -> None:
    size = (384, 192)
    steps = (torch.arange(source) + 0.5) / source
    planes = torch.stack((steps.expand(source, source), steps[:, None].expand(source, source)))
    x, y = Square(size).logits_to_picture(planes)
    assert x.shape == y.shape == (192, 384)
    # Centres of pixels, in sides of the square; up to half a pixel of the small one from the rim it is the rim's value.
    inside = 384 // source // 2
    wide, high = (torch.arange(384) + 0.5) / 384, (torch.arange(192) + 0.5) / 384
    assert (x[:, inside:-inside] - wide[inside:-inside]).abs().max() < 1e-6
    assert (y[inside:] - high[inside:, None]).abs().max() < 1e-6


def test_masks_grow_independently_and_none_stays_none() -> None:
    logits = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    frame = Square((50, 30))
    together = frame.logits_to_picture(logits)
    assert all(torch.equal(together[i], frame.logits_to_picture(logits[i : i + 1])[0]) for i in range(3))
    assert frame.logits_to_picture(logits[:0]).shape == (0, 30, 50)
    assert frame.logits_to_picture(logits.bfloat16()).dtype == torch.float32


def test_padding_and_ignored_pixels_do_not_count() -> None:
    mask = np.zeros((40, 80), dtype=np.uint8)
    mask[:, :20] = 1
    mask[:, 20:60] = IGNORE
    share, counted = Square((80, 40)).mask_to_target(mask, 16)
    assert (counted[8:] == 0).all() and (share[8:] == 0).all()
    assert (counted[:8, 4:12] == 0).all() and (share[:8, 4:12] == 0).all()
    assert (counted[:8, :4] == 1).all() and (counted[:8, 12:] == 1).all()
    assert (share[:8, :4] == 1).all() and (share[:8, 12:] == 0).all()


def test_a_pixel_that_is_ignored_in_part_is_what_the_rest_of_it_is() -> None:
    mask = np.array([[1, IGNORE, 0, 1], [IGNORE, IGNORE, 1, IGNORE]], dtype=np.uint8)
    share, counted = Square((4, 2)).mask_to_target(mask, 2)
    assert counted[0].tolist() == [0.25, 0.75] and counted[1].tolist() == [0, 0]
    assert share[0] == pytest.approx([1, 2 / 3])
    with pytest.raises(ValueError, match=r"the mask is \(4, 2\), the frame is for \(2, 4\)"):
        Square((2, 4)).mask_to_target(mask, 2)


# ---------------------------------------------------------------- what a preprocessing does


@pytest.mark.parametrize("side", [28, 168, 224, 448, 1024])
@pytest.mark.parametrize("how", list(Image.Resampling))
def test_scaling_alone_passes(side: int, how: Image.Resampling) -> None:
    assert geometry_error(prepared(probe_picture().resize((side, side), how)), MEAN, STD) is None


@pytest.mark.parametrize("side", [28, 224])
def test_whatever_else_is_done_to_a_square_is_found(side: int) -> None:
    whole, size = probe_picture(), (side, side)
    edge = whole.width
    cut = edge // 14
    by = {
        "crop": (whole.crop((cut, cut, edge - cut, edge - cut)).resize(size), "it cuts, pads or turns the columns"),
        "flip": (ImageOps.mirror(whole).resize(size), "it cuts, pads or turns the columns"),
        "upside down": (ImageOps.flip(whole).resize(size), "it cuts, pads or turns the rows"),
        "turned": (whole.transpose(Image.Transpose.TRANSPOSE).resize(size), "it cuts, pads or turns the columns"),
        "padded right": (ImageOps.expand(whole, (0, 0, 2 * cut, 0)).resize(size), "it cuts, pads or turns the columns"),
        "padded below": (ImageOps.expand(whole, (0, 0, 0, 2 * cut)).resize(size), "it cuts, pads or turns the "),
        "uneven": (whole.resize((side, 2 * side)), f"it makes pictures of {side} x {2 * side} pixels"),
    }
    for name, (image, message) in by.items():
        wrong = geometry_error(prepared(image), MEAN, STD)
        assert wrong is not None and wrong.startswith(message), name
    tiles = torch.cat([prepared(whole.resize(size))] * 3)
    assert geometry_error(tiles[None], MEAN, STD) == "it cuts a picture into 3"


def test_a_users_picture_is_refused_before_its_square_fills_the_memory(tmp_path: Path) -> None:
    Image.new("RGB", (100, 10)).save(tmp_path / "a.png")
    pictures = SquarePictures((0, 0, 0), None)
    picture = Picture("a.png", tmp_path / "a.png")
    assert pictures.padded([Prompt((picture,), "what?")])[1] == [Square((100, 10))]
    with pytest.raises(
        ImageError, match=r"^a\.png: 100 x 10 pixels are laid in a square of 100 x 100, more than the limit"
    ):
        pictures.padded([Prompt((picture.limited(9_999),), "what?")])
