"""``scoretrace outcomes`` as it is typed, on a home whose nights have been measured: one later night, a year on."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from pipeline import lake, portfolio
from pipeline.errors import ConfigError, NotFound
from pipeline.ledger import open_ledger
from pipeline.monitoring import outcome_tables
from pipeline.monitoring.cohorts import scoring_record
from pipeline.monitoring.outcomes import measure_outcomes
from tests import published_home

LAST, A_YEAR_ON = published_home.LAST, date(2027, 3, 31)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("measured") / "home"
    settings = published_home.build(home, nights=2)
    book = portfolio.load(settings.portfolio_dir)
    with closing(lake.connect(settings, read_only=False)) as con:
        for number in range(0, published_home.ACCOUNTS, 7):
            con.execute(
                "INSERT INTO lake.raw.account_events (account_id, event_date, event_type, load_date, load_id, "
                "source_file, source_sha256, source_row) VALUES (?, DATE '2026-09-01', 'default', DATE '2026-09-02', "
                "'l', 'f', 'h', ?)",
                [published_home.FIRST_ID + number, number],
            )
        for night in (LAST, A_YEAR_ON):
            measure_outcomes(con, book, night, "run", record=scoring_record(open_ledger(settings), night))
    return home


def run(home: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setenv("SCORETRACE_HOME", str(home))
    result = CliRunner().invoke(cli, ["outcomes", *arguments])
    if result.exception:
        raise result.exception
    return result.stdout


def test_estimates_until_labels_mature_and_then_both(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    early = run(measured, monkeypatch, "--as-of", str(LAST))
    assert "2026-03" in early and "estimated" in early and "matured" not in early
    late = json.loads(run(measured, monkeypatch, "--as-of", str(A_YEAR_ON), "--json"))
    (account,) = (r for r in late["performance"] if r["subject"] == "account" and r["segment"] == "all")
    assert (account["kind"], account["origin"], account["n"]) == ("matured", "live", published_home.ACCOUNTS)
    assert account["events"] == len(range(0, published_home.ACCOUNTS, 7))
    assert late["foreseen"][0]["estimated"]["kind"] == "estimated"
    assert sum(g["n"] for g in late["grades"] if g["kind"] == "matured") == published_home.ACCOUNTS
    assert "came true AUC" in run(measured, monkeypatch, "--as-of", str(A_YEAR_ON), "--model", "pd_default")


def test_nothing_measured_and_no_such_model_name_the_next_step(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="no outcomes were measured up to 2026-01-01"):
        run(measured, monkeypatch, "--as-of", "2026-01-01")
    with pytest.raises(ConfigError, match="no model 'pd_unheard'"):
        run(measured, monkeypatch, "--as-of", str(LAST), "--model", "pd_unheard")


def test_the_store_is_read_by_a_reader(measured: Path) -> None:
    """Outcomes are committed: a connection that may not write sees every table."""
    with closing(lake.connect(published_home.settings_for(measured))) as con:
        assert outcome_tables.existing(con) == set(outcome_tables.TABLES)
