"""The portal's reads of what landed: the loads of a raw table as a night knew them, and the rows that one brought.

Cached per publication, as every read of a night.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import duckdb
import streamlit as st

from app import connections
from app.session import Reader
from pipeline.contracts import CONTRACTS, LANDING_COLUMNS
from pipeline.sql import ident

FILE_ORDER = ("source_file", "source_row")


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


# ── the queries ──────────────────────────────────────────────────────────────────────────────────────────────

_LOAD = "SELECT load_id, load_date, state, rows, files, landed_at, reason FROM raw.loads"
_UP_TO_NIGHT = "WHERE table_name = ? AND load_date <= ?"


def _read(cursor: duckdb.DuckDBPyConnection) -> tuple[Load, ...]:
    return tuple(
        Load(id_, day, state, n, tuple((f["file"], f["sha256"]) for f in files), at, reason or "")
        for id_, day, state, n, files, at, reason in cursor.fetchall()
    )


@st.cache_data(show_spinner=False, max_entries=64)
def _count(key: str, _reader: Reader, table: str) -> int:
    cursor = connections.on_night(_reader)
    row = cursor.execute(f"SELECT count(*) FROM raw.loads {_UP_TO_NIGHT}", [table, _reader.as_of]).fetchone()
    return int(row[0]) if row else 0


@st.cache_data(show_spinner=False, max_entries=256)
def _loads(key: str, _reader: Reader, table: str, first: int, most: int) -> tuple[Load, ...]:
    return _read(
        connections.on_night(_reader).execute(
            f"{_LOAD} {_UP_TO_NIGHT} ORDER BY load_date DESC, landed_at DESC, load_id DESC LIMIT ? OFFSET ?",
            [table, _reader.as_of, most, first],
        )
    )


@st.cache_data(show_spinner=False, max_entries=256)
def _load(key: str, _reader: Reader, table: str, load_id: str) -> Load | None:
    cursor = connections.on_night(_reader)
    found = _read(cursor.execute(f"{_LOAD} {_UP_TO_NIGHT} AND load_id = ?", [table, _reader.as_of, load_id]))
    return found[0] if found else None


@st.cache_data(show_spinner=False, max_entries=64)
def _rows(
    key: str, _reader: Reader, table: str, load_id: str, first: int, most: int
) -> tuple[Mapping[str, Any], ...]:  # fmt: skip
    # Its dates are looked up first: the table lies by months, and a load's id alone would have all of them read.
    dates = "(SELECT {}(load_date) FROM raw.load_months WHERE table_name = $table AND load_id = $load)"
    names = [c.name for c in (*CONTRACTS[table].columns, *LANDING_COLUMNS)]
    cursor = connections.on_night(_reader)
    bounds = cursor.execute(
        f"SELECT {dates.format('min')}, {dates.format('max')}", {"table": table, "load": load_id}
    ).fetchone()
    if bounds is None or bounds[0] is None:
        return ()
    found = cursor.execute(
        f"SELECT {', '.join(map(ident, names))} FROM {ident('raw', table)} "
        f"WHERE load_date BETWEEN ? AND ? AND load_id = ? ORDER BY {', '.join(FILE_ORDER)} LIMIT ? OFFSET ?",
        [*bounds, load_id, most, first],
    ).fetchall()
    return tuple(dict(zip(names, row, strict=True)) for row in found)
