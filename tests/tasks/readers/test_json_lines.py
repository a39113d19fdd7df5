from __future__ import annotations

from pathlib import Path

import pytest

from foveal.errors import UserError
from foveal.tasks.readers.json_lines import read_json_lines
from foveal.tasks.readers.missing import is_missing


def test_rows_of_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    file.write_bytes(
        b'\xef\xbb\xbf{"file_name": "1.png", "label": 3}\r\n\n{"file_name": "2.png", "code": "7", "tags": [1]}\n'
    )
    table = read_json_lines(file)
    assert table.features == {"file_name": "string", "label": "int64", "code": "string", "tags": {"_type": "List"}}
    assert table.values("label") == [3, None] and table.values("tags") == [None, [1]]
    assert table.where(1) == f"{file}, line 3"


@pytest.mark.parametrize(
    ("text", "words"), [("{}\n[1]\n", r"line 2: is a list, not an object"), ('{}\n{"a": \n', r"line 2: is no JSON")]
)
def test_lines_that_cannot_be_read(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(UserError, match=words):
        read_json_lines(tmp_path / "m.jsonl")


def test_cells_that_hold_nothing() -> None:
    assert all(is_missing(v) for v in (None, float("nan"), "", "  ", "NaN", " n/a ", "NULL", "none", "<NA>", "#N/A"))
    assert not any(is_missing(v) for v in (0, 0.0, False, "0", "nothing", "cat", [], "-"))
    assert not is_missing("None", ["None"]) and is_missing("none", ["None"])
