"""HTML of which every text is escaped: a cell is text unless it is Markup, and Markup is made here only."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


class Markup(str):
    """Text that is HTML already."""


def text(value: Any) -> Markup:
    """Anything as escaped text; Markup as it is."""
    return value if isinstance(value, Markup) else Markup(escape(str(value), quote=True))


def join(parts: Iterable[Any], between: str = "") -> Markup:
    return Markup(between.join(text(part) for part in parts))


def tag(name: str, *content: Any, kind: str = "") -> Markup:
    """An element. kind: its class, which the code gives and never the data."""
    attribute = f' class="{kind}"' if kind else ""
    return Markup(f"<{name}{attribute}>{join(content)}</{name}>")


def paragraph(*content: Any, kind: str = "") -> Markup:
    return tag("p", *content, kind=kind)


def code(value: Any) -> Markup:
    return tag("code", value)


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], figures: Sequence[int] = (), kind: str = "") -> Markup:
    """A table; an empty one is a line that says so. figures: columns of numbers, aligned to the right."""
    rows = list(rows)
    if not rows:
        return paragraph("None on record.", kind="note")

    def line(cells: Sequence[Any], element: str) -> Markup:
        return tag("tr", *(tag(element, c, kind="n" if i in figures else "") for i, c in enumerate(cells)))

    body = tag("tbody", *(line(row, "td") for row in rows))
    return tag("div", tag("table", tag("thead", line(head, "th")), body, kind=kind), kind="scroll")


def pairs(rows: Iterable[tuple[Any, Any]]) -> Markup:
    """A table of name and value."""
    lines = (tag("tr", tag("th", name), tag("td", value)) for name, value in rows)
    return tag("table", tag("tbody", *lines), kind="pairs")


def bullets(items: Sequence[Any]) -> Markup:
    return tag("ul", *(tag("li", item) for item in items)) if items else paragraph("None stated.", kind="note")


def picture(content: bytes, what: str, caption: Any) -> Markup:
    """A PNG inside the page, with its words."""
    data = base64.b64encode(content).decode()
    image = Markup(f'<img alt="{text(what)}" src="data:image/png;base64,{data}">')
    return tag("figure", image, tag("figcaption", caption))
