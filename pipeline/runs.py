"""The run ledger, writing side: what ran, when, over which snapshots, with which verdict.

Every fact is committed when it happens, so a killed run leaves what it had done, and with what counts as
a decision goes its record in the audit log. The next writer marks the dead run ``abandoned``: it holds the lease, so
nobody else can be running.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import subprocess
from collections.abc import Iterable
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, insert, select, update

from pipeline import control
from pipeline.config import REPOSITORY
from pipeline.errors import LeaseHeld, redacted
from pipeline.gates import Verdict
from pipeline.governance import coverage, events
from pipeline.portfolio import Portfolio, files_of

if TYPE_CHECKING:  # dbt takes seconds to import, and only its results are named here
    from pipeline.transform import DbtNode

RUNNING, SUCCEEDED, FAILED, ABANDONED = "running", "succeeded", "failed", "abandoned"
_RECORDED_PACKAGES = ("duckdb", "duckdb-extension-ducklake", "dbt-core", "dbt-duckdb", "lightgbm", "mlflow", "numpy")


def environment(portfolio: Portfolio) -> dict[str, Any]:
    """What a run was made with: code, lock file, portfolio (its files by SHA-256) and package versions."""
    lock = REPOSITORY / "uv.lock"
    return {
        "code": code_version(REPOSITORY),
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "",
        "portfolio": portfolio.name,
        "portfolio_sha256": portfolio.sha256,
        "portfolio_files": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files_of(portfolio.folder)
        },
        **{name: version(name) for name in _RECORDED_PACKAGES},
    }


def code_version(repository: Path) -> str:
    """The commit of a checkout (with ``+changed`` when files differ from it), or the package version."""
    try:
        commit = subprocess.run(
            ["git", "-C", str(repository), "describe", "--always", "--dirty=+changed", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return commit.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"scoretrace {version('scoretrace')}"


class RunLedger:
    """Writes one run's record. Make it with ``start``."""

    def __init__(self, engine: Engine, run_id: str, actor: str) -> None:
        self.engine = engine
        self.run_id = run_id
        self.actor = actor

    @classmethod
    def start(
        cls, engine: Engine, *, kind: str, as_of: date, actor: str, portfolio: Portfolio, snapshot: int
    ) -> RunLedger:
        """Record a new run as running. The caller holds the writer lease: runs still marked running are dead."""
        run_id = f"{as_of:%Y%m%d}-{kind}-{secrets.token_hex(4)}"
        now, made_with = datetime.now(UTC), environment(portfolio)
        runs = control.runs
        with engine.begin() as connection:
            dead = connection.execute(select(runs.c.run_id, runs.c.actor).where(runs.c.status == RUNNING)).all()
            for table in (control.task_attempts, runs):
                connection.execute(
                    update(table)
                    .where(table.c.status == RUNNING)
                    .values(status=ABANDONED, ended_at=now, error="its process ended without a word")
                )
            connection.execute(
                insert(runs).values(
                    run_id=run_id,
                    kind=kind,
                    as_of=as_of,
                    status=RUNNING,
                    started_at=now,
                    actor=actor,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    snapshot_before=snapshot,
                    environment=made_with,
                )
            )
            for row in dead:
                events.run_abandoned(connection, row.run_id, actor, started_by=row.actor, found_by=run_id)
            events.run_started(
                connection, run_id, actor, kind=kind, as_of=as_of, snapshot=snapshot, made_with=made_with
            )
        return cls(engine, run_id, actor)

    def finish(self, status: str, *, snapshot: int | None = None, error: str | None = None) -> None:
        error = redacted(error) if error else error
        with self.engine.begin() as connection:
            connection.execute(
                update(control.runs)
                .where(control.runs.c.run_id == self.run_id)
                .values(status=status, ended_at=datetime.now(UTC), snapshot_after=snapshot, error=error)
            )
            events.run_ended(connection, self.run_id, self.actor, status, snapshot=snapshot, error=error)

    def start_attempt(self, task: str, attempt: int, snapshot: int) -> None:
        """Raises LeaseHeld when the run was taken for dead: another one writes the lake now."""
        with self.engine.begin() as connection:
            self._require_running(connection)
            connection.execute(
                insert(control.task_attempts).values(
                    run_id=self.run_id,
                    task=task,
                    attempt=attempt,
                    status=RUNNING,
                    started_at=datetime.now(UTC),
                    snapshot_before=snapshot,
                )
            )

    def finish_attempt(
        self, task: str, attempt: int, status: str, *, snapshot: int | None = None, rows: int | None = None,
        detail: dict[str, Any] | None = None, error: str | None = None,
    ) -> None:  # fmt: skip
        table = control.task_attempts
        with self.engine.begin() as connection:
            connection.execute(
                update(table)
                .where(table.c.run_id == self.run_id, table.c.task == task, table.c.attempt == attempt)
                .values(
                    status=status,
                    ended_at=datetime.now(UTC),
                    snapshot_after=snapshot,
                    rows=rows,
                    detail=detail,
                    error=error,
                )
            )

    def add_verdicts(self, verdicts: Iterable[Verdict]) -> None:
        judged = list(verdicts)
        if judged:
            with self.engine.begin() as connection:
                connection.execute(insert(control.gate_verdicts), [{"run_id": self.run_id, **vars(v)} for v in judged])
                events.gates_judged(connection, self.run_id, self.actor, judged)

    def add_dbt_results(self, nodes: Iterable[DbtNode]) -> None:
        columns = [c.name for c in control.dbt_results.columns if c.name not in ("id", "run_id")]
        rows = [{"run_id": self.run_id, **{c: getattr(n, c) for c in columns}} for n in nodes]
        if rows:
            with self.engine.begin() as connection:
                connection.execute(insert(control.dbt_results), rows)

    def publish(self, **values: Any) -> None:
        """Move the pointer: from this commit on, readers attach the lake at the new snapshot.

        Raises LeaseHeld, and moves nothing, when the run was taken for dead meanwhile.
        """
        with self.engine.begin() as connection:
            self._require_running(connection)
            made = insert(control.publications).values(run_id=self.run_id, published_at=datetime.now(UTC), **values)
            key = connection.execute(made).inserted_primary_key
            covered = coverage.of(connection, control.publications, key or ())
            events.night_published(connection, self.run_id, self.actor, values, covered)

    def _require_running(self, connection: Connection) -> None:
        """A lease on a server lasts as long as its connection. Whoever takes it over marks the runs before as dead."""
        r = control.runs.c
        status = connection.scalar(select(r.status).where(r.run_id == self.run_id).with_for_update())
        if status != RUNNING:
            raise LeaseHeld(
                f"run {self.run_id} is {status}: another run has taken over the writer lease meanwhile",
                "look at that one with `scoretrace status`; what is published stands",
            )
