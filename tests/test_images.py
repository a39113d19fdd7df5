from __future__ import annotations

import io
import random
import struct
import sys
import threading
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from foveal import images
from foveal.errors import ImageError, UserError
from foveal.images import (
    MAX_PIXELS,
    Encoded,
    LeftOut,
    Picture,
    check_header,
    decode,
    find_images,
    picture_size,
    upright_rgb,
    walk_images,
)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def noise(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def pixels(image: Image.Image) -> list[list[tuple[int, ...]]]:
    return [[tuple(p) for p in row] for row in np.asarray(image).tolist()]


def refusal(data: bytes, **options: Any) -> str:
    with pytest.raises(ImageError) as error:
        decode(data, name="folder/x.png", **options)
    message = str(error.value)
    assert message.startswith("folder/x.png: ")
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP", "JPEG"])
def test_formats(form: str) -> None:
    image = decode(encoded(Image.new("RGB", (8, 6), (200, 0, 0)), form))
    assert (image.mode, image.size) == ("RGB", (8, 6))
    assert np.abs(np.asarray(image).astype(int) - (200, 0, 0)).max() <= 3


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_truncated(form: str, share: float) -> None:
    data = encoded(noise(), form)
    message = refusal(data[: int(len(data) * share)])
    assert "replace or remove it" in message


def test_truncated_jpeg_without_its_end() -> None:
    data = encoded(noise(), "JPEG")
    assert "damaged or truncated" in refusal(data[:-200])


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(ImageError, match=r"empty\.png: the file is empty; replace or remove it\."):
        decode(path)
    assert "the file is empty" in refusal(b"")


def test_text_file_named_png(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_text("This is not a picture, whatever it is called.")
    with pytest.raises(ImageError, match=r"text\.png: not a picture in a known format \(PNG, JPEG"):
        decode(path)


def test_wrong_ending_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(noise(), "PNG"))
    assert decode(path).size == (40, 30)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_zero_size(width: int, height: int) -> None:
    refusal(png_header(width, height))
    ppm = f"P6 {width} {height} 255\n".encode()
    gif = b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b"\x2c" + bytes(8) + b"\x00\x02\x00\x3b"
    refusal(ppm)
    refusal(gif)


def test_header_without_pixels() -> None:
    assert "damaged or truncated" in refusal(png_header(5, 5))


@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1)])
@pytest.mark.filterwarnings("error")
def test_giant_header(width: int, height: int) -> None:
    message = refusal(png_header(width, height))
    assert f"more than the limit of {MAX_PIXELS:,}; shrink the picture or raise model.max_pixels" in message


@pytest.mark.filterwarnings("error")
def test_header_between_pillows_limits() -> None:
    assert "more than the limit of 64,000,000" in refusal(png_header(10_000, 10_000))


def test_pixel_limit_is_exact() -> None:
    data = encoded(noise(10, 5))
    assert decode(data, max_pixels=50).size == (10, 5)
    message = refusal(data, max_pixels=49)
    assert "10 x 5 pixels are more than the limit of 49; shrink the picture or raise model.max_pixels" in message


def test_a_limit_above_pillows_own_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(encoded(noise()), max_pixels=1200).size == (40, 30)
    assert "40 x 30 pixels" in refusal(encoded(noise()), max_pixels=1199)


def test_pillows_own_limit_survives_many_threads() -> None:
    before, data = Image.MAX_IMAGE_PIXELS, encoded(noise())
    assert before is not None
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=lambda: [decode(data) for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert before == Image.MAX_IMAGE_PIXELS


def test_postscript_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ghostscript(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(noise(), "EPS"))
    with pytest.raises(ImageError, match="not a picture in a known format"):
        decode(path)


#: Where the red quarter at the top left of the upright picture lies in the file, for each EXIF orientation.
CORNERS = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}


@pytest.mark.parametrize("orientation", CORNERS)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation(orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = orientation >= 5
    size = (16, 32) if turned else (32, 16)
    stored = Image.new("RGB", size, (255, 255, 255))
    x, y = CORNERS[orientation]
    stored.paste((255, 0, 0), (x * size[0] // 2, y * size[1] // 2, (x + 1) * size[0] // 2, (y + 1) * size[1] // 2))
    image = decode(encoded(stored, form, exif=exif))
    assert image.size == (32, 16)
    green = np.asarray(image)[..., 1] < 128
    assert green[1:7, 1:15].all()
    assert not green[9:, :].any()
    assert not green[:, 17:].any()
    assert upright_rgb(image).size == (32, 16)
    again = np.asarray(upright_rgb(image))
    np.testing.assert_array_equal(again, np.asarray(image))


def test_damaged_exif_leaves_the_picture_as_it_lies() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(noise(), "WEBP", lossless=True, exif=exif)
    assert data.count(b"MM\x00*") + data.count(b"II*\x00") == 1
    damaged = data.replace(b"MM\x00*", b"MM\x00,").replace(b"II*\x00", b"II,\x00")
    np.testing.assert_array_equal(np.asarray(decode(damaged)), np.asarray(noise()))


def test_rgba_is_laid_on_white() -> None:
    image = Image.new("RGBA", (3, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 51))
    assert pixels(decode(encoded(image))) == [[(255, 0, 0), (255, 255, 255), (204, 204, 204)]]


def test_gray_with_alpha() -> None:
    image = Image.new("LA", (2, 1), (7, 255))
    image.putpixel((1, 0), (7, 0))
    assert pixels(decode(encoded(image))) == [[(7, 7, 7), (255, 255, 255)]]


def test_sixteen_bit_gray_is_scaled_and_rounded() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = Image.fromarray(values)
    wanted = np.floor(values / 257 + 0.5)
    for data in (encoded(image, "PNG"), encoded(image, "TIFF")):
        got = np.asarray(decode(data))
        assert got.shape == (256, 256, 3)
        for channel in range(3):
            np.testing.assert_array_equal(got[..., channel], wanted)


def test_sixteen_bit_gray_in_the_other_order_of_bytes() -> None:
    image = Image.frombytes("I;16B", (3, 1), np.array([0, 32768, 65535], dtype=">u2").tobytes())
    data = encoded(image, "TIFF")
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.mode == "I;16B"
    assert pixels(decode(data)) == [[(0, 0, 0), (128, 128, 128), (255, 255, 255)]]


def test_sixteen_bit_gray_with_a_transparent_value() -> None:
    image = Image.fromarray(np.array([[1000, 32768]], dtype=np.uint16))
    assert pixels(decode(encoded(image, transparency=1000))) == [[(255, 255, 255), (128, 128, 128)]]


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_thirty_two_bit_pixels_are_refused(kind: type) -> None:
    image = Image.fromarray(np.array([[0, 1, 1000]], dtype=kind))
    assert "32 bits have no agreed black and white; save it with 8 or 16 bits" in refusal(encoded(image, "TIFF"))
    with pytest.raises(ImageError, match="mine: pixels of 32 bits"):
        Picture("mine", image).open()


@pytest.mark.parametrize("transparency", [None, 0, b"\x00\xff"])
def test_palette(transparency: int | bytes | None) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    data = encoded(image) if transparency is None else encoded(image, transparency=transparency)
    first = (255, 0, 0) if transparency is None else (255, 255, 255)
    assert pixels(decode(data)) == [[first, (0, 0, 255)]]


def test_cmyk_jpeg() -> None:
    got = np.asarray(decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)))
    assert np.abs(got.astype(int) - (255, 0, 0)).max() <= 3


def test_one_bit() -> None:
    image = Image.new("1", (2, 1), 1)
    image.putpixel((1, 0), 0)
    assert pixels(decode(encoded(image))) == [[(255, 255, 255), (0, 0, 0)]]


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    got = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert pixels(got)[0][0] == (255, 0, 0)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png: there is no such picture; check the path\."):
        decode(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=r"cannot be read \(Is a directory\); check the path"):
        decode(tmp_path)
    with pytest.raises(ImageError, match=r"cannot be a path \(embedded null byte\); check the path"):
        decode("a\0b.png")
    with pytest.raises(ImageError, match="row 7: there is no such picture"):
        decode(str(tmp_path / "gone.png"), name="row 7")
    assert issubclass(ImageError, UserError)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
)
@pytest.mark.filterwarnings("ignore")
def test_damage_gives_a_picture_or_an_image_error(form: str, changes: list[tuple[int, int]]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(
        encoded(noise(12, 10), form, **({"exif": exif} if form in ("PNG", "JPEG", "WEBP", "TIFF") else {}))
    )
    for place, value in changes:
        data[place % len(data)] = value
    try:
        image = decode(bytes(data))
    except ImageError:
        return
    assert image.mode == "RGB"


def test_header_check(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encoded(noise())[:200])
    check_header(path)
    with pytest.raises(ImageError, match="limit of 100"):
        check_header(path, max_pixels=100)
    for data in (b"", b"text", png_header(100_000, 100_000)):
        with pytest.raises(ImageError):
            check_header(data)
    with pytest.raises(ImageError, match="there is no such picture"):
        check_header(tmp_path / "gone.png")


def test_pictures_open_every_source(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encoded(noise()))
    sources: list[Any] = [path, str(path), path.read_bytes(), noise(), noise]
    for source in sources:
        picture = Picture("x", source)
        np.testing.assert_array_equal(np.asarray(picture.open()), np.asarray(noise()))
        picture.check(pixels=True)
        picture.check(pixels=False)
    transparent = Picture("x", Image.new("RGBA", (1, 1), (0, 0, 0, 0)))
    assert pixels(transparent.open()) == [[(255, 255, 255)]]


def test_checking_a_picture(tmp_path: Path) -> None:
    picture = Picture("row 3", encoded(noise())[:200])
    picture.check(pixels=False)
    with pytest.raises(ImageError, match="row 3: the picture is damaged"):
        picture.check(pixels=True)
    with pytest.raises(ImageError, match="row 4: there is no such picture"):
        Picture("row 4", tmp_path / "gone.png").check(pixels=False)


def test_finding_images(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "sub/c.webp", ".hidden.png", ".cache/d.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    assert [p.relative_to(tmp_path).as_posix() for p in find_images(tmp_path)] == ["a.jpg", "b.PNG", "sub/c.webp"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"empty: the folder holds no pictures \(\.png.*check the path"):
        find_images(tmp_path / "empty")
    with pytest.raises(ImageError, match="there is no such folder"):
        find_images(tmp_path / "gone")
    with pytest.raises(ImageError, match="there is no such folder"):
        find_images(tmp_path / "a.jpg")


def test_finding_images_in_a_hidden_place(tmp_path: Path) -> None:
    root = tmp_path / ".cache" / "data"
    root.mkdir(parents=True)
    (root / "a.png").touch()
    assert find_images(root) == [root / "a.png"]


def test_a_picture_inside_something_larger() -> None:
    data = encoded(noise())
    picture = Picture("row 5", Encoded("row 5", lambda: data))
    assert np.array_equal(np.asarray(picture.open()), np.asarray(Picture("row 5", data).open()))
    cut = Picture("row 6", Encoded("row 6", lambda: data[:200]))
    cut.check(pixels=False)
    with pytest.raises(ImageError, match="row 6: the picture is damaged"):
        cut.check(pixels=True)
    with pytest.raises(ImageError, match="row 7: the file is empty"):
        Picture("row 7", Encoded("row 7", lambda: b"")).check(pixels=False)


# ---------------------------------------------------------------- walking folders


def test_the_walk_is_the_sorted_list_of_all_pictures_whatever_it_holds_at_once(tmp_path, monkeypatch):
    rng = random.Random(0)
    names = ["a", "b.png", "B.JPG", "ab", "a.b", "a-b.png", "ü.png", ".x.png", ".h", "z.txt", "c.gif", "sub.png", "0"]
    for _ in range(150):
        path = tmp_path.joinpath(*(f"d{rng.choice(names)}" for _ in range(rng.randrange(4))), rng.choice(names))
        if not path.exists() and not any(p.is_file() for p in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "z.txt")
    (tmp_path / "linked").symlink_to(tmp_path)
    slow = sorted(
        p
        for p in tmp_path.rglob("*")
        if p.suffix.lower() in images.SUFFIXES and p.is_file()
        and not any(s.startswith(".") for s in p.relative_to(tmp_path).parts)
    )  # fmt: skip
    assert len(slow) > 40 and list(walk_images(tmp_path)) == find_images(tmp_path) == slow
    for most in (1, 2, 3, 5, 8):
        monkeypatch.setattr(images._sorted_entries, "__defaults__", (most,))
        assert list(walk_images(tmp_path)) == slow


def test_a_large_folder_is_walked_without_holding_its_names(tmp_path):
    for i in range(6000):
        (tmp_path / f"{i * 7919 % 6000:04}.png").touch()
    tracemalloc.start()
    try:
        found = [name for name, _ in images._sorted_entries(tmp_path, 6000)]
        _, whole = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        same = all(a == b for (a, _), b in zip(images._sorted_entries(tmp_path, 200), found, strict=True))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == [f"{i:04}.png" for i in range(6000)] and same
    assert peak - before < 100_000 < whole / 5


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()

    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(images.os, "scandir", refuse)
    with pytest.raises(ImageError, match=r"in: the folder cannot be read \(Permission denied\); check the path"):
        list(walk_images(tmp_path / "in"))


def test_links_to_folders_are_followed_once_and_never_round(tmp_path):
    for name in ("in/a/1.png", "out/b/2.png", "in/sub/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in/linked").symlink_to(tmp_path / "out")
    (tmp_path / "in/zagain").symlink_to(tmp_path / "out")
    (tmp_path / "out/b/back").symlink_to(tmp_path / "in")
    (tmp_path / "in/a/up").symlink_to(tmp_path)
    (tmp_path / "in/a/gone").symlink_to(tmp_path / "nowhere")
    left = LeftOut()
    found = [str(p.relative_to(tmp_path)) for p in walk_images(tmp_path / "in", left)]
    assert found == ["in/a/1.png", "in/linked/b/2.png", "in/sub/3.png"]
    assert left.count == 4
    assert left.sentence() == (
        f"4 files left out: 3 that are links to a folder that is read already (e.g. {tmp_path}/in/a/up), 1 that are links "
        f"to nothing (e.g. {tmp_path}/in/a/gone)."
    )


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "$RECYCLE.BIN", ".ipynb_checkpoints", "#recycle", "@__thumb"])
def test_folders_of_systems_are_not_walked(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "1.png").touch()
    (tmp_path / "2.png").touch()
    left = LeftOut()
    assert find_images(tmp_path, left) == [tmp_path / "2.png"] and left.sentence() == ""


@pytest.mark.parametrize(
    ("ending", "form"),
    [("jfif", "JPEG"), ("JPE", "JPEG"), ("pjpeg", "JPEG"), ("dib", "BMP"), ("ppm", "PPM"), ("pgm", "PPM")],
)
def test_pictures_under_other_usual_endings_are_found_and_read(tmp_path, ending, form):
    (tmp_path / f"1.{ending}").write_bytes(encoded(noise(), form))
    (path,) = find_images(tmp_path)
    assert decode(path).size == (40, 30)


def test_files_that_are_left_out_are_counted_by_reason(tmp_path):
    for name in ("1.png", "2.HEIC", "3.heic", "4", ".5", "Thumbs.db", "desktop.ini", "6.txt"):
        (tmp_path / name).touch()
    left = LeftOut()
    find_images(tmp_path, left)
    names = sorted((tmp_path / name for name in ("2.HEIC", "3.heic")), key=lambda p: left.sentence().count(str(p)))
    assert left.sentence() == (
        f"4 files left out: 2 ending in .heic (e.g. {names[-1]}), 1 ending in .txt (e.g. {tmp_path}/6.txt), 1 without an "
        f"ending (e.g. {tmp_path}/4)."
    )
    assert left.sentence(1) == f"4 files left out: 2 ending in .heic (e.g. {names[-1]}), 2 for other reasons."
    other = LeftOut()
    other.add("without an ending", tmp_path / "9")
    other.merge(left)
    assert other.count == 5 and f"2 without an ending (e.g. {tmp_path}/9)" in other.sentence()


@pytest.mark.parametrize("size", [(100_000, 1), (1, 100_000), (4020, 20)])
def test_a_line_of_pixels_is_refused_by_its_header_alone(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("L", size).save(tmp_path / "line.png")
    for look in (decode, check_header, picture_size):
        with pytest.raises(ImageError) as error:
            look(tmp_path / "line.png", name="line.png")
        assert str(error.value) == (
            f"line.png: {size[0]:,} x {size[1]:,} pixels are too narrow for a model, one side is more than 200 times the "
            "other; cut the picture."
        )
    Image.new("L", (4000, 20)).save(tmp_path / "strip.png")
    assert picture_size(tmp_path / "strip.png") == decode(tmp_path / "strip.png").size == (4000, 20)
