"""The night: land → gate → features → score → publish → monitor, for one as-of date, declared as a graph.

Each task replaces its own partition in one transaction, so the night may be killed anywhere and run
again. Readers see the last publication until the new one is written; what is watched after that takes nothing back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
from sqlalchemy import Engine

from pipeline import archive, dag, gates, lake, ledger, run_log
from pipeline.config import Settings
from pipeline.dag import Graph, Listener, Task, TaskResult
from pipeline.errors import NotFound, beside
from pipeline.faults import explained
from pipeline.features import feature_contract
from pipeline.governance import checkpoints, guard
from pipeline.governance.access import Actor
from pipeline.land import land
from pipeline.monitoring import metrics, monitor
from pipeline.monitoring.alerts import Explain
from pipeline.portfolio import ModelSpec, Portfolio, files_of
from pipeline.registry import Registry
from pipeline.runs import FAILED, SUCCEEDED, RunLedger
from pipeline.score import ScoreResult, content_sha256, score
from pipeline.train import TrainingOutcome
from pipeline.transform import BuildFailed, BuildResult, Warehouse
from pipeline.writing import writer

Progress = Callable[[str], None]


@dataclass
class Work:
    """What the tasks of one run share. ``extracts`` is the folder to land from; none lands nothing new."""

    settings: Settings
    portfolio: Portfolio
    engine: Engine
    as_of: date
    ledger: RunLedger
    warehouse: Warehouse
    registry: Registry
    con: duckdb.DuckDBPyConnection  # the writer's one connection; tasks take sessions of it
    extracts: Path | None = None
    progress: Progress = lambda _: None
    scores: list[ScoreResult] = field(default_factory=list)
    spec: ModelSpec | None = None  # the model that a training run is about
    cohorts: tuple[date, ...] = ()
    outcome: TrainingOutcome | None = None
    baseline_version: dict[str, int] = field(default_factory=dict)  # model → another version to compare drift with
    explain: Callable[[str], Explain] | None = None  # for a run's id, what looks for the causes of its alerts

    def session(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A session for one task; its end is the end of whatever query or transaction was left open."""
        return lake.stopping(lake.session(self.con))

    def snapshot(self) -> int:
        """The lake's newest snapshot."""
        with self.session() as con:
            return lake.current_snapshot(con)


@dataclass(frozen=True)
class NightReport:
    """What a night published."""

    run_id: str
    as_of: date
    accounts: int
    applications: int
    content_sha256: str
    snapshot_id: int
    sla_met: bool


def run_night(
    settings: Settings,
    portfolio: Portfolio,
    engine: Engine,
    as_of: date,
    *,
    actor: Actor,
    extracts: Path | None = None,
    progress: Progress = lambda _: None,
    listeners: Sequence[Listener] = (),
    warehouse: Warehouse | None = None,
    explain: Callable[[str], Explain] | None = None,
) -> NightReport:
    """Run the night of one as-of date. Raises what stopped it; the last publication then still stands.

    explain: for a run's id, what looks for the causes of its alerts; lineage hands it in from above.
    """
    guard.require(engine, actor, "run.night", f"night:{as_of}")
    run_id = ""
    try:
        with run_of(settings, portfolio, engine, as_of, "nightly", actor.name, progress, warehouse) as work:
            run_id, work.extracts, work.explain = work.ledger.run_id, extracts, explain
            results = dag.run(
                NIGHT, work, work.ledger, snapshot=work.snapshot, progress=work.progress, listeners=listeners
            )
    except Exception as error:
        if run_id:
            say = run_log.kept(settings, run_id, progress)
            with beside(error):
                looking = explain(run_id) if explain else None
                for line in monitor.failed(engine, portfolio, run_id, as_of, actor.name, looking):
                    say(f"▲ {line}")
            with beside(error):
                metrics.after_run(settings, engine, run_id)
        raise
    metrics.after_run(settings, engine, run_id)
    checkpoints.after_night(settings, engine, actor=actor.name, progress=run_log.kept(settings, run_id, progress))
    published = results["publish"].detail
    return NightReport(
        work.ledger.run_id, as_of, published["accounts"], published["applications"], published["content_sha256"],
        published["snapshot_id"], published["sla_met"],
    )  # fmt: skip


def run_monitor(
    settings: Settings,
    portfolio: Portfolio,
    engine: Engine,
    as_of: date,
    *,
    actor: Actor,
    baseline_version: dict[str, int] | None = None,
    progress: Progress = lambda _: None,
    explain: Callable[[str], Explain] | None = None,
) -> dict[str, Any]:
    """Count a published night's drift again, from the night as it was published; the same night gives the same bytes.

    baseline_version: model → another version whose baseline to compare with as well. Raises NotFound for a night that
    was never published, or a version without a baseline.
    """
    guard.require(engine, actor, "run.night", f"night:{as_of}")
    with run_of(settings, portfolio, engine, as_of, "monitor", actor.name, progress) as work:
        work.baseline_version, work.explain = baseline_version or {}, explain
        results = dag.run(MONITOR, work, work.ledger, snapshot=work.snapshot, progress=work.progress)
    return results["monitor"].detail


@contextmanager
def run_of(
    settings: Settings,
    portfolio: Portfolio,
    engine: Engine,
    as_of: date,
    kind: str,
    actor: str,
    progress: Progress,
    warehouse: Warehouse | None = None,
) -> Iterator[Work]:
    """Hold the lease, one connection and a ledger entry around a run's tasks; whatever ends it is recorded."""
    portfolio.require_not_future(as_of)
    with writer(settings, engine, f"{kind} --as-of {as_of} by {actor}") as con:
        for path in files_of(portfolio.folder):
            archive.keep(settings, path.read_bytes())
        ledger = RunLedger.start(
            engine, kind=kind, as_of=as_of, actor=actor, portfolio=portfolio, snapshot=lake.current_snapshot(con)
        )
        work = Work(
            settings=settings,
            portfolio=portfolio,
            engine=engine,
            as_of=as_of,
            ledger=ledger,
            warehouse=warehouse or Warehouse(settings, portfolio),
            registry=Registry(settings),
            con=con,
            progress=run_log.kept(settings, ledger.run_id, progress),
        )
        try:
            yield work
        except BaseException as error:
            told = explained(error, settings.home) or error
            run_log.kept(settings, ledger.run_id, lambda _: None)(f"✕ {str(told) or type(told).__name__}")
            with beside(told):
                ledger.finish(FAILED, error=str(told) or type(told).__name__)
            if told is error:
                raise
            raise told from error
        ledger.finish(SUCCEEDED, snapshot=work.snapshot())


def land_task(work: Work) -> TaskResult:
    """Land the night's extracts. In the home's own folder a date without extracts means: landed before, by hand."""
    folder = work.extracts or work.settings.extracts_dir
    if work.extracts is None and not (folder / work.as_of.isoformat()).is_dir():
        return TaskResult(0, {"loads": [], "note": f"no extracts for {work.as_of}; using what has landed"})
    with work.session() as con:
        loads = land(con, work.portfolio, work.as_of, folder, lambda line: work.progress(f"      {line}"))
    new = sum(load.rows for load in loads if load.outcome != "unchanged")
    return TaskResult(new, {"loads": [{"load_id": x.load_id, "rows": x.rows, "outcome": x.outcome} for x in loads]})


def gate_task(work: Work) -> TaskResult:
    """Is there a load for tonight, and may it stay? Raise when the night may not go on."""
    with work.session() as con:
        fresh = gates.freshness(con, work.portfolio, work.as_of)
    return decide_loads(work, fresh)


def decide_task(work: Work) -> TaskResult:
    """Decide what has landed, without asking for a load of that very day."""
    return decide_loads(work, ())


def decide_loads(work: Work, fresh: Sequence[gates.Verdict]) -> TaskResult:
    """Check every undecided load, decide, record every verdict; raise GateFailed if one failed."""
    with work.session() as con:
        checked = gates.check(con, work.portfolio, work.as_of, again=bool(fresh))
        verdicts = [*fresh, *(verdict for found in checked.values() for verdict in found)]
        # On record before it is decided: another attempt would find nothing left to decide, and no reason to stop.
        work.ledger.add_verdicts(verdicts)
        accepted, rejected = gates.decide(con, checked)
    gates.require_passed(work.as_of, verdicts)
    warned = [v.message for v in verdicts if v.verdict == gates.WARN]
    for message in warned:
        work.progress(f"      ▲ {message}")
    return TaskResult(
        sum(load.rows for load in accepted),
        {"accepted": [x.load_id for x in accepted], "rejected": [x.load_id for x in rejected], "warned": warned},
    )


def features_task(work: Work) -> TaskResult:
    """Build and test every feature at the as-of date."""
    result = build(work, select=("path:models/staging", "path:models/intermediate", "path:models/features"))
    models = sum(n.resource_type == "model" for n in result.nodes)
    return TaskResult(
        None, {"models": models, "tests_passed": result.passed, "manifest_sha256": result.manifest_sha256}
    )


def score_task(work: Work) -> TaskResult:
    """Score each model's subjects with its approved version, one partition per model."""
    work.scores = []
    for spec in work.portfolio.models:
        with work.session() as con:
            work.scores.append(
                score(
                    con, work.settings, work.engine, work.registry, work.portfolio, spec, work.as_of,
                    work.ledger.run_id,
                )
            )  # fmt: skip
    return TaskResult(
        sum(s.rows for s in work.scores),
        {"models": [{"name": s.model.name, "version": s.model.version, "rows": s.rows} for s in work.scores]},
    )


def publish_task(work: Work) -> TaskResult:
    """Build the marts, then move the pointer: one row, the only thing that readers follow."""
    built = build(work, select=("path:models/marts",))
    with work.session() as con:
        snapshot = lake.current_snapshot(con)
        content = content_sha256(con, (spec.subject for spec in work.portfolio.models), work.as_of)
    counts = {spec.subject: s.rows for spec, s in zip(work.portfolio.models, work.scores, strict=True)}
    landed_at = datetime.now(UTC)
    due = work.portfolio.due(work.as_of)
    values = {
        "as_of": work.as_of,
        "snapshot_id": snapshot,
        "accounts": counts.get("account", 0),
        "applications": counts.get("application", 0),
        "content_sha256": content,
        "models": [
            {"name": s.model.name, "version": s.model.version, "digest": s.model.digest, "subject": spec.subject,
             "rows": s.rows}
            for spec, s in zip(work.portfolio.models, work.scores, strict=True)
        ],
        "features": len(feature_contract(work.warehouse.manifest(), "account")),
        "sla_due": due.astimezone(UTC),
        "sla_met": landed_at <= due,
    }  # fmt: skip
    work.ledger.publish(**values)
    return TaskResult(
        sum(counts.values()),
        {k: values[k] for k in ("snapshot_id", "accounts", "applications", "content_sha256", "sla_met")}
        | {"manifest_sha256": built.manifest_sha256},
    )


def monitor_task(work: Work) -> TaskResult:
    """Store the drift of the published night and judge alerts. What is published stands, whatever becomes of this."""
    publication = ledger.publication_for(work.engine, work.as_of)
    if publication is None:
        raise NotFound(f"nothing is published for {work.as_of}", f"run `scoretrace nightly --as-of {work.as_of}` first")
    manifest = work.warehouse.manifest()
    with work.session() as con:
        night = monitor.Night(
            con, work.settings, work.engine, work.registry, work.portfolio, publication, work.ledger.run_id,
            work.ledger.actor, {s.subject: feature_contract(manifest, s.subject) for s in work.portfolio.models},
            work.explain(publication.run_id) if work.explain else None, work.progress,
        )  # fmt: skip
        said = monitor.watch(night, baseline_version=work.baseline_version)
    return TaskResult(sum(w["rows"] for w in said["watched"]), said)


def build(
    work: Work,
    *,
    select: Sequence[str],
    as_of: date | None = None,
    period_start: date | None = None,
    tests: bool = True,
    tested_dates: Sequence[date] | None = None,
) -> BuildResult:
    """Run dbt and keep its results in the ledger, also when they stop the run."""
    day = as_of or work.as_of
    try:
        result = work.warehouse.build(
            day,
            period_start=period_start or work.portfolio.period_start(day),
            run_id=work.ledger.run_id,
            select=select,
            tests=tests,
            tested_dates=tested_dates,
        )
    except BuildFailed as error:
        work.ledger.add_dbt_results(error.result.nodes)
        raise
    work.ledger.add_dbt_results(result.nodes)
    return result


NIGHT: Graph[Work] = Graph(
    "nightly",
    (
        Task("land", land_task, retries=2, timeout=1800),
        Task("gate", gate_task, ("land",), retries=2, timeout=900),
        Task("features", features_task, ("gate",), retries=1, timeout=3600),
        Task("score", score_task, ("features",), retries=2, timeout=1800),
        Task("publish", publish_task, ("score",), retries=2, timeout=900),
        Task("monitor", monitor_task, ("publish",), retries=1, timeout=1800),
    ),
)

MONITOR: Graph[Work] = Graph("monitor", (Task("monitor", monitor_task, retries=1, timeout=1800),))
