"""Users and sign-in, on SQLite and on PostgreSQL; claims of an identity provider. Every clock is given."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import argon2
import pytest
from sqlalchemy import Connection, Engine, delete, text, update
from sqlalchemy.exc import DBAPIError

from pipeline import control
from pipeline.config import Settings
from pipeline.errors import AccessDenied, ConfigError, IdentityRefused, NotFound
from pipeline.governance import audit, coverage, identity, users
from pipeline.governance.access import Actor
from pipeline.governance.claims import actor_from_claims, read_group_roles
from pipeline.governance.users import UserEvent, fold
from tests.postgres import binaries, server

NOW = datetime(2026, 3, 14, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
QUICK = argon2.PasswordHasher(time_cost=1, memory_cost=256, parallelism=1)
ROOT = Actor("root", frozenset({"admin"}), "home", NOW)
RIGHT, WRONG = "correct horse battery", "incorrect horse battery"


class Log:
    """Writes the audit log, and keeps what was recorded without the rows that it covers."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, str, dict[str, Any]]] = []

    def __call__(
        self, where: Engine | Connection, *, actor: str, action: str, subject: str, detail: dict[str, Any]
    ) -> None:
        audit.append(where, actor=actor, action=action, subject=subject, detail=detail)
        self.entries.append((actor, action, subject, {k: v for k, v in detail.items() if k != coverage.COVERS}))

    @property
    def actions(self) -> list[str]:
        return [action for _, action, _, _ in self.entries]


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    bin_dir = binaries()
    if bin_dir is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    with server(bin_dir) as conninfo:
        parts = dict(pair.split("=") for pair in conninfo.split())
        yield f"postgresql+psycopg://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}"


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty control store."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    made = control.create(Settings.at(tmp_path / "home", control_url=url))
    yield made
    if url:
        control.metadata.drop_all(made)
    made.dispose()


def add(engine: Engine, name: str, *roles: str, password: str = RIGHT, log: Log | None = None) -> None:
    hashed = identity.hash_password(name, password, QUICK)
    users.add(engine, ROOT, name, roles or ("viewer",), hashed, NOW, log or Log())


def sign_in(engine: Engine, name: str, password: str = RIGHT, now: datetime = NOW, log: Log | None = None) -> Actor:
    return identity.authenticate(engine, name, password, now, record=log or Log(), hasher=QUICK)


def refused(engine: Engine, name: str, password: str = WRONG, now: datetime = NOW) -> str:
    with pytest.raises(IdentityRefused) as caught:
        sign_in(engine, name, password, now)
    return str(caught.value)


# ── users as a fold ──────────────────────────────────────────────────────────────────────────────────────────


def history(*kinds: str, start: datetime = NOW, apart: timedelta = MINUTE) -> list[UserEvent]:
    return [UserEvent(i, "anna", kind, start + i * apart, "root", ("viewer",)) for i, kind in enumerate(kinds)]


def test_a_user_is_what_the_events_leave() -> None:
    events = [
        UserEvent(1, "anna", "added", NOW, "root", ("viewer",)),
        UserEvent(2, "anna", "password_set", NOW, "root", (), "one"),
        UserEvent(3, "ben", "added", NOW, "root", ("approver",)),
        UserEvent(4, "anna", "roles_set", NOW + MINUTE, "root", ("analyst", "approver")),
        UserEvent(5, "anna", "password_set", NOW + 2 * MINUTE, "anna", (), "two"),
        UserEvent(6, "ben", "disabled", NOW + 3 * MINUTE, "root"),
        UserEvent(7, "carl", "password_set", NOW, "root", (), "never added"),
        UserEvent(8, "", "sign_in_tried", NOW, ""),
    ]
    found = fold(events)
    assert sorted(found) == ["anna", "ben"]
    anna = found["anna"]
    assert (anna.roles, anna.password_hash) == ({"analyst", "approver"}, "two")
    assert (anna.added_at, anna.password_at) == (NOW, NOW + 2 * MINUTE)
    assert found["ben"].standing(NOW) == "disabled"
    assert fold([*events, UserEvent(9, "ben", "enabled", NOW, "root")])["ben"].standing(NOW) == "active"
    assert fold([]) == {}


def test_the_fifth_failure_locks_for_a_quarter_of_an_hour() -> None:
    four = history("added", *["sign_in_tried"] * 4)
    assert fold(four)["anna"].locked_until is None
    five = history("added", *["sign_in_tried"] * 5)
    until = fold(five)["anna"].locked_until
    assert until == five[-1].at + timedelta(minutes=15)
    assert fold(five)["anna"].locked(until - timedelta(seconds=1)) and not fold(five)["anna"].locked(until)


def test_tries_while_locked_do_not_make_the_lock_longer() -> None:
    events = history("added", *["sign_in_tried"] * 12)
    assert fold(events)["anna"].locked_until == events[5].at + timedelta(minutes=15)


def test_a_sign_in_in_between_starts_the_count_again() -> None:
    events = history("added", *["sign_in_tried"] * 4, "signed_in", *["sign_in_tried"] * 4)
    assert fold(events)["anna"].standing(events[-1].at) == "active"


@pytest.mark.parametrize("kind", ["enabled", "password_set"])
def test_an_administrator_ends_a_lock(kind: str) -> None:
    events = history("added", *["sign_in_tried"] * 5, kind)
    assert fold(events)["anna"].standing(events[-1].at) == "active"


# ── the store ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_database_refuses_to_change_what_happened(engine: Engine) -> None:
    add(engine, "anna")
    table = control.user_events
    for statement in (update(table).values(by="somebody else"), delete(table)):
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(statement)
    if engine.dialect.name == "postgresql":
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(text("TRUNCATE user_events"))
    assert [e.kind for e in users.events_of(engine)] == ["added", "password_set"]


def test_a_user_is_added_once_and_every_change_is_recorded(engine: Engine) -> None:
    log = Log()
    add(engine, "anna", "viewer", "analyst", log=log)
    with pytest.raises(IdentityRefused, match="there is a user 'anna' already"):
        add(engine, "anna", "admin", log=log)
    users.set_roles(engine, ROOT, "anna", ["approver"], NOW, log)
    users.set_disabled(engine, ROOT, "anna", True, NOW, log)
    users.set_disabled(engine, ROOT, "anna", False, NOW, log)
    assert log.actions == ["user.add", "user.roles", "user.disable", "user.enable"]
    assert log.entries[1] == (
        "root",
        "user.roles",
        "user:anna",
        {"roles": ["approver"], "before": ["analyst", "viewer"]},
    )
    found = users.find(engine, "anna")
    assert (found.roles, found.added_at, found.standing(NOW)) == ({"approver"}, NOW, "active")


def test_a_change_whose_record_fails_does_not_happen(engine: Engine) -> None:
    def broken(where: object, **entry: object) -> None:
        raise OSError("the log's disk is full")

    with pytest.raises(OSError, match="disk is full"):
        users.add(engine, ROOT, "anna", ["viewer"], "hash", NOW, broken)
    assert users.all_users(engine) == {}


@pytest.mark.parametrize(
    "name", ["", "Anna", "anna smith", "-x", "a\n", "a" * 65, "pipeline", "änna", "a\x00b", "[red]", "a/b"]
)
def test_a_name_that_could_be_misread_is_refused(engine: Engine, name: str) -> None:
    with pytest.raises(IdentityRefused, match="cannot be a user's name"):
        users.add(engine, ROOT, name, ["viewer"], "hash", NOW, Log())


@pytest.mark.parametrize("roles", [[], ["service"], ["viewer", "root"], ["Admin"]])
def test_a_role_that_no_person_holds_is_refused(engine: Engine, roles: list[str]) -> None:
    with pytest.raises(IdentityRefused, match="role"):
        users.add(engine, ROOT, "anna", roles, "hash", NOW, Log())
    add(engine, "anna")
    with pytest.raises(IdentityRefused, match="role"):
        users.set_roles(engine, ROOT, "anna", roles, NOW, Log())


def test_only_an_administrator_manages_users(engine: Engine) -> None:
    add(engine, "anna")
    other = Actor("ben", frozenset({"approver", "developer", "analyst"}), "password", NOW)
    log = Log()
    for act in (
        lambda: users.add(engine, other, "carl", ["viewer"], "hash", NOW, log),
        lambda: users.set_roles(engine, other, "anna", ["admin"], NOW, log),
        lambda: users.set_disabled(engine, other, "anna", True, NOW, log),
        lambda: users.set_password(engine, other, "anna", "hash", NOW, log),
    ):
        with pytest.raises(AccessDenied, match=r"user\.manage"):
            act()
    assert log.entries == [] and len(users.events_of(engine)) == 2


def test_one_sets_ones_own_password_only_when_signed_in_by_it(engine: Engine) -> None:
    add(engine, "anna")
    users.set_password(
        engine, sign_in(engine, "anna"), "anna", identity.hash_password("anna", WRONG, QUICK), NOW, Log()
    )
    assert sign_in(engine, "anna", WRONG).name == "anna"
    namesake = Actor("anna", frozenset({"viewer"}), "oidc", NOW)
    with pytest.raises(AccessDenied):
        users.set_password(engine, namesake, "anna", "hash", NOW, Log())


def test_the_last_administrator_stays_one(engine: Engine) -> None:
    add(engine, "anna", "admin")
    add(engine, "ben", "admin")
    users.set_disabled(engine, ROOT, "ben", True, NOW, Log())
    with pytest.raises(IdentityRefused, match="anna is the only administrator"):
        users.set_disabled(engine, ROOT, "anna", True, NOW, Log())
    with pytest.raises(IdentityRefused, match="anna is the only administrator"):
        users.set_roles(engine, ROOT, "anna", ["viewer"], NOW, Log())
    users.set_disabled(engine, ROOT, "ben", False, NOW, Log())
    users.set_roles(engine, ROOT, "anna", ["viewer"], NOW, Log())


def test_who_is_not_there_is_named(engine: Engine) -> None:
    for act in (
        lambda: users.set_roles(engine, ROOT, "nina", ["viewer"], NOW, Log()),
        lambda: users.set_disabled(engine, ROOT, "nina", True, NOW, Log()),
        lambda: users.set_password(engine, ROOT, "nina", "hash", NOW, Log()),
    ):
        with pytest.raises(NotFound, match="no user 'nina'"):
            act()


def test_a_home_from_before_there_were_users_has_none(engine: Engine) -> None:
    control.user_events.drop(engine)
    assert users.all_users(engine) == {} and coverage.verify(engine) is None


# ── passwords ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("", "it has 0 characters"),
        ("elevenchars", "it has 11 characters; 12 are the least"),
        ("ababababababab", "fewer than 5 different"),
        ("x" * 300, "more than 256"),
        ("my name is Anna!", "holds the user's name"),
    ],
)
def test_a_password_that_is_easy_is_refused(password: str, fault: str) -> None:
    with pytest.raises(IdentityRefused, match=fault):
        identity.hash_password("anna", password, QUICK)


def test_generated_passwords_are_accepted_and_differ() -> None:
    made = {identity.generate_password() for _ in range(50)}
    assert len(made) == 50
    for password in made:
        assert identity.hash_password("anna", password, QUICK).startswith("$argon2id$")


def test_a_password_is_stored_as_a_hash_alone(engine: Engine) -> None:
    add(engine, "anna")
    stored = users.find(engine, "anna").password_hash
    assert stored.startswith("$argon2id$v=19$m=256,t=1,p=1$") and RIGHT not in repr(users.events_of(engine))
    add(engine, "ben")
    assert users.find(engine, "ben").password_hash != stored, "the same password, another salt"


def test_the_spelling_of_a_character_does_not_matter(engine: Engine) -> None:
    add(engine, "anna", password="Schöne Grüße aus Wien")
    assert sign_in(engine, "anna", "Scho\u0308ne Gru\u0308ße aus Wien").name == "anna"


# ── sign-in ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_signs_in_is_who_they_are_now(engine: Engine) -> None:
    add(engine, "anna", "analyst")
    users.set_roles(engine, ROOT, "anna", ["approver", "analyst"], NOW, Log())
    log = Log()
    expected = Actor("anna", frozenset({"analyst", "approver"}), "password", NOW + MINUTE)
    assert sign_in(engine, " Anna ", now=NOW + MINUTE, log=log) == expected
    assert log.entries == [
        ("anna", "user.sign_in_tried", "user:anna", {}),
        ("anna", "user.sign_in", "user:anna", {}),
    ]
    assert users.find(engine, "anna").signed_in_at == NOW + MINUTE


def test_every_refusal_is_the_same_sentence(engine: Engine) -> None:
    for name in ("anna", "ben", "carl"):
        add(engine, name)
    users.set_disabled(engine, ROOT, "ben", True, NOW, Log())
    for _ in range(5):
        refused(engine, "carl")
    said = {
        refused(engine, "anna"),
        refused(engine, "nobody"),
        refused(engine, "nobody\x00'; --"),
        refused(engine, ""),
        refused(engine, "ben", RIGHT),
        refused(engine, "carl", RIGHT),
        refused(engine, "anna", "x" * 100_000),
        refused(engine, "anna", "\udcff"),
    }
    assert len(said) == 1 and "wrong" in said.pop()


def test_an_unknown_name_takes_the_work_of_a_wrong_password(engine: Engine) -> None:
    """Processor time, not time on the wall: the machine is shared. A path without the hash would take a hundredth."""
    identity_cost = argon2.PasswordHasher(time_cost=2, memory_cost=65536, parallelism=1)
    users.add(engine, ROOT, "anna", ["viewer"], identity_cost.hash(RIGHT), NOW, Log())

    def work(name: str) -> float:
        start = time.process_time()
        with pytest.raises(IdentityRefused):
            identity.authenticate(engine, name, WRONG, NOW, record=Log(), hasher=identity_cost)
        return time.process_time() - start

    work("anna"), work("nobody")
    known, unknown = min(work("anna") for _ in range(3)), min(work("nobody") for _ in range(3))
    assert 0.5 < unknown / known < 2


def test_what_was_typed_as_an_unknown_name_is_kept_nowhere(engine: Engine) -> None:
    log = Log()
    with pytest.raises(IdentityRefused):
        identity.authenticate(engine, "hunter2hunter2", "anna", NOW, record=log, hasher=QUICK)
    assert log.actions == ["user.sign_in_tried", "user.sign_in_refused"]
    assert "hunter2" not in repr(log.entries) + repr(users.events_of(engine))


def test_five_failures_lock_and_time_unlocks(engine: Engine) -> None:
    add(engine, "anna")
    for second in range(5):
        refused(engine, "anna", now=NOW + timedelta(seconds=second))
    last = NOW + timedelta(seconds=4)
    refused(engine, "anna", RIGHT, last + timedelta(minutes=14, seconds=59))
    assert sign_in(engine, "anna", now=last + timedelta(minutes=15)).name == "anna"


def test_the_right_password_at_the_fifth_try_is_right(engine: Engine) -> None:
    add(engine, "anna")
    for _ in range(4):
        refused(engine, "anna")
    assert sign_in(engine, "anna").name == "anna"
    refused(engine, "anna")
    assert users.find(engine, "anna").tries == 1


def test_many_guesses_at_once_are_no_more_than_five(engine: Engine) -> None:
    """Twelve sign-ins reach the password at the same moment: all know it, and still five are let in at most."""
    at_once = threading.Barrier(12)

    class Together(argon2.PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
            at_once.wait(60)
            return super().verify(hash, password)

    hasher = Together(time_cost=1, memory_cost=256, parallelism=1)
    add(engine, "anna")

    def guess(_: int) -> bool:
        try:
            identity.authenticate(engine, "anna", RIGHT, NOW, record=Log(), hasher=hasher)
        except IdentityRefused:
            return False
        return True

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(guess, range(12))) <= 5


def test_a_hash_of_old_parameters_is_made_anew(engine: Engine) -> None:
    add(engine, "anna")
    stronger = argon2.PasswordHasher(time_cost=2, memory_cost=512, parallelism=1)
    before = users.find(engine, "anna")
    actor = identity.authenticate(engine, "anna", RIGHT, NOW + MINUTE, record=Log(), hasher=stronger)
    after = users.find(engine, "anna")
    assert after.password_hash.startswith("$argon2id$v=19$m=512,t=2") and after.password_at == before.password_at
    assert identity.still(engine, actor) == actor, "nobody is signed out by it"
    identity.authenticate(engine, "anna", RIGHT, NOW, record=Log(), hasher=stronger)
    assert sum(e.kind == "rehashed" for e in users.events_of(engine)) == 1


def test_a_user_without_a_password_is_let_in_by_none(engine: Engine) -> None:
    with engine.begin() as connection:
        users.append(connection, "anna", "added", NOW, "root", roles=["admin"])
    for password in ("", RIGHT, "\x00" * 32):
        refused(engine, "anna", password)


def test_signing_asks_once_more_for_the_same_person(engine: Engine) -> None:
    add(engine, "anna", "approver")
    actor = sign_in(engine, "anna")
    later = NOW + timedelta(hours=2)
    again = identity.reauthenticate(engine, actor, RIGHT, later, record=Log(), hasher=QUICK)
    assert (again.name, again.authenticated_at) == ("anna", later)
    with pytest.raises(IdentityRefused, match="wrong"):
        identity.reauthenticate(engine, actor, WRONG, later, record=Log(), hasher=QUICK)
    for method in ("oidc", "none", "home"):
        other = Actor("anna", frozenset({"approver"}), method, NOW)
        with pytest.raises(IdentityRefused, match="did not sign in with a password"):
            identity.reauthenticate(engine, other, RIGHT, later, record=Log(), hasher=QUICK)


def test_a_session_follows_its_user(engine: Engine) -> None:
    add(engine, "anna", "analyst", "approver")
    actor = sign_in(engine, "anna", now=NOW + MINUTE)
    users.set_roles(engine, ROOT, "anna", ["analyst"], NOW + 2 * MINUTE, Log())
    assert identity.still(engine, actor).roles == {"analyst"}
    users.set_disabled(engine, ROOT, "anna", True, NOW + 3 * MINUTE, Log())
    with pytest.raises(IdentityRefused, match="disabled"):
        identity.still(engine, actor)
    users.set_disabled(engine, ROOT, "anna", False, NOW + 4 * MINUTE, Log())
    users.set_password(engine, ROOT, "anna", identity.hash_password("anna", WRONG, QUICK), NOW + 5 * MINUTE, Log())
    with pytest.raises(IdentityRefused, match="another password"):
        identity.still(engine, actor)
    with pytest.raises(IdentityRefused):
        identity.still(engine, Actor("nobody", frozenset({"admin"}), "password", NOW))


# ── claims of an identity provider ───────────────────────────────────────────────────────────────────────────

GROUPS = {"risk-approvers": "approver", "risk-analysts": "analyst"}


def claims(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "iss": "https://id.lender.example", "sub": "0042", "email": "Anna.Berg@lender.example",
        "groups": ["risk-approvers", "everybody"], "iat": NOW.timestamp() - 30, "auth_time": NOW.timestamp() - 60,
        "exp": NOW.timestamp() + 300,
    }  # fmt: skip
    return {k: v for k, v in {**base, **changes}.items() if v is not ...}


def test_the_claims_name_a_person_and_give_their_groups_roles() -> None:
    assert actor_from_claims(claims(), GROUPS, NOW) == Actor(
        "anna.berg@lender.example", frozenset({"approver"}), "oidc", NOW - MINUTE, "https://id.lender.example|0042"
    )


@pytest.mark.parametrize(
    "expiry", [..., None, "tomorrow", True, float("nan"), float("inf"), 1e300, 0, -1, [], NOW.timestamp()]
)
def test_a_sign_in_without_a_time_to_come_is_refused(expiry: object) -> None:
    with pytest.raises(IdentityRefused, match="expir"):
        actor_from_claims(claims(exp=expiry), GROUPS, NOW)


def test_a_sign_in_ends_to_the_second() -> None:
    end = NOW + timedelta(seconds=300)
    assert actor_from_claims(claims(), GROUPS, end - timedelta(seconds=1)).roles
    with pytest.raises(IdentityRefused, match="expired at 2026-03-14 09:05 UTC"):
        actor_from_claims(claims(), GROUPS, end)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auth_time": ..., "iat": ...}, "does not tell when"),
        ({"auth_time": "now", "iat": None}, "does not tell when"),
        ({"auth_time": NOW.timestamp() + 120}, "in the future"),
        ({"nbf": NOW.timestamp() + 120}, "in the future"),
        ({"sub": ...}, "names nobody"),
        ({"sub": "\u202e\n"}, "names nobody"),
        ({"sub": 42}, "names nobody"),
    ],
)
def test_a_sign_in_that_does_not_hold_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(IdentityRefused, match=message):
        actor_from_claims(claims(**changes), GROUPS, NOW)


def test_without_auth_time_the_token_was_made_at_sign_in() -> None:
    assert actor_from_claims(claims(auth_time=...), GROUPS, NOW).authenticated_at == NOW - timedelta(seconds=30)


@pytest.mark.parametrize("changes", [{"email": ...}, {"email_verified": False}, {"email_verified": "no"}, {"email": 7}])
def test_an_address_that_is_not_the_persons_own_does_not_name_them(changes: dict[str, Any]) -> None:
    assert actor_from_claims(claims(**changes), GROUPS, NOW).name == "0042"


@pytest.mark.parametrize(
    "groups", [..., None, [], 7, {"risk-approvers": True}, ["Risk-Approvers"], [["risk-approvers"]], "x"]
)
def test_who_is_in_no_mapped_group_has_no_role(groups: object) -> None:
    assert actor_from_claims(claims(groups=groups), GROUPS, NOW).roles == frozenset()


def test_several_groups_add_up() -> None:
    assert actor_from_claims(claims(groups=list(GROUPS)), GROUPS, NOW).roles == {"approver", "analyst"}
    assert actor_from_claims(claims(groups="risk-analysts"), GROUPS, NOW).roles == {"analyst"}


def test_a_name_is_one_line_without_tricks() -> None:
    named = actor_from_claims(claims(email="an\u202ena\x1b[31m\n<b>@x\x00 \u200b y" + "z" * 500), GROUPS, NOW).name
    assert named.startswith("anna[31m <b>@x y") and len(named) == 200


def test_the_mapping_of_groups_is_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    path.write_text(json.dumps(GROUPS), encoding="utf-8")
    assert read_group_roles(path) == GROUPS
    for bad in ('{"all": "service"}', '{"all": "root"}', '["admin"]', "{", '{"all": ["admin"]}', '{"all": null}'):
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(ConfigError):
            read_group_roles(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_group_roles(tmp_path / "missing.json")
