"""What both demonstrations share: a folder with the results, and parts of its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hissbt.atomic import atomic_file
from hissbt.reports.page.document import Section, document
from hissbt.reports.page.markup import row, table
from hissbt.reports.page.text import escape, words
from hissbt.research.hvae_report.page import background, tiles, verdict
from hissbt.research.results import check_out, write_results


def demonstrate(
    name: str,
    symbol: str,
    out: str | Path,
    measured: Callable[[], dict],
    write_page: Callable[[Path, Mapping], None],
) -> tuple[Path, dict]:
    """Return a new folder with results.json and report.html, and the results that were ``measured`` for it.

    Raises ConfigError, before anything is measured, if ``out`` is a file.
    """
    check_out(out)
    results = measured()
    return write_results(out, name, symbol, results, write_page), results


def write(path: str | Path, title: str, head: str, sections: Sequence[Section]) -> None:
    """Write a page, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(document(title, head, sections), encoding="utf-8", newline="\n")


def head(title: str, about: str, said: str, shown: Mapping[str, str]) -> str:
    """Return the top of a page: what it is about, what is said of it, and the few figures that matter."""
    return f'<h1>{title}</h1>\n<p class="soft">{escape(about)}</p>\n{verdict(said)}\n{tiles(shown)}'


def rests_on(results: Mapping, choices: Sequence[str], settings: Sequence[str]) -> list[Section]:
    """Return the spans, the choices made, and where the figures are from."""
    spans = [
        row([words(name).capitalize(), span["first"][:10], span["last"][:10], f"{span['bars']:,}"])
        for name, span in results["data"]["spans"].items()
    ]
    run = {name: results[name] for name in (*settings, "seconds")}
    facts = {"run": run | results["data"], "provenance": results["provenance"]}
    return background(table(["Closes", "First", "Last", "Bars"], spans), choices, facts)
