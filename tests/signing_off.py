"""A version let to score, the way the house does it: requested by one, signed by as many others as the policy asks."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine, insert, select

from pipeline import control
from pipeline.config import Settings
from pipeline.governance.access import Actor, owner
from pipeline.governance.approvals import Approvals
from pipeline.governance.promotion_state import Promotion
from pipeline.portfolio import Portfolio
from pipeline.registry import ModelVersion, Registry

APPROVERS = ("ada approver", "ben approver", "cleo approver")


def person(name: str, *roles: str, at: datetime | None = None) -> Actor:
    """Somebody who has just signed in."""
    return Actor(name, frozenset(roles), "password", at or datetime.now(UTC))


def at_the_home(name: str = "engineer") -> Actor:
    """Somebody at the command line of the home's own machine."""
    return owner(name, datetime.now(UTC))


def sign_off(
    settings: Settings, engine: Engine, registry: Registry, portfolio: Portfolio, name: str, version: int,
    reason: str = "first of the tests",
) -> Promotion:  # fmt: skip
    """Request and sign a version until it is in force."""
    desk = Approvals(settings, engine, registry, portfolio)
    promotion = desk.request(person("requester", "data_scientist"), name, version, reason)
    for approver in APPROVERS[: promotion.policy.quorum]:
        desk.sign(person(approver, "approver"), promotion.id, meaning="I approve this version", reason=reason)
    return desk.promotion(promotion.id)


def record_training(engine: Engine, version: ModelVersion, run_id: str | None = None) -> None:
    """Say that a training run registered a version which a test registered by hand; by default the first run."""
    t = control.training_runs
    with engine.begin() as connection:
        run = run_id or connection.scalar(select(control.runs.c.run_id).order_by(control.runs.c.started_at).limit(1))
        connection.execute(
            insert(t).values(
                run_id=run, model_name=version.name, as_of=datetime.now(UTC).date(), outcome="registered",
                model_version=version.version, model_digest=version.digest, training_set=version.training_set,
                snapshot_id=version.snapshot_id, metrics={"auc": 0.7}, checks=[], finished_at=datetime.now(UTC),
            )
        )  # fmt: skip
