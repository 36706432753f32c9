"""Scoring: a feature partition, streamed through the approved model, becomes the scores of one as-of date.

Batches flow from the lake through the booster back into the lake; no step holds the book in Python. The
partition is replaced in one transaction, so a night killed here and run again ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Engine

from pipeline import archive, lake
from pipeline import booster as native
from pipeline.canonical import TableDigest
from pipeline.config import Settings
from pipeline.errors import FeatureBuildFailed, ModelRefused
from pipeline.governance.approved import require_approved
from pipeline.governance.promotion_state import Promotion
from pipeline.portfolio import Grade, ModelSpec, Points, Portfolio
from pipeline.registry import ModelVersion, Registry
from pipeline.sql import ident, literal

if TYPE_CHECKING:
    from lightgbm import Booster

BATCH_ROWS = 65_536
REASONS = 4
# What differs between two runs of the same night without the scores being different.
RUN_COLUMNS = ("run_id", "scored_at", "feature_snapshot")


@dataclass(frozen=True)
class ScoreResult:
    """What one model scored: rows written, by which version, in how many seconds."""

    rows: int
    model: ModelVersion
    seconds: float


def score(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    engine: Engine,
    registry: Registry,
    portfolio: Portfolio,
    spec: ModelSpec,
    as_of: date,
    run_id: str,
) -> ScoreResult:
    """Score one model's subjects at ``as_of`` with its approved version and replace that partition of scores.

    con: the lease holder's connection. No applications on a night are 0 rows; no accounts are an error. Raises
    ModelRefused (no approved version, changed bytes, features missing) and FeatureBuildFailed (no features of that
    date); the scores of the date are then as they were.
    """
    started = time.perf_counter()
    version, promotion = require_approved(settings, engine, registry, spec.name, as_of)
    text = registry.text(version)
    # Whatever becomes of the registry, the bytes that scored stay readable for a replay.
    archive.keep(settings, text.encode("utf-8"))
    booster = native.parse(text)
    wanted = native.features(booster)
    key = f"{spec.subject}_id"
    table = f"{spec.subject}_features"
    _require_features(con, table, version, wanted)
    snapshot = lake.current_snapshot(con)
    id_type = pa.int64() if portfolio.id_type == "BIGINT" else pa.string()
    columns = ", ".join(f"CAST({ident(name)} AS DOUBLE)" for name in wanted)
    source = (
        f"SELECT {ident(key)}, {columns} FROM {ident(lake.ALIAS, 'features', table)} "
        f"AT (VERSION => {int(snapshot)}) WHERE as_of_date = {literal(as_of)}"
    )
    stamp = _Stamp(version, as_of, run_id, snapshot, datetime.now(UTC))
    schema = _score_schema(key, id_type)
    reasons: list[pa.RecordBatch] = []
    broken: list[BaseException] = []

    def scored() -> Iterator[pa.RecordBatch]:
        try:
            # A cursor of its own: the writing connection is busy with the insert that pulls these batches.
            with con.cursor() as reading:
                for batch in reading.execute(source).to_arrow_reader(BATCH_ROWS):
                    matrix = _matrix(batch)
                    raw = native.log_odds(booster, matrix, settings.threads)
                    if spec.subject == "application":
                        ids = batch.column(0)
                        reasons.append(_reasons(booster, ids, matrix, wanted, stamp, key, settings.threads))
                    yield _score_batch(schema, batch.column(0), raw, portfolio, stamp)
        except BaseException as error:
            # DuckDB would pass it on as a text inside an error of its own; it must keep its type and its cause.
            broken.append(error)
            raise

    target = ident(lake.ALIAS, "scores", f"{spec.subject}_scores")
    con.execute("BEGIN")
    try:
        con.execute(f"DELETE FROM {target} WHERE as_of_date = {literal(as_of)}")
        rows = _insert(con, target, pa.RecordBatchReader.from_batches(schema, scored()), ident(key))
        if not rows:
            _require_partition(con, table, spec.subject, as_of)
        _require_within_limits(promotion, rows)
        if spec.subject == "application":
            _replace_reasons(con, key, id_type, reasons, as_of)
        con.execute("COMMIT")
    except BaseException:
        con.execute("ROLLBACK")
        if broken:
            raise broken[0]  # noqa: B904 - a "from" would replace the cause that it already has
        raise
    return ScoreResult(rows, version, time.perf_counter() - started)


def score_points(log_odds: NDArray[np.float64], points: Points) -> NDArray[np.int32]:
    """base + pdo / ln 2 · (ln odds(good) − ln base_odds), rounded half to even: higher is safer."""
    factor = points.pdo / math.log(2)
    return np.rint(points.base + factor * (-log_odds - math.log(points.base_odds))).astype(np.int32)


def grades(pd: NDArray[np.float64], bounds: tuple[Grade, ...]) -> NDArray[np.int64]:
    """Index of each PD's grade: the first whose ``pd_up_to`` is not below it."""
    return np.searchsorted(np.array([g.pd_up_to for g in bounds]), pd, side="left")


def partition_sha256(con: duckdb.DuckDBPyConnection, table: str, as_of: date) -> str:
    """SHA-256 of one as-of partition of a score table (``scores.account_scores``), in key order.

    It covers every column but ``run_id``, ``scored_at`` and ``feature_snapshot``, so two runs of the same night
    that scored alike have the same digest.
    """
    path = ident(lake.ALIAS, *table.split("."))
    names = [row[0] for row in con.execute(f"SELECT column_name FROM (DESCRIBE {path})").fetchall()]
    kept = [name for name in names if name not in RUN_COLUMNS]
    order = [names[0], "as_of_date", *(["rank"] if "rank" in names else [])]
    reader = con.execute(
        f"SELECT {', '.join(map(ident, kept))} FROM {path} WHERE as_of_date = {literal(as_of)} "
        f"ORDER BY {', '.join(map(ident, order))}"
    ).to_arrow_reader(BATCH_ROWS)
    digest = TableDigest(reader.schema)
    for batch in reader:
        digest.update(batch)
    return digest.hexdigest()


def content_sha256(con: duckdb.DuckDBPyConnection, subjects: Iterable[str], as_of: date) -> str:
    """One hash over what a night published: the partition of each of these kinds of subject, in their order."""
    hashes = {s: partition_sha256(con, f"scores.{s}_scores", as_of) for s in subjects}
    return hashlib.sha256("\n".join(f"{k} {v}" for k, v in sorted(hashes.items())).encode()).hexdigest()


@dataclass(frozen=True)
class _Stamp:
    """What every row of one scoring has in common."""

    version: ModelVersion
    as_of: date
    run_id: str
    snapshot: int
    scored_at: datetime


def _require_features(
    con: duckdb.DuckDBPyConnection, table: str, version: ModelVersion, wanted: tuple[str, ...]
) -> None:
    there = {
        row[0]
        for row in con.execute(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_catalog = ? AND table_schema = 'features' AND table_name = ?",
            [lake.ALIAS, table],
        ).fetchall()
    }
    if not there:
        raise FeatureBuildFailed(f"there is no table features.{table}", "run `scoretrace nightly --as-of DATE`")
    missing = [name for name in wanted if name not in there]
    if missing:
        raise ModelRefused(
            f"{version} reads {len(missing)} features that features.{table} does not have: {', '.join(missing)}",
            f"restore them in dbt, or train a model without them: `scoretrace retrain --model {version.name} "
            "--as-of DATE`",
        )


def _require_partition(con: duckdb.DuckDBPyConnection, table: str, subject: str, as_of: date) -> None:
    """Nothing was scored: fine for applications of a night without any, if their partition was built."""
    built = con.execute(
        f"SELECT count(*) FROM {lake.ALIAS}.ops.model_state WHERE model = ? AND as_of_date = ?", [table, as_of]
    ).fetchone()
    if subject == "application" and built and built[0]:
        return
    raise FeatureBuildFailed(
        f"features.{table} holds no rows for {as_of}",
        f"run `scoretrace nightly --as-of {as_of}`, which builds the features before it scores",
    )


def _require_within_limits(promotion: Promotion, rows: int) -> None:
    """A conditional approval's limit on how many subjects may be scored a night."""
    most = promotion.conditions.max_subjects
    if most is not None and rows > most:
        raise ModelRefused(
            f"promotion {promotion.id} lets {promotion.model} version {promotion.version} score at most {most:,} "
            f"subjects a night, and there are {rows:,}",
            "have the version promoted without that condition, or with a wider one",
        )


def _matrix(batch: pa.RecordBatch) -> NDArray[np.float64]:
    """Features as rows × columns, nulls as NaN; the first column is the id."""
    matrix = np.empty((batch.num_rows, batch.num_columns - 1))
    for i in range(matrix.shape[1]):
        matrix[:, i] = batch.column(i + 1).to_numpy(zero_copy_only=False)
    return matrix


def _score_schema(key: str, id_type: pa.DataType) -> pa.Schema:
    return pa.schema(
        [
            (key, id_type),
            ("as_of_date", pa.date32()),
            ("pd", pa.float64()),
            ("log_odds", pa.float64()),
            ("score_points", pa.int32()),
            ("grade", pa.string()),
            ("model_name", pa.string()),
            ("model_version", pa.int32()),
            ("model_digest", pa.string()),
            ("run_id", pa.string()),
            ("feature_snapshot", pa.int64()),
            ("scored_at", pa.timestamp("us", tz="UTC")),
        ]
    )


def _score_batch(
    schema: pa.Schema, ids: pa.Array, raw: NDArray[np.float64], portfolio: Portfolio, stamp: _Stamp
) -> pa.RecordBatch:
    pd = native.probability(raw)
    names = pa.array([g.name for g in portfolio.grades])

    def all_rows(value: object, kind: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, kind), len(raw))

    columns = [
        ids.cast(schema.field(0).type),
        all_rows(stamp.as_of, pa.date32()),
        pa.array(pd),
        pa.array(raw),
        pa.array(score_points(raw, portfolio.points)),
        names.take(pa.array(grades(pd, portfolio.grades))),
        all_rows(stamp.version.name, pa.string()),
        all_rows(stamp.version.version, pa.int32()),
        all_rows(stamp.version.digest, pa.string()),
        all_rows(stamp.run_id, pa.string()),
        all_rows(stamp.snapshot, pa.int64()),
        all_rows(stamp.scored_at, pa.timestamp("us", tz="UTC")),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _reason_schema(key: str, id_type: pa.DataType) -> pa.Schema:
    return pa.schema(
        [
            (key, id_type),
            ("as_of_date", pa.date32()),
            ("rank", pa.int8()),
            ("feature", pa.string()),
            ("value", pa.float64()),
            ("contribution", pa.float64()),
            ("run_id", pa.string()),
        ]
    )


def _reasons(
    booster: Booster,
    ids: pa.Array,
    matrix: NDArray[np.float64],
    wanted: tuple[str, ...],
    stamp: _Stamp,
    key: str,
    threads: int,
) -> pa.RecordBatch:
    """For each row the features that raised its log-odds most, the largest first; ties by the model's order."""
    parts = native.contributions(booster, matrix, threads)[:, :-1]
    top = np.argsort(-parts, axis=1, kind="stable")[:, :REASONS]
    row, rank = np.nonzero(np.take_along_axis(parts, top, axis=1) > 0)
    feature = top[row, rank]
    schema = _reason_schema(key, ids.type)
    return pa.RecordBatch.from_arrays(
        [
            ids.take(pa.array(row)),
            pa.repeat(pa.scalar(stamp.as_of, pa.date32()), len(row)),
            pa.array((rank + 1).astype(np.int8)),
            pa.array(wanted).take(pa.array(feature)),
            pa.array(matrix[row, feature], from_pandas=True),
            pa.array(parts[row, feature]),
            pa.repeat(pa.scalar(stamp.run_id, pa.string()), len(row)),
        ],
        schema=schema,
    )


def _replace_reasons(
    con: duckdb.DuckDBPyConnection, key: str, id_type: pa.DataType, reasons: list[pa.RecordBatch], as_of: date
) -> None:
    target = ident(lake.ALIAS, "scores", key.removesuffix("_id") + "_reasons")
    con.execute(f"DELETE FROM {target} WHERE as_of_date = {literal(as_of)}")
    schema = reasons[0].schema if reasons else _reason_schema(key, id_type)
    _insert(con, target, pa.RecordBatchReader.from_batches(schema, reasons), f"{ident(key)}, rank")


def _insert(con: duckdb.DuckDBPyConnection, target: str, batches: pa.RecordBatchReader, order: str) -> int:
    """Insert by column name, sorted, and return the number of rows."""
    con.register("scored_batches", batches)
    try:
        row = con.execute(f"INSERT INTO {target} BY NAME SELECT * FROM scored_batches ORDER BY {order}").fetchone()
    finally:
        con.unregister("scored_batches")
    return int(row[0]) if row else 0
