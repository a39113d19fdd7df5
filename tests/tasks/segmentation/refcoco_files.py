"""A small folder like RefCOCO's."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = (40, 30)
#: The square from (10, 5) to (20, 15), and the triangle below its diagonal.
SQUARE = [10.0, 5.0, 20.0, 5.0, 20.0, 15.0, 10.0, 15.0]
TRIANGLE = [10.0, 5.0, 20.0, 15.0, 10.0, 15.0]


def reference(ref_id: int, split: str = "train", ann_id: int = 100, image_id: int = 7, **more: Any) -> dict[str, Any]:
    sentences = [
        {"raw": f"The Thing {i}!", "sent": f"the thing {i}", "tokens": ["the", "thing", str(i)], "sent_id": i}
        for i in range(2)
    ]
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": 3,
        "split": split,
        "sentences": sentences,
        "sent_ids": [0, 1],
        "file_name": f"COCO_train2014_{image_id:012}_16.jpg",
        **more,
    }


def instances(*segmentations: Any) -> dict[str, Any]:
    """Two pictures, 7 and 8; the annotations 100, 101, ... belong to 7, 8, 7, 8, ..."""
    return {
        "images": [
            {"id": i, "file_name": f"COCO_train2014_{i:012}.jpg", "width": SIZE[0], "height": SIZE[1]} for i in (7, 8)
        ],
        "annotations": [
            {"id": 100 + i, "image_id": 7 + i % 2, "category_id": 3, "bbox": [0, 0, 1, 1], "segmentation": one}
            for i, one in enumerate(segmentations or ([SQUARE], [TRIANGLE]))
        ],
        "categories": [{"id": 3, "name": "thing", "supercategory": "none"}],
    }


def write(
    folder: Path,
    refs: Sequence[Any],
    coco: dict[str, Any] | None = None,
    *,
    name: str = "refs(unc).p",
    pictures: str = "images",
) -> Path:
    """Writes the files of a folder, and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    coco = instances() if coco is None else coco
    (folder / "instances.json").write_text(json.dumps(coco))
    data = json.dumps(refs).encode() if name.endswith(".json") else pickle.dumps(list(refs), protocol=2)
    (folder / name).write_bytes(data)
    for image in coco["images"]:
        file = folder / pictures / image["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (200, 10, 10)).save(file)
    return folder
