"""Metrics of single-label classification. An unparsable reply is a wrong one: it counts against recall."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from foveal.metrics import calibration
from foveal.results import Metric, Metrics

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

#: The k of the top-k accuracies, each where there are more classes.
TOP = (2, 3, 5)


def top_k_accuracy(probabilities: ArrayLike, truths: ArrayLike, k: int) -> float:
    """Share of the rows whose truth is among the k likeliest classes.

    Of classes of equal probability the truth counts as the last, so that a model that tells none apart gains nothing.

    Args:
        probabilities: Of each class, [N, K].
        truths: Index of the true class, [N].
        k: From 1 to below K.
    """
    p, classes = np.asarray(probabilities, dtype=np.float64), np.asarray(truths, dtype=np.int64)
    own = p[np.arange(len(p)), classes][:, None]
    # The truth itself is among those that are not below it.
    return float(((p >= own).sum(axis=1) <= k).mean())


def probability_metrics(probabilities: ArrayLike, truths: ArrayLike, right: ArrayLike) -> dict[str, float]:
    """What probabilities add to the values.

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
