"""Small COCO detection files with their pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = (40, 30)
Boxes = Sequence[tuple[str, Sequence[float]]]


def content(pictures: Mapping[str, Boxes], names: Sequence[str] = ("things", "apples", "pears")) -> dict[str, Any]:
    """A file's content; each picture's boxes with their category's name. Ids start anywhere."""
    images, annotations = [], []
    for i, (file_name, boxes) in enumerate(pictures.items()):
        images.append({"id": 7 + i, "file_name": file_name, "width": SIZE[0], "height": SIZE[1]})
        for name, box in boxes:
            annotations.append(
                {
                    "id": 100 + len(annotations),
                    "image_id": 7 + i,
                    "category_id": 5 + names.index(name),
                    "bbox": list(box),
                    "area": 1,
                    "segmentation": [],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 5 + i, "name": name, "supercategory": "none"} for i, name in enumerate(names)]
    return {"info": {}, "licenses": [], "categories": categories, "images": images, "annotations": annotations}


def write(folder: Path, document: Mapping[str, Any], name: str = "_annotations.coco.json") -> Path:
    """Writes the content and a picture for each of its images."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in document["images"]:
        picture = folder / image["file_name"]
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (image["width"], image["height"]), (200, 10, 10)).save(picture)
    (folder / name).write_text(json.dumps(document))
    return folder / name
