"""The control store: runs, tasks, verdicts, publications, users, the audit log. Small, transactional, many writers.

SQLAlchemy Core over SQLite in WAL mode, or PostgreSQL by URL. This module holds the tables and the
engine; ``runs`` writes the ledger and ``ledger`` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    inspect,
)

from pipeline.config import Settings
from pipeline.errors import ConfigError, HomeDamaged
from pipeline.governance import append_only

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("kind", String(20), nullable=False),  # nightly, retrain, land, …
    Column("as_of", Date, nullable=False),
    Column("status", String(20), nullable=False),  # running, succeeded, failed, abandoned
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("actor", String(200), nullable=False),
    Column("host", String(200), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("snapshot_before", Integer),
    Column("snapshot_after", Integer),
    Column("environment", JSON, nullable=False),  # code, lock-file, portfolio and package hashes
    Column("error", Text),
)

task_attempts = Table(
    "task_attempts",
    metadata,
    Column("run_id", String(32), ForeignKey("runs.run_id"), primary_key=True),
    Column("task", String(60), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("status", String(20), nullable=False),  # running, succeeded, failed, abandoned
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("snapshot_before", Integer),
    Column("snapshot_after", Integer),
    Column("rows", Integer),
    Column("detail", JSON),
    Column("error", Text),
)

gate_verdicts = Table(
    "gate_verdicts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(32), ForeignKey("runs.run_id"), nullable=False, index=True),
    Column("gate", String(60), nullable=False),  # fresh, volume, unique, nulls, categories, known_account, …
    Column("subject", String(200), nullable=False),  # table, table.column or model
    Column("verdict", String(10), nullable=False),  # pass, warn, fail
    Column("observed", Float),
    Column("expected", String(200), nullable=False),  # the bound, in words with its figures
    Column("message", Text, nullable=False),
)

dbt_results = Table(
    "dbt_results",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(32), ForeignKey("runs.run_id"), nullable=False, index=True),
    Column("unique_id", String(400), nullable=False),
    Column("resource_type", String(20), nullable=False),  # model, test
    Column("model", String(200), nullable=False),  # for a test: the model it is attached to
    Column("column", String(200)),
    Column("status", String(20), nullable=False),  # success, pass, warn, fail, error, skipped
    Column("failures", Integer),
    Column("seconds", Float, nullable=False),
    Column("message", Text),
    Column("executed_sha256", String(64)),  # compiled SQL as it ran, in the archive
    Column("definition_sha256", String(64)),  # the model's whole definition at this as-of date, in the archive
)

publications = Table(
    "publications",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),  # the newest is what readers see
    Column("as_of", Date, nullable=False, index=True),
    Column("run_id", String(32), ForeignKey("runs.run_id"), nullable=False),
    Column("snapshot_id", Integer, nullable=False),  # readers attach the lake at this snapshot
    Column("published_at", DateTime(timezone=True), nullable=False),
    Column("accounts", Integer, nullable=False),
    Column("applications", Integer, nullable=False),
    Column("content_sha256", String(64), nullable=False),
    Column("models", JSON, nullable=False),  # [{"name", "version", "digest", "subject", "rows"}]
    Column("features", Integer, nullable=False),
    Column("sla_due", DateTime(timezone=True)),
    Column("sla_met", Boolean),
)
append_only.protect(publications)

training_runs = Table(
    "training_runs",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(32), ForeignKey("runs.run_id"), nullable=False),
    Column("model_name", String(200), nullable=False, index=True),
    Column("as_of", Date, nullable=False),
    Column("outcome", String(20), nullable=False),  # registered, not_better, below_floor
    Column("model_version", Integer),
    Column("model_digest", String(64)),
    Column("incumbent_version", Integer),
    Column("training_set", String(64), nullable=False),  # SHA-256 of the canonical training set
    Column("snapshot_id", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("checks", JSON, nullable=False),  # [{"check", "passed", "observed", "bound"}]
    Column("finished_at", DateTime(timezone=True), nullable=False),
)
append_only.protect(training_runs)

comparisons = Table(
    "comparisons",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(32), ForeignKey("runs.run_id"), nullable=False),
    Column("model_name", String(200), nullable=False, index=True),
    Column("challenger_version", Integer),  # None: the candidate was not registered
    Column("challenger_digest", String(64), nullable=False),
    Column("champion_version", Integer),  # None: there was nobody to compare with
    Column("champion_digest", String(64)),
    Column("sha256", String(64), nullable=False),  # of the document, in the archive
    Column("made_at", DateTime(timezone=True), nullable=False),
)
append_only.protect(comparisons)

audit_log = Table(
    "audit_log",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),  # 1, 2, 3, …
    Column("at", String(40), nullable=False),  # ISO text in UTC: its bytes are hashed
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),  # dotted: run.started, promotion.recorded
    Column("subject", Text, nullable=False, index=True),  # model:pd_default/3, run:ID, account:ID
    Column("detail", Text, nullable=False),  # canonical JSON
    Column("prev_sha256", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),  # of the canonical JSON of all other fields
)
append_only.protect(audit_log)

user_events = Table(
    "user_events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("user_name", String(64), nullable=False, index=True),  # empty: a sign-in with a name that nobody has
    Column("kind", String(20), nullable=False),  # added, password_set, rehashed, roles_set, disabled, enabled, …
    Column("at", DateTime(timezone=True), nullable=False),
    Column("by", String(200), nullable=False),
    Column("roles", JSON),  # of added and roles_set
    Column("password_hash", Text),  # of password_set and rehashed: argon2 with its parameters and salt
)
_added = user_events.c.kind == "added"
Index("user_added_once", user_events.c.user_name, unique=True, sqlite_where=_added, postgresql_where=_added)
append_only.protect(user_events)

hook_cursors = Table(
    "hook_cursors",
    metadata,
    Column("receiver", String(60), primary_key=True),
    Column("delivered", BigInteger, nullable=False),  # number of the last record of the audit log that was delivered
    Column("claimed_until", DateTime(timezone=True)),  # a process is delivering; past that moment it is held dead
    Column("claimed_by", String(40)),
)

hook_attempts = Table(
    "hook_attempts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("receiver", String(60), nullable=False, index=True),
    Column("seq", BigInteger, nullable=False),  # record of the audit log
    Column("at", DateTime(timezone=True), nullable=False),
    Column("delivered", Boolean, nullable=False),
    Column("status", Integer),  # of the HTTP answer; None when there was none
    Column("error", Text),
)

lake_files = Table(
    "lake_files",
    metadata,
    Column("path", String(400), primary_key=True),  # below the lake's data folder; DuckLake names each file once
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
)
append_only.protect(lake_files)

lease = Table(
    "lease",
    metadata,
    Column("name", String(60), primary_key=True),
    Column("holder", String(300), nullable=False),
    Column("acquired_at", DateTime(timezone=True), nullable=False),
)


def ordering(keys: Mapping[str, ColumnElement[Any]], order: str) -> ColumnElement[Any]:
    """One of the keys as an ORDER BY takes it; with ``-`` before its name the largest first."""
    key = keys[order.removeprefix("-")]
    return key.desc() if order.startswith("-") else key.asc()


def open_store(settings: Settings) -> Engine:
    """Engine of the control store. SQLite runs in WAL mode, waits 30 s on a lock and keeps foreign keys."""
    engine = create_engine(settings.control_url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _pragmas(connection, _record) -> None:  # type: ignore[no-untyped-def]
            for pragma in ("journal_mode=WAL", "busy_timeout=30000", "foreign_keys=ON", "synchronous=FULL"):
                connection.execute(f"PRAGMA {pragma}")

    return engine


def require_log(engine: Engine, home: Path) -> None:
    """Raise ConfigError where the other tables are there and the audit log is not: it was dropped, not never made."""
    present = set(inspect(engine).get_table_names())
    if audit_log.name not in present and present & set(metadata.tables):
        raise ConfigError(
            f"the control store of {home} has lost its audit log: the table {audit_log.name} is gone, and others are "
            "there",
            "restore the control store from a backup; no other log is begun in its place",
        )


def require_store(settings: Settings) -> None:
    """Raises HomeDamaged when the control store is gone or empty and the lake is there: it was lost, not never made."""
    kind, _, place = settings.control_url.partition(":///")
    path = Path(place)
    if kind != "sqlite" or (path.is_file() and path.stat().st_size):
        return
    if next(settings.lake_data.rglob("*.parquet"), None):
        raise HomeDamaged(
            f"the control store {path} is {'empty' if path.is_file() else 'gone'}, and with it every night's records",
            "`scoretrace restore BACKUP NEW_HOME` puts the whole home back; no other log is begun in its place",
        )


def create(settings: Settings) -> Engine:
    """Create the tables that are missing. Safe to run again. Raises ConfigError when the audit log was dropped,
    HomeDamaged when the store was lost."""
    require_store(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    engine = open_store(settings)
    require_log(engine, settings.home)
    metadata.create_all(engine)
    return engine
