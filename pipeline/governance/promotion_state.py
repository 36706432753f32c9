"""A promotion as its events make it: a fold, and nothing else. No clock, no database, no decision.

Events are records of the audit log about ``promotion:ID``. What they have decided is here; what may be done next is in
``promotion_rules``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pipeline.governance.event import Event
from pipeline.governance.policy import Policy


@dataclass(frozen=True)
class Signature:
    """A signature as it was given. envelope: DSSE over what was signed.

    retired: keys of the envelope that had been replaced when it came on record; what they seal is worth nothing then.
    """

    signer: str
    roles: tuple[str, ...]
    at: datetime
    meaning: str
    reason: str
    envelope: Mapping[str, Any] = field(repr=False)
    retired: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A shortcoming found in review: who owes what by when, and whether it blocks."""

    id: str
    text: str
    blocking: bool
    owner: str
    due: str
    raised_by: str
    raised_at: datetime
    closed_by: str | None = None
    closed_at: datetime | None = None
    closing_note: str = ""

    @property
    def open(self) -> bool:
        return self.closed_at is None


@dataclass(frozen=True)
class Question:
    """Asked in review, and its answer when there is one."""

    id: str
    text: str
    asked_by: str
    asked_at: datetime
    answer: str | None = None
    answered_by: str | None = None


@dataclass(frozen=True)
class Challenge:
    """Effective challenge: by whom, with what expertise and independence, and what changed through it."""

    by: str
    at: datetime
    expertise: str
    independence: str
    changed: str


@dataclass(frozen=True)
class Conditions:
    """Limits of a conditional approval, which scoring enforces. ends: last as-of date; max_subjects: per night."""

    ends: str | None = None
    max_subjects: int | None = None
    set_by: str = ""


@dataclass(frozen=True)
class Promotion:
    """The state of one request to let a version score. external_reference: of an approval elsewhere, named by whom.

    logins_asked: who was sent to the identity provider to sign this promotion, and when they last were.
    promoted_by: whose signatures counted when it took effect; None where its record does not say. superseded: the
    promotion that came into force while this one was open: what its evidence compares with does not score any more.
    """

    id: str
    model: str
    version: int
    digest: str
    replaces: int | None
    trainer: str
    requester: str
    requested_at: datetime
    reason: str
    policy: Policy
    manifest: Mapping[str, Any] = field(repr=False)
    manifest_sha256: str
    external_reference: str | None = None
    external_by: str | None = None
    signatures: tuple[Signature, ...] = ()
    findings: tuple[Finding, ...] = ()
    questions: tuple[Question, ...] = ()
    challenges: tuple[Challenge, ...] = ()
    conditions: Conditions = Conditions()
    logins_asked: Mapping[str, datetime] = field(default_factory=dict)
    rejected: tuple[str, datetime, str] | None = None
    withdrawn: tuple[str, datetime, str] | None = None
    promoted_at: datetime | None = None
    promoted_by: tuple[str, ...] | None = None
    alias_moved: bool = False
    superseded: str | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing more can be signed."""
        return bool(self.rejected or self.withdrawn or self.promoted_at)

    @property
    def owed(self) -> tuple[Finding, ...]:
        """Findings that somebody has to answer: a rejected or withdrawn version owes nothing more."""
        return () if self.rejected or self.withdrawn else tuple(f for f in self.findings if f.open)

    @property
    def blocking(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.open and f.blocking)


@dataclass(frozen=True)
class InForce:
    """Which promotion of a model holds since when. rolled_back_by: who put an earlier one back, with review owed."""

    promotion: str
    since: datetime
    seq: int
    rolled_back_by: str | None = None
    review_due: str | None = None
    alias_moved: bool = False


@dataclass(frozen=True)
class Book:
    """All promotions by id, what is in force by model, and what is frozen (model or ``*``) with who and why."""

    promotions: Mapping[str, Promotion]
    in_force: Mapping[str, InForce]
    frozen: Mapping[str, tuple[str, str]]

    def of_model(self, model: str) -> tuple[Promotion, ...]:
        """Every promotion of a model, oldest first."""
        return tuple(p for p in self.promotions.values() if p.model == model)

    def freeze_on(self, model: str) -> tuple[str, str] | None:
        """Who froze this model, or all of them, and why."""
        return self.frozen.get(model) or self.frozen.get("*")


def fold(events: Iterable[Event]) -> Book:
    """The state after these events, in their order. Events of other kinds are passed over."""
    promotions: dict[str, Promotion] = {}
    in_force: dict[str, InForce] = {}
    frozen: dict[str, tuple[str, str]] = {}
    retired: set[str] = set()
    for event in events:
        kind, _, name = event.subject.partition(":")
        if event.action == "promotion.requested":
            promotions[name] = _requested(name, event)
        elif event.action == "key.rotated":
            retired.add(str(event.detail["replaces"]))
        elif event.action == "promotion.frozen":
            frozen[name] = (event.actor, str(event.detail["reason"]))
        elif event.action == "promotion.unfrozen":
            frozen.pop(name, None)
        elif event.action == "promotion.rolled_back":
            to = str(event.detail["promotion"])
            in_force[name] = InForce(to, event.at, event.seq, event.actor, str(event.detail["review_due"]))
            _supersede(promotions, name, to)
        elif event.action == "promotion.alias_moved" and kind == "model":
            if name in in_force:
                in_force[name] = replace(in_force[name], alias_moved=True)
        elif name in promotions:
            promotions[name] = _stepped(promotions[name], event, retired)
            if event.action == "promotion.promoted":
                in_force[promotions[name].model] = InForce(name, event.at, event.seq)
                _supersede(promotions, promotions[name].model, name)
            if event.action == "promotion.withdrawn":
                held = in_force.get(promotions[name].model)
                if held is not None and held.promotion == name:
                    del in_force[promotions[name].model]
    return Book(promotions, in_force, frozen)


def _requested(name: str, event: Event) -> Promotion:
    d = event.detail
    policy = dict(d["manifest"]["policy"])
    return Promotion(
        id=name,
        model=d["manifest"]["model"],
        version=int(d["manifest"]["version"]),
        digest=d["manifest"]["model_sha256"],
        replaces=d["replaces"],
        trainer=d["trainer"],
        requester=event.actor,
        requested_at=event.at,
        reason=d["reason"],
        policy=Policy(**{**policy, "roles": tuple(policy["roles"])}),
        manifest=d["manifest"],
        manifest_sha256=d["manifest_sha256"],
        external_reference=d.get("external_reference"),
        external_by=event.actor if d.get("external_reference") else None,
    )


def _supersede(promotions: dict[str, Promotion], model: str, by: str) -> None:
    for id_, p in promotions.items():
        if p.model == model and not p.closed:
            promotions[id_] = replace(p, superseded=by)


def _stepped(p: Promotion, event: Event, retired: Collection[str]) -> Promotion:
    d = event.detail
    match event.action:
        case "promotion.signed":
            sealed_by = (s["keyid"] for s in d["envelope"].get("signatures", ()))
            given = Signature(
                event.actor, tuple(d["roles"]), event.at, d["meaning"], d["reason"], d["envelope"],
                tuple(key for key in sealed_by if key in retired),
            )  # fmt: skip
            return replace(p, signatures=(*p.signatures, given))
        case "promotion.finding_raised":
            found = Finding(d["id"], d["text"], bool(d["blocking"]), d["owner"], d["due"], event.actor, event.at)
            return replace(p, findings=(*p.findings, found))
        case "promotion.finding_closed":
            closed = {"closed_by": event.actor, "closed_at": event.at, "closing_note": d["note"]}
            return replace(p, findings=tuple(replace(f, **closed) if f.id == d["id"] else f for f in p.findings))
        case "promotion.asked":
            return replace(p, questions=(*p.questions, Question(d["id"], d["text"], event.actor, event.at)))
        case "promotion.answered":
            answer = {"answer": d["text"], "answered_by": event.actor}
            return replace(p, questions=tuple(replace(q, **answer) if q.id == d["id"] else q for q in p.questions))
        case "promotion.challenged":
            challenge = Challenge(event.actor, event.at, d["expertise"], d["independence"], d["changed"])
            return replace(p, challenges=(*p.challenges, challenge))
        case "promotion.login_asked":
            return replace(p, logins_asked={**p.logins_asked, event.actor: event.at})
        case "promotion.conditioned":
            return replace(p, conditions=Conditions(d.get("ends"), d.get("max_subjects"), event.actor))
        case "promotion.external_approved":
            return replace(p, external_reference=d["reference"], external_by=event.actor)
        case "promotion.rejected":
            return replace(p, rejected=(event.actor, event.at, d["reason"]))
        case "promotion.withdrawn":
            return replace(p, withdrawn=(event.actor, event.at, d["reason"]))
        case "promotion.promoted":
            by = tuple(d["signers"]) if "signers" in d else None
            return replace(p, promoted_at=event.at, promoted_by=by)
        case "promotion.alias_moved":
            return replace(p, alias_moved=True)
        case _:
            return p
