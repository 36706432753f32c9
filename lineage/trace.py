"""One score, taken apart: run, model, promotion, contributions, features, source rows, and the proof that they give it.

Everything is read from what the run recorded and computed again from the rows shown; nothing is looked up in today's
code. ``trace`` answers for the newest publication of a date, or for an earlier run of it by its id.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import duckdb
from sqlalchemy import Engine, select

from lineage import rescore, sources, subject_sandbox
from lineage.column_walk import IDENTITY
from lineage.columns import cached_column_lineage
from lineage.recording import RecordedModel, Recording, meta_of
from lineage.rescore import SCORE_COLUMNS, Difference
from lineage.sources import RowIds, SourceRows
from lineage.subjects import resolved
from pipeline import control, ledger
from pipeline.config import Settings
from pipeline.errors import NotFound
from pipeline.governance import guard
from pipeline.governance.access import Actor
from pipeline.governance.promotion_log import LetScore
from pipeline.portfolio import Portfolio


@dataclass(frozen=True)
class Source:
    """Rows of one raw table behind a feature."""

    table: str
    rowids: tuple[int, ...]
    rows: tuple[Mapping[str, Any], ...] = field(repr=False)


@dataclass(frozen=True)
class TracedFeature:
    """One feature's value, what it means, what it adds to the log-odds, and where it came from.

    contribution: None when the model does not read it, or it is withheld. model: the dbt model that computes it, with
    the SHA-256 of its SQL. proved: the archived SQL over ``sources`` alone gives the stored value again, bit for bit.
    population: rows of other subjects are behind it too.
    """

    name: str
    value: Any
    contribution: float | None
    description: str
    declared: Mapping[str, Any]
    model: RecordedModel
    tests: tuple[Mapping[str, Any], ...]
    sources: tuple[Source, ...]
    proved: bool
    population: bool

    def as_dict(self) -> dict[str, Any]:
        note = None
        if self.population:
            note = "population-level: rows of other subjects are behind it"
        elif not self.sources:
            note = "no source row is behind it"
        elif self.value is None:
            note = f"NULL: {self.declared.get('null_policy', '')}"
        return {
            "name": self.name,
            "value": self.value,
            "contribution": self.contribution,
            "description": self.description,
            "theme": self.declared.get("theme"),
            "unit": self.declared.get("unit"),
            "dbt_model": self.model.name,
            "sql_sha256": self.model.sha256,
            "tests": list(self.tests),
            "sources": [
                {"table": f"raw.{s.table}", "rowids": list(s.rowids), "rows": list(s.rows)} for s in self.sources
            ],
            "proved": self.proved,
            "note": note,
        }


@dataclass(frozen=True)
class Proof:
    """What was computed again from the source rows alone, and whether it is what was stored, bit for bit.

    It shows that the rows are sufficient. That none of them could be left out is not shown.
    """

    features: int
    rows: int
    differences: tuple[Difference, ...]
    seconds: float

    @property
    def features_equal(self) -> bool:
        return not any(d.name not in SCORE_COLUMNS for d in self.differences)

    @property
    def score_equal(self) -> bool:
        return not any(d.name in SCORE_COLUMNS for d in self.differences)

    def as_dict(self) -> dict[str, Any]:
        return {
            "features_equal": self.features_equal,
            "score_equal": self.score_equal,
            "seconds": round(self.seconds, 4),
            "features": self.features,
            "rows": self.rows,
            "differences": [vars(d) for d in self.differences],
            "shows": "the rows are sufficient: the run's SQL and model over them alone give the stored values, bit for "
            "bit; that each of them is necessary is not shown",
        }


@dataclass(frozen=True)
class Trace:
    """A score and everything behind it. features: the largest contribution first; rows: all that the proof used.

    together: what the features contribute whose own contributions are withheld with their values; None when none are.
    """

    recorded: Recording
    subject_id: int | str
    score: Mapping[str, Any]
    base: float
    promotion: LetScore | None
    training: Mapping[str, Any] | None
    features: tuple[TracedFeature, ...]
    rows: SourceRows = field(repr=False)
    proof: Proof
    notes: tuple[str, ...]
    together: float | None = None

    def feature(self, name: str) -> TracedFeature:
        """One traced feature by name. Raises NotFound."""
        for found in self.features:
            if found.name == name:
                return found
        some = ", ".join(found.name for found in self.features[:5])
        raise NotFound(f"{name} is not among the traced features", f"take one of its features: {some}, …")

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, as the command line prints it."""
        run, model = self.recorded.run, self.recorded.scored
        return {
            "subject": str(self.subject_id),
            "subject_type": self.recorded.subject,
            "as_of": self.recorded.as_of.isoformat(),
            "score": {name: self.score[name] for name in (*SCORE_COLUMNS, "scored_at")},
            "model": {
                "name": model.name,
                "version": model.version,
                "digest": model.digest,
                "promotion": None
                if self.promotion is None
                else {k: getattr(self.promotion, k) for k in ("actor", "reason", "promoted_at", "replaces_version")},
                "training": self.training,
            },
            "run": {
                "run_id": run.run_id,
                "actor": run.actor,
                "started_at": run.started_at,
                "ended_at": run.ended_at,
                "published_at": self.recorded.publication.published_at,
                "snapshot_id": self.recorded.publication.snapshot_id,
                "environment": {k: v for k, v in run.environment.items() if k != "portfolio_files"},
                "superseded": self.recorded.superseded,
            },
            "base": self.base,
            "masked_contribution": self.together,
            "features": [f.as_dict() for f in self.features],
            "proof": self.proof.as_dict(),
            "notes": list(self.notes),
        }


def trace(
    settings: Settings,
    engine: Engine,
    portfolio: Portfolio,
    subject: str,
    as_of: date,
    *,
    actor: Actor,
    kind: str | None = None,
    features: Sequence[str] = (),
    run_id: str | None = None,
    con: duckdb.DuckDBPyConnection | None = None,
) -> Trace:
    """Trace one published score down to its source rows, and prove it from them.

    subject: an id as text. kind: account or application, where an id is both. features: only these; all by default.
    run_id: an earlier run of the date. con: an open lake at that publication's snapshot (opening one takes half a
    second). Raises AccessDenied, and NotFound for a night, a subject, a feature or a snapshot that is not there, saying
    which.
    """
    guard.require(engine, actor, "trace.read", f"subject:{subject}")
    with resolved(settings, engine, portfolio, subject, as_of, kind, run_id, con) as (recorded, id_, at):
        return _trace(engine, recorded, portfolio, id_, tuple(features), at)


def _trace(
    engine: Engine,
    recorded: Recording,
    portfolio: Portfolio,
    id_: int | str,
    wanted: tuple[str, ...],
    con: duckdb.DuckDBPyConnection,
) -> Trace:
    asked = _asked(recorded, wanted)
    started = time.perf_counter()
    notes: list[str] = []
    with ThreadPoolExecutor(max_workers=1) as pool, con.cursor() as beside:
        published = pool.submit(rescore.stored, beside, recorded, id_)  # while lineage asks which rows count
        own = sources.own_rows(con, recorded, id_)
        by_feature = sources.rows_by_feature(con, recorded, id_, asked, own)
        # The rows behind all features are those behind the row; for a choice of features they are asked for.
        others = [] if not wanted else [sources.rows_behind(con, recorded, id_, own)]
        rows = sources.fetch(con, sources.union([*others, *by_feature.values()]), own)
        stored, score = published.result()
    assert score is not None, "resolved() found it"
    if stored is None:
        notes.append("the night's feature partition is no longer kept: the values are those computed again")
    if recorded.superseded:
        notes.append("a later run published this date again; this is the earlier one, as it was")
    row_sets = list({_key(r): r for r in by_feature.values()}.values())
    given, copies = sources.with_copies(rows, row_sets, portfolio.id_type)
    with subject_sandbox.of_rows(recorded.models, given, portfolio.id_type) as box:
        computed = {row[recorded.key]: row for row in rescore.rows_of(box, recorded.target.relation)}
    again = computed.get(id_, {})
    values = stored if stored is not None else again
    booster = rescore.recorded_booster(recorded.settings, recorded.scored)
    score_again = rescore.score_again(booster, recorded.portfolio(), again) if again else {}
    different = rescore.differences(values, again, recorded.features)
    different += rescore.differences(score, score_again, SCORE_COLUMNS)
    proof = Proof(len(recorded.features), len(rows), different, time.perf_counter() - started)
    alone = {_key(r): computed.get(copies.renamed(number, id_)) for number, r in enumerate(row_sets)}
    strangers = sources.strangers(rows, recorded.subject, id_)
    parts = rescore.contributions(booster, values)
    tests = _tests_by_column(engine, recorded)
    makers = makers_of(recorded)
    dicts = rows.as_dicts()
    features = [
        TracedFeature(
            name=name,
            value=values.get(name),
            contribution=parts.by_feature.get(name),
            description=str(recorded.target.columns[name].get("description", "")),
            declared=meta_of(recorded.target.columns[name]),
            model=makers[name],
            tests=tuple(t for model in sorted({makers[name].name, recorded.target.name}) for t in tests[model, name]),
            sources=tuple(
                Source(table, ids, tuple(dicts[table][i] for i in ids))
                for table, ids in sorted(by_feature[name].items())
            ),
            proved=_gives(alone[_key(by_feature[name])], name, values.get(name)),
            population=any(strangers.get(t, frozenset()) & set(ids) for t, ids in by_feature[name].items()),
        )
        for name in asked
    ]
    features.sort(key=lambda f: (f.contribution is None, -abs(f.contribution or 0.0), f.name))
    return Trace(
        recorded, id_, score, parts.base, ledger.promotion_of(engine, recorded.scored, score["scored_at"]),
        _training(engine, recorded), tuple(features), rows, proof, tuple(notes),
    )  # fmt: skip


def _asked(recorded: Recording, wanted: tuple[str, ...]) -> tuple[str, ...]:
    unknown = sorted(set(wanted) - set(recorded.features))
    if unknown:
        near = [f for f in recorded.features if unknown[0][:6] in f] or [*recorded.features[:8], "…"]
        raise NotFound(f"{unknown[0]} is not a feature of {recorded.target.name}", f"there are {', '.join(near)}")
    return wanted or recorded.features


def _key(rows: RowIds) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(sorted(rows.items()))


def _gives(row: Mapping[str, Any] | None, name: str, value: Any) -> bool:
    return row is not None and rescore.same(value, row.get(name))


def _tests_by_column(engine: Engine, recorded: Recording) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(model, column) → the data tests that ran on it that night, with how they ended."""
    tests: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for r in ledger.dbt_results(engine, recorded.run.run_id):
        if r.resource_type == "test" and r.column:
            found = {"test": r.unique_id.split(".")[2], "status": r.status, "failures": r.failures}
            tests[r.model, r.column].append(found)
    return tests


def makers_of(recorded: Recording) -> dict[str, RecordedModel]:
    """Feature → the model that computes it: the feature table itself, or the one it takes the column from as it is."""
    by_relation = {m.relation.replace('"', "").removeprefix("lake."): m for m in recorded.models}
    schema = {name: dict.fromkeys(m.columns, "") for name, m in by_relation.items()}
    lineage = cached_column_lineage(recorded.settings, recorded.target.sql, schema)
    makers = {}
    for name in recorded.features:
        direct = [i for i in lineage.columns.get(name, ()) if IDENTITY in i.transformations]
        makers[name] = by_relation.get(direct[0].table, recorded.target) if direct else recorded.target
    return makers


def _training(engine: Engine, recorded: Recording) -> dict[str, Any] | None:
    t = control.training_runs
    query = (
        select(t.c.run_id, t.c.as_of, t.c.training_set, t.c.snapshot_id)
        .where(t.c.model_name == recorded.scored.name, t.c.model_digest == recorded.scored.digest)
        .where(t.c.outcome == "registered")
        .order_by(t.c.id)
        .limit(1)
    )
    with engine.connect() as connection:
        row = connection.execute(query).first()
    return None if row is None else dict(row._mapping)
