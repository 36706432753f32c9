"""Who somebody is: local users by password.

A refusal is the same sentence after the same work, whether the name is unknown, the password wrong, or the user
disabled or locked: who tries names learns nothing. A try is written down before the password is looked at, so that
many at once get no more guesses than one after another.
"""

from __future__ import annotations

import base64
import secrets
import string
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import argon2
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Engine

from pipeline.errors import IdentityRefused
from pipeline.governance import users
from pipeline.governance.access import Actor
from pipeline.governance.users import FAILURES_THAT_LOCK, LOCKED_FOR, NOBODY, Record

MINIMUM_LENGTH = 12
MAXIMUM_LENGTH = 256
HASHER = argon2.PasswordHasher()  # argon2id with the parameters of RFC 9106 for less memory: 3 passes over 64 MiB
_ALPHABET = string.ascii_letters + string.digits


def generate_password() -> str:
    """A password from the system's randomness, 143 bits, in groups that can be read out."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(6)) for _ in range(4))


def hash_password(name: str, password: str, hasher: argon2.PasswordHasher = HASHER) -> str:
    """The argon2 hash of a new password. Raises IdentityRefused for one that is short, endless or easily guessed."""
    text = _normal(password)
    if len(text) < MINIMUM_LENGTH:
        fault = f"it has {len(text)} characters; {MINIMUM_LENGTH} are the least"
    elif len(text) > MAXIMUM_LENGTH:
        fault = f"it has more than {MAXIMUM_LENGTH} characters"
    elif len(set(text)) < 5:
        fault = "it repeats fewer than 5 different characters"
    elif name and name in text.casefold():
        fault = "it holds the user's name"
    else:
        return hasher.hash(_bytes(text))
    raise IdentityRefused(
        f"the password for {name} is not accepted: {fault}", "choose another, or let --generate make one"
    )


def authenticate(
    engine: Engine, name: str, password: str, now: datetime, *, record: Record, hasher: argon2.PasswordHasher = HASHER
) -> Actor:
    """Who signs in with this name and password. Raises IdentityRefused, the same for every cause.

    The try and both outcomes are entries of the audit log. Of a name that nobody has none keeps what was typed: people
    type their password there. Who knows the password of a user whose events the log does not answer for is told so.
    """
    asked = name.strip().casefold()
    known = asked if users.usable(asked) and users.fold(users.events_of(engine, asked)) else NOBODY
    whom = known or "a name that nobody has"
    with engine.begin() as connection:
        this_try = users.happen(
            connection,
            record,
            known,
            [(users.SIGN_IN_TRIED, {})],
            now,
            known,
            action="user.sign_in_tried",
            detail={},
            subject=whom,
        )
    events = [e for e in users.events_of(engine, known) if e.id != this_try]
    user = users.fold(events).get(known)
    matches = _matches(hasher, user.password_hash if user else "", password)
    if user is None or not matches or user.standing(now) != "active":
        standing = user.standing(now) if user else "unknown"
        record(engine, actor=whom, action="user.sign_in_refused", subject=f"user:{whom}", detail={"standing": standing})
        raise IdentityRefused(
            "the name or the password is wrong, or the user is locked or disabled",
            f"try again; {FAILURES_THAT_LOCK} failures in a row lock a user for {LOCKED_FOR.seconds // 60} minutes; "
            "an administrator sees who is locked with `scoretrace user list`",
        )
    try:
        users.sound(engine, user.name)  # said only to who knows the password
    except IdentityRefused as refused:
        detail = {"standing": "not covered", "rule": refused.message}
        record(engine, actor=whom, action="user.sign_in_refused", subject=f"user:{whom}", detail=detail)
        raise
    rehashed: list[tuple[str, Mapping[str, Any]]] = []
    if hasher.check_needs_rehash(user.password_hash):
        rehashed = [(users.REHASHED, {"password_hash": hasher.hash(_bytes(_normal(password)))})]
    with engine.begin() as connection:
        happened = [*rehashed, (users.SIGNED_IN, {})]
        users.happen(connection, record, user.name, happened, now, user.name, action="user.sign_in", detail={})
    return Actor(user.name, user.roles, "password", now)


def reauthenticate(
    engine: Engine, actor: Actor, password: str, now: datetime, *, record: Record,
    hasher: argon2.PasswordHasher = HASHER,
) -> Actor:  # fmt: skip
    """The same person once more, at the moment of signing, with the roles of this moment.

    Raises IdentityRefused when the password is wrong or the actor did not sign in by password: who came through an
    identity provider proves it there again.
    """
    if actor.method != "password":
        raise IdentityRefused(
            f"{actor.name} did not sign in with a password of this portal",
            "sign out and in again at your identity provider, then sign within its time",
        )
    return authenticate(engine, actor.name, password, now, record=record, hasher=hasher)


def still(engine: Engine, actor: Actor) -> Actor:
    """A signed-in user as they stand now, with the roles of now. Raises IdentityRefused when they were disabled, or
    their password was set anew, since they signed in, or when the audit log does not answer for what they are now: a
    session ends where the trust in it does.
    """
    user = users.sound(engine, actor.name)
    if user is None or user.disabled or user.password_at > actor.authenticated_at:
        raise IdentityRefused(
            f"{actor.name} was disabled or given another password after signing in",
            "sign in again, or ask an administrator",
        )
    return Actor(user.name, user.roles, actor.method, actor.authenticated_at)


def _matches(hasher: argon2.PasswordHasher, password_hash: str, password: str) -> bool:
    """Whether the password is the hash's. Without a hash it takes as long and is wrong."""
    try:
        right = hasher.verify(password_hash or _nobodys_hash(hasher), _bytes(_normal(password)[: MAXIMUM_LENGTH + 1]))
    except (VerificationError, InvalidHashError):
        return False
    return right and bool(password_hash)


def _nobodys_hash(hasher: argon2.PasswordHasher) -> str:
    """A hash of these parameters that costs as much to check as a user's and that no password has."""

    def base64_of(size: int) -> str:
        return base64.b64encode(bytes(size)).decode().rstrip("=")

    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2{hasher.type.name.lower()}$v=19${costs}${base64_of(hasher.salt_len)}${base64_of(hasher.hash_len)}"


def _normal(password: str) -> str:
    """One spelling of each character: keyboards differ in how they write an umlaut (NIST SP 800-63B, 5.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


def _bytes(text: str) -> bytes:
    """What is hashed: UTF-8, and no error for the odd bytes that a terminal may have read."""
    return text.encode("utf-8", "surrogatepass")
