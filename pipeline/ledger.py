"""Reads of the control store: what ran, what was judged, what readers may see. ``runs`` writes it.

Every function returns frozen facts and takes the engine first. Times come back with their zone (UTC):
SQLite keeps none, and the store is written in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, Select, case, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from pipeline import control
from pipeline.config import Settings
from pipeline.errors import ConfigError, NotFound
from pipeline.governance.promotion_log import LetScore, let_score

NIGHT_KINDS = ("nightly", "backfill")
_INIT = "run `scoretrace init --portfolio cascade` first, or set SCORETRACE_HOME to an existing home"


class Sla(StrEnum):
    """How a night stands to its promise. A run that started after the scores were due is a backfill, not a miss."""

    MET = "met"
    MISSED = "missed"
    BACKFILLED = "backfilled"
    NONE = "none"


@dataclass(frozen=True)
class ScoredModel:
    """A model that scored a published night, and how many subjects."""

    name: str
    version: int
    digest: str
    subject: str
    rows: int


@dataclass(frozen=True)
class Publication:
    """One published night. Readers of it attach the lake at ``snapshot_id``."""

    id: int
    as_of: date
    run_id: str
    snapshot_id: int
    published_at: datetime
    accounts: int
    applications: int
    content_sha256: str
    models: tuple[ScoredModel, ...]
    features: int
    sla_due: datetime | None
    sla_met: bool | None


@dataclass(frozen=True)
class Run:
    """One run of the pipeline. ``error`` is the message as the user saw it, its next step included."""

    run_id: str
    kind: str
    as_of: date
    status: str
    started_at: datetime
    ended_at: datetime | None
    actor: str
    host: str
    pid: int
    snapshot_before: int | None
    snapshot_after: int | None
    environment: dict[str, Any]
    error: str | None

    @property
    def failed(self) -> bool:
        return self.status in ("failed", "abandoned")

    @property
    def seconds(self) -> float | None:
        """Wall time; None while it runs, and of one whose process died: when, nobody knows."""
        return _wall(self.started_at, self.ended_at, self.status)

    @property
    def message(self) -> str:
        """The error without its next step."""
        return (self.error or "").partition("\n  next: ")[0].strip()

    @property
    def next_step(self) -> str:
        return (self.error or "").partition("\n  next: ")[2].strip()


@dataclass(frozen=True)
class TaskAttempt:
    """One attempt of one task of a run."""

    run_id: str
    task: str
    attempt: int
    status: str
    started_at: datetime
    ended_at: datetime | None
    snapshot_before: int | None
    snapshot_after: int | None
    rows: int | None
    detail: dict[str, Any] | None
    error: str | None

    @property
    def seconds(self) -> float | None:
        """Wall time; None while it runs, and of one whose process died: when, nobody knows."""
        return _wall(self.started_at, self.ended_at, self.status)


def _wall(started: datetime, ended: datetime | None, status: str) -> float | None:
    return None if ended is None or status == "abandoned" else (ended - started).total_seconds()


@dataclass(frozen=True)
class GateVerdict:
    """One gate's verdict on one subject (table, table.column or model), with its figures."""

    id: int
    run_id: str
    gate: str
    subject: str
    verdict: str
    observed: float | None
    expected: str
    message: str


@dataclass(frozen=True)
class DbtResult:
    """One dbt node of a run: a model built or a data test."""

    id: int
    run_id: str
    unique_id: str
    resource_type: str
    model: str
    column: str | None
    status: str
    failures: int | None
    seconds: float
    message: str | None
    executed_sha256: str | None
    definition_sha256: str | None


@dataclass(frozen=True)
class DbtTotals:
    """Counts of a run's dbt nodes. ``failed`` counts tests that failed or could not run."""

    models: int
    models_failed: int
    passed: int
    warned: int
    failed: int
    skipped: int
    seconds: float


@dataclass(frozen=True)
class Night:
    """One as-of date: its newest publication, if any, its newest run, and how it kept its SLA.

    The SLA is judged on the first publication of the date: publishing it again later does not undo a promise kept.
    """

    as_of: date
    publication: Publication | None
    run: Run | None
    sla: Sla
    landed_at: datetime | None


def open_ledger(settings: Settings) -> Engine:
    """Engine of an existing control store; never creates one. Raises ConfigError when the home has none."""
    control.require_store(settings)
    if settings.control_url.startswith("sqlite:///"):
        path = Path(settings.control_url.removeprefix("sqlite:///"))
        if not path.is_file():
            raise ConfigError(f"there is no Scoretrace home at {settings.home}: {path.name} is missing", _INIT)
    engine = control.open_store(settings)
    try:
        present = set(inspect(engine).get_table_names())
    except SQLAlchemyError as error:
        raise ConfigError(f"the control store of {settings.home} cannot be opened: {error}", _INIT) from error
    control.require_log(engine, settings.home)
    if missing := sorted(set(control.metadata.tables) - present):
        raise ConfigError(f"the control store of {settings.home} lacks the tables {', '.join(missing)}", _INIT)
    return engine


def latest_publication(engine: Engine) -> Publication | None:
    """The newest publication of the newest published as-of date: what a reader sees who asks for no date."""
    p = control.publications
    row = _first(engine, select(p).order_by(p.c.as_of.desc(), p.c.id.desc()).limit(1))
    return _publication(row) if row else None


def publication_for(engine: Engine, as_of: date) -> Publication | None:
    """The newest publication of one as-of date."""
    p = control.publications
    row = _first(engine, select(p).where(p.c.as_of == as_of).order_by(p.c.id.desc()).limit(1))
    return _publication(row) if row else None


def publication(engine: Engine, id_: int) -> Publication:
    """One publication by its number. Raises NotFound."""
    row = _first(engine, select(control.publications).where(control.publications.c.id == id_))
    if row is None:
        raise NotFound(f"there is no publication {id_}", "`scoretrace status` names the published runs")
    return _publication(row)


def publications(
    engine: Engine, since: date | None = None, until: date | None = None, *, superseded: bool = False
) -> tuple[Publication, ...]:
    """The newest publication of each as-of date in [since, until], newest date first; ``superseded``: every one."""
    p = control.publications
    query = select(p).order_by(p.c.as_of.desc(), p.c.id.desc())
    if not superseded:
        query = query.where(p.c.id.in_(select(func.max(p.c.id)).group_by(p.c.as_of)))
    if since is not None:
        query = query.where(p.c.as_of >= since)
    if until is not None:
        query = query.where(p.c.as_of <= until)
    return tuple(_publication(row) for row in _rows(engine, query))


def published_dates(engine: Engine) -> tuple[date, ...]:
    """Every published as-of date, newest first."""
    p = control.publications
    with engine.connect() as connection:
        return tuple(connection.scalars(select(p.c.as_of).distinct().order_by(p.c.as_of.desc())))


def run(engine: Engine, run_id: str) -> Run:
    """One run. Raises NotFound."""
    row = _first(engine, select(control.runs).where(control.runs.c.run_id == run_id))
    if row is None:
        raise NotFound(f"no run {run_id} is on record", "`scoretrace status` names the latest runs")
    return _run(row)


RUN_ORDERS: Mapping[str, ColumnElement[Any]] = {
    "kind": control.runs.c.kind,
    "as_of": control.runs.c.as_of,
    "status": case({"failed": 3, "abandoned": 2, "running": 1}, value=control.runs.c.status, else_=0),
    "started": control.runs.c.started_at,
    "by": control.runs.c.actor,
}
"""What runs are ordered by; statuses with what failed as the largest."""


def runs(
    engine: Engine,
    *,
    kinds: Sequence[str] = (),
    since: date | None = None,
    until: date | None = None,
    order: str = "-started",
    limit: int | None = None,
    offset: int = 0,
) -> tuple[Run, ...]:
    """Runs of these kinds (all kinds if none is given) with as-of dates in [since, until]; of these at most ``limit``
    after the first ``offset``.

    order: one of ``RUN_ORDERS``, with ``-`` before it for the largest first. What it does not tell apart: newest first.
    """
    r = control.runs
    query = select(r).order_by(control.ordering(RUN_ORDERS, order), r.c.started_at.desc(), r.c.run_id.desc())
    if kinds:
        query = query.where(r.c.kind.in_(kinds))
    if since is not None:
        query = query.where(r.c.as_of >= since)
    if until is not None:
        query = query.where(r.c.as_of <= until)
    if limit is not None:
        query = query.limit(limit).offset(offset)
    return tuple(_run(row) for row in _rows(engine, query))


def run_kinds(engine: Engine) -> tuple[str, ...]:
    """The kinds of run on record, in name order."""
    r = control.runs
    with engine.connect() as connection:
        return tuple(connection.scalars(select(r.c.kind).distinct().order_by(r.c.kind)))


def count_runs(engine: Engine, kinds: Sequence[str] = ()) -> int:
    """How many runs of these kinds are on record; of all kinds if none is given."""
    query = select(func.count()).select_from(control.runs)
    if kinds:
        query = query.where(control.runs.c.kind.in_(kinds))
    with engine.connect() as connection:
        return int(connection.scalar(query) or 0)


def publishing_runs(engine: Engine, run_ids: Sequence[str]) -> frozenset[str]:
    """Those of these runs that published a night."""
    p = control.publications
    with engine.connect() as connection:
        return frozenset(connection.scalars(select(p.c.run_id).where(p.c.run_id.in_(run_ids)).distinct()))


def warned_runs(engine: Engine, run_ids: Sequence[str]) -> frozenset[str]:
    """Those of these runs that a gate or a data test warned of."""
    v, d = control.gate_verdicts, control.dbt_results
    by_gate = select(v.c.run_id).where(v.c.run_id.in_(run_ids), v.c.verdict == "warn")
    by_test = select(d.c.run_id).where(d.c.run_id.in_(run_ids), d.c.resource_type == "test", d.c.status == "warn")
    with engine.connect() as connection:
        return frozenset(connection.scalars(by_gate.union(by_test)))


def failure_since(engine: Engine, publication: Publication | None) -> Run | None:
    """The newest night's run, if it failed after this publication: what an operator must look at first."""
    newest = runs(engine, kinds=NIGHT_KINDS, limit=1)
    if not newest or not newest[0].failed:
        return None
    if publication is not None and newest[0].started_at <= publication.published_at:
        return None
    return newest[0]


def task_attempts(engine: Engine, run_id: str) -> tuple[TaskAttempt, ...]:
    """Every attempt of every task of a run, in the order they started."""
    t = control.task_attempts
    query = select(t).where(t.c.run_id == run_id).order_by(t.c.started_at, t.c.attempt)
    return tuple(TaskAttempt(**_fields(row)) for row in _rows(engine, query))


def last_attempt(engine: Engine, task: str, as_of: date) -> TaskAttempt | None:
    """The newest attempt of a task for an as-of date, in whatever run; None where there was none."""
    t, r = control.task_attempts, control.runs
    of_night = select(r.c.run_id).where(r.c.as_of == as_of)
    query = select(t).where(t.c.task == task, t.c.run_id.in_(of_night)).order_by(t.c.started_at.desc()).limit(1)
    return next((TaskAttempt(**_fields(row)) for row in _rows(engine, query)), None)


def attempts_ended(engine: Engine, task: str) -> int:
    """How many attempts of a task have ended, in whatever run: it grows with all that the task may have written."""
    t = control.task_attempts
    with engine.connect() as connection:
        return int(connection.scalar(select(func.count(t.c.ended_at)).where(t.c.task == task)) or 0)


def last_snapshot(engine: Engine, run_id: str) -> int | None:
    """The lake's snapshot after the last attempt of a run that told one; None when none did."""
    return max((a.snapshot_after for a in task_attempts(engine, run_id) if a.snapshot_after is not None), default=None)


def gate_verdicts(engine: Engine, run_id: str) -> tuple[GateVerdict, ...]:
    """The gate verdicts of a run, worst first, then in the order they were given."""
    worst = {"fail": 0, "warn": 1, "pass": 2}
    g = control.gate_verdicts
    found = [GateVerdict(**_fields(row)) for row in _rows(engine, select(g).where(g.c.run_id == run_id))]
    return tuple(sorted(found, key=lambda v: (worst.get(v.verdict, 0), v.id)))


def dbt_results(engine: Engine, run_id: str, statuses: Iterable[str] = ()) -> tuple[DbtResult, ...]:
    """The dbt nodes of a run in the order they ran; only those with one of ``statuses``, if any is given."""
    d = control.dbt_results
    query = select(d).where(d.c.run_id == run_id).order_by(d.c.id)
    if statuses := tuple(statuses):
        query = query.where(d.c.status.in_(statuses))
    return tuple(DbtResult(**_fields(row)) for row in _rows(engine, query))


def dbt_totals(engine: Engine, run_id: str) -> DbtTotals:
    """How many dbt models and tests a run had, by outcome, and their seconds in all."""
    d = control.dbt_results
    query = (
        select(d.c.resource_type, d.c.status, func.count(), func.sum(d.c.seconds))
        .where(d.c.run_id == run_id)
        .group_by(d.c.resource_type, d.c.status)
    )
    counts: dict[tuple[str, str], int] = {}
    seconds = 0.0
    for row in _rows(engine, query):
        kind, status, count, spent = tuple(row)
        counts[kind, status] = count
        seconds += float(spent or 0)

    def total(kind: str, *statuses: str) -> int:
        return sum(n for (k, s), n in counts.items() if k == kind and s in statuses)

    return DbtTotals(
        models=sum(n for (k, _), n in counts.items() if k == "model"),
        models_failed=total("model", "error", "fail"),
        passed=total("test", "pass", "success"),
        warned=total("test", "warn"),
        failed=total("test", "fail", "error"),
        skipped=total("test", "skipped"),
        seconds=seconds,
    )


def tested_cohorts(engine: Engine, table: str) -> set[date]:
    """As-of dates of a feature table that a training run has built and tested to the end."""
    t = control.task_attempts
    query = select(t.c.detail).where(t.c.task == "cohorts", t.c.status == "succeeded")
    details = [row[0] for row in _rows(engine, query) if row[0] and row[0].get("table") == table]
    return {date.fromisoformat(day) for detail in details for day in detail["cohorts"]}


def promotion_of(engine: Engine, model: ScoredModel, by: datetime | None = None) -> LetScore | None:
    """The newest promotion of exactly this version and digest; of those made by a moment, when one is given.

    A version can be promoted again, after another one: what let it score is the promotion then in force.
    """
    return let_score(engine, model.name, model.version, model.digest, by)


def sla_of(publication: Publication, publishing_run: Run | None) -> Sla:
    """Met, missed or backfilled; none when the publication carries no due time."""
    if publication.sla_due is None:
        return Sla.NONE
    if publishing_run is not None and publishing_run.started_at > publication.sla_due:
        return Sla.BACKFILLED
    met = publication.sla_met
    if met is None:
        met = publication.published_at <= publication.sla_due
    return Sla.MET if met else Sla.MISSED


def nights(engine: Engine, since: date, until: date) -> tuple[Night, ...]:
    """Every as-of date in [since, until] that ran or was published, oldest first."""
    p = control.publications
    query = select(p).where(p.c.as_of.between(since, until)).order_by(p.c.id)
    first: dict[date, Publication] = {}
    newest: dict[date, Publication] = {}
    for publication in map(_publication, _rows(engine, query)):
        first.setdefault(publication.as_of, publication)
        newest[publication.as_of] = publication
    by_id = {r.run_id: r for r in runs(engine, since=since, until=until)}
    latest: dict[date, Run] = {}
    for candidate in by_id.values():
        if candidate.kind in NIGHT_KINDS:
            latest.setdefault(candidate.as_of, candidate)
    return tuple(
        Night(
            as_of=day,
            publication=newest.get(day),
            run=latest.get(day),
            sla=sla_of(first[day], by_id.get(first[day].run_id)) if day in first else Sla.NONE,
            landed_at=first[day].published_at if day in first else None,
        )
        for day in sorted(set(newest) | set(latest))
    )


def _rows(engine: Engine, query: Select[Any]) -> Sequence[Row[Any]]:
    with engine.connect() as connection:
        return connection.execute(query).all()


def _first(engine: Engine, query: Select[Any]) -> Row[Any] | None:
    with engine.connect() as connection:
        return connection.execute(query).first()


def _fields(row: Row[Any]) -> dict[str, Any]:
    """A row's columns by name, its times with their zone."""
    return {
        name: value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
        for name, value in row._mapping.items()
    }


def _publication(row: Row[Any]) -> Publication:
    fields = _fields(row)
    fields["models"] = tuple(
        ScoredModel(m["name"], int(m["version"]), m["digest"], m["subject"], int(m["rows"])) for m in fields["models"]
    )
    return Publication(**fields)


def _run(row: Row[Any]) -> Run:
    return Run(**_fields(row))
