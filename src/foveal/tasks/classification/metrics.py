"""Metrics of single-label classification. An unparsable reply is a wrong one: it counts against recall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from foveal.errors import UserError
from foveal.examples import Example
from foveal.metrics import calibration, confusion
from foveal.results import Metric, Metrics, Prediction

#: What the task measures.
METRICS = Metrics(
    (
        Metric("accuracy", "share", "higher", of_rows=True),
        Metric("balanced_accuracy", "share", "higher"),
        Metric("macro_f1", "share", "higher", "macro F1"),
        Metric("recall", "share", "higher"),
        Metric("precision", "share", "higher"),
        Metric("f1", "share", "higher", "F1"),
        Metric("top2_accuracy", "share", "higher", "top-2 accuracy"),
        Metric("top3_accuracy", "share", "higher", "top-3 accuracy"),
        Metric("top5_accuracy", "share", "higher", "top-5 accuracy"),
        Metric("ece", direction="lower", title="ECE"),
        Metric("ece_adaptive", direction="lower", title="ECE adaptive"),
        Metric("brier", direction="lower", title="Brier"),
        Metric("nll", direction="lower", title="NLL"),
    )
)

#: The k of the top-k accuracies; each is measured where there are more than k classes.
TOP = (2, 3, 5)


def top_k_accuracy(probabilities: ArrayLike, truths: ArrayLike, k: int) -> float:
    """Share of the rows whose truth is among the k likeliest classes.

    Among classes of equal probability the truth counts as the last, so that equal probabilities gain nothing.

    Args:
        probabilities: Of each class, [N, K].
        truths: Index of the true class, [N].
        k: From 1 to below K.
    """
    p, classes = np.asarray(probabilities, dtype=np.float64), np.asarray(truths, dtype=np.int64)
    of_truth = p[np.arange(len(p)), classes][:, None]
    # The truth itself is among those that are not below it.
    return float(((p >= of_truth).sum(axis=1) <= k).mean())


def probability_metrics(probabilities: ArrayLike, truths: ArrayLike, right: ArrayLike) -> dict[str, float]:
    """Metrics of the classes' probabilities.

    Args:
        probabilities: Of each class, [N, K].
        truths: Index of the true class, [N].
        right: Whether the value is the truth, [N].

    Returns:
        ``top2_accuracy``, ``top3_accuracy`` and ``top5_accuracy``, each where there are more classes; ``ece`` over 15 bins of
        equal width and ``ece_adaptive`` over 15 of equally many rows; ``brier``, 0 to 2; ``nll``, in nats.

    Raises:
        UserError: Probabilities do not sum to 1.
    """
    p = calibration.checked(probabilities)
    confidences = p.max(axis=1)
    return {
        **{f"top{k}_accuracy": top_k_accuracy(p, truths, k) for k in TOP if k < p.shape[1]},
        "ece": calibration.calibration_error(calibration.reliability(confidences, right)),
        "ece_adaptive": calibration.calibration_error(calibration.adaptive_reliability(confidences, right)),
        "brier": calibration.brier_score(p, truths),
        "nll": calibration.negative_log_likelihood(p, truths),
    }


def measure_classes(
    examples: Sequence[Example], predictions: Sequence[Prediction], names: Sequence[str]
) -> dict[str, float]:
    """Metrics by name; what cannot be computed from these rows is left out.

    Args:
        examples: The rows.
        predictions: One of each row, in any order.
        names: The classes.

    Raises:
        UserError: There are no rows.
    """
    if not examples:
        raise UserError("There are no rows to measure.")
    by_id = {p.id: p for p in predictions}
    truths, values = [e.truth for e in examples], [by_id[e.id].value for e in examples]
    matrix = confusion.confusion_matrix(truths, values, names)
    measured = {
        "accuracy": confusion.accuracy(matrix),
        "balanced_accuracy": confusion.balanced_accuracy(matrix),
        "macro_f1": confusion.macro_f1(matrix),
        "unparsable": confusion.unparsable(matrix) if (share := unparsable(predictions)) is None else share,
    }
    # A row without a value is wrong, whatever its probabilities say: then they are not measured.
    by_name = [p.probabilities if p.value is not None else None for p in (by_id[e.id] for e in examples)]
    probabilities = [[row[name] for name in names] for row in by_name if row is not None]
    if len(probabilities) == len(examples):
        right = [value == truth for value, truth in zip(values, truths, strict=True)]
        measured |= probability_metrics(probabilities, [names.index(truth) for truth in truths], right)
    occurs = matrix.sum(axis=1) > 0
    each = {
        "recall": confusion.recalls(matrix),
        "precision": confusion.precisions(matrix),
        "f1": confusion.f1_scores(matrix),
    }
    for base, shares in each.items():
        of_class = zip(names, shares, occurs, strict=True)
        measured |= {f"{base}/{name}": float(x) for name, x, here in of_class if here and not np.isnan(x)}
    return measured


def unparsable(predictions: Sequence[Prediction]) -> float | None:
    """Share of the replies with reasons whose written answer is no class; None where no such replies were written."""
    answers = [p.extra["generated"] for p in predictions if "generated" in p.extra]
    return sum(answer is None for answer in answers) / len(answers) if answers else None
