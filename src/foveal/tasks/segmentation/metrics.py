"""Metrics of masks, and the scores of blind baselines.

The names follow the published figures of reasoning segmentation (LISA, Lai et al. 2023, arXiv 2308.00692): gIoU is the
mean of the IoU over the queries, cIoU the IoU of all pixels of all queries together. Two other figures go by those
names elsewhere, so they have names of their own here: ``box_giou`` is the generalised IoU of bounding boxes, and the
IoU of a class is ``class_iou_foreground`` or ``class_iou_background``. All figures are shares from 0 to 1 (``box_giou``
from -1 to 1), where tables often print them times 100.

Frame: see ``foveal.tasks.segmentation.objects``. Masks are compared at the picture's original size, and pixels that the
truth marks as ignored are taken out of both masks first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import MAX_PIXELS
from foveal.results import Metric, Metrics, Prediction
from foveal.tasks.segmentation import rle
from foveal.tasks.segmentation.objects import IGNORE, Mask

#: What the task measures.
METRICS = Metrics(
    (
        Metric("giou", direction="higher", title="gIoU"),
        Metric("ciou", direction="higher", title="cIoU"),
        Metric("miou", direction="higher", title="mIoU"),
        Metric("precision", direction="higher"),
        Metric("box_giou", direction="higher", title="box gIoU"),
        Metric("class_iou", direction="higher", title="class IoU"),
        Metric("predicted_iou_error", direction="lower", title="predicted IoU error"),
        Metric("baseline_giou", direction="higher", title="baseline gIoU"),
        Metric("baseline_ciou", direction="higher", title="baseline cIoU"),
        Metric("bce_loss", direction="lower", title="BCE loss"),
        Metric("iou_loss", direction="lower", title="IoU loss"),
    )
)

#: Left, top, right and bottom edge.
Box = tuple[float, float, float, float]
#: Added to the union of each query in gIoU and to the sum of the unions in cIoU, as the released code of LISA does.
GIOU_EPSILON: Final = 1e-5
CIOU_EPSILON: Final = 1e-10
THRESHOLDS: Final = (0.5, 0.7, 0.9)
#: The best fixed box is looked for with its edges on so many lines, at most, along each side.
GRID: Final = 32


@dataclass(frozen=True)
class Overlap:
    """How a predicted mask and the true one of one query overlap. Ignored pixels count nowhere.

    Attributes:
        intersection: Pixels in both masks.
        union: Pixels in at least one of them.
        predicted: Pixels in the predicted mask.
        truth: Pixels in the true mask.
        pixels: Pixels of the picture.
        box_giou: Generalised IoU of the two masks' bounding boxes; see ``box_giou``.
        read: Whether the reply could be read. Where not, no pixel of it is right, of neither class.
    """

    intersection: int
    union: int
    predicted: int
    truth: int
    pixels: int
    box_giou: float
    read: bool = True


def overlap(predicted: NDArray[np.bool_], truth: Mask) -> Overlap:
    """Compares a predicted mask with the truth.

    Args:
        predicted: [H, W], True where the model marks the target.
        truth: [H, W] of 0, 1 and 255 (see ``IGNORE``).

    Raises:
        ValueError: The prediction is not an array [H, W] of bool, or the truth has another shape.
    """
    if predicted.ndim != 2 or predicted.dtype != np.bool_ or predicted.shape != truth.shape:
        raise ValueError(
            f"a predicted mask of shape {predicted.shape} and type {predicted.dtype}, a true one of shape {truth.shape}"
        )
    valid = truth != IGNORE
    seen, meant = predicted & valid, truth == 1
    both, p, t = (int(np.count_nonzero(a)) for a in (seen & meant, seen, meant))
    return Overlap(both, p + t - both, p, t, int(np.count_nonzero(valid)), _masks_box_giou(seen, meant))


def unread(truth: Mask) -> Overlap:
    """The overlap of a reply that could not be read, which is wrong in every metric.

    It marks nothing; where nothing is meant, which would be right, it counts as if the whole picture were marked.

    Args:
        truth: [H, W] of 0, 1 and 255.
    """
    meant, pixels = int(np.count_nonzero(truth == 1)), int(np.count_nonzero(truth != IGNORE))
    return Overlap(0, meant or max(pixels, 1), 0 if meant else pixels, meant, pixels, -1.0, read=False)


def iou(one: Overlap) -> float:
    """Intersection over union I / U; 1 where both masks are empty, for then they agree."""
    return one.intersection / one.union if one.union else 1.0


def giou(overlaps: Sequence[Overlap]) -> float:
    """LISA's gIoU: mean over the queries of I / (U + 1e-5), with 1 where U = 0.

    The 1e-5 is kept so that figures equal the published ones; ``miou`` is the same without it.

    Raises:
        ValueError: There are no queries. The same holds for all metrics.
    """
    i, u = _counts(overlaps)
    return float(_ious(i, u).mean())


def ciou(overlaps: Sequence[Overlap]) -> float:
    """LISA's cIoU, cumulative: the sum of I over the sum of U + 1e-10. Large targets weigh more than small ones."""
    i, u = _counts(overlaps)
    return float(i.sum() / (u.sum() + CIOU_EPSILON))


def miou(overlaps: Sequence[Overlap]) -> float:
    """Mean over the queries of the plain IoU (see ``iou``): LISA's gIoU without its 1e-5."""
    _counts(overlaps)
    return float(np.mean([iou(one) for one in overlaps]))


def precision(overlaps: Sequence[Overlap], threshold: float) -> float:
    """Precision at a threshold: share of queries with an IoU above it.

    Released codes of referring segmentation differ at the threshold itself: CRIS asks for more, as here; LAVT lets it
    pass. The figures differ only where an IoU hits the threshold exactly.
    """
    _counts(overlaps)
    return float(np.mean([iou(one) > threshold for one in overlaps]))


def box_giou(overlaps: Sequence[Overlap]) -> float:
    """Mean over the queries of the generalised IoU of bounding boxes (Rezatofighi et al. 2019, arXiv 1902.09630).

    For two boxes with the smallest box C around both it is I / U - (C - U) / C: 1 for equal boxes, and close to -1 for
    small ones far apart. Two empty masks agree and count 1. If just one of them is empty, it counts -1, which no two
    boxes reach: no query is left out, so no model gains by predicting nothing.
    """
    _counts(overlaps)
    return float(np.mean([one.box_giou for one in overlaps]))


def class_iou_foreground(overlaps: Sequence[Overlap]) -> float:
    """IoU of the class "meant" over all pixels of all queries; 1 where nothing is in it. It is cIoU without its 1e-10."""
    i, u = _counts(overlaps)
    return float(i.sum() / u.sum()) if u.any() else 1.0


def class_iou_background(overlaps: Sequence[Overlap]) -> float:
    """IoU of the class "not meant" over all pixels of all queries; 1 where nothing is in it.

    It is high whenever targets are small, whatever the model does.
    """
    i, _ = _counts(overlaps)
    pixels = sum(one.pixels for one in overlaps)
    # What is in neither foreground is the intersection of the backgrounds.
    union = pixels - float(i.sum())
    both = sum(one.pixels - one.union for one in overlaps if one.read)
    return both / union if union else float(all(one.read for one in overlaps))


def measure(overlaps: Sequence[Overlap], is_sentence: Sequence[bool]) -> dict[str, float]:
    """All metrics by name.

    Args:
        overlaps: One for each query.
        is_sentence: Whether the query is a whole sentence (ReasonSeg's long queries) or a phrase (its short ones).

    Returns:
        giou, ciou, miou, precision_50, precision_70, precision_90, box_giou, class_iou_foreground and
        class_iou_background; and where both kinds of query occur, giou_short, ciou_short, giou_long and ciou_long.

    Raises:
        ValueError: There are no queries, or not as many flags.
    """
    if len(overlaps) != len(is_sentence):
        raise ValueError(f"{len(overlaps)} overlaps and {len(is_sentence)} flags")
    values = {"giou": giou(overlaps), "ciou": ciou(overlaps), "miou": miou(overlaps)}
    values |= {f"precision_{round(100 * at)}": precision(overlaps, at) for at in THRESHOLDS}
    values |= {
        "box_giou": box_giou(overlaps),
        "class_iou_foreground": class_iou_foreground(overlaps),
        "class_iou_background": class_iou_background(overlaps),
    }
    if any(is_sentence) and not all(is_sentence):
        for name, kind in (("short", False), ("long", True)):
            some = [one for one, flag in zip(overlaps, is_sentence, strict=True) if bool(flag) is kind]
            values |= {f"giou_{name}": giou(some), f"ciou_{name}": ciou(some)}
    return values


@dataclass(frozen=True)
class Baseline:
    """Scores of one fixed box, predicted for every query.

    Attributes:
        giou: See ``giou``.
        ciou: See ``ciou``.
        box: Shares of the picture's sides. All zeros is the empty mask.
    """

    giou: float
    ciou: float
    box: Box


def empty_baseline(truths: Sequence[Mask]) -> Baseline:
    """Scores of never marking a pixel: gIoU is the share of queries that mean nothing."""
    return box_baseline((0.0, 0.0, 0.0, 0.0), truths)


def full_baseline(truths: Sequence[Mask]) -> Baseline:
    """Scores of marking every pixel: gIoU is the mean share of the picture that is meant."""
    return box_baseline((0.0, 0.0, 1.0, 1.0), truths)


def best_box_baseline(truths: Sequence[Mask], fit_to: Sequence[Mask] | None = None) -> Baseline:
    """Scores of the best fixed box: a model that knows where targets tend to be and ignores the picture.

    Args:
        truths: The masks to measure, [H, W] each, of any sizes.
        fit_to: The masks to choose the box by, say those of the training set; without it ``truths``, which gives the
            most that any box on the grid can get. See ``best_box``.

    Raises:
        ValueError: There are no masks.
    """
    return box_baseline(best_box(truths if fit_to is None else fit_to), truths)


def box_baseline(box: Box, truths: Sequence[Mask]) -> Baseline:
    """Scores of one fixed box at the original sizes of the masks.

    Args:
        box: Shares of the picture's sides. A pixel is in the box if its centre is.
        truths: The masks to measure, [H, W] each; one is needed at a time.

    Raises:
        ValueError: There are no masks.
    """
    overlaps = []
    for truth in truths:
        height, width = truth.shape
        left, top, right, bottom = (
            int(np.ceil(edge * side - 0.5)) for edge, side in zip(box, (width, height) * 2, strict=True)
        )
        predicted = np.zeros(truth.shape, dtype=np.bool_)
        predicted[top:bottom, left:right] = True
        overlaps.append(overlap(predicted, truth))
    return Baseline(giou(overlaps), ciou(overlaps), box)


def best_box(truths: Sequence[Mask]) -> Box:
    """The box that gets the largest gIoU if it is predicted for every query.

    Every box is tried whose edges lie on a grid of 32 x 32 cells, or of as many as the largest mask has pixels where
    these are fewer; and the empty one. A cell holds the exact area of the target in it. Of equally good boxes the empty
    one is taken, then the one that comes first by its left, right, top and bottom edge.

    Args:
        truths: [H, W] each, of any sizes; gone through twice, one at a time.

    Returns:
        Shares of the picture's sides; all zeros for the empty box.

    Raises:
        ValueError: There are no masks.
    """
    if not len(truths):
        raise ValueError("no masks")
    rows, columns = (min(GRID, int(side)) for side in np.max([truth.shape for truth in truths], axis=0))
    (top, bottom), (left, right) = np.triu_indices(rows + 1, 1), np.triu_indices(columns + 1, 1)

    def bands(cells: NDArray[np.bool_]) -> NDArray[np.float64]:
        # Areas above and left of each crossing of the grid; from them, left of each column line between two row lines.
        corners = _shares(rows, cells.shape[0]) @ cells.astype(np.float64) @ _shares(columns, cells.shape[1]).T
        return np.ascontiguousarray((corners[bottom] - corners[top]).T)

    total, empty = np.zeros((len(left), len(top))), 0
    for truth in truths:
        target, valid, meant = bands(truth == 1), bands(truth != IGNORE), np.count_nonzero(truth == 1)
        # All boxes at once would not fit the processor's cache, and take six times as long.
        for start in range(0, len(left), 48):
            some = slice(start, start + 48)
            i, predicted = (area[right[some]] - area[left[some]] for area in (target, valid))
            total[some] += _ious(i, predicted + (meant - i))
        empty += meant == 0
    # Sums of areas carry rounding errors, so a tie is one up to a millionth.
    if empty >= total.max() - 1e-6 * len(truths):
        return 0.0, 0.0, 0.0, 0.0
    x, y = np.unravel_index(int(np.argmax(total >= total.max() - 1e-6 * len(truths))), total.shape)
    return float(left[x] / columns), float(top[y] / rows), float(right[x] / columns), float(bottom[y] / rows)


def _shares(lines: int, side: int) -> NDArray[np.float64]:
    """How much of each of ``side`` pixels lies before each line, [lines + 1, side]."""
    return np.clip(np.arange(lines + 1)[:, None] * side / lines - np.arange(side), 0.0, 1.0)


def _counts(overlaps: Sequence[Overlap]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not overlaps:
        raise ValueError("no queries to measure")
    both = np.array([(one.intersection, one.union) for one in overlaps], dtype=np.float64)
    return both[:, 0], both[:, 1]


def _ious(i: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """The terms of gIoU."""
    # Areas of boxes on the grid can miss zero by a rounding error.
    return np.where(u < 1e-6, 1.0, i / (u + GIOU_EPSILON))


def _masks_box_giou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    a, b = _bounds(one), _bounds(other)
    if a is None or b is None:
        return 1.0 if a is b else -1.0
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return both / union - (around - union) / around


def _bounds(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom edge around the pixels of a mask [H, W]; None where it has none."""
    xs, ys = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1) if len(xs) else None


def baselines(truths: Sequence[Mask]) -> dict[str, Baseline]:
    """Scores of blind guesses."""
    return {"empty": empty_baseline(truths), "full": full_baseline(truths), "box": best_box_baseline(truths)}


def by_kind(overlaps: Sequence[Overlap], kinds: Sequence[str | None]) -> dict[str, float]:
    """gIoU and cIoU of the queries of each kind, ``giou/place`` and so on; empty unless two kinds or more are known.

    Args:
        overlaps: One for each query.
        kinds: The kind of each, for generated scenes one of ``sentences.KINDS``; None where it is not known.
    """
    names = sorted({kind for kind in kinds if kind is not None})
    if len(names) < 2:
        return {}
    of = {name: [one for one, kind in zip(overlaps, kinds, strict=True) if kind == name] for name in names}
    return {f"giou/{k}": giou(v) for k, v in of.items()} | {f"ciou/{k}": ciou(v) for k, v in of.items()}


def measure_masks(
    examples: Sequence[Example], predictions: Sequence[Prediction], max_pixels: int = MAX_PIXELS
) -> dict[str, float]:
    """gIoU, cIoU and the others of ``measure`` at the pictures' own size; the share of unparsable replies, which are
    wrong in all of them (see ``unread``); gIoU and cIoU of each kind of query, where kinds are known; how far the predicted IoU is from the real one; and the scores of blind guesses.

    Args:
        examples: The rows; their truths have a ``target``.
        predictions: One of each row, in any order.
        max_pixels: Larger masks are refused.

    Raises:
        UserError: There are no rows.
    """
    if not examples:
        raise UserError("There are no rows to measure.")
    by_id = {p.id: p for p in predictions}
    overlaps, truths, errors = [], [], []
    for example in examples:
        prediction = by_id[example.id]
        whole: Mask = example.truth.target.whole()
        if prediction.value is None:
            overlaps.append(unread(whole))
        else:
            overlaps.append(overlap(rle.decode(prediction.value, max_pixels=max_pixels), whole))
        truths.append(whole)
        expected: list[float] = prediction.extra.get("predicted_iou") or []
        if len(expected) == 1:
            errors.append(abs(expected[0] - iou(overlaps[-1])))
    values = measure(overlaps, [bool(e.fields["is_sentence"]) for e in examples])
    values |= by_kind(overlaps, [e.fields.get("kind") for e in examples])
    values["unparsable"] = sum(by_id[e.id].value is None for e in examples) / len(examples)
    if errors:
        values["predicted_iou_error"] = sum(errors) / len(errors)
    for name, baseline in baselines(truths).items():
        values |= {f"baseline_giou/{name}": baseline.giou, f"baseline_ciou/{name}": baseline.ciou}
    return values
