"""May this be done now, by this person? Pure functions over a promotion's state, a clock and who asks.

Each gives the rule that stands against it as a sentence, or None. Signatures are judged by what they say here; that
they are genuine is checked where the keys are (``approvals``).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import date, datetime, timedelta

from pipeline.governance.access import Actor
from pipeline.governance.promotion_state import Book, Promotion, Signature

FRESH = timedelta(minutes=5)
"""How long ago whoever signs may have given the password, or come from the identity provider."""
SKEW = timedelta(minutes=2)
"""How far in the future a moment may lie before a clock must be wrong."""


def against_signing(p: Promotion, actor: Actor, now: datetime, disabled: Collection[str] = ()) -> str | None:
    """Why this person may not sign this promotion now."""
    if closed := _closed(p) or _superseded(p):
        return closed
    if not set(actor.roles) & set(p.policy.roles):
        return f"the policy asks for {' or '.join(p.policy.roles)}; {actor.name} is {', '.join(sorted(actor.roles))}"
    if _same(actor.name, p.trainer):
        return f"{actor.name} trained {p.model} version {p.version}; another person must sign"
    if _same(actor.name, p.requester):
        return f"{actor.name} requested this promotion; another person must sign"
    if actor.name in {s.signer for s in counted(p, now, disabled)}:
        return f"{actor.name} has signed it already; one person counts once"
    if not now - FRESH <= actor.authenticated_at <= now + SKEW:
        return f"{actor.name} has not signed in within the last {FRESH.seconds // 60} minutes; do so at this moment"
    if actor.method == "oidc" and not _signed_in_for(p, actor):
        return f"{actor.name} has not signed in at the identity provider for this signature; do so at this moment"
    if p.blocking:
        return f"finding {p.blocking[0].id} blocks it: {p.blocking[0].text} (owner {p.blocking[0].owner})"
    if p.policy.challenge and not p.challenges:
        return "the policy asks for effective challenge on record before anyone signs"
    if p.policy.external_reference and (not p.external_reference or p.external_by in (p.trainer, p.requester)):
        whose = "none is on record" if not p.external_reference else "no reviewer has recorded it"
        return (
            f"the policy asks for the reference of an approval elsewhere, and {whose}: `scoretrace promotions "
            f"review {p.id} --external-reference REFERENCE`"
        )
    return None


def against_meaning(meaning: str) -> str | None:
    """Why these words are no approval. A signature counts towards the quorum, so it says that it approves."""
    said = " ".join(meaning.split())
    if re.match(r"I (have reviewed the evidence and )?approve\b(?! (nothing|neither|none)\b)", said):
        return None
    return f"a signature says “I approve …”, and this one would say {said[:100]!r}"


def _signed_in_for(p: Promotion, actor: Actor) -> bool:
    """Whether the login came after it was asked for here. A provider tells the time in whole seconds."""
    asked = p.logins_asked.get(actor.name)
    return asked is not None and actor.authenticated_at >= asked.replace(microsecond=0)


def counted(p: Promotion, now: datetime, disabled: Collection[str] = ()) -> tuple[Signature, ...]:
    """The signatures that count towards the quorum: one a person, not expired, by who may sign and still can.

    Once promoted, they are those that its record names, judged at that moment and whoever was disabled since.
    """
    moment = p.promoted_at or now
    gone = frozenset() if p.promoted_at else frozenset(disabled)
    oldest = moment - timedelta(days=p.policy.signature_days)
    found: dict[str, Signature] = {}
    for s in p.signatures:
        made = _same(s.signer, p.trainer) or _same(s.signer, p.requester)
        fits = set(s.roles) & set(p.policy.roles) and not made and s.signer not in gone
        if p.promoted_by is not None and s.signer not in p.promoted_by:
            continue
        if fits and oldest <= s.at <= moment + SKEW and s.at >= p.requested_at:
            found[s.signer] = s
    return tuple(found.values())


def missing(p: Promotion, now: datetime, disabled: Collection[str] = ()) -> tuple[str, ...]:
    """What a promotion lacks to be complete, each as a sentence; empty when nothing."""
    lacks = [newer] if p.promoted_at is None and (newer := _superseded(p)) else []
    have = len(counted(p, now, disabled))
    if have < p.policy.quorum:
        more = p.policy.quorum - have
        lacks.append(
            f"{more} more signature{'s' if more > 1 else ''} of {' or '.join(p.policy.roles)} "
            f"({have} of {p.policy.quorum})"
        )
    lacks += [f"finding {f.id} is open and blocks: {f.text}" for f in p.blocking]
    if p.policy.challenge and not p.challenges:
        lacks.append("effective challenge is not on record")
    if p.policy.external_reference and not p.external_reference:
        lacks.append("the reference of an approval elsewhere is not on record")
    elif p.policy.external_reference and p.external_by in (p.trainer, p.requester):
        lacks.append("the reference of an approval elsewhere is not confirmed by a reviewer")
    if p.promoted_at is None and now < p.requested_at + timedelta(hours=p.policy.waiting_hours):
        lacks.append(f"the waiting time of {p.policy.waiting_hours} hours is not over")
    return tuple(lacks)


def against_promoting(book: Book, p: Promotion, now: datetime, disabled: Collection[str] = ()) -> str | None:
    """Why a promotion may not take effect now."""
    if closed := _closed(p):
        return closed
    if lacks := missing(p, now, disabled):
        return "; ".join(lacks)
    if frozen := book.freeze_on(p.model):
        return f"changes are frozen by {frozen[0]}: {frozen[1]}"
    return None


def against_rollback(book: Book, p: Promotion, as_of: date, now: datetime) -> str | None:
    """Why a model may not go back to this promotion."""
    if p.promoted_at is None:
        return f"promotion {p.id} was never in force; only a version that was approved before can be put back"
    if p.withdrawn:
        return f"promotion {p.id} was withdrawn by {p.withdrawn[0]}: {p.withdrawn[2]}"
    held = book.in_force.get(p.model)
    if held is not None and held.promotion == p.id:
        return f"{p.model} version {p.version} is in force already"
    if against := against_scoring(p, as_of, now):
        return f"promotion {p.id} would let nothing score: {against}"
    return None


def expires_at(p: Promotion) -> datetime | None:
    """Until when a promotion that took effect lets its version score."""
    return p.promoted_at + timedelta(days=p.policy.approval_days) if p.promoted_at else None


def against_scoring(p: Promotion, as_of: date, now: datetime) -> str | None:
    """Why a promotion that took effect does not let its version score this date."""
    expires = expires_at(p)
    if expires is None:
        return "it never took effect"
    if p.withdrawn:
        return f"it was withdrawn by {p.withdrawn[0]}: {p.withdrawn[2]}"
    if lacks := missing(p, now):
        return "; ".join(lacks)
    if now > expires:
        return f"it expired on {expires:%Y-%m-%d}"
    if p.conditions.ends and as_of > date.fromisoformat(p.conditions.ends):
        return f"its conditional approval ended on {p.conditions.ends}"
    return None


def status(p: Promotion, now: datetime, disabled: Collection[str] = ()) -> str:
    """One word: open, ready, promoted, expired, rejected, withdrawn."""
    if p.withdrawn:
        return "withdrawn"
    if p.rejected:
        return "rejected"
    expires = expires_at(p)
    if expires is not None:
        return "expired" if now > expires else "promoted"
    return "ready" if not missing(p, now, disabled) else "open"


def _same(one: str, other: str) -> bool:
    """Whether two names may be one person's: a provider or a machine may write capitals that another does not."""
    return one.casefold() == other.casefold()


def _superseded(p: Promotion) -> str | None:
    if p.superseded is None:
        return None
    was = f"version {p.replaces}" if p.replaces else "no version"
    return (
        f"promotion {p.superseded} came into force since, and this one was requested when {was} was; its evidence "
        "compares with what does not score any more. Have it rejected or withdrawn, and request it anew"
    )


def _closed(p: Promotion) -> str | None:
    if p.rejected:
        return f"promotion {p.id} was rejected by {p.rejected[0]}: {p.rejected[2]}"
    if p.withdrawn:
        return f"promotion {p.id} was withdrawn by {p.withdrawn[0]}: {p.withdrawn[2]}"
    if p.promoted_at:
        return f"promotion {p.id} took effect on {p.promoted_at:%Y-%m-%d}"
    return None
