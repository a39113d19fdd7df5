from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from foveal.tasks.counting.film import frames
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


def test_a_count_of_nothing_is_one_frame() -> None:
    made = frames(picture(), [], "cells")
    assert len(made) == 1
    # Enlarged to 480 pixels; the picture itself is unmarked.
    assert made[0].width == 480
    assert difference(made[0].crop((0, 0, 480, 320)), picture().resize((480, 320), Image.Resampling.LANCZOS)).max() == 0


def test_other_than_one_confidence_for_each_point_and_the_end_is_refused() -> None:
    with pytest.raises(ValueError, match="1 confidences of 3 points"):
        frames(picture(), THINGS, "cells", confidences=[1.0])
