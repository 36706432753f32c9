"""Column lineage of a run: from the compiled SQL that it archived, never from today's project.

``column_lineage`` reads one statement; ``run_lineage`` composes those of a run's models, views included, from the
features and marts down to the landed tables, with the scoring between them.

One model's lineage is kept (``lineage.kept``) under its SQL, the columns of the tables it reads and the reading's own
version. Date literals are left out of the key: no date decides which columns are read, and every night's SQL differs
from the last in nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import duckdb
from sqlalchemy import Engine, select

from lineage.column_walk import (
    DIRECT,
    IDENTITY,
    INDIRECT,
    ROWS,
    TRANSFORMATION,
    ColumnLineage,
    Input,
    LineageRefused,
    Schema,
    Transformation,
    Untraceable,
    column_lineage,
    compose,
)
from lineage.definitions import undated
from lineage.graph import ColumnGraph, TableLineage
from lineage.kept import Kept
from pipeline import archive, control, lake, ledger
from pipeline.config import Settings
from pipeline.errors import NotFound, ScoretraceError
from pipeline.ledger import DbtResult, ScoredModel
from pipeline.registry import Registry

__all__ = [
    "DIRECT", "INDIRECT", "ROWS", "ColumnGraph", "ColumnLineage", "Input", "LineageRefused", "Schema", "TableLineage",
    "Transformation", "Untraceable", "cached_column_lineage", "catalog_of", "column_lineage", "compose",
    "lake_at", "model_features", "run_lineage", "scored_tables",
]  # fmt: skip

_READING = 1  # raised when the walk reads the same SQL differently: what was kept is then read anew
_SCORE_VALUES = ("pd", "log_odds", "score_points", "grade")
_REASON_VALUES = ("rank", "feature", "value", "contribution")
_LAYERS = ("staging", "intermediate", "features", "marts")


def run_lineage(
    settings: Settings,
    engine: Engine,
    run_id: str,
    *,
    catalog: Mapping[str, Mapping[str, str]] | None = None,
) -> ColumnGraph:
    """The column graph of everything that one run built and scored.

    catalog: the columns of the tables that the SQL read (see ``catalog_of``), by default those of the last snapshot
    the run wrote. When it has been expired they are those of the lake as it is; the graph's ``notes`` say so.
    Raises NotFound for an unknown run and for one that built no model.
    """
    run = ledger.run(engine, run_id)
    built = _built(ledger.dbt_results(engine, run_id))
    if not built:
        raise NotFound(
            f"run {run_id} built no dbt model, so it has no column lineage", "`scoretrace status` names runs"
        )
    notes: list[str] = []
    if catalog is None:
        snapshot = run.snapshot_after or ledger.last_snapshot(engine, run_id)
        with closing(lake_at(settings, snapshot, notes)) as con:
            catalog = catalog_of(con)
    schema: dict[str, dict[str, str]] = {name: dict(columns) for name, columns in catalog.items()}
    tables: dict[str, TableLineage] = {}
    for result in built:
        table = _table_name(result.model, catalog)
        traced = _model_lineage(settings, result, table, schema)
        types = schema.get(table, {})
        names = traced.columns if traced.columns else types
        schema[table] = {name: types.get(name, "") for name in names}
        tables[table] = TableLineage(table, schema[table], result.model, result.definition_sha256, traced)
    for model in _scoring_models(engine, run_id):
        for scored in _scored(settings, model, catalog, tables, notes):
            tables[scored.table] = scored
    for traced_table in list(tables.values()):
        for name in traced_table.lineage.tables if traced_table.lineage else ():
            tables.setdefault(name, TableLineage(name, catalog.get(name, {})))
    return ColumnGraph(run_id, tables.values(), notes)


def cached_column_lineage(settings: Settings, sql: str, schema: Schema) -> ColumnLineage:
    """``column_lineage``, read from the archive when this definition over these columns was read before.

    It depends on the columns of the tables that the text names, and not on their types: whoever asks finds what the
    night has read, whether their schema is the lake's or the contracts'.
    """
    text = undated(sql)
    named = {name: dict.fromkeys(sorted(schema[name]), "") for name in sorted(schema) if _names(text, name)}
    kept = Kept.of(settings)
    known = kept.recall(_READING, text, named)
    if known is not None:
        return _from_json(known)
    found = column_lineage(sql, named)
    kept.keep(_to_json(found), _READING, text, named)
    return found


def _names(text: str, table: str) -> bool:
    layer, _, name = table.rpartition(".")
    return bool(
        re.search(rf'\b{re.escape(layer)}"?\."?{re.escape(name)}\b' if layer else rf"\b{re.escape(name)}\b", text)
    )


# -- one model


def _built(results: Sequence[DbtResult]) -> list[DbtResult]:
    """The last build of each model that ran, in the order they ran: upstream first."""
    last: dict[str, DbtResult] = {}
    for result in results:
        if result.resource_type == "model" and result.definition_sha256:
            last.pop(result.model, None)
            last[result.model] = result
    return list(last.values())


def _model_lineage(settings: Settings, result: DbtResult, table: str, schema: Schema) -> ColumnLineage:
    """A model's lineage; one that cannot be read is all untraceable, with the reason, rather than missing."""
    assert result.definition_sha256
    try:
        return cached_column_lineage(settings, archive.read_text(settings, result.definition_sha256), schema)
    except (LineageRefused, NotFound) as error:
        columns = dict.fromkeys(schema.get(table, {}), ())
        lost = tuple(Untraceable(name, name, error.message) for name in (*columns, ROWS))
        return ColumnLineage(columns, (), (), lost)


def _table_name(model: str, catalog: Schema) -> str:
    for layer in _LAYERS:
        if f"{layer}.{model}" in catalog:
            return f"{layer}.{model}"
    # Not in the lake (any more): by the names that this project gives its layers.
    return {"stg_": "staging.", "int_": "intermediate.", "feat": "features."}.get(model[:4], "") + model


def lake_at(settings: Settings, snapshot: int | None, notes: list[str]) -> duckdb.DuckDBPyConnection:
    """The lake at a snapshot if it is still there; if not, as it is now, and ``notes`` gets a sentence about it."""
    try:
        return lake.connect(settings, snapshot=snapshot)
    except NotFound:
        notes.append(f"snapshot {snapshot} is gone; columns of landed tables are those of the lake as it is now")
        return lake.connect(settings)


def catalog_of(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Every table and view of an open lake, ``schema.table`` → column → type."""
    found: dict[str, dict[str, str]] = {}
    for schema, table, column, kind in con.execute(
        """SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns()
           WHERE database_name = ? AND NOT internal ORDER BY schema_name, table_name, column_index""",
        [lake.ALIAS],
    ).fetchall():
        found.setdefault(f"{schema}.{table}", {})[column] = kind
    return found


# -- scoring, which reads no SQL but a model


def _scoring_models(engine: Engine, run_id: str) -> list[ScoredModel]:
    p = control.publications
    query = select(p.c.models).where(p.c.run_id == run_id).order_by(p.c.id.desc()).limit(1)
    with engine.connect() as connection:
        models: list[dict[str, Any]] = connection.scalars(query).first() or []
    return [ScoredModel(m["name"], int(m["version"]), m["digest"], m["subject"], int(m["rows"])) for m in models]


def _scored(
    settings: Settings, model: ScoredModel, catalog: Schema, tables: Mapping[str, TableLineage], notes: list[str]
) -> list[TableLineage]:
    if f"features.{model.subject}_features" not in tables:
        return []
    return scored_tables(settings, model, catalog, notes)


def scored_tables(settings: Settings, model: ScoredModel, catalog: Schema, notes: list[str]) -> list[TableLineage]:
    """Scores and reasons of one model: each value of theirs is made of every feature that the model reads. None, and a
    note, when the model's bytes cannot be read."""
    source = f"features.{model.subject}_features"
    try:
        features = model_features(settings, model)
    except ScoretraceError as error:
        notes.append(f"what {model.name} version {model.version} reads is not known: {error.message}")
        return []
    key = f"{model.subject}_id"
    made = tuple(Input(source, feature, (TRANSFORMATION,)) for feature in sorted(features))
    scored = []
    for table, values in (
        (f"scores.{model.subject}_scores", _SCORE_VALUES),
        (f"scores.{model.subject}_reasons", _REASON_VALUES),
    ):
        columns: dict[str, tuple[Input, ...]] = {}
        for name in catalog.get(table, {key: "", "as_of_date": "", **dict.fromkeys(values, "")}):
            if name in values:
                columns[name] = made
            elif name in (key, "as_of_date"):
                columns[name] = (Input(source, name, (IDENTITY,)),)
            else:
                columns[name] = ()
        lineage = ColumnLineage(columns, (), (source,))
        label = f"{model.name} version {model.version}"
        scored.append(TableLineage(table, catalog.get(table, dict.fromkeys(columns, "")), label, None, lineage))
    return scored


def model_features(settings: Settings, model: ScoredModel) -> tuple[str, ...]:
    """The features that a scoring model reads, in its own order, from its registered bytes (kept by their digest)."""
    kept = Kept.of(settings)
    known = kept.recall("features of", model.digest)
    if known is not None:
        return tuple(known)
    registry = Registry(settings)
    text = registry.text(registry.get(model.name, model.version))
    if hashlib.sha256(text.encode()).hexdigest() != model.digest:
        raise NotFound(
            f"the registry holds other bytes for {model.name} version {model.version}", "restore the registry"
        )
    found = re.search(r"^feature_names=(.*)$", text, re.MULTILINE)
    features = tuple(found.group(1).split()) if found else ()
    kept.keep(features, "features of", model.digest)
    return features


# -- what is kept


def _to_json(lineage: ColumnLineage) -> dict[str, Any]:
    def inputs(found: tuple[Input, ...]) -> list[Any]:
        return [[i.table, i.column, [[t.type, t.subtype, t.masking] for t in i.transformations]] for i in found]

    return {
        "columns": {name: inputs(found) for name, found in lineage.columns.items()},
        "dataset": inputs(lineage.dataset),
        "tables": lineage.tables,
        "untraceable": [[u.output, u.expression, u.reason] for u in lineage.untraceable],
    }


def _from_json(kept: Mapping[str, Any]) -> ColumnLineage:
    def inputs(found: list[Any]) -> tuple[Input, ...]:
        return tuple(Input(t, c, tuple(Transformation(*w) for w in ways)) for t, c, ways in found)

    return ColumnLineage(
        {name: inputs(found) for name, found in kept["columns"].items()},
        inputs(kept["dataset"]),
        tuple(kept["tables"]),
        tuple(Untraceable(*u) for u in kept["untraceable"]),
    )
