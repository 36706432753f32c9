"""What a feature build must build again: the loads that came, went or moved, and definitions that changed.

Some tables are rebuilt by month, some by the accounts that a night reaches; each then equals its own full rebuild at
the same as-of date. A feature partition is kept only while everything behind it stands. Reads, changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import duckdb

from pipeline import lake
from pipeline.sql import ident, literals

PACKAGE = "scoretrace"
INCREMENTAL = "int_account_month"

BATCH_ROWS = 25_000_000  # statements and payments of some months: 2 to 3 GB while their versions are ranked
_WORTH_CARRYING = 4  # below a quarter of the book: what is kept must outweigh looking for what is not


@dataclass(frozen=True)
class CarriedModel:
    """A model that keeps the rows of accounts which a night does not reach. ``tables`` are the contracts behind it."""

    name: str
    schema: str
    tables: tuple[str, ...]


def carried_models(manifest: dict[str, Any]) -> tuple[CarriedModel, ...]:
    """The models that dbt materializes as ``carried``."""
    return tuple(
        CarriedModel(node["name"], node["schema"], _contracts_behind(manifest, unique_id))
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] == "model" and node["config"]["materialized"] == "carried"
    )


def _contracts_behind(manifest: dict[str, Any], unique_id: str) -> tuple[str, ...]:
    parents = [p for node in _upstream(manifest, unique_id) for p in manifest["nodes"][node]["depends_on"]["nodes"]]
    return tuple(sorted({manifest["sources"][p]["name"] for p in parents if p.startswith("source.")}))


@dataclass(frozen=True)
class Reach:
    """The accounts that a night reaches: those with a row in ``tables`` that was loaded ``after`` one day and ``until``
    another, or that belongs to one of ``loads``, whose load dates are ``days``."""

    tables: tuple[str, ...]
    after: date
    until: date
    loads: tuple[str, ...]
    days: tuple[date, ...]

    def as_variables(self) -> dict[str, Any]:
        """What dbt/macros/reach.sql reads."""
        return {
            "tables": list(self.tables),
            "after": self.after.isoformat(),
            "until": self.until.isoformat(),
            "loads": list(self.loads),
            "days": [d.isoformat() for d in self.days],
        }


@dataclass(frozen=True)
class Rebuilt:
    """What one build makes again: months of int_account_month, and of each carried model the accounts reached.

    None means all of them. definition_sha256: of each of these models, as this build leaves it. batches: the months a
    few at a time, where all at once would not fit in memory.
    """

    months: tuple[date, ...] | None = None
    reached: dict[str, Reach | None] = field(default_factory=dict)
    definition_sha256: dict[str, str] = field(default_factory=dict)
    batches: tuple[tuple[date, ...], ...] = ()

    def as_variables(self) -> dict[str, Any]:
        """What dbt's macros read."""
        return {
            "month_batches": [[m.isoformat() for m in batch] for batch in self.batches],
            "rebuild_months": None if self.months is None else [m.isoformat() for m in self.months],
            "reach": {model: found.as_variables() for model, found in self.reached.items() if found},
        }


def to_rebuild(
    con: duckdb.DuckDBPyConnection,
    manifest: dict[str, Any],
    constants: dict[str, Any],
    as_of: date,
    batch_rows: int = BATCH_ROWS,
) -> Rebuilt:
    """What a build at ``as_of`` must make again.

    constants: dbt's vars that are the same for every night. batch_rows: raw rows to make months of at a time.
    """
    carried = carried_models(manifest)
    definitions = {
        name: definition_sha256(manifest, name, constants) for name in (INCREMENTAL, *(m.name for m in carried))
    }
    months = months_to_rebuild(con, as_of, definitions[INCREMENTAL])
    return Rebuilt(
        None if months is None else tuple(months),
        {model.name: reach(con, model, as_of, definitions[model.name]) for model in carried},
        definitions,
        month_batches(con, months, batch_rows),
    )


def month_batches(
    con: duckdb.DuckDBPyConnection, months: list[date] | None, batch_rows: int
) -> tuple[tuple[date, ...], ...]:
    """Months to rebuild in groups of about ``batch_rows`` raw rows, oldest first; none when one would do."""
    rows: dict[date, int] = dict(
        con.execute(
            "SELECT event_month, sum(rows) FROM raw.load_months "
            "WHERE table_name IN ('loan_servicing', 'payments_ledger') GROUP BY event_month"
        ).fetchall()
    )
    if sum(rows.values()) <= batch_rows:
        return ()
    if months is None:
        months = sorted(
            set(rows)
            | _column(con, "SELECT DISTINCT CAST(date_trunc('month', due_date) AS DATE) FROM raw.payments_ledger", [])
        )
    batches: list[list[date]] = []
    size = 0
    for month in months:
        size += rows.get(month, 0)
        if not batches or size > batch_rows:
            batches.append([])
            size = rows.get(month, 0)
        batches[-1].append(month)
    return tuple(map(tuple, batches)) if len(batches) > 1 else ()


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


def reach(con: duckdb.DuckDBPyConnection, model: CarriedModel, as_of: date, definition: str) -> Reach | None:
    """Accounts whose rows of a carried model differ, or may differ, from a full build at ``as_of``; None means all.

    Such a row is made of its account's own raw rows and of the calendar month. So it changes with the rows between the
    built date and the new one, whichever is later, and with every load that came since. A load that is gone no longer
    says whose rows it had, and another month moves every slot: then everything is rebuilt, as it is where most
    accounts are reached anyway.
    """
    state = con.execute(
        "SELECT as_of_date, load_seq, definition_sha256 FROM ops.model_state WHERE model = ?", [model.name]
    ).fetchall()
    if len(state) != 1 or state[0][2] != definition or not exists(con, model.schema, model.name):
        return None
    built, seq, _ = state[0]
    if built.replace(day=1) != as_of.replace(day=1):
        return None
    after, until = min(built, as_of), max(built, as_of)
    came = con.execute(
        f"""SELECT DISTINCT l.load_id, m.load_date FROM raw.load_log l JOIN raw.load_months m USING (load_id)
            WHERE l.seq > ? AND m.table_name IN ({literals(model.tables)}) AND m.load_date <= ?""",
        [seq, until],
    ).fetchall()
    loads = sorted({load_id for load_id, _ in came})
    if loads and _any_left(con, loads, seq):
        return None
    rows = count(
        con,
        f"""SELECT coalesce(sum(rows), 0) FROM raw.load_months WHERE table_name IN ({literals(model.tables)})
            AND (load_date > ? AND load_date <= ? OR load_date <= ? AND load_id IN ({literals(loads or [""])}))""",
        [after, until, until],
    )
    if rows * _WORTH_CARRYING > count(con, f"SELECT count(*) FROM {ident(model.schema, model.name)}"):
        return None
    return Reach(model.tables, after, until, tuple(loads), tuple(sorted({day for _, day in came})))


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
    nodes = _upstream(manifest, f"model.{PACKAGE}.{model}")
    macros: set[str] = set()
    for unique_id in sorted(nodes):
        node = manifest["nodes"][unique_id]
        columns = [(name, column.get("data_type")) for name, column in node["columns"].items()]
        digest.update(json.dumps([unique_id, node["raw_code"], columns]).encode())
        macros |= set(_macros(manifest, node["depends_on"]["macros"]))
    for unique_id in sorted(macros):
        digest.update(json.dumps([unique_id, manifest["macros"][unique_id]["macro_sql"]]).encode())
    return digest.hexdigest()


def _upstream(manifest: dict[str, Any], unique_id: str) -> set[str]:
    """A model and every model that it is made of."""
    nodes, pending = {unique_id}, [unique_id]
    while pending:
        for parent in manifest["nodes"][pending.pop()]["depends_on"]["nodes"]:
            if parent.startswith("model.") and parent not in nodes:
                nodes.add(parent)
                pending.append(parent)
    return nodes


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
