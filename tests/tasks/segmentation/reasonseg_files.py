"""Small folders and tables like ReasonSeg's."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (40, 30)
SQUARE = [[10.5, 5.25], [20, 5.25], [20, 15.9], [10.5, 15.9]]


def shape(label: str = "target", points: Sequence[Sequence[float]] = SQUARE, **more: Any) -> dict[str, Any]:
    return {"label": label, "labels": [label], "shape_type": "polygon", "points": list(points), "flags": {}, **more}


def content(*shapes: Mapping[str, Any], text: Any = ("what is it?",), is_sentence: Any = True) -> dict[str, Any]:
    return {"text": list(text), "is_sentence": is_sentence, "shapes": list(shapes)}


def write_pair(folder: Path, stem: str, document: Mapping[str, Any] | None = None, suffix: str = ".jpg") -> Path:
    """A picture and its JSON file, whose path is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (200, 10, 10)).save(folder / f"{stem}{suffix}")
    path = folder / f"{stem}.json"
    path.write_text(json.dumps(content(shape()) if document is None else document))
    return path


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows with the columns of Ricky06662/ReasonSeg_val; what a row does not give is filled in."""
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    Image.new("RGB", SIZE, (10, 200, 10)).save(stream, "PNG")
    filled = [
        {
            "image": {"bytes": stream.getvalue(), "path": None},
            "text": f"text {i}",
            "mask": np.zeros((SIZE[1], SIZE[0]), dtype=bool).tolist(),
            "image_id": f"id{i}",
            "ann_id": "0",
            "img_height": SIZE[1],
            "img_width": SIZE[0],
            **row,
        }
        for i, row in enumerate(rows)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(filled), path)
    return path
