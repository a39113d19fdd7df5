from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.errors import ImageError
from foveal.images import MAX_PIXELS, Picture
from foveal.tasks.readers import checking
from foveal.tasks.readers.checking import Checked, check_pictures


def picture(path: Path, image: Image.Image | None = None, keep: float = 1.0) -> Picture:
    """A picture's file, of which so much is kept."""
    (image or Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    return Picture(path.name, path)


def check(*pictures: Picture, **options: object) -> Checked[Picture]:
    return check_pictures(pictures, lambda row: (row,), **{"max_pixels": MAX_PIXELS, **options})  # type: ignore[arg-type]


@pytest.fixture
def rows(tmp_path: Path) -> list[Picture]:
    keeps = {"a.png": 1.0, "b.png": 0.5, "c.jpg": 1.0, "d.png": 0.6}
    return [picture(tmp_path / name, keep=keep) for name, keep in keeps.items()]


def test_damaged_pictures_are_refused_with_the_first_name_and_the_number_of_others(rows: list[Picture]) -> None:
    with pytest.raises(ImageError) as error:
        check(*rows)
    assert str(error.value).startswith("b.png: the picture is damaged or truncated (")
    assert str(error.value).endswith(
        "; replace or remove it. 1 more pictures cannot be used either. `data.on_bad: skip` leaves such pictures out."
    )


def test_damaged_pictures_are_left_out_and_named_once(rows: list[Picture]) -> None:
    checked = check(*rows, rows[1], on_bad="skip")
    assert [row.name for row in checked.rows] == ["a.png", "c.jpg"]
    assert [name for name, _ in checked.refused] == ["b.png", "d.png"]
    assert all(reason.startswith("the picture is damaged") for _, reason in checked.refused)


def test_rows_that_are_all_whole_stay_the_sequence_they_are(rows: list[Picture]) -> None:
    given = (rows[0], rows[2])
    assert check_pictures(given, lambda row: (row,), max_pixels=MAX_PIXELS).rows is given


def test_a_split_without_any_usable_picture_is_refused_even_if_they_may_be_skipped(rows: list[Picture]) -> None:
    with pytest.raises(ImageError, match=r"b\.png: .* None of the 2 pictures can be used\."):
        check(rows[1], rows[3], on_bad="skip")


def test_of_many_pictures_the_headers_alone_are_checked(rows: list[Picture], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "FULL_CHECK", 3)
    assert len(check(*rows).rows) == 4
    Path(str(rows[1].source)).write_bytes(b"no picture")
    with pytest.raises(ImageError, match="not a picture in a known format"):
        check(*rows)


def gray16(highest: int) -> Image.Image:
    return Image.fromarray(np.linspace(0, highest, 64).reshape(8, 8).astype(np.uint16))


@pytest.mark.parametrize(("bits", "factor"), [(10, 64), (12, 16), (14, 4)])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_pictures_that_hold_fewer_bits_are_noted(tmp_path: Path, bits: int, factor: int, suffix: str) -> None:
    dark = picture(tmp_path / f"dark.{suffix}", gray16(2**bits - 1))
    full, eight = (
        picture(tmp_path / f"full.{suffix}", gray16(65_535)),
        picture(tmp_path / "black.png", Image.new("L", (8, 8))),
    )
    assert check(dark, full, eight).notes == (
        f"1 of 2 pictures with 16 bits are nearly black: their largest value is {2**bits - 1:,} of 65,535, as {bits} bits "
        f"have. Values are read as they are; if these are {bits} bits, multiply them by {factor} or save 8 bits.",
    )
    assert check(full, eight).notes == ()


def test_a_further_check_refuses_too(rows: list[Picture]) -> None:
    def never(picture: Picture) -> None:
        raise ImageError(f"{picture.name}: never.")

    further: Callable[[Picture], None] = never
    with pytest.raises(ImageError, match=r"^a\.png: never\. `data\.on_bad: skip` leaves such pictures out\.$"):
        check(rows[0], also=further)
