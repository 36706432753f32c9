"""A clock that was set back: records of the audit log from what the machine now calls the future.

Times of runs, signatures, validities and promises hang on it, so nothing is written until somebody has looked. When
the clock stands right and it was the earlier records that were ahead, accepting that is itself a record.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine, func, select

from pipeline.control import audit_log
from pipeline.governance import audit, guard, texts
from pipeline.governance.access import Actor


def ahead(engine: Engine, now: datetime) -> tuple[int, datetime] | None:
    """Number and time of the record that lies furthest in the future, if one lies further than the tolerance."""
    a = audit_log.c
    with engine.connect() as connection:
        accepted = connection.scalar(select(func.max(a.seq)).where(a.action == audit.CLOCK_ACCEPTED)) or 0
        row = connection.execute(
            select(a.seq, a.at).where(a.seq > accepted).order_by(a.at.desc(), a.seq.desc()).limit(1)
        ).first()
    if row is None:
        return None
    latest = datetime.fromisoformat(row.at)
    return (row.seq, latest) if latest > now + audit.CLOCK_TOLERANCE else None


def require(engine: Engine) -> None:
    """Raises MachineRefused when the clock stands before the last records of the audit log."""
    now = datetime.now(UTC)
    if found := ahead(engine, now):
        raise audit.set_back(now, *found)


def accept(engine: Engine, actor: Actor, reason: str) -> None:
    """Put on record that the clock stands right now. Raises AccessDenied; RecordRefused without a reason."""
    guard.require(engine, actor, "run.night", "clock:machine")
    found = ahead(engine, datetime.now(UTC))
    detail = {
        "reason": texts.name("a reason", reason),
        "ahead": found and {"seq": found[0], "at": found[1].isoformat()},
    }
    audit.append(engine, actor=actor.name, action=audit.CLOCK_ACCEPTED, subject="clock:machine", detail=detail)
