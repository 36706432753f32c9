"""Promotion: the one place where a version becomes the one that scores.

A promotion is a row in the control store that names version and digest, and the alias that follows it. Scoring
asks ``require_approved``: the newest promotion decides, and an alias moved by hand in MLflow gains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine, insert, select

from pipeline import control
from pipeline.config import Settings
from pipeline.errors import ModelRefused
from pipeline.governance import events
from pipeline.registry import ModelVersion, Registry


@dataclass(frozen=True)
class Promotion:
    """Who approved which bytes, when and why. ``replaces_version`` is what scored before; None for the first."""

    id: int
    model_name: str
    model_version: int
    model_digest: str
    replaces_version: int | None
    actor: str
    reason: str
    promoted_at: datetime


def promote(
    settings: Settings, engine: Engine, registry: Registry, name: str, version: int, *, actor: str, reason: str
) -> Promotion:
    """Record that ``actor`` approves a version for scoring, and move the alias to it.

    The record comes first: killed in between, scoring refuses, and the same command finishes the move. Promoting
    what is already in use changes nothing and returns the standing promotion. Raises NotFound for an unknown
    version, ModelRefused for an empty reason and for a version whose bytes are not those registered, RecordRefused for
    control characters in the reason.
    """
    if not reason.strip():
        raise ModelRefused(
            f"a promotion of {name} version {version} needs a reason",
            f'`scoretrace promote {name} {version} --reason "why this version"`',
        )
    if not actor.strip():
        raise ModelRefused(f"a promotion of {name} version {version} needs an actor", "say who approves it")
    found = registry.get(name, version)
    registry.text(found)
    standing = approved(engine, name)
    if standing is None or not _covers(standing, found):
        values = {
            "model_name": name,
            "model_version": version,
            "model_digest": found.digest,
            "replaces_version": standing.model_version if standing else None,
            "actor": actor.strip(),
            "reason": reason.strip(),
            "promoted_at": datetime.now(UTC),
        }
        with engine.begin() as connection:
            connection.execute(insert(control.promotions).values(**values))
            events.promotion_recorded(connection, values)
        standing = approved(engine, name)
        assert standing is not None
    if registry.production_version(name) != version:
        registry.set_production(name, version)
    return standing


def approved(engine: Engine, name: str) -> Promotion | None:
    """The promotion in force for a model: the newest one, or None."""
    return next(iter(history(engine, name)), None)


def history(engine: Engine, name: str) -> tuple[Promotion, ...]:
    """Every promotion of a model, newest first."""
    table = control.promotions
    with engine.connect() as connection:
        rows = connection.execute(select(table).where(table.c.model_name == name).order_by(table.c.id.desc())).all()
    return tuple(Promotion(**{**row._mapping, "promoted_at": _with_zone(row._mapping["promoted_at"])}) for row in rows)


def require_approved(engine: Engine, registry: Registry, name: str) -> tuple[ModelVersion, Promotion]:
    """The version that may score and what approves it. Raises ModelRefused otherwise, naming what to do."""
    version = registry.production(name)
    promotion = approved(engine, name)
    if promotion is None:
        raise ModelRefused(
            f"{version} is set as production in the registry, but no promotion approves it",
            f'`scoretrace promote {name} {version.version} --reason "…"` records one',
        )
    if not _covers(promotion, version):
        raise ModelRefused(
            f"{version} (digest {version.digest[:12]}) is set as production in the registry, but the promotion in "
            f"force is of version {promotion.model_version} (digest {promotion.model_digest[:12]}), by "
            f"{promotion.actor}",
            f'`scoretrace promote {name} {promotion.model_version} --reason "…"` puts it back',
        )
    return version, promotion


def _covers(promotion: Promotion, version: ModelVersion) -> bool:
    return (promotion.model_version, promotion.model_digest) == (version.version, version.digest)


def _with_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
