"""The folder of a study: results.json for machines, report.html for people."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hissbt.atomic import file_in_the_way, write_json
from hissbt.errors import ConfigError
from hissbt.reports.run_folder import new_folder

PAGE = "report.html"


def check_out(out: str | Path) -> None:
    """Raise ConfigError if ``out`` is a file: to be asked before hours of work, not after them."""
    if file := file_in_the_way(out):
        raise ConfigError(f"{file} is a file, where the results would be kept: name another folder")


def write_results(
    out: str | Path,
    name: str,
    symbol: str,
    results: Mapping[str, Any],
    write_page: Callable[[Path, Mapping[str, Any]], object],
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> Path:
    """Write ``<out>/<UTC stamp>-<name>-<symbol>/`` whole or not at all, and return it.

    ``write_page`` writes the page of the ``results`` to the path that it is given; ``tables`` are kept as Parquet
    by the names of their files.
    """
    with new_folder(out, name, symbol) as folder:
        write_json(folder.temporary / "results.json", results)
        for file, rows in (tables or {}).items():
            rows.to_parquet(folder.temporary / file, engine="pyarrow", index=False)
        write_page(folder.temporary / PAGE, results)
    return folder.path
