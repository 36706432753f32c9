"""What a night leaves for whoever watches it: drift, mean contributions and outcomes stored, alerts judged.

Everything is read as the night was published; nothing here changes what readers see.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
from sqlalchemy import Engine

from pipeline import booster as native
from pipeline import lake, lake_files, ledger
from pipeline.config import Settings
from pipeline.errors import NotFound
from pipeline.features import FeatureSpec
from pipeline.ledger import Publication, ScoredModel
from pipeline.monitoring import alert_rules as rules
from pipeline.monitoring import alerts, baselines, drift, outcome_reads, outcomes, score_drift
from pipeline.monitoring.alert_rules import Finding
from pipeline.monitoring.alert_state import RESOLVED
from pipeline.monitoring.alerts import Explain
from pipeline.monitoring.cohorts import scoring_record
from pipeline.monitoring.outcome_rules import outcome_findings
from pipeline.monitoring.panel import Panel
from pipeline.monitoring.restatements import restated_shares
from pipeline.portfolio import ModelSpec, Portfolio
from pipeline.registry import ModelVersion, Registry
from pipeline.sql import ident, literal

ALL_KINDS = (
    rules.FRESHNESS, rules.VOLUME, rules.SCHEMA, rules.QUALITY, rules.RESTATEMENT, rules.DRIFT,
    rules.PERFORMANCE, rules.CALIBRATION,
)  # fmt: skip
"""The kinds of alert that a whole night looks at; a night that failed knows only what stopped it."""


@dataclass(frozen=True)
class Night:
    """A published night to be watched, and with what. con: the lease holder's session.

    contracts: subject → feature contract, where the night has them at hand: they name each feature's dbt model.
    explain: looks for causes, handed in from above.
    """

    con: duckdb.DuckDBPyConnection
    settings: Settings
    engine: Engine
    registry: Registry
    portfolio: Portfolio
    publication: Publication
    run_id: str
    actor: str
    contracts: Mapping[str, tuple[FeatureSpec, ...]]
    explain: Explain | None = None
    progress: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class Watched:
    """What was stored of one model: rows counted, features by band on the whole book, the largest PSI there."""

    model: str
    version: int
    rows: int
    features: int
    segments: int
    bands: dict[str, int]
    largest: float

    def as_dict(self) -> dict[str, Any]:
        return vars(self)


def watch(night: Night, *, baseline_version: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Store the drift of every model that scored the night, and judge alerts if it is the newest night watched.

    baseline_version: model → another version whose baseline to compare with as well. A model whose training set cannot
    be read any more has no baseline; the night says so and goes on. Returns what is said of it in the ledger.
    """
    baselines.require_tables(night.con)
    files, as_of = lake_files.SingleNights(night.settings, night.engine), night.publication.as_of
    watched, without = [], []
    for scored in night.publication.models:
        for schema in ("features", "scores"):  # of a night of long ago: nothing has read them since
            files.require_whole(schema, f"{scored.subject}_{schema}", [as_of])
        spec = night.portfolio.model(scored.name)
        chosen = (baseline_version or {}).get(scored.name)
        for number in dict.fromkeys([scored.version, *([chosen] if chosen else [])]):
            try:
                watched.append(_watch_model(night, spec, scored, number))
            except NotFound as error:
                if number == chosen:
                    raise
                without.append(error.message)
                night.progress(f"      ▲ {error.message}")
    became = outcomes.measure_outcomes(
        night.con, night.portfolio, as_of, night.run_id, record=scoring_record(night.engine, as_of),
        before_reading=lambda cohort: files.require_whole("scores", f"{cohort.subject}_scores", cohort.nights),
    )  # fmt: skip
    told = _judge(night)
    for line in told:
        night.progress(f"      ▲ {line}")
    return {
        "watched": [w.as_dict() for w in watched],
        "without_baseline": without,
        "outcomes": {"measured": len(became.measured), "unchanged": became.unchanged, "adverse": list(became.adverse)},
        "alerts": told,
    }


def failed(
    engine: Engine, portfolio: Portfolio, run_id: str, as_of: date, actor: str, explain: Explain | None = None
) -> list[str]:
    """Tell of a night that stopped before it was published: which load was late, short, repeated or unreadable.

    Returns a line for each alert that changed.
    """
    if as_of < _newest_told(engine):
        return []
    findings = [
        *rules.gate_findings(ledger.gate_verdicts(engine, run_id)),
        *rules.quality_findings(ledger.dbt_results(engine, run_id, ("fail", "error"))),
    ]
    attempts = ledger.task_attempts(engine, run_id)
    if attempts and attempts[-1].task == "land" and attempts[-1].error and not findings:
        findings += rules.landing_findings(portfolio, attempts[-1].error)
    return alerts.judge(engine, findings, as_of, run_id=run_id, actor=actor, covered=(), explain=explain)


def _watch_model(night: Night, spec: ModelSpec, scored: ScoredModel, number: int) -> Watched:
    version = night.registry.get(spec.name, number)
    baseline = baselines.ensure(night.con, night.settings, night.registry, night.portfolio, spec, version)
    counts = drift.count_night(night.con, night.portfolio, spec, night.publication, baseline)
    policy, as_of = night.portfolio.monitoring, night.publication.as_of
    found = drift.write_night(night.con, policy, baseline, counts, as_of, scored.version)
    if number == scored.version:
        booster = native.parse(night.registry.text(version))
        score_drift.write_night(
            night.con, night.portfolio, spec, night.publication, number, booster, night.settings.threads
        )
    return _summary(night, version, found)


def _summary(night: Night, version: ModelVersion, found: Panel) -> Watched:
    policy = night.portfolio.monitoring
    whole = found.psi[0] if len(found.psi) else []
    bands = [policy.band(None if p != p else float(p)) for p in whole]
    return Watched(
        version.name,
        version.version,
        int(found.n[0]) if len(found.n) else 0,
        len(found.features),
        len(found.keys) - 1,
        {band: bands.count(band) for band in ("stable", "moderate", "high", "none")},
        max((float(p) for p in whole if p == p), default=0.0),
    )


def _judge(night: Night) -> list[str]:
    """Alerts follow the nights in their order: a night that is counted again later changes none of them."""
    as_of = night.publication.as_of
    newest = night.con.execute(f"SELECT max(as_of_date) FROM {ident(lake.ALIAS, 'drift', 'statistics')}").fetchone()
    if (newest and newest[0] and newest[0] > as_of) or as_of < _newest_told(night.engine):
        return []
    findings = rules.gate_findings(ledger.gate_verdicts(night.engine, night.publication.run_id))
    findings += rules.restatement_findings(
        restated_shares(night.con, night.portfolio, as_of, night.publication.snapshot_id)
    )
    standing = [a.id for a in alerts.alerts_of(night.engine).values() if a.state != RESOLVED]
    for scored in night.publication.models:
        findings += _drift_findings(night, night.portfolio.model(scored.name), as_of, standing)
    findings += outcome_findings(
        outcome_reads.performance(night.con, as_of), outcome_reads.holdout(night.engine, as_of),
        night.portfolio.monitoring,
    )  # fmt: skip
    return alerts.judge(
        night.engine, findings, as_of, run_id=night.publication.run_id, actor=night.actor, covered=ALL_KINDS,
        explain=night.explain,
    )  # fmt: skip


def _drift_findings(night: Night, spec: ModelSpec, as_of: date, standing: Collection[str]) -> list[Finding]:
    policy = night.portfolio.monitoring
    nights = night.con.execute(
        f"SELECT DISTINCT as_of_date FROM {ident(lake.ALIAS, 'drift', 'statistics')} "
        f"WHERE model_name = {literal(spec.name)} AND as_of_date <= {literal(as_of)} "
        f"ORDER BY 1 DESC LIMIT {int(policy.of)}"
    ).fetchall()
    if not nights:
        return []
    stored = [
        row
        for dimension in ("", *policy.watched)
        for row in drift.history(night.con, nights[-1][0], as_of, model=spec.name, dimension=dimension)
    ]
    upstream = {f.name: f"feat_{f.theme}" for f in night.contracts.get(spec.subject, ())}
    return rules.drift_findings(stored, as_of, policy, upstream, f"features.{spec.subject}_features", standing)


def _newest_told(engine: Engine) -> date:
    return max((a.as_of for a in alerts.alerts_of(engine).values()), default=date.min)
