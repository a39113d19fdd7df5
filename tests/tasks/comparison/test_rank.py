from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveal.errors import UserError
from foveal.examples import Example
from foveal.results import Prediction
from foveal.tasks.comparison.rank import Place, rank_pictures, strip
from foveal.tasks.comparison.ranking import Ranked
from foveal.tasks.comparison.task import Comparison, ComparisonData

TASK = Comparison(ComparisonData())
Ask = Callable[[Sequence[Example]], list[Prediction]]


def model(strengths: dict[str, float], bias: float = 0.0, asked: list[tuple[str, str]] | None = None) -> Ask:
    """Answers with the probabilities of Davidson's model; ``bias`` is in favour of the first place."""

    def ask(rows: Sequence[Example]) -> list[Prediction]:
        out = []
        for e in rows:
            assert e.truth is None
            a, b = e.fields["ids"]
            assert [p.name for p in e.images] == [a, b]
            if asked is not None:
                asked.append((a, b))
            d = strengths[a] - strengths[b] + bias
            weights = {"First": math.exp(d / 2), "Second": math.exp(-d / 2), "Similar": 0.5}
            chances = {k: w / sum(weights.values()) for k, w in weights.items()}
            best = max(chances, key=lambda k: chances[k])
            out.append(Prediction(e.id, best, best, chances))
        return out

    return ask


def known(count: int, seed: int = 0) -> dict[str, float]:
    values = np.random.default_rng(seed).permutation(count) * 0.6
    return {f"p{i}.png": float(v) for i, v in enumerate(values)}


def order(places: Sequence[Place]) -> list[str]:
    return [str(p.path) for p in places]


@pytest.mark.parametrize("both_orders", [True, False])
def test_known_strengths_give_the_right_order(both_orders: bool) -> None:
    truth = known(12)
    done: list[int] = []
    places = rank_pictures(
        TASK, model(truth), [Path(n) for n in truth], 60, both_orders=both_orders, seed=3, progress=done.append
    )
    assert order(places) == sorted(truth, key=lambda n: -truth[n])
    assert [p.ranked.rank for p in places] == list(range(1, 13))
    assert all(p.ranked.lower < p.ranked.strength < p.ranked.upper for p in places)
    assert sum(p.compared for p in places) == 120 and min(p.compared for p in places) >= 2
    assert sum(done) == 60 and max(done) <= 16


def test_both_orders_cancel_a_preference_for_a_place() -> None:
    truth = known(8)
    paths = [Path(n) for n in truth]
    fair, biased, one = (
        {p.path.name: p.ranked.strength for p in rank_pictures(TASK, ask, paths, 28, both_orders=both)}
        for ask, both in ((model(truth), True), (model(truth, 2.5), True), (model(truth, 2.5), False))
    )
    assert sorted(fair, key=lambda n: fair[n]) == sorted(biased, key=lambda n: biased[n])
    assert sorted(biased, key=lambda n: biased[n]) == sorted(truth, key=lambda n: truth[n])
    # Such a model, asked in one order, is right about far less.
    expected = np.array([truth[n] for n in truth])
    agreement = [np.corrcoef(expected, [strengths[n] for n in truth])[0, 1] for strengths in (biased, one)]
    assert agreement[0] > 0.99 > agreement[1]


def test_a_model_that_only_prefers_a_place_ranks_all_alike() -> None:
    places = rank_pictures(TASK, model(dict.fromkeys(known(6), 0.0), 3.0), [Path(n) for n in known(6)], 15)
    assert all(abs(p.ranked.strength) < 1e-9 for p in places)


def test_each_pair_is_asked_once_in_each_order() -> None:
    asked: list[tuple[str, str]] = []
    truth = known(7)
    rank_pictures(TASK, model(truth, asked=asked), [Path(n) for n in truth], 999)
    assert len(asked) == len(set(asked)) == 7 * 6
    asked.clear()
    rank_pictures(TASK, model(truth, asked=asked), [Path(n) for n in truth], 10, both_orders=False)
    assert len(asked) == len({frozenset(pair) for pair in asked}) == 10


@given(st.integers(2, 6), st.integers(0, 5))
@settings(deadline=None, max_examples=8)
def test_the_same_seed_gives_the_same_ranking_of_all_pictures(count: int, seed: int) -> None:
    truth = known(count, seed)
    paths = [Path(n) for n in truth]
    one, two = (rank_pictures(TASK, model(truth), paths, count - 1, batch=2, seed=seed) for _ in range(2))
    assert one == two and sorted(order(one)) == sorted(truth)


def test_verdicts_without_probabilities_count_as_certain() -> None:
    truth = known(6)

    def ask(rows: Sequence[Example]) -> list[Prediction]:
        return [Prediction(p.id, p.value, p.text) for p in model(truth)(rows)]

    assert order(rank_pictures(TASK, ask, [Path(n) for n in truth], 15)) == sorted(truth, key=lambda n: -truth[n])


def test_replies_that_cannot_be_read_tell_nothing() -> None:
    truth = known(5)

    def deaf(rows: Sequence[Example]) -> list[Prediction]:
        return [Prediction(e.id, None, "?") for e in rows]

    with pytest.raises(UserError, match="No comparison has an answer that could be read"):
        rank_pictures(TASK, deaf, [Path(n) for n in truth], 10)

    def half(rows: Sequence[Example]) -> list[Prediction]:
        """Reads only what it is asked in alphabetical order."""
        return [
            p if e.fields["ids"] == tuple(sorted(e.fields["ids"])) else Prediction(e.id, None, "?")
            for e, p in zip(rows, model(truth)(rows), strict=True)
        ]

    assert order(rank_pictures(TASK, half, [Path(n) for n in truth], 10)) == sorted(truth, key=lambda n: -truth[n])


def test_too_few_pictures_or_comparisons_are_refused() -> None:
    for paths in ([], [Path("a.png")]):
        with pytest.raises(UserError, match=r"A ranking needs at least two pictures\."):
            rank_pictures(TASK, model({}), paths, 5)
    with pytest.raises(UserError, match="3 comparisons cannot link 6 items; allow at least 5"):
        rank_pictures(TASK, model(known(6)), [Path(n) for n in known(6)], 3)


# ------------------------------------------------------------------------------------------------- the strip


@pytest.fixture
def placed(tmp_path: Path) -> Callable[[int], list[Place]]:
    def make(count: int) -> list[Place]:
        out = []
        for k in range(count):
            path = tmp_path / f"{k}.png"
            Image.new("RGB", (40 + 10 * k, 30), (250 - k, 10, 10)).save(path)
            out.append(Place(path, Ranked(k, k + 1, 1.0 - k, 0.5 - k, 1.5 - k), 3))
        return out

    return make


@pytest.mark.parametrize(
    ("count", "columns", "across", "rows"), [(3, 10, 3, 1), (10, 10, 10, 1), (11, 10, 10, 2), (7, 3, 3, 3)]
)
def test_a_strips_size_follows_from_its_columns(placed, count: int, columns: int, across: int, rows: int) -> None:
    sheet = strip(placed(count), columns)
    assert sheet.size == (12 + across * (132 + 12), 12 + rows * (132 + 52))


def test_a_long_ranking_shows_its_two_ends(placed) -> None:
    places = placed(9)
    assert strip(places, limit=4).tobytes() == strip([*places[:2], *places[-2:]]).tobytes()
    assert strip(places, limit=5).tobytes() == strip([*places[:2], *places[-3:]]).tobytes()


def test_the_first_picture_is_the_first_place(placed) -> None:
    places = placed(2)
    sheet = np.asarray(strip(places)).astype(int)
    for k, left in enumerate((12, 12 + 132 + 12)):
        cell = sheet[12 : 12 + 132, left : left + 132].reshape(-1, 3)
        assert (cell == (250 - k, 10, 10)).all(1).sum() == (40 + 10 * k) * 30


@pytest.mark.parametrize(
    "name", ["line\nend.png", "very-" * 40 + "long.png", "half\udc80.png", "日本.png", "tab\t.png"]
)
def test_any_files_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(_png())
    ranked = Ranked(0, 1, 0.0, -1.0, 1.0)
    assert strip([Place(path, ranked, 1), Place(path, ranked, 1)]).width == 12 + 2 * 144


def _png() -> bytes:
    import io

    stream = io.BytesIO()
    Image.new("RGB", (9, 900), "red").save(stream, "PNG")
    return stream.getvalue()
