"""Tables, charts and remarks as HTML; the cells of tables are HTML already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hissbt.reports.page.text import escape

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def table(heads: Iterable[str], rows: Iterable[str], kind: str = "") -> str:
    """Return a table with classes ``kind``; a plain one shows no heads. A head may be a finished tag."""
    heads = "".join(head if head.startswith("<th") else f'<th scope="col">{head}</th>' for head in heads)
    body = "".join(f"<tr>{cells}</tr>" for cells in rows)
    head = "" if "plain" in kind else f"<thead><tr>{heads}</tr></thead>"
    return f'<div class="scroll {kind}"><table>{head}<tbody>{body}</tbody></table></div>'


def row(cells: Iterable[str]) -> str:
    """Return the cells of a row, the first of which names it; a cell may be a finished tag."""
    first, *rest = cells
    return f'<th scope="row">{first}</th>' + "".join(
        cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in rest
    )


def note(sentences: Iterable[str]) -> str:
    """Return a small remark of these sentences, as text; empty ones are left out."""
    return f'<p class="note">{escape(" ".join(filter(None, sentences)))}</p>'


def pair(*halves: str) -> str:
    """Return parts side by side where there is room, else below each other."""
    return '<div class="pair">' + "".join(f"<div>{half}</div>" for half in halves) + "</div>"


def chart(name: str, figure: Figure, timed: bool = True) -> str:
    """Return the box of a chart and its data, which page.js draws into it."""
    linked = " data-time" if timed else ""
    return (
        f'<div class="plot" id="{name}"{linked} style="height:{figure.layout.height}px"></div>'
        # Of plotly's two encoders this one is always there; it writes no "<", so that nothing can end the script.
        f'<script type="application/json" id="{name}-data">{figure.to_json(engine="json")}</script>'
    )
