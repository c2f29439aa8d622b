"""On what, by whose code and in how much memory something was computed: what no key holds."""

import contextlib
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from unrelearn import distributed, source

try:
    import resource
except ImportError:  # there is none on Windows
    resource = None  # type: ignore[assignment]


def reset_peak_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        # Linux: resets VmHWM, so that each stage has its own peak
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float | None:
    """MiB that this process has held at most, since reset_peak_memory where the system can do
    that; None if it does not say.
    """
    with contextlib.suppress(OSError, StopIteration):  # Linux
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def circumstances() -> dict:
    """Whose code ran with how many threads and on which CPU: what may move the last bits, which no
    key holds.
    """
    return {
        "commit": source.commit(),
        "processes": distributed.world_size(),
        "threads": torch.get_num_threads(),
        "cpu": _cpu(),
        "python": platform.python_version(),
    }


@cache
def _cpu() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return (
            next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
        )
    return platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Of the packages that decide the numbers; None for what runs without having been installed."""
    known: dict[str, str | None] = {}
    for name in ("unrelearn", "torch", "diffusers", "lightning"):
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            known[name] = None
    return known
