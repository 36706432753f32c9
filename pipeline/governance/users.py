"""Local users: what happened to each is appended and never changed; what a user is now is a fold over it.

Functions that change a user take ``record``, which writes the change to the audit log in the same transaction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, RowMapping, insert, inspect, select

from pipeline.control import user_events
from pipeline.errors import IdentityRefused, NotFound
from pipeline.governance import audit, coverage, guard
from pipeline.governance.access import PERSONAL_ROLES, Actor
from pipeline.governance.texts import shown

FAILURES_THAT_LOCK = 5
LOCKED_FOR = timedelta(minutes=15)
NOBODY = ""  # the name on record for a sign-in with a name that nobody has
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
_RESERVED = ("pipeline",)  # the service identity's

ADDED, PASSWORD_SET, REHASHED, ROLES_SET = "added", "password_set", "rehashed", "roles_set"
DISABLED, ENABLED, SIGN_IN_TRIED, SIGNED_IN = "disabled", "enabled", "sign_in_tried", "signed_in"


class Record(Protocol):
    """Writes one entry of the audit log; ``governance.audit.append`` is one."""

    def __call__(
        self, where: Engine | Connection, *, actor: str, action: str, subject: str, detail: dict[str, Any]
    ) -> object: ...


@dataclass(frozen=True)
class UserEvent:
    """One thing that happened to a user, in the order of ``id``. ``by`` is who did it."""

    id: int
    user_name: str
    kind: str
    at: datetime
    by: str
    roles: tuple[str, ...] = ()
    password_hash: str = ""


@dataclass(frozen=True)
class User:
    """A user as the events leave it.

    tries: sign-ins tried since the last that succeeded. locked_until: None unless so many failed that the user waits.
    password_at: when the password was last set; who signed in before that is asked again.
    """

    name: str
    roles: frozenset[str]
    added_at: datetime
    password_at: datetime
    password_hash: str = ""
    disabled: bool = False
    tries: int = 0
    locked_until: datetime | None = None
    signed_in_at: datetime | None = None

    def locked(self, now: datetime) -> bool:
        return self.locked_until is not None and now < self.locked_until

    def standing(self, now: datetime) -> str:
        """``disabled``, ``locked`` or ``active``."""
        return "disabled" if self.disabled else "locked" if self.locked(now) else "active"


def fold(events: Iterable[UserEvent]) -> dict[str, User]:
    """What every user is after these events, by name. Events of a name that was never added make no user."""
    users: dict[str, User] = {}
    for event in events:
        if event.kind == ADDED:
            users[event.user_name] = User(event.user_name, frozenset(event.roles), event.at, event.at)
        elif event.user_name in users:
            users[event.user_name] = _after(users[event.user_name], event)
    return users


def _after(user: User, event: UserEvent) -> User:
    match event.kind:
        case "password_set":
            unlocked = replace(user, tries=0, locked_until=None)
            return replace(unlocked, password_hash=event.password_hash, password_at=event.at)
        case "rehashed":
            return replace(user, password_hash=event.password_hash)
        case "roles_set":
            return replace(user, roles=frozenset(event.roles))
        case "disabled":
            return replace(user, disabled=True)
        case "enabled":
            return replace(user, disabled=False, tries=0, locked_until=None)
        case "signed_in":
            return replace(user, tries=0, locked_until=None, signed_in_at=event.at)
        case "sign_in_tried" if not user.locked(event.at):  # a try while locked counts for nothing: no lock without end
            tries = user.tries + 1
            until = event.at + LOCKED_FOR if tries % FAILURES_THAT_LOCK == 0 else None
            return replace(user, tries=tries, locked_until=until)
    return user


# ── the store ────────────────────────────────────────────────────────────────────────────────────────────────


def events_of(where: Engine | Connection, name: str | None = None) -> tuple[UserEvent, ...]:
    """Every event, or one user's, oldest first. A home from before there were users has none."""
    if isinstance(where, Engine):
        with where.connect() as connection:
            return events_of(connection, name)
    if not inspect(where).has_table(user_events.name):
        return ()
    query = select(user_events).order_by(user_events.c.id)
    if name is not None:
        query = query.where(user_events.c.user_name == name)
    try:
        return tuple(_event(row._mapping) for row in where.execute(query))
    except (ValueError, TypeError) as error:
        raise IdentityRefused(
            f"an event of {name or 'a user'} cannot be read: {error}", "`scoretrace audit verify` names it"
        ) from error


def _event(row: RowMapping) -> UserEvent:
    at = row["at"] if row["at"].tzinfo else row["at"].replace(tzinfo=UTC)  # SQLite keeps no zone
    return UserEvent(
        row["id"], row["user_name"], row["kind"], at, row["by"], tuple(row["roles"] or ()), row["password_hash"] or ""
    )


def append(connection: Connection, name: str, kind: str, at: datetime, by: str, **values: Any) -> int:
    """Add one event; returns its id."""
    event = {"user_name": name, "kind": kind, "at": at.astimezone(UTC), "by": by, **values}
    key = connection.execute(insert(user_events).values(**event)).inserted_primary_key
    assert key is not None
    return int(key[0])


def happen(
    connection: Connection, record: Record, name: str, events: Sequence[tuple[str, Mapping[str, Any]]], now: datetime,
    by: str, *, action: str, detail: Mapping[str, Any], subject: str = "",
) -> int:  # fmt: skip
    """Add events of one user and the record that covers them; returns the last event's id. Commits nothing."""
    ids = [append(connection, name, kind, now, by, **values) for kind, values in events]
    covered = coverage.of(connection, user_events, ids)
    record(
        connection, actor=by or subject, action=action, subject=f"user:{subject or name}", detail={**detail, **covered}
    )
    return ids[-1]


def sound(engine: Engine, name: str) -> User | None:
    """A user whose every event the audit log answers for; None for a name that nobody has.

    Raises IdentityRefused, naming the event, where the log does not: the user was changed past the application.
    """
    with engine.begin() as connection:
        if gap := coverage.of_user(connection, name):
            audit.hold_off_others(connection)  # an event may have been added between the two looks
            gap = coverage.of_user(connection, name)
        if gap:
            raise IdentityRefused(
                f"{name} is not let in: {gap.what} is not as Scoretrace wrote it; {gap.why}",
                "`scoretrace audit verify` looks at all of them; of a home from before events were covered, "
                "`scoretrace init --portfolio PORTFOLIO` takes them on record, once",
            )
        return fold(events_of(connection, name)).get(name)


def exist(engine: Engine) -> bool:
    """Whether anybody was ever added. From then on nobody is let in who did not sign in."""
    with engine.connect() as connection:
        if not inspect(connection).has_table(user_events.name):
            return False
        query = select(user_events.c.id).where(user_events.c.kind == ADDED).limit(1)
        return connection.execute(query).first() is not None


def all_users(engine: Engine) -> dict[str, User]:
    """Every user there is, by name."""
    return fold(events_of(engine))


def known_names(engine: Engine) -> frozenset[str]:
    """Whom something can be asked of: users who may sign in, and whoever came through an identity provider."""
    local = all_users(engine)
    came = {r.actor for r in audit.records(engine, action="user.sign_in") if r.action == "user.sign_in"}
    return frozenset(name for name in came | local.keys() if name not in local or not local[name].disabled)


def usable(name: str) -> bool:
    """Whether a user can have this name."""
    return _NAME.fullmatch(name) is not None and name not in _RESERVED


def find(engine: Engine, name: str) -> User:
    """One user. Raises NotFound."""
    if user := fold(events_of(engine, name)).get(name):
        return user
    raise NotFound(f"there is no user {name!r}", "`scoretrace user list` shows who there is")


# ── what an administrator does ───────────────────────────────────────────────────────────────────────────────


def add(
    engine: Engine, by: Actor, name: str, roles: Sequence[str], password_hash: str, now: datetime, record: Record
) -> None:
    """Add a user. Raises AccessDenied, or IdentityRefused for a name taken or unusable, no role or an odd one."""
    with _managing(engine, by, name, "user.add") as connection:
        if not usable(name):
            raise IdentityRefused(
                f"{name!r} cannot be a user's name",
                "take 1 to 64 of a-z, 0-9 and . _ @ + -, starting with a letter or digit; best the person's e-mail "
                "address",
            )
        _check_roles(roles)
        if fold(events_of(connection, name)):
            raise IdentityRefused(
                f"there is a user {name!r} already", f"`scoretrace user roles {name} --role …` changes what they may do"
            )
        held = {"roles": sorted(set(roles))}
        events: list[tuple[str, Mapping[str, Any]]] = [(ADDED, held), (PASSWORD_SET, {"password_hash": password_hash})]
        happen(connection, record, name, events, now, by.name, action="user.add", detail=held)


def set_roles(engine: Engine, by: Actor, name: str, roles: Sequence[str], now: datetime, record: Record) -> None:
    """Give a user these roles and no others. Raises AccessDenied, NotFound, or IdentityRefused for the last admin's."""
    with _managing(engine, by, name, "user.roles") as connection:
        _check_roles(roles)
        before = find(engine, name)
        if "admin" not in roles:
            _keep_an_administrator(engine, name)
        held = {"roles": sorted(set(roles))}
        detail = {**held, "before": sorted(before.roles)}
        happen(connection, record, name, [(ROLES_SET, held)], now, by.name, action="user.roles", detail=detail)


def set_disabled(engine: Engine, by: Actor, name: str, disabled: bool, now: datetime, record: Record) -> None:
    """Shut a user out, or let them in again, which also ends a lock. Raises as ``set_roles`` does."""
    kind, action = (DISABLED, "user.disable") if disabled else (ENABLED, "user.enable")
    with _managing(engine, by, name, action) as connection:
        find(engine, name)
        if disabled:
            _keep_an_administrator(engine, name)
        happen(connection, record, name, [(kind, {})], now, by.name, action=action, detail={})


def set_password(engine: Engine, by: Actor, name: str, password_hash: str, now: datetime, record: Record) -> None:
    """Set one's own password, or as an administrator anybody's. Raises AccessDenied or NotFound."""
    if by.name != name or by.method != "password":
        guard.require(engine, by, "user.manage", f"user:{name}")
    find(engine, name)
    with engine.begin() as connection:
        events = [(PASSWORD_SET, {"password_hash": password_hash})]
        happen(connection, record, name, events, now, by.name, action="user.password", detail={})


@contextmanager
def _managing(engine: Engine, by: Actor, name: str, action: str) -> Iterator[Connection]:
    """A change of a user by who may, with all others held off, so that no two administrators end each other at once.

    A refusal is a record too.
    """
    guard.require(engine, by, "user.manage", f"user:{name}")
    try:
        with engine.begin() as connection:
            audit.hold_off_others(connection)
            yield connection
    except (IdentityRefused, NotFound) as refused:
        subject = f"user:{shown(' '.join(name.split()), most=200) or '(no name)'}"
        detail = {"asked": action, "rule": shown(refused.message)}
        audit.append(engine, actor=by.name, action="user.refused", subject=subject, detail=detail)
        raise


def _check_roles(roles: Sequence[str]) -> None:
    if not roles or (odd := sorted(set(roles) - set(PERSONAL_ROLES))):
        said = f"{', '.join(odd)} is no role that a person can hold" if roles else "a user needs a role"
        raise IdentityRefused(said, f"the roles are: {', '.join(PERSONAL_ROLES)}")


def _keep_an_administrator(engine: Engine, name: str) -> None:
    users = all_users(engine)
    others = [u for u in users.values() if u.name != name and "admin" in u.roles and not u.disabled]
    if "admin" in users[name].roles and not others:
        raise IdentityRefused(
            f"{name} is the only administrator: without one nobody could manage users",
            "`scoretrace user add NAME --role admin` makes another first",
        )
