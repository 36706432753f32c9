"""What waits for whom: pure functions over the promotions and whoever looks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from pipeline.governance import promotion_rules as rules
from pipeline.governance.access import Actor, may
from pipeline.governance.inventory_log import Listed
from pipeline.governance.promotion_state import Book, Finding, Promotion

WEEK = timedelta(days=7)
SIGNATURE = "your signature"


@dataclass(frozen=True)
class Waiting:
    """One thing that somebody is waited for: of which promotion, what, since when, and by when if there is a date."""

    promotion: Promotion
    what: str
    since: datetime
    due: date | None = None


def waiting_for(book: Book, actor: Actor, now: datetime, disabled: Collection[str] = ()) -> tuple[Waiting, ...]:
    """What this person is waited for, the most urgent first: what has a date, then what waits longest."""
    found = [w for p in book.promotions.values() for w in _of(p, actor, now, disabled)]
    return tuple(sorted(found, key=lambda w: (w.due is None, w.due or date.max, w.since)))


def findings_due(book: Book, today: date) -> tuple[tuple[Promotion, Finding], ...]:
    """Open findings that are overdue or due within a week, the earliest first."""
    last = (today + WEEK).isoformat()
    found = [(p, f) for p in book.promotions.values() for f in p.owed if f.due <= last]
    return tuple(sorted(found, key=lambda pair: pair[1].due))


def models_late(listed: Sequence[Listed], today: date) -> tuple[tuple[str, str], ...]:
    """(model, what is late): reviews past their date, and responses to fired triggers that are owed still."""
    reviews = [(m.name, "review") for m in listed if m.review.overdue(today)]
    return (*reviews, *((m.name, "response") for m in listed for owed in m.owed if owed.due < today))


def _of(p: Promotion, actor: Actor, now: datetime, disabled: Collection[str]) -> Iterator[Waiting]:
    if not p.closed:
        # How long ago they signed in is asked at the signature, not here.
        there = replace(actor, authenticated_at=now)
        wanted = len(rules.counted(p, now, disabled)) < p.policy.quorum
        if wanted and may(actor, "promotion.sign") and rules.against_signing(p, there, now, disabled) is None:
            yield Waiting(p, SIGNATURE, p.requested_at)
        if may(actor, "finding.answer") and actor.name in (p.requester, p.trainer):
            for q in p.questions:
                if q.answer is None:
                    yield Waiting(p, f"your answer to {q.id} of {q.asked_by}", q.asked_at)
        lacks = p.policy.challenge and not p.challenges
        if lacks and may(actor, "promotion.review") and actor.name not in (p.requester, p.trainer):
            yield Waiting(p, "effective challenge", p.requested_at)
    for f in p.owed:
        if f.owner == actor.name:
            yield Waiting(p, f"finding {f.id}, which is yours", f.raised_at, date.fromisoformat(f.due))
