"""Metrics as a person reads them."""

from __future__ import annotations

import math

from foveal.results import Metric

_MISSING = "–"
_MINUS = "−"


def percent(share: float, sign: str = "%", places: int = 1) -> str:
    """``0.973`` as ``97.3%``. What is only nearly all or nearly nothing is never rounded to 100% or 0%."""
    if not math.isfinite(share):
        return _MISSING
    least = 10.0**-places
    if 0 < share < least / 200:
        return f"<{least:.{places}f}{sign}"
    if 1 - least / 200 <= share < 1:
        return f">{100 - least:.{places}f}{sign}"
    return f"{100 * share:.{places}f}{sign}".replace("-", _MINUS)


def decimals(value: float, places: int = 4) -> str:
    """A number with so many decimals, or with more where they would round what lies between to 0 or 1."""
    text = f"{value:.{places}f}"
    while places < 15 and 0 < value < 1 and float(text) in (0, 1):
        places += 1
        text = f"{value:.{places}f}"
    return text


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


def format_metric(metric: Metric, value: float, sign: str = "%") -> str:
    """A metric's value: shares in per cent, all else as a number, and a dash for what is not finite."""
    return percent(value, sign) if metric.unit == "share" else number(value)


def format_change(metric: Metric, before: float, after: float) -> str:
    """What was gained, with its sign: percentage points for shares, the metric's own unit otherwise."""
    change = after - before
    if not math.isfinite(change):
        return _MISSING
    if metric.unit == "share":
        text = f"{100 * change:+.1f}"
        return (text if float(text) else "±0.0").replace("-", _MINUS) + " pp"
    if change == 0:
        return "±0"
    return ("+" if change > 0 else "") + number(change)


def format_interval(metric: Metric, interval: tuple[float, float], sign: str = "%") -> str:
    """Two bounds: ``96.9 to 97.6%``."""
    low, high = (format_metric(metric, bound, sign) for bound in interval)
    return f"{low.removesuffix(sign) if high.endswith(sign) else low} to {high}"


def capitalised(title: str) -> str:
    """With a capital first letter, unless the word has its capitals elsewhere (gIoU)."""
    return title if title[1:2].isupper() else title[:1].upper() + title[1:]
