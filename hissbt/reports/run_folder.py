"""The folder that keeps a run: what went in, what came out, and what is needed to repeat it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from hissbt.atomic import to_json
from hissbt.version import __version__

_PACKAGES = ("backtrader", "numpy", "pandas", "numba", "torch", "quantstats")
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def write_run_folder(
    out: str | Path,
    strategy: str,
    symbol: str,
    *,
    run: dict,
    metrics: dict,
    ledger: pd.DataFrame,
    trades: pd.DataFrame,
    fills: pd.DataFrame,
    orders: pd.DataFrame,
    pages: Mapping[str, Callable[[Path], object]],
) -> Path:
    """Write ``<out>/<UTC stamp>-<strategy>-<symbol>/`` whole or not at all, and return it.

    It holds run.json, metrics.json, ledger.parquet, trades.csv, fills.csv, orders.csv, and the ``pages``: by the
    name of the file, what writes it to the path that it is given. The same tables always give the same bytes.
    """
    with new_folder(out, strategy, symbol) as folder:
        _write_text(folder.temporary / "run.json", to_json(run))
        _write_text(folder.temporary / "metrics.json", to_json(metrics))
        ledger.to_parquet(folder.temporary / "ledger.parquet", engine="pyarrow", index=False)
        for name, table in (("trades", trades), ("fills", fills), ("orders", orders)):
            path = folder.temporary / f"{name}.csv"
            table.to_csv(path, index=False, date_format=_TIME_FORMAT, lineterminator="\n")
        for name, write in pages.items():
            write(folder.temporary / name)
    return folder.path


@dataclass
class NewFolder:
    """A folder of results in the making."""

    temporary: Path
    """Where its files are written."""
    path: Path | None = None
    """Where it stands when it is whole."""


@contextmanager
def new_folder(out: str | Path, *names: str) -> Iterator[NewFolder]:
    """Make ``<out>/<UTC stamp>-<names>/``, whole or not at all.

    The folder's name is made of letters, digits and hyphens, the last of the names of letters and digits only; it
    gets a number if another has it already.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    folder = NewFolder(Path(tempfile.mkdtemp(prefix=".run-", dir=out)))
    try:
        folder.temporary.chmod(0o755)
        yield folder
        *first, last = names
        parts = [f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}", *first, re.sub(r"[^A-Za-z0-9]", "", last)]
        name = "-".join(re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") for part in parts)
        folder.path = _settle(folder.temporary, out / name)
    finally:
        shutil.rmtree(folder.temporary, ignore_errors=True)


def provenance() -> dict:
    """Return the versions of Python and the packages in use, and the git revision of hissbt's checkout, if any."""
    ours = {"hissbt": __version__, "python": sys.version.split()[0]}
    return {
        "versions": ours | {name: version(name) for name in _PACKAGES},
        "git_revision": _git_revision(Path(__file__).parent),
    }


def _write_text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")


def _settle(temporary: Path, wanted: Path) -> Path:
    """Rename to the wanted path, or to the first free one with a number, however many others try at once."""
    for path in _numbered(wanted):
        try:
            # Fails if the path is a folder with files, and every run folder has files: nobody is overwritten.
            os.rename(temporary, path)
        except OSError:
            if not path.exists():
                raise
        else:
            return path
    raise AssertionError("the numbers never end")


def _numbered(path: Path) -> Iterable[Path]:
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.name}-{number}")
        number += 1


def _git_revision(folder: Path) -> str | None:
    """Return the commit that ``folder`` is at, with ``-dirty`` if files differ from it; None outside of git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
