"""The file around the parts of a page: it holds plotly.js and asks for nothing from outside.

Its content security policy forbids every request, and every script but the two that are named by their hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from hissbt.reports.page.panels import FONT
from hissbt.reports.page.text import escape


class Section(NamedTuple):
    """A part of the page under a heading of its own, which the menu leads to."""

    name: str
    """Of the anchor."""
    heading: str
    content: str
    """HTML."""


def section(heading: str, content: str) -> Section:
    """Return a section whose anchor is its heading in small letters."""
    return Section(heading.lower().replace(" ", "-"), heading, content)


def document(title: str, head: str, sections: Sequence[Section]) -> str:
    """Return a whole HTML file: ``title`` is text, ``head`` and the sections' contents are HTML."""
    from plotly.offline import get_plotlyjs

    scripts = [get_plotlyjs(), _file("page.js")]
    allowed = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    menu = "".join(f'<a href="#{part.name}">{escape(part.heading)}</a>' for part in sections)
    parts = [
        f'<section id="{part.name}">\n<h2>{escape(part.heading)}</h2>\n{part.content}\n</section>'
        for part in sections
    ]
    lines = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>\n:root {{ --fonts: {FONT} }}\n{_file('page.css')}</style>\n</head>\n<body>",
        f"<header>\n{head}\n<nav>{menu}</nav>\n</header>",
        *parts,
        "<noscript><p>The charts of this page need JavaScript; the tables do not.</p></noscript>",
        *(f"<script>{script}</script>" for script in scripts),
        "</body>\n</html>\n",
    ]
    return "\n".join(lines)


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
