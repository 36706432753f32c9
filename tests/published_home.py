"""A small home with a history, written into the real stores: what the portal's tests read.

``build`` makes five weeks of nights of a tiny book through the control store's tables and the lake's own
tables. Nothing of the pipeline runs, so it takes seconds. Run as a script it makes a home to look at:
``python -m tests.published_home FOLDER``.
"""

from __future__ import annotations

import hashlib
import sys
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from sqlalchemy import Engine, insert

from pipeline import control, lake, portfolio
from pipeline.config import Settings
from tests import audit_history
from tests.conftest import made_once

LAST = date(2026, 3, 14)
ZONE = ZoneInfo("Europe/Vienna")
ACCOUNTS = 300
NIGHTS = 35
FIRST_ID = 1_048_000
CHANGED_ON = LAST - timedelta(days=12)  # version 31 took over
GATE_FAILED_ON = LAST - timedelta(days=19)  # never published
LATE_ON = LAST - timedelta(days=8)

_PORTFOLIO = """\
name: harbour
title: Harbour Lending
id_type: bigint
calendar: daily
timezone: Europe/Vienna
currency: EUR
sla: {due: "06:00"}
label: {events: [default], horizon_months: 12}
extracts:
  statements: {columns: {account_id: BIGINT}}
models:
  pd_default: {subject: account}
  pd_application: {subject: application}
grades: {A: 0.01, B: 0.02, C: 0.04, D: 0.08, E: 0.16, F: 0.3, G: 1.0}
"""

_TASKS = (
    ("land", 12.4, 1243), ("gate", 3.1, 31), ("features", 58.0, 300), ("score", 4.2, 312), ("publish", 2.0, 312),
    ("monitor", 1.4, 312),
)  # fmt: skip
_GATES = (
    ("fresh", "loan_servicing", 0.0, "at most 3 days old", "newest row is 0 days old"),
    ("volume", "loan_servicing", 1243.0, "0.5 to 2.0 of the trailing median", "1 243 rows, 1.02 of the median"),
    ("unique", "loan_servicing", 0.0, "0 duplicate keys", "no key occurs twice"),
    ("nulls", "bureau_pull.bureau_score", 0.004, "at most 0.020 above the trailing mean", "1.2% null, was 0.8%"),
    ("categories", "loan_servicing.status", 0.0, "0 unknown", "every value is in the contract"),
    ("known_account", "payments_ledger", 0.0, "0 rows", "every payment is of a known account"),
)


def settings_for(home: Path) -> Settings:
    return Settings.at(home, memory_limit="1GB", threads=1)


def shared(factory: pytest.TempPathFactory) -> Path:
    """The home with every night, made once a run. Copy it before changing it."""

    def make(folder: Path) -> str:
        build(folder / "home")
        return ""

    return made_once(factory, "history", make)[0] / "home"


def build(home: Path, *, nights: int = NIGHTS, failed_last: bool = False) -> Settings:
    """Make a home with ``nights`` nights up to 14 March 2026.

    failed_last: a run of the 15th failed at the gate after the 14th was published.
    """
    settings = settings_for(home)
    settings.portfolio_dir.mkdir(parents=True)
    (settings.portfolio_dir / "portfolio.yml").write_text(_PORTFOLIO, encoding="utf-8")
    (settings.portfolio_dir / "loan_servicing.sql").write_text("SELECT 1", encoding="utf-8")
    book = portfolio.load(settings.portfolio_dir)
    lake.create(settings, book.id_type)
    engine = control.create(settings)
    _promote(engine)
    with closing(lake.connect(settings, read_only=False)) as con:
        for back in range(nights - 1, -1, -1):
            _night(settings, engine, con, book, LAST - timedelta(days=back))
    if failed_last:
        fail_night(engine, LAST + timedelta(days=1))
    return settings


def fail_night(engine: Engine, as_of: date) -> None:
    """Record a run that a gate stopped."""
    run_id = f"{as_of:%Y%m%d}-nightly-{_hex('failed', as_of)[:8]}"
    started = _local(as_of + timedelta(days=1), time(4, 55, 2))
    message = (
        "gate volume failed on loan_servicing: 118 rows, 0.09 of the trailing median (0.5 to 2.0 allowed)"
        f"\n  next: ask for the complete extract, then run `scoretrace nightly --as-of {as_of}` again"
    )
    with engine.begin() as db:
        db.execute(insert(control.runs), _run(run_id, as_of, "failed", started, 16.0, message))
        db.execute(
            insert(control.task_attempts),
            [
                _attempt(run_id, "land", 1, "succeeded", started, 11.9, 118, None),
                _attempt(run_id, "gate", 1, "failed", started + timedelta(seconds=12), 2.2, None, message),
            ],
        )
        db.execute(
            insert(control.gate_verdicts),
            [
                _gate(run_id, *g, "pass")
                if g[0] != "volume"
                else _gate(run_id, *g[:2], 118.0, g[3], "118 rows, 0.09 of the trailing median", "fail")
                for g in _GATES
            ],
        )


def _promote(engine: Engine) -> None:
    rows = [
        ("pd_default", 30, None, "first version of the year", LAST - timedelta(days=60)),
        ("pd_default", 31, 30, "AUC +0.011, calibration kept", CHANGED_ON - timedelta(days=1)),
        ("pd_application", 4, None, "first application model", LAST - timedelta(days=60)),
    ]
    for name, version, replaces, reason, day in sorted(rows, key=lambda row: row[4]):
        digest, moment = _hex(name, version), _local(day, time(16, 2))
        audit_history.write(
            engine,
            audit_history.promoted(moment, name, version, digest, replaces=replaces, signer="m.okafor", reason=reason),
        )


def _night(
    settings: Settings, engine: Engine, con: duckdb.DuckDBPyConnection, book: portfolio.Portfolio, as_of: date
) -> None:
    version = 31 if as_of >= CHANGED_ON else 30
    if as_of == GATE_FAILED_ON:
        fail_night(engine, as_of)
        return
    backfilled = as_of <= LAST - timedelta(days=30)
    morning = as_of + timedelta(days=1)
    started = _local(morning, time(4, 52)) if not backfilled else _local(LAST - timedelta(days=28), time(9, 3))
    if as_of == LATE_ON:
        started = _local(morning, time(5, 59, 30))
    run_id = f"{as_of:%Y%m%d}-nightly-{_hex('night', as_of)[:8]}"
    scored_at = started + timedelta(seconds=74)
    applications = 6 + as_of.toordinal() % 9
    _score(con, as_of, "account", ACCOUNTS, "pd_default", version, run_id, scored_at)
    _score(con, as_of, "application", applications, "pd_application", 4, run_id, scored_at)
    snapshot = lake.current_snapshot(con)
    with engine.begin() as db:
        db.execute(insert(control.runs), _run(run_id, as_of, "succeeded", started, 80.0, None))
        moment = published_at = started
        for task, seconds, rows in _TASKS:
            if task == "features" and as_of.day == 14:
                db.execute(
                    insert(control.task_attempts),
                    _attempt(
                        run_id, task, 1, "failed", moment, 6.0, None, "dbt could not build stg_payments: disk busy"
                    ),
                )
                moment += timedelta(seconds=6)
                db.execute(
                    insert(control.task_attempts), _attempt(run_id, task, 2, "succeeded", moment, seconds, rows, None)
                )
            else:
                db.execute(
                    insert(control.task_attempts), _attempt(run_id, task, 1, "succeeded", moment, seconds, rows, None)
                )
            moment += timedelta(seconds=seconds)
            if task == "publish":
                published_at = moment
        db.execute(
            insert(control.gate_verdicts),
            [_gate(run_id, *g, "warn" if g[0] == "nulls" and as_of.day % 7 == 0 else "pass") for g in _GATES],
        )
        db.execute(insert(control.dbt_results), list(_dbt(run_id, as_of)))
        due = book.due(as_of)
        db.execute(
            insert(control.publications),
            {
                "as_of": as_of,
                "run_id": run_id,
                "snapshot_id": snapshot,
                "published_at": published_at.astimezone(UTC),
                "accounts": ACCOUNTS,
                "applications": applications,
                "content_sha256": _hex("content", as_of),
                "models": [
                    _scored("pd_default", version, "account", ACCOUNTS),
                    _scored("pd_application", 4, "application", applications),
                ],
                "features": 143,
                "sla_due": due.astimezone(UTC),
                "sla_met": published_at <= due,
            },
        )


def _score(
    con: duckdb.DuckDBPyConnection,
    as_of: date,
    subject: str,
    rows: int,
    model: str,
    version: int,
    run_id: str,
    scored_at: datetime,
) -> None:
    """Scores that drift a little each night; the ids of applications are new each night."""
    first = FIRST_ID if subject == "account" else as_of.toordinal() * 100
    level = -3.6 + 0.15 * (version - 30) + 0.004 * ((as_of - LAST).days + 30)
    con.execute("BEGIN")
    con.execute(
        f"""
        INSERT INTO lake.scores.{subject}_scores
        WITH subject AS (
            SELECT {first} + i AS id,
                ?::DOUBLE + 2.4 * ((hash(i) % 1000) / 1000.0 - 0.5) + 1.6 * ((hash(i * 7) % 1000) / 1000.0 - 0.5)
                + 0.25 * sin(i + epoch(?::TIMESTAMP) / 86400 / 3)
                + CASE WHEN (i + ?) % 97 = 0 THEN 0.9 ELSE 0 END AS log_odds
            FROM range(?) AS r(i)
        )
        SELECT id, ?::DATE, 1 / (1 + exp(-log_odds)), log_odds, (600 - 57.7 * (log_odds + 3.4))::INTEGER,
            CASE WHEN log_odds <= ln(0.01/0.99) THEN 'A' WHEN log_odds <= ln(0.02/0.98) THEN 'B'
                 WHEN log_odds <= ln(0.04/0.96) THEN 'C' WHEN log_odds <= ln(0.08/0.92) THEN 'D'
                 WHEN log_odds <= ln(0.16/0.84) THEN 'E' WHEN log_odds <= ln(0.3/0.7) THEN 'F' ELSE 'G' END,
            ?, ?, ?, ?, 1, ?::TIMESTAMPTZ
        FROM subject
        """,
        [level, as_of, as_of.toordinal(), rows, as_of, model, version, _hex(model, version), run_id, scored_at],
    )
    if subject == "application":
        con.execute(
            f"""
            INSERT INTO lake.scores.application_reasons
            SELECT {first} + i, ?::DATE, rank, feature, value, contribution * (1 + 0.1 * (i % 3)), ?
            FROM range(?) AS r(i), (VALUES
                (1, 'dti', 0.44, 0.41), (2, 'inquiries_6m', 5, 0.27), (3, 'bureau_score_last', 712, -0.22),
                (4, 'employment_months', NULL, 0.12), (5, 'amount_to_income', 0.31, -0.08)
            ) AS reason(rank, feature, value, contribution)
            """,
            [as_of, run_id, rows],
        )
    con.execute("COMMIT")


def _dbt(run_id: str, as_of: date) -> list[dict[str, Any]]:
    results = []
    for i in range(12):
        results.append(_node(run_id, f"model.scoretrace.feat_{i}", "model", f"feat_{i}", None, "success", None, 1.1))
    for i in range(60):
        model = f"feat_{i % 12}"
        warned = i == 17 and as_of.day % 5 == 4
        results.append(
            _node(
                run_id,
                f"test.scoretrace.not_null_{model}_{i}",
                "test",
                model,
                "account_id",
                "warn" if warned else "pass",
                3 if warned else 0,
                0.06,
            )
        )
    return results


def _node(
    run_id: str, uid: str, kind: str, model: str, column: str | None, status: str, failures: int | None, seconds: float
) -> dict[str, Any]:
    message = f"Got {failures} results, configured to warn if != 0" if status == "warn" else None
    return {
        "run_id": run_id,
        "unique_id": uid,
        "resource_type": kind,
        "model": model,
        "column": column,
        "status": status,
        "failures": failures,
        "seconds": seconds,
        "message": message,
        "executed_sha256": _hex(uid),
        "definition_sha256": _hex(model),
    }


def _run(run_id: str, as_of: date, status: str, started: datetime, seconds: float, error: str | None) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "kind": "nightly",
        "as_of": as_of,
        "status": status,
        "started_at": started.astimezone(UTC),
        "ended_at": (started + timedelta(seconds=seconds)).astimezone(UTC),
        "actor": "pipeline",
        "host": "night-1",
        "pid": 4242,
        "snapshot_before": 1,
        "snapshot_after": 2,
        "environment": {"lock_sha256": _hex("lock")},
        "error": error,
    }


def _attempt(
    run_id: str, task: str, n: int, status: str, started: datetime, seconds: float, rows: int | None, error: str | None
) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "task": task,
        "attempt": n,
        "status": status,
        "started_at": started.astimezone(UTC),
        "ended_at": (started + timedelta(seconds=seconds)).astimezone(UTC),
        "rows": rows,
        "detail": None,
        "error": error,
    }


def _gate(
    run_id: str, gate: str, subject: str, observed: float, expected: str, message: str, verdict: str
) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "gate": gate,
        "subject": subject,
        "verdict": verdict,
        "observed": observed,
        "expected": expected,
        "message": message,
    }


def _scored(name: str, version: int, subject: str, rows: int) -> dict[str, Any]:
    return {"name": name, "version": version, "digest": _hex(name, version), "subject": subject, "rows": rows}


def _local(day: date, at: time) -> datetime:
    """Local clock time of the portfolio, as UTC: the control store keeps UTC."""
    return datetime.combine(day, at, ZONE).astimezone(UTC)


def _hex(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


if __name__ == "__main__":
    build(Path(sys.argv[1]), failed_last="--failed-last" in sys.argv)
