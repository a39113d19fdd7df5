import itertools
import math

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from foveal.metrics.calibration import reliability
from foveal.report import plots
from foveal.report.charts import Confusion, training_charts
from foveal.report.plots import confusion_png, curves_png, reliability_png
from foveal.results import Metric, Metrics

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
METRICS = Metrics((Metric("accuracy", "share", "higher"),))


def square(counts, names):
    """A confusion matrix whose columns are its rows."""
    return Confusion(list(names), list(names), counts)


def colours(path):
    return set(map(tuple, np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()))


def test_curves_of_three_panels_in_their_colours(tmp_path):
    path = tmp_path / "deeper" / "curves.png"
    curves_png(training_charts(HISTORY, METRICS, "accuracy", 0.5), path)
    width, height = Image.open(path).size
    assert width > 3 * height
    assert {(0x1D, 0x5F, 0xC4), (0xB3, 0x59, 0x0A), (0x5B, 0x4B, 0xB5)} <= colours(path)


def test_panels_without_values_are_left_out(tmp_path):
    curves_png(training_charts([{"epoch": 1.0, "train_loss": 2.0}], METRICS), tmp_path / "one.png")
    curves_png(training_charts(HISTORY, METRICS), tmp_path / "three.png")
    assert Image.open(tmp_path / "one.png").width * 2 < Image.open(tmp_path / "three.png").width


@pytest.mark.parametrize(
    "history", [[], [{"epoch": 1.0, "train_loss": math.nan}], [{"epoch": 1.0, "val_accuracy": 0.5}]]
)
def test_little_history_is_still_a_picture(history, tmp_path):
    curves_png(training_charts(history, METRICS, chance=0.3), tmp_path / "c.png")
    assert Image.open(tmp_path / "c.png").width > 300


def test_the_same_numbers_give_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        curves_png(training_charts(HISTORY, METRICS), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_no_figure_stays_behind(tmp_path):
    import matplotlib.pyplot as plt  # only to ask it

    backend = mpl.get_backend()
    confusion_png(square([[3, 1], [0, 4]], ["no", "yes"]), tmp_path / "m.png")
    assert plt.get_fignums() == []
    assert mpl.get_backend() == backend


def test_a_pure_row_is_dark_and_an_empty_one_is_not(tmp_path):
    path = tmp_path / "m.png"
    confusion_png(square([[9, 0], [0, 0]], ["no", "yes"]), path)
    dark, pale = (8, 48, 107), (247, 251, 255)  # the ends of "Blues"
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    full = int((pixels == dark).all(1).sum())
    empty = int((pixels == pale).all(1).sum())
    assert empty > 2.5 * full > 0


def test_more_answers_than_classes(tmp_path):
    confusion_png(Confusion(["a"], ["a", "b", "unparsable"], [[3, 1, 2]]), tmp_path / "m.png")
    assert (tmp_path / "m.png").is_file()


def test_many_classes_keep_a_sane_size(tmp_path):
    confusion_png(square(np.eye(60, dtype=int).tolist(), [f"class {i}" for i in range(60)]), tmp_path / "m.png")
    assert max(Image.open(tmp_path / "m.png").size) < 3000


@pytest.mark.parametrize(("matrix", "names"), [([[1, 2]], ["a", "b"]), ([[1]], ["a", "b"]), ([], [])])
def test_a_matrix_must_fit_its_names(matrix, names, tmp_path):
    with pytest.raises(ValueError, match="does not fit"):
        confusion_png(square(matrix, names), tmp_path / "m.png")


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, beside their files."""
    drawn, save = [], plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: (drawn.append(figure), save(figure, path)))
    return drawn


def boxes(figure, labels):
    renderer = figure.canvas.get_renderer()
    return [label.get_window_extent(renderer) for label in labels if label.get_text()]


@pytest.mark.parametrize("classes", [3, 15, 21, 101, 400])
def test_labels_do_not_overlap_and_say_the_class_in_their_place(classes, figures, tmp_path):
    names = [f"{i} of the many classes with a long name" for i in range(classes)]
    confusion_png(square(np.eye(classes, dtype=int).tolist(), names), tmp_path / "m.png")
    axes = figures[0].axes[0]
    for ticks, labels, side in (
        (axes.get_yticks(), axes.get_yticklabels(), "y"),
        (axes.get_xticks(), axes.get_xticklabels(), "x"),
    ):
        shown = [label.get_text() for label in labels]
        assert all(text.startswith(f"{int(t)} of") and len(text) <= 26 for t, text in zip(ticks, shown, strict=True))
        assert len(shown) == (classes if classes <= 101 else len(shown)) > 2
        if classes > 20 or side == "y":
            found = boxes(figures[0], labels)
            low = sorted((b.y0, b.y1) if side == "y" else (b.x0, b.x1) for b in found)
            assert all(b[0] >= a[1] - 0.5 for a, b in itertools.pairwise(low))
    assert max(Image.open(tmp_path / "m.png").size) < 3000


def test_a_rare_confusion_of_many_classes_can_be_seen(figures, tmp_path):
    counts = np.diag([98] * 101)
    counts[3, 60] = 2
    confusion_png(square(counts.tolist(), [str(i) for i in range(101)]), tmp_path / "m.png")
    image = figures[0].axes[0].images[0]
    pale, rare = (np.array(image.cmap(image.norm(share))[:3]) for share in (0.0, 0.02))
    assert np.abs(pale - rare).max() > 0.08


def test_the_reliability_diagram_has_a_bar_for_each_bin_with_rows(figures, tmp_path):
    rng = np.random.default_rng(0)
    confidences = rng.uniform(0.5, 1, 4000)
    table = reliability(confidences, rng.random(4000) < confidences)
    reliability_png(table, tmp_path / "r.png")
    above, below = figures[0].axes
    full = [b for b in table if b.rows]
    assert len(full) == 8
    assert [p.get_height() for p in above.patches] == [b.accuracy for b in full]
    assert [p.get_x() + p.get_width() / 2 for p in above.patches] == pytest.approx(
        [(b.lower + b.upper) / 2 for b in full]
    )
    assert [p.get_height() for p in below.patches] == [b.rows for b in full]
    assert [text.get_text() for text in below.texts] == [f"{b.rows:,}" for b in full]
    assert above.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]
    assert above.get_title(loc="left").startswith("ECE 0.0") and "4,000 rows" in above.get_title(loc="left")


def test_the_reliability_of_one_row_is_a_picture(figures, tmp_path):
    reliability_png(reliability([1.0], [True]), tmp_path / "r.png")
    assert figures[0].axes[0].get_title(loc="left") == "ECE 0.000 on 1 row"
    assert Image.open(tmp_path / "r.png").height > 500
