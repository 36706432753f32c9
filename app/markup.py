"""HTML fragments of the pages: status words, facts, tables, the strip of a night. Pure; every value is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from zoneinfo import ZoneInfo

from app import formats, orders

SIGNS = {"ok": "✓", "watch": "▲", "stop": "✕", "none": "◌"}


@dataclass(frozen=True)
class Html:
    """A finished fragment. Plain text given to these functions is escaped; this is not."""

    text: str

    def __str__(self) -> str:
        return self.text


Cell = str | Html


def html(value: Cell) -> str:
    return value.text if isinstance(value, Html) else escape(value)


def join(parts: Iterable[Cell], separator: str = " · ") -> Html:
    return Html(separator.join(html(p) for p in parts))


def block(*parts: Cell) -> str:
    """Fragments as one element that the style sheet knows."""
    return f"<div class='st'>{''.join(html(p) for p in parts)}</div>"


def status(level: str, word: str) -> Html:
    """Sign, word and colour: ``✓ met``."""
    return Html(f"<span class='status {level}'>{SIGNS[level]} {escape(word)}</span>")


def quiet(text: str) -> Html:
    return Html(f"<span class='quiet'>{escape(text)}</span>")


def hint(text: str, more: str) -> Html:
    """Text that says more when pointed at."""
    return Html(f"<span title='{escape(more)}'>{escape(text)}</span>")


def named(name: str, says: Mapping[str, str]) -> Html:
    """A column's name, which says what it is when pointed at where that is known."""
    return hint(name, says[name]) if says.get(name) else Html(escape(name))


def digest(value: str | None) -> Html:
    """A hash: 12 characters are seen, one click selects all of it."""
    if not value:
        return Html(formats.MISSING)
    return Html(f"<code class='hash' title='{escape(value)}'>{escape(value)}</code>")


def at(value: datetime | None, zone: ZoneInfo, *, with_day: bool = True, seconds: bool = False) -> Html:
    """A local time with its zone; hovering gives UTC."""
    if value is None:
        return Html(formats.MISSING)
    text = formats.moment(value, zone, seconds) if with_day else formats.clock(value, zone, seconds)
    return Html(f"<time datetime='{value.isoformat()}' title='{formats.utc(value)}'>{escape(text)}</time>")


GAP = Html("<div class='gap'></div>")


def title(name: str, question: str) -> Html:
    """A page's title: its name, and the question that it answers."""
    return Html(f"<h1>{html(name)} <span class='answer quiet'>{html(question)}</span></h1>")


def heading(text: str, note: Cell = "") -> Html:
    return Html(f"<h2>{escape(text)}{f'<small>{html(note)}</small>' if note else ''}</h2>")


def facts(items: Sequence[tuple[str, Cell, Cell]]) -> Html:
    """Label, figure and a quiet line under it, side by side."""
    cells = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{html(figure)}</dd>{f'<dd>{html(note)}</dd>' if note else ''}</div>"
        for label, figure, note in items
    )
    return Html(f"<dl class='facts'>{cells}</dl>")


def alarm(level: str, title: str, *lines: Cell) -> Html:
    """A message that must not be missed. Back-ticks in plain lines become code."""
    paragraphs = "".join(f"<p>{line.text if isinstance(line, Html) else with_code(line)}</p>" for line in lines if line)
    role = "alert" if level == "stop" else "status"
    return Html(f"<div class='alarm {level}' role='{role}'><p>{status(level, title)}</p>{paragraphs}</div>")


def with_code(text: str) -> str:
    """Escape a sentence and set what stands in back-ticks as code."""
    parts = escape(text).split("`")
    if len(parts) % 2 == 0:  # an odd back-tick belongs to the text
        return "`".join(parts)
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


@dataclass(frozen=True)
class Column:
    """A table's column: its head with the unit, whether it holds figures, text that wraps or takes what is left, what
    its head says when pointed at, and the order (as ``orders`` writes one) that choosing it asks for first."""

    head: str
    kind: str = ""
    hint: str = ""
    order: str = ""


MOST_HEADS = 10


@dataclass(frozen=True)
class Table(Html):
    """A table, and the heads that order it: each with what it orders by next, left to right; and what each says when
    pointed at."""

    heads: tuple[tuple[str, str], ...] = ()
    hints: tuple[str, ...] = ()


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell]],
    caption: str,
    *,
    fit: bool = False,
    order: str | None = None,
) -> Table:
    """A table whose first column names the row. ``caption`` is for those who hear the page; ``fit`` keeps it narrow.

    order: how the rows stand, empty where no head is chosen; None where the table has no heads that order it. Raises
    ValueError for more than ``MOST_HEADS`` of these, which the style sheet could not lay their links on.
    """
    heads: list[tuple[str, str]] = []
    hints: list[str] = []
    cells_of_head = []
    for c in columns:
        title = f" title='{escape(c.hint)}'" if c.hint else ""
        kind, sign, sorts = c.kind, "", ""
        if order is not None and c.order:
            kind, chosen = f"{kind} head{len(heads) + 1}".strip(), orders.name(c.order) == orders.name(order)
            heads.append((c.head, orders.opposite(order) if chosen else c.order))
            hints.append(c.hint)
            if chosen:
                way = orders.way(order)
                sign, sorts = {"descending": " ↓", "ascending": " ↑"}[way], f" aria-sort='{way}'"
        cells_of_head.append(f"<th scope='col' class='{kind}'{title}{sorts}>{escape(c.head)}{sign}</th>")
    if len(heads) > MOST_HEADS:
        raise ValueError(f"{caption} has {len(heads)} heads that order it; portal.css knows {MOST_HEADS}")
    head = "".join(cells_of_head)
    body = []
    for row in rows:
        cells = [
            f"<td class='{c.kind}'>{html(v)}</td>" if i else f"<th scope='row' class='{c.kind}'>{html(v)}</th>"
            for i, (c, v) in enumerate(zip(columns, row, strict=True))
        ]
        body.append(f"<tr>{''.join(cells)}</tr>")
    width = "fit" if fit else ""
    return Table(
        f"<div class='scroll'><table class='{width}' aria-label='{escape(caption)}'><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>",
        tuple(heads),
        tuple(hints),
    )


def bar(fraction: float, colour: str, *, side: str = "left") -> Html:
    """A bar of a table cell, ``fraction`` of the cell wide."""
    margin = "margin-left:auto;" if side == "right" else ""
    return Html(f"<i style='{margin}width:{max(0.0, min(1.0, fraction)) * 100:.1f}%;background:{colour}'></i>")


@dataclass(frozen=True)
class Step:
    """One task on the strip of a night."""

    name: str
    level: str
    word: str
    seconds: float | None
    figures: str


def strip(steps: Sequence[Step]) -> Html:
    """A night as its tasks in order, each with its share of the night's time."""
    longest = max((s.seconds or 0.0 for s in steps), default=0.0) or 1.0
    items = "".join(
        f"<li class='{s.level}'><b>{SIGNS[s.level]} {escape(s.name)}</b> <span class='quiet'>{escape(s.word)}</span>"
        f"<div class='bar'><i style='width:{(s.seconds or 0.0) / longest * 100:.1f}%'></i></div>"
        f"<div class='figures'>{escape(s.figures)}</div></li>"
        for s in steps
    )
    return Html(f"<ol class='strip' aria-label='Tasks of the night in order'>{items}</ol>")
