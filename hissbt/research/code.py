"""Which code a fit was made by, so that one that is kept is not taken for what other code would give."""

import hashlib
from functools import cache
from pathlib import Path

import hissbt
from hissbt.atomic import to_json
from hissbt.reports.run_folder import provenance

_ROOMS = (
    *("bars.py", "features.py", "targets.py", "limits.py"),
    *("models", "training", "stream", "econometrics", "research/rivals", "research/volatility"),
)


@cache
def code_sha256() -> str:
    """Return a hash of the source that fits of comparisons depend on, and of the packages' versions."""
    root = Path(hissbt.__file__).parent
    digest = hashlib.sha256(to_json(provenance()["versions"]).encode())
    for room in _ROOMS:
        for path in sorted((root / room).rglob("*.py")) or [root / room]:
            digest.update(path.read_bytes())
    return digest.hexdigest()
