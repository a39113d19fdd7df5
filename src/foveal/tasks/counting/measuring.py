"""From predictions to metrics: counts, points, several categories, and how counts ended."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from foveal.errors import UserError
from foveal.examples import Example
from foveal.results import Metric, Metrics, Prediction
from foveal.tasks.counting.matching import match_points, pooled
from foveal.tasks.counting.metrics import COUNT_METRICS, PAIR_METRICS, Pair, bucket_table, counted

#: What the task measures.
METRICS = Metrics(
    (
        Metric("mae", direction="lower", title="MAE"),
        Metric("rmse", direction="lower", title="RMSE"),
        Metric("nae", direction="lower", title="NAE"),
        Metric("sre", direction="lower", title="SRE"),
        Metric("exact_accuracy", "share", "higher", of_rows=True),
        Metric("off_by_one_accuracy", "share", "higher"),
        Metric("bias"),
        Metric("over_share", "share", "lower"),
        Metric("under_share", "share", "lower"),
        Metric("m_rmse", direction="lower", title="m RMSE"),
        Metric("m_rmse_nz", direction="lower", title="m RMSE nz"),
        Metric("m_rel_rmse", direction="lower", title="m rel RMSE"),
        Metric("m_rel_rmse_nz", direction="lower", title="m rel RMSE nz"),
        Metric("omnicount_code_m_rmse", direction="lower", title="OmniCount code m RMSE"),
        Metric("omnicount_code_m_rel_rmse", direction="lower", title="OmniCount code m rel RMSE"),
        Metric("countgd_pairs_mae", direction="lower", title="CountGD pairs MAE"),
        Metric("countgd_pairs_rmse", direction="lower", title="CountGD pairs RMSE"),
        Metric("point_precision", direction="higher"),
        Metric("point_recall", direction="higher"),
        Metric("point_f1", direction="higher", title="point F1"),
        Metric("ended_done_share", "share"),
        Metric("ended_limit_share", "share"),
        Metric("ended_stuck_share", "share"),
        Metric("ended_unreadable_share", "share"),
        Metric("repeats", direction="lower"),
    )
)


def measure_counts(examples: Sequence[Example], predictions: Sequence[Prediction], radius: float) -> dict[str, float]:
    """Metrics of counts, by name.

    Rows without a prediction, and replies that could not be read, count as 0; their share is ``unparsable``. A count
    that ended without "done" counts with the points that it has.

    * ``mae``, ``rmse`` and the rest of ``COUNT_METRICS``, over the rows; ``mae/11-20`` and the like for each bucket of
      true counts that occurs;
    * ``m_rmse`` and the rest of ``PAIR_METRICS``, where a picture is asked about more than one category;
    * ``point_precision``, ``point_recall``, ``point_f1`` where points were predicted, over all rows: one without
      points misses all of its objects;
    * ``ended_done_share``, ``ended_limit_share``, ``ended_stuck_share``, ``ended_unreadable_share``, ``repeats`` (mean
      number in a picture) where pictures were counted in steps, over those.

    Args:
        examples: The rows.
        predictions: In any order.
        radius: See ``match_points``.

    Raises:
        UserError: There are no rows.
    """
    if not examples:
        raise UserError("There are no rows to measure.")
    said = {p.id: p for p in predictions}
    none = Prediction("", None, "")
    rows = [(e, said.get(e.id, none)) for e in examples]
    guessed, truths = [counted(p.value) for _, p in rows], [int(e.truth) for e, _ in rows]
    found = {name: metric(guessed, truths) for name, metric in COUNT_METRICS.items()}
    for bucket in bucket_table(guessed, truths):
        if bucket.rows:
            found[f"mae/{bucket.name}"] = bucket.metrics["mae"]
            found[f"exact_accuracy/{bucket.name}"] = bucket.metrics["exact_accuracy"]
    pictures = Counter(e.images[0].name for e in examples)
    if max(pictures.values()) > 1:
        pairs = [
            Pair(e.images[0].name, f"{e.fields['domain']}/{e.fields['category']}", g, t)
            for (e, _), g, t in zip(rows, guessed, truths, strict=True)
        ]
        found |= {name: metric(pairs) for name, metric in PAIR_METRICS.items()}
    if any("points" in p.extra for _, p in rows):
        scores = pooled(
            match_points([(x, y) for x, y in p.extra.get("points", ())], e.fields["things"], e.fields["size"], radius)
            for e, p in rows
        )
        found |= {"point_precision": scores.precision, "point_recall": scores.recall, "point_f1": scores.f1}
    ends = Counter(p.extra["end"] for _, p in rows if "end" in p.extra)
    if ends:
        number = sum(ends.values())
        found |= {f"ended_{end}_share": ends[end] / number for end in ("done", "limit", "stuck", "unreadable")}
        found["repeats"] = sum(p.extra.get("repeats", 0) for _, p in rows) / number
    found["unparsable"] = sum(p.value is None for _, p in rows) / len(rows)
    return {name: value for name, value in found.items() if not math.isnan(value)}
