"""What a run was made from, as tables: every entry of run.json."""

from collections.abc import Iterable, Mapping

from hissbt.reports.page.markup import row, table
from hissbt.reports.page.text import escape, words

_MOST_ITEMS = 20  # of one list among the facts


def facts_tables(facts: Mapping) -> list[tuple[str, str]]:
    """Return a heading and a table for each mapping inside of one, and before them for what is none."""
    groups = {name: inner for name, inner in facts.items() if isinstance(inner, Mapping) and inner}
    rest = {name: fact for name, fact in facts.items() if name not in groups}
    return [(words(name), _facts_table(group)) for name, group in {"run": rest, **groups}.items()]


def _facts_table(facts: Mapping) -> str:
    return table(["", ""], [row([escape(name), escape(text)]) for name, text in _flat(facts)], "plain facts")


def _flat(facts: Mapping, path: str = "") -> Iterable[tuple[str, str]]:
    """Yield each fact that is not itself a mapping, under the names on the way to it."""
    for name, value in facts.items():
        full = f"{path}.{name}".strip(".")
        if isinstance(value, Mapping) and value:
            yield from _flat(value, full)
        else:
            yield full, _fact(value)


def _fact(value: object) -> str:
    if value is None or value in ("", [], (), {}):
        return "none"
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_fact(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        left_out = f", and {len(value) - _MOST_ITEMS:,} more" if len(value) > _MOST_ITEMS else ""
        return ", ".join(map(_fact, value[:_MOST_ITEMS])) + left_out
    return str(value)
