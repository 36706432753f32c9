"""What the reporting commands print, as plain dictionaries: read from the published night, nothing computed anew."""

from __future__ import annotations

from contextlib import closing
from datetime import date
from typing import Any

from lineage.ended import lake_with_scores
from pipeline import ledger
from pipeline.config import Settings
from pipeline.errors import NotFound
from pipeline.home import open_home
from pipeline.sql import ident


def status(settings: Settings) -> dict[str, Any]:
    """The state of a home: what is published, by which model, tested how, and in time or not.

    ``last_run`` is the newest run of any kind; when it failed, what is published is older and still good.
    """
    portfolio, engine = open_home(settings)
    published = ledger.latest_publication(engine)
    recent = ledger.runs(engine, limit=1)
    last_run = {k: getattr(recent[0], k) for k in ("run_id", "kind", "as_of", "status", "error")} if recent else None
    if published is None:
        return {
            "portfolio": portfolio.name,
            "last_as_of": None,
            "published_run": None,
            "accounts_scored": 0,
            "applications_scored": 0,
            "model": None,
            "models": [],
            "gates": {"passed": 0, "warned": 0, "failed": 0},
            "dbt_tests": {"passed": 0, "failed": 0},
            "sla": {"due": None, "landed_at": None, "met": None, "state": None},
            "features": 0,
            "content_sha256": None,
            "snapshot_id": None,
            "last_run": last_run,
        }
    run = ledger.run(engine, published.run_id)
    verdicts = [v.verdict for v in ledger.gate_verdicts(engine, published.run_id)]
    tests = ledger.dbt_totals(engine, published.run_id)
    models = [{"name": m.name, "version": m.version, "digest": m.digest, "rows": m.rows} for m in published.models]
    return {
        "portfolio": portfolio.name,
        "last_as_of": published.as_of,
        "published_run": published.run_id,
        "accounts_scored": published.accounts,
        "applications_scored": published.applications,
        "model": {k: models[0][k] for k in ("name", "version", "digest")},
        "models": models,
        "gates": {
            "passed": verdicts.count("pass"),
            "warned": verdicts.count("warn"),
            "failed": verdicts.count("fail"),
        },
        "dbt_tests": {"passed": tests.passed, "failed": tests.failed},
        "sla": {
            "due": published.sla_due,
            "landed_at": published.published_at,
            "met": published.sla_met,
            "state": ledger.sla_of(published, run).value,
        },
        "features": published.features,
        "content_sha256": published.content_sha256,
        "snapshot_id": published.snapshot_id,
        "last_run": last_run,
    }


def published_scores(settings: Settings, as_of: date, subject: str, limit: int) -> list[dict[str, Any]]:
    """The first ``limit`` scores of a published as-of date, in id order. Raises NotFound naming what there is."""
    _, engine = open_home(settings)
    if subject not in ("account", "application"):
        raise NotFound(f"there are no scores of {subject!r}", "use --subject account or --subject application")
    published = ledger.publication_for(engine, as_of)
    if published is None:
        newest = ledger.latest_publication(engine)
        raise NotFound(
            f"nothing is published for {as_of}",
            f"the newest night is {newest.as_of}" if newest else f"run `scoretrace nightly --as-of {as_of}` first",
        )
    with closing(lake_with_scores(settings, published)) as con:
        found = con.execute(
            f"SELECT * FROM {ident('scores', f'{subject}_scores')} WHERE as_of_date = ? "
            f"ORDER BY {ident(f'{subject}_id')} LIMIT ?",
            [as_of, limit],
        )
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
