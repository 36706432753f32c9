"""A night's drift: counted once, compared with its baseline, stored by as-of date, read by whoever asks.

A night is read at its own publication's snapshot, so it can be counted again years later, against its own version's
baseline or another's, with the same result.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from pipeline import lake
from pipeline.ledger import Publication
from pipeline.monitoring import panel
from pipeline.monitoring.baselines import Baseline, replace, require_tables
from pipeline.monitoring.bins import BinCounts, count_bins, restored, stored
from pipeline.monitoring.policy import ARRIVAL, DriftPolicy
from pipeline.monitoring.segments import night_rows, segments_of
from pipeline.portfolio import ModelSpec, Portfolio
from pipeline.sql import ident, literal, literals


@dataclass(frozen=True)
class Drift:
    """One feature on one night in one segment (dimension and segment empty: the whole book).

    version: whose baseline it is compared with; scored_by: which version scored the night. against: ``segment``, or
    ``whole`` where the baseline has no such segment. launch_psi: against the version's first nights. psi is None
    where one side has no rows, and ``band`` then ``none``.
    """

    as_of: date
    model: str
    version: int
    scored_by: int
    dimension: str
    segment: str
    feature: str
    importance: int | None
    against: str
    psi: float | None
    psi_without_missing: float | None
    critical: float | None
    p_value: float | None
    band: str
    significant: bool
    n: int
    bins: int
    floored: bool
    missing_rate: float | None
    new_category_rate: float | None
    wasserstein: float | None
    jensen_shannon: float | None
    launch_psi: float | None
    launch_p_value: float | None

    def as_dict(self) -> dict[str, object]:
        """JSON-ready, as the command line prints it."""
        first = ("as_of", "feature", "psi", "psi_without_missing", "critical", "band", "n", "bins", "floored")
        rest = [name for name in vars(self) if name not in first]
        return {name: getattr(self, name) for name in (*first, *rest)} | {"as_of": self.as_of.isoformat()}


def count_night(
    con: duckdb.DuckDBPyConnection, portfolio: Portfolio, spec: ModelSpec, publication: Publication, baseline: Baseline
) -> BinCounts:
    """A published night's rows in the baseline's bins: one scan of its feature partition.

    Features of the baseline that the night's table does not have are counted as missing everywhere.
    """
    snapshot, table = publication.snapshot_id, ident(lake.ALIAS, "features", f"{spec.subject}_features")
    described = con.execute(f"SELECT * FROM {table} AT (VERSION => {int(snapshot)}) LIMIT 0").description or ()
    columns = [column[0] for column in described]
    days = (publication.as_of - portfolio.period_start(publication.as_of)).days + 1
    source = night_rows(spec.subject, publication.as_of, snapshot, days)
    gone = [b.feature for b in baseline.bins[:-1] if b.feature not in columns]
    if gone:
        nothing = ", ".join(f"CAST(NULL AS DOUBLE) AS {ident(name)}" for name in gone)
        source = f"SELECT *, {nothing} FROM ({source})"
    return count_bins(con, source, baseline.bins, segments_of(spec.subject, portfolio.monitoring.segments, columns))


def write_night(
    con: duckdb.DuckDBPyConnection,
    policy: DriftPolicy,
    baseline: Baseline,
    counts: BinCounts,
    as_of: date,
    scored_by: int,
) -> panel.Panel:
    """Compare a night with a baseline and replace the night's rows in the lake, in one transaction.

    A night that was published again by another version loses what was counted of its earlier scores. The same counts
    give the same rows, as long as the version's first nights (``launch_counts``) are those that are stored by then.
    """
    found = panel.compare(baseline.counts, counts, alpha=policy.alpha, minimum_rows=policy.minimum_rows)
    launch = launch_counts(con, policy, baseline, as_of)
    shape = found.psi.shape
    launch_psi, launch_p = np.full(shape, np.nan), np.full(shape, np.nan)
    if launch is not None:
        rows = len(counts.keys)
        launch_psi[:rows], launch_p[:rows] = panel.compare_same(launch, counts)
    night = {
        "as_of_date": pa.scalar(as_of, pa.date32()),
        "model_name": pa.scalar(baseline.model, pa.string()),
        "model_version": pa.scalar(baseline.version, pa.int32()),
    }
    facts = _statistics(found, policy, baseline, scored_by, launch_psi, launch_p)
    statistics = pa.table({**{k: pa.repeat(v, facts.num_rows) for k, v in night.items()}, **_columns(facts)})
    where = f"as_of_date = {literal(as_of)} AND model_name = {literal(baseline.model)}"
    earlier = con.execute(
        f"SELECT DISTINCT model_version FROM {_table('statistics')} WHERE {where} AND scored_by <> {int(scored_by)}"
    ).fetchall()
    where += f" AND model_version IN ({literals([baseline.version, *(v for (v,) in earlier)])})"
    whole = pc.equal(statistics.column("dimension"), "")
    tables = [
        ("counts", stored(counts, night), "ALL"),
        ("statistics", statistics.filter(whole), "feature"),
        ("segment_statistics", statistics.filter(pc.invert(whole)), "dimension, segment, feature"),
    ]
    replace(con, tables, where)
    return found


def launch_counts(
    con: duckdb.DuckDBPyConnection, policy: DriftPolicy, baseline: Baseline, as_of: date
) -> BinCounts | None:
    """The version's first nights before a date, added up from their stored counts; None before there is one.

    They begin where it was trained: a night of before that, scored to look back, is not one of its own.
    What arrives follows the calendar: who is billed on the first of a month has paid nothing in it yet. Arrivals are
    added up over the version's first nights at this time of the month; none so far leaves their segments out.
    """
    version = f"model_name = {literal(baseline.model)} AND model_version = {int(baseline.version)}"
    nights = [
        night
        for (night,) in con.execute(
            f"SELECT DISTINCT as_of_date FROM {_table('statistics')} WHERE {version} AND scored_by = model_version "
            f"AND as_of_date < {literal(as_of)} AND as_of_date >= {literal(baseline.trained)} ORDER BY 1"
        ).fetchall()
    ]
    if not nights:
        return None
    first = nights[: policy.launch_nights]
    alike = [n for n in nights if abs(n.day - as_of.day) <= policy.launch_days][: policy.launch_nights]
    arrives = f"(dimension = {literal(ARRIVAL)})"
    among = f"NOT {arrives} AND as_of_date IN ({literals(first)})"
    if alike:
        among = f"({among} OR {arrives} AND as_of_date IN ({literals(alike)}))"
    rows = con.execute(
        "SELECT dimension, segment, feature, bin, CAST(sum(rows) AS BIGINT) AS rows "
        f"FROM {_table('counts')} WHERE {version} AND {among} GROUP BY ALL ORDER BY ALL"
    ).to_arrow_table()
    return restored(baseline.bins, rows)


def history(
    con: duckdb.DuckDBPyConnection,
    start: date,
    end: date,
    *,
    model: str | None = None,
    version: int | None = None,
    feature: str | None = None,
    dimension: str = "",
    segment: str | None = None,
    own_version: bool = True,
) -> tuple[Drift, ...]:
    """Stored drift of the nights in [start, end], by night and model, most drifted first. One small read.

    own_version: each night against the baseline of the version that scored it. version: against that one instead.
    dimension: a way to split the book; empty is the whole. Raises ConfigError for a home made before there was drift.
    """
    wanted = [f"as_of_date BETWEEN {literal(start)} AND {literal(end)}", f"dimension = {literal(dimension)}"]
    for column, value in (("model_name", model), ("feature", feature), ("segment", segment)):
        if value is not None:
            wanted.append(f"{column} = {literal(value)}")
    if version is not None:
        wanted.append(f"model_version = {int(version)}")
    elif own_version:
        wanted.append("model_version = scored_by")
    query = f"""SELECT as_of_date, model_name, model_version, scored_by, dimension, segment, feature, importance,
            against, psi, psi_without_missing, critical, p_value, band, significant, n, bins, floored, missing_rate,
            new_category_rate, wasserstein, jensen_shannon, launch_psi, launch_p_value
        FROM {_table("segment_statistics" if dimension else "statistics")} WHERE {" AND ".join(wanted)}
        ORDER BY as_of_date, model_name, psi DESC NULLS LAST, feature, segment"""
    try:
        rows = con.execute(query).fetchall()
    except duckdb.CatalogException:
        require_tables(con)
        raise
    return tuple(Drift(*row) for row in rows)


def _statistics(
    found: panel.Panel,
    policy: DriftPolicy,
    baseline: Baseline,
    scored_by: int,
    launch_psi: panel.Floats,
    launch_p: panel.Floats,
) -> pa.Table:
    keys, features = len(found.keys), len(found.features)

    def by_key(values: ArrayLike) -> pa.Array:
        return pa.array(np.repeat(np.asarray(values), features))

    def figures(values: panel.Floats) -> pa.Array:
        return pa.array(np.ascontiguousarray(values).ravel(), from_pandas=True)

    psi = found.psi.ravel()
    bands = np.select(
        [np.isnan(psi), psi >= policy.high, psi >= policy.moderate], ["none", "high", "moderate"], "stable"
    )
    with np.errstate(invalid="ignore"):
        significant = found.p_value < policy.alpha
    ranks = [baseline.importance.get(name) for name in found.features]
    return pa.table(
        {
            "dimension": by_key([k[0] for k in found.keys]),
            "segment": by_key([k[1] for k in found.keys]),
            "feature": pa.array(list(found.features) * keys),
            "scored_by": pa.repeat(pa.scalar(scored_by, pa.int32()), keys * features),
            "importance": pa.array(ranks * keys, pa.int32()),
            "against": by_key(found.against),
            "psi": figures(found.psi),
            "psi_without_missing": figures(found.psi_without_missing),
            "critical": figures(found.critical),
            "p_value": figures(found.p_value),
            "band": pa.array(bands),
            "significant": pa.array(significant.ravel()),
            "n": by_key(found.n),
            "bins": pa.array(found.bins.ravel().astype(np.int32)),
            "floored": pa.array(found.floored.ravel()),
            "missing_rate": figures(found.missing_rate),
            "new_category_rate": figures(found.new_category_rate),
            "wasserstein": figures(found.wasserstein),
            "jensen_shannon": figures(found.jensen_shannon),
            "launch_psi": figures(launch_psi),
            "launch_p_value": figures(launch_p),
        }
    )


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return {name: table.column(name) for name in table.column_names}


def _table(name: str) -> str:
    return ident(lake.ALIAS, "drift", name)
