"""Outputs computed once: the same model over the same bars, in sweeps and in optstrategy's processes.

An entry is named by a hash of everything that its numbers depend on: the bundle, the rows themselves, the reset
rule, the source of the code, numba's version and the processor. So it can be missing, but never stale; one that is
damaged is computed again.
"""

import hashlib
import os
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding
import numba
import numpy as np
import platformdirs
import safetensors.numpy
from safetensors import SafetensorError

from hissbt import features, limits, targets
from hissbt.atomic import atomic_file
from hissbt.stream import kernels, networks, plan, relay
from hissbt.stream.relay import RelayStream
from hissbt.stream.stream import Stream

FEWEST_BARS = 5_000  # less than a year of hours, which a sweep runs over hundreds of times
MOST_BYTES = 2**30  # the entries used longest ago go first


def cached_scan(stream: Stream | RelayStream, rows: np.ndarray) -> np.ndarray:
    """Return ``stream.scan(rows)`` of a stream that has not seen a bar, from the cache where it is there.

    The stream is not advanced. Rows are float64 [T,6+C], outputs [T,..].
    """
    if len(rows) < FEWEST_BARS:
        return stream.scan(rows)
    path = cache_folder() / f"{_key(stream, rows)}.safetensors"
    outputs = _read(path)
    if outputs is None:
        outputs = stream.scan(rows)
        _write(path, outputs)
    return outputs


def cache_folder() -> Path:
    """Return where the entries are: ``HISSBT_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("HISSBT_CACHE") or platformdirs.user_cache_path("hissbt")) / "outputs"


@cache
def stream_version() -> str:
    """Return a hash of the code that turns bars into outputs, and of what compiles and runs it."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {np.__version__}".encode())
    digest.update(llvmlite.binding.get_host_cpu_name().encode())
    for module in (features, limits, targets, kernels, networks, plan, relay):
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()


def _key(stream: Stream | RelayStream, rows: np.ndarray) -> str:
    rule = (str(stream.reset_after), str(stream.rewarm), *stream.outputs)
    digest = hashlib.sha256("\n".join((stream_version(), stream.bundle_sha256, *rule)).encode())
    opens = stream.session_opens
    digest.update(opens[: opens.searchsorted(rows[-1, 0])])  # those to come grow in number from day to day
    digest.update(np.ascontiguousarray(rows, dtype=np.float64))
    return digest.hexdigest()


def _read(path: Path) -> np.ndarray | None:
    try:
        arrays = safetensors.numpy.load(path.read_bytes())
        os.utime(path)  # used just now
        outputs = arrays["outputs"]
        return outputs if arrays["sha256"].tobytes() == _digest(outputs) else None
    except (OSError, SafetensorError, KeyError):
        return None


def _write(path: Path, outputs: np.ndarray) -> None:
    checksum = np.frombuffer(_digest(outputs), dtype=np.uint8)
    try:
        with atomic_file(path) as temporary:
            temporary.write_bytes(safetensors.numpy.save({"outputs": outputs, "sha256": checksum}))
        _prune(path.parent)
    except OSError:
        pass  # a full or read-only disk costs the time saved, not the run


def _prune(folder: Path) -> None:
    entries = sorted(folder.glob("*.safetensors"), key=lambda entry: entry.stat().st_mtime, reverse=True)
    used = 0
    for entry in entries:
        used += entry.stat().st_size
        if used > MOST_BYTES:
            entry.unlink(missing_ok=True)


def _digest(outputs: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(outputs)).digest()
