"""Webhooks against a real listener: dead, slow, failing then well, asked twice, moved; and what is never sent."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from pipeline import control
from pipeline.config import Settings
from pipeline.errors import ConfigError
from pipeline.governance import audit, webhook_body, webhook_outbox, webhook_receivers, webhooks
from pipeline.governance.webhook_receivers import Receivers
from tests.pipeline import small_book

SECRET = "correct-horse-battery-staple"
PORTFOLIO = small_book.portfolio("BIGINT")


@dataclass
class Listener:
    """What came in, and what is answered: a status, a redirect's target, or a wait in seconds before the answer."""

    url: str = ""
    status: int = 200
    location: str = ""
    wait: float = 0.0
    seen: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(content) for _, content in self.seen]


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            made.seen.append((dict(self.headers), content))
            time.sleep(made.wait)
            self.send_response(made.status)
            if made.location:
                self.send_header("Location", made.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/hook?token=t0ken"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def written(settings: Settings, *entries: dict[str, Any], portal: str = "https://portal.example/") -> Receivers:
    """hooks.json and the secret beside it, as an operator would write them."""
    settings.home.mkdir(parents=True, exist_ok=True)
    secret = settings.home / "hook.secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    whole = [{"secret_file": "hook.secret", "events": ["promotion."], "since": "2020-01-01", **e} for e in entries]
    settings.hooks_file.write_text(json.dumps({"portal": portal, "receivers": whole}))
    return webhook_receivers.read(settings)


def requested(engine: Engine, id_: str = "pd_default-2-abc", reason: str = "fresher cohorts") -> None:
    manifest = {"model": "pd_default", "version": 2, "model_sha256": "d" * 64, "policy": {"roles": ["approver"]}}
    detail = {
        "manifest": manifest, "manifest_sha256": "m" * 64, "trainer": "tess", "reason": reason, "replaces": 1,
        "external_reference": None,
    }  # fmt: skip
    audit.append(engine, actor="dana", action="promotion.requested", subject=f"promotion:{id_}", detail=detail)


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def go(settings: Settings, engine: Engine, receivers: Receivers, **options: Any) -> tuple[webhooks.Delivered, ...]:
    return webhooks.deliver(settings, engine, PORTFOLIO, receivers, **options)


def test_a_delivery_is_signed_and_says_what_a_change_request_is_made_from(
    settings: Settings, engine: Engine, listener: Listener
) -> None:
    receivers = written(settings, {"name": "snow", "url": listener.url})
    audit.append(engine, actor="ada", action="run.started", subject="run:1", detail={})
    requested(engine)
    audit.append(
        engine, actor="avery", action="promotion.rejected", subject="promotion:pd_default-2-abc",
        detail={"reason": "calibration"},
    )  # fmt: skip
    assert go(settings, engine, receivers) == (webhooks.Delivered("snow", 2, None),)
    first, second = listener.bodies
    assert first["short_description"] == "pd_default version 2: promotion requested"
    assert "fresher cohorts" in first["description"] and "m" * 64 in first["description"]
    assert (first["category"], first["risk"], first["requested_by"]) == ("Model change", "high", "dana")
    assert (first["state"], second["state"], second["requested_by"]) == ("requested", "rejected", "dana")
    assert first["correlation_id"] == second["correlation_id"] == "promotion:pd_default-2-abc"
    assert first["link"] == "https://portal.example/promotions?promotion=pd_default-2-abc"
    assert first["delivery"] != second["delivery"]
    headers, content = listener.seen[0]
    assert headers["Scoretrace-Delivery"] == first["delivery"] and headers["Scoretrace-Event"] == "promotion.requested"
    now = int(time.time())
    stamp = headers["Scoretrace-Signature"]
    assert webhook_body.verified(SECRET.encode(), stamp, content, now)
    assert not webhook_body.verified(SECRET.encode(), stamp, content + b" ", now)
    assert not webhook_body.verified(b"another-secret-of-length", stamp, content, now)
    assert not webhook_body.verified(SECRET.encode(), stamp, content, now + 301)
    # What was delivered is not sent again.
    assert go(settings, engine, receivers)[0].count == 0 and len(listener.seen) == 2


def test_500_then_200_keeps_the_order_and_the_delivery_id(
    settings: Settings, engine: Engine, listener: Listener
) -> None:
    receivers, clock = written(settings, {"name": "snow", "url": listener.url}), Clock()
    requested(engine, "a")
    requested(engine, "b")
    listener.status = 500
    assert go(settings, engine, receivers, clock=clock) == (webhooks.Delivered("snow", 0, "answered 500"),)
    (queue,) = webhooks.queues(engine, receivers, clock())
    assert (queue.waiting, queue.failed, queue.last.status if queue.last else 0) == (2, 1, 500)
    assert queue.next_at == clock() + timedelta(seconds=5)
    # Its wait is not over: nothing is due, and nothing is sent.
    listener.status = 200
    assert webhooks.due(engine, receivers, clock()) == ()
    assert go(settings, engine, receivers, clock=clock, only_due=True) == ()
    clock.now += timedelta(seconds=6)
    assert go(settings, engine, receivers, clock=clock, only_due=True)[0].count == 2
    ids = [h["Scoretrace-Delivery"] for h, _ in listener.seen]
    assert ids[0] == ids[1] != ids[2]
    assert listener.seen[0][1] == listener.seen[1][1]
    assert [b["correlation_id"] for b in listener.bodies] == ["promotion:a", "promotion:a", "promotion:b"]
    assert webhooks.queues(engine, receivers, clock())[0].waiting == 0


def test_patience_tries_again_by_itself(settings: Settings, engine: Engine, listener: Listener) -> None:
    receivers = written(settings, {"name": "snow", "url": listener.url})
    requested(engine)
    listener.status = 503
    threading.Timer(1.0, lambda: setattr(listener, "status", 204)).start()
    assert go(settings, engine, receivers, patience=timedelta(seconds=20)) == (webhooks.Delivered("snow", 1, None),)
    assert len(listener.seen) == 2


def test_a_dead_receiver_keeps_its_place_and_never_another_one_from_its_own(
    settings: Settings, engine: Engine, listener: Listener
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        receivers = written(settings, {"name": "dead", "url": dead}, {"name": "well", "url": listener.url})
        requested(engine)
        found = go(settings, engine, receivers)
    assert [(f.receiver, f.count) for f in found] == [("dead", 0), ("well", 1)]
    assert found[0].error and found[0].error.startswith("no answer: ConnectionRefusedError")
    assert [q.waiting for q in webhooks.queues(engine, receivers, datetime.now(UTC))] == [1, 0]


def test_a_slow_receiver_is_given_up_in_time(settings: Settings, engine: Engine, listener: Listener) -> None:
    receivers = written(settings, {"name": "slow", "url": listener.url, "timeout_seconds": 0.3})
    requested(engine)
    listener.wait = 1.5
    ((error),) = (f.error for f in go(settings, engine, receivers))
    assert error and "no answer" in error and "time" in error.lower()
    assert webhooks.queues(engine, receivers, datetime.now(UTC))[0].waiting == 1


def test_a_redirect_is_not_followed(settings: Settings, engine: Engine, listener: Listener) -> None:
    receivers = written(settings, {"name": "moved", "url": listener.url})
    requested(engine)
    for status in (302, 307, 308):
        listener.status, listener.location = status, listener.url + "&elsewhere"
        assert go(settings, engine, receivers)[0].error == f"answered {status}: a redirect, which is not followed"
    assert len(listener.seen) == 3


def test_killed_after_the_post_it_is_sent_again_under_the_same_id(
    settings: Settings, engine: Engine, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    receivers = written(settings, {"name": "snow", "url": listener.url})
    requested(engine)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(webhook_outbox, "record", die)
        with pytest.raises(KeyboardInterrupt):
            go(settings, engine, receivers)
    assert go(settings, engine, receivers)[0].count == 1
    first, second = listener.seen
    assert first[0]["Scoretrace-Delivery"] == second[0]["Scoretrace-Delivery"] and first[1] == second[1]


def test_two_processes_at_once_deliver_once(settings: Settings, engine: Engine, listener: Listener) -> None:
    receivers = written(settings, {"name": "snow", "url": listener.url})
    for number in range(6):
        requested(engine, f"p{number}")
    listener.wait = 0.05
    start = threading.Barrier(3)
    found: list[webhooks.Delivered] = []

    def run() -> None:
        start.wait()
        found.extend(go(settings, engine, receivers))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(f.count for f in found) == 6
    assert [b["correlation_id"] for b in listener.bodies] == [f"promotion:p{n}" for n in range(6)]


def test_a_process_that_died_holding_a_receiver_is_passed_over(
    settings: Settings, engine: Engine, listener: Listener
) -> None:
    receivers, clock = written(settings, {"name": "snow", "url": listener.url}), Clock()
    requested(engine)
    with engine.begin() as connection:
        connection.execute(
            control.hook_cursors.insert().values(
                receiver="snow", delivered=0, claimed_until=clock() + timedelta(minutes=5), claimed_by="gone"
            )
        )
    assert go(settings, engine, receivers, clock=clock)[0].error == "another process is delivering to it"
    assert webhooks.due(engine, receivers, clock()) == ()
    clock.now += timedelta(minutes=6)
    assert go(settings, engine, receivers, clock=clock)[0].count == 1


def test_a_new_receiver_is_told_of_what_follows_its_file(
    settings: Settings, engine: Engine, listener: Listener
) -> None:
    requested(engine, "old")
    time.sleep(0.02)
    receivers = written(settings, {"name": "snow", "url": listener.url})
    raw = json.loads(settings.hooks_file.read_text())
    del raw["receivers"][0]["since"]
    settings.hooks_file.write_text(json.dumps(raw))
    receivers = webhook_receivers.read(settings)
    time.sleep(0.02)
    requested(engine, "new")
    go(settings, engine, receivers)
    assert [b["correlation_id"] for b in listener.bodies] == ["promotion:new"]


def test_the_secret_stands_nowhere_but_in_its_file(settings: Settings, engine: Engine, listener: Listener) -> None:
    receivers = written(settings, {"name": "snow", "url": listener.url})
    requested(engine)
    listener.status = 500
    (found,) = go(settings, engine, receivers)
    with engine.connect() as connection:
        rows = [str(row) for table in control.metadata.sorted_tables for row in connection.execute(select(table))]
    everything = "\n".join([*rows, repr(receivers), str(found), *(str(seen) for seen in listener.seen)])
    assert SECRET not in everything
    assert "t0ken" not in "\n".join([*rows, repr(receivers), receivers.receivers[0].place])


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_secret_that_others_can_read_is_not_used(
    sqlite_settings: Settings, sqlite_engine: Engine, listener: Listener, mode: int
) -> None:
    receivers = written(sqlite_settings, {"name": "snow", "url": listener.url})
    (sqlite_settings.home / "hook.secret").chmod(mode)
    requested(sqlite_engine)
    (found,) = go(sqlite_settings, sqlite_engine, receivers)
    assert found.error and f"mode {mode:04o}" in found.error
    assert listener.seen == []
    assert webhooks.due(sqlite_engine, receivers, datetime.now(UTC)) == ()  # it waits like any failure


def test_a_secret_from_the_environment(
    sqlite_settings: Settings, sqlite_engine: Engine, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"name": "jira", "url": listener.url, "secret_env": "SCORETRACE_HOOK_JIRA", "secret_file": None}
    receivers = written(sqlite_settings, entry)
    requested(sqlite_engine)
    assert "no secret of 16 characters" in str(go(sqlite_settings, sqlite_engine, receivers)[0].error)
    monkeypatch.setenv("SCORETRACE_HOOK_JIRA", SECRET)
    assert go(sqlite_settings, sqlite_engine, receivers)[0].count == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"secret": SECRET}, "in clear text"),
        ({"url": "ftp://x.example/"}, "no http or https address"),
        ({"url": "file:///etc/passwd"}, "no http or https address"),
        ({"url": "https://"}, "no http or https address"),
        ({"url": "https://x.example/a b"}, "no http or https address"),
        ({"url": "https://user:pass@x.example/"}, "carries a user or a password"),
        ({"url": "https://x.example:0/"}, "no http or https address"),
        ({"events": []}, "events is a list"),
        ({"events": ["promotion.", 3]}, "events is a list"),
        ({"name": "Snow White"}, "lower-case letters"),
        ({"timeout_seconds": 900}, "at most 60"),
        ({"secret_env": "SCORETRACE_HOOK_X"}, "either a secret_file or a secret_env"),
        ({"secret_file": None, "secret_env": "PATH"}, "begins with SCORETRACE_HOOK_"),
        ({"since": "yesterday"}, "ISO form"),
        ({"retries": 3}, "unknown key retries"),
    ],
)
def test_a_slip_in_the_file_is_named(sqlite_settings: Settings, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        written(sqlite_settings, {"name": "snow", "url": "https://x.example/", **change})
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"receivers": {}}', '{"receivers": [3]}', '{"hooks": [], "receivers": []}']
)
def test_a_file_that_is_no_list_of_receivers_is_refused(sqlite_settings: Settings, content: str) -> None:
    sqlite_settings.home.mkdir()
    sqlite_settings.hooks_file.write_text(content)
    with pytest.raises(ConfigError, match=r"hooks\.json"):
        webhook_receivers.read(sqlite_settings)


def test_without_the_file_there_are_no_receivers(sqlite_settings: Settings) -> None:
    assert webhook_receivers.read(sqlite_settings) == Receivers("", ())


@given(st.binary(max_size=200), st.integers(0, 2**33), st.binary(min_size=16, max_size=40))
def test_a_signature_stands_for_its_own_time_and_body_alone(content: bytes, stamp: int, secret: bytes) -> None:
    header = webhook_body.signature(secret, stamp, content)
    assert webhook_body.verified(secret, header, content, stamp)
    assert not webhook_body.verified(secret, header, content + b"x", stamp)
    assert not webhook_body.verified(secret, header.replace(f"t={stamp}", f"t={stamp + 1}"), content, stamp)
    assert not webhook_body.verified(secret + b"x", header, content, stamp)


@pytest.mark.parametrize("header", ["", "t=,v1=", "v1=00", "t=12", "t=x,v1=é", "t=-5,v1=0", f"t={'9' * 500},v1=0"])
def test_a_header_that_is_none_is_no_signature(header: str) -> None:
    assert not webhook_body.verified(SECRET.encode(), header, b"{}", 12)


def test_waits_double_up_to_six_hours() -> None:
    waits = [webhook_outbox.wait_after(n).total_seconds() for n in (0, 1, 2, 3, 10, 13, 14, 500)]
    assert waits == [5, 5, 10, 20, 2560, 20480, 21600, 21600]


def test_texts_of_people_are_text_in_the_body(
    sqlite_settings: Settings, sqlite_engine: Engine, listener: Listener
) -> None:
    receivers = written(sqlite_settings, {"name": "snow", "url": listener.url})
    requested(sqlite_engine, reason='</script>"}, {"state": "approved"} é 日本')
    go(sqlite_settings, sqlite_engine, receivers)
    (found,) = listener.bodies
    assert found["state"] == "requested" and '</script>"}, {"state": "approved"} é 日本' in found["description"]


def test_alerts_say_what_they_are_about(sqlite_settings: Settings, sqlite_engine: Engine, listener: Listener) -> None:
    receivers = written(sqlite_settings, {"name": "snow", "url": listener.url, "events": ["alert."]}, portal="")
    requested(sqlite_engine)
    for subject, level in (("alert:drift/pd_default/int_account_slots", "high"), ("alert:volume/payments", "moderate")):
        detail = {"kind": "drift", "level": level, "message": "PSI 0.31"}
        audit.append(sqlite_engine, actor="pipeline", action="alert.raised", subject=subject, detail=detail)
    go(sqlite_settings, sqlite_engine, receivers)
    drift, volume = listener.bodies
    assert drift["short_description"] == "drift/pd_default/int_account_slots: alert raised"
    assert (drift["category"], drift["state"], drift["risk"]) == ("Model monitoring", "open", "high")
    assert (drift["model"], drift["link"], volume["model"], volume["risk"]) == ("pd_default", None, None, "medium")
    assert drift["correlation_id"] == "alert:drift/pd_default/int_account_slots" and "PSI 0.31" in drift["description"]
