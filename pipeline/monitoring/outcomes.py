"""What became of the published scores: measured as labels mature, estimated until then, stored night by night.

A cohort's figures are stored in the partition of the night that took them, and taken again only when something
behind them has changed: its scores, an outcome within its horizon, a definition. So a night costs what is new in it,
and whoever reads takes a cohort's newest figures at or before a date (``outcome_reads``).

Rows that a model learnt from are never among the rows it is measured on. Development figures are not here: those of
the holdout stand beside the version they were taken for, in the record of its training run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb

from pipeline import lake
from pipeline.monitoring import cohorts, group_fairness, outcome_tables, vintages
from pipeline.monitoring.cohorts import MATURED, VINTAGE, Cohort, Filled, ScoringRecord
from pipeline.monitoring.grades import binomial_p_value, jeffreys_interval, jeffreys_p_value, rank_ordering
from pipeline.monitoring.interval import Interval
from pipeline.monitoring.performance import ALL, BINS, Performance, estimate, measure
from pipeline.portfolio import Portfolio
from pipeline.sql import ident, literal


@dataclass(frozen=True)
class MeasuredCohort:
    """One cohort that a night measured, over all its rows. Figures are None where the rows cannot give them."""

    subject: str
    model_name: str
    model_version: int
    month: date
    origin: str
    kind: str
    n: int
    events: int | None
    auc: float | None
    left_out_event_before: int
    left_out_training: int


@dataclass(frozen=True)
class OutcomeReport:
    """What a night measured. unchanged: cohorts whose stored figures still hold.

    empty: cohorts without a row to measure, and why. adverse: ``sex=F`` and the like, under four fifths. rows:
    stored rows by table.
    """

    as_of: date
    run_id: str
    measured: tuple[MeasuredCohort, ...]
    unchanged: int
    empty: tuple[str, ...]
    adverse: tuple[str, ...]
    rows: Mapping[str, int]


def measure_outcomes(
    con: duckdb.DuckDBPyConnection,
    portfolio: Portfolio,
    as_of: date,
    run_id: str,
    *,
    record: ScoringRecord | None = None,
    before_reading: Callable[[Cohort], None] = lambda _: None,
) -> OutcomeReport:
    """Measure every cohort of published scores that is new or changed at a night, and replace the night's partition.

    con: the lease holder's connection, in no transaction. record: ``cohorts.scoring_record``, by which scores that
    were never published and rows that a model learnt from are known; without it every stored score counts, and
    backfilled scores leave out the members of every training set. before_reading: told of each cohort whose scores are
    about to be read, to refuse damaged ones. Nothing known only after the night is used, and
    a second run writes the same rows (but for ``run_id``).
    """
    outcome_tables.create(con)
    stored = _stored_inputs(con, as_of)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in outcome_tables.TABLES}
    measured: list[MeasuredCohort] = []
    empty: list[str] = []
    unchanged = 0
    for spec in portfolio.models:
        cut_off = None if spec.cutoff_pd is None else Decimal(str(spec.cutoff_pd))
        for cohort in cohorts.cohorts(con, portfolio, spec.subject, as_of, record):
            stamp = _stamp(cohort, as_of, run_id)
            if cohort.month == as_of.replace(day=1):
                before_reading(cohort)
                shared = {k: v for k, v in stamp.items() if k != "kind"}
                groups = group_fairness.by_group(con, cohort, as_of, cut_off, record)
                rows["fairness"] += [shared | row for row in groups]
            inputs = cohorts.inputs_sha256(con, portfolio, cohort, as_of, record)
            if stored.get(_key(stamp)) == inputs:
                unchanged += 1
                continue
            before_reading(cohort)
            filled = cohorts.fill(con, portfolio, cohort, as_of, record)
            try:
                take = measure if cohort.kind(as_of) == MATURED else estimate
                found = take(con, cohorts.ROWS, cohorts.segments_of(portfolio, spec.subject))
            finally:
                con.execute(f"DROP TABLE IF EXISTS temp.{cohorts.ROWS}")
            if not found:
                empty.append(_why_empty(cohort, filled))
                continue
            for part in found:
                _add(rows, stamp, portfolio, cohort, filled, inputs, part)
            measured.append(_summary(cohort, as_of, filled, found[0]))
    if _last_through(con, as_of) != vintages.through(as_of):
        rows["vintages"] = [
            {"as_of_date": as_of, "run_id": run_id, **r} for r in vintages.curves(con, portfolio, as_of)
        ]
    outcome_tables.replace(con, as_of, rows)
    return OutcomeReport(
        as_of,
        run_id,
        tuple(measured),
        unchanged,
        tuple(empty),
        tuple(f"{r['attribute']}={r['group_name']}" for r in rows["fairness"] if r["passes"] is False),
        {name: len(found) for name, found in rows.items()},
    )


def _stamp(cohort: Cohort, as_of: date, run_id: str) -> dict[str, Any]:
    return {
        "as_of_date": as_of,
        "run_id": run_id,
        "subject": cohort.subject,
        "model_name": cohort.model_name,
        "model_version": cohort.model_version,
        "month": cohort.month,
        "origin": cohort.origin,
        "kind": cohort.kind(as_of),
    }


_KEY = ("subject", "model_name", "model_version", "month", "origin", "kind")


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _KEY)


def _stored_inputs(con: duckdb.DuckDBPyConnection, as_of: date) -> dict[tuple[Any, ...], str]:
    """What the newest figures of each cohort from earlier nights were taken of. The night's own are taken anew."""
    found = con.execute(
        f"SELECT {', '.join(_KEY)}, arg_max(inputs_sha256, as_of_date) "
        f"FROM {ident(lake.ALIAS, outcome_tables.SCHEMA, 'performance')} "
        f"WHERE as_of_date < {literal(as_of)} AND segment = {literal(ALL)} GROUP BY ALL"
    ).fetchall()
    return {row[:-1]: row[-1] for row in found}


def _last_through(con: duckdb.DuckDBPyConnection, as_of: date) -> date | None:
    row = con.execute(
        f"SELECT max(through) FROM {ident(lake.ALIAS, outcome_tables.SCHEMA, 'vintages')} "
        f"WHERE as_of_date < {literal(as_of)}"
    ).fetchone()
    return row[0] if row else None


def _why_empty(cohort: Cohort, filled: Filled) -> str:
    why = [
        f"{count:,} {text}"
        for count, text in (
            (filled.event_before, "had their event before the score"),
            (filled.training, "are rows the model learnt from"),
        )
        if count
    ]
    reason = ", ".join(why) or ("none is booked yet" if cohort.subject == "application" else "no score is left")
    return f"{cohort.model_name} v{cohort.model_version} {cohort.month:%Y-%m} ({cohort.origin}): {reason}"


def _summary(cohort: Cohort, as_of: date, filled: Filled, whole: Performance) -> MeasuredCohort:
    return MeasuredCohort(
        cohort.subject, cohort.model_name, cohort.model_version, cohort.month, cohort.origin, cohort.kind(as_of),
        whole.n, whole.events, whole.auc.estimate if whole.auc else None, filled.event_before, filled.training,
    )  # fmt: skip


def _add(
    rows: Mapping[str, list[dict[str, Any]]],
    stamp: Mapping[str, Any],
    portfolio: Portfolio,
    cohort: Cohort,
    filled: Filled,
    inputs: str,
    part: Performance,
) -> None:
    """One segment's rows: its figures, its grades and, for all rows together, the reliability curve."""
    group = {**stamp, "segment": part.segment, "value": part.value}
    held = {band.name: band for band in part.grades}
    names = [g.name for g in portfolio.grades]
    counts = [(held[name].n, held[name].events or 0) if name in held else (0, 0) for name in names]
    order = None if part.estimated else rank_ordering([n for n, _ in counts], [d for _, d in counts])
    rate = None if part.events is None else jeffreys_interval(part.n, part.events)
    test = part.hosmer_lemeshow
    rows["performance"].append(
        {
            **group,
            "scored_from": cohort.nights[0],
            "scored_to": cohort.nights[-1],
            "matures_on": cohort.matures_on,
            "n": part.n,
            "events": part.events,
            "expected": part.expected,
            "mean_pd": part.expected / part.n,
            "observed_rate": rate.estimate if rate else None,
            "rate_low": rate.low if rate else None,
            "rate_high": rate.high if rate else None,
            **_with_limits("auc", part.auc),
            **_with_limits("gini", part.auc and Interval(*(2 * v - 1 for v in astuple(part.auc)))),
            **_with_limits("ks", part.ks),
            **_with_limits("brier", part.brier),
            "ece": part.ece,
            "calibration_slope": _finite(part.slope),
            "calibration_intercept": _finite(part.intercept),
            "hosmer_lemeshow": _finite(test.statistic) if test else None,
            "hosmer_lemeshow_df": test.degrees_of_freedom if test else None,
            "hosmer_lemeshow_p": test.p_value if test else None,
            "trend_z": _finite(order.z) if order else None,
            "trend_p": _finite(order.p_value) if order else None,
            "monotone": order.monotone if order else None,
            "reversals": _reversals(names, order.reversals) if order else None,
            "left_out_event_before": filled.event_before,
            "left_out_training": filled.training,
            "inputs_sha256": inputs,
        }
    )
    for position, name in enumerate(names):
        # A vintage times a grade is a handful of accounts, and would be most of what a night stores.
        if name in held and part.segment != VINTAGE:
            band = held[name]
            rows["grades"].append(
                {**group, "position": position, "grade": name, **_rates(band.n, band.events, band.expected)}
            )
    if part.segment == ALL:
        for band in part.bins:
            number = int(band.name)
            rates = _rates(band.n, band.events, band.expected)
            kept = {k: v for k, v in rates.items() if k not in ("expected", "jeffreys_p", "binomial_p")}
            rows["reliability"].append(
                {**group, "bin": number, "pd_from": number / BINS, "pd_to": (number + 1) / BINS, **kept}
            )


def _rates(n: int, events: int | None, expected: float) -> dict[str, Any]:
    mean_pd = min(1.0, expected / n)
    shown: dict[str, Any] = {"n": n, "events": events, "expected": expected, "mean_pd": mean_pd}
    if events is None:
        return shown
    rate = jeffreys_interval(n, events)
    return shown | {
        "observed_rate": rate.estimate,
        "rate_low": rate.low,
        "rate_high": rate.high,
        "jeffreys_p": jeffreys_p_value(n, events, mean_pd),
        "binomial_p": binomial_p_value(n, events, mean_pd),
    }


def _reversals(names: Sequence[str], pairs: Sequence[Any]) -> str:
    """As JSON: [{"safer": "B", "riskier": "C", "p_value": 0.01, "significant": true}]."""
    return json.dumps(
        [
            {"safer": names[r.safer], "riskier": names[r.riskier], "p_value": r.p_value, "significant": r.significant}
            for r in pairs
        ]
    )


def _with_limits(name: str, found: Interval | None) -> dict[str, float | None]:
    """A figure and its limits as columns; what there is not is missing."""
    estimate, low, high = astuple(found) if found else (None, None, None)
    return {name: estimate, f"{name}_low": _finite(low), f"{name}_high": _finite(high)}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
