"""Promotions read from the audit log: nothing else says what may score."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine

from pipeline.governance import audit
from pipeline.governance.event import event_of
from pipeline.governance.promotion_rules import counted
from pipeline.governance.promotion_state import Book, Promotion, fold


@dataclass(frozen=True)
class LetScore:
    """Who let a version score, when and why: a promotion in brief. actor: everybody who signed."""

    id: str
    model_name: str
    model_version: int
    model_digest: str
    replaces_version: int | None
    actor: str
    reason: str
    promoted_at: datetime


def book_of(where: Engine | Connection) -> Book:
    """Every promotion, as the audit log has it."""
    found = (*audit.records(where, action="promotion."), *audit.records(where, action="key.rotated"))
    return fold(event_of(r) for r in sorted(found, key=lambda r: r.seq))


def let_score(
    engine: Engine, name: str, version: int, digest: str | None = None, by: datetime | None = None
) -> LetScore | None:
    """The newest promotion that let exactly this version (and these bytes) score; of those by a moment, if given."""
    found = [
        p
        for p in book_of(engine).of_model(name)
        if p.version == version
        and p.promoted_at is not None
        and digest in (None, p.digest)
        and (by is None or p.promoted_at <= by.astimezone(UTC))
    ]
    return _brief(found[-1]) if found else None


def _brief(p: Promotion) -> LetScore:
    assert p.promoted_at is not None
    signers = ", ".join(s.signer for s in counted(p, p.promoted_at))
    return LetScore(p.id, p.model, p.version, p.digest, p.replaces, signers, p.reason, p.promoted_at)
