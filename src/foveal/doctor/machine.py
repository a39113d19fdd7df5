"""Checks of the machine: packages, devices, memory, disk and the Hub. Nothing of the engine is imported at the top."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_session, snapshot_download
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from foveal import hub
from foveal.config.sections import Recipe
from foveal.devices import machine_memory
from foveal.doctor.checks import Checks, gigabytes
from foveal.files import check_writable
from foveal.runs import PACKAGES
from foveal.tasks.capabilities import own_models, parts_of
from foveal.tasks.task import Task

#: How long the Hub may take to answer.
SECONDS = 4.0
#: Free bytes below which a disk is a failure, and a drawback.
_DISK_FAIL, _DISK_WARN = 200e6, 2e9
_MEMORY_FAIL, _MEMORY_WARN = 300e6, 1e9


def packages(checks: Checks) -> None:
    """Python's and the packages' versions against those that Foveal's own metadata asks for."""
    try:
        asked = SpecifierSet(metadata("foveal")["Requires-Python"] or "")
        needed = [Requirement(text) for text in requires("foveal") or ()]
    except PackageNotFoundError:
        checks.add(
            "packages", "warn", "Foveal itself is not installed, so it is not known what it needs.", "pip install it."
        )
        return
    running = ".".join(map(str, sys.version_info[:3]))
    if running not in asked:
        checks.add("python", "fail", f"Python {running}, not {asked}.", f"install a Python {asked} and Foveal in it.")
    else:
        checks.add("python", "pass", f"Python {running}, as asked ({asked}).")
    wrong, versions = [], []
    for need in needed:
        optional = need.marker is not None and not need.marker.evaluate({"extra": ""})
        try:
            have = version(need.name)
        except PackageNotFoundError:
            have = None
        if have is None and not optional:
            wrong.append((need, "is missing"))
        elif have is not None and not need.specifier.contains(have, prereleases=True):
            wrong.append((need, f"is {have}, not {need.specifier}"))
        if have is not None and need.name in PACKAGES:
            versions.append(f"{need.name} {have}")
    if wrong:
        text = ", ".join(f"{need.name} {what}" for need, what in wrong)
        install = " ".join(f"'{need.name}{need.specifier}'" for need, _ in wrong)
        checks.add("packages", "fail", f"{text}.", f"pip install {install}")
    else:
        checks.add("packages", "pass", ", ".join(versions))


def torchvision(checks: Checks) -> None:
    """A torchvision of another build of PyTorch keeps transformers from being imported; having none is fine."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        checks.add(
            "torchvision",
            "fail",
            f"It is installed and cannot be imported ({hub.reason(error)}), which also breaks transformers.",
            "pip uninstall torchvision (Foveal does not need it), or install the one made for this PyTorch.",
        )


def devices(checks: Checks, wanted: str) -> Any:
    """PyTorch's build, every device, and the one that the recipe takes, tried with a small sum.

    Args:
        checks: Where the findings go.
        wanted: The recipe's ``model.device``.

    Returns:
        The device, or None where the recipe's cannot be used.
    """
    import torch

    driver = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "ROCm" if torch.version.hip else "no CUDA"
    if driver and not torch.cuda.is_available():
        remedy = "install a PyTorch with CUDA that the driver supports (pytorch.org/get-started), or update the driver."
        checks.add("torch", "warn", f"{torch.__version__} ({build}), while an NVIDIA driver is here.", remedy)
    else:
        checks.add("torch", "pass", f"{torch.__version__} ({build})")
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        checks.attempt(f"cuda:{i}", lambda i=i: _cuda(checks, i))  # type: ignore[misc]
    if torch.backends.mps.is_available():
        limit = torch.mps.recommended_max_memory()
        checks.add("mps", "pass", f"Apple GPU, up to {gigabytes(limit)} of memory", total=limit)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    units = {"AVX-512 BF16": torch.cpu._is_avx512_bf16_supported(), "AMX": torch.cpu._is_amx_tile_supported()}
    fast = [name for name, has in units.items() if has]
    text = f"{threads} threads on {cores} cores, {torch.backends.cpu.get_cpu_capability()}, {' and '.join(fast) or 'no bfloat16 instructions known'}"
    remedy = f"set OMP_NUM_THREADS to at most {cores}." if threads > cores else ""
    checks.add("cpu", "warn" if remedy else "pass", text, remedy, threads=threads, cores=cores, bf16=bool(fast))
    return checks.attempt("device", lambda: _device(checks, wanted))


def _cuda(checks: Checks, number: int) -> None:
    import torch

    card = torch.cuda.get_device_properties(number)
    free, total = torch.cuda.mem_get_info(number)
    bf16 = torch.cuda.get_device_capability(number) >= (8, 0) or torch.version.hip is not None
    text = f"{card.name}, {gigabytes(free)} free of {gigabytes(total)}, {'bfloat16' if bf16 else 'no fast bfloat16'}"
    remedy = "end what else runs on it, or choose another with model.device." if free < total / 2 else ""
    checks.add(f"cuda:{number}", "warn" if remedy else "pass", text, remedy, free=free, total=total, bf16=bf16)


def _device(checks: Checks, wanted: str) -> Any:
    import torch

    from foveal.vlm.loading import pick_device

    device = pick_device(wanted)
    if float((torch.ones(3, device=device) * 2).sum()) != 6.0:
        raise ArithmeticError(f"1 + 1 three times is not 6 on {device}")
    checks.add("device", "pass", f"{device} (model.device: {wanted})")
    return device


def memory(checks: Checks) -> None:
    """The machine's memory."""
    free, total = machine_memory()
    state = "fail" if free < _MEMORY_FAIL else "warn" if free < _MEMORY_WARN else "pass"
    remedy = "" if state == "pass" else "end other programs, or use a machine with more memory."
    of = f" of {gigabytes(total)}" if total else ""
    checks.add("memory", state, f"{gigabytes(free)} free{of}", remedy, free=free, total=total)  # type: ignore[arg-type]


def disk(checks: Checks, output: str) -> None:
    """Free space where runs, downloads and temporary files go, and whether runs may be written.

    Raises:
        UserError: The folder of the runs may not be written.
    """
    check_writable(Path(output) / "run" / "recipe.yaml")
    places = {
        "runs": Path(output),
        "Hub's cache": Path(constants.HF_HUB_CACHE),
        "temporary": Path(tempfile.gettempdir()),
    }
    free = {name: free_space(path) for name, path in places.items()}
    least = min(free.values())
    state = "fail" if least < _DISK_FAIL else "warn" if least < _DISK_WARN else "pass"
    text = ", ".join(f"{gigabytes(n)} for {name}" for name, n in free.items())
    remedy = "" if state == "pass" else "free some space, or choose other folders with output, HF_HOME and TMPDIR."
    checks.add("disk", state, f"free: {text}", remedy, **{f"free_{k.split()[-1]}": v for k, v in free.items()})  # type: ignore[arg-type]


def free_space(path: Path) -> int:
    """Free bytes on the disk where a path is or would be."""
    path = path.expanduser().absolute()
    place = next(p for p in (path, *path.parents) if p.is_dir())
    return shutil.disk_usage(place).free


@dataclass(frozen=True)
class Need:
    """Something that a recipe takes from the Hub.

    Attributes:
        key: The recipe's key: model.id or data.source.
        name: OWNER/NAME.
        cached: Whether a copy is in the cache.
    """

    key: str
    name: str
    cached: bool


def hub_needs(recipe: Recipe, task: type[Task] | None = None) -> list[Need]:
    """What a recipe takes from the Hub.

    Args:
        recipe: The recipe.
        task: Its task, where it is known: its own models are no Hub ids, but may be made of further ones.
    """
    needs: list[Need] = []
    from foveal.vlm.finding import BUILTINS

    named = {"model.id": (recipe.model.id, (*BUILTINS, *(own_models(task) if task else ())))}
    # A task's own models may be made of further ones.
    parts = parts_of(task) if task else {}
    named |= {f"model.{key}": (getattr(recipe.model, key), local) for key, local in parts.items()}
    for key, (name, own) in named.items():
        local = name in own or Path(name).expanduser().exists()
        if not local and not name.startswith((".", "/", "~")) and name.count("/") <= 1:
            revision = recipe.model.revision if key == "model.id" else None
            needs.append(Need(key, name, _cached(name, "model", revision, "*.safetensors")))
    source = getattr(recipe.data, "source", None)
    if isinstance(source, str) and hub.is_source(source) and not Path(source).expanduser().exists():
        data, _, revision = source.partition("@")
        needs.append(Need("data.source", data, _cached(data, "dataset", revision or None, "*")))
    return needs


def _cached(name: str, kind: str, revision: str | None, files: str) -> bool:
    try:
        folder = snapshot_download(name, repo_type=kind, revision=revision, local_files_only=True)
    except (OSError, ValueError):
        return False
    return any(p.is_file() for p in Path(folder).rglob(files))


def probe(seconds: float = SECONDS) -> str | None:
    """None where the Hub answers, else why it does not, after ``seconds`` at most (a name server may take longer)."""
    result: list[str | None] = []

    def ask() -> None:
        try:
            code = get_session().head(constants.ENDPOINT, timeout=seconds, follow_redirects=True).status_code
            result.append(f"it answers with error {code}" if code >= 500 else None)
        except Exception as error:
            offline = constants.is_offline_mode()
            result.append("HF_HUB_OFFLINE is set" if offline else hub.reason(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds + 0.5)
    return result[0] if result else f"no answer in {seconds:g} seconds"


def reach_hub(checks: Checks, needs: list[Need]) -> bool:
    """Whether the Hub answers, which only matters to what is not in the cache.

    Returns:
        Whether it does.
    """
    trouble = probe()
    missing = [n for n in needs if not n.cached]
    uses = "; ".join(f"{n.key} {n.name} is {'in' if n.cached else 'not in'} the cache" for n in needs)
    uses = f" ({uses})" if needs else " (this recipe takes nothing from it)"
    if trouble is None:
        checks.add("hub", "pass", f"{constants.ENDPOINT} answers{uses}", reachable=True)
        return True
    remedy = "check the connection or a proxy (HTTPS_PROXY), and unset HF_HUB_OFFLINE"
    if missing:
        copies = " and ".join(f"{n.key}: {n.name}" for n in missing)
        remedy += f"; or copy {copies} to this machine and give the folder."
        checks.add("hub", "fail", f"{constants.ENDPOINT} cannot be reached: {trouble}{uses}", remedy, reachable=False)
    else:
        remedy += " if you want to load from it."
        checks.add("hub", "warn", f"{constants.ENDPOINT} cannot be reached: {trouble}{uses}", remedy, reachable=False)
    return False
