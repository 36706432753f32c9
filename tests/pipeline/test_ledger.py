"""Reads of the control store."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert

from pipeline import control, ledger
from pipeline.config import Settings
from pipeline.errors import ConfigError, NotFound
from pipeline.ledger import ScoredModel, Sla
from tests import audit_history

DAY = date(2026, 3, 14)
DUE = datetime(2026, 3, 15, 5, 0, tzinfo=UTC)
MODEL = {"name": "pd_default", "version": 2, "digest": "d" * 64, "subject": "account", "rows": 10}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return control.create(Settings.at(tmp_path))


def add_run(
    engine: Engine, run_id: str, started: datetime, status: str = "succeeded", as_of: date = DAY, **more: object
) -> None:
    row = {
        "run_id": run_id, "kind": "nightly", "as_of": as_of, "status": status, "started_at": started,
        "ended_at": started + timedelta(minutes=2), "actor": "a", "host": "h", "pid": 1, "environment": {}, **more,
    }  # fmt: skip
    with engine.begin() as db:
        db.execute(insert(control.runs), row)


def publish(engine: Engine, run_id: str, at: datetime, as_of: date = DAY, snapshot: int = 1, **more: object) -> None:
    row = {
        "as_of": as_of, "run_id": run_id, "snapshot_id": snapshot, "published_at": at, "accounts": 10,
        "applications": 0, "content_sha256": "c" * 64, "models": [MODEL], "features": 143, "sla_due": DUE,
        "sla_met": at <= DUE, **more,
    }  # fmt: skip
    with engine.begin() as db:
        db.execute(insert(control.publications), row)


def test_nothing_is_published_at_first(engine: Engine) -> None:
    assert ledger.latest_publication(engine) is None
    assert ledger.publication_for(engine, DAY) is None
    assert ledger.published_dates(engine) == ()
    assert ledger.failure_since(engine, None) is None


def test_the_latest_is_the_newest_date_and_its_newest_publication(engine: Engine) -> None:
    early = DUE - timedelta(hours=1)
    for n, day in enumerate((DAY, DAY - timedelta(days=1), DAY)):
        add_run(engine, f"r{n}", early)
        publish(engine, f"r{n}", early, as_of=day, snapshot=n)
    add_run(engine, "old", early)
    publish(engine, "old", early, as_of=DAY - timedelta(days=30), snapshot=9)  # a backfill does not become tonight
    latest = ledger.latest_publication(engine)
    assert latest is not None and (latest.as_of, latest.run_id, latest.snapshot_id) == (DAY, "r2", 2)
    assert latest.models == (ScoredModel(**MODEL),)
    assert [p.run_id for p in ledger.publications(engine, since=DAY - timedelta(days=1))] == ["r2", "r1"]
    assert ledger.published_dates(engine)[0] == DAY


def test_times_come_back_in_utc(engine: Engine) -> None:
    add_run(engine, "r", DUE)
    assert ledger.run(engine, "r").started_at == DUE
    with pytest.raises(NotFound, match="no run nothing"):
        ledger.run(engine, "nothing")


@pytest.mark.parametrize(
    ("started", "published", "expected"),
    [
        (DUE - timedelta(hours=2), DUE - timedelta(hours=1), Sla.MET),
        (DUE - timedelta(minutes=2), DUE + timedelta(seconds=1), Sla.MISSED),
        (DUE + timedelta(days=20), DUE + timedelta(days=20, minutes=2), Sla.BACKFILLED),
    ],
)
def test_sla(engine: Engine, started: datetime, published: datetime, expected: Sla) -> None:
    add_run(engine, "r", started)
    publish(engine, "r", published)
    (night,) = ledger.nights(engine, DAY, DAY)
    assert (night.sla, night.landed_at) == (expected, published)


def test_publishing_again_later_keeps_the_sla_of_the_first(engine: Engine) -> None:
    add_run(engine, "first", DUE - timedelta(hours=2))
    publish(engine, "first", DUE - timedelta(hours=1))
    add_run(engine, "again", DUE + timedelta(days=3))
    publish(engine, "again", DUE + timedelta(days=3))
    (night,) = ledger.nights(engine, DAY, DAY)
    assert night.sla is Sla.MET
    assert night.publication is not None and night.publication.run_id == "again"


def test_a_failure_counts_until_a_later_night_succeeds(engine: Engine) -> None:
    add_run(engine, "good", DUE - timedelta(hours=2))
    publish(engine, "good", DUE - timedelta(hours=1))
    good = ledger.latest_publication(engine)
    error = "a gate failed\n  next: correct the extracts"
    add_run(engine, "bad", DUE + timedelta(days=1), "failed", DAY + timedelta(days=1), error=error)
    failure = ledger.failure_since(engine, good)
    assert failure is not None and (failure.message, failure.next_step) == ("a gate failed", "correct the extracts")
    nights = ledger.nights(engine, DAY, DAY + timedelta(days=1))
    assert [(n.publication is not None, n.sla) for n in nights] == [(True, Sla.MET), (False, Sla.NONE)]
    add_run(engine, "weekly", DUE + timedelta(days=1, hours=1), kind="retrain")
    assert ledger.failure_since(engine, good) is not None, "a training run mends no night"
    add_run(engine, "mended", DUE + timedelta(days=1, hours=2), as_of=DAY + timedelta(days=1))
    assert ledger.failure_since(engine, good) is None


def test_gates_come_worst_first_and_dbt_is_counted_by_outcome(engine: Engine) -> None:
    add_run(engine, "r", DUE)
    gate = {"run_id": "r", "subject": "t", "observed": 1.0, "expected": "1", "message": "m"}
    node = {"run_id": "r", "model": "m", "seconds": 0.5}
    with engine.begin() as db:
        db.execute(
            insert(control.gate_verdicts),
            [{**gate, "gate": f"g{i}", "verdict": v} for i, v in enumerate(["pass", "warn", "fail", "pass"])],
        )
        db.execute(
            insert(control.dbt_results),
            [
                {**node, "unique_id": f"n{i}", "resource_type": kind, "status": status}
                for i, (kind, status) in enumerate(
                    [("model", "success"), ("test", "pass"), ("test", "warn"), ("test", "fail"), ("test", "error")]
                )
            ],
        )
    assert [g.gate for g in ledger.gate_verdicts(engine, "r")] == ["g2", "g1", "g0", "g3"]
    totals = ledger.dbt_totals(engine, "r")
    assert (totals.models, totals.passed, totals.warned, totals.failed, totals.seconds) == (1, 1, 1, 2, 2.5)
    assert [r.unique_id for r in ledger.dbt_results(engine, "r", ("fail", "error"))] == ["n3", "n4"]


def test_a_promotion_is_of_exactly_these_bytes(engine: Engine) -> None:
    model = ScoredModel(**MODEL)
    moment = DUE - timedelta(days=1)

    def promote(digest: str) -> None:
        audit_history.write(
            engine,
            audit_history.promoted(moment, "pd_default", 2, digest, replaces=None, signer="a.berg", reason="r"),
        )

    promote("e" * 64)
    assert ledger.promotion_of(engine, model) is None
    promote("d" * 64)
    promotion = ledger.promotion_of(engine, model)
    assert promotion is not None and (promotion.promoted_at, promotion.actor) == (moment, "a.berg")
    assert ledger.promotion_of(engine, model, moment - timedelta(days=1)) is None


def test_reading_makes_no_home(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no Scoretrace home"):
        ledger.open_ledger(Settings.at(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
