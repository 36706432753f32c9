"""The sessions of people who signed in by password: in this process's memory alone, and known by a key that no one can
guess. A session is over after a time without use and after a longest time; all end with the process.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pipeline.governance.access import Actor

LONGEST = timedelta(hours=8)
IDLE = timedelta(minutes=30)
TICKET_LIVES = timedelta(minutes=1)


@dataclass(frozen=True)
class SignedIn:
    """A session by password: who, and when they last did something."""

    actor: Actor
    seen_at: datetime


def ended(signed: SignedIn, now: datetime) -> str:
    """Why a session is over at ``now``, in a sentence; empty while it is not."""
    if now - signed.actor.authenticated_at >= LONGEST:
        return f"the session ended: {LONGEST.seconds // 3600} hours have passed since the sign-in"
    if now - signed.seen_at >= IDLE:
        return f"the session ended: {IDLE.seconds // 60} minutes passed without use"
    return ""


class Sessions:
    """Sessions by key, and tickets that are worth a key once. Any thread may ask.

    A ticket can stand in an address, where a key must not: it is used up by the first who shows it, within a minute.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = False
        self._signed: dict[str, SignedIn] = {}
        self._tickets: dict[str, tuple[str, datetime]] = {}

    def begin(self, actor: Actor, now: datetime) -> str:
        """The key of a new session. Those that are over are forgotten here."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            self._signed = {k: s for k, s in self._signed.items() if not ended(s, now)}
            self._tickets = {t: (k, until) for t, (k, until) in self._tickets.items() if until > now}
            self._signed[key] = SignedIn(actor, now)
            self._begun = True
        return key

    def get(self, key: str) -> SignedIn | None:
        """The session of a key, whether or not it is over by its time; None for a key that is none."""
        with self._lock:
            return self._signed.get(key)

    def stands(self, key: str, now: datetime) -> bool:
        """Whether somebody is signed in under a key, and still is by its times."""
        signed = self.get(key)
        return signed is not None and not ended(signed, now)

    @property
    def any(self) -> bool:
        """Whether anybody has signed in by password since the process began: then who has not is nobody."""
        return self._begun

    def seen(self, key: str, now: datetime) -> None:
        """Somebody did something in this session, if it is one."""
        with self._lock:
            if signed := self._signed.get(key):
                self._signed[key] = replace(signed, seen_at=now)

    def end(self, key: str) -> None:
        """Forget a session, and with it every tab's."""
        with self._lock:
            self._signed.pop(key, None)

    def ticket(self, key: str, now: datetime) -> str:
        """A new ticket for a key."""
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            self._tickets[ticket] = (key, now + TICKET_LIVES)
        return ticket

    def redeem(self, ticket: str, now: datetime) -> str | None:
        """The key that a ticket is for; None where it is none, was used, is too old, or the session is over."""
        with self._lock:
            key, until = self._tickets.pop(ticket, ("", now))
            signed = self._signed.get(key)
            return key if now < until and signed and not ended(signed, now) else None


SESSIONS = Sessions()
