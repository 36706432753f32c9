"""Landing: a folder of extracts becomes rows of the raw contracts, in one transaction or not at all.

Idempotent by (table, load date, content). The same content again changes nothing; other content under
the same load date is a restatement: a new load beside the old one, until the gates decide which of
them stays. A row's permanent name is its file, that file's SHA-256 and its record number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import sqlglot
from sqlglot import exp

from pipeline.contracts import CONTRACTS, Contract
from pipeline.errors import LandingError
from pipeline.extracts import ExtractFile, find_files, folder_for, open_extracts
from pipeline.faults import of_the_machine
from pipeline.portfolio import Portfolio
from pipeline.sql import ident, literal

LANDED, ACCEPTED, REJECTED, SUPERSEDED = "landed", "accepted", "rejected", "superseded"


@dataclass(frozen=True)
class Load:
    """One load of one contract table: ``outcome`` is ``landed``, ``restated``, ``unchanged`` or ``absent``."""

    table: str
    load_id: str
    rows: int
    outcome: str
    files: tuple[str, ...]


def land(
    con: duckdb.DuckDBPyConnection,
    portfolio: Portfolio,
    load_date: date,
    extracts: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Load, ...]:
    """Land the extracts of one load date; ``con`` has the lake attached for writing.

    Returns a Load per contract that the portfolio provides. Raises LandingError, with the file, the row
    or the column and the next step, and then nothing of this landing is in the lake.
    """
    today = datetime.now(ZoneInfo(portfolio.timezone)).date()
    if load_date > today:
        raise LandingError(
            f"load date {load_date} is in the future (today is {today} in {portfolio.timezone})",
            "give the date the extracts were made for",
        )
    files = find_files(portfolio, folder_for(extracts, load_date))
    open_extracts(con, portfolio, files, load_date)
    con.execute("BEGIN")
    try:
        loads = []
        for table in portfolio.provides:
            load = _land_table(con, portfolio, CONTRACTS[table], load_date, files)
            progress(f"{table}: {load.rows:,} rows {load.outcome}")
            loads.append(load)
        for file in files.values():
            file.require_unchanged()
        con.execute("COMMIT")
    except BaseException:
        con.execute("ROLLBACK")
        raise
    return tuple(loads)


def _land_table(
    con: duckdb.DuckDBPyConnection,
    portfolio: Portfolio,
    contract: Contract,
    load_date: date,
    files: dict[str, ExtractFile],
) -> Load:
    mapping = portfolio.mapping(contract.table)
    used = _files_of(portfolio, contract, mapping, files)
    if not used:  # every extract it reads is optional and absent
        return Load(contract.table, "", 0, "absent", ())
    content = hashlib.sha256(mapping.encode())
    for file in used:
        content.update(f"\0{file.extract}\0{file.sha256}".encode())
    content_sha256 = content.hexdigest()
    names = tuple(f.path.name for f in used)

    current = con.execute(
        "SELECT load_id, content_sha256, rows, state FROM raw.loads "
        "WHERE table_name = ? AND load_date = ? AND state IN (?, ?)",
        [contract.table, load_date, LANDED, ACCEPTED],
    ).fetchall()
    for load_id, sha256, rows, _ in current:
        if sha256 == content_sha256:
            # The content that stands came again: whatever was waiting to replace it no longer does.
            for other, _, _, state in current:
                if other != load_id and state == LANDED:
                    remove_rows(con, contract.table, other)
                    set_states(con, [(other, SUPERSEDED, f"{load_id} was delivered again before the gates decided")])
            return Load(contract.table, load_id, rows, "unchanged", names)

    mapped = _define_mapped(con, portfolio, contract, mapping)
    try:
        _check_rows(con, portfolio, contract, mapped, load_date)
    except duckdb.Error as error:
        if of_the_machine(error):
            raise
        raise _mapping_error(portfolio, contract, error) from error
    for load_id, _, _, state in current:
        if state == LANDED:  # never decided, never read: its successor takes its place at once
            remove_rows(con, contract.table, load_id)
            set_states(con, [(load_id, SUPERSEDED, "replaced before the gates decided")])
    accepted = next((load_id for load_id, _, _, state in current if state == ACCEPTED), None)
    load_id = _new_load_id(con, contract.table, load_date, content_sha256)
    rows = _insert(con, portfolio, contract, mapped, load_id)
    con.execute(
        f"""INSERT INTO raw.loads VALUES (?, ?, ?, ?,
            CAST([{", ".join(_file_literal(f) for f in used)}] AS STRUCT(file VARCHAR, sha256 VARCHAR, bytes BIGINT)[]),
            ?, ?, ?, ?, NULL, NULL)""",
        [load_id, contract.table, load_date, content_sha256, rows, LANDED, accepted, datetime.now(UTC)],
    )
    _log(con, [(load_id, LANDED)])
    return Load(contract.table, load_id, rows, "restated" if accepted else "landed", names)


def set_states(con: duckdb.DuckDBPyConnection, decisions: Sequence[tuple[str, str, str]]) -> None:
    """Record loads' new states as (load_id, state, reason), in the transaction that changes their rows."""
    if not decisions:
        return
    decided = ", ".join(f"({', '.join(literal(part) for part in decision)})" for decision in decisions)
    con.execute(
        f"""UPDATE raw.loads SET state = d.state, decided_at = ?, reason = d.reason
        FROM (VALUES {decided}) d (load_id, state, reason) WHERE loads.load_id = d.load_id""",
        [datetime.now(UTC)],
    )
    _log(con, [(load_id, state) for load_id, state, _ in decisions])


def remove_rows(con: duckdb.DuckDBPyConnection, table: str, load_id: str) -> None:
    """Take a load's rows out of the current lake; they stay readable at the snapshots that held them."""
    con.execute(f"DELETE FROM {ident('raw', table)} WHERE load_id = ?", [load_id])


def _log(con: duckdb.DuckDBPyConnection, changes: Sequence[tuple[str, str]]) -> None:
    row = con.execute("SELECT coalesce(max(seq), 0) FROM raw.load_log").fetchone()
    assert row is not None
    rows = ", ".join(
        f"({seq}, {literal(load_id)}, {literal(state)})"
        for seq, (load_id, state) in enumerate(changes, start=row[0] + 1)
    )
    con.execute(f"INSERT INTO raw.load_log VALUES {rows}")


def _files_of(
    portfolio: Portfolio, contract: Contract, mapping: str, files: dict[str, ExtractFile]
) -> list[ExtractFile]:
    """The extract files that a mapping reads, in name order."""
    try:
        tree = sqlglot.parse_one(mapping, read="duckdb")
    except sqlglot.errors.ParseError as error:
        raise _mapping_error(portfolio, contract, error) from error
    named = {cte.alias for cte in tree.find_all(exp.CTE)}
    read = {table.name for table in tree.find_all(exp.Table) if table.name and not _is_cte(table, named)}
    unknown = sorted(read - {e.name for e in portfolio.extracts})
    if unknown:
        raise LandingError(
            f"{contract.table}.sql reads {', '.join(unknown)}, which portfolio.yml does not declare",
            f"declare it under extracts, or read one of {', '.join(e.name for e in portfolio.extracts)}",
        )
    return [files[name] for name in sorted(read) if name in files]


def _is_cte(table: exp.Table, named: set[str]) -> bool:
    """Whether a table's name is a CTE here. Within its own definition the name still means the extract."""
    inside, node = False, table.parent
    while node is not None:
        inside = inside or (isinstance(node, exp.CTE) and node.alias == table.name)
        node = node.parent
    return table.name in named and not inside


def _define_mapped(
    con: duckdb.DuckDBPyConnection, portfolio: Portfolio, contract: Contract, mapping: str
) -> dict[str, str]:
    """Make the mapping a view ``_mapped`` and return its columns with their types."""
    try:
        con.execute(f"CREATE OR REPLACE TEMP VIEW _mapped AS {mapping}")
        described = {n: str(t) for n, t, *_ in con.execute("DESCRIBE _mapped").fetchall()}
    except duckdb.Error as error:
        if of_the_machine(error):
            raise
        raise _mapping_error(portfolio, contract, error) from error
    wanted = {c.name for c in contract.columns} | {"source"}
    missing, extra = sorted(wanted - set(described)), sorted(set(described) - wanted - {"load_date"})
    if missing or extra:
        faults = [f"{w} {', '.join(c)}" for w, c in (("lacks", missing), ("has the unknown", extra)) if c]
        raise LandingError(
            f"{contract.table}.sql {' and '.join(faults)}",
            "select every column of the contract (NULL where you have none) and `source`, and no others",
        )
    return described


def _check_rows(
    con: duckdb.DuckDBPyConnection,
    portfolio: Portfolio,
    contract: Contract,
    mapped: dict[str, str],
    load_date: date,
) -> None:
    """One scan over the mapped rows: types, NOT NULL, event dates, load dates; the first fault is raised."""
    row_load_date = _row_load_date(mapped)
    rules: list[tuple[str, str, str]] = []
    for column in contract.columns:
        name = ident(column.name)
        if not column.nullable:
            rules.append((column.name, f"{name} IS NULL", "is missing"))
        target = column.sql_type(portfolio.id_type)
        if mapped[column.name] != target and target != "VARCHAR":
            # Text must parse; a number must survive the way there and back, or it would be rounded without a word.
            lossy = "IS NULL"
            if mapped[column.name] != "VARCHAR":
                lossy = f"IS NULL OR CAST(TRY_CAST({name} AS {target}) AS {mapped[column.name]}) <> {name}"
            rules.append(
                (column.name, f"{name} IS NOT NULL AND (TRY_CAST({name} AS {target}) {lossy})", f"is not a {target}")
            )
    rules += [
        ("source", "source IS NULL", "is missing: the mapping must carry `source` through"),
        ("load_date", f"{row_load_date} IS NULL", "is missing"),
        ("load_date", f"{row_load_date} > {literal(load_date)}", f"is after the load date {load_date}"),
        (contract.event_date, f"({contract.event_date}) > {row_load_date}", "is in the future of its load date"),
    ]
    found = con.execute(
        "SELECT "
        + ", ".join(f"count(*) FILTER ({bad}), arg_min(source, source.row) FILTER ({bad})" for _, bad, _ in rules)
        + " FROM _mapped"
    ).fetchone()
    assert found is not None
    for (column_name, bad, fault), count, source in zip(rules, found[::2], found[1::2], strict=True):
        if count:
            at = f"{source['file']}, row {source['row']}" if source else f"{contract.table}.sql"
            shown = None
            if column_name not in ("source", "load_date"):
                expression = column_name if column_name == contract.event_date else ident(column_name)
                shown = con.execute(f"SELECT CAST({expression} AS VARCHAR) FROM _mapped WHERE {bad} LIMIT 1").fetchone()
            about = [c for c in contract.columns if c.name in re.findall(r"\w+", column_name)]
            value = f" ({about[0].shown(shown[0])})" if about and shown and shown[0] is not None else ""
            named = " or ".join(c.name for c in about) or column_name
            raise LandingError(
                f"{at}: {contract.table}.{named}{value} {fault}; {count:,} such rows",
                "correct the file or the mapping and land it again; nothing was landed",
            )


def _insert(
    con: duckdb.DuckDBPyConnection, portfolio: Portfolio, contract: Contract, mapped: dict[str, str], load_id: str
) -> int:
    """Insert the mapped rows, a month's in the order of what is fixed and the key, so that an account's lie together
    even where a lender numbers payments as they come; returns their count."""
    load_date = _row_load_date(mapped)
    columns = ", ".join(
        f"CAST({ident(c.name)} AS {c.sql_type(portfolio.id_type)}) AS {ident(c.name)}" for c in contract.columns
    )
    names = ", ".join(ident(c.name) for c in contract.columns)
    together = ", ".join(map(ident, dict.fromkeys((*contract.fixed, *contract.key))))
    table = ident("raw", contract.table)
    con.execute(
        f"""INSERT INTO {table} ({names}, load_date, load_id, source_file, source_sha256, source_row)
        SELECT {columns}, {load_date}, {literal(load_id)}, source.file, source.sha256, source.row
        FROM _mapped
        ORDER BY date_trunc('month', {load_date}), {together}, source.file, source.row"""
    )
    con.execute(
        f"""INSERT INTO raw.load_months
        SELECT {literal(load_id)}, {literal(contract.table)}, load_date,
               CAST(date_trunc('month', {contract.event_date}) AS DATE) AS event_month, count(*)
        FROM {table} WHERE load_id = {literal(load_id)} GROUP BY ALL ORDER BY ALL"""
    )
    row = con.execute(
        f"SELECT coalesce(sum(rows), 0) FROM raw.load_months WHERE load_id = {literal(load_id)}"
    ).fetchone()
    assert row is not None
    return int(row[0])


def _row_load_date(mapped: dict[str, str]) -> str:
    return "CAST(coalesce(load_date, source.load_date) AS DATE)" if "load_date" in mapped else "source.load_date"


def _new_load_id(con: duckdb.DuckDBPyConnection, table: str, load_date: date, content_sha256: str) -> str:
    """Readable and unique: content that was rejected or superseded may come again under the next number."""
    stem = f"{table}.{load_date:%Y%m%d}.{content_sha256[:12]}"
    row = con.execute("SELECT count(*) FROM raw.loads WHERE starts_with(load_id, ?)", [stem]).fetchone()
    assert row is not None
    return f"{stem}.{row[0] + 1}"


def _file_literal(file: ExtractFile) -> str:
    return f"{{'file': {literal(file.path.name)}, 'sha256': {literal(file.sha256)}, 'bytes': {file.bytes}}}"


def _mapping_error(portfolio: Portfolio, contract: Contract, error: Exception) -> LandingError:
    return LandingError(
        f"{portfolio.name}/{contract.table}.sql: {str(error).splitlines()[0]}",
        "mend the mapping, run `scoretrace init --portfolio FOLDER` again, then land again",
    )
