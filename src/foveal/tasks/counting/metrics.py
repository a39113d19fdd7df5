"""Metrics of counts and of points.

In all formulas p is the predicted count, g the true one and e = p - g.

Every prediction counts, with what it has: a reply that cannot be read counts as none (p = 0), for it named no object, and
as one (p = 1) where there is none, so that it is wrong everywhere; a count that was stopped before its "done" counts with
its points. ``counted`` says so in code. No row is left out, so no model gains by staying silent about a picture.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveal.errors import UserError
from foveal.examples import Example
from foveal.results import Metric, Metrics, Prediction
from foveal.tasks.counting.matching import match_points, pooled

Floats = NDArray[np.float64]
#: First and last true count of each bucket; None for no limit.
BUCKETS: Final[tuple[tuple[int, int | None], ...]] = ((0, 10), (11, 20), (21, 50), (51, 100), (101, None))


def counted(value: int | None, truth: int = 1) -> int:
    """The count of a prediction; for None, a reply that could not be read, 0, or 1 where the truth is 0."""
    return int(truth == 0) if value is None else value


def _both(predicted: ArrayLike, truths: ArrayLike) -> tuple[Floats, Floats]:
    p, g = np.asarray(predicted, dtype=np.float64), np.asarray(truths, dtype=np.float64)
    if p.shape != g.shape or not p.size:
        raise ValueError(f"predicted counts of shape {p.shape} and true ones of shape {g.shape}, or none")
    return p, g


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")


def mae(predicted: ArrayLike, truths: ArrayLike) -> float:
    """Mean absolute error: mean of abs(e)."""
    p, g = _both(predicted, truths)
    return _mean(np.abs(p - g))


def rmse(predicted: ArrayLike, truths: ArrayLike) -> float:
    """Root mean square error: square root of the mean of e^2."""
    p, g = _both(predicted, truths)
    return math.sqrt(_mean((p - g) ** 2))


def nae(predicted: ArrayLike, truths: ArrayLike) -> float:
    """Normalised absolute error: mean of abs(e) / g over rows with g > 0; NaN where there is none. Also called MRCE."""
    p, g = _both(predicted, truths)
    some = g > 0
    return _mean(np.abs(p - g)[some] / g[some])


def sre(predicted: ArrayLike, truths: ArrayLike) -> float:
    """Squared relative error: square root of the mean of e^2 / g over rows with g > 0; NaN where there is none."""
    p, g = _both(predicted, truths)
    some = g > 0
    return math.sqrt(_mean((p - g)[some] ** 2 / g[some]))


def exact_accuracy(predicted: ArrayLike, truths: ArrayLike) -> float:
    """Share of rows with e = 0, as CountBenchQA, PixMo-Count and TallyQA report it."""
    p, g = _both(predicted, truths)
    return _mean((p == g).astype(np.float64))


def off_by_one_accuracy(predicted: ArrayLike, truths: ArrayLike) -> float:
    """Share of rows with abs(e) <= 1."""
    p, g = _both(predicted, truths)
    return _mean((np.abs(p - g) <= 1).astype(np.float64))


def bias(predicted: ArrayLike, truths: ArrayLike) -> float:
    """Mean of e: above 0 where too many are counted."""
    p, g = _both(predicted, truths)
    return _mean(p - g)


def over_share(predicted: ArrayLike, truths: ArrayLike) -> float:
    """Share of rows with e > 0."""
    p, g = _both(predicted, truths)
    return _mean((p > g).astype(np.float64))


def under_share(predicted: ArrayLike, truths: ArrayLike) -> float:
    """Share of rows with e < 0."""
    p, g = _both(predicted, truths)
    return _mean((p < g).astype(np.float64))


#: Metrics of one count for each row.
COUNT_METRICS: Final[dict[str, Callable[[ArrayLike, ArrayLike], float]]] = {
    f.__name__: f for f in (mae, rmse, nae, sre, exact_accuracy, off_by_one_accuracy, bias, over_share, under_share)
}


@dataclass(frozen=True)
class Pair:
    """One picture's count of one category.

    Attributes:
        image: Names the picture.
        category: What was counted.
        predicted: The predicted count; see ``counted``.
        truth: The true count.
    """

    image: str
    category: str
    predicted: float
    truth: float


def m_rmse(pairs: Sequence[Pair]) -> float:
    """mRMSE of several categories (Chattopadhyay et al. 2017, arXiv 1604.03505, section 4).

    For each category the RMSE over all pictures; the mean of them over the categories. So it takes the pairs of all
    pictures with all categories; one that is left out counts as p = g = 0. ``measure_counts`` gives it only where all were
    asked, for who was never asked about what is not there was not right about it.

    Raises:
        ValueError: There are no pairs, or one occurs twice. The same holds for all metrics of pairs.
    """
    return _multi(pairs, relative=False, nonzero=False)


def m_rmse_nz(pairs: Sequence[Pair]) -> float:
    """mRMSE-nz: ``m_rmse`` with each category's RMSE over the pictures with g > 0; NaN where there are none."""
    return _multi(pairs, relative=False, nonzero=True)


def m_rel_rmse(pairs: Sequence[Pair]) -> float:
    """m-relRMSE: ``m_rmse`` with e^2 / (g + 1) in place of e^2."""
    return _multi(pairs, relative=True, nonzero=False)


def m_rel_rmse_nz(pairs: Sequence[Pair]) -> float:
    """m-relRMSE-nz: ``m_rel_rmse`` over the pictures with g > 0."""
    return _multi(pairs, relative=True, nonzero=True)


def omnicount_code_m_rmse(pairs: Sequence[Pair]) -> float:
    """What the released code of OmniCount prints as "Mean RMSE"; it is not the published ``m_rmse``.

    ``metrics/metric_multi.py`` of github.com/mondalanindya/OmniCount at commit 3ad0d894 divides the sum over the
    categories by the number of pictures, so it falls as pictures are added. Here and there a category belongs to a
    picture only if the ground truth lists it there, so give the pairs that it lists.
    """
    return _multi(pairs, relative=False, nonzero=False, by_images=True)


def omnicount_code_m_rmse_nz(pairs: Sequence[Pair]) -> float:
    """What that code prints as "Mean RMSE-nz"; see ``omnicount_code_m_rmse``.

    Unlike the published ``m_rmse_nz`` it divides the squared errors of all of a category's pairs, those with g = 0 among
    them, by the number of those with g > 0 (lines 30 to 45 there).
    """
    return _multi(pairs, relative=False, nonzero=True, by_images=True)


def omnicount_code_m_rel_rmse(pairs: Sequence[Pair]) -> float:
    """What that code prints as "Mean relRMSE"; see ``omnicount_code_m_rmse``."""
    return _multi(pairs, relative=True, nonzero=False, by_images=True)


def omnicount_code_m_rel_rmse_nz(pairs: Sequence[Pair]) -> float:
    """What that code prints as "Mean relRMSE-nz"; see ``omnicount_code_m_rmse_nz``."""
    return _multi(pairs, relative=True, nonzero=True, by_images=True)


def countgd_pairs_mae(pairs: Sequence[Pair]) -> float:
    """MAE over pairs with g > 0, as CountGD++'s ``evaluate_coco_metrics.py`` has it; NaN where there are none.

    What is counted where nothing is costs nothing.
    """
    _check(pairs)
    return _mean(np.array([abs(pair.predicted - pair.truth) for pair in pairs if pair.truth > 0], dtype=np.float64))


def countgd_pairs_rmse(pairs: Sequence[Pair]) -> float:
    """RMSE over pairs with g > 0; see ``countgd_pairs_mae``."""
    _check(pairs)
    squares = [(pair.predicted - pair.truth) ** 2 for pair in pairs if pair.truth > 0]
    return math.sqrt(_mean(np.array(squares, dtype=np.float64)))


#: Metrics of several categories.
PAIR_METRICS: Final[dict[str, Callable[[Sequence[Pair]], float]]] = {
    f.__name__: f
    for f in (
        m_rmse, m_rmse_nz, m_rel_rmse, m_rel_rmse_nz, omnicount_code_m_rmse, omnicount_code_m_rmse_nz,
        omnicount_code_m_rel_rmse, omnicount_code_m_rel_rmse_nz, countgd_pairs_mae, countgd_pairs_rmse,
    )
}  # fmt: skip


def _check(pairs: Sequence[Pair]) -> None:
    if not pairs or len({(pair.image, pair.category) for pair in pairs}) < len(pairs):
        raise ValueError("no pairs of a picture and a category, or one of them twice")


def _multi(pairs: Sequence[Pair], *, relative: bool, nonzero: bool, by_images: bool = False) -> float:
    _check(pairs)
    images = len({pair.image for pair in pairs})
    sums: dict[str, float] = {}
    there: Counter[str] = Counter()
    for pair in pairs:
        there[pair.category] += pair.truth > 0
        # OmniCount's code keeps the errors of pairs with g = 0 where it divides by the number of the others.
        if pair.truth > 0 or not nonzero or by_images:
            square = (pair.predicted - pair.truth) ** 2
            sums[pair.category] = sums.get(pair.category, 0.0) + (square / (pair.truth + 1) if relative else square)
    # Pictures without a pair of that category add zeros to its sum.
    roots = [
        math.sqrt(total / (there[category] if nonzero else images))
        for category, total in sums.items()
        if there[category] or not nonzero
    ]
    if by_images:
        return sum(roots) / images
    return sum(roots) / len(roots) if roots else float("nan")


@dataclass(frozen=True)
class Bucket:
    """A row of the table of counts.

    Attributes:
        name: True counts in this row, e.g. ``11-20``.
        rows: How many questions have such a truth.
        metrics: The metrics of ``COUNT_METRICS`` over them; empty where there are none.
    """

    name: str
    rows: int
    metrics: dict[str, float]


def bucket_table(predicted: ArrayLike, truths: ArrayLike) -> list[Bucket]:
    """The metrics by true count: 0-10, 11-20, 21-50, 51-100, more than 100.

    Args:
        predicted: Predicted counts; see ``counted``.
        truths: True counts.

    Raises:
        ValueError: There are none, or not as many of one as of the other.
    """
    p, g = _both(predicted, truths)
    table = []
    for first, last in BUCKETS:
        inside = (g >= first) & (g <= (np.inf if last is None else last))
        values = {name: f(p[inside], g[inside]) for name, f in COUNT_METRICS.items()} if inside.any() else {}
        table.append(Bucket(f">{first - 1}" if last is None else f"{first}-{last}", int(inside.sum()), values))
    return table


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

    Rows without a prediction, and replies that could not be read, are wrong: they count as 0, or as 1 where the truth is
    0 (see ``counted``), and are never off by one; their share is ``unparsable``. A count that ended without "done" counts
    with the points that it has.

    * ``mae``, ``rmse`` and the rest of ``COUNT_METRICS``, over the rows; ``mae/11-20`` and the like for each bucket of
      true counts that occurs;
    * ``m_rmse`` and the rest of ``PAIR_METRICS``, where a picture is asked about more than one category; ``m_rmse`` and
      ``m_rel_rmse`` only where each picture is asked about all categories of its domain (``data.absent``), over whose
      pictures they are taken;
    * ``point_precision``, ``point_recall``, ``point_f1`` where points were predicted, over all rows: one without
      points misses all of its objects, and a reply that cannot be read is one wrong point more;
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
    by_id = {p.id: p for p in predictions}
    rows = [(e, by_id.get(e.id, Prediction("", None, ""))) for e in examples]
    truths = [int(e.truth) for e, _ in rows]
    predicted = [counted(p.value, truth) for (_, p), truth in zip(rows, truths, strict=True)]
    values = {name: metric(predicted, truths) for name, metric in COUNT_METRICS.items()}
    near = [p.value is not None and abs(p.value - truth) <= 1 for (_, p), truth in zip(rows, truths, strict=True)]
    values["off_by_one_accuracy"] = sum(near) / len(near)
    for bucket in bucket_table(predicted, truths):
        if bucket.rows:
            values |= {f"{name}/{bucket.name}": bucket.metrics[name] for name in ("mae", "exact_accuracy")}
    if max(Counter(e.images[0].name for e in examples).values()) > 1:
        pairs = [
            Pair(e.images[0].name, f"{e.fields['domain']}/{e.fields['category']}", p, g)
            for e, p, g in zip(examples, predicted, truths, strict=True)
        ]
        values |= {name: metric(pairs) for name, metric in PAIR_METRICS.items()}
        domains = [str(e.fields["domain"]) for e in examples]
        values |= {f.__name__: _of_domains(f, pairs, domains) for f in (m_rmse, m_rel_rmse)}
    values |= _point_metrics(rows, radius) | _end_metrics(rows)
    values["unparsable"] = sum(p.value is None for _, p in rows) / len(rows)
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _of_domains(metric: Callable[[Sequence[Pair]], float], pairs: Sequence[Pair], domains: Sequence[str]) -> float:
    """A metric over the categories, each over the pictures of its domain; NaN where one was not asked about in all."""
    total = categories = 0.0
    for domain in dict.fromkeys(domains):
        own = [pair for pair, its in zip(pairs, domains, strict=True) if its == domain]
        number = len({pair.category for pair in own})
        if len(own) < number * len({pair.image for pair in own}):
            return math.nan
        total, categories = total + number * metric(own), categories + number
    return total / categories


_Rows = Sequence[tuple[Example, Prediction]]


def _point_metrics(rows: _Rows, radius: float) -> dict[str, float]:
    """Precision, recall and F1 of points, if there are any; a reply that cannot be read is a wrong point, too."""
    if not any("points" in p.extra for _, p in rows):
        return {}
    scores = pooled(
        match_points([(x, y) for x, y in p.extra.get("points", ())], e.fields["things"], e.fields["size"], radius)
        for e, p in rows
    )
    scores = replace(scores, predicted=scores.predicted + sum(p.value is None for _, p in rows))
    return {"point_precision": scores.precision, "point_recall": scores.recall, "point_f1": scores.f1}


def _end_metrics(rows: _Rows) -> dict[str, float]:
    """How counts in steps ended, if there are any, and their repeats."""
    ends = Counter(p.extra["end"] for _, p in rows if "end" in p.extra)
    number = sum(ends.values())
    if not number:
        return {}
    shares = {f"ended_{end}_share": ends[end] / number for end in ("done", "limit", "stuck", "unreadable")}
    return {**shares, "repeats": sum(p.extra.get("repeats", 0) for _, p in rows) / number}
