from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from foveal.examples import Split
from foveal.tasks.readers import hold_out as module
from foveal.tasks.readers.hold_out import below_half, origin, rank, spread_by


@dataclass(frozen=True)
class Row:
    id: str
    label: str


def hold_out(rows: Sequence[Row], shares: Mapping[Split, float], seed: int) -> dict[Split, list[Row]]:
    return module.hold_out(rows, shares, seed, name=lambda row: row.id, group=lambda row: row.label)


def rows_of(counts: list[int]) -> list[Row]:
    return [Row(f"{label}/{i}", f"c{label}") for label, n in enumerate(counts) for i in range(n)]


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


def test_the_order_of_names_is_fixed_for_all_time() -> None:
    ordered = sorted(rows_of([6]), key=lambda row: rank(0, row.id))
    assert [row.id for row in ordered] == ["0/4", "0/2", "0/0", "0/5", "0/1", "0/3"]


def test_rows_of_one_name_stay_together() -> None:
    files = [f"pictures/{i}.rf.{j}.jpg" for i in range(10) for j in range(3)]
    parts = module.hold_out(files, {"validation": 0.2}, 0, name=origin)
    assert [len(part) for part in parts.values()] == [24, 6]
    assert len({origin(file) for file in parts["validation"]}) == 2 and origin("a/b.rf.c.jpg") == "b"


def test_two_shares_below_half_leave_some_over() -> None:
    for count, held in ((3, 1), (4, 1), (5, 2), (10, 4), (25, 12)):
        drawn = below_half([f"{i}" for i in range(count)], {"test": 0.9, "validation": 0.9}, 0)
        assert [list(drawn.values()).count(split) for split in ("test", "validation")] == [held, held]
    # Half of an odd number is rounded to the even one.
    assert len(below_half([f"{i}" for i in range(10)], {"test": 0.25}, 0)) == 2


def test_names_spread_by_a_value_are_one_of_each_stretch() -> None:
    values = {f"{i:02}": i for i in range(40)}
    drawn = spread_by(values)(list(values), {"validation": 0.2}, 3)
    assert sorted(values[name] // 5 for name in drawn) == list(range(8))
    assert len(spread_by(values)(list(values), {"validation": 0.99}, 3)) == 38
