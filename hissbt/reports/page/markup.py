"""Tables as HTML; the cells are HTML already."""

from collections.abc import Iterable


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
