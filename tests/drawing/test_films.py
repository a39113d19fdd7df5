from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from foveal.drawing.contact_sheet import save_sheet
from foveal.drawing.films import film_sheet, save_gif
from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import Picture
from foveal.report.films import write_films
from foveal.results import Prediction
from foveal.tasks.counting.task import Counting, CountingData


def difference(one: Image.Image, other: Image.Image) -> np.ndarray:
    return np.abs(np.asarray(one.convert("RGB"), dtype=int) - np.asarray(other.convert("RGB"), dtype=int)).max(axis=2)


def steps(number: int = 4) -> list[Image.Image]:
    """A gray ramp on which one more red square appears in each frame."""
    values = np.linspace(60, 200, 120 * 80).reshape(80, 120, 1).repeat(3, axis=2)
    ground = Image.fromarray(values.astype(np.uint8))
    made = []
    for k in range(number):
        frame = ground.copy()
        for i in range(k):
            ImageDraw.Draw(frame).rectangle((10 + 25 * i, 30, 25 + 25 * i, 45), fill="red")
        made.append(frame)
    return made


def counted(name: str, **extra: object) -> tuple[Example, Prediction]:
    points = [[10.0, 10.0], [30.0, 20.0]]
    picture = Picture(name, Image.new("RGB", (60, 40), (200, 220, 210)))
    given = {"points": points, "end": "done", "step_confidence": [0.5, 0.25, 1.0], **extra}
    return Example(name, (picture,), fields={"category": "cells"}), Prediction(name, 2, "2 (done)", extra=given)


def test_a_gif_has_each_frame_for_its_time_and_holds_the_last(tmp_path: Path) -> None:
    made, path = steps(), tmp_path / "new" / "film.gif"
    save_gif(made, path)
    with Image.open(path) as film:
        assert film.n_frames == 4  # type: ignore[attr-defined]
        assert film.info["loop"] == 0
        for k, frame in enumerate(made):
            film.seek(k)
            assert film.info["duration"] == (2500 if k == 3 else 600)
            assert difference(film, frame).mean() < 6


def test_pixels_that_stay_do_not_flicker(tmp_path: Path) -> None:
    made = steps()
    save_gif(made, tmp_path / "film.gif")
    shown = []
    with Image.open(tmp_path / "film.gif") as film:
        for k in range(4):
            film.seek(k)
            shown.append(film.convert("RGB"))
    for k in range(3):
        same = difference(made[k], made[k + 1]) == 0
        assert difference(shown[k], shown[k + 1])[same].max() == 0


def test_a_sheet_has_the_frames_in_reading_order_without_lost_space_and_no_more_than_its_limit(tmp_path: Path) -> None:
    plain = [Image.new("RGB", (60, 40), (k, 100, 200 - k)) for k in range(100)]
    sheet = film_sheet(plain, columns=4, limit=8, cell=60)
    assert sheet.size == (12 + 4 * 72, 12 + 2 * 52)
    shown = [sheet.getpixel((12 + 30 + 72 * (k % 4), 12 + 20 + 52 * (k // 4))) for k in range(8)]
    assert [color[0] for color in shown] == [0, 14, 28, 42, 57, 71, 85, 99]  # type: ignore[index]
    save_sheet(sheet, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as saved:
        assert difference(saved, sheet).max() == 0
    assert film_sheet(plain[:1], cell=60).size == (84, 64)


def test_wrong_arguments_and_a_path_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    made = steps(2)
    with pytest.raises(ValueError, match="no frames"):
        save_gif([], tmp_path / "film.gif")
    with pytest.raises(ValueError, match="no sheet"):
        film_sheet([])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file"):
        save_gif(made, tmp_path / "file" / "film.gif")
    with pytest.raises(UserError, match="cannot be written"):
        save_sheet(film_sheet(made), tmp_path)


def test_each_prediction_becomes_a_gif_and_a_sheet_under_a_name_of_its_own(tmp_path: Path) -> None:
    names = ["a/x.png", "b/x.png", "b/X.png", "x-2.png", "odd [1] ü.png", "...", "l" * 200 + ".png"]
    rows = [counted(name) for name in names]
    folder = tmp_path / "new" / "films"
    assert write_films(Counting(CountingData()), *zip(*rows, strict=True), folder) == 7
    stems = ["x", "x-2", "X-3", "x-2-2", "odd_1_ü", "film", "l" * 60]
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{s}{end}" for s in stems for end in (".gif", ".png"))
    for stem in stems:
        with Image.open(folder / f"{stem}.gif") as film, Image.open(folder / f"{stem}.png") as sheet:
            durations = []
            for k in range(film.n_frames):  # type: ignore[attr-defined]
                film.seek(k)
                durations.append(film.info["duration"])
            assert durations == [600, 600, 2500]
            assert sheet.width == 12 + 3 * 252


def test_answers_without_steps_have_no_film_and_leave_no_folder(tmp_path: Path) -> None:
    example, _ = counted("x")
    task = Counting(CountingData(strategy="number"))
    with pytest.raises(UserError, match="--film: the answers of counting do not come about in steps here"):
        write_films(task, [example], [Prediction("x", 2, "2")], tmp_path / "films")
    assert not (tmp_path / "films").exists()
