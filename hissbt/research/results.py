"""The folder of a study: results.json for machines, report.html for people."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hissbt.atomic import write_json
from hissbt.reports.run_folder import new_folder

PAGE = "report.html"


def write_results(
    out: str | Path,
    name: str,
    symbol: str,
    results: Mapping[str, Any],
    write_page: Callable[[Path, Mapping[str, Any]], object],
) -> Path:
    """Write ``<out>/<UTC stamp>-<name>-<symbol>/`` whole or not at all, and return it.

    ``write_page`` writes the page of the ``results`` to the path that it is given.
    """
    with new_folder(out, name, symbol) as folder:
        write_json(folder.temporary / "results.json", results)
        write_page(folder.temporary / PAGE, results)
    return folder.path
