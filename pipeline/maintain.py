"""Maintenance of the lake: snapshots end as retention says, small files become large ones, files of neither go.

None of it changes a row, a row's permanent name, or what a promised snapshot shows: a replay before and after gives the
same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
from sqlalchemy import Engine, select

from pipeline import control, dag, lake, lake_files, ledger, retention
from pipeline.config import Settings
from pipeline.dag import Graph, Task, TaskResult
from pipeline.governance import guard
from pipeline.governance.access import Actor
from pipeline.nightly import Work, run_of
from pipeline.portfolio import Portfolio
from pipeline.registry import Registry
from pipeline.retention import Plan
from pipeline.sql import literal

RECENT = timedelta(days=7)
"""Snapshots younger than this stay, promised or not: somebody may be reading them, or looking for what went wrong."""
GRACE = timedelta(days=1)
"""How long files that nothing names any more stay, for readers who opened the lake before; those of killed runs too."""
_MOSTLY_DELETED = 0.25  # a carried table's file is written anew once this share of its rows has been made again
_KEEPS_DELETED_ROWS = ("intermediate", "features")
_LIE_IN_THE_CATALOG = ("drift", "outcomes")  # a night's few rows do; what they come to is read whole at each question


@dataclass(frozen=True)
class Maintained:
    """What was done: snapshots ended, files before and after, bytes set free."""

    run_id: str
    expired: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


def plan(settings: Settings, engine: Engine, portfolio: Portfolio, *, recent: timedelta = RECENT) -> Plan:
    """What a maintenance would end now; changes nothing. recent: snapshots younger than this stay."""
    now = datetime.now(UTC)
    with lake.stopping(lake.connect(settings)) as con:
        rows = con.execute(
            f"SELECT snapshot_id, snapshot_time FROM ducklake_snapshots({literal(lake.ALIAS)})"
        ).fetchall()
    snapshots = {int(id_): made_at for id_, made_at in rows}
    publications = ledger.publications(engine, superseded=True)  # what a customer got before a correction, too
    return retention.plan(
        portfolio.retention,
        now.astimezone(ZoneInfo(portfolio.timezone)).date(),
        publications,
        snapshots.keys(),
        {max(snapshots)}
        | {s for s, made_at in snapshots.items() if made_at > now - recent}
        | _trained_on(settings, engine, portfolio),
        {p.id: ledger.last_snapshot(engine, p.run_id) or p.snapshot_id for p in publications},
    )


def maintain(
    settings: Settings,
    engine: Engine,
    portfolio: Portfolio,
    ending: Plan,
    *,
    actor: Actor,
    grace: timedelta = GRACE,
    progress: Callable[[str], None] = lambda _: None,
) -> Maintained:
    """Do what ``ending`` says, merge files and remove what nothing names any more. Recorded as a run.

    grace: how long unnamed files stay. Raises AccessDenied, LeaseHeld while a night runs.
    """
    guard.require(engine, actor, "run.maintain", "lake:files")
    today = datetime.now(ZoneInfo(portfolio.timezone)).date()
    files_before, bytes_before = _extent(settings)
    with run_of(settings, portfolio, engine, today, "maintain", actor.name, progress) as work:
        dag.run(_graph(ending, grace), work, work.ledger, snapshot=work.snapshot, progress=work.progress)
    files_after, bytes_after = _extent(settings)
    return Maintained(work.ledger.run_id, len(ending.expire), files_before, files_after, bytes_before, bytes_after)


def _graph(ending: Plan, grace: timedelta) -> Graph[Work]:
    def check(work: Work) -> TaskResult:
        # A merge writes anew what it reads: a wrong number would get a digest of its own, and the old file go.
        lake_files.require_all_whole(work.settings, work.engine)
        return TaskResult()

    def expire(work: Work) -> TaskResult:
        if ending.expire:
            with work.session() as con:
                con.execute(f"CALL ducklake_expire_snapshots({literal(lake.ALIAS)}, versions => {list(ending.expire)})")
        return TaskResult(
            len(ending.expire),
            {"snapshots": len(ending.expire), "nights": [p.as_of.isoformat() for p in ending.ending]},
        )

    def merge(work: Work) -> TaskResult:
        with work.session() as con:
            for schema, table in _tables(con):
                if schema in _LIE_IN_THE_CATALOG:
                    con.execute(
                        f"CALL ducklake_flush_inlined_data({literal(lake.ALIAS)}, table_name => {literal(table)}, "
                        f"schema_name => {literal(schema)})"
                    )
                if schema in _KEEPS_DELETED_ROWS:
                    con.execute(
                        f"CALL ducklake_rewrite_data_files({literal(lake.ALIAS)}, {literal(table)}, "
                        f"schema => {literal(schema)}, delete_threshold => {_MOSTLY_DELETED})"
                    )
                con.execute(
                    f"CALL ducklake_merge_adjacent_files({literal(lake.ALIAS)}, {literal(table)}, "
                    f"schema => {literal(schema)})"
                )
        return TaskResult()

    def clean(work: Work) -> TaskResult:
        older = datetime.now(UTC) - grace
        with work.session() as con:
            ended, orphaned = (
                con.execute(f"CALL {cleanup}({literal(lake.ALIAS)}, older_than => {literal(older)})").fetchall()
                for cleanup in ("ducklake_cleanup_old_files", "ducklake_delete_orphaned_files")
            )
        return TaskResult(len(ended) + len(orphaned), {"files": len(ended), "of_killed_runs": len(orphaned)})

    return Graph(
        "maintain",
        (
            Task("check", check, timeout=4 * 3600),
            Task("expire", expire, ("check",), retries=1, timeout=1800),
            Task("merge", merge, ("expire",), retries=1, timeout=4 * 3600),
            Task("clean", clean, ("merge",), retries=1, timeout=1800),
        ),
    )


def _tables(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    return con.execute(
        "SELECT table_schema, table_name FROM information_schema.tables "
        "WHERE table_catalog = ? AND table_type = 'BASE TABLE' ORDER BY ALL",
        [lake.ALIAS],
    ).fetchall()


def _trained_on(settings: Settings, engine: Engine, portfolio: Portfolio) -> set[int]:
    """Snapshots of training runs, and of versions: a run that was killed in between is on record by its second try."""
    registry = Registry(settings)
    versions = {v.snapshot_id for m in portfolio.models for v in registry.versions(m.name)}
    with engine.connect() as connection:
        return versions | set(connection.execute(select(control.training_runs.c.snapshot_id)).scalars())


def _extent(settings: Settings) -> tuple[int, int]:
    """Files that the catalog names, and their bytes."""
    files = lake_files.named_in(settings.lake_catalog)
    return len(files), sum(f.bytes for f in files)
