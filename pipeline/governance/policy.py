"""What a promotion needs, by materiality tier: who signs, how many, how long it holds. Part of the portfolio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.governance.access import RULES

TIERS = ("high", "medium", "low")


@dataclass(frozen=True)
class Policy:
    """The rules of one tier.

    quorum: how many different people must sign. roles: who may sign, by role.
    signature_days: how long a signature counts towards the quorum. approval_days: how long a complete promotion lets
    the version score. waiting_hours: from the request to the first moment it may take effect.
    challenge: effective challenge must be on record before anyone signs. external_reference: so must the reference of
    an approval elsewhere (a change ticket); a portfolio writes it as ``external_approval: required``.
    """

    quorum: int = 2
    roles: tuple[str, ...] = ("approver",)
    signature_days: int = 14
    approval_days: int = 365
    waiting_hours: int = 0
    challenge: bool = False
    external_reference: bool = False

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "roles": list(self.roles)}


DEFAULTS: Mapping[str, Policy] = {
    "high": Policy(),
    "medium": Policy(quorum=1, approval_days=540),
    "low": Policy(quorum=1, signature_days=30, approval_days=730),
}


REVIEW_MONTHS: Mapping[str, int] = {"high": 12, "medium": 18, "low": 24}
"""How long after a review the next one is due at the latest, by tier. Not part of what a promotion needs."""


def parse(raw: Mapping[str, Mapping[str, object]]) -> dict[str, Policy]:
    """The tiers of a portfolio's ``governance:`` section over the defaults. Raises ValueError naming what is wrong."""
    policies = dict(DEFAULTS)
    for tier, values in raw.items():
        if tier not in TIERS:
            raise ValueError(f"governance: {tier!r} is no tier; there are {', '.join(TIERS)}")
        if not isinstance(values, Mapping):
            raise ValueError(f"governance.{tier} is a section of keys and values")
        given = {k: v for k, v in values.items() if k not in ("review_months", "external_approval")}
        if "external_approval" in values:
            if values["external_approval"] not in ("required", "none"):
                raise ValueError(f"governance.{tier}.external_approval is required or none")
            given["external_reference"] = values["external_approval"] == "required"
        known: dict[str, Any] = policies[tier].as_dict() | given
        if unknown := sorted(set(known) - set(policies[tier].as_dict())):
            raise ValueError(f"governance.{tier} has the unknown key {', '.join(map(str, unknown))}")
        _check(f"governance.{tier}", known)
        policies[tier] = Policy(**{**known, "roles": tuple(known["roles"])})
    return policies


def _check(place: str, values: Mapping[str, Any]) -> None:
    """Raises ValueError for what no promotion could be held to: a slip here would be found when nobody can sign."""
    for key, least, most in (*((k, 1, 36_500) for k in ("quorum", "signature_days", "approval_days")),
                             ("waiting_hours", 0, 8_760)):  # fmt: skip
        if type(values[key]) is not int or not least <= values[key] <= most:
            raise ValueError(f"{place}.{key} is {values[key]!r}; it is a whole number from {least} to {most:,}")
    for key in ("challenge", "external_reference"):
        if type(values[key]) is not bool:
            raise ValueError(f"{place}.{key} is {values[key]!r}; it is true or false")
    roles, may_sign = values["roles"], RULES["promotion.sign"].roles
    if not isinstance(roles, list | tuple) or not roles or any(role not in may_sign for role in roles):
        raise ValueError(f"{place}.roles is {roles!r}; it is a list of roles that may sign: {', '.join(may_sign)}")


def review_months(raw: Mapping[str, Mapping[str, object]]) -> dict[str, int]:
    """The ``review_months`` of each tier over the defaults. Raises ValueError naming what is wrong."""
    months = dict(REVIEW_MONTHS)
    for tier, values in raw.items():
        given = values.get("review_months", months.get(tier))
        if type(given) is not int or not 1 <= given <= 120:
            raise ValueError(f"governance.{tier}.review_months is {given!r}; it is a whole number from 1 to 120")
        months[tier] = given
    return months
