"""Rows written past the application: found by the log, named, and of no use to sign in with. On both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import argon2
import pytest
from sqlalchemy import Connection, Engine, insert, select, text

from app.auditing import record
from pipeline.control import audit_log, publications, user_events
from pipeline.errors import IdentityRefused
from pipeline.governance import audit, coverage, identity, users
from pipeline.governance.access import Actor

NOW = datetime(2026, 3, 14, 9, 0, tzinfo=UTC)
QUICK = argon2.PasswordHasher(time_cost=1, memory_cost=256, parallelism=1)
ROOT = Actor("root", frozenset({"admin"}), "home", NOW)
PASSWORD = "correct horse battery"
HASHED = QUICK.hash(PASSWORD)


@pytest.fixture
def store(engine: Engine) -> Engine:
    """A control store with two users, one of whom has signed in, once wrongly; nothing guards its tables any more."""
    for name, role in (("anna", "viewer"), ("ben", "approver")):
        users.add(engine, ROOT, name, [role], HASHED, NOW, record)
    with pytest.raises(IdentityRefused):
        sign_in(engine, "anna", "incorrect horse battery")
    sign_in(engine, "anna")
    sqlite = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'"
    postgresql = "SELECT tgname, tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal"
    with engine.begin() as connection:
        on_sqlite = engine.dialect.name == "sqlite"
        for name, table in connection.execute(text(sqlite if on_sqlite else postgresql)).all():
            connection.execute(text(f"DROP TRIGGER {name}" + ("" if on_sqlite else f" ON {table}")))
    return engine


def sign_in(engine: Engine, name: str, password: str = PASSWORD) -> Actor:
    return identity.authenticate(engine, name, password, NOW, record=record, hasher=QUICK)


def forge(engine: Engine, name: str, kind: str, **values: object) -> int:
    with engine.begin() as connection:
        return users.append(connection, name, kind, NOW, "root", **values)


def test_everything_the_application_writes_is_covered(store: Engine) -> None:
    assert coverage.verify(store) is None
    assert [e.kind for e in users.events_of(store, "anna")] == [
        "added", "password_set", "sign_in_tried", "sign_in_tried", "signed_in",
    ]  # fmt: skip
    assert audit.verify(store).ok
    assert HASHED not in repr(audit.records(store)), "the log has the hash of an event, not what is in it"


@pytest.mark.parametrize(
    ("kind", "values"),
    [("roles_set", {"roles": ["approver"]}), ("password_set", {"password_hash": HASHED}), ("enabled", {})],
)
def test_a_forged_event_is_named_and_lets_nobody_in(store: Engine, kind: str, values: dict[str, object]) -> None:
    session = sign_in(store, "anna")
    forged = forge(store, "anna", kind, **values)
    gap = coverage.verify(store)
    assert gap and (gap.what, "no record of the audit log covers it" in gap.why) == (f"user event {forged}", True)
    for attempt in (
        lambda: sign_in(store, "anna"),
        lambda: identity.reauthenticate(store, session, PASSWORD, NOW, record=record, hasher=QUICK),
        lambda: identity.still(store, session),
    ):
        with pytest.raises(IdentityRefused, match=f"user event {forged} ") as refused:
            attempt()
        assert "scoretrace audit verify" in refused.value.next_step
    assert sign_in(store, "ben").roles == {"approver"}, "others work on"
    last = next(r for r in audit.records(store, order="-record") if r.action == "user.sign_in_refused")
    assert last.facts["standing"] == "not covered"


def test_who_does_not_know_the_password_is_told_nothing_of_it(store: Engine) -> None:
    forge(store, "anna", "roles_set", roles=["approver"])
    with pytest.raises(IdentityRefused, match="the name or the password is wrong"):
        sign_in(store, "anna", "incorrect horse battery")


def test_a_forged_user_is_nobody(store: Engine) -> None:
    first = forge(store, "eve", "added", roles=["approver", "admin"])
    forge(store, "eve", "password_set", password_hash=HASHED)
    with pytest.raises(IdentityRefused, match=f"user event {first} "):
        sign_in(store, "eve")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("UPDATE user_events SET roles = '[\"admin\"]' WHERE id = 1", "it has been changed"),
        ("UPDATE user_events SET by = 'eve' WHERE id = 1", "it has been changed"),
        ("UPDATE user_events SET user_name = 'ben' WHERE id = 2", "it has been changed"),
        ("DELETE FROM user_events WHERE id = 2", "it is gone"),
        ("DELETE FROM user_events WHERE id = (SELECT max(id) FROM user_events)", "it is gone"),
    ],
)
def test_a_changed_or_removed_event_is_named(store: Engine, change: str, why: str) -> None:
    with store.begin() as connection:
        connection.execute(text(change))
    gap = coverage.verify(store)
    assert gap and gap.why.endswith(why), gap
    with pytest.raises(IdentityRefused, match=gap.what):
        users.sound(store, "anna")


def test_an_event_that_cannot_be_read_is_named(store: Engine) -> None:
    if store.dialect.name == "postgresql":
        pytest.skip("PostgreSQL itself takes no JSON that is none")
    with store.begin() as connection:
        connection.execute(text("UPDATE user_events SET roles = '{broken' WHERE id = 1"))
    gap = coverage.verify(store)
    assert gap and gap.what == "user event 1"
    with pytest.raises(IdentityRefused, match="cannot be read"):
        users.all_users(store)


def test_a_record_that_covers_a_row_again_changes_nothing(store: Engine) -> None:
    with store.begin() as connection:
        connection.execute(text("UPDATE user_events SET roles = '[\"admin\"]' WHERE id = 1"))
        detail = coverage.of(connection, user_events, [1])
        audit.append(connection, actor="anna", action="user.roles", subject="user:anna", detail=detail)
    gap = coverage.verify(store)
    assert gap and gap.what == "user event 1"


def test_a_reason_cannot_pass_for_a_cover(store: Engine) -> None:
    forged = forge(store, "anna", "roles_set", roles=["approver"])
    with store.begin() as connection:
        said = str(coverage.of(connection, user_events, [forged])).replace("'", '"')
    audit.append(store, actor="ben", action="promotion.asked", subject="user:anna", detail={"text": said})
    assert coverage.verify(store) is not None


def test_rows_from_before_are_taken_on_record_once(engine: Engine) -> None:
    forge(engine, "anna", "added", roles=["viewer"])
    forge(engine, "anna", "password_set", password_hash=HASHED)
    with pytest.raises(IdentityRefused, match="scoretrace init"):
        sign_in(engine, "anna")
    assert coverage.begin(engine, actor="ada") == {"user_events": 2}
    assert coverage.verify(engine) is None and sign_in(engine, "anna").name == "anna"
    begun = audit.records(engine, action=coverage.BEGUN)
    assert begun[-1].facts == {"rows": {"user_events": 2}}
    forged = forge(engine, "anna", "roles_set", roles=["approver"])
    assert coverage.begin(engine, actor="ada") == {}, "a second time would wash what was slipped in since"
    gap = coverage.verify(engine)
    assert gap and gap.id == forged


def test_many_rows_are_taken_on_record_in_several_records(engine: Engine) -> None:
    with engine.begin() as connection:
        for n in range(2_100):
            users.append(connection, "anna", "signed_in", NOW + timedelta(seconds=n), "anna")
    assert coverage.begin(engine, actor="ada") == {"user_events": 2_100}
    assert coverage.verify(engine) is None
    with engine.connect() as connection:
        sizes = [len(d) for d in connection.scalars(select(audit_log.c.detail))]
    assert max(sizes) < 100_000


def test_a_publication_slipped_in_is_found(store: Engine) -> None:
    with store.begin() as connection:
        if store.dialect.name == "sqlite":
            connection.execute(text("PRAGMA foreign_keys=OFF"))
        else:
            connection.execute(text("SET session_replication_role = replica"))
        _publish(connection)
    gap = coverage.verify(store)
    assert gap and (gap.what, gap.table) == ("publication 1", "publications")


def _publish(connection: Connection) -> None:
    connection.execute(
        insert(publications).values(
            as_of=NOW.date(), run_id="none", snapshot_id=1, published_at=NOW, accounts=1, applications=0,
            content_sha256="0" * 64, models=[], features=1,
        )
    )  # fmt: skip


def test_covering_and_appending_at_once_raises_no_false_alarm(store: Engine) -> None:
    """While one thread adds events, another looks: nothing that is being committed is taken for forged."""
    import threading

    done = threading.Event()
    faults: list[Exception] = []

    def look() -> None:
        while not done.is_set():
            try:
                users.sound(store, "anna")
                assert coverage.verify(store) is None
            except Exception as error:
                faults.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    for n in range(40):
        users.set_roles(store, ROOT, "anna", ["viewer", "analyst"][: 1 + n % 2], NOW, record)
    done.set()
    thread.join()
    assert faults == []
