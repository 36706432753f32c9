"""When a model's next review is due, and why then: the tier's months, or whatever pulls the date forward. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pipeline.calendar import add_months
from pipeline.governance import promotion_rules
from pipeline.governance.inventory_state import Fired, Standing
from pipeline.governance.promotion_state import InForce, Promotion


@dataclass(frozen=True)
class Cause:
    """One reason for a review, and by when it asks for it."""

    due: date
    why: str


@dataclass(frozen=True)
class ReviewDue:
    """due: the earliest cause's date; None where nothing was ever approved. causes: earliest first."""

    due: date | None
    last: date | None
    causes: tuple[Cause, ...]

    def overdue(self, today: date) -> bool:
        return self.due is not None and self.due < today

    @property
    def why(self) -> str:
        return self.causes[0].why if self.causes else "no version of it was ever approved or reviewed"


@dataclass(frozen=True)
class Owed:
    """A response that a fired trigger still asks for."""

    trigger: str
    response: str
    owner: str
    due: date
    why: str


def review_due(
    standing: Standing, tier: str, months: int, promotion: Promotion | None, held: InForce | None
) -> ReviewDue:
    """The next review of a model. promotion: the one in force, and how it holds.

    The regular date counts from the newer of the approval in force and the last review on record. What happened after
    that pulls it forward: a fired trigger, a break-glass rollback, the end of a conditional approval or of the
    approval itself. A review on record answers what came before it.
    """
    rolled_back = held is not None and held.rolled_back_by is not None
    moments = [r.at for r in standing.reviews]
    if promotion is not None and promotion.promoted_at is not None:
        moments.append(promotion.promoted_at)
    if not moments:
        return ReviewDue(None, None, ())
    last = max(moments)
    causes = [Cause(add_months(last.date(), months), f"{months} months after the last one, tier {tier}")]
    for fired in standing.fired:
        if fired.at > last:
            causes.append(_fired(standing, fired))
    if rolled_back and held is not None and held.review_due and held.since > last:
        due = date.fromisoformat(held.review_due)
        causes.append(Cause(due, f"{held.rolled_back_by} put an earlier version back on {held.since:%Y-%m-%d}"))
    if promotion is not None:
        causes += _ends(promotion, last)
    causes.sort(key=lambda cause: (cause.due, cause.why))
    return ReviewDue(causes[0].due, last.date(), tuple(causes))


def responses_owed(standing: Standing) -> tuple[Owed, ...]:
    """What fired triggers still ask for, soonest first. One not declared any more is owed all the same."""
    found = []
    for fired in standing.fired:
        if fired.owed:
            trigger = standing.entry.trigger(fired.trigger)
            days = trigger.within_days if trigger else 0
            response, owner = (trigger.response, trigger.owner) if trigger else ("", standing.entry.owner)
            due = (fired.at + timedelta(days=days)).date()
            found.append(Owed(fired.trigger, response, owner, due, fired.why))
    return tuple(sorted(found, key=lambda owed: (owed.due, owed.trigger)))


def _fired(standing: Standing, fired: Fired) -> Cause:
    trigger = standing.entry.trigger(fired.trigger)
    due = (fired.at + timedelta(days=trigger.within_days if trigger else 0)).date()
    return Cause(due, f"trigger “{fired.trigger}” fired on {fired.at:%Y-%m-%d}: {fired.why}")


def _ends(promotion: Promotion, last: datetime) -> list[Cause]:
    found = []
    if promotion.conditions.ends and date.fromisoformat(promotion.conditions.ends) >= last.date():
        ends = date.fromisoformat(promotion.conditions.ends)
        found.append(Cause(ends, f"the conditional approval {promotion.id} ends on {ends}"))
    expires = promotion_rules.expires_at(promotion)
    if expires is not None and expires > last:
        found.append(Cause(expires.date(), f"the approval {promotion.id} expires on {expires:%Y-%m-%d}"))
    return found
