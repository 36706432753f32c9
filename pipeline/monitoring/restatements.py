"""How many of a night's rows correct rows that had landed before. The gates let a correction pass: it may be right."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import duckdb

from pipeline import lake
from pipeline.contracts import CONTRACTS
from pipeline.portfolio import Portfolio
from pipeline.sql import ident, literal

DAYS_BEFORE = 7
"""Days that say what is usual: an application comes again when it is booked, and that is no correction."""


def restated_shares(
    con: duckdb.DuckDBPyConnection,
    portfolio: Portfolio,
    as_of: date,
    snapshot: int,
    tables: Sequence[str] | None = None,
) -> dict[str, tuple[int, int, float]]:
    """Table → (rows of the night that have an earlier version, rows of the night, largest share of the days before).

    tables: only these, not all. One that brought nothing that night is left out. Only rows as old as the oldest event
    of these days are read.
    """
    found = {}
    first = portfolio.period_start(as_of)
    for table in tables or portfolio.provides:
        contract = CONTRACTS[table]
        raw = f"{ident(lake.ALIAS, 'raw', table)} AT (VERSION => {int(snapshot)})"
        keys = ", ".join(ident(k) for k in contract.key)
        since = first - timedelta(days=DAYS_BEFORE)
        oldest = con.execute(
            f"SELECT min({contract.event_date}) FROM {raw} "
            f"WHERE load_date BETWEEN {literal(since)} AND {literal(as_of)}"
        ).fetchone()
        if not oldest or oldest[0] is None:
            continue
        # A row cannot land before the day it speaks of, so older loads hold no version of these.
        rows = con.execute(
            f"""WITH versions AS (
                SELECT load_date, load_date > min(load_date) OVER (PARTITION BY {keys}) AS again FROM {raw}
                WHERE load_date BETWEEN {literal(oldest[0])} AND {literal(as_of)}
                AND {contract.event_date} >= {literal(oldest[0])})
            SELECT load_date >= {literal(first)} AS tonight, load_date, count(*) FILTER (again), count(*)
            FROM versions WHERE load_date >= {literal(since)} GROUP BY ALL"""
        ).fetchall()
        tonight = [r for r in rows if r[0]]
        if tonight:
            usual = max((again / n for now, _, again, n in rows if not now), default=0.0)
            found[table] = (sum(r[2] for r in tonight), sum(r[3] for r in tonight), usual)
    return found


def corrected_subjects(table: str, subject: str, first: date, as_of: date, snapshot: int) -> str:
    """SELECT of the accounts or applications (``subject``) of which a load in [first, as_of] corrects an earlier row.

    Raises StopIteration for a table that is not about them.
    """
    contract = CONTRACTS[table]
    raw = f"(FROM {ident(lake.ALIAS, 'raw', table)} AT (VERSION => {int(snapshot)}))"
    holder = next(c.name for c in contract.columns if c.name in (f"{subject}_id", "subject_id"))
    about = f" AND t.subject_type = {literal(subject)}" if holder == "subject_id" else ""
    same = " AND ".join(f"b.{ident(k)} = t.{ident(k)}" for k in contract.key)
    return f"""SELECT t.{ident(holder)} FROM {raw} t
        WHERE t.load_date BETWEEN {literal(first)} AND {literal(as_of)}{about}
        AND EXISTS (SELECT 1 FROM {raw} b WHERE b.load_date < {literal(first)} AND {same})"""
