"""Which scores of a night are listed: the filters, what they narrow to in SQL, and what a list may be ordered by.

A WHERE is over the night's scores as ``s`` and, where the night before matters, its scores as ``p``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import streamlit as st

from app import connections
from app.session import Reader
from pipeline.contracts import PRODUCTS
from pipeline.monitoring.segments import PRODUCT_CODE, night_rows, segments_of
from pipeline.sql import double, ident, literals

SUBJECTS = ("account", "application")

# What scores may be ordered by, in words and in SQL over the night, ``s``, and the one before, ``p``.
ORDERS = {
    "pd": ("PD", ("s.pd",)),
    "before": ("PD of the night before", ("p.pd",)),
    "change": ("change since the night before", ("s.pd - p.pd",)),
    "points": ("points", ("s.score_points",)),
    "model": ("model", ("s.model_name", "s.model_version")),
    "id": ("id", ("s.{id}",)),
}
HIGHEST_PD = "-pd"
MOVES = {
    "any": "any",
    "moved": "changed grade",
    "worse": "to a worse grade",
    "better": "to a better grade",
    "new": "not scored the night before",
}


@dataclass(frozen=True)
class Filter:
    """Which scores of a night: every field narrows, the default is the whole book.

    decile: 1 to 10 by PD, 10 the riskiest tenth of the night. product: one of ``products``. segment: a split of the
    book as monitoring makes it and a part of it, ``arrival=new``; empty for the whole book.
    """

    subject: str = "account"
    grades: tuple[str, ...] = ()
    decile: int | None = None
    product: str = ""
    pd_from: float | None = None
    pd_to: float | None = None
    move: str = "any"
    segment: str = ""

    def words(self) -> list[str]:
        """What narrows it, a word for each, as a file's name says it: ``grades-D-E``, ``decile-10``."""
        asked = {
            name: value
            for name, value in vars(self).items()
            if name != "subject" and value not in ((), None, "", "any")
        }
        return [f"{name}-{'-'.join(map(str, v)) if isinstance(v, tuple) else v}" for name, v in asked.items()]


def products(reader: Reader, subject: str) -> tuple[str, ...]:
    """The products among the night's subjects, as the night's features have them; empty where they do not tell."""
    return _products(connections.key(reader), reader, subject)


def splits(reader: Reader, subject: str) -> dict[str, str]:
    """How monitoring splits the night's subjects: a split's name → SQL of a segment's name over ``night_rows``."""
    return _splits(connections.key(reader), reader, subject)


def parts(reader: Reader, subject: str, split: str) -> tuple[str, ...]:
    """The parts that a split makes of the night's subjects, in order. split: one of ``splits``."""
    return _parts(connections.key(reader), reader, subject, split)


def where(reader: Reader, chosen: Filter) -> tuple[str, list[Any]]:
    """The WHERE of a filter over ``s`` (and ``p``, where the move is asked for), with its values."""
    kept, values = ["s.as_of_date = ?"], list[Any]([reader.as_of])
    if chosen.grades:
        kept.append(f"s.grade IN ({literals(list(chosen.grades))})")
    if chosen.decile and (bounds := _decile_bounds(connections.key(reader), reader, chosen.subject)):
        for sign, at in ((">", chosen.decile - 2), ("<=", chosen.decile - 1)):
            if 0 <= at < len(bounds):
                kept.append(f"s.log_odds {sign} {double(bounds[at])}")
    if chosen.product:
        key = ident(f"{chosen.subject}_id")
        kept.append(
            f"s.{key} IN (SELECT {key} FROM {ident('features', f'{chosen.subject}_features')} "
            f"WHERE as_of_date = ? AND {ident(PRODUCT_CODE[chosen.subject])} = {PRODUCTS.index(chosen.product)})"
        )
        values.append(reader.as_of)
    if chosen.segment:
        split, _, part = chosen.segment.partition("=")
        key, rows = ident(f"{chosen.subject}_id"), _night_rows(reader, chosen.subject)
        kept.append(f"s.{key} IN (SELECT {key} FROM ({rows}) WHERE {splits(reader, chosen.subject)[split]} = ?)")
        values.append(part)
    if chosen.pd_from is not None:
        kept.append("s.pd >= ?")
        values.append(chosen.pd_from)
    if chosen.pd_to is not None:
        kept.append("s.pd <= ?")
        values.append(chosen.pd_to)
    order = f"[{literals([g.name for g in reader.home.portfolio.grades])}]"
    now, before = f"list_position({order}, s.grade)", f"list_position({order}, p.grade)"
    moves = {"moved": f"{now} <> {before}", "worse": f"{now} > {before}", "better": f"{now} < {before}"}
    if chosen.move == "new":
        kept.append("p.grade IS NULL")
    elif chosen.move in moves:
        kept.append(moves[chosen.move])
    return " AND ".join(kept), values


def join_previous(subject: str) -> str:
    """The night before's scores as ``p``; its date is the value that the statement takes first."""
    key = ident(f"{subject}_id")
    return f"LEFT JOIN {table_of(subject)} p ON p.as_of_date = ? AND p.{key} = s.{key}"


def table_of(subject: str) -> str:
    """The table of a subject's scores, quoted."""
    assert subject in SUBJECTS
    return ident("scores", f"{subject}_scores")


# ── what a night can be narrowed by ──────────────────────────────────────────────────────────────────────────


def _night_rows(reader: Reader, subject: str) -> str:
    """SELECT of the night's subjects with what ``splits`` read, on a cursor of that night."""
    days = (reader.as_of - reader.home.portfolio.period_start(reader.as_of)).days + 1
    return night_rows(subject, reader.as_of, None, days)


@st.cache_data(show_spinner=False, max_entries=64)
def _parts(key: str, _reader: Reader, subject: str, split: str) -> tuple[str, ...]:
    text = splits(_reader, subject)[split]
    found = connections.on_night(_reader).execute(
        f"SELECT DISTINCT {text} FROM ({_night_rows(_reader, subject)}) ORDER BY 1"
    )
    return tuple(name for (name,) in found.fetchall())


@st.cache_data(show_spinner=False, max_entries=16)
def _splits(key: str, _reader: Reader, subject: str) -> dict[str, str]:
    cursor, table = connections.on_night(_reader), ident("features", f"{subject}_features")
    columns = [c[0] for c in cursor.execute(f"SELECT * FROM {table} LIMIT 0").description or ()]
    chosen = _reader.home.portfolio.monitoring.segments
    return {s.name: s.text for s in segments_of(subject, chosen, columns)}


@st.cache_data(show_spinner=False, max_entries=128)
def _products(key: str, _reader: Reader, subject: str) -> tuple[str, ...]:
    try:
        rows = (
            connections.on_night(_reader)
            .execute(
                f"SELECT DISTINCT {ident(PRODUCT_CODE[subject])} FROM {ident('features', f'{subject}_features')} "
                "WHERE as_of_date = ?",
                [_reader.as_of],
            )
            .fetchall()
        )
    except (duckdb.CatalogException, duckdb.BinderException):  # this lender's nights have no such feature
        return ()
    return tuple(name for code, name in enumerate(PRODUCTS) if (code,) in rows)


@st.cache_data(show_spinner=False, max_entries=128)
def _decile_bounds(key: str, _reader: Reader, subject: str) -> tuple[float, ...]:
    """The nine log-odds that part a night's scores into ten."""
    row = (
        connections.on_night(_reader)
        .execute(
            f"SELECT quantile_disc(log_odds, {[k / 10 for k in range(1, 10)]}) FROM {table_of(subject)} "
            "WHERE as_of_date = ?",
            [_reader.as_of],
        )
        .fetchone()
    )
    return tuple(row[0]) if row and row[0] else ()
