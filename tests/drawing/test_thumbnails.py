import base64
import io

import numpy as np
from PIL import Image, ImageDraw

from foveal.drawing.thumbnails import data_uri, encode, thumbnail


def drawing():
    image = Image.new("RGB", (640, 480), "white")
    ImageDraw.Draw(image).line((20, 40, 600, 400), fill="blue", width=6)
    return image


def photograph():
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((800, 600), Image.Resampling.BICUBIC)


def test_shrunk_to_the_side_and_never_enlarged():
    assert thumbnail(drawing()).size == (224, 168)
    assert thumbnail(Image.new("RGB", (30, 20))).size == (30, 20)
    assert thumbnail(Image.new("RGB", (5000, 3))).size == (224, 1)


def test_the_original_is_left_alone():
    image = drawing()
    thumbnail(image)
    assert image.size == (640, 480)


def test_transparency_lies_on_white_and_metadata_is_dropped():
    image = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    image.info["comment"] = "secret"
    small = thumbnail(image)
    assert small.getpixel((5, 5)) == (255, 255, 255)
    assert b"secret" not in encode(small)[0]


def test_drawings_become_png_and_photographs_jpeg():
    assert encode(thumbnail(drawing()))[1] == "image/png"
    data, media = encode(thumbnail(photograph()))
    assert media == "image/jpeg"
    assert len(data) < 40_000


def test_the_address_decodes_to_the_picture():
    small = thumbnail(drawing())
    head, _, body = data_uri(small).partition(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB").tobytes() == small.tobytes()
