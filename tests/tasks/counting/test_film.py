from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveal.errors import UserError
from foveal.tasks.counting.film import contact_sheet, frames, save_gif, save_sheet
from foveal.tasks.counting.marking import mark
from foveal.tasks.counting.objects import Thing

THINGS = [Thing((20, 20), (10, 10, 30, 30)), Thing((60, 30)), Thing((100, 60), (90, 40, 110, 80))]


def picture() -> Image.Image:
    values = np.linspace(60, 200, 120 * 80).reshape(80, 120, 1).repeat(3, axis=2)
    return Image.fromarray(values.astype(np.uint8))


def difference(one: Image.Image, other: Image.Image) -> np.ndarray:
    return np.abs(np.asarray(one.convert("RGB"), dtype=int) - np.asarray(other.convert("RGB"), dtype=int)).max(axis=2)


def test_each_frame_has_the_marks_so_far_and_a_ring_around_the_next() -> None:
    made = frames(picture(), THINGS, "cells", side=120, color="red", alpha=1)
    assert len(made) == 4
    assert len({frame.size for frame in made}) == 1
    assert made[0].width == 120
    for k, frame in enumerate(made):
        shown = frame.crop((0, 0, 120, 80))
        away = difference(shown, mark(picture(), THINGS[:k], color="red", alpha=1))
        ys, xs = np.nonzero(away)
        if k == len(THINGS):
            assert not away.any()
        else:
            # Nothing but the ring differs, and it lies around the point.
            assert ((xs.min() + xs.max() + 1) / 2, (ys.min() + ys.max() + 1) / 2) == pytest.approx(
                THINGS[k].point, abs=1
            )
            assert max(xs.max() - xs.min(), ys.max() - ys.min()) < 50


def test_frames_of_narrow_pictures_and_long_words_keep_one_size() -> None:
    for category, ending in [("cells", "stopped: the same point came three times"), ("very small cells " * 9, "done")]:
        made = frames(picture().resize((40, 160)), THINGS[:2], category, ending=ending, confidences=[0.5, None, 1])
        assert len({frame.size for frame in made}) == 1
        assert made[0].width == 120
        assert made[0].height > 480


def test_a_count_of_nothing_is_one_frame(tmp_path: Path) -> None:
    made = frames(picture(), [], "cells")
    assert len(made) == 1
    save_gif(made, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        assert film.size == made[0].size
    assert contact_sheet(made).width == 240 + 2 * 12


def test_a_gif_has_each_frame_for_its_time_and_holds_the_last(tmp_path: Path) -> None:
    made = frames(picture(), THINGS, "cells")
    path = tmp_path / "new" / "film.gif"
    save_gif(made, path, seconds=0.25, hold=3)
    with Image.open(path) as film:
        assert film.n_frames == 4  # type: ignore[attr-defined]
        assert film.info["loop"] == 0
        for k, frame in enumerate(made):
            film.seek(k)
            assert film.info["duration"] == (3000 if k == 3 else 250)
            assert difference(film, frame).mean() < 6


def test_pixels_that_stay_do_not_flicker(tmp_path: Path) -> None:
    made = frames(picture(), THINGS, "cells")
    save_gif(made, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        shown = []
        for k in range(4):
            film.seek(k)
            shown.append(film.convert("RGB"))
    for k in range(3):
        same = difference(made[k], made[k + 1]) == 0
        assert difference(shown[k], shown[k + 1])[same].max() == 0


def test_a_sheet_has_the_frames_in_reading_order_and_no_more_than_its_limit(tmp_path: Path) -> None:
    plain = [Image.new("RGB", (60, 40), (k, 100, 200 - k)) for k in range(100)]
    sheet = contact_sheet(plain, columns=4, limit=8, cell=60)
    assert sheet.size == (12 + 4 * 72, 12 + 2 * 52)
    shown = [sheet.getpixel((12 + 30 + 72 * (k % 4), 12 + 20 + 52 * (k // 4))) for k in range(8)]
    reds = [color[0] for color in shown]  # type: ignore[index]
    assert reds == [0, 14, 28, 42, 57, 71, 85, 99]
    save_sheet(sheet, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as saved:
        assert difference(saved, sheet).max() == 0


def test_wrong_arguments_and_a_path_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    made = frames(picture(), THINGS[:1], "cells", side=60)
    with pytest.raises(ValueError, match="confidences"):
        frames(picture(), THINGS, "cells", confidences=[1.0])
    with pytest.raises(UserError, match=r"choose 0\.02 to 600"):
        save_gif(made, tmp_path / "film.gif", seconds=0)
    with pytest.raises(ValueError, match="no frames"):
        save_gif([], tmp_path / "film.gif")
    with pytest.raises(ValueError, match="no sheet"):
        contact_sheet([])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file"):
        save_gif(made, tmp_path / "file" / "film.gif")
    with pytest.raises(UserError, match="cannot be written"):
        save_sheet(contact_sheet(made), tmp_path)
