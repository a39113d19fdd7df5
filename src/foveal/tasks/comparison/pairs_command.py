"""`foveal data pairs`: write pairs of rated pictures, the same as `foveal data make comparison`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from foveal.tasks.comparison.task import Comparison
from foveal.tasks.making import make_data


def run(arguments: Sequence[str], console: Console) -> int:
    """Makes the pairs."""
    make_data(Comparison, arguments, console)
    return 0
