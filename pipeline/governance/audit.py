"""The audit log in the control store: append, read, verify. Nothing here changes or removes a record.

An event and what it decides belong in one transaction: give ``append`` the connection that writes the decision, and
call it last, because it holds every other writer of the log off until the commit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from pipeline.control import audit_log, ordering
from pipeline.errors import MachineRefused, RecordRefused
from pipeline.governance import canonical_json, chain, texts
from pipeline.governance.chain import GENESIS, Checkpoint, Record, Verdict

__all__ = [
    "Checkpoint",
    "Record",
    "Verdict",
    "append",
    "count",
    "head",
    "hold_off_others",
    "records",
    "stream",
    "verify",
]

CLOCK_TOLERANCE = timedelta(minutes=5)
CLOCK_ACCEPTED = "clock.accepted"
_ACTION = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_SUBJECT = re.compile(r"[a-z][a-z0-9_]*:.+")
_ADVISORY_KEY = 0x5C02E7AD17
_BATCH = 5_000
_COLUMNS = tuple(audit_log.c[field] for field in chain.FIELDS)


def append(where: Engine | Connection, *, actor: str, action: str, subject: str, detail: Mapping[str, Any]) -> Record:
    """Add one record at the end of the log and return it.

    With a Connection it joins the caller's transaction; with an Engine it commits by itself. Appends wait for each
    other, across threads, processes and machines. action: dotted lower case, ``run.started``. subject: kind and id,
    ``model:pd_default/3``. detail: JSON values only. Raises RecordRefused, and writes nothing, when a text is empty,
    too long or has control characters, or when the detail is no canonical JSON or larger than 100 kB; MachineRefused
    when the clock stands before the log's last record.
    """
    actor, action, subject = (
        texts.name("an actor", actor),
        texts.name("an action", action),
        texts.name("a subject", subject),
    )
    if not _ACTION.fullmatch(action):
        raise RecordRefused(f"{action!r} is no action of an audit record", "name it like run.started")
    if not _SUBJECT.fullmatch(subject):
        raise RecordRefused(f"{subject!r} is no subject of an audit record", "name it like model:pd_default/3")
    written = _detail(detail, action, subject)
    if isinstance(where, Engine):
        with where.begin() as connection:
            return _append(connection, actor, action, subject, written)
    return _append(where, actor, action, subject, written)


def head(where: Engine | Connection) -> Checkpoint:
    """Where the log ends now. Number 0 when it has no record."""
    if isinstance(where, Engine):
        with where.connect() as connection:
            return head(connection)
    row = where.execute(select(audit_log.c.seq, audit_log.c.sha256).order_by(audit_log.c.seq.desc()).limit(1)).first()
    return Checkpoint(row.seq if row else 0, row.sha256 if row else GENESIS, at=_iso(datetime.now(UTC)))


ORDERS: Mapping[str, ColumnElement[Any]] = {
    "record": audit_log.c.seq,
    "who": audit_log.c.actor,
    "what": audit_log.c.action,
    "about": audit_log.c.subject,
}
"""What records are ordered by; their times follow their numbers."""


def records(
    where: Engine | Connection,
    *,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: int = 0,
    limit: int | None = None,
    skip: int = 0,
    order: str = "record",
) -> tuple[Record, ...]:
    """The records by this actor, about this subject, with this start of their action (with ``!`` before it: without
    it), in [since, until].

    Only records numbered above ``after``, at most ``limit`` after the first ``skip``. The times must have a zone.
    Nothing is verified here: ``verify`` does that.

    order: one of ``ORDERS``, with ``-`` before it for the largest first. What it does not tell apart: newest first.
    """
    wanted = _select(actor, action, subject, since, until).where(audit_log.c.seq > after)
    wanted = wanted.order_by(ordering(ORDERS, order), audit_log.c.seq.desc()).limit(limit).offset(skip or None)
    if isinstance(where, Engine):
        with where.connect() as connection:
            return tuple(Record(**row) for row in connection.execute(wanted).mappings())
    return tuple(Record(**row) for row in where.execute(wanted).mappings())


def count(
    engine: Engine,
    *,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> int:
    """How many records ``records`` would give without a limit."""
    wanted = select(func.count()).select_from(_select(actor, action, subject, since, until).subquery())
    with engine.connect() as connection:
        return int(connection.scalar(wanted) or 0)


def stream(
    engine: Engine,
    *,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    up_to: int | None = None,
) -> Iterator[Record]:
    """The same records, oldest first, in batches: any number of them in little memory. up_to: the last number."""
    wanted, last = _select(actor, action, subject, since, until), 0
    if up_to is not None:
        wanted = wanted.where(audit_log.c.seq <= up_to)
    with engine.connect() as connection:
        while rows := connection.execute(_batch(wanted, last)).mappings().all():
            yield from (Record(**row) for row in rows)
            last = rows[-1]["seq"]


def verify(
    engine: Engine, against: Checkpoint | None = None, *, progress: Callable[[int], None] = lambda _: None
) -> Verdict:
    """Check every record's number, hash and link to the record before it; name the first that is bad.

    against: a checkpoint kept from earlier. Without one, a tail that was cut off leaves no trace: the rest is still a
    sound log. Reads in batches and may run while records are appended. progress: told the number of the last record
    that was read, after each batch.
    """
    verifier, last, size = chain.Verifier(against), None, _BATCH
    with engine.connect() as connection:
        while verifier.going:
            try:
                rows = connection.execute(_batch(select(*_COLUMNS), last, size)).all()
            except DBAPIError as error:
                # SQLite keeps bytes that are no text, and cannot be made to read them: come closer, record by record.
                # Any other fault (no table, no connection) meets the second query too, and is raised by it.
                seq = connection.scalar(_batch(select(audit_log.c.seq), last, 1))
                if size == 1:
                    verifier.unreadable(seq or 0, str(error.orig))
                size = max(1, size // 2)
                continue
            if not rows:
                break
            verifier.follow(tuple(row) for row in rows)
            last = rows[-1][0]
            progress(last)
    return verifier.verdict()


def _append(connection: Connection, actor: str, action: str, subject: str, detail: str) -> Record:
    hold_off_others(connection)
    last = head(connection)
    if action != CLOCK_ACCEPTED:
        _require_clock(connection, datetime.fromisoformat(last.at))
    record = chain.sealed(
        seq=last.seq + 1, at=last.at, actor=actor, action=action, subject=subject, detail=detail,
        prev_sha256=last.sha256,
    )  # fmt: skip
    try:
        connection.execute(insert(audit_log).values(**vars(record)))
    except IntegrityError as error:  # only a snapshot older than the lock (REPEATABLE READ) can see an old end
        raise RecordRefused(
            f"record {record.seq} of the audit log was written by another transaction", "do the same thing again"
        ) from error
    return record


def _require_clock(connection: Connection, now: datetime) -> None:
    """No record is written before the last one: what came first would be told by its number alone."""
    row = connection.execute(select(audit_log.c.seq, audit_log.c.at).order_by(audit_log.c.seq.desc()).limit(1)).first()
    if row and datetime.fromisoformat(row.at) > now + CLOCK_TOLERANCE:
        raise set_back(now, row.seq, datetime.fromisoformat(row.at))


def set_back(now: datetime, seq: int, at: datetime) -> MachineRefused:
    """The error of a clock that stands before a record of the log."""
    return MachineRefused(
        f"the clock says {now:%Y-%m-%d %H:%M:%S} UTC, and record {seq} of the audit log was written at "
        f"{at:%Y-%m-%d %H:%M:%S} UTC: it was set back",
        "set the clock right (`timedatectl`) and run the command again; if it stands right now, "
        '`scoretrace doctor --accept-clock "why it was ahead"`',
    )


def hold_off_others(connection: Connection) -> None:
    """One writer until the transaction ends, from before the end of the log is read.

    ``append`` does it by itself; call it first where a decision is read from the log before it is recorded there.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_KEY})
    elif not connection.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
        # A transaction that has written holds SQLite's one write lock already.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _detail(value: Mapping[str, Any], action: str, subject: str) -> str:
    try:
        written = canonical_json.encode(texts.detail(value))
    except (TypeError, ValueError) as error:
        raise RecordRefused(
            f"the detail of {action} about {subject} cannot be recorded: {error}", "give JSON values only"
        ) from error
    if len(written) > texts.LARGEST:
        raise RecordRefused(
            f"the detail of {action} about {subject} has {len(written):,} bytes; {texts.LARGEST:,} are the most",
            "shorten the text, or keep the document elsewhere and record its SHA-256",
        )
    return written.decode()


def _select(
    actor: str | None, action: str | None, subject: str | None, since: datetime | None, until: datetime | None
) -> Select[Any]:
    wanted = select(*_COLUMNS)
    if actor is not None:
        wanted = wanted.where(audit_log.c.actor == actor)
    if action is not None:
        starts = audit_log.c.action.startswith(action.removeprefix("!"), autoescape=True)
        wanted = wanted.where(~starts if action.startswith("!") else starts)
    if subject is not None:
        wanted = wanted.where(audit_log.c.subject == subject)
    if since is not None:
        wanted = wanted.where(audit_log.c.at >= _iso(since))
    if until is not None:
        wanted = wanted.where(audit_log.c.at <= _iso(until))
    return wanted


def _batch(wanted: Select[Any], last: int | None, size: int = _BATCH) -> Select[Any]:
    """The next rows by number; from the very first, whatever its number, when ``last`` is None."""
    return (wanted if last is None else wanted.where(audit_log.c.seq > last)).order_by(audit_log.c.seq).limit(size)


def _iso(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no zone")
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
