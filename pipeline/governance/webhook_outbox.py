"""The outbox: for each receiver a cursor over the audit log, and every attempt. Nothing is copied into a queue.

What waits for a receiver is what the log holds beyond its cursor, in the log's order. A receiver that is down keeps its
place; nothing is given up.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from pipeline.control import audit_log, hook_attempts, hook_cursors
from pipeline.governance.chain import FIELDS, Record
from pipeline.governance.webhook_receivers import Receiver

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(hours=6)
CLAIM = timedelta(minutes=5)


@dataclass(frozen=True)
class Attempt:
    """One attempt at one record. status: of the HTTP answer, None when there was none."""

    seq: int
    at: datetime
    delivered: bool
    status: int | None
    error: str | None


@dataclass(frozen=True)
class Queue:
    """How a receiver stands. failed: attempts in a row at the record that is next. next_at: not before then."""

    receiver: str
    delivered: int
    waiting: int
    failed: int
    last: Attempt | None
    next_at: datetime | None
    claimed: bool


def wait_after(failed: int) -> timedelta:
    """How long to wait after so many failures in a row: 5 s, doubled each time, never more than 6 hours."""
    doublings: int = 1 << min(max(failed, 1) - 1, 20)
    return min(FIRST_WAIT * doublings, LONGEST_WAIT)


def queue(engine: Engine, receiver: Receiver, now: datetime) -> Queue:
    """How a receiver stands now. A receiver that is seen for the first time is given its place in the log."""
    with engine.begin() as connection:
        cursor = _cursor(connection, receiver)
        waiting = connection.scalar(select(func.count()).where(_waiting(receiver, cursor["delivered"]))) or 0
        a = hook_attempts.c
        mine = select(hook_attempts).where(a.receiver == receiver.name).order_by(a.id.desc())
        last = connection.execute(mine.limit(1)).mappings().first()
        failed = 0
        if last is not None and not last["delivered"]:
            good = select(func.coalesce(func.max(a.id), 0)).where(a.receiver == receiver.name, a.delivered)
            failed = connection.scalar(
                select(func.count()).where(a.receiver == receiver.name, a.id > good.scalar_subquery())
            ) or 0  # fmt: skip
    attempt = _attempt(last) if last is not None else None
    until = cursor["claimed_until"]
    return Queue(
        receiver=receiver.name,
        delivered=int(cursor["delivered"]),
        waiting=int(waiting),
        failed=int(failed),
        last=attempt,
        next_at=attempt.at + wait_after(failed) if attempt is not None and failed and waiting else None,
        claimed=until is not None and _utc(until) > now,
    )


def upcoming(engine: Engine, receiver: Receiver) -> Record | None:
    """The record that a receiver is to get next."""
    with engine.begin() as connection:
        cursor = _cursor(connection, receiver)
        columns = [audit_log.c[name] for name in FIELDS]
        query = select(*columns).where(_waiting(receiver, cursor["delivered"])).order_by(audit_log.c.seq).limit(1)
        row = connection.execute(query).mappings().first()
    return Record(**row) if row is not None else None


@contextmanager
def claimed(engine: Engine, receiver: Receiver, now: datetime) -> Iterator[bool]:
    """Whether this process may deliver to a receiver; no other one does until it is through, or has died."""
    token = secrets.token_hex(8)
    c = hook_cursors.c
    free = or_(c.claimed_until.is_(None), c.claimed_until <= now)
    with engine.begin() as connection:
        _cursor(connection, receiver)
        mine = update(hook_cursors).where(c.receiver == receiver.name, free)
        got = connection.execute(mine.values(claimed_until=now + CLAIM, claimed_by=token)).rowcount == 1
    try:
        yield got
    finally:
        if got:
            with engine.begin() as connection:
                held = update(hook_cursors).where(c.receiver == receiver.name, c.claimed_by == token)
                connection.execute(held.values(claimed_until=None, claimed_by=None))


def record(
    engine: Engine, receiver: Receiver, seq: int, now: datetime, *, status: int | None, error: str | None
) -> None:
    """One attempt; without an error the record is delivered and the cursor moves, in one transaction."""
    c = hook_cursors.c
    with engine.begin() as connection:
        connection.execute(
            insert(hook_attempts).values(
                receiver=receiver.name, seq=seq, at=now, delivered=error is None, status=status, error=error
            )
        )
        here = c.receiver == receiver.name
        if error is None:
            connection.execute(update(hook_cursors).where(here, c.delivered < seq).values(delivered=seq))
        connection.execute(
            update(hook_cursors).where(here, c.claimed_by.is_not(None)).values(claimed_until=now + CLAIM)
        )


def _cursor(connection: Connection, receiver: Receiver) -> Any:
    query = select(hook_cursors).where(hook_cursors.c.receiver == receiver.name)
    found = connection.execute(query).mappings().first()
    if found is None:
        since = receiver.since.isoformat(timespec="microseconds")
        before = connection.scalar(select(func.coalesce(func.max(audit_log.c.seq), 0)).where(audit_log.c.at < since))
        try:
            with connection.begin_nested():
                connection.execute(insert(hook_cursors).values(receiver=receiver.name, delivered=before))
        except IntegrityError:  # another process saw it first
            pass
        found = connection.execute(query).mappings().one()
    return found


def _waiting(receiver: Receiver, delivered: int) -> ColumnElement[bool]:
    wanted = or_(*(audit_log.c.action.startswith(prefix, autoescape=True) for prefix in receiver.events))
    return (audit_log.c.seq > delivered) & wanted


def _attempt(row: Any) -> Attempt:
    return Attempt(row["seq"], _utc(row["at"]), bool(row["delivered"]), row["status"], row["error"])


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
