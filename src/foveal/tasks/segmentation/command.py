"""`foveal benchmark segmentation`: measure what sharing a vision encoder saves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from foveal.config.arguments import Parser
from foveal.config.finding import recipe_or_run
from foveal.devices import prepare
from foveal.runs import checkpoint_of
from foveal.terminal import counted

#: What the keys of a recipe begin with that it takes beside its own options: it takes all.
KEYS = ""
_DESCRIPTION = (
    "Measures the three ways to look of a segmentation model (shared-vlm, shared-sam, separate) side by side: weights, "
    "memory, time, forward passes and operations for one picture, and what sharing saves. Recipe keys can be changed "
    "beside the options, e.g. --model.device cuda."
)


def parser() -> Parser:
    """The command's own options; a recipe's keys come beside them."""
    p = Parser(prog="foveal benchmark segmentation", description=_DESCRIPTION)
    p.add_argument(
        "target", nargs="?", default="segmentation", metavar="RUN|RECIPE",
        help="a run's folder, or a recipe (default: segmentation)",
    )  # fmt: skip
    p.add_argument("--images", type=int, default=8, metavar="N", help="pictures of the test split (default 8)")
    p.add_argument("--repeats", type=int, default=5, metavar="N", help="timed answers to each picture (default 5)")
    p.add_argument(
        "--sizes", metavar="builtin|vit-b|VLM,SAM",
        help="other models than the recipe's: vit-b has encoders as large as published ones, with random weights; "
        "VLM,SAM are folders or Hub ids",
    )  # fmt: skip
    p.add_argument(
        "--checkpoint", default="best", metavar="NAME", help="of a run: best, last or epoch-N (default: best)"
    )
    p.add_argument("--out", type=Path, metavar="FILE.json", help="write all that was measured, each time included")
    return p


def run(arguments: Sequence[str], console: Console) -> int:
    """Measures, and prints two tables."""
    given, rest = parser().parse_own(arguments)
    recipe, found = recipe_or_run(given.target, rest)
    prepare(recipe.model.device)
    from foveal.quiet import quiet
    from foveal.tasks.segmentation.benchmark import run as run_benchmark
    from foveal.tasks.segmentation.benchmark import tables
    from foveal.tasks.segmentation.benchmark_sizes import settings_of

    quiet()
    weights = checkpoint_of(found, given.checkpoint) if given.sizes is None else None
    with settings_of(given.sizes) as settings:
        recipe, _ = recipe_or_run(given.target, [*settings, *rest])
        done = run_benchmark(
            recipe, weights, console, images=given.images, repeats=given.repeats, out=given.out
        )  # fmt: skip
    console.width = max(console.width, 80)
    for table in tables(done):
        console.print(table, crop=False)
        console.print()
    facts = done.facts
    console.print(
        f"{counted(facts['images'], 'picture')}, {counted(facts['repeats'], 'repeat')}, {facts['device']}, "
        f"{counted(facts['threads'], 'thread')}, "
        f"{facts['precision']}; memory: {done.variants['separate'].memory.measure}", soft_wrap=True,
    )  # fmt: skip
    if given.out is not None:
        console.print(f"Results: {given.out}", soft_wrap=True)
    return 0
