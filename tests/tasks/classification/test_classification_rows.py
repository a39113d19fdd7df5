from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from foveal.images import Picture
from foveal.tasks.classification.rows import Row, hold_out, shuffled, spread


def rows_of(counts: list[int]) -> list[Row]:
    return [
        Row(f"{label}/{i}", Picture(f"{label}/{i}", f"{label}/{i}"), f"c{label}")
        for label, n in enumerate(counts)
        for i in range(n)
    ]


counts = st.lists(st.integers(1, 40), min_size=2, max_size=6)


@given(counts, st.floats(0.01, 0.9), st.floats(0.01, 0.9), st.integers(0, 5))
def test_hold_out_is_a_stratified_partition(counts: list[int], test: float, validation: float, seed: int) -> None:
    rows = rows_of(counts)
    parts = hold_out(rows, {"test": test, "validation": validation}, seed)
    assert sorted(row.id for part in parts.values() for row in part) == sorted(row.id for row in rows)
    for label, n in enumerate(counts):
        have = {split: sum(row.label == f"c{label}" for row in part) for split, part in parts.items()}
        assert have["train"] >= 1
        if n >= 3:
            assert have["test"] >= 1
            assert have["validation"] >= 1
        if n * test >= 1 and n * validation >= 1 and n * (test + validation) <= n - 2:
            assert abs(have["test"] - n * test) <= 0.5 + 1e-9
            assert abs(have["validation"] - n * validation) <= 0.5 + 1e-9
    assert parts == hold_out(list(rows), {"test": test, "validation": validation}, seed)
    order = {row.id: i for i, row in enumerate(rows)}
    for part in parts.values():
        assert [order[row.id] for row in part] == sorted(order[row.id] for row in part)


def test_hold_out_depends_on_the_seed_and_on_no_order_of_the_files() -> None:
    rows = rows_of([50, 50])
    one, two = (hold_out(rows, {"validation": 0.2}, seed)["validation"] for seed in (0, 1))
    assert {r.id for r in one} != {r.id for r in two}
    assert {r.id for r in hold_out(rows[::-1], {"validation": 0.2}, 0)["validation"]} == {r.id for r in one}


def test_hold_out_of_nothing_and_with_a_share_of_nothing() -> None:
    assert hold_out([], {"test": 0.2}, 0) == {"train": [], "test": []}
    rows = rows_of([5, 5])
    assert hold_out(rows, {"validation": 0.0}, 0) == {"train": rows, "validation": []}
    assert hold_out(rows, {}, 0) == {"train": rows}


def test_shuffled_order_is_fixed_for_all_time() -> None:
    assert [row.id for row in shuffled(rows_of([6]), 0)] == ["0/4", "0/2", "0/0", "0/5", "0/1", "0/3"]


@given(counts, st.integers(1, 60), st.integers(0, 3))
def test_spread_is_even(counts: list[int], limit: int, seed: int) -> None:
    rows = rows_of(counts)
    chosen = spread(rows, limit, seed)
    assert len(chosen) == min(limit, len(rows))
    have = Counter(row.label for row in chosen)
    most = max(have.values())
    for label, n in enumerate(counts):
        assert have[f"c{label}"] >= min(n, most - 1)
    assert chosen == [row for row in rows if row in chosen]


def test_spread_without_a_limit_takes_all_and_more_includes_fewer() -> None:
    rows = rows_of([7, 9])
    assert spread(rows, 0, 0) == rows
    assert spread(rows, 99, 0) == rows
    assert {r.id for r in spread(rows, 4, 0)} < {r.id for r in spread(rows, 10, 0)}
