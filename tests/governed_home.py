"""A small home with something to decide: version 1 of a model in force, version 2 requested and under review, users.

Everything is real: two models trained on a tiny lake, a request with its manifest, a published night, passwords.
Run as a script it makes such a home to look at: ``python -m tests.governed_home FOLDER``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert

from app.auditing import record
from pipeline import control, lake, portfolio
from pipeline.governance import audit, coverage, identity, users
from pipeline.governance.access import Actor
from pipeline.governance.approvals import Approvals
from pipeline.registry import Registry
from tests.conftest import made_once
from tests.pipeline import small_book
from tests.pipeline.small_book import ACCOUNT_MODEL, NIGHT, RUN, Book
from tests.signing_off import person

PASSWORD = "correct horse battery"
MODEL = "pd_default"
NASTY = "<script>document.title='owned'</script> **bold** & `code`"
USERS = {
    "vera": ["viewer"],
    "ana": ["analyst"],
    "dana": ["data_scientist"],
    "avery": ["approver"],
    "blake": ["approver"],
    "root": ["admin"],
}
_PORTFOLIO = """\
name: harbor
title: Harbor Credit Union
id_type: BIGINT
calendar: daily
timezone: Europe/Berlin
currency: EUR
sla: {due: "06:00"}
label: {events: [default], horizon_months: 3}
extracts:
  statements: {columns: {account_id: BIGINT}}
models:
  pd_default:
    subject: account
    materiality: high
    cutoff_pd: 0.2
    holdout_share: 0.3
    floors: {auc: 0.0, ks: 0.0, calibration: 9.0, psi: 9.0}
    parameters: {rounds: 40, early_stopping_rounds: 10, learning_rate: 0.1, num_leaves: 7}
    inventory:
      purpose: Rank and price the risk that an open account defaults within three months.
      intended_use: Provisions by grade and the order in which collections call.
      owner: Consumer credit risk
      inherent_risk: high
      inherent_risk_reason: Every open account is provisioned by it.
      limits: [Not for decisions on new applicants.]
      data: [Bureau reports]
      assumptions: [A default is the lender's own event code]
      triggers:
        - {name: drift, when: An alert is raised., response: Find the source., owner: Model monitoring}
  pd_application:
    subject: application
    materiality: medium
grades: {A: 0.25, B: 0.35, C: 0.5, D: 1.0}
"""


def shared(factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The home with a request under review, made once a run, and the promotion's id. Copy it before changing it."""

    def make(folder: Path) -> str:
        book = build(folder / "home")
        id_ = request(book)
        review(book, id_)
        book.engine.dispose()
        return id_

    folder, id_ = made_once(factory, "governed", make)
    return folder / "home", id_


def build(home: Path) -> Book:
    """Make the home: pd_default version 1 in force and scored, version 2 requested by dana, who trained it."""
    book = small_book.make(home)
    settings = book.settings
    settings.portfolio_dir.mkdir(parents=True)
    (settings.portfolio_dir / "portfolio.yml").write_text(_PORTFOLIO, encoding="utf-8")
    (settings.portfolio_dir / "loan_servicing.sql").write_text("SELECT 1", encoding="utf-8")
    book = replace(book, portfolio=portfolio.load(settings.portfolio_dir))
    spec = replace(ACCOUNT_MODEL, cutoff_pd=0.2, floors=book.portfolio.model(MODEL).floors)
    small_book.train(book, spec, parameters={"rounds": 1, "num_leaves": 2, "feature_fraction": 0.2})
    small_book.approve(book, MODEL, 1, "first version of the year")
    _publish(book)
    second = small_book.train(book, spec, tolerances={"calibration": 1.0, "psi": 1.0})
    assert second.version is not None, second.checks
    root = Actor("root", frozenset({"admin"}), "home", datetime.now(UTC))
    hashed = identity.HASHER.hash(PASSWORD)
    for name, roles in USERS.items():
        users.add(book.engine, root, name, roles, hashed, root.authenticated_at - timedelta(minutes=1), record)
    return book


def request(book: Book) -> str:
    """Version 2 requested by dana; returns the promotion's id."""
    return desk(book).request(person("dana", "data_scientist"), MODEL, 2, f"more features; {NASTY}").id


def review(book: Book, id_: str) -> None:
    """One of each thing that a review has."""
    today, avery, ana = datetime.now(UTC).date(), person("avery", "approver"), person("ana", "analyst")
    at = desk(book)
    at.raise_finding(ana, id_, "The holdout has one cohort only.", owner="dana", due=today + timedelta(days=4))
    at.ask(avery, id_, "Why was months_on_book left free of a constraint?")
    at.answer(person("dana", "data_scientist"), id_, "Q1", f"Its effect is not monotone. {NASTY}")
    at.ask(ana, id_, "What happens to accounts without a bureau report?")
    at.challenge(ana, id_, expertise="credit risk, 12 years", independence="no part in training", changed="one cohort")


def desk(book: Book) -> Approvals:
    return Approvals(book.settings, book.engine, Registry(book.settings), book.portfolio)


def reopen(home: Path) -> Book:
    """The home at this path, which may be a copy."""
    book = small_book.reopen(home)
    return replace(book, portfolio=portfolio.load(book.settings.portfolio_dir))


def _publish(book: Book) -> None:
    """One published night of version 1."""
    run_id, now = f"{NIGHT:%Y%m%d}-nightly-00000002", datetime.now(UTC)
    result = small_book.night(book, replace(ACCOUNT_MODEL), run_id)
    with book.writer() as con:
        snapshot = lake.current_snapshot(con)
    run = {**small_book._run(run_id), "kind": "nightly", "status": "succeeded", "ended_at": now, "started_at": now}
    with book.engine.begin() as db:
        db.execute(insert(control.runs).values(**run))
        key = db.execute(
            insert(control.publications).values(
                as_of=NIGHT, run_id=run_id, snapshot_id=snapshot, published_at=now, accounts=result.rows,
                applications=0, content_sha256="c" * 64, features=8, sla_due=now, sla_met=True,
                models=[{"name": MODEL, "version": 1, "digest": result.model.digest, "subject": "account",
                         "rows": result.rows}],
            )
        ).inserted_primary_key  # fmt: skip
        covered = coverage.of(db, control.publications, key or ())
        audit.append(db, actor="pipeline", action="night.published", subject=f"night:{NIGHT}", detail=covered)


if __name__ == "__main__":
    made = build(Path(sys.argv[1]))
    review(made, request(made))
    print(f"{sys.argv[1]}: sign in as {', '.join(USERS)} with {PASSWORD!r}; {RUN}, {date.today()}")
