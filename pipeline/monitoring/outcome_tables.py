"""The lake's tables of outcomes: what a night measured, one partition of rows per as-of date of the measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa

from pipeline import lake
from pipeline.sql import ident, literal

SCHEMA = "outcomes"

_DAY, _TEXT, _COUNT, _REAL, _FLAG = pa.date32(), pa.string(), pa.int64(), pa.float64(), pa.bool_()
_SQL = {_DAY: "DATE", _TEXT: "VARCHAR", _COUNT: "BIGINT", _REAL: "DOUBLE", _FLAG: "BOOLEAN"}

# Which measurement: the night that took it, and the cohort of scores it is about. kind is matured or estimated,
# origin live or backfill; month is the first day of the month of the scores.
_COHORT = {
    "as_of_date": _DAY, "run_id": _TEXT, "subject": _TEXT, "model_name": _TEXT, "model_version": _COUNT,
    "month": _DAY, "origin": _TEXT, "kind": _TEXT,
}  # fmt: skip
_GROUP = {**_COHORT, "segment": _TEXT, "value": _TEXT}

TABLES: Mapping[str, Mapping[str, pa.DataType]] = {
    # events and what needs them are NULL in an estimate; expected is the sum of the PDs.
    "performance": {
        **_GROUP,
        "scored_from": _DAY, "scored_to": _DAY, "matures_on": _DAY,
        "n": _COUNT, "events": _COUNT, "expected": _REAL, "mean_pd": _REAL, "observed_rate": _REAL,
        "rate_low": _REAL, "rate_high": _REAL,
        "auc": _REAL, "auc_low": _REAL, "auc_high": _REAL, "gini": _REAL, "gini_low": _REAL, "gini_high": _REAL,
        "ks": _REAL, "ks_low": _REAL, "ks_high": _REAL, "brier": _REAL, "brier_low": _REAL, "brier_high": _REAL,
        "ece": _REAL, "calibration_slope": _REAL, "calibration_intercept": _REAL,
        "hosmer_lemeshow": _REAL, "hosmer_lemeshow_df": _COUNT, "hosmer_lemeshow_p": _REAL,
        "trend_z": _REAL, "trend_p": _REAL, "monotone": _FLAG, "reversals": _TEXT,
        "left_out_event_before": _COUNT, "left_out_training": _COUNT, "inputs_sha256": _TEXT,
    },
    "grades": {
        **_GROUP,
        "position": _COUNT, "grade": _TEXT, "n": _COUNT, "events": _COUNT, "expected": _REAL, "mean_pd": _REAL,
        "observed_rate": _REAL, "rate_low": _REAL, "rate_high": _REAL, "jeffreys_p": _REAL, "binomial_p": _REAL,
    },
    "reliability": {
        **_GROUP,
        "bin": _COUNT, "pd_from": _REAL, "pd_to": _REAL, "n": _COUNT, "events": _COUNT, "mean_pd": _REAL,
        "observed_rate": _REAL, "rate_low": _REAL, "rate_high": _REAL,
    },
    # passes and ratio are NULL for a group too small to judge.
    "fairness": {
        "as_of_date": _DAY, "run_id": _TEXT, "subject": _TEXT, "model_name": _TEXT, "model_version": _COUNT,
        "month": _DAY, "origin": _TEXT, "attribute": _TEXT, "group_name": _TEXT, "reference": _TEXT, "n": _COUNT,
        "selected": _COUNT, "cut_off": _REAL, "rate": _REAL, "ratio": _REAL, "passes": _FLAG, "too_small": _FLAG,
        "mean_points": _REAL, "smd": _REAL,
    },
    # accounts opened in the month ``vintage``; events in that month on book, and up to it.
    "vintages": {
        "as_of_date": _DAY, "run_id": _TEXT, "through": _DAY, "vintage": _DAY, "months_on_book": _COUNT,
        "accounts": _COUNT, "events": _COUNT, "events_to_date": _COUNT, "rate_to_date": _REAL,
    },
}  # fmt: skip


def create(con: duckdb.DuckDBPyConnection) -> None:
    """Make the schema, the tables and the columns that are not there yet: a home made earlier has fewer.

    con: the lease holder's connection, in no transaction.
    """
    there = columns(con)
    if not there:
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {ident(lake.ALIAS, SCHEMA)}")
    for name, wanted in TABLES.items():
        table = ident(lake.ALIAS, SCHEMA, name)
        if name in there:
            for column in [c for c in wanted if c not in there[name]]:
                con.execute(f"ALTER TABLE {table} ADD COLUMN {ident(column)} {_SQL[wanted[column]]}")
            continue
        con.execute(f"CREATE TABLE {table} ({', '.join(f'{ident(c)} {_SQL[kind]}' for c, kind in wanted.items())})")
        # A few rows a night: in the catalog itself, or each night would leave a tiny file per table.
        con.execute(
            f"CALL {lake.ALIAS}.set_option('data_inlining_row_limit', 1000, "
            f"schema => {literal(SCHEMA)}, table_name => {literal(name)})"
        )


def existing(con: duckdb.DuckDBPyConnection) -> set[str]:
    """The outcome tables that this lake has."""
    return set(columns(con))


def columns(con: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    """The columns of each outcome table that this lake has."""
    found: dict[str, set[str]] = {}
    for table, column in con.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_catalog = ? AND table_schema = ?",
        [lake.ALIAS, SCHEMA],
    ).fetchall():
        found.setdefault(table, set()).add(column)
    return found


def replace(con: duckdb.DuckDBPyConnection, as_of: date, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Replace the partition of one night in every table, in one transaction; rows by table, in their final order."""
    con.execute("BEGIN")
    try:
        for name, columns in TABLES.items():
            target = ident(lake.ALIAS, SCHEMA, name)
            con.execute(f"DELETE FROM {target} WHERE as_of_date = {literal(as_of)}")
            if rows.get(name):
                _insert(con, target, pa.Table.from_pylist([dict(r) for r in rows[name]], pa.schema(columns.items())))
        con.execute("COMMIT")
    except BaseException:
        con.execute("ROLLBACK")
        raise


def _insert(con: duckdb.DuckDBPyConnection, target: str, found: pa.Table) -> None:
    con.register("measured_outcomes", found)
    try:
        con.execute(f"INSERT INTO {target} BY NAME SELECT * FROM measured_outcomes")
    finally:
        con.unregister("measured_outcomes")
