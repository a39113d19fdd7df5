"""Files of pairs: CSV with the columns img1, img2, score1, score2 and label, written in a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from foveal.files import as_csv, replacing
from foveal.tasks.comparison.pairs import LABELS, Label, Pairs
from foveal.tasks.comparison.scores import Rated, decimal_text

COLUMNS = ("img1", "img2", "score1", "score2", "label")


def write_pairs(path: Path, rows: Sequence[Rated], blocks: Pairs | Iterable[Pairs]) -> dict[Label, int]:
    """Writes pairs, which appear whole or not at all; one block is held at a time.

    Scores are written with all their digits, or six behind the point where they have no end as decimals.

    Args:
        path: The file; one that is there is replaced.
        rows: The rated pictures that the pairs' indices mean.
        blocks: The pairs, e.g. an ``AllPairs``.

    Returns:
        How many pairs have each label.

    Raises:
        UserError: The disk is full or may not be written.
    """
    names = [as_csv([[row.id]]).removesuffix("\n") for row in rows]
    scores = [decimal_text(row.score) for row in rows]
    counts: dict[Label, int] = dict.fromkeys(LABELS, 0)
    with replacing(path) as stream:
        stream.write((",".join(COLUMNS) + "\n").encode())
        for block in [blocks] if isinstance(blocks, Pairs) else blocks:
            lines = "".join(f"{names[a]},{names[b]},{scores[a]},{scores[b]},{c}\n" for a, b, c in block)
            stream.write(lines.encode(errors="surrogateescape"))
            for label, count in block.counts().items():
                counts[label] += count
    return counts
