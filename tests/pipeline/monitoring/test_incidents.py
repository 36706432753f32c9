"""Whole nights that go wrong, each told of on its night by the right alert with the right source named first."""

from __future__ import annotations

import shutil
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from lineage.causes import explainer
from pipeline import home, lake, ledger, synth
from pipeline.config import Settings
from pipeline.errors import ScoretraceError
from pipeline.governance import audit
from pipeline.monitoring.alert_state import Alert
from pipeline.monitoring.alerts import alerts_of
from pipeline.nightly import run_monitor, run_night
from pipeline.transform import Warehouse
from tests.conftest import FIRST, SECOND, THIRD, made_once
from tests.signing_off import at_the_home
from tests.untested import Untested

WRONG = ("bureau_format", "duplicate_load", "late_file", "empty_file", "restated_statement")


@pytest.fixture(scope="session")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extracts of the shared home's lender again, with one incident a folder on the second night."""

    def make(folder: Path) -> str:
        for kind in WRONG:
            incident = synth.Incident(kind, SECOND)
            synth.generate(4_000, 26, folder / kind, nights=3, end=THIRD, incidents=[incident])
            shutil.rmtree(folder / kind / "history")
        return ""

    return made_once(tmp_path_factory, "spoiled", make)[0]


def night(settings: Settings, as_of: date, extracts: Path, warehouse: type[Warehouse] = Untested) -> dict[str, Alert]:
    """Run a night that may fail; the alerts afterwards."""
    portfolio, engine = home.open_home(settings)
    try:
        run_night(
            settings, portfolio, engine, as_of, actor=at_the_home(), extracts=extracts,
            warehouse=warehouse(settings, portfolio), explain=explainer(settings, engine, portfolio),
        )  # fmt: skip
    except ScoretraceError as error:
        assert error.message
    return alerts_of(engine)


def metric(settings: Settings, name: str) -> dict[str, float]:
    lines = (settings.home / "metrics" / "scoretrace.prom").read_text(encoding="utf-8").splitlines()
    samples = (line.rpartition(" ") for line in lines if line.startswith(f"scoretrace_{name}"))
    return {labels.removeprefix(f"scoretrace_{name}"): float(value) for labels, _, value in samples}


@pytest.mark.parametrize(
    ("incident", "alert", "source", "says"),
    [
        ("bureau_format", "schema/bureau_pull", "raw.bureau_pull", "VS_SCORE"),
        ("duplicate_load", "volume/loan_servicing", "raw.loan_servicing", "repeated keys"),
        ("late_file", "freshness/loan_servicing", "raw.loan_servicing", "missing from"),
        ("empty_file", "volume/payments_ledger", "raw.payments_ledger", "0 rows"),
    ],
)
def test_a_night_that_stops_is_told_of_and_the_next_good_one_resolves_it(
    own_home: Settings, spoiled: Path, incident: str, alert: str, source: str, says: str
) -> None:
    found = night(own_home, SECOND, spoiled / incident)
    assert list(found) == [alert]
    assert (found[alert].state, found[alert].level, found[alert].as_of) == ("open", "high", SECOND)
    assert found[alert].causes[0].source.startswith(source)
    assert says in found[alert].message + found[alert].causes[0].reason
    assert metric(own_home, "night_succeeded") == {"": 0.0}
    assert sum(metric(own_home, "alerts_open").values()) == 1.0
    again = night(own_home, SECOND, own_home.extracts_dir)
    assert {a.state for a in again.values()} == {"resolved"}
    assert metric(own_home, "night_succeeded") == {"": 1.0}
    assert audit.verify(ledger.open_ledger(own_home)).ok


def test_corrected_statements_are_told_of_and_the_night_is_published(own_home: Settings, spoiled: Path) -> None:
    found = night(own_home, SECOND, spoiled / "restated_statement")
    assert list(found) == ["restatement/loan_servicing"]
    first = found["restatement/loan_servicing"].causes[0]
    assert first.source.startswith("raw.loan_servicing") and "correct rows that had landed before" in first.reason
    newest = ledger.latest_publication(ledger.open_ledger(own_home))
    assert newest is not None and newest.as_of == SECOND


def test_a_shift_in_tonights_statements_is_traced_to_the_column_that_moved_and_not_to_a_correction_beside_it(
    own_home: Settings, spoiled: Path, tmp_path: Path
) -> None:
    """Every limit of tonight's statements three fifths of what it was, less than accounts differ from one another;
    with it in the same file come corrections for other accounts."""
    shutil.copytree(spoiled / "restated_statement" / str(SECOND), tmp_path / str(SECOND))
    statements = tmp_path / str(SECOND) / "statements.parquet"
    rows = duckdb.sql(
        f"SELECT * REPLACE (CASE WHEN STMT_DT < '{SECOND}' THEN CR_LMT_AMT "
        f"ELSE CAST(greatest(round(CR_LMT_AMT * 0.6, 2), 100) AS DECIMAL(18, 2)) END AS CR_LMT_AMT) "
        f"FROM read_parquet('{statements}')"
    )
    rows.to_parquet(str(tmp_path / "shifted.parquet"))
    (tmp_path / "shifted.parquet").replace(statements)
    found = night(own_home, SECOND, tmp_path)
    restated = found.pop("restatement/loan_servicing")
    assert "correct rows that had landed before" in restated.message
    assert found and all(a.kind == "drift" for a in found.values())
    assert {"drift/pd_default/feat_utilization", "drift/pd_default/feat_pricing"} & found.keys()
    week = SECOND - timedelta(days=7)
    for alert in found.values():
        if alert.members != ("score",):
            first = alert.causes[0]
            assert first.source == "raw.loan_servicing.credit_limit", alert
            assert f"are lower than the same account's row before, 0% from {week} to {FIRST}" in first.reason
            assert not [c for c in alert.causes if "correct rows" in c.reason]
    assert "in arrival new" in " ".join(a.message for a in found.values())


def test_a_good_night_is_quiet_and_a_past_one_counted_again_gives_the_same_bytes(own_home: Settings) -> None:
    assert night(own_home, SECOND, own_home.extracts_dir, Warehouse) == {}
    assert metric(own_home, "published_sla_met") == {}, "a night of March that runs today was made up for"
    assert all(value > 0 for value in metric(own_home, "drift_psi_max").values())
    assert metric(own_home, "alerts_open") == {"": 0.0}
    tables = ("counts", "statistics", "segment_statistics", "contributions")

    def bytes_of(day: date) -> list[list[tuple[object, ...]]]:
        with closing(lake.connect(own_home)) as con:
            return [
                con.execute(f"SELECT * FROM drift.{t} WHERE as_of_date = ? ORDER BY ALL", [day]).fetchall()
                for t in tables
            ]

    portfolio, engine = home.open_home(own_home)
    before = bytes_of(FIRST)
    said = run_monitor(own_home, portfolio, engine, FIRST, actor=at_the_home())
    assert bytes_of(FIRST) == before and all(before)
    assert [w["model"] for w in said["watched"]] == ["pd_default", "pd_application"]
    with closing(lake.connect(own_home)) as con:
        splits = con.execute("SELECT DISTINCT dimension FROM drift.counts ORDER BY 1").fetchall()
    assert [s[0] for s in splits] == ["", "arrival", "grade", "product", "state", "vintage"]


def test_a_fault_of_the_monitor_takes_no_publication_back(own_home: Settings) -> None:
    with closing(lake.connect(own_home, read_only=False)) as con:
        con.execute("DROP TABLE lake.drift.statistics")
    found = night(own_home, SECOND, own_home.extracts_dir)
    assert found == {}
    engine = ledger.open_ledger(own_home)
    newest, run = ledger.latest_publication(engine), ledger.runs(engine, limit=1)[0]
    assert newest is not None and newest.as_of == SECOND
    assert (run.run_id, run.status) == (newest.run_id, "failed")
    assert "made before there were any" in run.message and "scoretrace init" in run.next_step
