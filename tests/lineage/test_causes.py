"""A model whose SQL is another than the night before is named as a cause; one whose dates alone differ is not."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta

import pytest

from lineage.causes import Search
from pipeline import archive, home, ledger
from pipeline.config import Settings
from pipeline.monitoring.alert_rules import DRIFT, Finding
from pipeline.runs import SUCCEEDED, RunLedger
from tests.conftest import EVE, FIRST

COLUMN = "features.account_features.utilization_3m_avg"


@pytest.mark.parametrize("changed", ["sql", "dates"])
def test_a_changed_definition_is_named_and_a_changed_date_is_not(own_home: Settings, changed: str) -> None:
    portfolio, engine = home.open_home(own_home)
    tonight = ledger.publication_for(engine, FIRST)
    assert tonight is not None

    def publish(day: date, results: list[ledger.DbtResult]) -> None:
        run = RunLedger.start(
            engine, kind="nightly", as_of=day, actor="night-batch", portfolio=portfolio, snapshot=tonight.snapshot_id
        )
        run.add_dbt_results(results)  # type: ignore[arg-type]
        run.publish(
            **{k: v for k, v in vars(tonight).items() if k not in ("id", "run_id", "published_at", "as_of", "models")},
            as_of=day,
            models=[vars(m) for m in tonight.models],
        )
        run.finish(SUCCEEDED)

    before = []
    for result in ledger.dbt_results(engine, tonight.run_id):
        if result.model == "feat_utilization" and result.definition_sha256:
            sql = archive.read_text(own_home, result.definition_sha256)
            other = f"{sql}\n-- and another rule" if changed == "sql" else re.sub(str(FIRST), str(EVE), sql)
            result = replace(result, definition_sha256=archive.keep(own_home, other.encode()))
        before.append(result)
    publish(EVE - timedelta(days=1), before)
    finding = Finding("drift/pd_default/feat_utilization", DRIFT, "high", "drifted", columns=(COLUMN,))
    named = {c.source: c.reason for c in Search(own_home, engine, portfolio, tonight.run_id).causes(finding)}
    if changed == "sql":
        assert named["model feat_utilization"] == f"its SQL is not that of the night of {EVE - timedelta(days=1)}"
    assert ("model feat_utilization" in named) == (changed == "sql")
    assert not [m for m in named if m.startswith("model ") and m != "model feat_utilization"]
    publish(EVE, list(ledger.dbt_results(engine, tonight.run_id)))
    search = Search(own_home, engine, portfolio, tonight.run_id)
    for since, expected in ((None, False), (EVE, changed == "sql")):
        sources = {c.source for c in search.causes(replace(finding, since=since))}
        assert ("model feat_utilization" in sources) == expected, "what stands since then came with that night"
