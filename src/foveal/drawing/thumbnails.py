"""Small copies of pictures that a page can carry inside itself."""

from __future__ import annotations

import base64
import io

from PIL import Image

from foveal.images import upright_rgb

#: An exact picture may take so many times the bytes of one that is not.
_WORTH = 2.5


def thumbnail(image: Image.Image, side: int = 224) -> Image.Image:
    """The picture in RGB, shrunk (never enlarged) to at most ``side`` pixels, without the file's metadata."""
    small = upright_rgb(image).copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3)
    small.info.clear()
    return small


def encode(image: Image.Image) -> tuple[bytes, str]:
    """The picture's bytes and media type: PNG, which is exact, unless JPEG (quality 85) is far smaller.

    So drawings keep their thin lines, and photographs do not cost six times the bytes.
    """
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG")
    image.save(jpeg, "JPEG", quality=85, optimize=True)
    if png.tell() <= _WORTH * jpeg.tell():
        return png.getvalue(), "image/png"
    return jpeg.getvalue(), "image/jpeg"


def data_uri(image: Image.Image) -> str:
    """The picture as a ``data:`` address."""
    data, media = encode(image)
    return f"data:{media};base64,{base64.b64encode(data).decode('ascii')}"
