"""All that a validation report is written from: read from registry, archive, ledger, lake and audit log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from pipeline import archive, lake
from pipeline import booster as native
from pipeline.comparison import store as comparisons
from pipeline.comparison.facts import Comparison
from pipeline.config import Settings
from pipeline.errors import ModelRefused, NotFound
from pipeline.governance import audit, checkpoints, keys
from pipeline.governance import inventory_log as inventory
from pipeline.governance import promotion_rules as rules
from pipeline.governance.chain import Checkpoint, Record, Verdict
from pipeline.governance.inventory_log import Listed
from pipeline.governance.manifest import manifest_of, training_of
from pipeline.governance.promotion_log import book_of
from pipeline.governance.promotion_state import InForce, Promotion
from pipeline.governance.signatures import genuine
from pipeline.model_card import importance
from pipeline.portfolio import Portfolio
from pipeline.registry import RECIPE, ModelVersion, Registry
from pipeline.sql import ident, literal

PLOTS = ("roc.png", "calibration.png", "scores.png", "importance.png")


@dataclass(frozen=True)
class Fold:
    """Rows and events of one cohort in one fold of the training set."""

    cohort: str
    fold: str
    rows: int
    events: int


@dataclass(frozen=True)
class Feature:
    """A feature of the model. constraint: what its contract allows. rises: what a sample of the holdout shows."""

    name: str
    share: float
    constraint: int
    rises: int | None
    theme: str
    owner: str
    description: str


@dataclass(frozen=True)
class ValidationFacts:
    """One version. faults: what of its records is missing or not as it was registered, each as a sentence."""

    made_at: datetime
    portfolio: Portfolio
    listed: Listed
    version: ModelVersion
    training: Mapping[str, Any]
    recipe: Mapping[str, Any]
    folds: tuple[Fold, ...]
    features: tuple[Feature, ...]
    dropped: int
    comparison: Comparison | None
    comparison_sha256: str
    promotions: tuple[Promotion, ...]
    genuine: Mapping[str, frozenset[str]]  # promotion → signers whose envelope is whole
    status: Mapping[str, str]
    missing: Mapping[str, tuple[str, ...]]
    manifest_now: Mapping[str, Mapping[str, Any]]  # promotion → its manifest as the records would give it today
    held: InForce | None
    plots: Mapping[str, bytes]
    records: tuple[Record, ...]
    verdict: Verdict
    checkpoint: Checkpoint | None
    faults: tuple[str, ...]


def gather(
    settings: Settings, engine: Engine, registry: Registry, portfolio: Portfolio, name: str, number: int, now: datetime
) -> ValidationFacts:
    """Everything on record about a version. Raises NotFound or ModelRefused when there is no such version."""
    portfolio.model(name)
    version = registry.get(name, number)
    training = training_of(engine, version)
    faults: list[str] = []
    booster = None
    try:
        booster = registry.load(version)
    except ModelRefused as refused:
        faults.append(refused.message)
    folder = registry.artifact_path(version).parent.parent
    contract = _contract(folder / "feature_contract.json", version, faults)
    recipe = _recipe(settings, version, faults)
    kept = comparisons.of_training(engine, training["run_id"], version.digest)
    compared = _compared(settings, kept.sha256, faults) if kept else None
    shares = importance(booster) if booster is not None else []
    rises = {d.feature: d.rises for d in compared.drivers} if compared else {}
    book, public = book_of(engine), keys.PublicKeys(settings.keys_dir)
    promotions = tuple(p for p in book.of_model(name) if p.version == number)
    held = book.in_force.get(name)
    newest = checkpoints.newest(settings)
    checkpoint = checkpoints.read(settings, newest) if newest else None
    return ValidationFacts(
        made_at=now.astimezone(UTC),
        portfolio=portfolio,
        listed=inventory.one(settings, engine, portfolio, name),
        version=version,
        training=training,
        recipe=recipe,
        folds=_folds(settings, version.training_set),
        features=tuple(_feature(n, share, contract.get(n, {}), rises.get(n)) for n, share in shares),
        dropped=len(recipe.get("contract", [])) - len(native.features(booster)) if booster is not None else 0,
        comparison=compared,
        comparison_sha256=kept.sha256 if kept else "",
        promotions=promotions,
        genuine={p.id: frozenset(s.signer for s in p.signatures if genuine(p, s, public)) for p in promotions},
        status={p.id: rules.status(p, now) for p in promotions},
        missing={p.id: () if p.closed else rules.missing(p, now) for p in promotions},
        manifest_now={p.id: manifest_of(engine, portfolio, version, p.policy) for p in promotions},
        held=held if held is not None and any(p.id == held.promotion for p in promotions) else None,
        plots={plot: (folder / plot).read_bytes() for plot in PLOTS if (folder / plot).is_file()},
        records=_records(engine, name, number, promotions, str(training["run_id"])),
        verdict=audit.verify(engine, checkpoint),
        checkpoint=checkpoint,
        faults=tuple(faults),
    )


def _contract(path: Any, version: ModelVersion, faults: list[str]) -> Mapping[str, Mapping[str, Any]]:
    try:
        features: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["features"]
    except (OSError, ValueError, KeyError) as error:
        faults.append(f"the feature contract cannot be read: {error}")
        return {}
    found = hashlib.sha256(json.dumps(features, sort_keys=True).encode()).hexdigest()
    if found != version.contract_sha256:
        faults.append(f"the feature contract has SHA-256 {found}; registered was {version.contract_sha256}")
    return features


def _recipe(settings: Settings, version: ModelVersion, faults: list[str]) -> Mapping[str, Any]:
    try:
        recipe: dict[str, Any] = json.loads(archive.read(settings, version.tags.get(RECIPE, "none")))
    except NotFound as lost:
        faults.append(f"the training recipe: {lost.message}")
        return {}
    return recipe


def _compared(settings: Settings, sha256: str, faults: list[str]) -> Comparison | None:
    try:
        return comparisons.load(settings, sha256)
    except NotFound as lost:
        faults.append(f"the comparison: {lost.message}")
        return None


def _feature(name: str, share: float, facts: Mapping[str, Any], rises: int | None) -> Feature:
    return Feature(
        name=name,
        share=share,
        constraint=int(facts.get("monotone", 0)),
        rises=rises,
        theme=str(facts.get("theme", "")),
        owner=str(facts.get("owner", "")),
        description=str(facts.get("description", "")),
    )


def _folds(settings: Settings, training_set: str) -> tuple[Fold, ...]:
    members = ident(lake.ALIAS, "training", "members")
    with closing(lake.connect(settings)) as con:
        rows = con.execute(
            f"SELECT as_of_date::VARCHAR, fold, count(*), sum(label) FROM {members} "
            f"WHERE training_set = {literal(training_set)} GROUP BY ALL ORDER BY 1, 2"
        ).fetchall()
    return tuple(Fold(str(day), str(fold), int(n), int(events)) for day, fold, n, events in rows)


def _records(
    engine: Engine, name: str, number: int, promotions: tuple[Promotion, ...], training_run: str
) -> tuple[Record, ...]:
    """What the log says of the version, its training run, its promotions, and of the model where it means them."""
    about = [f"model:{name}/{number}", f"run:{training_run}", *(f"promotion:{p.id}" for p in promotions)]
    found = {r.seq: r for subject in about for r in audit.records(engine, subject=subject)}
    ids = {p.id for p in promotions}
    for record in audit.records(engine, subject=f"model:{name}"):
        if record.action.startswith("inventory.") or record.facts.get("promotion") in ids:
            found[record.seq] = record
    return tuple(record for _, record in sorted(found.items()))
