"""A version let to score, the way the house does it: requested by one, signed by as many others as the policy asks."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine

from pipeline.config import Settings
from pipeline.governance.access import Actor
from pipeline.governance.approvals import Approvals
from pipeline.governance.promotion_state import Promotion
from pipeline.portfolio import Portfolio
from pipeline.registry import Registry

APPROVERS = ("ada approver", "ben approver", "cleo approver")


def person(name: str, *roles: str, at: datetime | None = None) -> Actor:
    """Somebody who has just signed in."""
    return Actor(name, frozenset(roles), "password", at or datetime.now(UTC))


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
