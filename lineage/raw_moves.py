"""Tonight's rows of a raw table against those before them: what values they bring, and how far these left what the
same account had. A whole book that moves by a fifth is lost among accounts that differ a thousandfold; each account's
own step shows it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date, timedelta

import duckdb

from pipeline.contracts import CONTRACTS, ID, Column, Contract
from pipeline.monitoring.bins import BinCounts, count_bins, read_bins
from pipeline.monitoring.stability import Psi, judged_psi
from pipeline.sql import ident, literal

FEW_ROWS = 30
_ALPHA = 0.001
_LEAST = 0.05
LOOK_BACK = timedelta(days=190)
"""Before the first step: there lies the predecessor of a monthly statement, and of a report pulled each quarter."""
_NO_STEP = 1e-9
"""Below this a relative step is none: between the two sides of it lies a bin of its own."""


@dataclass(frozen=True)
class Move:
    """A raw column whose rows of tonight are not like those before. psi: of the two, at least 0.05."""

    column: str
    psi: float
    said: str


@dataclass(frozen=True)
class Loads:
    """Load dates to compare: those in [since, as_of] with those before since. values, steps: the first of what is
    usual, for values and for the steps of accounts."""

    values: date
    steps: date
    since: date
    as_of: date

    @property
    def compared(self) -> str:
        """Which loads are held against the usual ones, in words."""
        return "tonight" if self.since == self.as_of else f"since {self.since}"


def moves(con: duckdb.DuckDBPyConnection, table: str, columns: Collection[str], loads: Loads) -> list[Move]:
    """The columns that moved, each by what moved it more: its values, or the steps of each account.

    What may be chance (p > 0.001) or rests on fewer than 30 rows is left out.
    """
    contract = CONTRACTS[table]
    found: dict[str, Move] = {}
    for move in (*_values(con, contract, columns, loads), *_steps(con, contract, columns, loads)):
        if move.column not in found or move.psi > found[move.column].psi:
            found[move.column] = move
    return list(found.values())


def _values(con: duckdb.DuckDBPyConnection, contract: Contract, columns: Collection[str], loads: Loads) -> list[Move]:
    read = {c.name: sql for c in contract.columns if c.name in columns and (sql := _as_number(c, contract.event_date))}
    if not read:
        return []
    listed = ", ".join(f"{sql} AS {ident(name)}" for name, sql in read.items())
    raw, since = ident("raw", contract.table), literal(loads.since)
    same = " AND ".join(f"b.{ident(k)} = t.{ident(k)}" for k in contract.key)
    before = f"SELECT {listed} FROM {raw} WHERE load_date >= {literal(loads.values)} AND load_date < {since}"
    # Corrected rows are a cause of their own, and of other accounts than those that have a new row.
    tonight = f"""SELECT {listed} FROM {raw} t WHERE load_date BETWEEN {since} AND {literal(loads.as_of)}
        AND NOT EXISTS (SELECT 1 FROM {raw} b WHERE b.load_date < {since} AND {same})"""
    bins = read_bins(con, before, tuple(read), [c.name for c in contract.columns if c.values and c.name in read])
    then, now = count_bins(con, before, bins), count_bins(con, tonight, bins)
    found = []
    for name in read:
        if (judged := _judged(then, now, name)) is None:
            continue
        rows = f"{then.of(name).sum():,} rows before"
        said = f"its values {loads.compared} are not those of the {rows} (PSI {judged.value:.2f})"
        nulls = now.of(name)[-1] / now.of(name).sum(), then.of(name)[-1] / then.of(name).sum()
        if abs(nulls[0] - nulls[1]) > 0.02:
            said += f"; {nulls[0]:.1%} null, usually {nulls[1]:.1%}"
        found.append(Move(name, judged.value, said))
    return found


def _steps(con: duckdb.DuckDBPyConnection, contract: Contract, columns: Collection[str], loads: Loads) -> list[Move]:
    """Relative steps from the row that an account had before, of tables that have a row for each account and date."""
    read = [c.name for c in contract.columns if c.name in columns and _is_amount(c)]
    holder = [k for k in contract.key if k != contract.event_date]
    if not read or len(holder) == len(contract.key):
        return []
    first, as_of = literal(loads.steps), literal(loads.as_of)
    raw, key, whose = ident("raw", contract.table), _listed(contract.key), _listed(holder)
    listed = ", ".join(f"CAST({ident(c)} AS DOUBLE) AS {ident(c)}" for c in read)
    steps = ", ".join(_step(ident(c)) for c in read)
    # A correction is no step: rows are taken as they first landed.
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE stepped AS
        WITH landed AS (
            SELECT {key}, {listed}, load_date FROM {raw}
            WHERE load_date BETWEEN {literal(loads.steps - LOOK_BACK)} AND {as_of}
            AND ({whose}) IN (SELECT ({whose}) FROM {raw} WHERE load_date BETWEEN {first} AND {as_of})
            QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY load_date, load_id, source_row) = 1)
        SELECT load_date, {steps} FROM landed
        WINDOW before AS (PARTITION BY {whose} ORDER BY {ident(contract.event_date)})
        QUALIFY load_date >= {first} AND lag(load_date) OVER before IS NOT NULL"""
    )
    before, tonight = (f"SELECT * FROM stepped WHERE load_date {sign} {literal(loads.since)}" for sign in ("<", ">="))
    bins = tuple(
        replace(b, points=tuple(sorted({*b.points, -_NO_STEP, _NO_STEP}))) for b in read_bins(con, before, tuple(read))
    )
    then, now = count_bins(con, before, bins), count_bins(con, tonight, bins)
    con.execute("DROP TABLE stepped")
    found = []
    for name in read:
        if (judged := _judged(then, now, name)) is not None:
            said = _said(then, now, name, loads.compared, "account" if "account_id" in holder else "subject")
            usual = f"from {loads.steps} to {loads.since - timedelta(days=1)}"
            found.append(Move(name, judged.value, f"{said} {usual} (PSI {judged.value:.2f} of these steps)"))
    return found


def _said(then: BinCounts, now: BinCounts, name: str, when: str, holder: str) -> str:
    """Which way more of them stepped than usual; or that as many stepped each way, and how far is another."""
    (bins,) = (b for b in now.bins if b.feature == name)
    low, high = bins.points.index(-_NO_STEP) + 1, bins.points.index(_NO_STEP) + 1
    shares = {}
    for side, part in (("lower", slice(0, low)), ("higher", slice(high, -1))):
        shares[side] = tuple(float(c.of(name)[part].sum() / c.of(name).sum()) for c in (now, then))
    side, (tonight, usual) = max(shares.items(), key=lambda item: item[1][0] - item[1][1])
    rows = f"{now.of(name).sum():,} rows {when}"
    if tonight - usual < 0.1:
        return f"how far {rows} are from the same {holder}'s row before is not what it was"
    return f"{tonight:.0%} of {rows} are {side} than the same {holder}'s row before, {usual:.0%}"


def _judged(then: BinCounts, now: BinCounts, name: str) -> Psi | None:
    if then.of(name).sum() < FEW_ROWS or now.of(name).sum() < FEW_ROWS:
        return None
    judged = judged_psi(then.of(name), now.of(name), alpha=_ALPHA)
    return judged if judged.significant and judged.value >= _LEAST else None


def _step(column: str) -> str:
    """From one row to the next as a share of the larger of the two, in [-2, 2]; null where either is."""
    was = f"lag({column}) OVER before"
    return (
        f"coalesce(({column} - {was}) / nullif(greatest(abs({column}), abs({was})), 0), {column} - {was}) AS {column}"
    )


def _listed(columns: Collection[str]) -> str:
    return ", ".join(map(ident, columns))


def _is_amount(column: Column) -> bool:
    return not (column.values or column.type == ID or column.type == "DATE" or column.type.startswith("VARCHAR"))


def _as_number(column: Column, event_date: str) -> str:
    """A raw column as a number that can be compared between nights; empty for ids and other texts."""
    name = ident(column.name)
    if column.type != ID and column.values:
        listed = ", ".join(literal(v) for v in column.values)
        return f"CAST(list_position([{listed}], {name}) AS DOUBLE)"
    if column.type == "DATE":
        return "" if column.name == event_date else f"CAST(load_date - {name} AS DOUBLE)"
    return f"CAST({name} AS DOUBLE)" if _is_amount(column) else ""
