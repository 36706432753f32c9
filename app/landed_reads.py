"""The portal's reads of what landed: the loads of a raw table as a night knew them, and the rows that one brought.

Cached per publication, as every read of a night.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import duckdb
import streamlit as st

from app import connections
from app.session import Reader
from lineage.raw_moves import LOOK_BACK
from pipeline.contracts import CONTRACTS, LANDING_COLUMNS
from pipeline.sql import ident, literals

FILE_ORDER = ("source_file", "source_row")
Place = tuple[str, int]  # a file, and the number of a record in it


@dataclass(frozen=True)
class Load:
    """One load of a raw table. files: of the lender, each with its SHA-256. reason: why it was refused, or empty."""

    load_id: str
    load_date: date
    state: str
    rows: int
    files: tuple[tuple[str, str], ...]
    landed_at: datetime
    reason: str


def count(reader: Reader, table: str) -> int:
    """Loads of a raw table up to the night. table: its name without the schema."""
    return _count(connections.key(reader), reader, table)


def loads(reader: Reader, table: str, first: int, most: int) -> tuple[Load, ...]:
    """``most`` loads of a raw table up to the night, the newest first, without the ``first`` ones."""
    return _loads(connections.key(reader), reader, table, first, most)


def load(reader: Reader, table: str, load_id: str) -> Load | None:
    """One load of a raw table by its id; None for an id that is no load of it up to the night."""
    return _load(connections.key(reader), reader, table, load_id)


def rows(reader: Reader, table: str, load_id: str, first: int, most: int) -> tuple[Mapping[str, Any], ...]:
    """``most`` rows that a load brought, as they stand in its files, without the ``first`` ones; in clear."""
    return _rows(connections.key(reader), reader, table, load_id, first, most)


def first_rows(reader: Reader, table: str, load_id: str, most: int) -> Iterator[Mapping[str, Any]]:
    """The first ``most`` rows that a load brought, for a file: none of them is kept."""
    return _fetched(reader, table, load_id, 0, most)


def before(reader: Reader, table: str, column: str, load: Load, first: int, most: int) -> Mapping[Place, Any]:
    """Of the same rows as ``rows`` gives: file and record → what the column held in the row before it of whom it is of,
    by the day that rows speak of, or in the version that it corrects; nothing for one without any within ``LOOK_BACK``.
    Only of tables whose rows are an account's."""
    if "account_id" not in {c.name for c in CONTRACTS[table].columns} or table == "applications":
        return {}
    return _before(connections.key(reader), reader, table, column, load, first, most)


# ── the queries ──────────────────────────────────────────────────────────────────────────────────────────────

# A load may bring rows of many days, as a history does: of an earlier night it counts with those that it had.
_LOADS = """FROM raw.loads LEFT JOIN (
        SELECT load_id, sum(rows) AS known FROM raw.load_months
        WHERE table_name = $table AND load_date <= $as_of GROUP BY load_id) USING (load_id)
    WHERE table_name = $table AND (load_date <= $as_of OR known IS NOT NULL)"""
_LOAD = f"""SELECT load_id, load_date, state, CASE WHEN load_date <= $as_of THEN rows ELSE known END, files, landed_at,
        reason {_LOADS}"""


def _read(cursor: duckdb.DuckDBPyConnection) -> tuple[Load, ...]:
    return tuple(
        Load(id_, day, state, int(n), tuple((f["file"], f["sha256"]) for f in files), at, reason or "")
        for id_, day, state, n, files, at, reason in cursor.fetchall()
    )


@st.cache_data(show_spinner=False, max_entries=64)
def _count(key: str, _reader: Reader, table: str) -> int:
    cursor = connections.on_night(_reader)
    row = cursor.execute(f"SELECT count(*) {_LOADS}", {"table": table, "as_of": _reader.as_of}).fetchone()
    return int(row[0]) if row else 0


@st.cache_data(show_spinner=False, max_entries=256)
def _loads(key: str, _reader: Reader, table: str, first: int, most: int) -> tuple[Load, ...]:
    return _read(
        connections.on_night(_reader).execute(
            f"{_LOAD} ORDER BY load_date DESC, landed_at DESC, load_id DESC LIMIT $most OFFSET $first",
            {"table": table, "as_of": _reader.as_of, "most": most, "first": first},
        )
    )


@st.cache_data(show_spinner=False, max_entries=256)
def _load(key: str, _reader: Reader, table: str, load_id: str) -> Load | None:
    cursor = connections.on_night(_reader)
    known = {"table": table, "as_of": _reader.as_of, "load": load_id}
    found = _read(cursor.execute(f"{_LOAD} AND load_id = $load", known))
    return found[0] if found else None


@st.cache_data(show_spinner=False, max_entries=64)
def _rows(
    key: str, _reader: Reader, table: str, load_id: str, first: int, most: int
) -> tuple[Mapping[str, Any], ...]:  # fmt: skip
    return tuple(_fetched(_reader, table, load_id, first, most))


def _fetched(reader: Reader, table: str, load_id: str, first: int, most: int) -> Iterator[Mapping[str, Any]]:
    # Its dates are looked up first: the table lies by months, and a load's id alone would have all of them read.
    names = [c.name for c in (*CONTRACTS[table].columns, *LANDING_COLUMNS)]
    cursor = connections.on_night(reader)
    bounds = cursor.execute(
        "SELECT min(load_date), max(load_date) FROM raw.load_months WHERE table_name = ? AND load_id = ?",
        [table, load_id],
    ).fetchone()
    if bounds is None or bounds[0] is None:
        return
    bounds = (bounds[0], min(bounds[1], reader.as_of))
    found = cursor.execute(
        f"SELECT {', '.join(map(ident, names))} FROM {ident('raw', table)} "
        f"WHERE load_date BETWEEN ? AND ? AND load_id = ? ORDER BY {', '.join(FILE_ORDER)} LIMIT ? OFFSET ?",
        [*bounds, load_id, most, first],
    )
    while batch := found.fetchmany(10_000):
        yield from (dict(zip(names, row, strict=True)) for row in batch)


@st.cache_data(show_spinner=False, max_entries=64)
def _before(
    key: str, _reader: Reader, table: str, column: str, load: Load, first: int, most: int
) -> Mapping[Place, Any]:  # fmt: skip
    shown = _rows(key, _reader, table, load.load_id, first, most)
    if not shown:
        return {}
    raw, value, day = ident("raw", table), ident(column), CONTRACTS[table].event_date
    these = ", ".join(f"({literals([row['source_file'], row['source_row']])})" for row in shown)
    found = connections.on_night(_reader).execute(
        f"""WITH shown AS (SELECT account_id, source_file, source_row, {day} AS day, load_date FROM {raw}
            WHERE load_id = $load AND load_date BETWEEN $since AND $until
            AND (source_file, source_row) IN ({these})),
        earlier AS (SELECT account_id, {value} AS value, {day} AS day, load_date, source_row FROM {raw}
            WHERE load_id <> $load AND load_date BETWEEN $since AND $until
            AND account_id IN ({literals(list(dict.fromkeys(row["account_id"] for row in shown)))}))
        SELECT s.source_file, s.source_row, arg_max(e.value, (e.day, e.load_date, e.source_row))
        FROM shown s JOIN earlier e ON e.account_id = s.account_id AND e.day <= s.day AND e.load_date <= s.load_date
        GROUP BY ALL""",
        {
            "load": load.load_id,
            "since": min(row["load_date"] for row in shown) - LOOK_BACK,
            "until": max(row["load_date"] for row in shown),
        },
    )
    return {(file, number): held for file, number, held in found.fetchall()}
