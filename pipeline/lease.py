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
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, delete, insert, select, text

from pipeline.config import Settings
from pipeline.control import lease as lease_table
from pipeline.errors import LeaseHeld

_NAME = "lake-writer"
_ADVISORY_KEY = 0x5C02E72ACE
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
                connection.execute(delete(lease_table).where(lease_table.c.name == _NAME))


@contextmanager
def _file_lock(settings: Settings, _engine: Engine) -> Iterator[bool]:
    path = settings.home / "writer.lock"
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


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
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_KEY})


def _try_advisory_lock(connection: Connection) -> bool:
    return bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ADVISORY_KEY}).scalar())
