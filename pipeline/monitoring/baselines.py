"""Frozen baselines: the bins of a model version and how its own training set fills them. Made once, never changed.

The training set is read where it was read for training: at its recorded snapshot, members by their stored list, and
scored by the version itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa

from pipeline import archive, lake
from pipeline import booster as native
from pipeline.config import Settings
from pipeline.errors import ConfigError, NotFound
from pipeline.features import FeatureSpec
from pipeline.monitoring.bins import CATEGORY, BinCounts, FeatureBins, count_bins, read_bins, restored, stored
from pipeline.monitoring.segments import SCORE, segments_of, states
from pipeline.portfolio import ModelSpec, Portfolio
from pipeline.registry import RECIPE, ModelVersion, Registry
from pipeline.score import grades
from pipeline.sql import ident, literal

if TYPE_CHECKING:
    from lightgbm import Booster

BATCH_ROWS = 65_536
CODE = "code"
"""Unit of a feature whose numbers are names."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """What nights are compared with. importance: feature → rank by gain, 1 the most; 0 where a feature has no gain.
    trained: the date that the version was trained as of; a night before it is a look back."""

    model: str
    version: int
    counts: BinCounts = field(repr=False)
    importance: dict[str, int] = field(repr=False)
    trained: date

    @property
    def bins(self) -> tuple[FeatureBins, ...]:
        return self.counts.bins


def ensure(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    registry: Registry,
    portfolio: Portfolio,
    spec: ModelSpec,
    version: ModelVersion,
) -> Baseline:
    """The version's baseline, frozen now if it is not there yet.

    con: the lease holder's connection. Raises NotFound when the training set cannot be read any more, and
    as ``require_tables`` does.
    """
    require_tables(con)
    found = read(con, registry, version)
    return found or freeze(con, settings, registry, portfolio, spec, version)


def read(con: duckdb.DuckDBPyConnection, registry: Registry, version: ModelVersion) -> Baseline | None:
    """The version's frozen baseline, or None."""
    found = kept(con, version, (*native.features(native.parse(registry.text(version))), SCORE))
    return None if found is None else _baseline(registry, version, found)


def kept(con: duckdb.DuckDBPyConnection, version: ModelVersion, features: Sequence[str]) -> BinCounts | None:
    """The frozen bins of a version and its counts in them, in the order of ``features``, or None."""
    where = _of(version)
    rows = con.execute(
        f"SELECT feature, any_value(kind), list(upper ORDER BY bin) FILTER (upper IS NOT NULL AND isfinite(upper)) "
        f"FROM {_table('bins')} WHERE {where} GROUP BY feature"
    ).fetchall()
    if not rows:
        return None
    bins = tuple(FeatureBins(feature, kind, tuple(points or ())) for feature, kind, points in rows)
    order = {name: i for i, name in enumerate(features)}
    bins = tuple(sorted(bins, key=lambda b: order.get(b.feature, len(order))))
    counted = con.execute(
        f"SELECT dimension, segment, feature, bin, rows FROM {_table('baselines')} WHERE {where} ORDER BY ALL"
    ).to_arrow_table()
    return restored(bins, counted)


def freeze(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    registry: Registry,
    portfolio: Portfolio,
    spec: ModelSpec,
    version: ModelVersion,
) -> Baseline:
    """Read the version's training set, fix bins and counts, and write them in one transaction."""
    booster = native.parse(registry.text(version))
    features = native.features(booster)
    contract = _contract(settings, version)
    codes = [f for f in features if f in contract and contract[f].unit == CODE]
    columns = _require_training_set(con, version, spec.subject, features)
    key = f"{spec.subject}_id"
    try:
        con.execute(f"CREATE OR REPLACE TEMP TABLE baseline_rows AS {_training_rows(portfolio, spec, version)}")
        _score(con, settings, booster, features, portfolio)
        source = (
            f'SELECT r.*, s.log_odds AS {ident(SCORE)}, s.grade AS "segment grade", 1 AS "segment days", '
            'a.state AS "segment state" FROM temp.baseline_rows r JOIN temp.baseline_scores s '
            f"ON s.number = r.baseline_number LEFT JOIN ({states(spec.subject, _as_of(version), version.snapshot_id)}) "
            f"a USING ({ident(key)})"
        )
        segments = segments_of(spec.subject, portfolio.monitoring.segments, columns)
        bins = read_bins(con, source, (*features, SCORE), codes)
        counts = count_bins(con, source, bins, segments)
    finally:
        con.execute("DROP TABLE IF EXISTS temp.baseline_rows")
        con.execute("DROP TABLE IF EXISTS temp.baseline_scores")
    write(con, version, counts)
    return _baseline(registry, version, counts)


def write(con: duckdb.DuckDBPyConnection, version: ModelVersion, counts: BinCounts) -> None:
    """Write bins and counts of a version's baseline in one transaction, in the place of any there."""
    key = {
        "model_name": pa.scalar(version.name, pa.string()),
        "model_version": pa.scalar(version.version, pa.int32()),
    }
    bins = [
        {"feature": b.feature, "kind": b.kind, "bin": i, "label": label, "upper": _upper(b, i)}
        for b in counts.bins
        for i, label in enumerate(b.labels)
    ]
    listed = pa.Table.from_pylist(
        [{k: v.as_py() for k, v in key.items()} | row for row in bins],
        schema=pa.schema(
            [("model_name", pa.string()), ("model_version", pa.int32()), ("feature", pa.string()),
             ("kind", pa.string()), ("bin", pa.int16()), ("label", pa.string()), ("upper", pa.float64())]
        ),
    )  # fmt: skip
    replace(con, [("bins", listed, "feature, bin"), ("baselines", stored(counts, key), "ALL")], _of(version))


def replace(con: duckdb.DuckDBPyConnection, tables: Sequence[tuple[str, pa.Table, str]], where: str) -> None:
    """Replace the rows of drift tables that ``where`` names, all in one transaction: (table, rows, order)."""
    con.execute("BEGIN")
    try:
        for name, rows, order in tables:
            con.execute(f"DELETE FROM {_table(name)} WHERE {where}")
            con.register("drift_rows", rows)
            try:
                con.execute(f"INSERT INTO {_table(name)} BY NAME SELECT * FROM drift_rows ORDER BY {order}")
            finally:
                con.unregister("drift_rows")
        con.execute("COMMIT")
    except BaseException:
        con.execute("ROLLBACK")
        raise


def require_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Raise ConfigError for a home whose lake was made before drift was kept."""
    row = con.execute(
        "SELECT count(*) FROM information_schema.tables WHERE table_catalog = ? AND table_schema = 'drift' "
        "AND table_name = 'statistics'",
        [lake.ALIAS],
    ).fetchone()
    if not row or not row[0]:
        raise ConfigError(
            "this home's lake has no tables for drift: it was made before there were any",
            "run `scoretrace init --portfolio PORTFOLIO` again; it adds what is missing and changes nothing else",
        )


def importance_of(registry: Registry, version: ModelVersion) -> dict[str, int]:
    """Feature → rank by total gain, ties in the model's order; the score itself ranks first. 0: never split on."""
    booster = native.parse(registry.text(version))
    gain = booster.feature_importance("gain")
    names = native.features(booster)
    order = sorted(range(len(names)), key=lambda i: (-gain[i], i))
    return {SCORE: 1} | {names[i]: rank if gain[i] > 0 else 0 for rank, i in enumerate(order, start=1)}


def _of(version: ModelVersion) -> str:
    return f"model_name = {literal(version.name)} AND model_version = {int(version.version)}"


def _upper(bins: FeatureBins, i: int) -> float | None:
    if i < len(bins.points):
        return bins.points[i]
    return float("inf") if bins.kind != CATEGORY and i == len(bins.points) else None


def _training_rows(portfolio: Portfolio, spec: ModelSpec, version: ModelVersion) -> str:
    key = ident(f"{spec.subject}_id")
    features = ident(lake.ALIAS, "features", f"{spec.subject}_features")
    return f"""
        SELECT f.*, row_number() OVER (ORDER BY f.as_of_date, f.{key}) AS baseline_number
        FROM (SELECT CAST(subject_id AS {portfolio.id_type}) AS {key}, as_of_date
              FROM {ident(lake.ALIAS, "training", "members")} WHERE training_set = {literal(version.training_set)}) m
        JOIN (SELECT * FROM {features} AT (VERSION => {int(version.snapshot_id)})) f USING ({key}, as_of_date)"""


def _score(
    con: duckdb.DuckDBPyConnection, settings: Settings, booster: Booster, features: Sequence[str], portfolio: Portfolio
) -> None:
    """Fill temp.baseline_scores (number, log_odds, grade), batch by batch: a training set has a bounded size."""
    names = pa.array([g.name for g in portfolio.grades])
    schema = pa.schema([("number", pa.int64()), ("log_odds", pa.float64()), ("grade", pa.string())])
    columns = ", ".join(f"CAST({ident(name)} AS DOUBLE)" for name in features)

    batches = []
    reader = con.execute(f"SELECT baseline_number, {columns} FROM temp.baseline_rows").to_arrow_reader(BATCH_ROWS)
    for batch in reader:
        matrix = np.empty((batch.num_rows, len(features)))
        for i in range(len(features)):
            matrix[:, i] = batch.column(i + 1).to_numpy(zero_copy_only=False)
        raw = native.log_odds(booster, matrix, settings.threads)
        graded = names.take(pa.array(grades(native.probability(raw), portfolio.grades)))
        batches.append(pa.RecordBatch.from_arrays([batch.column(0), pa.array(raw), graded], schema=schema))
    con.register("baseline_batches", pa.Table.from_batches(batches, schema))
    try:
        con.execute("CREATE OR REPLACE TEMP TABLE baseline_scores AS SELECT * FROM baseline_batches")
    finally:
        con.unregister("baseline_batches")


def _require_training_set(
    con: duckdb.DuckDBPyConnection, version: ModelVersion, subject: str, features: Sequence[str]
) -> list[str]:
    """The columns of the feature table at the training's snapshot. Raises NotFound when the set cannot be read."""
    table = ident(lake.ALIAS, "features", f"{subject}_features")
    again = f"train a version again: `scoretrace retrain --model {version.name} --as-of DATE`"
    members = con.execute(
        f"SELECT count(*) FROM {ident(lake.ALIAS, 'training', 'members')} "
        f"WHERE training_set = {literal(version.training_set)}"
    ).fetchone()
    if not members or not members[0]:
        raise NotFound(f"the training set of {version} is not in the lake, so it has no baseline", again)
    try:
        described = con.execute(f"SELECT * FROM {table} AT (VERSION => {int(version.snapshot_id)}) LIMIT 0")
    except duckdb.Error as error:
        raise NotFound(
            f"{version} has no baseline: the lake's snapshot {version.snapshot_id}, which it was trained on, is gone",
            again,
        ) from error
    columns = [column[0] for column in described.description or ()]
    if lost := sorted(set(features) - set(columns)):
        raise NotFound(f"{version} has no baseline: features.{subject}_features lacks {', '.join(lost)}", again)
    return columns


def _contract(settings: Settings, version: ModelVersion) -> dict[str, FeatureSpec]:
    """The feature contract that the version was trained with; empty for one registered without a recipe."""
    sha256 = version.tags.get(RECIPE)
    if not sha256:
        return {}
    recipe = json.loads(archive.read_text(settings, sha256))
    return {f["name"]: FeatureSpec(**f) for f in recipe["contract"]}


def _baseline(registry: Registry, version: ModelVersion, counts: BinCounts) -> Baseline:
    return Baseline(version.name, version.version, counts, importance_of(registry, version), _as_of(version))


def _as_of(version: ModelVersion) -> date:
    return date.fromisoformat(version.tags["scoretrace.as_of"])


def _table(name: str) -> str:
    return ident(lake.ALIAS, "drift", name)
