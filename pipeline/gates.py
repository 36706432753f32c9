"""Gates: is a load fresh, complete, unique and plausible? They decide which loads stay in the lake.

Each check is a Verdict with its figure and its bound. A load that fails is rejected: its rows leave the
lake (they stay readable at their snapshot) and the night stops before anything downstream is written.
A load that passes is accepted, and takes the place of the one that it restates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb

from pipeline.contracts import CONTRACTS, Column, Contract
from pipeline.errors import GateFailed
from pipeline.land import ACCEPTED, LANDED, REJECTED, SUPERSEDED, remove_rows, set_states
from pipeline.portfolio import Portfolio
from pipeline.sql import ident, literal, literals

PASS, WARN, FAIL = "pass", "warn", "fail"

# Below this many rows a share or a ratio says little: the check warns and does not stop the night.
FEW_ROWS = 30
# Loads needed before a trailing volume means anything.
FEW_LOADS = 5
UNITS = {
    "fresh": "day",
    "volume": "row",
    "new_file": "earlier load",
    "unique": "repeat",
    "fixed": "row",
    "nulls": "share",
    "categories": "share",
    "plausible": "share",
    "known_account": "row",
}
"""What each gate's figure counts; ``share``: of the load's rows, 0 to 1."""


@dataclass(frozen=True)
class Verdict:
    """One check of one load. ``observed`` is the figure, ``expected`` the bound in words."""

    gate: str
    subject: str
    verdict: str
    observed: float | None
    expected: str
    message: str


@dataclass(frozen=True)
class PendingLoad:
    """A load to check, with the accepted load it restates, if any."""

    load_id: str
    table: str
    load_date: date
    rows: int
    state: str
    supersedes: str | None


def check(
    con: duckdb.DuckDBPyConnection, portfolio: Portfolio, as_of: date, *, again: bool = True
) -> dict[PendingLoad, tuple[Verdict, ...]]:
    """Every undecided load with rows up to the as-of date, with verdicts. Reads only.

    again: check the loads of the as-of date itself once more, decided or not: a night run again shows its own gates.
    """
    _read_loads(con)
    rows = con.execute(
        """SELECT load_id, table_name, load_date, rows, state, supersedes FROM gate_loads l
        WHERE (state = ? AND (load_date <= ? OR EXISTS (
                  FROM gate_load_months m WHERE m.load_id = l.load_id AND m.load_date <= ?)))
           OR (load_date = ? AND state = ?)
        ORDER BY load_date, table_name""",
        [LANDED, as_of, as_of, as_of, ACCEPTED if again else LANDED],
    ).fetchall()
    loads = [PendingLoad(*row) for row in rows]
    # An accepted load that is being restated is not checked again beside its successor.
    replaced = {load.supersedes for load in loads if load.state == LANDED}
    return {load: tuple(_check_load(con, portfolio, load)) for load in loads if load.load_id not in replaced}


def freshness(con: duckdb.DuckDBPyConnection, portfolio: Portfolio, as_of: date) -> tuple[Verdict, ...]:
    """Is there data for the as-of date at all? One verdict per contract that the portfolio provides.

    The statements are the book: without a load of the night's own period the night may not run. Any other table
    warns when it stays away for longer than it usually does.
    """
    verdicts = []
    _read_loads(con)
    for table in portfolio.provides:
        row = con.execute(
            """WITH days AS (
                   SELECT DISTINCT d FROM (
                       SELECT m.load_date AS d FROM gate_load_months m JOIN gate_loads l USING (load_id)
                       WHERE m.table_name = $table AND l.state IN ($landed, $accepted)
                       UNION ALL
                       SELECT load_date FROM gate_loads
                       WHERE table_name = $table AND state IN ($landed, $accepted) AND rows = 0
                   ) WHERE d <= $as_of),
               gaps AS (SELECT d, d - lag(d) OVER (ORDER BY d) AS gap FROM days)
            SELECT max(d), median(gap) FROM gaps""",
            {"table": table, "landed": LANDED, "accepted": ACCEPTED, "as_of": as_of},
        ).fetchone()
        assert row is not None
        newest, usual_gap = row
        age = float((as_of - newest).days) if newest else None
        if table == "loan_servicing":
            start = portfolio.period_start(as_of)
            fresh = newest is not None and newest >= start
            expected = f"a load of {as_of}" if start == as_of else f"a load of {start} to {as_of}"
            verdict = PASS if fresh else FAIL
        else:
            limit = max(float(portfolio.gates.freshness_days), usual_gap or 0.0)
            expected = f"a load of the last {limit:.0f} days" if usual_gap else "no rhythm yet"
            verdict = WARN if usual_gap and age is not None and age > limit else PASS
        message = f"{table}: newest load is of {newest}, {age:.0f} days before" if newest else f"{table}: never loaded"
        verdicts.append(Verdict("fresh", table, verdict, age, expected, message))
    return tuple(verdicts)


def decide(
    con: duckdb.DuckDBPyConnection, checked: dict[PendingLoad, tuple[Verdict, ...]]
) -> tuple[list[PendingLoad], list[PendingLoad]]:
    """Accept or reject each undecided load, in one transaction; returns (accepted, rejected).

    A load date stands or falls as a whole: half a landing is not a landing.
    """
    failed_dates = {load.load_date for load, verdicts in checked.items() if any(v.verdict == FAIL for v in verdicts)}
    undecided = [load for load in checked if load.state == LANDED]
    rejected = [load for load in undecided if load.load_date in failed_dates]
    accepted = [load for load in undecided if load.load_date not in failed_dates]
    decisions: list[tuple[str, str, str]] = []
    con.execute("BEGIN")
    try:
        for load in rejected:
            remove_rows(con, load.table, load.load_id)
            reasons = "; ".join(v.message for v in checked[load] if v.verdict == FAIL)
            decisions.append((load.load_id, REJECTED, reasons or "another table of the load date failed"))
        for load in accepted:
            if load.supersedes:
                remove_rows(con, load.table, load.supersedes)
                decisions.append((load.supersedes, SUPERSEDED, f"restated by {load.load_id}"))
            decisions.append((load.load_id, ACCEPTED, "passed its gates"))
        set_states(con, decisions)
        con.execute("COMMIT")
    except BaseException:
        con.execute("ROLLBACK")
        raise
    return accepted, rejected


def require_passed(as_of: date, verdicts: list[Verdict]) -> None:
    """Raise GateFailed naming every failed gate with its figures."""
    failed = [v for v in verdicts if v.verdict == FAIL]
    if failed:
        raise GateFailed(
            f"{len(failed)} gate{'s' if len(failed) > 1 else ''} failed for {as_of}: "
            + "; ".join(f"[{v.gate}] {v.message} (expected {v.expected})" for v in failed),
            f"correct the extracts, then run `scoretrace nightly --as-of {as_of}` again; "
            "nothing downstream was written and the last good scores stay published",
        )


def _read_loads(con: duckdb.DuckDBPyConnection) -> None:
    """The loads on record as they stand, for this connection: each look at a table of the lake asks its catalog anew,
    which takes longer with every night that is kept."""
    for table in ("loads", "load_months"):
        con.execute(f"CREATE OR REPLACE TEMP TABLE {ident(f'gate_{table}')} AS FROM {ident('raw', table)}")


def _check_load(con: duckdb.DuckDBPyConnection, portfolio: Portfolio, load: PendingLoad) -> list[Verdict]:
    contract = CONTRACTS[load.table]
    return [
        _volume(con, portfolio, load),
        _repeated_file(con, load),
        _unique(con, contract, load),
        *_fixed(con, contract, load),
        *_shares(con, portfolio, contract, load),
        *_known_account(con, portfolio, contract, load),
    ]


def _volume(con: duckdb.DuckDBPyConnection, portfolio: Portfolio, load: PendingLoad) -> Verdict:
    """Rows of the load against the median of the load dates before it (of the trailing window)."""
    gates = portfolio.gates
    row = con.execute(
        """SELECT median(rows), count(*) FROM (
               SELECT m.load_date, sum(m.rows) AS rows FROM gate_load_months m JOIN gate_loads l USING (load_id)
               WHERE m.table_name = ? AND m.load_date < ? AND l.state IN (?, ?)
               GROUP BY m.load_date ORDER BY m.load_date DESC LIMIT ?)""",
        [load.table, load.load_date, LANDED, ACCEPTED, gates.volume_window],
    ).fetchone()
    own = con.execute(
        "SELECT coalesce(sum(rows), 0), count(DISTINCT load_date) FROM gate_load_months WHERE load_id = ?",
        [load.load_id],
    ).fetchone()
    assert row is not None and own is not None
    typical, loads = row
    if own[1] > 1 and load.supersedes:
        before = con.execute("SELECT rows FROM gate_loads WHERE load_id = ?", [load.supersedes]).fetchone()
        assert before is not None
        low, high = gates.volume_low * before[0], gates.volume_high * before[0]
        verdict = PASS if low <= load.rows <= high else FAIL
        expected = f"{low:,.0f} to {high:,.0f} rows (it restates {before[0]:,})"
        message = f"{load.table}: {load.rows:,} rows restate {before[0]:,}"
        return Verdict("volume", load.table, verdict, float(load.rows), expected, message)
    if own[1] > 1:
        return Verdict("volume", load.table, PASS, float(own[0]), "any", f"{own[0]:,} rows over {own[1]} load dates")
    if loads < FEW_LOADS:
        expected = f"no bound before {FEW_LOADS} loads"
        return Verdict(
            "volume", load.table, PASS, float(load.rows), expected, f"{load.rows:,} rows, {loads} loads before"
        )
    low, high = gates.volume_low * typical, gates.volume_high * typical
    expected = f"{low:,.0f} to {high:,.0f} rows (median of {loads} loads: {typical:,.0f})"
    inside = low <= load.rows <= high
    verdict = PASS if inside else (WARN if typical < FEW_ROWS and load.rows < FEW_ROWS else FAIL)
    return Verdict("volume", load.table, verdict, float(load.rows), expected, f"{load.table}: {load.rows:,} rows")


def _repeated_file(con: duckdb.DuckDBPyConnection, load: PendingLoad) -> Verdict:
    """The same bytes under another load date are last night's file sent again."""
    twin = con.execute(
        """SELECT other.load_id, other.load_date FROM gate_loads mine JOIN gate_loads other
           ON other.table_name = mine.table_name AND other.load_date <> mine.load_date
           AND other.state = ?
           AND list_sort([f.sha256 FOR f IN other.files]) = list_sort([f.sha256 FOR f IN mine.files])
           WHERE mine.load_id = ? AND mine.rows > 0 ORDER BY other.load_date DESC LIMIT 1""",
        [ACCEPTED, load.load_id],
    ).fetchone()
    expected = "a file not loaded under another date"
    if twin:
        message = f"{load.table}: the file is the one of {twin[1]} (load {twin[0]})"
        return Verdict("new_file", load.table, FAIL, 1.0, expected, message)
    return Verdict("new_file", load.table, PASS, 0.0, expected, f"{load.table}: not seen before")


def _unique(con: duckdb.DuckDBPyConnection, contract: Contract, load: PendingLoad) -> Verdict:
    key = ", ".join(ident(k) for k in contract.key)
    # A key may stand once per load date: a bulk load of history holds later versions of a row too.
    row = con.execute(
        f"""SELECT count(*), arg_min(file || ', rows ' || array_to_string(lines[1:3], ', '), (file, lines)) FROM (
            SELECT min(source_file) AS file, list_sort(list(source_row)) AS lines
            FROM {ident("raw", contract.table)} WHERE load_id = ? GROUP BY {key}, load_date HAVING count(*) > 1)""",
        [load.load_id],
    ).fetchone()
    assert row is not None
    count, first = row
    message = f"{load.table}: {count:,} repeated keys" + (f", first in {first}" if count else "")
    return Verdict(
        "unique", load.table, FAIL if count else PASS, float(count), f"0 repeats of {', '.join(contract.key)}", message
    )


def _fixed(con: duckdb.DuckDBPyConnection, contract: Contract, load: PendingLoad) -> list[Verdict]:
    """A later version of a record keeps what names it in the warehouse; otherwise both versions would count."""
    if not contract.fixed:
        return []
    table, key = ident("raw", contract.table), ", ".join(ident(k) for k in contract.key)
    moved = " OR ".join(f"other.{ident(c)} IS DISTINCT FROM mine.{ident(c)}" for c in contract.fixed)
    within = " OR ".join(f"min({ident(c)}) <> max({ident(c)})" for c in contract.fixed)
    count, first = con.execute(
        f"""WITH mine AS (SELECT * FROM {table} WHERE load_id = $load),
        moved AS (
            SELECT {key}, min(mine.source_file) AS file, min(mine.source_row) AS line
            FROM mine JOIN {table} other USING ({key})
            WHERE other.load_id NOT IN ($load, $before) AND ({moved}) GROUP BY {key}
            UNION ALL
            SELECT {key}, min(source_file), min(source_row) FROM mine
            WHERE (SELECT count(DISTINCT load_date) > 1 FROM mine) GROUP BY {key} HAVING {within})
        SELECT count(DISTINCT ({key})), arg_min(file || ', row ' || line, (file, line)) FROM moved""",
        {"load": load.load_id, "before": load.supersedes or load.load_id},
    ).fetchone() or (0, None)
    what = " or ".join(contract.fixed)
    message = f"{load.table}: {count:,} known records with another {what}" + (f", first in {first}" if count else "")
    return [Verdict("fixed", load.table, FAIL if count else PASS, float(count), f"{what} as first known", message)]


def _shares(
    con: duckdb.DuckDBPyConnection, portfolio: Portfolio, contract: Contract, load: PendingLoad
) -> list[Verdict]:
    """Nulls against the trailing window, closed vocabularies, plausible bounds: two scans in all."""
    table = ident("raw", contract.table)
    nullable = [c for c in contract.columns if c.nullable]
    listed = [c for c in contract.columns if c.values]
    bounded = [c for c in contract.columns if c.low is not None or c.high is not None]
    measures = (
        [f"count(*) FILTER ({ident(c.name)} IS NULL)" for c in nullable]
        + [f"count(*) FILTER ({ident(c.name)} NOT IN ({literals(list(c.values))}))" for c in listed]
        + [f"count(*) FILTER ({_outside(c)})" for c in bounded]
    )
    own = con.execute(
        f"SELECT count(*), {', '.join(measures)} FROM {table} WHERE load_id = ?", [load.load_id]
    ).fetchone()
    assert own is not None
    rows, counts = own[0], own[1:]
    before = (
        con.execute(
            f"SELECT count(*), {', '.join(measures[: len(nullable)])} FROM {table} "
            "WHERE load_date < ? AND load_date >= ? AND load_id <> ?",
            [load.load_date, load.load_date - timedelta(days=portfolio.gates.volume_window), load.load_id],
        ).fetchone()
        if nullable
        else None
    )
    verdicts = []
    null_faults: list[Verdict] = []
    for i, column in enumerate(nullable):
        if before is None or before[0] < FEW_ROWS or rows == 0:
            continue
        share, usual = counts[i] / rows, before[1 + i] / before[0]
        # A few dozen rows a night swing by chance: four standard errors on top of the bound.
        chance = 4 * math.sqrt(max(usual * (1 - usual), 0.0) / rows)
        bound = usual + portfolio.gates.null_increase + chance
        if share > bound:
            null_faults.append(
                Verdict(
                    "nulls",
                    f"{load.table}.{column.name}",
                    WARN if rows < FEW_ROWS else FAIL,
                    share,
                    f"at most {bound:.2%} null",
                    f"{load.table}.{column.name}: {share:.2%} null, usually {usual:.2%}",
                )
            )
    verdicts += null_faults or [
        Verdict(
            "nulls",
            load.table,
            PASS,
            0.0,
            f"no rise above {portfolio.gates.null_increase:.0%}",
            f"{load.table}: no column has more nulls than usual",
        )
    ]
    limit = portfolio.gates.unknown_category_share
    offset = len(nullable)
    verdicts += _column_verdicts(
        con,
        "categories",
        load,
        listed,
        counts[offset : offset + len(listed)],
        rows,
        limit,
        lambda c: f"{ident(c.name)} NOT IN ({literals(list(c.values))})",
        "unknown values",
    )
    offset += len(listed)
    verdicts += _column_verdicts(
        con, "plausible", load, bounded, counts[offset:], rows, 0.0, _outside, "values out of bounds"
    )
    return verdicts


def _column_verdicts(con, gate, load, columns: list[Column], counts, rows, limit, condition, what) -> list[Verdict]:  # type: ignore[no-untyped-def]
    """One passing verdict for the table, or one failing verdict per column with its first offender."""
    if not columns:
        return []
    faults = []
    for column, count in zip(columns, counts, strict=True):
        share = count / rows if rows else 0.0
        if share > limit:
            first = con.execute(
                f"SELECT CAST({ident(column.name)} AS VARCHAR), source_file, source_row "
                f"FROM {ident('raw', load.table)} WHERE load_id = ? AND {condition(column)} "
                "ORDER BY source_file, source_row LIMIT 1",
                [load.load_id],
            ).fetchone()
            where = f"first {column.shown(first[0])} in {first[1]}, row {first[2]}" if first else ""
            bound = ", ".join(column.values) or f"{column.low} to {column.high}"
            faults.append(
                Verdict(
                    gate,
                    f"{load.table}.{column.name}",
                    FAIL,
                    share,
                    f"{bound}; at most {limit:.2%} others",
                    f"{load.table}.{column.name}: {count:,} {what}, {where}",
                )
            )
    return faults or [Verdict(gate, load.table, PASS, 0.0, f"at most {limit:.2%}", f"{load.table}: no {what}")]


def _outside(column: Column) -> str:
    bounds = []
    if column.low is not None:
        bounds.append(f"{ident(column.name)} < {literal(column.low)}")
    if column.high is not None:
        bounds.append(f"{ident(column.name)} > {literal(column.high)}")
    return "(" + " OR ".join(bounds) + ")"


def _known_account(
    con: duckdb.DuckDBPyConnection, portfolio: Portfolio, contract: Contract, load: PendingLoad
) -> list[Verdict]:
    """Payments, events and bureau reports must speak of accounts that some other table knows."""
    if contract.table in ("payments_ledger", "account_events"):
        subject, extra = "account_id", ""
    elif contract.table == "bureau_pull":
        subject, extra = "subject_id", "AND subject_type = 'account'"
    else:
        return []
    if "loan_servicing" not in portfolio.provides:
        return []
    row = con.execute(
        f"""SELECT count(*), arg_min(source_file || ', row ' || source_row, (source_file, source_row))
        FROM {ident("raw", contract.table)} l
        WHERE l.load_id = ? {extra}
          AND NOT EXISTS (FROM raw.loan_servicing s WHERE s.account_id = l.{subject})
          AND NOT EXISTS (FROM raw.applications a WHERE a.account_id = l.{subject})
          AND NOT EXISTS (
              FROM raw.applicant_protected p WHERE p.subject_type = 'account' AND p.subject_id = l.{subject})""",
        [load.load_id],
    ).fetchone()
    assert row is not None
    count, first = row
    limit = portfolio.gates.unknown_account_rows
    message = f"{load.table}: {count:,} rows of unknown accounts"
    if count:
        message += f", first in {first}"
    return [
        Verdict(
            "known_account", load.table, FAIL if count > limit else PASS, float(count), f"at most {limit} rows", message
        )
    ]
