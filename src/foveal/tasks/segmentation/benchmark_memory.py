"""Memory of one variant, measured in a separate process: ``python -m foveal.tasks.segmentation.benchmark_memory``.

On CUDA it is what PyTorch's allocator held. On the CPU it is the process's resident set beyond what it was before the
model was made, after a small model had been opened, asked and dropped, so that libraries and their buffers are no part
of it. The highest resident set is forgotten once the model is loaded, where the system can do that (Linux can): loading
takes copies that inference does not. The allocator gives freed tensors back at once, so that they do not count.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, cast

from foveal.config.sections import Recipe, dump_recipe
from foveal.errors import UserError
from foveal.tasks.segmentation.model import Vision
from foveal.tasks.segmentation.task import SegmenterModel

#: Of glibc: from so many bytes on, memory comes from the system piece by piece, and goes back when it is freed.
_GIVE_BACK: Final = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass(frozen=True)
class Memory:
    """Bytes of memory beyond those of the process before the model was made.

    Attributes:
        loaded: Held once the model was loaded.
        peak: Most that was held while it answered.
        measure: How it was measured: ``cuda`` (the allocator's), ``resident`` (the resident set's peak while
            answering) or ``resident with loading`` (its peak up to the end).
    """

    loaded: int
    peak: int
    measure: str


def memory_of(recipe: Recipe, vision: Vision, weights: Path | None, images: int) -> Memory:
    """Memory of one variant, measured in a fresh process.

    Args:
        recipe: See ``open_variant``.
        vision: See ``open_variant``.
        weights: See ``open_variant``.
        images: Pictures that are asked about, one after the other.

    Raises:
        UserError: The model cannot be opened, or the process was ended from outside.
    """
    with tempfile.TemporaryDirectory(prefix="foveal-memory-") as folder:
        file, out = Path(folder) / "recipe.yaml", Path(folder) / "memory.json"
        file.write_text(dump_recipe(recipe), encoding="utf-8")
        words = [str(file), vision, str(weights or ""), str(images), str(out)]
        done = subprocess.run(
            [sys.executable, "-m", __name__, *words], env={**os.environ, **_GIVE_BACK}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode < 0:
            raise UserError(
                "The process that measures memory was ended by the system; memory is short, choose smaller --sizes."
            )
        if done.returncode:
            raise RuntimeError(done.stderr)
        result = json.loads(out.read_text(encoding="utf-8"))
    if "error" in result:
        raise UserError(result["error"])
    return Memory(**result)


def _measure(recipe: Recipe, vision: Vision, weights: Path | None, images: int) -> Memory:
    import torch

    from foveal.devices import peak_process_memory, process_memory
    from foveal.quiet import quiet
    from foveal.tasks.segmentation.benchmark_subject import Subject
    from foveal.vlm.loading import pick_device

    quiet()
    small = SegmenterModel(id="builtin", vision="separate", device=recipe.model.device)
    Subject.open(replace(recipe, model=small), "separate", None, images=1).answer(0)
    gc.collect()
    cuda = pick_device(recipe.model.device).type == "cuda"
    before = torch.cuda.memory_allocated() if cuda else process_memory()
    subject = Subject.open(recipe, vision, weights, images=images)
    inputs = [subject.prepare(i) for i in range(images)]
    gc.collect()
    if cuda:
        loaded = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        loaded = process_memory()
    reset = not cuda and _reset_peak()
    for picture_inputs in inputs:
        subject.ask(picture_inputs)
    if cuda:
        return Memory(loaded - before, torch.cuda.max_memory_allocated() - before, "cuda")
    peak = _resident_peak() if reset else peak_process_memory()
    return Memory(loaded - before, peak - before, "resident" if reset else "resident with loading")


def _reset_peak() -> bool:
    """Resets the resident set's peak (proc(5), ``clear_refs``); False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _resident_peak() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main(words: list[str]) -> None:
    """Writes a ``Memory``, or the sentence of an error, as JSON."""
    from foveal.config.reading import read_recipe

    file, vision, weights, images, out = words
    try:
        result = asdict(
            _measure(read_recipe(Path(file)), cast(Vision, vision), Path(weights) if weights else None, int(images))
        )
    except UserError as error:
        result = {"error": str(error)}
    Path(out).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
