"""Champion against challenger as tables of a page. Pure; no Streamlit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from app import formats, markup
from app.markup import Cell, Column, Html, Table
from pipeline.comparison.facts import Comparison, Migration, Mover, Reason, Side
from pipeline.comparison.words import p_value, summary

SHOWN_REASONS = 3
_MEASURES = (
    ("AUC (95% interval)", "higher"),
    ("KS", "higher"),
    ("Brier score", "lower"),
    ("calibration error", "lower"),
    ("calibration slope", "1"),
    ("observed over expected", "1"),
)


def sentences(c: Comparison) -> Html:
    """What a reviewer reads first."""
    lines = "".join(f"<li>{markup.html(formats.sentence(line[:1].upper() + line[1:]))}.</li>" for line in summary(c))
    return Html(f"<ul class='said'>{lines}</ul>")


def measures(c: Comparison) -> Table:
    """Both models on the same held-out rows, one measure a line, and the difference."""
    new, old = c.challenger, c.champion
    columns = [Column("measure"), Column("better is", hint="higher, lower, or nearer this figure")]
    columns += [Column(f"champion v{old.version}", "number")] if old else []
    columns += [Column(f"challenger v{new.version}" if new.version else "challenger", "number")]
    columns += [Column("difference", "number")] if old else []
    rows: list[list[Cell]] = []
    for i, (what, better) in enumerate(_MEASURES):
        mine, theirs = _figures(new)[i], _figures(old)[i] if old else None
        line: list[Cell] = [what, markup.quiet(better)]
        if old is not None:
            line.append(_auc(old) if i == 0 else _figure(theirs))
        line.append(_auc(new) if i == 0 else _figure(mine))
        if old is not None:
            line.append(_difference(c) if i == 0 else _less(mine, theirs, better))
        rows.append(line)
    return markup.table(columns, rows, "Measures on the same held-out rows")


def moves(m: Migration) -> Table:
    """Rows by the champion's grade (down) and the challenger's (across)."""
    columns = [Column("champion ↓, challenger →"), *(Column(g, "number") for g in m.grades)]
    rows: list[list[Cell]] = [
        [grade, *(formats.count(n) for n in line)] for grade, line in zip(m.grades, m.counts, strict=True)
    ]
    return markup.table(columns, rows, "Rows by the champion's grade and the challenger's", fit=True)


def move_rows(m: Migration) -> Iterator[dict[str, str | int]]:
    """The same as rows of a file: champion's grade, challenger's grade, rows."""
    for champion, line in zip(m.grades, m.counts, strict=True):
        for challenger, rows in zip(m.grades, line, strict=True):
            yield {"champion_grade": champion, "challenger_grade": challenger, "rows": rows}


def movers(c: Comparison, found: tuple[Mover, ...], says: Mapping[str, str], *, with_ids: bool) -> Table:
    """The rows that the two models see most differently, with the features that differ most. says: feature → what it
    is."""
    columns = [
        Column("account or application" if with_ids else "row"), Column("as of"), Column("champion", "number"),
        Column("challenger", "number"), Column("grade"), Column("log-odds", "number"), Column("event"),
        Column("features that differ most, in log-odds", "fill"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            m.subject if with_ids else str(number),
            formats.sentence(m.as_of),
            formats.probability(m.champion_pd),
            formats.probability(m.challenger_pd),
            f"{m.champion_grade} → {m.challenger_grade}"
            if m.champion_grade != m.challenger_grade
            else m.champion_grade,
            formats.signed(m.difference),
            "yes" if m.event else "no",
            markup.join([_reason(r, says) for r in m.reasons[:SHOWN_REASONS]]),
        ]
        for number, m in enumerate(found, start=1)
    ]
    return markup.table(columns, rows, "Largest movers")


def _reason(r: Reason, says: Mapping[str, str]) -> Cell:
    return markup.join([markup.named(r.feature, says), formats.signed(r.difference)], " ")


def _figures(side: Side) -> tuple[float | None, ...]:
    m = side.measures
    return m.auc.estimate, m.ks, m.brier, m.ece, m.slope, m.ratio


def _figure(value: float | None) -> str:
    return formats.decimal(value, 4)


def _auc(side: Side) -> Cell:
    auc = side.measures.auc
    return markup.join([f"{auc.estimate:.4f} ", markup.quiet(f"{auc.low:.4f} to {auc.high:.4f}")], "")


def _difference(c: Comparison) -> Cell:
    d = c.difference
    if d is None:
        return formats.MISSING
    text = f"{formats.signed(d.low, 4)} to {formats.signed(d.high, 4)}, p {p_value(d.p_value)}"
    return markup.join([f"{formats.signed(d.auc, 4)} ", markup.quiet(text)], "")


def _less(mine: float | None, theirs: float | None, better: str) -> Cell:
    """The difference, and that it is one for the worse where it is. better: ``higher``, ``lower``, or nearer ``1``."""
    if mine is None or theirs is None:
        return formats.MISSING
    less = {"higher": theirs - mine, "lower": mine - theirs, "1": abs(mine - 1) - abs(theirs - 1)}[better]
    told = formats.signed(mine - theirs, 4)
    return markup.join([told, Html("<small class='watch'>▲ worse</small>")], " ") if round(less, 4) > 0 else told
