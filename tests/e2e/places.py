"""Every page of the portal over a given home, as a name and an address: for the pictures, axe and the benchmark."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlencode

from sqlalchemy import Engine

from pipeline import home, lake, ledger
from pipeline.config import Settings
from pipeline.governance.approvals import Approvals
from pipeline.monitoring import drift, drift_reads
from pipeline.monitoring.alerts import open_alerts
from pipeline.monitoring.segments import SCORE
from pipeline.registry import Registry
from pipeline.sql import ident


@dataclass(frozen=True)
class Place:
    """A page's name, for its picture, and the path with the query that opens it."""

    name: str
    path: str


def of(settings: Settings) -> list[Place]:
    """The pages, and one of each kind of thing that the home has: a score, a run, a version, a promotion, an alert."""
    book, engine = home.open_home(settings)
    try:
        found = [_place("tonight", ""), _place("scores", "scores"), *_scores(settings, engine)]
        found += [_place("lineage", "lineage"), *_landed(settings)]
        found += [_place("drift", "drift"), *_drift(settings, book.models[0].name)]
        found += [_place("outcomes", "outcomes"), _place("alerts", "alerts")]
        found += [_place("alert", "alerts", alert=a.id) for a in open_alerts(engine)[:1]]
        found += [_place("runs", "runs"), *_runs(engine), _place("models", "models")]
        model = book.models[0].name
        found.append(_place("model", "models", model=model))
        promotions = Approvals(settings, engine, Registry(settings), book).book().of_model(model)
        newest = max((p.version for p in promotions), default=0)
        if newest:
            found.append(_place("version", "models", model=model, version=newest))
        if newest > 1:
            found.append(_place("versions", "models", model=model, version=newest, against=newest - 1))
        found.append(_place("promotions", "promotions"))
        found += [_place("promotion", "promotions", promotion=p.id) for p in promotions if p.version == newest]
        return [*found, _place("audit", "audit"), _place("record", "audit", record=3)]
    finally:
        engine.dispose()


def _scores(settings: Settings, engine: Engine) -> list[Place]:
    """An account of the last night with the features behind it, and an application."""
    last = ledger.latest_publication(engine)
    if last is None:
        return []
    found, dates = list[Place](), ledger.published_dates(engine)
    with closing(lake.connect(settings)) as con:
        for subject in ("account", "application"):
            table, column = ident("lake", "scores", f"{subject}_scores"), ident(f"{subject}_id")
            row = con.execute(
                f"SELECT {column} FROM {table} WHERE as_of_date = ? ORDER BY abs(pd - 0.05), 1 LIMIT 1", [last.as_of]
            ).fetchone()
            if row is None:
                continue
            found.append(_place(subject, "scores", **{subject: row[0]}))
            if subject == "account":
                name = "utilization_3m_avg"
                found.append(_place("account-feature", "scores", account=row[0], feature=name))
                if len(dates) > 1:
                    found.append(_place("account-moved", "scores", account=row[0], since=dates[1]))
                found.append(_place("column", "lineage", column=f"features.account_features.{name}"))
    return found


def _landed(settings: Settings) -> list[Place]:
    """A landed column with the rows of its table's newest load."""
    with closing(lake.connect(settings)) as con:
        row = con.execute(
            "SELECT load_id FROM raw.loads WHERE table_name = 'loan_servicing' ORDER BY load_date DESC LIMIT 1"
        ).fetchone()
    return [_place("landed", "lineage", column="raw.loan_servicing.credit_limit", load=row[0])] if row else []


def _drift(settings: Settings, model: str) -> list[Place]:
    """The feature that drifted most on the last night whose drift is stored."""
    with closing(lake.connect(settings)) as con:
        for stored in [w for w in drift_reads.watched(con) if w.model == model][-1:]:
            night = stored.nights[-1]
            rows = [d for d in drift.history(con, night, night, model=stored.model) if d.feature != SCORE]
            worst = max(rows, key=lambda d: d.psi or 0.0)
            return [_place("drift-feature", "drift", model=stored.model, feature=worst.feature)]
    return []


def _runs(engine: Engine) -> list[Place]:
    runs = ledger.runs(engine, kinds=["nightly"], limit=2)
    found = [_place("run", "runs", run=r.run_id) for r in runs[:1]]
    if len(runs) > 1:
        found.append(_place("runs-compared", "runs", **{"run": runs[0].run_id, "with": runs[1].run_id}))
    return found


def _place(name: str, page: str, **query: object) -> Place:
    return Place(name, f"/{page}{'?' + urlencode(query) if query else ''}")
