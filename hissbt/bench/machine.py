"""What the figures were measured on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from hissbt.version import __version__

PACKAGES = (
    *("numpy", "numba", "llvmlite", "scipy", "pandas", "torch", "backtrader"),
    *("onnx", "onnxruntime", "mambapy", "backtesting"),
)


def describe_machine() -> dict:
    """Return processor, cores, memory and system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": memory and round(memory / 2**30, 1),
        "system": platform.platform(),
    }


def describe_versions() -> dict:
    """Return versions of what was compared; None where it is not installed."""
    return {
        "hissbt": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def describe_threads() -> dict:
    """Return thread counts at this moment, by library; BLAS only where threadpoolctl can ask it."""
    import torch

    threads = {"torch": torch.get_num_threads()}  # not numba's: nothing is parallel there, and asking starts them
    if find_spec("threadpoolctl"):
        from threadpoolctl import threadpool_info

        threads |= {Path(pool["filepath"]).name.split("-")[0]: pool["num_threads"] for pool in threadpool_info()}
    return threads


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
