"""Training: a candidate is fitted, measured on rows it never saw, and registered only if it passes its gate.

A candidate that is not good enough is a recorded outcome and not an error; nothing is registered then.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING, Any

import duckdb
from sqlalchemy import Engine, insert

from pipeline import archive, control, model_card
from pipeline import booster as native
from pipeline.comparison import store as comparison_store
from pipeline.comparison.facts import Comparison
from pipeline.comparison.making import FIRST, compared
from pipeline.comparison.measure import Scored
from pipeline.config import Settings
from pipeline.errors import TrainingRefused
from pipeline.evaluation import Check, Evaluation, challenger_checks, evaluate, first_model_checks
from pipeline.governance import coverage, events
from pipeline.governance.promotion_log import book_of
from pipeline.monitoring import statistics
from pipeline.portfolio import ModelSpec, Portfolio
from pipeline.registry import RECIPE, ModelVersion, Registry, TrainingRecord, text_digest
from pipeline.training_set import HOLDOUT, TRAIN, VALID, TrainingSet, collect, write_members

if TYPE_CHECKING:
    from pipeline.features import FeatureSpec

REGISTERED, NOT_BETTER, BELOW_FLOOR = "registered", "not_better", "below_floor"

# Small steps and early stopping on log-loss keep probabilities calibrated; the rest holds a tree back from rare rows.
PARAMETERS: Mapping[str, Any] = {
    "learning_rate": 0.07,
    "num_leaves": 15,
    "lambda_l2": 10.0,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "max_bin": 63,
    "rounds": 400,
    "early_stopping_rounds": 30,
    "seed": 20260417,
}
# What a portfolio cannot change: without these a retrain is not the same bytes.
FIXED: Mapping[str, Any] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "deterministic": True,
    "force_row_wise": True,
    "monotone_constraints_method": "basic",
    "verbosity": -1,
}


@dataclass(frozen=True)
class TrainingOutcome:
    """How a training run ended.

    outcome: registered, not_better (than the incumbent) or below_floor (as a first model). version: what was
    registered, else None. checks: the gate's table. incumbent_version: what it was compared with, None for a first.
    comparison_sha256: champion against challenger, as kept in the archive.
    """

    outcome: str
    version: ModelVersion | None
    digest: str
    incumbent_version: int | None
    training_set: str
    snapshot_id: int
    rows: int
    metrics: dict[str, float]
    checks: tuple[Check, ...]
    comparison_sha256: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, as the command line reports it."""
        return {
            "outcome": self.outcome,
            "model": {"name": self.version.name, "version": self.version.version} if self.version else None,
            "digest": self.digest,
            "incumbent_version": self.incumbent_version,
            "training_set": self.training_set,
            "snapshot_id": self.snapshot_id,
            "rows": self.rows,
            "metrics": self.metrics,
            "checks": [c.record() for c in self.checks],
            "comparison_sha256": self.comparison_sha256,
            "seconds": round(self.seconds, 3),
        }


def train_candidate(
    settings: Settings,
    engine: Engine,
    con: duckdb.DuckDBPyConnection,
    registry: Registry,
    portfolio: Portfolio,
    spec: ModelSpec,
    as_of: date,
    cohorts: Sequence[date],
    run_id: str,
    contract: Sequence[FeatureSpec],
) -> TrainingOutcome:
    """Train a candidate with what was known at ``as_of``, hold it to its gate, register it if it passes.

    cohorts: the as-of dates whose feature partitions are built. contract: the subject's feature contract. Raises
    TrainingRefused when there is nothing to train on, ModelRefused when the incumbent's bytes have been changed.
    """
    started = time.perf_counter()
    data = collect(con, portfolio.label, spec, as_of, cohorts, contract)
    write_members(con, data)
    parameters = training_parameters(spec, data, contract)
    text = fit(data, parameters, settings.threads)
    digest = text_digest(text)
    candidate, training_scores, scores = _evaluate(text, data, data.features, settings.threads)
    challenger = _scored(None, digest, text, data, data.features, scores)
    book = book_of(engine)
    held = book.in_force.get(spec.name)
    standing = book.promotions[held.promotion] if held else None
    checks: tuple[Check, ...]
    champion, known_rows, alone = None, None, FIRST
    if standing is None:
        checks, failed = first_model_checks(candidate, spec.floors), BELOW_FLOOR
    else:
        incumbent = registry.get(spec.name, standing.version)
        checks, champion = _against(registry, incumbent, digest, candidate, scores, data, spec, settings.threads)
        failed, known_rows = NOT_BETTER, incumbent.training_set
        alone = "" if champion else f"{incumbent} {checks[0].bound}"
    comparison = compared(
        con, portfolio, spec, data, challenger, champion, champion_training_set=known_rows, alone=alone,
        threads=settings.threads,
    )  # fmt: skip
    outcome = REGISTERED if all(c.passed for c in checks) else failed
    metrics = candidate.metrics() | {"training_rows": float(len(data.rows(TRAIN)))}
    version = None
    if outcome == REGISTERED:
        by_name = {s.name: _facts(s) for s in contract if s.name in data.features}
        record = TrainingRecord(
            run_id=run_id,
            as_of=as_of,
            training_set=data.sha256,
            snapshot_id=data.snapshot_id,
            features=data.features,
            contract=by_name,
            contract_sha256=hashlib.sha256(json.dumps(by_name, sort_keys=True).encode()).hexdigest(),
            parameters=parameters,
            description=f"Trained {as_of} on {len(data.labels):,} rows of {len(data.counts['cohorts'])} cohorts.",
        )
        booster = native.parse(text)
        facts = model_card.CardFacts(portfolio, spec, data, record, digest, metrics, checks, booster, comparison)
        version = registry.register(
            spec.name,
            text,
            training=record,
            metrics=metrics,
            plots=model_card.plots(facts, data.labels[data.rows(HOLDOUT)], scores, training_scores),
            card=model_card.write(facts),
            tags={
                "subject": spec.subject,
                "materiality": spec.materiality,
                "portfolio": portfolio.name,
                RECIPE: _keep_recipe(settings, portfolio, spec, as_of, cohorts, contract, parameters, data.snapshot_id),
            },
        )
        comparison = replace(comparison, challenger=replace(comparison.challenger, version=version.version))
    result = TrainingOutcome(
        outcome=outcome,
        version=version,
        digest=digest,
        incumbent_version=standing.version if standing else None,
        training_set=data.sha256,
        snapshot_id=data.snapshot_id,
        rows=len(data.labels),
        metrics=metrics,
        checks=checks,
        comparison_sha256=comparison_store.keep(settings, comparison),
        seconds=time.perf_counter() - started,
    )
    _record(engine, spec, as_of, run_id, result, comparison)
    return result


def training_parameters(spec: ModelSpec, data: TrainingSet, contract: Sequence[FeatureSpec]) -> dict[str, Any]:
    """The parameters of a fit: ours, then the portfolio's, then those that make it repeatable."""
    taken = sorted(set(spec.parameters) & (set(FIXED) | {"monotone_constraints", "num_threads", "num_iterations"}))
    if taken:
        raise TrainingRefused(
            f"model {spec.name} may not set {', '.join(taken)}: a retrain would not be repeatable",
            "remove them from the model's parameters in portfolio.yml",
        )
    direction = {s.name: s.monotone for s in contract}
    rows = len(data.rows(TRAIN))
    return {
        **PARAMETERS,
        # Half a percent of a small set, never more than 200 rows.
        "min_data_in_leaf": max(10, min(200, rows // 200)),
        **spec.parameters,
        **FIXED,
        "monotone_constraints": [direction[name] for name in data.features],
    }


def fit(data: TrainingSet, parameters: Mapping[str, Any], threads: int = 0) -> str:
    """Fit on the train rows, stop on the valid rows, and return the canonical model text.

    The same training set and parameters give the same text, whatever the number of threads.
    """
    import lightgbm

    names = list(data.features)
    rest = {k: v for k, v in parameters.items() if k not in ("rounds", "early_stopping_rounds")} | {
        "num_threads": threads
    }
    rows, stop = data.rows(TRAIN), data.rows(VALID)
    train = lightgbm.Dataset(data.columns(names, rows), data.labels[rows], feature_name=names, params=rest)
    valid = lightgbm.Dataset(data.columns(names, stop), data.labels[stop], reference=train, params=rest)
    fitted = lightgbm.train(
        rest,
        train,
        num_boost_round=int(parameters["rounds"]),
        valid_sets=[valid],
        callbacks=[lightgbm.early_stopping(int(parameters["early_stopping_rounds"]), verbose=False)],
    )
    return native.canonical_text(fitted)


def _evaluate(text: str, data: TrainingSet, features: Sequence[str], threads: int) -> tuple[Evaluation, Any, Any]:
    """The evaluation of a model text, with its log-odds on the train rows and on the holdout rows."""
    booster = native.parse(text)
    train, holdout = data.rows(TRAIN), data.rows(HOLDOUT)
    on_train = native.log_odds(booster, data.columns(features, train), threads)
    on_holdout = native.log_odds(booster, data.columns(features, holdout), threads)
    return evaluate(data.labels[holdout], on_holdout, on_train), on_train, on_holdout


def _against(
    registry: Registry,
    incumbent: ModelVersion,
    digest: str,
    candidate: Evaluation,
    scores: Any,
    data: TrainingSet,
    spec: ModelSpec,
    threads: int,
) -> tuple[tuple[Check, ...], Scored | None]:
    """The checks of a candidate against the incumbent on this training set's holdout, and what the incumbent says."""
    text = registry.text(incumbent)
    wanted = native.features(native.parse(text))
    gone = [name for name in wanted if name not in data.candidates]
    if gone:
        # The incumbent cannot score these rows any more, so the candidate stands as a first model would.
        lost = Check("incumbent", True, float(len(gone)), f"cannot be compared: it reads {', '.join(gone)}")
        return (lost, *first_model_checks(candidate, spec.floors)), None
    measured, _, other = _evaluate(text, data, wanted, threads)
    auc = statistics.delong_test(data.labels[data.rows(HOLDOUT)], scores, other)
    changed = Check(
        "changed", digest != incumbent.digest, float(digest != incumbent.digest), "not the incumbent itself"
    )
    champion = _scored(incumbent.version, incumbent.digest, text, data, wanted, other)
    return (changed, *challenger_checks(candidate, measured, auc, spec.tolerances)), champion


def _scored(
    version: int | None, digest: str, text: str, data: TrainingSet, features: Sequence[str], log_odds: Any
) -> Scored:
    """A model with what it says of the holdout."""
    matrix = data.columns(features, data.rows(HOLDOUT))
    return Scored(version, digest, native.parse(text), tuple(features), matrix, log_odds)


def _facts(spec: FeatureSpec) -> dict[str, Any]:
    return {name: value for name, value in asdict(spec).items() if name != "name"}


def _keep_recipe(
    settings: Settings,
    portfolio: Portfolio,
    spec: ModelSpec,
    as_of: date,
    cohorts: Sequence[date],
    contract: Sequence[FeatureSpec],
    parameters: Mapping[str, Any],
    snapshot: int,
) -> str:
    """Archive what it takes to train this version again; returns the SHA-256."""
    recipe = {
        "spec": asdict(spec),
        "label": asdict(portfolio.label),
        "id_type": portfolio.id_type,
        "as_of": as_of.isoformat(),
        "cohorts": [day.isoformat() for day in cohorts],
        "snapshot_id": snapshot,
        "contract": [asdict(feature) for feature in contract],
        "parameters": dict(parameters),
        "lightgbm": package_version("lightgbm"),
    }
    return archive.keep(settings, json.dumps(recipe, sort_keys=True, indent=1).encode())


def _record(
    engine: Engine, spec: ModelSpec, as_of: date, run_id: str, result: TrainingOutcome, comparison: Comparison
) -> None:
    with engine.begin() as connection:
        made = connection.execute(
            insert(control.training_runs).values(
                run_id=run_id,
                model_name=spec.name,
                as_of=as_of,
                outcome=result.outcome,
                model_version=result.version.version if result.version else None,
                model_digest=result.digest,
                incumbent_version=result.incumbent_version,
                training_set=result.training_set,
                snapshot_id=result.snapshot_id,
                metrics=result.metrics,
                checks=[c.record() for c in result.checks],
                finished_at=datetime.now(UTC),
            )
        )
        compared = comparison_store.record(connection, run_id, comparison, result.comparison_sha256)
        trained = coverage.of(connection, control.training_runs, made.inserted_primary_key or ())
        events.candidate_judged(
            connection,
            run_id,
            spec.name,
            result.version.version if result.version else None,
            checks=result.checks,
            detail={
                "outcome": result.outcome,
                "model_digest": result.digest,
                "incumbent_version": result.incumbent_version,
                "training_set": result.training_set,
                "snapshot_id": result.snapshot_id,
                "comparison_sha256": result.comparison_sha256,
                coverage.COVERS: trained[coverage.COVERS] | compared[coverage.COVERS],
            },
        )
