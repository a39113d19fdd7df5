"""The machine: its memory, and settings of PyTorch that it reads once, before a device is first used."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

#: What PyTorch's allocator is told by. The first is its name since PyTorch 2.9; the others are older ones, still read.
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
MPS_FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"
#: One of these is there where an NVIDIA driver is (the second: in Windows' Linux).
_NVIDIA = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


def prepare(device: str) -> dict[str, str]:
    """Sets the environment variables that matter on a device, and none that the user has set.

    * An Apple GPU: operations that it lacks run on the CPU in place of ending the run. PyTorch reads this when it is
      imported, so this function comes first and imports nothing of it.
    * An NVIDIA GPU under Linux: the allocator lets its segments grow, so that batches of changing length do not leave
      memory in pieces. Elsewhere it would only draw a warning.

    Args:
        device: The recipe's ``model.device``: auto, cpu, cuda, cuda:N or mps.

    Returns:
        What was set.
    """
    new: dict[str, str] = {}
    if device in ("auto", "mps") and sys.platform == "darwin" and platform.machine() == "arm64":
        new[MPS_FALLBACK] = "1"
    cuda = device.startswith("cuda") or (device == "auto" and any(p.exists() for p in _NVIDIA))
    if cuda and sys.platform == "linux" and not any(name in os.environ for name in ALLOCATOR):
        new[ALLOCATOR[0]] = "expandable_segments:True"
    new = {name: value for name, value in new.items() if name not in os.environ}
    os.environ.update(new)
    return new


def machine_memory() -> tuple[int, int]:
    """Free and total bytes of the machine's memory, or of what a container may take of it; total 0 where unknown."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        total = 0
    free = total
    info = Path("/proc/meminfo")
    if info.is_file():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        free = int(lines.get("MemAvailable", f"{free // 1024} kB").split()[0]) * 1024
    limit, used = (_number(Path("/sys/fs/cgroup", name)) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        free, total = min(free, max(0, limit - used)), min(total, limit)
    return free, total


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def process_memory() -> int:
    """Bytes of memory that this process holds now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return peak_process_memory()


def peak_process_memory() -> int:
    """Most bytes of memory that this process has held."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
