"""The writer lease: one process writes the lake at a time, and a second one is told who does.

On one machine the lease is a lock on a file in the home; with PostgreSQL as control store it is an
advisory lock. Both are given back by the operating system or the server when the holder dies, so a
killed night leaves nothing to clear by hand. The holder's name is kept beside it for the message.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from sqlalchemy import Connection, Engine, delete, insert, select, text
from sqlalchemy.exc import DBAPIError

from pipeline.config import Settings
from pipeline.control import lease as lease_table
from pipeline.errors import LeaseHeld

_NAME = "lake-writer"
_ADVISORY_KEY = 0x5C02E72ACE
_LOCK_FILE = "writer.lock"
_GLANCE_SECONDS = 0.5  # longer than ``standing`` holds the lock to see whether somebody else does
_GRACE_SECONDS = 5.0  # how long a server may take to notice that a killed holder's connection is gone


@contextmanager
def writer_lease(settings: Settings, engine: Engine, purpose: str) -> Iterator[None]:
    """Hold the lease for the body of a ``with``. Raises LeaseHeld, naming the holder, when it is taken."""
    holder = f"{purpose} (process {os.getpid()} on {socket.gethostname()})"
    take = _file_lock if engine.dialect.name == "sqlite" else _advisory_lock
    with take(settings, engine) as taken:
        if not taken:
            with engine.connect() as connection:
                row = connection.execute(select(lease_table).where(lease_table.c.name == _NAME)).first()
            who = f"{row.holder}, since {row.acquired_at:%Y-%m-%d %H:%M:%S} UTC" if row else "another process"
            raise LeaseHeld(
                f"the lake is being written by {who}",
                "wait until it has finished (`scoretrace status` shows it), then run the command again",
            )
        with engine.begin() as connection:
            connection.execute(delete(lease_table).where(lease_table.c.name == _NAME))
            connection.execute(insert(lease_table).values(name=_NAME, holder=holder, acquired_at=datetime.now(UTC)))
        try:
            yield
        finally:
            with engine.begin() as connection:
                mine = (lease_table.c.name == _NAME) & (lease_table.c.holder == holder)
                connection.execute(delete(lease_table).where(mine))


@dataclass(frozen=True)
class Lease:
    """Who took the lease last and when, and whether that process still holds it."""

    holder: str
    since: datetime
    held: bool


def standing(settings: Settings, engine: Engine) -> Lease | None:
    """The lease on record, or None when its holder gave it back. Takes the lock for a moment to see if it is free."""
    with engine.connect() as connection:
        row = connection.execute(select(lease_table).where(lease_table.c.name == _NAME)).first()
    if row is None:
        return None
    if engine.dialect.name != "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            free = _try_advisory_lock(connection)
            if free:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_KEY})
        return Lease(row.holder, row.acquired_at, not free)
    path = settings.home / _LOCK_FILE
    if not path.is_file():
        return Lease(row.holder, row.acquired_at, False)
    with path.open() as handle:
        return Lease(row.holder, row.acquired_at, not _try_file_lock(handle, fcntl.LOCK_SH))


@contextmanager
def _file_lock(settings: Settings, _engine: Engine) -> Iterator[bool]:
    with (settings.home / _LOCK_FILE).open("a") as handle:
        deadline = time.monotonic() + _GLANCE_SECONDS
        while not (taken := _try_file_lock(handle, fcntl.LOCK_EX)) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield taken


def _try_file_lock(handle: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _advisory_lock(_settings: Settings, engine: Engine) -> Iterator[bool]:
    # The lock lives as long as this session does; autocommit, so that no transaction stays open beneath it.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        deadline = time.monotonic() + _GRACE_SECONDS
        while not (taken := _try_advisory_lock(connection)) and time.monotonic() < deadline:
            time.sleep(0.2)
        try:
            yield taken
        finally:
            if taken:
                with suppress(DBAPIError):  # the session is gone, and the lock with it
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_KEY})


def _try_advisory_lock(connection: Connection) -> bool:
    return bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ADVISORY_KEY}).scalar())
