"""What sharing an encoder saves: compares a segmenter with each of the three values of ``model.vision``.

All three variants write the same reply, one mask token. They are timed in turns, picture by picture, so that a machine
that changes its speed affects all alike. Memory is measured in a fresh process for each; forward passes and floating
point operations are counted.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.files import check_output, to_json, write_text
from foveal.metrics.formats import percent
from foveal.runs import environment
from foveal.tasks.segmentation.benchmark_memory import Memory, memory_of
from foveal.tasks.segmentation.benchmark_sizes import VARIANTS
from foveal.tasks.segmentation.benchmark_subject import Subject, Turn
from foveal.tasks.segmentation.model import SharedEncoderSegmenter, Vision
from foveal.tasks.segmentation.sam import sam_config
from foveal.tasks.segmentation.specialist import Segmenter
from foveal.tasks.segmentation.task import segmenter_section
from foveal.vlm.components import component_modules, sizes
from foveal.vlm.loading import load_config
from foveal.vlm.memory import weight_bytes

#: Names of the variants in tables.
NAMES: Final[Mapping[Vision, str]] = {"vlm": "shared-vlm", "sam": "shared-sam", "separate": "separate"}
PARTS: Final = ("vlm_encoder", "sam_encoder", "projections", "language", "mask_decoder")
#: Expected savings, in shares.
EXPECTED: Final[Mapping[str, tuple[float, float]]] = {"memory": (0.3, 0.4), "time": (0.2, 0.3)}
_SHOWN: Final = {
    "parameters": "parameters", "weights": "bytes of weights", "peak_memory": "peak memory", "flops": "operations",
    "model_seconds": "time of the model", "processor_seconds": "processor time of the model",
    "whole_seconds": "time with preparation",
}  # fmt: skip


@dataclass(frozen=True)
class Counts:
    """Work for one picture.

    Attributes:
        passes: Forward passes of ``vlm_encoder`` and ``sam_encoder``.
        flops: Floating point operations of matrix products, attention and convolutions by part, a multiplication and
            an addition as two; ``other`` is the rest.
    """

    passes: Mapping[str, int]
    flops: Mapping[str, int]


@dataclass(frozen=True)
class Measured:
    """Measurements of one variant.

    Attributes:
        parameters: Weights by part, tied ones once.
        weight_bytes: Bytes of weights and buffers.
        memory: Of a fresh process.
        counts: Of the first picture.
        turns: One for each picture in each repeat, in order.
    """

    parameters: Mapping[str, int]
    weight_bytes: int
    memory: Memory
    counts: Counts
    turns: Sequence[Turn]

    def figures(self) -> dict[str, float]:
        """The compared numbers, by the names of ``_SHOWN``; medians of times."""
        return {
            "parameters": sum(self.parameters.values()),
            "weights": self.weight_bytes,
            "peak_memory": self.memory.peak,
            "flops": sum(self.counts.flops.values()),
            "model_seconds": statistics.median(t.model for t in self.turns),
            "processor_seconds": statistics.median(t.processor for t in self.turns),
            "whole_seconds": statistics.median(t.prepare + t.model for t in self.turns),
        }


# ---------------------------------------------------------------- parts, passes, operations


def parts_of(segmenter: Segmenter) -> dict[str, list[nn.Module]]:
    """The modules of each of ``PARTS``; none lies in another."""
    base, model = segmenter.vlm.base, segmenter.model
    vlm = {c: [base.get_submodule(n) for n in component_modules(base, c)] for c in ("vision", "projector", "language")}
    bridges = [child for name, child in model.named_children() if name in ("to_prompt", "to_grid", "to_tokens")]
    encoder = model.sam.vision_encoder
    return {
        "vlm_encoder": vlm["vision"], "sam_encoder": [] if encoder is None else [encoder],
        "projections": [*vlm["projector"], *bridges], "language": vlm["language"], "mask_decoder": [model.sam.mask_decoder],
    }  # fmt: skip


def parameters_of(model: SharedEncoderSegmenter) -> dict[str, int]:
    """Weights of each of ``PARTS``, 4-bit ones counted unpacked."""
    counted = {s.component: s.parameters for s in sizes(model)}
    encoder = model.sam.vision_encoder
    sam = 0 if encoder is None else sum(p.numel() for p in encoder.parameters())
    return {
        "vlm_encoder": counted.get("vision", 0) - sam, "sam_encoder": sam, "projections": counted.get("projector", 0),
        "language": counted.get("language", 0), "mask_decoder": counted.get("head", 0),
    }  # fmt: skip


def count(parts: Mapping[str, Sequence[nn.Module]], work: Callable[[], Any]) -> Counts:
    """Forward passes and operations of ``work`` by part.

    Args:
        parts: Modules by name; none lies in another. A part's passes are those of its first module.
        work: Done once, without gradients.
    """
    passes, flops = dict.fromkeys(parts, 0), dict.fromkeys(parts, 0)
    handles: list[Any] = []
    # A CPU's fused attention is not known to the counter; its plain form does the same in operations that are.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():

        def adds(part: str, sign: int, is_pass: bool = False) -> Callable[..., None]:
            def hook(*_: Any) -> None:
                passes[part] += is_pass
                flops[part] += sign * counter.get_total_flops()

            return hook

        for part, modules in parts.items():
            for i, module in enumerate(modules):
                handles.append(module.register_forward_pre_hook(adds(part, -1, i == 0)))
                handles.append(module.register_forward_hook(adds(part, 1)))
        try:
            work()
        finally:
            for handle in handles:
                handle.remove()
        total = counter.get_total_flops()
    return Counts(
        {k: v for k, v in passes.items() if k.endswith("encoder")}, {**flops, "other": total - sum(flops.values())}
    )


# ---------------------------------------------------------------- turns, savings


def take_turns(
    askers: Mapping[Any, Callable[[int], Any]], images: int, repeats: int, progress: Callable[[], None] = lambda: None
) -> dict[Any, list[Any]]:
    """Asks all about one picture after the other; the one that goes first changes each time.

    Args:
        askers: Each is called with the number of a picture.
        images: How many pictures there are.
        repeats: How often each is asked about.
        progress: Called after each answer.

    Returns:
        The answers of each, in order.
    """
    names = list(askers)
    answers: dict[Any, list[Any]] = {name: [] for name in names}
    for turn in range(images * repeats):
        # Shifted by the repeat too, so that no picture meets the same order each time.
        first = (turn + turn // images) % len(names)
        for name in names[first:] + names[:first]:
            answers[name].append(askers[name](turn % images))
            progress()
    return answers


def savings(figures: Mapping[Vision, Mapping[str, float]]) -> dict[Vision, dict[str, float]]:
    """Savings of sharing in each number: 1 - x / separate; negative if it costs more.

    Args:
        figures: The numbers of each variant, with ``separate``, by name.
    """
    whole = figures["separate"]
    return {
        vision: {name: 1 - value / whole[name] for name, value in numbers.items()}
        for vision, numbers in figures.items()
        if vision != "separate"
    }


# ---------------------------------------------------------------- the whole job


@dataclass(frozen=True)
class Done:
    """A finished comparison.

    Attributes:
        variants: Measurements of each variant.
        facts: The machine, the model and the options.
    """

    variants: Mapping[Vision, Measured]
    facts: Mapping[str, Any]

    def table(self) -> dict[str, Any]:
        """All of it, raw times included, for JSON."""
        figures = {vision: measured.figures() for vision, measured in self.variants.items()}
        return {
            **self.facts,
            "variants": {NAMES[v]: {**asdict(m), "figures": figures[v]} for v, m in self.variants.items()},
            "savings": {NAMES[v]: s for v, s in savings(figures).items()},
            "expected": {k: list(v) for k, v in EXPECTED.items()},
        }


def run(
    recipe: Recipe, weights: Path | None, console: Console, *, images: int, repeats: int, out: Path | None = None
) -> Done:
    """Measures the three variants; all are in memory at once while they are timed.

    Args:
        recipe: Data, model and precision; its ``model.vision`` is the variant of ``weights``.
        weights: A checkpoint folder of a run, or None.
        console: For the progress bar.
        images: Pictures, the first of the test split.
        repeats: Timed answers to each.
        out: A file for the results as JSON.

    Raises:
        UserError: An option is impossible, or a model cannot be opened in one of the variants.
    """
    _check(recipe, images, repeats, out)
    with _bar(console, len(VARIANTS) * (3 + images * repeats)) as step:
        memory, subjects, counts = {}, {}, {}
        for vision in VARIANTS:
            memory[vision] = memory_of(recipe, vision, weights, images)
            step()
        for vision in VARIANTS:
            subject = subjects[vision] = Subject.open(recipe, vision, weights, images=images)
            inputs = subject.prepare(0)
            counts[vision] = count(parts_of(subject.segmenter), lambda s=subject, i=inputs: s.ask(i))  # type: ignore[misc]
            step()
        for subject in subjects.values():
            subject.answer(0)
            step()
        turns = take_turns({v: s.answer for v, s in subjects.items()}, images, repeats, step)
    variants = {
        v: Measured(parameters_of(s.model), weight_bytes(s.model), memory[v], counts[v], turns[v])
        for v, s in subjects.items()
    }
    first = subjects["separate"]
    facts = {
        "environment": environment(), "model": asdict(recipe.model), "weights": str(weights) if weights else None,
        "device": str(first.segmenter.device), "precision": str(first.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(), "images": images, "repeats": repeats,
    }  # fmt: skip
    done = Done(variants, facts)
    if out is not None:
        write_text(out, to_json(done.table(), indent=1) + "\n")
    return done


def _check(recipe: Recipe, images: int, repeats: int, out: Path | None) -> None:
    """Refuses wrong options and model names before processes are started."""
    for option, value in (("--images", images), ("--repeats", repeats)):
        if value < 1:
            raise UserError(f"{option}: must be at least 1, not {value}.")
    if recipe.task != "segmentation":
        raise UserError(f"The task {recipe.task} draws no masks; give a run or a recipe of segmentation.")
    check_output(out, (".json",))
    load_config(recipe.model)
    sam_config(segmenter_section(recipe.model).sam)


@contextmanager
def _bar(console: Console, total: int) -> Iterator[Callable[[], None]]:
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("measuring", total=total)
        yield lambda: progress.advance(task)


def tables(done: Done) -> list[Table]:
    """The measurements, and the savings beside the expected ones."""
    first = Table(box=None, padding=(0, 2, 0, 0))
    first.add_column("one picture at a time")
    for vision in done.variants:
        first.add_column(NAMES[vision], justify="right")

    def row(name: str, cell: Callable[[Measured], str]) -> None:
        first.add_row(name, *map(cell, done.variants.values()))

    row("parameters, million", lambda m: f"{sum(m.parameters.values()) / 1e6:.2f}")
    for part in PARTS:
        row(f"  {_plain(part)}", lambda m, p=part: f"{m.parameters[p] / 1e6:.2f}")  # type: ignore[misc]
    row("weights, MB", lambda m: f"{m.weight_bytes / 1e6:.1f}")
    row("memory once loaded, MB", lambda m: f"{m.memory.loaded / 1e6:.1f}")
    row("peak memory, MB", lambda m: f"{m.memory.peak / 1e6:.1f}")
    for part in ("vlm_encoder", "sam_encoder"):
        row(f"passes of {_plain(part)}", lambda m, p=part: f"{m.counts.passes[p]}")  # type: ignore[misc]
    row("operations, GFLOP", lambda m: f"{sum(m.counts.flops.values()) / 1e9:.2f}")
    for part in (*PARTS, "other"):
        row(f"  {_plain(part)}", lambda m, p=part: f"{m.counts.flops[p] / 1e9:.2f}")  # type: ignore[misc]
    for name, pick in _TIMES.items():
        row(f"{name}, ms: median", lambda m, f=pick: f"{1e3 * statistics.median(map(f, m.turns)):.1f}")  # type: ignore[misc]
        row("  mean", lambda m, f=pick: f"{1e3 * statistics.fmean(map(f, m.turns)):.1f}")  # type: ignore[misc]
        row("  95th percentile", lambda m, f=pick: f"{1e3 * p95(list(map(f, m.turns))):.1f}")  # type: ignore[misc]
    second = Table(box=None, padding=(0, 2, 0, 0))
    second.add_column("saved against separate")
    saved = savings({v: m.figures() for v, m in done.variants.items()})
    for vision in saved:
        second.add_column(NAMES[vision], justify="right")
    second.add_column("expected", justify="right")
    for name, text in _SHOWN.items():
        low, high = EXPECTED.get({"peak_memory": "memory", "model_seconds": "time"}.get(name, ""), (0.0, 0.0))
        expected = f"{low:.0%} to {high:.0%}" if high else ""
        second.add_row(text, *(percent(shares[name]) for shares in saved.values()), expected)
    return [first, second]


_TIMES: Final[Mapping[str, Callable[[Turn], float]]] = {
    "model": lambda t: t.model, "model by processor time": lambda t: t.processor, "preparation": lambda t: t.prepare,
}  # fmt: skip


def p95(seconds: Sequence[float]) -> float:
    """The 95th percentile, linear between its neighbours."""
    return float(np.percentile(seconds, 95))


def _plain(part: str) -> str:
    return {"vlm_encoder": "VLM's encoder", "sam_encoder": "SAM's encoder", "mask_decoder": "mask decoder"}.get(
        part, part
    )
