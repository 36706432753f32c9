"""The training set: whose features, with which outcome, in which fold, and one digest over all of it.

A row is one subject at one as-of date. Its label is 1 if one of the portfolio's events fell within the horizon
after that date, as known at the training date; cohorts whose horizon is not over are never read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import lake
from pipeline.calendar import add_months, month_end
from pipeline.canonical import TableDigest
from pipeline.contracts import CONTRACTS
from pipeline.errors import TrainingRefused
from pipeline.portfolio import Label, ModelSpec
from pipeline.sql import ident, literal

if TYPE_CHECKING:
    from pipeline.features import FeatureSpec

TRAIN, VALID, HOLDOUT = "train", "valid", "holdout"
VALID_SHARE = 0.15
BATCH_ROWS = 65_536
PROTECTED = tuple(c.name for c in CONTRACTS["applicant_protected"].columns if c.pii)
_NUMERIC = re.compile(
    r"^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|INT\d+|DECIMAL.*|NUMERIC.*|DOUBLE|FLOAT\d?|REAL|BOOLEAN|BOOL)$", re.I
)


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """A training set in memory: at most ``max_rows`` rows.

    matrix: rows × candidates as doubles, NaN for missing, in key order (as-of date, subject).
    candidates: the contract's usable features; features: those of them with a value somewhere.
    dropped: feature → why the model cannot read it. folds: train, valid (early stopping) or holdout.
    counts: rows per cohort, eligible rows before sampling, rows left out and why.
    """

    sha256: str
    snapshot_id: int
    as_of: date
    candidates: tuple[str, ...]
    features: tuple[str, ...]
    dropped: dict[str, str]
    subjects: NDArray[Any]
    dates: NDArray[np.datetime64]
    labels: NDArray[np.int8]
    folds: NDArray[np.str_]
    matrix: NDArray[np.float64]
    counts: dict[str, Any]

    def rows(self, *folds: str) -> NDArray[np.intp]:
        """Row numbers of these folds, in key order."""
        return np.flatnonzero(np.isin(self.folds, folds))

    def columns(self, names: Sequence[str], rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """The named features of these rows, in that order. Raises KeyError for one that is no candidate."""
        position = {name: i for i, name in enumerate(self.candidates)}
        chosen = np.array([position[name] for name in names], dtype=np.intp)
        return np.ascontiguousarray(self.matrix[np.ix_(rows, chosen)])


def usable_features(contract: Sequence[FeatureSpec]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The features a model may read, in contract order, and why each other one may not be read.

    Personal data and what is not a number are left out. A protected attribute in the feature contract is not left
    out quietly: it raises TrainingRefused, for it must not be there at all.
    """
    for spec in contract:
        for attribute in PROTECTED:
            if re.search(rf"(^|_){attribute}(_|$)", spec.name, re.I):
                raise TrainingRefused(
                    f"feature {spec.name} carries the protected attribute {attribute}; no model may be trained on it",
                    "remove it from the dbt feature models: protected attributes stay in applicant_protected",
                )
    dropped = {}
    for spec in contract:
        if spec.pii:
            dropped[spec.name] = "personal data"
        elif not _NUMERIC.match(spec.dtype.strip()):
            dropped[spec.name] = f"not a number ({spec.dtype})"
    return tuple(s.name for s in contract if s.name not in dropped), dropped


def collect(
    con: duckdb.DuckDBPyConnection,
    label: Label,
    spec: ModelSpec,
    as_of: date,
    cohorts: Sequence[date],
    contract: Sequence[FeatureSpec],
) -> TrainingSet:
    """Read the training set of a model as known at ``as_of``; the lake is only read.

    cohorts: as-of dates with built feature partitions. For applications every partition within a cohort's month
    counts, and an application is taken at its first. con: a connection to the lake. Raises TrainingRefused
    when no cohort has matured, when no rows have an outcome, or when a fold would hold one class only.
    """
    candidates, dropped = usable_features(contract)
    horizons = _horizons(con, label, spec, as_of, cohorts)
    snapshot = lake.current_snapshot(con)
    counts = _eligible(con, spec, as_of, horizons)
    try:
        read = _read(con, spec, candidates, _about(label, spec, candidates))
        folds = _folds(con, spec, read.dates)
    finally:
        con.execute("DROP TABLE IF EXISTS temp.training_rows")
    empty = np.isnan(read.matrix).all(axis=0)
    dropped |= {candidates[i]: "no value in the training set" for i in np.flatnonzero(empty)}
    found = TrainingSet(
        sha256=_with_folds(read.digest, folds),
        snapshot_id=snapshot,
        as_of=as_of,
        candidates=candidates,
        features=tuple(candidates[i] for i in np.flatnonzero(~empty)),
        dropped=dropped,
        subjects=read.subjects,
        dates=read.dates,
        labels=read.labels,
        folds=folds,
        matrix=read.matrix,
        counts=counts | _fold_counts(read.labels, folds, read.dates),
    )
    _require_both_classes(found, spec)
    return found


@dataclass(frozen=True, eq=False)
class _Read:
    subjects: NDArray[Any]
    dates: NDArray[np.datetime64]
    labels: NDArray[np.int8]
    matrix: NDArray[np.float64]
    digest: str


def _horizons(
    con: duckdb.DuckDBPyConnection, label: Label, spec: ModelSpec, as_of: date, cohorts: Sequence[date]
) -> list[tuple[date, date]]:
    """(as-of date, end of its horizon) of each feature partition that may be read; all ends are at or before as_of."""
    months = label.horizon_months
    table = ident(lake.ALIAS, "features", f"{spec.subject}_features")
    asked = ", ".join(map(literal, cohorts)) or "NULL"
    within = f"as_of_date IN ({asked})"
    if spec.subject == "application" and cohorts:
        within = " OR ".join(
            f"as_of_date BETWEEN {literal(day.replace(day=1))} AND {literal(month_end(day))}" for day in cohorts
        )
    found = con.execute(f"SELECT DISTINCT as_of_date FROM {table} WHERE {within} ORDER BY 1").fetchall()
    chosen = [row[0] for row in found]
    matured = [(day, add_months(day, months)) for day in chosen if add_months(day, months) <= as_of]
    if not matured:
        raise TrainingRefused(
            f"no cohort of {spec.name} has features and an outcome by {as_of}: labels need {months} months after the "
            f"as-of date (cohorts asked for: {', '.join(map(str, cohorts)) or 'none'})",
            "land more history, or retrain at a later --as-of",
        )
    return matured


def _eligible(
    con: duckdb.DuckDBPyConnection, spec: ModelSpec, as_of: date, horizons: list[tuple[date, date]]
) -> dict[str, Any]:
    """Fill temp.training_rows (subject_id, as_of_date, label) with the sample; return what was counted.

    The sample is the first ``max_rows`` in the order of a hash of subject and date: MD5 and not DuckDB's own hash,
    which may change with its version.
    """
    key = ident(f"{spec.subject}_id")
    features = ident(lake.ALIAS, "features", f"{spec.subject}_features")
    outcomes = ident(lake.ALIAS, "intermediate", f"int_{spec.subject}_outcomes")
    days = ", ".join(f"({literal(day)}, {literal(end)})" for day, end in horizons)
    dates = ", ".join(literal(day) for day, _ in horizons)
    # An application is a subject once, at its first partition, and has an outcome only if it was booked.
    once = ""
    if spec.subject == "application":
        applications = ident(lake.ALIAS, "staging", "stg_applications__applications")
        once = f"""WHERE f.{key} IN (SELECT {key} FROM {applications} WHERE account_id IS NOT NULL)
            QUALIFY f.as_of_date = min(f.as_of_date) OVER (PARTITION BY f.{key})"""
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE training_eligible AS
        WITH horizons(as_of_date, ends_on) AS (VALUES {days}),
        rows AS (
            SELECT f.{key} AS subject_id, f.as_of_date
            FROM (SELECT {key}, as_of_date FROM {features} WHERE as_of_date IN ({dates})) f
            {once}
        ),
        first_events AS (
            SELECT subject_id, min(event_date) AS event_date FROM {outcomes}
            WHERE load_date <= {literal(as_of)} AND event_date <= {literal(as_of)} GROUP BY subject_id
        )
        SELECT
            r.subject_id,
            r.as_of_date,
            coalesce(e.event_date <= r.as_of_date, false) AS already,
            coalesce(e.event_date <= h.ends_on, false)::TINYINT AS label
        FROM rows r
        JOIN horizons h ON h.as_of_date = r.as_of_date
        LEFT JOIN first_events e ON e.subject_id = r.subject_id
        """
    )
    try:
        row = con.execute("SELECT count(*), count(*) FILTER (already) FROM training_eligible").fetchone()
        assert row is not None
        con.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE training_rows AS
            SELECT subject_id, as_of_date, label FROM training_eligible WHERE NOT already
            ORDER BY md5_number_lower(subject_id::VARCHAR || '|' || as_of_date::VARCHAR), subject_id, as_of_date
            LIMIT {int(spec.max_rows)}
            """
        )
    finally:
        con.execute("DROP TABLE IF EXISTS temp.training_eligible")
    eligible, already = int(row[0]), int(row[1])
    if eligible == already:
        raise TrainingRefused(
            f"no row of {spec.name} has an outcome by {as_of} ({eligible} found, {already} with the event before "
            "their as-of date)",
            "land the outcomes (account_events, and for applications the booked account), then retrain",
        )
    return {"eligible": eligible - already, "left_out_event_before": already}


def _read(con: duckdb.DuckDBPyConnection, spec: ModelSpec, candidates: tuple[str, ...], about: dict[str, Any]) -> _Read:
    """Fetch the sample in key order, batch by batch, into one matrix, hashing as it comes."""
    key = ident(f"{spec.subject}_id")
    features = ident(lake.ALIAS, "features", f"{spec.subject}_features")
    columns = ", ".join(f"CAST(f.{ident(name)} AS DOUBLE) AS {ident(name)}" for name in candidates)
    days = [row[0] for row in con.execute("SELECT DISTINCT as_of_date FROM training_rows ORDER BY 1").fetchall()]
    total = con.execute("SELECT count(*) FROM training_rows").fetchone()
    assert total is not None
    subjects: list[Any] = []
    dates = np.empty(total[0], dtype="datetime64[D]")
    labels = np.empty(total[0], dtype=np.int8)
    matrix = np.empty((total[0], len(candidates)))
    digest: TableDigest | None = None
    at = 0
    # One partition at a time: the sort of a wide cohort is small, and date order is the outer key order.
    for day in days:
        reader = con.execute(
            f"SELECT t.subject_id, t.as_of_date, t.label, {columns} FROM training_rows t "
            f"JOIN {features} f ON f.{key} = t.subject_id AND f.as_of_date = {literal(day)} "
            f"WHERE t.as_of_date = {literal(day)} ORDER BY t.subject_id"
        ).to_arrow_reader(BATCH_ROWS)
        digest = digest or TableDigest(reader.schema, about)
        for batch in reader:
            end = at + batch.num_rows
            digest.update(batch)
            subjects.append(batch.column(0))
            dates[at:end] = batch.column(1).to_numpy(zero_copy_only=False)
            labels[at:end] = batch.column(2).to_numpy(zero_copy_only=False)
            for i in range(len(candidates)):
                matrix[at:end, i] = batch.column(i + 3).to_numpy(zero_copy_only=False)
            at = end
    assert digest is not None
    if at != total[0]:
        raise TrainingRefused(
            f"features.{spec.subject}_features holds {at} rows for {total[0]} members of the training set",
            "rebuild the cohorts' feature partitions: a subject stands twice or not at all in one of them",
        )
    ids = pa.concat_arrays(subjects).to_numpy(zero_copy_only=False)
    return _Read(ids, dates, labels, matrix, digest.hexdigest())


def _folds(con: duckdb.DuckDBPyConnection, spec: ModelSpec, dates: NDArray[np.datetime64]) -> NDArray[np.str_]:
    """The fold of each row, in key order.

    Holdout by hash keeps a subject in the holdout in every training, so an incumbent never learnt from the rows
    it is compared on. Validation is by hash of the subject too: one subject is never on both sides.
    """
    hashes = con.execute(
        "SELECT md5_number_lower('holdout|' || subject_id::VARCHAR) % 1000000 AS holdout, "
        "md5_number_lower('valid|' || subject_id::VARCHAR) % 1000000 AS valid "
        "FROM training_rows ORDER BY as_of_date, subject_id"
    ).fetchnumpy()
    holdout = hashes["holdout"] < spec.holdout_share * 1e6 if spec.holdout == "hash" else _latest(dates, spec)
    return np.where(holdout, HOLDOUT, np.where(hashes["valid"] < VALID_SHARE * 1e6, VALID, TRAIN))


def _latest(dates: NDArray[np.datetime64], spec: ModelSpec) -> NDArray[np.bool_]:
    """The latest cohorts with together at most the holdout's share of the rows; at least one, and never all."""
    days, rows = np.unique(dates, return_counts=True)
    if len(days) < 2:
        raise TrainingRefused(
            f"an out-of-time holdout of {spec.name} needs two matured cohorts; there is one ({days[0]})",
            "land more history, retrain later, or set `holdout: hash` for the model in portfolio.yml",
        )
    share = np.cumsum(rows[::-1]) / rows.sum()
    count = min(max(1, int((share <= spec.holdout_share).sum())), len(days) - 1)
    return np.asarray(dates >= days[-count])


def _about(label: Label, spec: ModelSpec, candidates: tuple[str, ...]) -> dict[str, Any]:
    """What a training set is, besides its rows."""
    return {
        "subject": spec.subject,
        "events": list(label.events),
        "horizon_months": label.horizon_months,
        "features": list(candidates),
    }


def _with_folds(digest: str, folds: NDArray[np.str_]) -> str:
    codes = np.select([folds == TRAIN, folds == VALID], [0, 1], 2).astype(np.uint8)
    return hashlib.sha256(json.dumps([digest, hashlib.sha256(codes.data).hexdigest()]).encode()).hexdigest()


def _fold_counts(labels: NDArray[np.int8], folds: NDArray[np.str_], dates: NDArray[np.datetime64]) -> dict[str, Any]:
    cohorts = {
        str(day): {"rows": int((dates == day).sum()), "events": int(labels[dates == day].sum())}
        for day in np.unique(dates)
    }
    by_fold = {
        fold: {"rows": int((folds == fold).sum()), "events": int(labels[folds == fold].sum())}
        for fold in (TRAIN, VALID, HOLDOUT)
    }
    return {"sampled": len(labels), "cohorts": cohorts, "folds": by_fold}


def _require_both_classes(found: TrainingSet, spec: ModelSpec) -> None:
    """DeLong's variance needs two rows of each class; so does early stopping, in spirit."""
    for fold, held in found.counts["folds"].items():
        if min(held["events"], held["rows"] - held["events"]) < 2:
            raise TrainingRefused(
                f"the {fold} rows of {spec.name} hold {held['events']} events among {held['rows']}; at least two of "
                "each class are needed",
                "land more history, or retrain at a later --as-of",
            )


def write_members(con: duckdb.DuckDBPyConnection, found: TrainingSet) -> None:
    """Replace the members of this training set in ``training.members``, in one transaction.

    con: the lease holder's connection.
    """
    members = pa.table(
        {
            "subject_id": pa.array(found.subjects).cast(pa.string()),
            "as_of_date": pa.array(found.dates),
            "label": pa.array(found.labels),
            "fold": pa.array(found.folds),
        }
    )
    target = ident(lake.ALIAS, "training", "members")
    con.register("training_members", members)
    con.execute("BEGIN")
    try:
        con.execute(f"DELETE FROM {target} WHERE training_set = {literal(found.sha256)}")
        con.execute(
            f"INSERT INTO {target} BY NAME SELECT {literal(found.sha256)} AS training_set, * FROM training_members "
            "ORDER BY as_of_date, subject_id"
        )
        con.execute("COMMIT")
    except BaseException:
        con.execute("ROLLBACK")
        raise
    finally:
        con.unregister("training_members")
