import math

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from foveal.evaluation.plots import confusion_png, curves_png

HISTORY = [
    {
        "epoch": float(e),
        "train_loss": 1 / e,
        "val_loss": 1.2 / e,
        "val_accuracy": 1 - 0.5 / e,
        "learning_rate": 1e-3 / e,
    }
    for e in range(1, 6)
]


def colours(path):
    return set(map(tuple, np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()))


def test_curves_of_three_panels_in_their_colours(tmp_path):
    path = tmp_path / "deeper" / "curves.png"
    curves_png(HISTORY, path, headline="val_accuracy", chance=0.5)
    width, height = Image.open(path).size
    assert width > 3 * height
    assert {(0x1D, 0x5F, 0xC4), (0xB3, 0x59, 0x0A), (0x5B, 0x4B, 0xB5)} <= colours(path)


def test_panels_without_values_are_left_out(tmp_path):
    curves_png([{"epoch": 1.0, "train_loss": 2.0}], tmp_path / "one.png")
    curves_png(HISTORY, tmp_path / "three.png")
    assert Image.open(tmp_path / "one.png").width * 2 < Image.open(tmp_path / "three.png").width


@pytest.mark.parametrize(
    "history", [[], [{"epoch": 1.0, "train_loss": math.nan}], [{"epoch": 1.0, "val_accuracy": 0.5}]]
)
def test_little_history_is_still_a_picture(history, tmp_path):
    curves_png(history, tmp_path / "c.png", chance=0.3)
    assert Image.open(tmp_path / "c.png").width > 300


def test_the_same_numbers_give_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        curves_png(HISTORY, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_no_figure_stays_behind(tmp_path):
    import matplotlib.pyplot as plt  # only to ask it

    backend = mpl.get_backend()
    confusion_png([[3, 1], [0, 4]], ["no", "yes"], tmp_path / "m.png")
    assert plt.get_fignums() == []
    assert mpl.get_backend() == backend


def test_a_pure_row_is_dark_and_an_empty_one_is_not(tmp_path):
    path = tmp_path / "m.png"
    confusion_png([[9, 0], [0, 0]], ["no", "yes"], path)
    dark, pale = (8, 48, 107), (247, 251, 255)  # the ends of "Blues"
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    full = int((pixels == dark).all(1).sum())
    empty = int((pixels == pale).all(1).sum())
    assert empty > 2.5 * full > 0


def test_more_answers_than_classes(tmp_path):
    confusion_png(np.array([[3, 1, 2]]), ["a"], tmp_path / "m.png", answers=["a", "b", "unparsable"])
    assert (tmp_path / "m.png").is_file()


def test_many_classes_keep_a_sane_size(tmp_path):
    confusion_png(np.eye(60, dtype=int), [f"class {i}" for i in range(60)], tmp_path / "m.png")
    assert max(Image.open(tmp_path / "m.png").size) < 3000


@pytest.mark.parametrize(("matrix", "names"), [([[1, 2]], ["a", "b"]), ([[1]], ["a", "b"]), (np.zeros((0, 0)), [])])
def test_a_matrix_must_fit_its_names(matrix, names, tmp_path):
    with pytest.raises(ValueError, match="does not fit"):
        confusion_png(matrix, names, tmp_path / "m.png")
