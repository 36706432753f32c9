"""``scoretrace models`` and ``scoretrace hooks`` as they are typed, on a home with two versions of a model."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.auditing import record
from app.cli import cli
from pipeline.errors import AccessDenied, ConfigError, InventoryRefused, NotFound, RecordRefused
from pipeline.governance import audit, identity, users
from pipeline.governance.access import Actor
from pipeline.governance.approvals import Approvals
from tests.pipeline import small_book
from tests.pipeline.small_book import ACCOUNT_MODEL, Book
from tests.signing_off import person

PASSWORD = "correct horse battery"
YML = """\
name: harbor
title: Harbor Credit Union
id_type: BIGINT
calendar: daily
label: {events: [default], horizon_months: 3}
extracts: {statements: {columns: {account_id: BIGINT}}}
models:
  pd_default:
    subject: account
    cutoff_pd: 0.2
    inventory: {purpose: Rank accounts., owner: Credit risk, inherent_risk: high, data: [Statements]}
  pd_application: {subject: application, inventory: {data: [Statements]}}
grades: {A: 0.02, B: 0.05, C: 0.15, D: 1.0}
governance: {high: {external_approval: required, review_months: 6}}
"""
WEAK = {"rounds": 1, "num_leaves": 2, "feature_fraction": 0.2}
OPEN = {"auc": 0.0, "ks": 0.0, "calibration": 9.0, "psi": 9.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """pd_default version 1 in force and version 2 requested; ana the analyst and vic the viewer may sign in."""
    book = small_book.make(tmp_path_factory.mktemp("models") / "home")
    folder = book.settings.portfolio_dir
    folder.mkdir()
    (folder / "portfolio.yml").write_text(YML)
    (folder / "loan_servicing.sql").write_text("SELECT 1")
    spec = replace(ACCOUNT_MODEL, cutoff_pd=0.2)
    first = small_book.train(book, spec, floors=OPEN, parameters=WEAK)
    assert first.version is not None
    small_book.approve(book, "pd_default", 1)
    second = small_book.train(book, spec, tolerances={"calibration": 1.0, "psi": 1.0})
    assert second.version is not None
    desk = Approvals(book.settings, book.engine, book.registry, book.portfolio)
    desk.request(person("dana", "data_scientist"), "pd_default", 2, "fresher cohorts")
    now, root = datetime.now(UTC), Actor("root", frozenset({"admin"}), "home", datetime.now(UTC))
    for name, role in (("ana", "analyst"), ("vic", "viewer")):
        users.add(book.engine, root, name, [role], identity.hash_password(name, PASSWORD), now, record)
    return book


@pytest.fixture
def book(made: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Book:
    own = small_book.copy(made, tmp_path / "home")
    monkeypatch.setenv("SCORETRACE_HOME", str(own.settings.home))
    return own


@pytest.fixture
def run(book: Book) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def signed(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_text(PASSWORD + "\n")
    return lambda name: ("--as", name, "--password-file", str(path))


Run = Callable[..., Result]
Signed = Callable[[str], tuple[str, ...]]


def test_the_inventory_is_listed_edited_and_shown(run: Run, signed: Signed, book: Book) -> None:
    listed = json.loads(run("models", "list", "--json").stdout)
    assert [m["model"] for m in listed] == ["pd_default", "pd_application"]
    assert listed[0]["materiality_tier"] == "high" and listed[0]["shared_data"] == {"Statements": ["pd_application"]}
    assert listed[1]["review"]["why"] == "no version of it was ever approved or reviewed"
    fields = ("--owner", "m.okafor", "--limits", "One", "--limits", "Two")
    edited = run("models", "edit", "pd_default", *fields, "--reason", "moved", *signed("ana"))
    assert edited.exit_code == 0, edited.output
    shown = json.loads(run("models", "show", "pd_default", "--json").stdout)
    assert (shown["owner"], shown["limits"], shown["edits"][0]["by"]) == ("m.okafor", ["One", "Two"], "ana")
    text = run("models", "show", "pd_default").stdout
    assert "6 months after the last one, tier high" in text and "shared with pd_application" in text
    assert "m.okafor" in run("models", "list").stdout
    reviewed = run("models", "edit", "pd_default", "--reviewed", "--reason", "fits its use", *signed("ana"))
    assert reviewed.exit_code == 0 and len(audit.records(book.engine, action="inventory.")) == 2


def test_an_edit_is_refused_by_role_by_rule_and_one_at_a_time(run: Run, signed: Signed, book: Book) -> None:
    who = run("models", "edit", "pd_default", "--owner", "x", "--reason", "r", *signed("vic"))
    assert isinstance(who.exception, AccessDenied)
    rule = run("models", "edit", "pd_default", "--inherent-risk", "vast", "--reason", "r", *signed("ana"))
    assert isinstance(rule.exception, InventoryRefused) and "high, medium, low" in str(rule.exception)
    for arguments in ((), ("--owner", "x", "--reviewed"), ("--fired", "a", "--responded", "a")):
        slip = run("models", "edit", "pd_default", *arguments, "--reason", "r", *signed("ana"))
        assert isinstance(slip.exception, ConfigError) and "one thing at a time" in str(slip.exception)
    assert isinstance(run("models", "show", "nothing").exception, ConfigError)
    assert [r.action for r in audit.records(book.engine, action="inventory.")] == ["inventory.refused"] * 2


def test_versions_are_compared_and_ids_are_kept_out_unless_allowed(run: Run, signed: Signed, book: Book) -> None:
    text = run("models", "compare", "pd_default", "1", "2")
    assert text.exit_code == 0, text.output
    assert "change grade" in text.stdout and "largest movers" in text.stdout
    plain = json.loads(run("models", "compare", "pd_default", "1", "2", "--json").stdout)
    assert {m["subject"] for m in plain["movers"]} == {""}
    assert plain["champion"]["version"] == 1 and plain["difference"]["auc"] > 0
    refused = run("models", "compare", "pd_default", "1", "2", "--ids", *signed("vic"))
    assert isinstance(refused.exception, AccessDenied)
    named = json.loads(run("models", "compare", "pd_default", "1", "2", "--ids", "--json", *signed("ana")).stdout)
    assert all(m["subject"] for m in named["movers"])
    (seen,) = audit.records(book.engine, action="personal_data.read")
    assert [r.actor for r in audit.records(book.engine, action="access.refused")] == ["vic"]
    assert (seen.actor, seen.subject) == ("ana", "model:pd_default/2")
    there = run("models", "compare", "pd_default", "2", "1")
    assert isinstance(there.exception, NotFound) and "1 2" in str(there.exception)


def test_a_promotion_shows_its_comparison_and_asks_for_the_change_ticket(run: Run, signed: Signed) -> None:
    shown = run("promotions", "show", "pd_default/2")
    assert shown.exit_code == 0, shown.output
    assert "change grade: " in shown.stdout and "against version 1 (AUC 0." in shown.stdout
    facts = json.loads(run("promotions", "show", "pd_default/2", "--json").stdout)
    assert facts["comparison_sha256"] == facts["manifest"]["comparison_sha256"]
    # The request was made before the portfolio asked for it: its own policy holds.
    found = run("promotions", "review", "pd_default/2", "--external-reference", "CHG0012345", *signed("ana"))
    assert found.exit_code == 0 and "approved elsewhere as CHG0012345, recorded by ana" in found.stdout


def test_a_report_is_written_once_and_its_hash_is_on_record(run: Run, book: Book, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    written = json.loads(run("models", "report", "pd_default", "2", "--out", str(out), "--json").stdout)
    assert written["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest() and written["faults"] == []
    assert "◌ open" in out.read_text()
    (exported,) = audit.records(book.engine, action="report.exported")
    assert exported.facts["sha256"] == written["sha256"]
    again = run("models", "report", "pd_default", "2", "--out", str(out))
    assert isinstance(again.exception, ConfigError) and "is there already" in str(again.exception)
    nowhere = run("models", "report", "pd_default", "2", "--out", str(tmp_path / "no" / "r.html"))
    assert isinstance(nowhere.exception, ConfigError) and "cannot be written" in str(nowhere.exception)


# Hooks


class Slow(BaseHTTPRequestHandler):
    """Takes two seconds to say that all is well."""

    seen: list[dict[str, Any]]

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(2)
        type(self).seen.append(json.loads(content))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


def hooked(book: Book, url: str) -> None:
    secret = book.settings.home / "hook.secret"
    secret.write_text("a-secret-of-some-length\n")
    secret.chmod(0o600)
    entry = {"name": "snow", "url": url, "events": ["promotion."], "secret_file": "hook.secret"}
    book.settings.hooks_file.write_text(json.dumps({"receivers": [entry]}))


def typed(book: Book, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env={**os.environ, "SCORETRACE_HOME": str(book.settings.home)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_a_command_does_not_wait_for_a_slow_receiver_and_what_it_did_arrives(book: Book, signed: Signed) -> None:
    Slow.seen = []
    server = HTTPServer(("127.0.0.1", 0), Slow)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        hooked(book, f"http://127.0.0.1:{server.server_port}/")
        asked = typed(book, "promotions", "review", "pd_default/2", "--ask", "why now?", *signed("ana"))
        assert asked.returncode == 0, asked.stderr
        assert Slow.seen == [] and "webhook" not in asked.stderr  # it ended before the receiver answered
        for _ in range(600):
            if Slow.seen and json.loads(typed(book, "hooks", "list", "--json").stdout)[0]["waiting"] == 0:
                break
            time.sleep(0.1)
        assert [b["event"] for b in Slow.seen] == ["promotion.asked"]
        assert "why now?" in Slow.seen[0]["description"] and Slow.seen[0]["risk"] == "high"
        assert "1 delivered" in (book.settings.home / "logs" / "hooks.log").read_text()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_dead_receiver_fails_no_command_and_says_so_where_one_asks(book: Book, signed: Signed) -> None:
    server = HTTPServer(("127.0.0.1", 0), Slow)
    server.server_close()  # nobody listens there any more
    hooked(book, f"http://127.0.0.1:{server.server_port}/")
    audit.append(book.engine, actor="ana", action="promotion.asked", subject="promotion:x", detail={"text": "?"})
    found = typed(book, "hooks", "deliver")
    assert found.returncode == 1 and "snow: 0 delivered; ✕ no answer: ConnectionRefusedError" in found.stdout
    listed = typed(book, "hooks", "list")
    assert listed.returncode == 0 and "▲ 1" in listed.stdout and "(1 in a row)" in listed.stdout
    assert typed(book, "models", "list").returncode == 0


def test_a_slip_in_the_hooks_file_fails_no_command(book: Book) -> None:
    book.settings.hooks_file.write_text("{")
    found = typed(book, "models", "list")
    assert found.returncode == 0 and "pd_default" in found.stdout
    assert "webhooks:" in found.stderr and "hooks.json cannot be read" in found.stderr
    assert "Traceback" not in found.stderr
    refused = typed(book, "hooks", "list")
    assert refused.returncode == 1 and "hooks.json cannot be read" in refused.stderr


def test_a_receiver_that_died_and_came_back_gets_all_that_waited_once_and_in_order(book: Book) -> None:
    class Taken(Slow):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append(json.loads(content))
            self.send_response(204)
            self.end_headers()

    taken: list[dict[str, Any]] = []

    def listening(port: int) -> tuple[HTTPServer, Thread]:
        server = HTTPServer(("127.0.0.1", port), Taken)
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        return server, thread

    def said(text: str) -> None:
        audit.append(book.engine, actor="ana", action="promotion.asked", subject="promotion:x", detail={"text": text})

    def stop(server: HTTPServer, thread: Thread) -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    server, thread = listening(0)
    port = server.server_port
    try:
        hooked(book, f"http://127.0.0.1:{port}/")
        said("one")
        assert typed(book, "hooks", "deliver").returncode == 0
    finally:
        stop(server, thread)
    for text in ("two", "three"):
        said(text)
    for _ in range(2):
        dead = typed(book, "hooks", "deliver")
        assert dead.returncode == 1 and "ConnectionRefusedError" in dead.stdout
    (queue,) = json.loads(typed(book, "hooks", "list", "--json").stdout)
    assert (queue["waiting"], queue["failed"]) == (2, 2)
    server, thread = listening(port)
    try:
        back = typed(book, "hooks", "deliver")
        assert back.returncode == 0 and "2 delivered; ✓ nothing waits" in back.stdout
        assert "0 delivered" in typed(book, "hooks", "deliver").stdout
    finally:
        stop(server, thread)
    assert [b["description"].rpartition("text: ")[2] for b in taken] == ["one", "two", "three"]
    assert len({b["delivery"] for b in taken}) == 3


# What is said


def test_a_changed_model_makes_its_report_end_with_1(run: Run, book: Book, tmp_path: Path) -> None:
    path = book.registry.artifact_path(book.registry.get("pd_default", 2))
    path.write_bytes(path.read_bytes() + b" ")
    found = run("models", "report", "pd_default", "2", "--out", str(tmp_path / "report.html"))
    assert found.exit_code == 1
    assert "has been changed since it was registered" in found.stdout and "not whole" in found.stdout


def test_an_alias_that_stands_elsewhere_than_was_signed_is_flagged(run: Run, book: Book) -> None:
    assert "▲ alias" not in run("models", "list").stdout
    book.registry.set_production("pd_default", 2)
    listed, shown = run("models", "list"), run("models", "show", "pd_default")
    said = "the production alias is at version 2, and the signed promotion is of version 1: scoring refuses"
    assert "v1 ▲ alias" in listed.stdout and said in listed.stdout and said in shown.stdout
    assert json.loads(run("models", "show", "pd_default", "--json").stdout)["production_alias"] == 2


def test_an_essay_is_refused_by_what_it_is_and_how_much_would_do(run: Run, signed: Signed, book: Book) -> None:
    found = run("promotions", "review", "pd_default/2", "--ask", "x" * 100_000, *signed("ana"))
    assert isinstance(found.exception, RecordRefused)
    assert "the words of a question have 100,000 characters; 10,000 are the most" in str(found.exception)


def test_nothing_reads_like_an_approval_before_it_is_one(run: Run, signed: Signed) -> None:
    found = run("promotions", "sign", "pd_default/2", "--reason", "good", *signed("ana"))
    assert isinstance(found.exception, AccessDenied) and "approve" not in found.stdout


def test_what_is_no_date_is_told_how_one_is_written(run: Run) -> None:
    found = run("promotions", "review", "pd_default/2", "--ends", "31.12.2026")
    assert found.exit_code == 2 and "next: write it as" in found.output and "2026-03-14" in found.output


def test_a_limit_that_is_added_lifts_no_other(run: Run, signed: Signed) -> None:
    for limit in (("--ends", "2999-12-31"), ("--max-subjects", "5000"), ("--ends", "2999-06-30")):
        found = run("promotions", "review", "pd_default/2", *limit, *signed("ana"))
    assert "conditional: ends 2999-06-30, at most 5,000 subjects" in found.stdout


def test_a_signature_that_is_not_genuine_is_shown_as_such(run: Run, book: Book) -> None:
    before = json.loads(run("promotions", "show", "pd_default/1", "--json").stdout)
    assert [s["genuine"] for s in before["signatures"]] == [True, True]
    (key,) = (book.settings.keys_dir / "public").glob("*.pem")
    key.unlink()
    shown = run("promotions", "show", "pd_default/1").stdout
    assert shown.count("not genuine") == 2 and "✓ ada approver" not in shown and "✕ ada approver" in shown
