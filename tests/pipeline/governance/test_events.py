"""What the pipeline decides is on record, in the same transaction, by the run's actor."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import IntegrityError

from pipeline import control, portfolio
from pipeline.errors import RecordRefused
from pipeline.gates import Verdict
from pipeline.governance import audit
from pipeline.portfolio import Portfolio
from pipeline.runs import RunLedger
from pipeline.train import REGISTERED
from tests.pipeline import small_book
from tests.pipeline.lender import write_portfolio

DAY = date(2026, 3, 14)
PUBLISHED = {
    "as_of": DAY, "snapshot_id": 7, "accounts": 3, "applications": 0, "content_sha256": "c" * 64,
    "models": [{"name": "pd_default", "version": 1, "digest": "d" * 64, "subject": "account", "rows": 3}],
    "features": 9, "sla_due": None, "sla_met": True,
}  # fmt: skip


@pytest.fixture
def lender(tmp_path: Path) -> Portfolio:
    return portfolio.load(write_portfolio(tmp_path / "portfolio"))


def start(engine: Engine, lender: Portfolio, actor: str = "night-batch") -> RunLedger:
    return RunLedger.start(engine, kind="nightly", as_of=DAY, actor=actor, portfolio=lender, snapshot=6)


def verdict(kind: str, message: str = "m", observed: float | None = 1.0) -> Verdict:
    return Verdict("volume", "loan_servicing", kind, observed, "1 to 2 rows", message)


def test_a_published_night_from_start_to_end(engine: Engine, lender: Portfolio) -> None:
    run = start(engine, lender)
    run.add_verdicts([verdict("pass"), verdict("pass"), verdict("warn")])
    run.publish(**PUBLISHED)
    run.finish("succeeded", snapshot=7)
    found = audit.records(engine, subject=f"run:{run.run_id}")
    assert [r.action for r in found] == ["run.started", "gates.judged", "run.published", "run.succeeded"]
    assert {r.actor for r in found} == {"night-batch"}
    started, judged, published, ended = (r.facts for r in found)
    assert (started["kind"], started["as_of"], started["snapshot_before"]) == ("nightly", "2026-03-14", 6)
    assert started["portfolio_sha256"] == lender.sha256 and started["code"]
    assert judged == {"pass": 2, "warn": 1, "fail": 0, "failed": []}
    assert (published["content_sha256"], published["models"]) == ("c" * 64, PUBLISHED["models"])
    assert ended == {"snapshot_after": 7}
    assert audit.verify(engine).ok


def test_failed_gates_are_named_whatever_is_in_them(engine: Engine, lender: Portfolio) -> None:
    """A broken file can put anything into a message; the event is recorded all the same."""
    run = start(engine, lender)
    bad = [verdict("fail", "value \x01\x1b[31m\u2028 in row 3" + "x" * 9_000, float("nan"))] * 30
    run.add_verdicts([verdict("pass"), *bad])
    run.finish("failed", error="a gate failed: \x1b[31m\r\n  next: correct the extracts")
    judged, ended = (r.facts for r in audit.records(engine)[1:])
    assert (judged["fail"], len(judged["failed"]), judged["failed"][0]["observed"]) == (30, 20, None)
    assert judged["failed"][0]["message"].startswith("value \\x01\\x1b[31m\\u2028 in row 3xxx")
    assert "characters more" in judged["failed"][0]["message"]
    assert ended == {"error": "a gate failed: \\x1b[31m\n  next: correct the extracts"}


def test_a_dead_run_is_recorded_by_the_next(engine: Engine, lender: Portfolio) -> None:
    dead = start(engine, lender, "first")
    alive = start(engine, lender, "second")
    (abandoned,) = audit.records(engine, action="run.abandoned")
    assert (abandoned.subject, abandoned.actor) == (f"run:{dead.run_id}", "second")
    assert abandoned.facts == {"started_by": "first", "found_by": alive.run_id}


def test_what_could_not_be_written_is_not_on_record(engine: Engine, lender: Portfolio) -> None:
    """And the other way round: an actor that the log refuses starts no run."""
    run = start(engine, lender)
    with pytest.raises(IntegrityError):
        run.publish(**{k: v for k, v in PUBLISHED.items() if k != "features"})
    assert audit.records(engine, action="run.published") == ()
    with pytest.raises(RecordRefused):
        start(engine, lender, "two\nlines")
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(control.runs)) == 1
        assert connection.scalar(select(control.runs.c.status)) == "running"


def test_candidates(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    book = small_book.copy(small_book.promoted(tmp_path_factory), tmp_path / "home")
    before = audit.head(book.engine).seq
    assert [r.actor for r in audit.records(book.engine, action="candidate.registered", limit=1)] == ["test"]
    same = small_book.train(book)
    assert same.outcome != REGISTERED, "it is the incumbent itself"
    (refused,) = audit.records(book.engine, after=before)
    assert (refused.action, refused.subject, refused.actor) == ("candidate.refused", "model:pd_default", "test")
    assert refused.facts["outcome"] == same.outcome and refused.facts["failed"][0]["check"] == "changed"
    assert audit.verify(book.engine).ok
