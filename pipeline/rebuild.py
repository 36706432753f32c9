"""What a feature build must build again: the loads that came, went or moved, and definitions that changed.

An incremental table then equals its own full rebuild at the same as-of date, and a feature partition is
kept only while everything behind it still stands. Reads the lake, changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

import duckdb

from pipeline import lake
from pipeline.sql import literals

PACKAGE = "scoretrace"
INCREMENTAL = "int_account_month"


def months_to_rebuild(con: duckdb.DuckDBPyConnection, as_of: date, definition: str) -> list[date] | None:
    """Months of int_account_month that differ, or may differ, from a full build at ``as_of``; None means all.

    A month's content depends on the rows of that month known by the as-of date. So it changes with the loads
    between the built date and the new one, whichever is later, and with every load that came or went since.
    A payment belongs to the month it was due in; a load of payments that is gone no longer says which months
    those were, so then everything is rebuilt.
    """
    state = con.execute(
        "SELECT as_of_date, load_seq, definition_sha256 FROM ops.model_state WHERE model = ?", [INCREMENTAL]
    ).fetchall()
    if len(state) != 1 or state[0][2] != definition or not exists(con, "intermediate", INCREMENTAL):
        return None
    built, seq, _ = state[0]
    low, high = min(built, as_of), max(built, as_of)
    changed = con.execute(
        """SELECT DISTINCT l.load_id, m.table_name, m.load_date, m.event_month
           FROM raw.load_log l JOIN raw.load_months m USING (load_id)
           WHERE l.seq > ? AND m.table_name IN ('loan_servicing', 'payments_ledger')""",
        [seq],
    ).fetchall()
    payments = sorted({load_id for load_id, table, *_ in changed if table == "payments_ledger"})
    if payments and _any_left(con, payments, seq):
        return None
    months = {month for _, table, _, month in changed if table == "loan_servicing"}
    months |= _column(
        con,
        "SELECT DISTINCT event_month FROM raw.load_months "
        "WHERE table_name = 'loan_servicing' AND load_date > ? AND load_date <= ?",
        [low, high],
    )
    due = "SELECT DISTINCT CAST(date_trunc('month', due_date) AS DATE) FROM raw.payments_ledger"
    months |= _column(con, f"{due} WHERE load_date > ? AND load_date <= ?", [low, high])
    if payments:
        days = sorted({day for _, table, day, _ in changed if table == "payments_ledger"})
        months |= _column(con, f"{due} WHERE load_date IN ({literals(days)}) AND load_id IN ({literals(payments)})", [])
    return sorted(months)


def _any_left(con: duckdb.DuckDBPyConnection, loads: list[str], seq: int) -> bool:
    """Whether a load whose rows the last build may have read has since been taken away."""
    row = con.execute(
        f"""SELECT count(*) FROM (
                SELECT load_id, arg_max(state, seq) AS now, arg_max(state, seq) FILTER (seq <= {int(seq)}) AS before
                FROM raw.load_log WHERE load_id IN ({literals(loads)}) GROUP BY load_id)
            WHERE before IN ('landed', 'accepted') AND now NOT IN ('landed', 'accepted')"""
    ).fetchone()
    return bool(row and row[0])


def stands(con: duckdb.DuckDBPyConnection, table: str, day: date, definition: str) -> bool:
    state = con.execute(
        "SELECT load_seq, definition_sha256 FROM ops.model_state WHERE model = ? AND as_of_date = ?", [table, day]
    ).fetchall()
    if len(state) != 1 or state[0][1] != definition or not exists(con, "features", table):
        return False
    later = con.execute(
        """SELECT count(*) FROM raw.load_log l JOIN raw.load_months m USING (load_id)
           WHERE l.seq > ? AND m.load_date <= ?""",
        [state[0][0], day],
    ).fetchone()
    return later is not None and later[0] == 0


def exists(con: duckdb.DuckDBPyConnection, schema: str, table: str) -> bool:
    return (
        count(
            con,
            "SELECT count(*) FROM information_schema.tables "
            "WHERE table_catalog = ? AND table_schema = ? AND table_name = ?",
            [lake.ALIAS, schema, table],
        )
        > 0
    )


def count(con: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any] | None = None) -> int:
    row = con.execute(sql, parameters or []).fetchone()
    assert row is not None
    return int(row[0])


def _column(con: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any]) -> set[date]:
    return {row[0] for row in con.execute(sql, parameters).fetchall()}


def definition_sha256(manifest: dict[str, Any], model: str, constants: dict[str, Any]) -> str:
    """Hash of what defines a model: its SQL, columns and macros, those of all models upstream, and the home's vars."""
    digest = hashlib.sha256(json.dumps(constants, sort_keys=True).encode())
    nodes = {f"model.{PACKAGE}.{model}"}
    pending = list(nodes)
    while pending:
        for parent in manifest["nodes"][pending.pop()]["depends_on"]["nodes"]:
            if parent.startswith("model.") and parent not in nodes:
                nodes.add(parent)
                pending.append(parent)
    macros: set[str] = set()
    for unique_id in sorted(nodes):
        node = manifest["nodes"][unique_id]
        columns = [(name, column.get("data_type")) for name, column in node["columns"].items()]
        digest.update(json.dumps([unique_id, node["raw_code"], columns]).encode())
        macros |= set(_macros(manifest, node["depends_on"]["macros"]))
    for unique_id in sorted(macros):
        digest.update(json.dumps([unique_id, manifest["macros"][unique_id]["macro_sql"]]).encode())
    return digest.hexdigest()


def _macros(manifest: dict[str, Any], start: Iterable[str]) -> Iterator[str]:
    """This project's macros among ``start`` and all they call."""
    seen: set[str] = set()
    pending = list(start)
    while pending:
        unique_id = pending.pop()
        if unique_id in seen or not unique_id.startswith(f"macro.{PACKAGE}."):
            continue
        seen.add(unique_id)
        yield unique_id
        pending += manifest["macros"][unique_id]["depends_on"]["macros"]
