"""Tables and archives of small pictures for tests."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def png(value: int) -> bytes:
    """A small PNG of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (value % 256, value // 256, 7)).save(stream, "PNG")
    return stream.getvalue()


def write_parquet(path: Path, labels: Sequence[Any], *, first: int = 0, names: Sequence[str] | None = None) -> Path:
    """Pictures ``first``, ``first + 1`` ... with labels, as `datasets` writes them; ``names`` makes a ClassLabel."""
    import datasets

    kind = datasets.ClassLabel(names=list(names)) if names else datasets.Value("int64")
    kind = datasets.Value("string") if not names and isinstance(labels[0], str) else kind
    path.parent.mkdir(parents=True, exist_ok=True)
    saved(labels, first, kind).to_parquet(str(path))
    return path


def saved(labels: Sequence[Any], first: int, kind: Any) -> Any:
    """A `datasets.Dataset` of such pictures."""
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": kind})
    pictures = [{"bytes": png(first + i), "path": None} for i in range(len(labels))]
    return datasets.Dataset.from_dict({"image": pictures, "label": list(labels)}, features=features)


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """An archive of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_csv(path: Path, header: str, lines: Sequence[str]) -> Path:
    """A table of these lines; the pictures that it names are not made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path
