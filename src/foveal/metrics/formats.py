"""Metrics as a person reads them."""

from __future__ import annotations

import math

#: Metrics between 0 and 1 that are written in per cent.
SHARES = frozenset(
    {"accuracy", "balanced_accuracy", "precision", "recall", "f1", "macro_f1", "unparsable", "consistency"}
)
_ABBREVIATIONS = {"f1": "F1", "iou": "IoU", "giou": "gIoU", "ciou": "cIoU", "miou": "mIoU", "mae": "MAE", "rmse": "RMSE", "auc": "AUC",
    "ece": "ECE", "nll": "NLL", "brier": "Brier", "bce": "BCE"}  # fmt: skip
_MISSING = "–"
_MINUS = "−"


def is_share(name: str) -> bool:
    """Whether the metric is a share of 1: ``accuracy``, ``recall/two``, ``val_f1``, ``yes_share``."""
    base = name.removeprefix("val_").removeprefix("train_").partition("/")[0]
    return base in SHARES or base.startswith("accuracy_") or base.endswith(("_share", "_accuracy"))


def percent(share: float) -> str:
    """``0.973`` as ``97.3%``. What is only nearly all or nearly nothing is never rounded to 100% or 0%."""
    if not math.isfinite(share):
        return _MISSING
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{100 * share:.1f}%".replace("-", _MINUS)


def number(value: float) -> str:
    """A number in at most four digits, or all of them where it is large or whole: ``12,345``, ``0.1234``, ``2e−5``."""
    if not math.isfinite(value):
        return _MISSING
    size = abs(value)
    if size < 1e9 and (size >= 1000 or float(value).is_integer()):
        return f"{value:,.0f}".replace("-", _MINUS)
    if size < 1e-3 or size >= 1e9:
        return scientific(value)
    return f"{value:.4g}".replace("-", _MINUS)


def brief(value: float) -> str:
    """A number in at most three digits, for a chart."""
    return number(float(f"{value:.3g}"))


def scientific(value: float) -> str:
    """A number as learning rates are written: ``2.5e−4``."""
    if not math.isfinite(value):
        return _MISSING
    if value == 0:
        return "0"
    digits, exponent = f"{value:.3e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}".replace("-", _MINUS)


def format_metric(name: str, value: float) -> str:
    """A metric's value: shares in per cent, all else as a number, and a dash for what is not finite."""
    return percent(value) if is_share(name) else number(value)


def format_change(name: str, before: float, after: float) -> str:
    """What was gained, with its sign: percentage points for shares, the metric's own unit otherwise."""
    change = after - before
    if not math.isfinite(change):
        return _MISSING
    if is_share(name):
        text = f"{100 * change:+.1f}"
        return (text if float(text) else "±0.0").replace("-", _MINUS) + " pp"
    if change == 0:
        return "±0"
    return ("+" if change > 0 else "") + number(change)


def format_interval(name: str, interval: tuple[float, float]) -> str:
    """Two bounds: ``96.9 to 97.6%``."""
    low, high = (format_metric(name, bound) for bound in interval)
    return f"{low.removesuffix('%') if high.endswith('%') else low} to {high}"


def metric_title(name: str) -> str:
    """``macro_f1`` as ``macro F1``, ``recall/two_lines`` as ``recall: two_lines`` (a class keeps its name)."""
    base, slash, rest = name.partition("/")
    words = " ".join(_ABBREVIATIONS.get(word, word) for word in base.split("_") if word)
    return f"{words}: {rest}" if slash else words


def capitalised(title: str) -> str:
    """With a capital first letter, unless the word has its capitals elsewhere (gIoU)."""
    return title if title[1:2].isupper() else title[:1].upper() + title[1:]
