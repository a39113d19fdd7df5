from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from foveal.errors import UserError
from foveal.evaluation.known_rows import check_measured, check_same_rows, fingerprint, known_rows, write_rows
from foveal.examples import Example, Loaded
from foveal.images import Picture
from foveal.runs import Run
from foveal.tasks.lazy import Made, Numbered


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    run.path.mkdir()
    return run


def rows(*names: str, truth: str = "cat", picture: bytes = b"1") -> Loaded:
    return Loaded([Example(n, (Picture(n, picture),), truth) for n in names], "here")


def refusal(run: Run, splits: dict[str, Loaded]) -> str:
    with pytest.raises(UserError) as error:
        check_same_rows(run, splits)
    start, end = (
        f"{run.path}: its data have changed since it was begun: ",
        (f". Restore them, or train anew with `foveal train {run.recipe} --name NEW`."),
    )
    text = str(error.value)
    assert text.startswith(start) and text.endswith(end)
    return text[len(start) : -len(end)]


def test_each_kind_of_change_is_told(run):
    old = {"train": rows("a", "b", 'odd, "name"'), "test": rows("t", "u")}
    write_rows(run, old)
    check_same_rows(run, old)
    assert refusal(run, {**old, "train": rows("a", "b")}) == '1 row is gone (train: odd, "name")'
    assert refusal(run, {**old, "test": rows("t", "u", "v", "w")}) == "2 rows are new (e.g. test: v)"
    assert refusal(run, {**old, "test": rows("t", "u", truth="dog")}) == (
        "2 rows are different in picture or label (e.g. test: t)"
    )
    assert refusal(run, {**old, "test": rows("t", "u", picture=b"2")}) == (
        "2 rows are different in picture or label (e.g. test: t)"
    )
    assert refusal(run, {"train": rows("a", 'odd, "name"'), "test": rows("t", "u", "b")}) == (
        "1 row is in another split (b, train to test)"
    )
    assert refusal(run, {**old, "train": rows("b", "a", 'odd, "name"')}) == "the rows of train are in another order"


def test_rows_of_one_name_in_two_splits_are_two_rows(run):
    old = {"train": rows("1", "2"), "test": rows("1", "2")}
    write_rows(run, old)
    check_same_rows(run, old)
    assert check_measured(run, "test", old["test"]) is None


def test_a_row_that_was_trained_on_is_not_measured(run):
    write_rows(run, {"train": rows("a", "b"), "test": rows("t")})
    with pytest.raises(UserError) as error:
        check_measured(run, "test", rows("t", "b"))
    assert str(error.value) == (
        f"{run.path}: 1 row of its test split was trained on (b): its data have changed since. Restore them, or "
        "measure on other data with --data.source."
    )
    assert check_measured(run, "test", rows("t", "new")) == (
        "The test split has changed since the run was begun: 1 row is new (test: new)."
    )
    assert check_measured(run, "train", rows("a", "b")) is None


def test_a_run_that_did_not_keep_its_rows_is_known_by_their_number(run):
    (run.path / "data.json").write_text(json.dumps({"splits": {"train": {"rows": 18}, "test": {"rows": 1}}}))
    assert refusal(run, {"train": rows("a"), "test": rows("t")}) == "train has 1 rows and had 18"
    (run.path / "data.json").write_text("{")
    check_same_rows(run, {"train": rows("a")})


def test_a_damaged_list_of_rows_is_a_sentence(run):
    (run.path / "rows.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"rows.csv: cannot be read \(.*; restore it, or remove it"):
        check_same_rows(run, {"train": rows("a")})


def test_a_fingerprint_is_of_sizes_and_values_and_the_same_in_every_process(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"12345")
    one = Example("a", (Picture("a", file),), {"mask": np.arange(4), "of": {"x", "y"}}, {"draw": lambda: None})
    assert fingerprint(one) == "a939bad2"
    file.write_bytes(b"54321")
    assert fingerprint(one) == "a939bad2", "the size is looked at, not the bytes"
    file.write_bytes(b"123456")
    assert fingerprint(one) != "a939bad2"


def test_of_many_rows_that_are_made_a_spread_is_kept_and_their_number_is_known(run):
    def made(count: int, truth: int = 0) -> Loaded:
        return Loaded(Numbered(count, lambda i: Example(str(i), (), i + truth)), "made")

    read = Loaded(Made([str(i) for i in range(3000)], lambda name: Example(name, (), 0)), "read")
    assert {n: len(k) for n, k in known_rows({"train": made(2500), "test": read}).items()} == {
        "train": 300,
        "test": 3000,
    }
    write_rows(run, {"train": made(2500)})
    (run.path / "data.json").write_text(json.dumps({"splits": {"train": {"rows": 2500}}}))
    check_same_rows(run, {"train": made(2500)})
    assert refusal(run, {"train": made(2600)}) == "train has 2,600 rows and had 2,500"
    assert refusal(run, {"train": made(2500, 1)}) == "300 rows are different in picture or label (e.g. train: 0)"
