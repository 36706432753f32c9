"""Reads of stored outcomes, for pages and commands: a cohort's newest figures at or before a date.

They read the lake as it is now: outcomes are written after a night is published, so the published snapshot of that
night does not hold them yet. A lake without outcomes gives nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, TypeVar

import duckdb
from sqlalchemy import Engine, select

from pipeline import control, lake
from pipeline.monitoring import outcome_tables
from pipeline.monitoring.performance import ALL
from pipeline.sql import ident, literal


@dataclass(frozen=True)
class StoredPerformance:
    """One segment of one cohort. as_of_date: the night that took the figures; None: the rows could not give it.

    kind ``estimated``: computed from the PDs alone. origin ``backfill``: scored after the fact.
    """

    as_of_date: date
    subject: str
    model_name: str
    model_version: int
    month: date
    origin: str
    kind: str
    segment: str
    value: str
    scored_from: date
    scored_to: date
    matures_on: date
    n: int
    events: int | None
    expected: float
    mean_pd: float
    observed_rate: float | None
    rate_low: float | None
    rate_high: float | None
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    gini: float | None
    gini_low: float | None
    gini_high: float | None
    ks: float | None
    ks_low: float | None
    ks_high: float | None
    brier: float | None
    brier_low: float | None
    brier_high: float | None
    ece: float | None
    calibration_slope: float | None
    calibration_intercept: float | None
    hosmer_lemeshow: float | None
    hosmer_lemeshow_df: int | None
    hosmer_lemeshow_p: float | None
    trend_z: float | None
    trend_p: float | None
    monotone: bool | None
    reversals: str | None
    left_out_event_before: int
    left_out_training: int

    @property
    def reversed_grades(self) -> tuple[tuple[str, str], ...]:
        """(safer, riskier) of each pair of grades that stands the wrong way round by more than chance."""
        pairs = json.loads(self.reversals or "[]")
        return tuple((p["safer"], p["riskier"]) for p in pairs if p["significant"])


@dataclass(frozen=True)
class StoredGrade:
    """One grade of one segment. p-values: "the PD is not understated"; small ones say that it is too low."""

    model_name: str
    model_version: int
    month: date
    origin: str
    kind: str
    segment: str
    value: str
    position: int
    grade: str
    n: int
    events: int | None
    expected: float
    mean_pd: float
    observed_rate: float | None
    rate_low: float | None
    rate_high: float | None
    jeffreys_p: float | None
    binomial_p: float | None


@dataclass(frozen=True)
class StoredBin:
    """One bin (pd_from, pd_to] of a cohort's reliability curve."""

    model_name: str
    model_version: int
    month: date
    origin: str
    kind: str
    bin: int
    pd_from: float
    pd_to: float
    n: int
    events: int | None
    mean_pd: float
    observed_rate: float | None
    rate_low: float | None
    rate_high: float | None


@dataclass(frozen=True)
class StoredGroup:
    """One protected group of a month's scores. passes is None for a group too small to judge."""

    as_of_date: date
    subject: str
    model_name: str
    model_version: int
    month: date
    origin: str
    attribute: str
    group_name: str
    reference: str | None
    n: int
    selected: int | None
    cut_off: float | None
    rate: float | None
    ratio: float | None
    passes: bool | None
    too_small: bool
    mean_points: float
    smd: float | None


@dataclass(frozen=True)
class StoredVintage:
    """One vintage at one month on book, with events up to it, as known at the end of ``through``."""

    through: date
    vintage: date
    months_on_book: int
    accounts: int
    events: int
    events_to_date: int
    rate_to_date: float


@dataclass(frozen=True)
class Foreseen:
    """An estimate beside what came true, of one cohort and segment."""

    estimated: StoredPerformance
    matured: StoredPerformance


@dataclass(frozen=True)
class Holdout:
    """What a version reached on its holdout when it was trained: development figures, for a line to compare with.

    metrics: auc, auc_low, auc_high, ks, brier, ece, calibration_slope, holdout_rows and the rest of its evaluation.
    """

    model_name: str
    model_version: int
    trained_as_of: date
    metrics: Mapping[str, float]


Fact = TypeVar("Fact", StoredPerformance, StoredGrade, StoredBin, StoredGroup, StoredVintage)

_COHORT = "subject, model_name, model_version, month, origin, kind"


def performance(
    con: duckdb.DuckDBPyConnection,
    as_of: date,
    *,
    model: str | None = None,
    segment: str | None = ALL,
    superseded: bool = False,
) -> tuple[StoredPerformance, ...]:
    """What was known at a night of each cohort, oldest month first: matured figures, where there are, else estimates.

    segment: one segment, or None for every one. superseded: also the estimates of cohorts that have matured since.
    """
    found = _read(con, StoredPerformance, "performance", as_of, model, segment)
    # Accounts count once a month: a night that was not the month's last after all is not shown.
    last: dict[tuple[Any, ...], date] = {}
    for row in found:
        key = (row.subject, row.model_name, row.month)
        last[key] = max(last.get(key, row.scored_to), row.scored_to)
    found = tuple(r for r in found if r.subject != "account" or r.scored_to == last[r.subject, r.model_name, r.month])
    matured = {_cohort(r) for r in found if r.kind == "matured"}
    return tuple(r for r in found if superseded or r.kind == "matured" or _cohort(r) not in matured)


def foreseen(con: duckdb.DuckDBPyConnection, as_of: date, *, model: str | None = None) -> tuple[Foreseen, ...]:
    """Each cohort's estimate beside what came true, for cohorts that have both: how good the estimates were."""
    both = performance(con, as_of, model=model, segment=None, superseded=True)
    estimates = {(*_cohort(r), r.segment, r.value): r for r in both if r.kind == "estimated"}
    return tuple(
        Foreseen(estimates[key], r)
        for r in both
        if r.kind == "matured" and (key := (*_cohort(r), r.segment, r.value)) in estimates
    )


def grades(
    con: duckdb.DuckDBPyConnection, as_of: date, *, model: str | None = None, segment: str | None = ALL
) -> tuple[StoredGrade, ...]:
    """Grades of the figures that ``performance`` shows, safest first. Vintages have none."""
    shown = {_figures(r) for r in performance(con, as_of, model=model)}
    return tuple(r for r in _read(con, StoredGrade, "grades", as_of, model, segment) if _figures(r) in shown)


def reliability(con: duckdb.DuckDBPyConnection, as_of: date, *, model: str | None = None) -> tuple[StoredBin, ...]:
    """The reliability curves of the figures that ``performance`` shows, by rising PD."""
    shown = {_figures(r) for r in performance(con, as_of, model=model)}
    return tuple(r for r in _read(con, StoredBin, "reliability", as_of, model, ALL) if _figures(r) in shown)


def fairness(con: duckdb.DuckDBPyConnection, as_of: date, *, model: str | None = None) -> tuple[StoredGroup, ...]:
    """Protected groups of each month as its newest measurement at or before the night has them."""
    return _newest(
        con,
        StoredGroup,
        "fairness",
        as_of,
        "subject, model_name, month",
        "model_version, origin, attribute, group_name",
        model,
        None,
    )


def vintages(con: duckdb.DuckDBPyConnection, as_of: date) -> tuple[StoredVintage, ...]:
    """The newest curves at or before the night, by vintage and months on book."""
    return _newest(con, StoredVintage, "vintages", as_of, "", "vintage, months_on_book", None, None)


def holdout(engine: Engine, as_of: date, *, model: str | None = None) -> tuple[Holdout, ...]:
    """Every version registered up to a night, by name and number, as its training run recorded it."""
    t = control.training_runs
    query = select(t).where(t.c.model_version.is_not(None), t.c.as_of <= as_of)
    if model is not None:
        query = query.where(t.c.model_name == model)
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(t.c.model_name, t.c.model_version, t.c.id)).all()
    return tuple(Holdout(r.model_name, r.model_version, r.as_of, dict(r.metrics)) for r in rows)


def _cohort(row: StoredPerformance) -> tuple[Any, ...]:
    return (row.subject, row.model_name, row.model_version, row.month, row.origin)


def _figures(row: StoredPerformance | StoredGrade | StoredBin) -> tuple[Any, ...]:
    return (row.model_name, row.model_version, row.month, row.origin, row.kind)


def _read(
    con: duckdb.DuckDBPyConnection, fact: type[Fact], table: str, as_of: date, model: str | None, segment: str | None
) -> tuple[Fact, ...]:
    order = {"performance": "segment, value", "grades": "segment, value, position", "reliability": "bin"}[table]
    return _newest(con, fact, table, as_of, _COHORT, order, model, segment)


def _newest(
    con: duckdb.DuckDBPyConnection,
    fact: type[Fact],
    table: str,
    as_of: date,
    key: str,
    order: str,
    model: str | None,
    segment: str | None,
) -> tuple[Fact, ...]:
    """Rows of the newest partition of each key at or before a night."""
    there = outcome_tables.columns(con).get(table)
    if there is None:
        return ()
    # A home made earlier has fewer columns until its next night.
    columns = ", ".join(ident(f.name) if f.name in there else f"NULL AS {ident(f.name)}" for f in fields(fact))
    which = [f"as_of_date <= {literal(as_of)}"]
    which += [f"model_name = {literal(model)}"] if model is not None else []
    which += [f"segment = {literal(segment)}"] if segment is not None else []
    within = f"PARTITION BY {key}" if key else ""
    first = "month, subject, model_name, model_version, origin, kind, " if key == _COHORT else f"{key}, " if key else ""
    rows = con.execute(
        f"SELECT {columns} FROM {ident(lake.ALIAS, outcome_tables.SCHEMA, table)} WHERE {' AND '.join(which)} "
        f"QUALIFY as_of_date = max(as_of_date) OVER ({within}) ORDER BY {first}{order}"
    ).fetchall()
    return tuple(fact(*row) for row in rows)
