"""The night as a whole: published once, the same bytes again, harmless when it fails, whole after a kill."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import select

from app import reports
from pipeline import control, gates, home, lake, ledger, synth
from pipeline.config import REPOSITORY, Settings
from pipeline.errors import FeatureBuildFailed, GateFailed, LandingError, ModelRefused
from pipeline.nightly import run_night
from pipeline.registry import Registry
from tests.conftest import FIRST, SECOND, THIRD, Cascade
from tests.signing_off import at_the_home

Content = Callable[[Settings, date], str | None]


def night(settings: Settings, as_of: date, extracts: Path | None = None) -> str:
    portfolio, engine = home.open_home(settings)
    return run_night(settings, portfolio, engine, as_of, actor=at_the_home(), extracts=extracts).content_sha256


def test_what_the_night_published(published: Settings) -> None:
    report = reports.status(published)
    assert report["portfolio"] == "cascade"
    assert report["last_as_of"] == FIRST
    assert report["features"] >= 140
    assert report["gates"]["failed"] == 0
    assert report["dbt_tests"]["failed"] == 0
    assert report["sla"]["state"] == "backfilled"
    with closing(lake.connect(published, snapshot=report["snapshot_id"])) as con:
        counted = con.execute(
            "SELECT (SELECT count(*) FROM scores.account_scores WHERE as_of_date = $d), "
            "(SELECT count(*) FROM features.account_features WHERE as_of_date = $d), "
            "(SELECT count(DISTINCT account_id) FROM scores.account_scores WHERE as_of_date = $d)",
            {"d": FIRST},
        ).fetchone()
    assert counted == (report["accounts_scored"],) * 3
    assert report["accounts_scored"] > 3_000
    assert len(reports.published_scores(published, FIRST, "account", 7)) == 7


def test_every_step_is_on_record(published: Settings) -> None:
    engine = ledger.open_ledger(published)
    publication = ledger.latest_publication(engine)
    assert publication is not None
    run = ledger.run(engine, publication.run_id)
    assert run.environment["portfolio"] == "cascade"
    assert len(run.environment["lock_sha256"]) == 64
    attempts = ledger.task_attempts(engine, run.run_id)
    assert [a.task for a in attempts] == ["land", "gate", "features", "score", "publish", "monitor"]
    before = [a.snapshot_before for a in attempts]
    assert before == sorted(before), "snapshots only grow"  # type: ignore[type-var]
    nodes = ledger.dbt_results(engine, run.run_id)
    models = [n for n in nodes if n.resource_type == "model"]
    assert all(n.status == "success" for n in models)
    assert len([n for n in nodes if n.resource_type == "test"]) >= 300


def test_the_models_rank_and_the_books_mean_pd_is_near_what_came_true(published: Settings) -> None:
    with ledger.open_ledger(published).connect() as connection:
        rows = connection.execute(select(control.training_runs.c.model_name, control.training_runs.c.metrics)).all()
    metrics = dict(rows)["pd_default"]  # type: ignore[arg-type]
    assert metrics["auc"] >= 0.72
    assert 0.8 <= metrics["observed_over_expected"] <= 1.25


def test_each_gate_says_what_its_figure_counts(cascade: Cascade) -> None:
    engine = ledger.open_ledger(cascade.settings)
    published = ledger.publication_for(engine, FIRST)
    assert published is not None
    assert {v.gate for v in ledger.gate_verdicts(engine, published.run_id)} == set(gates.UNITS)


def test_the_night_again_gives_the_same_bytes_and_never_doubles(cascade: Cascade, own_home: Settings) -> None:
    assert night(own_home, FIRST) == cascade.content_sha256
    with closing(lake.connect(own_home)) as con:
        doubled = con.execute(
            "SELECT account_id FROM scores.account_scores GROUP BY account_id, as_of_date HAVING count(*) > 1"
        ).fetchall()
    assert doubled == []


@pytest.mark.timeout(900)
def test_killed_in_every_task_it_converges_and_readers_never_see_half(cascade: Cascade) -> None:
    """In the middle of each task, a reader looking all the while; ``make kill-nights`` does it at random moments."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.kill_nights", "--points", "--prepared", str(cascade.settings.home.parent)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "killed in land, gate, features, score, publish, monitor: the same bytes" in done.stdout


def extracts_with(settings: Settings, folder: Path, incident: str) -> Path:
    """The night's extracts with one file spoiled, in a folder of their own."""
    shutil.copytree(settings.extracts_dir / str(SECOND), folder / str(SECOND))
    statements = folder / str(SECOND) / "statements.parquet"
    if incident == "late_file":
        statements.unlink()
    else:
        whole = duckdb.read_parquet(str(statements))
        rows = whole.union(whole) if incident == "duplicate_load" else whole.limit(0)
        rows.to_parquet(str(folder / "spoiled.parquet"))
        (folder / "spoiled.parquet").replace(statements)
    return folder


@pytest.mark.parametrize(
    ("incident", "error"),
    [("late_file", LandingError), ("duplicate_load", GateFailed), ("empty_file", GateFailed)],
)
def test_a_bad_load_stops_the_night_and_the_last_good_one_stands(
    cascade: Cascade, own_home: Settings, tmp_path: Path, content_of: Content, incident: str, error: type[Exception]
) -> None:
    with closing(lake.connect(own_home)) as con:
        raw = con.execute("SELECT count(*) FROM raw.loan_servicing").fetchone()
    with pytest.raises(error) as caught:
        night(own_home, SECOND, extracts_with(own_home, tmp_path / "bad", incident))
    assert str(SECOND) in caught.value.args[0] or "statements" in caught.value.args[0]
    report = reports.status(own_home)
    assert (report["last_as_of"], report["content_sha256"]) == (FIRST, cascade.content_sha256)
    assert report["last_run"]["status"] == "failed"
    with closing(lake.connect(own_home)) as con:
        assert con.execute("SELECT count(*) FROM raw.loan_servicing").fetchone() == raw
        assert con.execute(
            "SELECT count(*) FROM features.account_features WHERE as_of_date = ?", [SECOND]
        ).fetchone() == (0,)


def test_a_changed_model_file_is_refused_and_nothing_is_scored(own_home: Settings, content_of: Content) -> None:
    registry = Registry(own_home)
    path = registry.artifact_path(registry.production("pd_default"))
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    with pytest.raises(ModelRefused, match="pd_default"):
        night(own_home, SECOND, own_home.extracts_dir)
    assert content_of(own_home, SECOND) is None


def test_a_failed_data_test_stops_before_scoring(own_home: Settings, content_of: Content) -> None:
    with closing(lake.connect(own_home, read_only=False)) as con:
        # A fault in a load that was accepted long ago: the gates have seen it, the tests are the second net.
        con.execute("UPDATE raw.account_events SET event_type = 'zombie' WHERE load_date < ?", [FIRST])
    with pytest.raises(FeatureBuildFailed) as caught:
        night(own_home, FIRST)
    assert "event_type" in str(caught.value)
    engine = ledger.open_ledger(own_home)
    newest = ledger.runs(engine, limit=1)[0]
    assert newest.failed
    assert ledger.dbt_results(engine, newest.run_id, statuses=("fail",))
    published = ledger.publication_for(engine, FIRST)
    assert published is not None and published.run_id != newest.run_id


def test_the_command_line_reports_and_refuses(published: Settings) -> None:
    environment = {**os.environ, "SCORETRACE_HOME": str(published.home)}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("scoretrace")), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    status = json.loads(call("status", "--json").stdout)
    promised = "portfolio last_as_of published_run accounts_scored model gates dbt_tests sla features"
    assert set(promised.split()) <= set(status)
    assert set(status["model"]) == {"name", "version", "digest"}
    assert set(status["sla"]) >= {"due", "landed_at", "met"}
    missing = call("scores", "--as-of", "2020-01-01")
    assert missing.returncode == 1
    assert "nothing is published for 2020-01-01" in missing.stderr
    assert "Traceback" not in missing.stderr
    assert call("promotions", "show", "pd_default/99").returncode == 1
    assert call("retrain", "--model", "nobody", "--as-of", str(FIRST)).returncode == 1


def test_a_home_opens_at_another_path(cascade: Cascade, own_home: Settings) -> None:
    assert reports.published_scores(own_home, FIRST, "account", 5) == reports.published_scores(
        cascade.settings, FIRST, "account", 5
    )


def test_incidents_of_the_generator_are_known() -> None:
    assert {i.lower() for i in synth.INCIDENTS} >= {"late_file", "duplicate_load", "empty_file"}
    assert THIRD > SECOND
