"""Appending and reading, on both databases: one chain whoever writes, what the database and the log itself refuse."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.exc import DBAPIError

from pipeline import control
from pipeline.config import Settings
from pipeline.errors import RecordRefused
from pipeline.governance import audit
from pipeline.governance.chain import GENESIS, Record


def add(engine: Engine, n: int = 0, **changes: Any) -> Record:
    values = {"actor": "ada", "action": "run.started", "subject": f"run:{n}", "detail": {"n": n}} | changes
    return audit.append(engine, **values)


def test_a_record_carries_the_hash_of_its_fields_and_of_the_one_before(engine: Engine) -> None:
    first = add(engine, actor="  Ada Łovelace ", detail={"b": 1, "a": [0.1, None, "two\r\nlines"]})
    second = add(engine)
    assert (first.seq, second.seq, first.prev_sha256, second.prev_sha256) == (1, 2, GENESIS, first.sha256)
    assert first.actor == "Ada Łovelace"
    assert first.detail == '{"a":[0.1,null,"two\\nlines"],"b":1}'
    # Written out by hand: an auditor needs nothing of ours to check it.
    fields = {k: v for k, v in vars(first).items() if k != "sha256"}
    by_hand = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert first.sha256 == hashlib.sha256(by_hand).hexdigest()
    assert audit.records(engine) == (first, second)
    assert datetime.fromisoformat(first.at).utcoffset() == timedelta(0)
    assert len(first.at) == len("2026-03-14T05:00:00.000000+00:00")
    assert audit.verify(engine) == audit.Verdict(True, 2, second.sha256)
    assert audit.head(engine).seq == 2


def test_an_empty_log_is_sound(engine: Engine) -> None:
    assert audit.verify(engine) == audit.Verdict(True, 0, GENESIS)
    assert audit.verify(engine, audit.head(engine)).ok


def test_an_event_is_there_if_and_only_if_its_decision_is(engine: Engine) -> None:
    lease = {"name": "x", "holder": "h", "acquired_at": datetime.now(UTC)}
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        connection.execute(insert(control.lease), lease)
        audit.append(connection, actor="ada", action="run.started", subject="run:1", detail={})
        raise ZeroDivisionError
    assert audit.records(engine) == ()
    with engine.begin() as connection:
        for n in range(3):
            audit.append(connection, actor="ada", action="run.started", subject=f"run:{n}", detail={})
        connection.execute(insert(control.lease), lease)
    assert [r.seq for r in audit.records(engine)] == [1, 2, 3]
    assert audit.verify(engine).ok


def test_a_transaction_that_has_only_read_appends_too(engine: Engine) -> None:
    with engine.begin() as connection:
        audit.head(connection)
        add(engine, 1)  # someone else's, in between
        audit.append(connection, actor="bob", action="run.started", subject="run:2", detail={})
    assert [r.actor for r in audit.records(engine)] == ["ada", "bob"]


def test_a_transaction_that_sees_an_old_end_is_refused(postgres_engine: Engine) -> None:
    engine = postgres_engine
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        audit.head(connection)
        add(engine, 1)
        with pytest.raises(RecordRefused, match="record 1 of the audit log was written by another transaction"):
            audit.append(connection, actor="bob", action="run.started", subject="run:2", detail={})
    assert audit.verify(engine).records == 1


def test_eight_threads_write_one_chain(engine: Engine) -> None:
    def work(thread: int) -> None:
        for n in range(50):
            add(engine, n, actor=f"thread-{thread}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    verdict = audit.verify(engine)
    assert (verdict.ok, verdict.records) == (True, 400), verdict.reason
    for thread in range(8):  # and each writer's own records are in the order in which it wrote them
        assert [r.facts["n"] for r in audit.records(engine, actor=f"thread-{thread}")] == list(range(50))


PROCESS = """
import sys
from pathlib import Path
from pipeline import control
from pipeline.config import Settings
from pipeline.governance import audit
engine = control.open_store(Settings.at(Path(sys.argv[1]), control_url=sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for n in range(50):
    if n % 2:
        audit.append(engine, actor=sys.argv[3], action="run.started", subject=f"run:{n}", detail={})
    else:
        with engine.begin() as connection:
            audit.append(connection, actor=sys.argv[3], action="run.started", subject=f"run:{n}", detail={})
"""


def test_four_processes_write_one_chain(settings: Settings, engine: Engine) -> None:
    command = [sys.executable, "-c", PROCESS, str(settings.home), settings.control_url]
    started = [
        subprocess.Popen([*command, f"process-{n}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        process.communicate(timeout=120)
        assert process.returncode == 0
    verdict = audit.verify(engine)
    assert (verdict.ok, verdict.records) == (True, 200), verdict.reason


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE audit_log SET actor = 'eve' WHERE seq = 2", "UPDATE"),
        ("DELETE FROM audit_log WHERE seq = 3", "DELETE"),
        ("DELETE FROM audit_log", "DELETE"),
    ],
)
def test_the_database_refuses_to_change_a_record(engine: Engine, statement: str, what: str) -> None:
    for n in range(3):
        add(engine, n)
    with pytest.raises(DBAPIError, match=f"audit_log is append-only: {what} is refused"), engine.begin() as connection:
        connection.execute(text(statement))
    assert audit.verify(engine).records == 3


def test_the_ways_around_are_refused_too(engine: Engine) -> None:
    add(engine)
    again = "audit_log SELECT seq, at, 'eve', action, subject, detail, prev_sha256, sha256 FROM audit_log WHERE seq = 1"
    around = {
        "sqlite": [f"INSERT OR REPLACE INTO {again}", "UPDATE OR REPLACE audit_log SET seq = 1"],
        "postgresql": [
            "TRUNCATE audit_log",
            f"INSERT INTO {again} ON CONFLICT (seq) DO UPDATE SET actor = 'eve'",
            "UPDATE audit_log SET actor = 'eve' WHERE seq = 99",
        ],
    }
    for statement in around[engine.dialect.name]:
        with pytest.raises(DBAPIError, match="audit_log is append-only"), engine.begin() as connection:
            connection.execute(text(statement))
    assert audit.verify(engine).ok


def test_making_the_tables_again_keeps_log_and_protection(settings: Settings, engine: Engine) -> None:
    add(engine)
    control.create(settings).dispose()
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_log"))
    assert audit.verify(engine).records == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actor": ""}, "needs an actor"),
        ({"actor": " \t "}, "needs an actor"),
        ({"actor": "a\x00b"}, r"an actor of an audit record has the control character \\x00 at position 2"),
        ({"actor": "two\nlines"}, r"\\x0a"),
        ({"actor": "a\x1b[31m"}, r"\\x1b"),
        ({"actor": "ada\u202eeve"}, r"\\u202e"),
        ({"actor": "a" * 501}, "501 characters"),
        ({"action": "started"}, "no action"),
        ({"action": "Run.Started"}, "no action"),
        ({"subject": "pd_default"}, "no subject"),
        ({"subject": "run:\x7f"}, r"\\x7f"),
        ({"detail": {"reason": "a\x00b"}}, r"detail.reason of an audit record has the control character \\x00"),
        ({"detail": {"a": [{"b": "\x1b[2J"}]}}, r"detail.a\[0\].b .* \\x1b"),
        ({"detail": {"bad\x07key": 1}}, r"a key of detail .* \\x07"),
        ({"detail": {"half": "\ud800"}}, r"\\ud800"),
        ({"detail": {"reason": "é" * 60_000}}, "120,013 bytes; 100,000 are the most"),
        ({"detail": {"day": datetime(2026, 3, 14)}}, "value.day is a datetime"),
        ({"detail": {"auc": float("nan")}}, "value.auc is nan"),
    ],
)
def test_what_a_record_may_not_hold_is_refused_and_nothing_is_written(
    sqlite_engine: Engine, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecordRefused, match=message) as refused:
        add(sqlite_engine, **changes)
    assert refused.value.next_step
    assert audit.records(sqlite_engine) == ()


def test_search(engine: Engine) -> None:
    made = [
        add(engine, 1, action="run.started"),
        add(engine, 1, action="run.failed", actor="bob"),
        add(engine, 2, action="promotion.recorded", subject="model:pd_default/3"),
        add(engine, 2, action="run_x.started", subject="model:pd_default/30"),
    ]

    def found(**filters: Any) -> list[int]:
        return [r.seq for r in audit.records(engine, **filters)]

    assert found() == [1, 2, 3, 4]
    assert found(actor="bob") == [2]
    assert found(action="run.") == [1, 2]
    assert found(action="run_") == [4], "the underscore is itself"
    assert found(subject="model:pd_default/3") == [3]
    assert found(after=2) == [3, 4]
    assert found(limit=2) == [1, 2]
    assert found(limit=2, order="-record") == [4, 3]
    times = [datetime.fromisoformat(r.at) for r in made]
    assert found(since=times[1], until=times[2]) == [2, 3]
    assert found(until=times[0] - timedelta(microseconds=1)) == []
    with pytest.raises(ValueError, match="no zone"):
        found(since=datetime(2026, 3, 14))


def test_a_stream_of_many_is_whole_and_in_order(sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_BATCH", 7)
    with sqlite_engine.begin() as connection:
        for n in range(30):
            audit.append(connection, actor="ada", action="run.started", subject=f"run:{n % 2}", detail={})
    assert [r.seq for r in audit.stream(sqlite_engine)] == list(range(1, 31))
    assert [r.seq for r in audit.stream(sqlite_engine, subject="run:1", up_to=20)] == list(range(2, 21, 2))
    assert audit.verify(sqlite_engine).records == 30
