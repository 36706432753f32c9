"""The week's other job: a candidate is trained on matured cohorts and registered only if it passes its gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

from sqlalchemy import Engine

from pipeline import dag, lake_files, ledger
from pipeline.calendar import matured_month_ends
from pipeline.config import Settings
from pipeline.dag import Graph, Listener, Task, TaskResult
from pipeline.errors import TrainingRefused
from pipeline.features import feature_contract
from pipeline.governance import guard
from pipeline.governance.access import Actor
from pipeline.monitoring import baselines
from pipeline.nightly import Work, build, decide_task, run_of
from pipeline.portfolio import ModelSpec, Portfolio
from pipeline.train import TrainingOutcome, train_candidate
from pipeline.transform import Warehouse


def run_retrain(
    settings: Settings,
    portfolio: Portfolio,
    engine: Engine,
    spec: ModelSpec,
    as_of: date,
    *,
    actor: Actor,
    progress: Callable[[str], None] = lambda _: None,
    listeners: Sequence[Listener] = (),
    warehouse: Warehouse | None = None,
) -> TrainingOutcome:
    """Train a candidate with what was known at ``as_of``. That none is registered is an outcome, not an error."""
    guard.require(engine, actor, "run.retrain", f"model:{spec.name}")
    with run_of(settings, portfolio, engine, as_of, "retrain", actor.name, progress, warehouse) as work:
        work.spec = spec
        dag.run(RETRAIN, work, work.ledger, snapshot=work.snapshot, progress=work.progress, listeners=listeners)
        assert work.outcome is not None
        return work.outcome


def cohorts_task(work: Work) -> TaskResult:
    """Build the feature partitions of the cohorts that are not there yet, oldest first; test them in one go."""
    assert work.spec is not None
    table = f"{work.spec.subject}_features"
    # A cohort may be a night of long ago, which no later night has read: a wrong number would be learnt, and kept.
    lake_files.require_all_whole(work.settings, work.engine)
    with work.session() as con:
        row = con.execute(
            "SELECT min(m.load_date), max(m.load_date) FROM raw.load_months m JOIN raw.loads l USING (load_id) "
            "WHERE l.state = 'accepted' AND m.load_date <= ?",
            [work.as_of],
        ).fetchone()
    first, newest = row if row else (None, None)
    # A label is known once its horizon has passed in the data, not merely on the calendar.
    known_until = min(work.as_of, newest) if newest else work.as_of
    horizon = work.portfolio.label.horizon_months
    work.cohorts = matured_month_ends(first, known_until, horizon, work.spec.cohorts) if first else ()
    if not work.cohorts:
        raise TrainingRefused(
            f"no cohort has matured by {work.as_of}: labels need {horizon} months after an as-of date, "
            f"and the data run from {first or '(nothing has landed)'} to {newest or '–'}",
            "land more history, or retrain at a later --as-of",
        )
    untested = set(work.cohorts) - ledger.tested_cohorts(work.engine, table) - set(ledger.published_dates(work.engine))
    missing = sorted(untested | set(work.warehouse.unbuilt(table, work.cohorts)))
    for i, day in enumerate(missing, start=1):
        work.progress(f"      features of cohort {day} ({i} of {len(missing)})")
        build(work, as_of=day, period_start=day.replace(day=1), select=(f"+{table}",), tests=False)
    if missing:
        work.progress(f"      testing {len(missing)} cohorts")
        last = missing[-1]
        build(work, as_of=last, period_start=last.replace(day=1), select=(table,), tested_dates=missing)
    # The outcomes as known at the training date, and the working tables back where the nights need them.
    build(work, select=OUTCOME_MODELS, tests=False)
    return TaskResult(
        len(work.cohorts), {"table": table, "cohorts": [d.isoformat() for d in work.cohorts], "built": len(missing)}
    )


def train_task(work: Work) -> TaskResult:
    """Snapshot the training set, train, evaluate, gate; register if it passed."""
    assert work.spec is not None
    contract = feature_contract(work.warehouse.manifest(), work.spec.subject)
    with work.session() as con:
        work.outcome = train_candidate(
            work.settings, work.engine, con, work.registry, work.portfolio, work.spec, work.as_of, work.cohorts,
            work.ledger.run_id, contract,
        )  # fmt: skip
        if work.outcome.version is not None:
            # What nights will be compared with is fixed while the training set is at hand.
            baselines.ensure(con, work.settings, work.registry, work.portfolio, work.spec, work.outcome.version)
    return TaskResult(None, {"outcome": work.outcome.outcome})


OUTCOME_MODELS = ("+int_account_outcomes", "+int_application_outcomes")

RETRAIN: Graph[Work] = Graph(
    "retrain",
    (
        Task("gate", decide_task, retries=2, timeout=3600),
        Task("cohorts", cohorts_task, ("gate",), retries=1, timeout=6 * 3600),
        Task("train", train_task, ("cohorts",), retries=0, timeout=3 * 3600),
    ),
)
