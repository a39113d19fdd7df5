from __future__ import annotations

from typing import Any

import pytest

from foveal.tasks.readers.tables import kind_of

INT, TEXT, BINARY = ({"_type": "Value", "dtype": dtype} for dtype in ("int64", "string", "binary"))
IMAGE = {"_type": "Image"}
CAT_DOG = {"_type": "ClassLabel", "names": ["cat", "dog"]}
DIGITS = {"_type": "ClassLabel", "names": list("0123456789")}
LIST = {"_type": "List", "feature": INT}
PATHS = ["a/1.jpg", "a/2.jpg", "b/1.JPG"]
JPEG, PNG = b"\xff\xd8\xff\xe0" + bytes(8), b"\x89PNG\r\n\x1a\n" + bytes(8)


@pytest.mark.parametrize(
    ("feature", "samples", "kind"),
    [
        (IMAGE, [], "image"),
        (CAT_DOG, [], "class"),
        (DIGITS, [], "integer"),
        (LIST, [], "list"),
        ([INT], [], "list"),
        ({"_type": "Array2D"}, [], "list"),
        ({"bbox": LIST}, [], "group"),
        ("uint8", [], "integer"),
        ("double", [], "float"),
        ("bool", [], "bool"),
        (BINARY, [JPEG, PNG], "encoded"),
        ("large_binary", [b"%PDF-1.4"], "other"),
        (BINARY, [b"damaged", PNG], "encoded"),
        (TEXT, PATHS, "path"),
        (TEXT, ["", *PATHS], "path"),
        (TEXT, ["a.jpg", "b"], "text"),
        ("large_string", [], "text"),
        ("struct<x: int64>", [], "group"),
        ({"_type": "Audio"}, [], "other"),
        ("timestamp[ns]", [], "other"),
    ],
)
def test_kinds(feature: Any, samples: list[Any], kind: str) -> None:
    assert kind_of(feature, samples) == kind
