"""How long does it take to write all pairs of 1,100 rated pictures, 604,450, and how much memory?

Run it as ``python benchmarks/pairs.py``. Scores are drawn like SCUT-FBP5500's: sixtieths from 1 to 5. The memory is the
largest that the process had, from which what it had before is taken for the second figure.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

from foveal.images import Picture
from foveal.tasks.comparison.pair_files import write_pairs
from foveal.tasks.comparison.pairs import all_pairs, training_pairs
from foveal.tasks.comparison.scores import Rated


def largest_memory() -> float:
    """Largest resident memory of this process so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pictures", type=int, default=1100, help="pictures whose pairs are written (default 1100)")
    parser.add_argument("--rounds", type=int, default=3, help="how often (default 3)")
    given = parser.parse_args()
    rng = random.Random(0)
    rows = [
        Rated(f"AF{i}.jpg", Picture(f"AF{i}.jpg", f"AF{i}.jpg"), Fraction(rng.randint(61, 285), 60))
        for i in range(4 * given.pictures)
    ]
    test, before = rows[: given.pictures], largest_memory()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.csv"
        for _ in range(given.rounds):
            start = time.perf_counter()
            counts = write_pairs(path, test, all_pairs([r.score for r in test], "0.2"))
            took = time.perf_counter() - start
            print(
                f"wrote {sum(counts.values()):,} pairs, {path.stat().st_size / 1e6:.1f} MB: {took:.2f} s; "
                f"memory {largest_memory():.0f} MB, "
                f"{largest_memory() - before:.0f} MB more than before"
            )
    start = time.perf_counter()
    drawn = training_pairs([r.score for r in rows], "0.2", 45_000 * given.pictures // 1100)
    print(f"drew {len(drawn):,} training pairs of {len(rows):,} pictures: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
