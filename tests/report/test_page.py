import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image, ImageDraw

from foveal.examples import Example
from foveal.report.cards import Card
from foveal.report.charts import training_charts
from foveal.report.page import Page, render
from foveal.report.tables import class_tables, compared
from foveal.results import Metric, Metrics, Prediction, Result

VOID = {"meta", "link", "img", "br"}
EVIL = '<script>alert("x")</script>'


class Html(HTMLParser):
    """Checks that tags balance, and collects what a test asks for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [v for k, v in attributes if k == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def picture(seed=0, size=(300, 300)):
    image = Image.new("RGB", size, "white")
    points = np.random.default_rng(seed).integers(0, min(size), (3, 2)).tolist()
    ImageDraw.Draw(image).line([tuple(p) for p in points], fill="blue", width=5)
    return image


METRICS = Metrics(
    (
        Metric("accuracy", "share", "higher", of_rows=True),
        Metric("recall", "share", "higher"),
        Metric("precision", "share", "higher"),
        Metric("f1", "share", "higher", "F1"),
        Metric("mae", direction="lower", title="MAE"),
    )
)


def card(verdict="right", confidence=0.9, *, truth="2", answer="1", question="How many?", seed=0, id="", **more):
    return Card(id, picture(seed), question, truth, answer, verdict, confidence, **more)


def measured(label="after training", accuracy=0.95, *, rows=2, interval=(0.9, 0.98), **more):
    values = {"accuracy": accuracy, "mae": 1.5, "recall/two": 0.5}
    return Result(label, "held-out pictures", rows, values | more, "accuracy", METRICS, 0.5, interval)


def report(**changes):
    history = [
        {
            "epoch": float(e),
            "train_loss": 1 / e,
            "val_loss": 1.1 / e,
            "val_accuracy": 1 - 0.4 / e,
            "learning_rate": 1e-4,
        }
        for e in (1, 2, 3)
    ]
    fields = {
        "title": "Lines", "task": "blindtest/lines", "model": "builtin", "facts": {"command": "foveal train", "seed": "0"},
        "results": [measured("before training", 0.5, interval=(0.4, 0.6)), measured()], "history": history,
        "cards": [card("wrong"), card()], "label_mask": ">>> {2} <<<", "recipe": "task: blindtest/lines",
    }  # fmt: skip
    fields |= changes
    last = fields["results"][-1] if fields["results"] else measured()
    charts = training_charts(fields["history"], METRICS, last.headline, last.chance)
    return Page(**fields, charts=charts)


def test_only_measurements_of_the_same_rows_are_compared():
    first, other, last = measured("a"), measured("b", rows=7), measured("c")
    assert compared([first, other, last]) == (first, last)
    assert compared([first, last, other]) == (first, last)
    assert compared([first, other]) is None
    assert compared([first]) is compared([]) is None
    assert "Change" not in Html(render(report(results=[first, other]))).text


def test_a_whole_page_is_well_formed_and_says_it_all():
    page = Html(render(report()))
    assert len(page.ids) == len(set(page.ids))
    for words in ("Lines", "blindtest/lines", "builtin", "95.0%", "90.0 to 98.0%", "chance 50.0%", "+45.0 pp",
                  "before training", "recall: two", "MAE", "Measured on 2 rows: held-out pictures.", "1 of 2 wrong",
                  "How many?", "foveal train", ">>> {2} <<<", "task: blindtest/lines"):  # fmt: skip
        assert words in page.text, words
    assert len(page.of("img")) == 2
    assert len([a for a in page.of("svg") if a.get("class") == "chart"]) == 3


def test_the_page_can_be_used_without_eyes():
    page = Html(render(report()))
    assert page.of("html") == [{"lang": "en"}]
    assert all(a.get("alt") for a in page.of("img"))
    assert all((a.get("role") == "img" and a.get("aria-label")) or a.get("aria-hidden") for a in page.of("svg"))
    assert all(a.get("scope") in ("row", "col") for a in page.of("th"))
    assert len(page.of("caption")) == len(page.of("table"))
    headings = [tag for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1


def test_right_and_wrong_are_told_by_words_and_shape_too():
    page = Html(render(report(cards=[card("wrong"), card("unparsable"), card()])))
    assert re.search(r"\bright\b", page.text)
    assert re.search(r"\bwrong\b", page.text)
    assert re.search(r"\bunparsable\b", page.text)
    shapes = [a["d"] for a in page.of("path")]
    assert len(shapes) == len(set(shapes)) == 3


def test_a_page_makes_no_request_and_runs_no_script():
    text = render(report())
    assert "//" not in re.sub(r"base64,[A-Za-z0-9+/=]*", "", text)
    page = Html(text)
    assert not page.of("script")
    assert all(a.get("src", "data:").startswith("data:") for _, a in page.tags)
    assert all(a.get("href", "data:").startswith("data:") for _, a in page.tags)
    assert "url(" not in text
    assert "@import" not in text
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_everything_foreign_is_escaped():
    evil = card("wrong", question=EVIL, truth=EVIL, answer=EVIL, probabilities={EVIL: 0.9, "b": 0.1}, id=EVIL)
    result = Result(EVIL, EVIL, 3, {EVIL: 0.5, f"recall/{EVIL}": 0.1}, EVIL, chance=0.1)
    history = [{"epoch": 1.0, f"val_{EVIL}": 0.5, EVIL: EVIL}]
    charts = training_charts(history, Metrics(), EVIL, 0.1)
    assert len(charts) == 1
    page = Page(
        EVIL, EVIL, EVIL, {EVIL: EVIL}, [result], history, charts, [evil, card(question='" onload="x')], EVIL, EVIL
    )
    page = Html(render(page))
    assert not page.of("script")
    assert not any("onload" in a for _, a in page.tags)
    assert EVIL in page.text


def test_the_question_stands_once_where_it_is_common():
    assert Html(render(report(cards=[card(seed=i) for i in range(4)]))).text.count("How many?") == 1
    mixed = [card(question="How many?"), card(question="Which?")]
    page = Html(render(report(cards=mixed)))
    assert page.text.count("How many?") == page.text.count("Which?") == 1
    assert {a["alt"] for a in page.of("img")} == {"Picture 1: How many?", "Picture 2: Which?"}


def test_the_number_of_pictures_is_limited_and_said():
    items = [card("wrong") for _ in range(100)] + [card() for _ in range(100)]
    page = Html(render(report(cards=items, results=[])))
    assert len(page.of("img")) == 96
    assert "100 of 200 wrong. The first 96 are shown." in page.text
    assert len(Html(render(report(cards=items), limit=5)).of("img")) == 5


def test_a_selection_does_not_pass_for_a_sample():
    page = Html(render(report(results=[measured(rows=3000)])))
    assert "1 of 2 wrong: chosen from 3,000 rows for what they show, not at random." in page.text
    assert "not at random" not in Html(render(report(results=[measured(rows=2)]))).text


def bars(**fields):
    page = Html(render(report(cards=[card(**fields)], results=[], history=[])))
    widths = [a["width"] for a in page.of("rect")][1::2]
    return [a["title"] for a in page.of("th")], widths


def test_bars_are_as_long_as_the_probabilities_and_keep_their_order():
    assert bars(answer="1", probabilities={"0": 0.05, "1": 0.7, "2": 0.25}) == (
        ["0", "1", "2"],
        ["5.0%", "70.0%", "25.0%"],
    )
    assert bars(answer="1", confidence=0.625) == (["1"], ["62.5%"])
    assert bars(confidence=None) == ([], [])
    assert bars(confidence=math.nan) == ([], [])


def test_many_answers_are_folded_but_never_the_true_one():
    names = {f"class {i}": p for i, p in enumerate([0.3, 0.25, 0.2, 0.1, 0.08, 0.05, 0.02])}
    titles, widths = bars(truth="class 6", answer="class 0", probabilities=names)
    assert titles == ["class 0", "class 1", "class 2", "class 6", "3 others"]
    assert widths == ["30.0%", "25.0%", "20.0%", "2.0%", "23.0%"]


def test_empty_reports_are_pages_too():
    page = Html(render(Page("Empty", "t", "m", {}, [])))
    assert "Empty" in page.text
    for word in ("Metrics", "Curves", "Pictures", "How it was made"):
        assert word not in page.text


@pytest.mark.parametrize(
    "history",
    [
        [{"epoch": 1.0, "train_loss": 0.5}],
        [{"epoch": 1.0, "train_loss": math.nan, "val_loss": math.inf, "val_accuracy": math.nan}],
        [{"epoch": 1.0, "note": "text only"}],
        [{"epoch": float(e), "train_loss": 1e30**e} for e in (1, 2)],
    ],
)
def test_odd_histories(history):
    Html(render(report(history=history)))


def test_the_headline_that_is_no_share_has_no_track():
    rows = [
        Result(n, "s", 5, {"mae": v}, "mae", METRICS, 5.0, (1.0, 2.0)) for n, v in (("before", 12.5), ("after", 2.25))
    ]
    page = Html(render(report(results=rows)))
    assert "−10.25 from 12.5 before" in page.text
    assert "chance 5" in page.text
    assert "scale from 0 to 100%" not in page.text


def test_the_track_shows_value_interval_and_chance_at_their_places():
    page = Html(render(report(results=[measured(accuracy=0.625, interval=(0.5625, 0.6875))], cards=[], history=[])))
    assert [a["cx"] for a in page.of("circle") if "cx" in a] == ["62.5%"]
    lines = [(a["x1"], a["x2"]) for a in page.of("line")][:3]
    assert lines == [("0%", "100%"), ("50.0%", "50.0%"), ("56.25%", "68.75%")]


def test_missing_metrics_leave_gaps():
    rows = [
        Result("a", "s", 5, {}, "accuracy", METRICS), Result("b", "s", 5, {"accuracy": math.nan}, "accuracy", METRICS)
    ]  # fmt: skip
    assert "–" in Html(render(report(results=rows))).text
    Html(render(report(results=rows[:1])))


def test_many_classes_are_folded_away():
    page = Html(render(report(results=[measured(**{f"recall/{i}": 0.1 for i in range(20)})])))
    assert "Metrics of each class (21)" in page.text


def section(page, start, end):
    assert page.text.count(start) == 1
    return page.text.partition(start)[2].partition(end)[0]


def test_the_most_confident_mistakes_stand_first_with_their_runner_up():
    def row(i, verdict):
        sure = 0.6 + i / 100
        chances = {"2": 0.01, "1": sure, "3": 0.99 - sure}
        return card(verdict, sure, probabilities=chances, id=f"row {i:02d}", seed=i)

    items = [row(i, "wrong") for i in range(35, 0, -2)] + [row(i, "right") for i in range(0, 36, 2)]
    page = Html(render(report(cards=items)))
    first = section(page, "Most confident mistakes", "Other pictures")
    assert re.findall(r"row \d\d", first) == [f"row {i:02d}" for i in range(35, 11, -2)]
    assert re.findall(r"Runner-up 3 · (\S+)%", first) == [f"{39 - i}.0" for i in range(35, 11, -2)]
    rest = page.text.partition("Other pictures")[2]
    assert "Runner-up" not in rest and "row 11" in rest and len(set(re.findall(r"row \d\d", rest))) == 24
    assert len(page.of("img")) == 36 and page.text.count("How many?") == 1


@pytest.mark.parametrize("items", [[card(probabilities={"1": 0.9, "2": 0.1})], [card("wrong")], []])
def test_there_are_no_confident_mistakes_without_mistakes_or_probabilities(items):
    assert "mistakes" not in Html(render(report(cards=items))).text


def test_only_mistakes_are_a_page_too():
    page = Html(render(report(cards=[card("wrong", probabilities={"1": 0.9, "2": 0.1})])))
    assert "Runner-up 2 · 10.0%" in page.text and "Other pictures" not in page.text


def test_the_reliability_is_drawn_from_all_rows():
    examples = [Example(str(i), (), "cat" if i < 6 else "dog") for i in range(10)]
    predictions = [Prediction(e.id, "cat", "cat", {"cat": 0.8, "dog": 0.2}) for e in examples]
    result = replace(measured(), examples=examples, predictions=predictions)
    page = Html(render(report(results=[result])))
    assert "ECE 0.200 on 10 rows" in page.text
    assert any("accuracy 60.0%" in a.get("aria-label", "") for a in page.of("svg"))
    without = replace(result, predictions=[*predictions[:-1], Prediction("9", "cat", "cat")])
    assert "ECE" not in Html(render(report(results=[without]))).text


def test_the_metrics_of_each_class_are_one_table():
    before = measured("before", **{"recall/two": 0.25, "f1/two": 0.2})
    after = measured("after", **{"recall/one": 1.0, "precision/two": 0.75, "f1/two": 0.6})
    counted = replace(after, examples=[Example("", (), truth) for truth in ["one"] * 1200 + ["two"] * 3])
    counted = replace(counted, predictions=[Prediction("", None, "")] * 1203)
    page = Html(render(report(results=[before, counted])))
    table = section(page, "Class Rows", "How many?")
    assert table.strip().startswith(
        "Recall Precision F1 two 3 50.0% from 25.0% 75.0% 60.0% from 20.0% one 1,200 100.0%"
    )
    assert "recall: two" not in page.text
    partly = replace(counted, examples=counted.examples[:1200], predictions=counted.predictions[:1200])
    partly = Html(render(report(results=[before, partly])))
    assert "Class Recall Precision F1" in partly.text and "1,200" not in partly.text


def test_classes_that_have_none_in_common_stand_in_tables_of_their_own():
    values = {f"{base}/{part}": 0.5 for base in ("recall", "f1") for part in ("two", "one")}
    values |= {f"baseline_{base}/{part}": 0.25 for base in ("recall", "f1") for part in ("empty", "box")}
    tables = class_tables([measured("after", **values)])
    assert [(t.headings, [row[0] for row in t.rows]) for t in tables] == [
        (["recall", "F1"], ["two", "one"]), (["baseline recall", "baseline f1"], ["empty", "box"])
    ]  # fmt: skip
    assert tables[1].rows[0][1] == [("0.25", ""), ("0.25", "")]
    text = Html(render(report(results=[measured("after", **values)]))).text
    assert text.count("Metrics of each class, after") == 4


def test_the_metrics_of_many_classes_are_folded_and_no_columns_of_the_epochs():
    many = {f"{base}/{i}": 0.1 for i in range(20) for base in ("recall", "f1")}
    history = [{"epoch": 1.0, "val_loss": 1.0, **{f"val_{k}": v for k, v in many.items()}}]
    text = Html(render(report(results=[measured(**many)], history=history))).text
    assert "Metrics of each class, after training (21)" in text
    assert "val loss" in text and "val recall" not in text


def test_thumbnails_are_small_and_a_card_may_lack_its_picture():
    items = [Card("", image, "q", "1", "1", "right") for image in (picture(size=(4000, 3000)), None)]
    page = Html(render(report(cards=items)))
    assert [(a["width"], a["height"]) for a in page.of("img")] == [("224", "168")]
    assert "aspect-ratio: 1.33" in page.of("img")[0]["style"]


def test_long_replies_are_cut():
    text = render(report(cards=[card("unparsable", answer="word " * 5000)]))
    assert "…" in text
    assert len(text) < 100_000


def test_photographs_take_less_than_20_kb_each():
    x, y = np.meshgrid(np.linspace(0, 255, 640), np.linspace(0, 255, 480))
    grain = np.random.default_rng(0).normal(0, 9, (480, 640))
    photograph = Image.fromarray(
        np.clip(np.stack([x + grain, y + grain, 255 - x + grain], -1), 0, 255).astype(np.uint8)
    )
    items = [Card("", photograph, "q", "1", "1", "right", 0.5, {"1": 0.5, "2": 0.5})] * 100
    assert len(render(report(cards=items), limit=100)) < 100 * 20_000
    assert "image/jpeg" in render(report(cards=items), limit=1)


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme):
    blocks = re.findall(r":root \{(.*?)\}", render(report()), re.S)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme]))
    for paper in ("paper", "raised"):
        for ink in ("ink", "muted", "right", "wrong", "unparsable", "unknown"):
            dark, light = sorted((_luminance(colours[paper]), _luminance(colours[ink])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (paper, ink)
        for line in ("series-0", "series-1", "series-2", "axis"):
            dark, light = sorted((_luminance(colours[paper]), _luminance(colours[line])))
            assert (light + 0.05) / (dark + 0.05) >= 3 or line == "axis", (paper, line)
