"""What a published run recorded of one kind of subject: the SQL that ran, the snapshot, the model. Read, never rebuilt.

A trace and a replay start here and take nothing from today's project, portfolio or registry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, lru_cache
from typing import Any

from sqlalchemy import Engine, select

from pipeline import archive, control, ledger, portfolio
from pipeline.config import Settings
from pipeline.errors import NotFound
from pipeline.ledger import DbtResult, Publication, Run, ScoredModel, TaskAttempt
from pipeline.portfolio import Portfolio
from pipeline.sql import ident

SUBJECTS = ("account", "application")


@dataclass(frozen=True)
class RecordedModel:
    """One dbt model as it ran. relation: its quoted name in the lake; sql: its whole definition at the as-of date."""

    name: str
    relation: str
    schema: str
    view: bool
    sql: str = field(repr=False)
    sha256: str
    columns: Mapping[str, Mapping[str, Any]] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Recording:
    """A published run and one kind of subject in it.

    models: the dbt models behind the subject's features, upstream first, the feature table last.
    scored: the model version that scored the subject.
    """

    settings: Settings = field(repr=False)
    run: Run
    publication: Publication
    subject: str
    scored: ScoredModel
    models: tuple[RecordedModel, ...] = field(repr=False)
    superseded: bool

    @property
    def as_of(self) -> date:
        return self.publication.as_of

    @property
    def key(self) -> str:
        """Name of the subject's id column."""
        return f"{self.subject}_id"

    @property
    def target(self) -> RecordedModel:
        """The feature table's model."""
        return self.models[-1]

    @property
    def features(self) -> tuple[str, ...]:
        """The feature columns, in the contract's order."""
        return tuple(
            name for name, column in self.target.columns.items() if meta_of(column).get("role", "feature") != "key"
        )

    @cached_property
    def one_query(self) -> str:
        """The feature table as one SELECT over raw tables: every model upstream is a CTE of its own name."""
        texts = {m.name: m.sql for m in self.models}
        for model in self.models:
            for other in self.models:
                texts[model.name] = texts[model.name].replace(other.relation, ident(other.name))
        ctes = ",\n".join(f"{ident(name)} AS ({text}\n)" for name, text in texts.items())
        return f"WITH {ctes}\nSELECT * FROM {ident(self.target.name)}"

    def portfolio(self) -> Portfolio:
        """The lender's portfolio as it was on that night: grades and points are its. Raises NotFound."""
        files = self.run.environment.get("portfolio_files")
        if not files:
            raise NotFound(
                f"run {self.run.run_id} did not record its portfolio", "nights that ran since then can be replayed"
            )
        return _portfolio(self.settings, tuple(sorted(files.items())))


def recording(settings: Settings, engine: Engine, as_of: date, subject: str, *, run_id: str | None = None) -> Recording:
    """The record of the published run of a date, the newest unless ``run_id`` names an earlier one.

    Raises NotFound for a date that was never published, a run that published nothing, or a subject it did not score.
    """
    publication = published(engine, as_of, run_id)
    newest = ledger.publication_for(engine, as_of)
    scored = next((m for m in publication.models if m.subject == subject), None)
    if scored is None:
        raise NotFound(
            f"the night of {as_of} scored no {subject}s",
            f"it scored {', '.join(f'{m.subject}s with {m.name}' for m in publication.models)}",
        )
    run = ledger.run(engine, publication.run_id)
    attempts = ledger.task_attempts(engine, run.run_id)
    manifest = _manifest_of(attempts, run)
    models = _models(settings, manifest, ledger.dbt_results(engine, run.run_id), f"{subject}_features", run.run_id)
    superseded = newest is not None and newest.id != publication.id
    return Recording(settings, run, publication, subject, scored, models, superseded)


def meta_of(column: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a manifest's column declares beside its type and description."""
    return column.get("config", {}).get("meta") or column.get("meta") or {}


def published(engine: Engine, as_of: date, run_id: str | None = None) -> Publication:
    """The newest publication of a date, or the one of a run. Raises NotFound naming the nights next to it."""
    if run_id is None:
        found = ledger.publication_for(engine, as_of)
        if found is None:
            raise NotFound(f"nothing is published for {as_of}", _nearest(engine, as_of))
        return found
    p = control.publications
    query = select(p.c.id).where(p.c.run_id == run_id, p.c.as_of == as_of).order_by(p.c.id.desc()).limit(1)
    with engine.connect() as connection:
        id_: int | None = connection.scalar(query)
    if id_ is None:
        raise NotFound(
            f"run {run_id} published nothing for {as_of}", "leave --run away for the newest publication of the date"
        )
    return ledger.publication(engine, id_)


def _nearest(engine: Engine, as_of: date) -> str:
    dates = ledger.published_dates(engine)
    if not dates:
        return f"run `scoretrace nightly --as-of {as_of}` first"
    before = next((d for d in dates if d < as_of), None)
    after = next((d for d in reversed(dates) if d > as_of), None)
    near = " and ".join(str(d) for d in (before, after) if d)
    return f"the published nights next to it: {near}"


def _manifest_of(attempts: tuple[TaskAttempt, ...], run: Run) -> str:
    for attempt in reversed(attempts):
        if attempt.task == "features" and (attempt.detail or {}).get("manifest_sha256"):
            return str((attempt.detail or {})["manifest_sha256"])
    raise NotFound(f"run {run.run_id} recorded no feature build", "`scoretrace status` names the runs that published")


def _models(
    settings: Settings, manifest_sha256: str, results: tuple[DbtResult, ...], target: str, run_id: str
) -> tuple[RecordedModel, ...]:
    nodes = _nodes(settings, manifest_sha256)
    ran = {r.unique_id: r for r in results if r.resource_type == "model" and r.definition_sha256}
    wanted = next((u for u in ran if nodes.get(u, {}).get("name") == target), None)
    if wanted is None:
        raise NotFound(f"run {run_id} did not build {target}", "`scoretrace status` names the runs that published")
    ordered: dict[str, RecordedModel] = {}

    def visit(unique_id: str) -> None:
        if unique_id in ordered:
            return
        node = nodes[unique_id]
        for parent in node["depends_on"]["nodes"]:
            if parent.startswith("model."):
                visit(parent)
        result = ran.get(unique_id)
        if result is None or result.definition_sha256 is None:
            raise NotFound(f"run {run_id} did not record the SQL of {node['name']}", "its archive is incomplete")
        ordered[unique_id] = RecordedModel(
            name=node["name"],
            relation=node["relation_name"],
            schema=node["schema"],
            view=node["config"]["materialized"] == "view",
            sql=archive.read_text(settings, result.definition_sha256),
            sha256=result.definition_sha256,
            columns={name.lower(): column for name, column in node["columns"].items()},
        )

    visit(wanted)
    return tuple(ordered.values())


@lru_cache(maxsize=16)
def _portfolio(settings: Settings, files: tuple[tuple[str, str], ...]) -> Portfolio:
    with portfolio.archived(settings, dict(files)) as found:
        return found


@lru_cache(maxsize=4)
def _nodes(settings: Settings, manifest_sha256: str) -> dict[str, Any]:
    manifest = json.loads(archive.read(settings, manifest_sha256))
    return {k: n for k, n in manifest["nodes"].items() if n["resource_type"] == "model"}
