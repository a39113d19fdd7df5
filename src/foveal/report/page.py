"""A run or an evaluation as one HTML page that needs nothing but itself.

The page holds its style, its charts (SVG) and its pictures (thumbnails), makes no request and runs no script, so that
it can be mailed, archived and opened anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import takewhile

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

import foveal
from foveal.drawing.thumbnails import data_uri, thumbnail
from foveal.metrics.calibration import reliability_of
from foveal.report.cards import Card, count_verdicts, frame_ratio
from foveal.report.charts import Chart, reliability_title
from foveal.report.history import History
from foveal.report.svg import line_chart, reliability_chart
from foveal.report.tables import class_tables, epoch_table, headline, metric_tables
from foveal.results import Metrics, Result

#: Pictures on a page, unless the caller asks for another number.
LIMIT = 96
#: Mistakes that stand before the other pictures.
MISTAKES = 12
#: Characters of a question or an answer.
_LONGEST = 300


@dataclass(frozen=True)
class Page:
    """All that a page shows; whatever is empty is left out of it.

    Attributes:
        title: Heading of the page.
        task: Name of the task.
        model: Id of the model.
        facts: How it was made: command, time, machine, seed, parameters trained.
        results: Measurements from the first to the last; the last one's rows give the confidence and the classes' sizes.
        history: Rows of ``metrics.csv``.
        charts: Curves of the history.
        cards: Pictures, in the order of ``choose_cards``.
        label_mask: The first example as the loss saw it.
        recipe: The recipe's YAML.
    """

    title: str
    task: str
    model: str
    facts: Mapping[str, str]
    results: Sequence[Result]
    history: History = ()
    charts: Sequence[Chart] = ()
    cards: Sequence[Card] = ()
    label_mask: str = ""
    recipe: str = ""


def render(page: Page, *, limit: int = LIMIT) -> str:
    """The page as HTML text.

    Args:
        page: What to show.
        limit: Most pictures, the first ones.
    """
    cards = page.cards[:limit]
    sure = takewhile(lambda card: card.verdict == "wrong" and card.probabilities is not None, cards[:MISTAKES])
    mistakes = len(list(sure))
    questions = {card.question for card in page.cards}
    last = page.results[-1] if page.results else None
    classes = class_tables(page.results)
    return _template().render(
        page=page,
        version=foveal.__version__,
        headline=headline(page.results),
        tables=metric_tables(page.results, per_class=not classes),
        classes=classes,
        reliability=_reliability(last) if last else None,
        charts=[(chart.title, Markup(line_chart(chart))) for chart in page.charts],
        epochs=epoch_table(page.history, last.metrics if last else Metrics()),
        selection=_selection(page, limit) if cards else "",
        mistakes=cards[:mistakes],
        others=cards[mistakes:],
        question=questions.pop() if len(questions) == 1 else "",
        ratio=frame_ratio(cards),
    )


def _reliability(result: Result) -> tuple[str, Markup] | None:
    """The reliability diagram and its title, where all rows have probabilities."""
    bins = reliability_of(result.examples, result.predictions)
    if not bins:
        return None
    title = reliability_title(bins)
    return title, Markup(reliability_chart(bins, title=f"Accuracy by confidence, {title}"))


def _selection(page: Page, limit: int) -> str:
    """A note on which cards are shown and in which order, so that they are not taken for a random sample."""
    sentences = [f"{count_verdicts(page.cards)}."]
    rows = page.results[-1].rows if page.results else 0
    if min(len(page.cards), limit) < rows:
        sentences = [
            f"{count_verdicts(page.cards[:limit])}: chosen from {rows:,} rows for what they show, not at random."
        ]
    elif limit < len(page.cards):
        sentences.append(f"The first {limit:,} are shown.")
    if page.cards[0].verdict == "wrong":
        sentences.append("Wrong answers come first, the most confident on top.")
    return " ".join(sentences)


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"thumbnail": thumbnail, "data_uri": data_uri, "shortened": _shortened}
    return environment.from_string(files("foveal.report").joinpath("page.html.j2").read_text(encoding="utf-8"))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"
