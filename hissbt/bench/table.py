"""The bench's results as one table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

WIDTH = 190  # of the table in a file
FORMS = {"bars/s": "{:,.0f}", "tokens/s": "{:,.0f}", "bytes": "{:,.0f}", "KiB": "{:,.0f}", "%": "{:+.2f}"}


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on stderr, which moves between measurements only: a thread of its own would disturb them."""
    console = Console(stderr=True)
    columns = SpinnerColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(part: str, done: int, parts: int) -> None:
            bar.update(task, description=part, completed=done, total=parts)
            bar.refresh()

        yield show


def show_bench(results: dict) -> None:
    """Print machine and versions, then the table."""
    machine, versions = results["machine"], results["versions"]
    threads = ", ".join(f"{name} {count}" for name, count in results["threads"].items())
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}")
    print(", ".join(f"{name} {number or 'not installed'}" for name, number in versions.items()))
    print(f"threads: {threads}")
    differences = ", ".join(f"{network} {value:.0e}" for network, value in results["agreement"].items())
    print(f"largest relative difference between engines' outputs: {differences}")
    print("median [smallest - largest] of the rounds; a ratio is this row's figure over the named row's")
    table = Table(pad_edge=False)
    table.add_column("", overflow="fold", min_width=46)
    for heading in ("figure", "p50", "p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("ratio", overflow="fold")
    for title, rows in results["sections"].items():
        table.add_section()
        table.add_row(f"[bold]{title}[/bold]")
        for row in rows:
            table.add_row(*_cells(row))
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)


def _cells(row: dict) -> list[str]:
    form = FORMS.get(row["unit"], "{:.3g}")
    ratios = [f"{_spread(spread, '{:.3g}')} × {base}" for base, spread in row["ratios"].items()]
    name = row["name"] + (f"\n  [dim]{row['note']}[/dim]" if row["note"] else "")
    if row["value"] is None:
        return [name, "-", "", "", ""]
    value = f"{_spread(row['value'], form)} {row['unit']}"
    p50, p99 = (_spread(row[key], form) if row[key] else "" for key in ("p50", "p99"))
    return [name, value, p50, p99, "\n".join(ratios)]


def _spread(spread: dict, form: str) -> str:
    median, low, high = (form.format(spread[key]) for key in ("median", "low", "high"))
    return median if low == high else f"{median} [{low}-{high}]"
