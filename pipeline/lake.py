"""The warehouse: a DuckLake with SQLite or PostgreSQL as catalog and Parquet as data.

Readers attach read-only and never block the writer; each commit is a snapshot, and
``connect(..., snapshot=n)`` shows the whole lake, views included, as it was.
"""

from __future__ import annotations

import importlib
import os
import secrets
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from pipeline.config import Settings
from pipeline.contracts import CONTRACTS, LANDING_COLUMNS, SUBJECT_TYPES
from pipeline.errors import ConfigError, HomeDamaged, NotFound
from pipeline.sql import ident, literal, literals

ALIAS = "lake"
_SPILL = "spill-"
_ROW_GROUP = 16_384
SCHEMAS = ("raw", "staging", "intermediate", "features", "marts", "scores", "training", "ops", "drift")


def extension_path(name: str) -> Path:
    """Path of a DuckDB extension shipped as a Python wheel (``duckdb-extension-<name>``)."""
    module = importlib.import_module(f"duckdb_extension_{name}")
    assert module.__file__
    found = sorted(Path(module.__file__).parent.rglob(f"{name}.duckdb_extension"))
    if not found:
        raise ConfigError(
            f"the wheel duckdb-extension-{name} holds no extension file",
            "run `make setup` to install the locked packages again",
        )
    return found[-1]


def load_extensions(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Load DuckLake and its catalog's scanner from the installed wheels; nothing is downloaded."""
    scanner = "sqlite_scanner" if settings.lake_catalog.startswith("sqlite:") else "postgres_scanner"
    con.execute("SET autoinstall_known_extensions = false")
    for name in ("ducklake", scanner):
        con.execute(f"LOAD {literal(str(extension_path(name)))}")


def attach_sql(settings: Settings, *, read_only: bool, snapshot: int | None = None, alias: str = ALIAS) -> str:
    """The ATTACH statement for this home's lake. The data path is the home's own, wherever it was moved."""
    options = [f"DATA_PATH {literal(str(settings.lake_data) + '/')}", "OVERRIDE_DATA_PATH TRUE"]
    if snapshot is not None:
        options.append(f"SNAPSHOT_VERSION {int(snapshot)}")
    if read_only:
        options.append("READ_ONLY")
        options.append("CREATE_IF_NOT_EXISTS FALSE")
    return f"ATTACH {literal('ducklake:' + settings.lake_catalog)} AS {alias} ({', '.join(options)})"


def scratch(settings: Settings) -> Path:
    """A folder that no other DuckDB spills into; DuckDB makes it when it has to, and takes it away when it closes.

    Spilled blocks have the same file names in every process, and no lock: two that share a folder read each other's
    blocks as their own, without an error.
    """
    return settings.work_dir / f"{_SPILL}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def sweep(settings: Settings) -> None:
    """Remove what processes of this machine that were killed have spilled."""
    for folder in settings.work_dir.glob(f"{_SPILL}{socket.gethostname()}-*"):
        process = folder.name.split("-")[-2]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def connect(
    settings: Settings, *, read_only: bool = True, snapshot: int | None = None, alias: str = ALIAS
) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB connection with the lake attached and in use.

    read_only: the portal and every query path; only the lease holder opens the lake for writing.
    snapshot: show the lake as of that snapshot id (implies read-only).
    alias: the lake's name on this connection, where another catalog is to be called ``lake``.
    Raises ConfigError when the home has no lake, HomeDamaged when it has lost its catalog, NotFound when the snapshot
    is gone.
    """
    require_catalog(settings)
    return _connect(settings, read_only=read_only, snapshot=snapshot, alias=alias)


def _connect(
    settings: Settings, *, read_only: bool = True, snapshot: int | None = None, alias: str = ALIAS
) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:")
    try:
        load_extensions(con, settings)
        if settings.memory_limit:
            con.execute(f"SET memory_limit = {literal(settings.memory_limit)}")
        if settings.threads:
            con.execute(f"SET threads = {int(settings.threads)}")
        con.execute(f"SET temp_directory = {literal(str(scratch(settings)))}")
        con.execute(attach_sql(settings, read_only=read_only or snapshot is not None, snapshot=snapshot, alias=alias))
        _enter(con, alias)
    except duckdb.Error as error:
        con.close()
        if snapshot is not None and "snapshot" in str(error).lower():
            raise NotFound(
                f"snapshot {snapshot} is not in the lake (it was never written, or has been expired)",
                "see `scoretrace status` for the published snapshot",
            ) from error
        raise ConfigError(
            f"the lake of {settings.home} cannot be opened: {error}",
            "run `scoretrace doctor`; `scoretrace restore BACKUP NEW_HOME` puts the whole home back",
        ) from error
    return con


def session(con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """A session of its own (transaction, temporary tables) on an open connection's DuckDB.

    Opening a DuckDB loads its extensions, half a second each time; a session takes a millisecond.
    """
    cursor = con.cursor()
    _enter(cursor)
    return cursor


@contextmanager
def stopping(con: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """Close a connection at the end, and first stop what may still run on it.

    A time limit or Ctrl-C ends the wait for a query, but not always the query: DuckDB's other threads go on, and
    closing the connection would wait for them, for hours if need be.
    """
    try:
        yield con
    finally:
        con.interrupt()
        con.close()


def _enter(con: duckdb.DuckDBPyConnection, alias: str = ALIAS) -> None:
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"USE {alias}")


def current_snapshot(con: duckdb.DuckDBPyConnection) -> int:
    """Id of the lake's newest snapshot, by whoever it was committed."""
    row = con.execute(f"FROM ducklake_current_snapshot({literal(ALIAS)})").fetchone()
    assert row is not None
    return int(row[0])


def forget_idle_statistics(con: duckdb.DuckDBPyConnection) -> None:
    """Drop the catalog's records of the least and largest value of each feature column in each file.

    Each look-up in any table reads all records of this kind (DuckDB scans a catalog's tables whole, index or not), and
    a night adds hundreds. Files are chosen by day and by subject, never by a feature's value; a file without a record
    is read, and within it Parquet's own statistics hold. con: for writing, outside a transaction.
    """
    catalog = ident(f"__ducklake_metadata_{ALIAS}")
    keys = [*(f"{subject}_id" for subject in SUBJECT_TYPES), "subject_id"]
    con.execute(
        f"""DELETE FROM {catalog}.ducklake_file_column_stats AS stats USING (
                SELECT DISTINCT table_id, column_id FROM {catalog}.ducklake_column
                JOIN {catalog}.ducklake_table USING (table_id) JOIN {catalog}.ducklake_schema USING (schema_id)
                WHERE schema_name IN ('intermediate', 'features')
                  AND column_type <> 'date' AND column_name NOT IN ({literals(keys)})
            ) AS idle
            WHERE stats.table_id = idle.table_id AND stats.column_id = idle.column_id"""
    )


def create(settings: Settings, id_type: str) -> None:
    """Create the lake, its schemas and its tables. Safe to run again: what exists stays as it is.

    id_type: SQL type of the portfolio's ids, BIGINT or VARCHAR. Raises HomeDamaged when there are files of a lake whose
    catalog is gone: an empty one in its place would name none of them, and a clean-up remove them all.
    """
    _require_not_lost(settings)
    for folder in (settings.lake_data, settings.work_dir):
        folder.mkdir(parents=True, exist_ok=True)
    with closing(_connect(settings, read_only=False)) as con:
        con.execute(f"CALL {ALIAS}.set_option('data_inlining_row_limit', 0)")
        # Files are sorted by key: with small row groups a look-up of one account decodes a few pages of each.
        con.execute(f"CALL {ALIAS}.set_option('parquet_row_group_size', {_ROW_GROUP})")
        con.execute("BEGIN")
        for schema in SCHEMAS:
            con.execute(f"CREATE SCHEMA IF NOT EXISTS {ident(ALIAS, schema)}")
        existing = {
            (schema, table)
            for schema, table in con.execute(
                "SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = ?",
                [ALIAS],
            ).fetchall()
        }
        for (schema, table), (ddl, partition) in _tables(id_type).items():
            if (schema, table) not in existing:
                con.execute(f"CREATE TABLE {ident(ALIAS, schema, table)} ({ddl})")
                if partition:
                    con.execute(f"ALTER TABLE {ident(ALIAS, schema, table)} SET PARTITIONED BY ({partition})")
        con.execute("COMMIT")
        for name in _INLINED:
            schema, table = name.split(".")
            if (schema, table) not in existing:
                # A few rows a night: in the catalog itself, or each night would leave dozens of tiny files.
                con.execute(
                    f"CALL {ALIAS}.set_option('data_inlining_row_limit', 1000, "
                    f"schema => {literal(schema)}, table_name => {literal(table)})"
                )
    if settings.lake_catalog.startswith("sqlite:"):
        # Without WAL a reader and the writer fail on each other with "database is locked".
        with closing(sqlite3.connect(settings.lake_catalog.removeprefix("sqlite:"))) as catalog:
            catalog.execute("PRAGMA journal_mode=WAL")


def require_catalog(settings: Settings) -> None:
    """Raises ConfigError when the home has no lake, HomeDamaged when it had one. PostgreSQL's catalog is not asked."""
    _require_not_lost(settings)
    if (path := _catalog_file(settings)) and not path.is_file():
        raise ConfigError(
            f"there is no lake at {path}",
            "run `scoretrace init --portfolio cascade` first, or set SCORETRACE_HOME to an existing home",
        )


def _require_not_lost(settings: Settings) -> None:
    path = _catalog_file(settings)
    if path is None or (path.is_file() and path.stat().st_size):
        return
    # Before a home has its portfolio nothing was ever in its lake: an `init` was killed, and the next one goes on.
    held = (settings.portfolio_dir / "portfolio.yml").is_file()
    if (held and path.is_file()) or next(settings.lake_data.rglob("*.parquet"), None):
        raise HomeDamaged(
            f"the lake's catalog {path} is {'empty' if path.is_file() else 'gone'}; its files are named nowhere else",
            "`scoretrace restore BACKUP NEW_HOME` puts the whole home back; no other catalog is begun in its place",
        )


def _catalog_file(settings: Settings) -> Path | None:
    """The catalog where it is a file."""
    kind, _, place = settings.lake_catalog.partition(":")
    return Path(place) if kind == "sqlite" else None


def _tables(id_type: str) -> dict[tuple[str, str], tuple[str, str]]:
    """(schema, table) → (column DDL, partition column or nothing) of every table that dbt does not build."""
    tables: dict[tuple[str, str], tuple[str, str]] = {}
    for contract in CONTRACTS.values():
        columns = ", ".join(
            f"{ident(c.name)} {c.sql_type(id_type)}{'' if c.nullable else ' NOT NULL'}"
            for c in (*contract.columns, *LANDING_COLUMNS)
        )
        # By month and not by day: three years of nights are then 36 files to look an account up in, once compacted.
        tables["raw", contract.table] = (columns, "year(load_date), month(load_date)")
    for name, ddl in _LEDGER.items():
        schema, table = name.split(".")
        tables[schema, table] = (ddl, "")
    for name, (ddl, partition) in _DRIFT.items():
        tables["drift", name] = (ddl, partition)
    for kind in ("account", "application"):
        key = f"{kind}_id {id_type} NOT NULL, as_of_date DATE NOT NULL"
        tables["scores", f"{kind}_scores"] = (f"{key}, {_SCORE_COLUMNS}", "as_of_date")
        tables["scores", f"{kind}_reasons"] = (f"{key}, {_REASON_COLUMNS}", "as_of_date")
    return tables


# raw.loads: one row per load, its state changed only together with its rows.
# raw.load_log: every state change in order; models remember the last seq they have seen.
# raw.load_months: which event months a load touched, so that an incremental model knows what to rebuild.
# ops.model_state: what an incremental table was last built for, written in the table's own commit.
# training.members: who was in a training set, with label and fold.
_LEDGER = {
    "raw.loads": """
        load_id VARCHAR NOT NULL, table_name VARCHAR NOT NULL, load_date DATE NOT NULL,
        content_sha256 VARCHAR NOT NULL, files STRUCT(file VARCHAR, sha256 VARCHAR, bytes BIGINT)[] NOT NULL,
        rows BIGINT NOT NULL, state VARCHAR NOT NULL, supersedes VARCHAR, landed_at TIMESTAMPTZ NOT NULL,
        decided_at TIMESTAMPTZ, reason VARCHAR""",
    "raw.load_log": "seq BIGINT NOT NULL, load_id VARCHAR NOT NULL, state VARCHAR NOT NULL",
    "raw.load_months": """
        load_id VARCHAR NOT NULL, table_name VARCHAR NOT NULL, load_date DATE NOT NULL,
        event_month DATE NOT NULL, rows BIGINT NOT NULL""",
    "ops.model_state": """
        model VARCHAR NOT NULL, as_of_date DATE NOT NULL, load_seq BIGINT NOT NULL,
        definition_sha256 VARCHAR NOT NULL""",
    "training.members": """
        training_set VARCHAR NOT NULL, subject_id VARCHAR NOT NULL, as_of_date DATE NOT NULL,
        label TINYINT NOT NULL, fold VARCHAR NOT NULL""",
}

# bins and baselines: written once a version. The others: a night's own rows, replaced together. Segments lie apart by
# the split of the book, so that one split is read without the others.
_VERSION = "model_name VARCHAR NOT NULL, model_version INTEGER NOT NULL"
_OF_NIGHT = f"as_of_date DATE NOT NULL, {_VERSION}, dimension VARCHAR NOT NULL, segment VARCHAR NOT NULL"
_STATISTICS = f"""{_OF_NIGHT}, feature VARCHAR NOT NULL, scored_by INTEGER NOT NULL, importance INTEGER,
    against VARCHAR, psi DOUBLE, psi_without_missing DOUBLE, critical DOUBLE, p_value DOUBLE, band VARCHAR NOT NULL,
    significant BOOLEAN NOT NULL, n BIGINT NOT NULL, bins INTEGER NOT NULL, floored BOOLEAN NOT NULL,
    missing_rate DOUBLE, new_category_rate DOUBLE, wasserstein DOUBLE, jensen_shannon DOUBLE,
    launch_psi DOUBLE, launch_p_value DOUBLE"""
_DRIFT = {
    "bins": (
        f"{_VERSION}, feature VARCHAR NOT NULL, kind VARCHAR NOT NULL, bin SMALLINT NOT NULL, label VARCHAR NOT NULL, "
        "upper DOUBLE",
        "",
    ),
    "baselines": (
        f"{_VERSION}, dimension VARCHAR NOT NULL, segment VARCHAR NOT NULL, feature VARCHAR NOT NULL, "
        "bin SMALLINT NOT NULL, rows BIGINT NOT NULL",
        "dimension",
    ),
    "counts": (f"{_OF_NIGHT}, feature VARCHAR NOT NULL, bin SMALLINT NOT NULL, rows BIGINT NOT NULL", "dimension"),
    "statistics": (_STATISTICS, ""),
    "segment_statistics": (_STATISTICS, "dimension"),
    "contributions": (f"{_OF_NIGHT}, feature VARCHAR NOT NULL, mean DOUBLE NOT NULL, n BIGINT NOT NULL", "dimension"),
}
# A page reads ninety nights of these: from the catalog at once, not from ninety files.
_INLINED = (*_LEDGER, "drift.statistics")

_SCORE_COLUMNS = """
    pd DOUBLE NOT NULL, log_odds DOUBLE NOT NULL, score_points INTEGER NOT NULL, grade VARCHAR NOT NULL,
    model_name VARCHAR NOT NULL, model_version INTEGER NOT NULL, model_digest VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL, feature_snapshot BIGINT NOT NULL, scored_at TIMESTAMPTZ NOT NULL"""

_REASON_COLUMNS = """
    rank TINYINT NOT NULL, feature VARCHAR NOT NULL, value DOUBLE, contribution DOUBLE NOT NULL,
    run_id VARCHAR NOT NULL"""
