"""Which published scores are measured together, and what became of them, as known at a night.

A cohort is one month's scores of one model version: for accounts the month's last published night, so that an
account counts once; for applications every night of the month, each application at its first score.

The outcome is the training set's: the first of the portfolio's events, with ``load_date`` and ``event_date`` at or
before the night; a subject whose event came before its score is left out; an application counts once it is known to
be booked. It is read from the raw tables and not from dbt's view, because the view shows what was known when it was
last built, and a night may be measured later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any

import duckdb
from sqlalchemy import Engine, select

from pipeline import control, lake, ledger
from pipeline.calendar import add_months, nights
from pipeline.portfolio import Portfolio
from pipeline.sql import ident, literal, literals
from pipeline.training_set import TRAIN, VALID

MATURED, ESTIMATED = "matured", "estimated"
LIVE, BACKFILL = "live", "backfill"
ROWS = "outcome_rows"
METHOD = "1"  # raised when figures of unchanged inputs would come out otherwise: they are then measured again

VINTAGE = "vintage"
_SPLITS: Mapping[str, tuple[str, ...]] = {
    "account": ("product", "state", VINTAGE),
    "application": ("product", "state", "channel"),
}
"""Which columns of ``outcome_rows`` a subject can be split by; vintage is the month an account was opened, 2024-03."""

_NEWEST = "load_date DESC, load_id DESC, source_file DESC, source_row DESC"


@dataclass(frozen=True)
class ScoringRecord:
    """What the control store knows of the scores in the lake.

    runs: as-of date → the run that published it. training_sets: (model, version) → SHA-256 of its training set.
    """

    runs: Mapping[date, str]
    training_sets: Mapping[tuple[str, int], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cohort:
    """Scores that are measured together. ``month`` is its first day; nights are the as-of dates, oldest first.

    origin: ``backfill`` if the scores were made after the following night's were due: the model may then have been
    trained with knowledge that the date itself did not have. matures_on: when the last score's horizon is over.
    """

    subject: str
    model_name: str
    model_version: int
    month: date
    nights: tuple[date, ...]
    runs: tuple[str, ...]
    origin: str
    matures_on: date

    def kind(self, as_of: date) -> str:
        return MATURED if self.matures_on <= as_of else ESTIMATED


@dataclass(frozen=True)
class Filled:
    """Rows in ``outcome_rows``; rows left out, for an event before the score, and as rows the model learnt from."""

    rows: int
    event_before: int
    training: int


def scoring_record(engine: Engine, as_of: date) -> ScoringRecord:
    """Every publication up to a night, the newest of each date, and the training set of every registered version."""
    t = control.training_runs
    with engine.connect() as connection:
        trained = connection.execute(
            select(t.c.model_name, t.c.model_version, t.c.training_set).where(t.c.model_version.is_not(None))
        ).all()
    return ScoringRecord(
        {p.as_of: p.run_id for p in ledger.publications(engine, until=as_of)},
        {(str(row.model_name), int(row.model_version)): str(row.training_set) for row in trained},
    )


def cohorts(
    con: duckdb.DuckDBPyConnection, portfolio: Portfolio, subject: str, as_of: date, record: ScoringRecord | None
) -> list[Cohort]:
    """The cohorts of a subject whose scores were published up to a night, oldest first.

    Without a record every stored score counts as published.
    """
    scored = _account_nights(con, as_of, record) if subject == "account" else _scored(con, subject, as_of, record)
    found = []
    marked = [(n.as_of.replace(day=1), n.name, n.version, _origin(portfolio, n), n) for n in scored]
    for key, members in groupby(sorted(marked, key=lambda m: (*m[:4], m[4].as_of)), key=lambda m: m[:4]):
        held = [m[4] for m in members]
        ends = max(add_months(n.as_of, portfolio.label.horizon_months) for n in held)
        month, name, version, origin = key
        found.append(
            Cohort(
                subject, name, version, month, tuple(n.as_of for n in held), tuple(n.run_id for n in held), origin, ends
            )
        )
    return found


def segments_of(portfolio: Portfolio, subject: str) -> tuple[str, ...]:
    """By what a subject's figures are split: those of the portfolio's segments that its outcome rows have.

    Grades have a table of their own, and ``arrival`` says something of a night, not of a month.
    """
    return tuple(name for name in portfolio.monitoring.segments if name in _SPLITS[subject])


def fill(
    con: duckdb.DuckDBPyConnection, portfolio: Portfolio, cohort: Cohort, as_of: date, record: ScoringRecord | None
) -> Filled:
    """Fill the temporary table ``outcome_rows`` with a cohort's scores, segments and, once matured, labels.

    Its columns: subject_id, as_of_date, log_odds, pd, grade, label (NULL until matured) and the subject's segments.
    """
    label = "CAST(coalesce(e.event_date <= h.ends_on, false) AS TINYINT)"
    horizons = ", ".join(
        f"({literal(day)}, {literal(add_months(day, portfolio.label.horizon_months))})" for day in cohort.nights
    )
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE outcome_candidates AS
        WITH horizons(as_of_date, ends_on) AS (VALUES {horizons}),
        scored AS ({_scores_of(cohort, as_of, record)}),
        first_events AS ({_first_events(portfolio, as_of)}),
        learnt AS ({_learnt(cohort, record)})
        SELECT
            s.*,
            {label if cohort.kind(as_of) == MATURED else "CAST(NULL AS TINYINT)"} AS label,
            coalesce(e.event_date <= s.as_of_date, false) AS already,
            l.subject_id IS NOT NULL AS learnt
        FROM scored s
        JOIN horizons h ON h.as_of_date = s.as_of_date
        LEFT JOIN first_events e ON e.account_id = s.account_id
        LEFT JOIN learnt l ON l.subject_id = CAST(s.subject_id AS VARCHAR) AND l.as_of_date = s.as_of_date
        """
    )
    try:
        row = con.execute(
            "SELECT count(*) FILTER (NOT already AND NOT learnt), count(*) FILTER (already), "
            "count(*) FILTER (NOT already AND learnt) FROM temp.outcome_candidates"
        ).fetchone()
        assert row is not None
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE {ROWS} AS SELECT * EXCLUDE (already, learnt, account_id) "
            "FROM temp.outcome_candidates WHERE NOT already AND NOT learnt"
        )
    finally:
        con.execute("DROP TABLE IF EXISTS temp.outcome_candidates")
    return Filled(*map(int, row))


def inputs_sha256(
    con: duckdb.DuckDBPyConnection, portfolio: Portfolio, cohort: Cohort, as_of: date, record: ScoringRecord | None
) -> str:
    """What a cohort's figures depend on: its scores' runs, the events of its horizon as known, and the definitions."""
    facts: dict[str, Any] = {
        "method": METHOD,
        "kind": cohort.kind(as_of),
        "runs": cohort.runs,
        "nights": [str(day) for day in cohort.nights],
        "events": portfolio.label.events,
        "horizon": portfolio.label.horizon_months,
        "grades": [(g.name, g.pd_up_to) for g in portfolio.grades],
        "segments": segments_of(portfolio, cohort.subject),
        "training": record and record.training_sets.get((cohort.model_name, cohort.model_version)),
    }
    # A sum of hashes: the same for any order of the rows. Events up to the horizon's end decide label and exclusion.
    facts["outcomes"] = con.execute(
        f"SELECT count(*), CAST(sum(CAST(md5_number_lower(account_id::VARCHAR || event_date::VARCHAR) AS HUGEINT)) "
        f"AS VARCHAR) FROM ({_first_events(portfolio, as_of)}) WHERE event_date <= {literal(cohort.matures_on)}"
    ).fetchone()
    if cohort.subject == "application":
        facts["booked"] = con.execute(
            f"SELECT count(*), CAST(sum(CAST(md5_number_lower(application_id::VARCHAR || '|' || account_id::VARCHAR) "
            f"AS HUGEINT)) AS VARCHAR) FROM ({_applications(as_of)}) "
            f"WHERE account_id IS NOT NULL AND applied_on <= {literal(cohort.nights[-1])}"
        ).fetchone()
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Night:
    as_of: date
    run_id: str
    name: str
    version: int
    scored_at: datetime


def _scored(
    con: duckdb.DuckDBPyConnection,
    subject: str,
    as_of: date,
    record: ScoringRecord | None,
    only: Sequence[date] | None = None,
) -> list[_Night]:
    """The published nights of a subject up to ``as_of``, oldest first; a partition has one run and one version."""
    within = f"AND as_of_date IN ({literals(list(only))})" if only else ""
    rows = con.execute(
        f"SELECT as_of_date, run_id, model_name, model_version, max(scored_at) "
        f"FROM {ident(lake.ALIAS, 'scores', f'{subject}_scores')} "
        f"WHERE as_of_date <= {literal(as_of)} {within} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    return [_Night(*row) for row in rows if record is None or record.runs.get(row[0]) == row[1]]


def _account_nights(con: duckdb.DuckDBPyConnection, as_of: date, record: ScoringRecord | None) -> list[_Night]:
    """The last published night of each month. With a record only those partitions are looked into."""
    if record is None:
        every = _scored(con, "account", as_of, None)
        return list({night.as_of.replace(day=1): night for night in every}.values())
    found = []
    for _, days in groupby(sorted(d for d in record.runs if d <= as_of), key=lambda d: d.replace(day=1)):
        for day in reversed(list(days)):
            # A later run may have scored the date again and failed before publishing: then the night before counts.
            if held := _scored(con, "account", as_of, record, [day]):
                found += held
                break
    return found


def _origin(portfolio: Portfolio, night: _Night) -> str:
    following = next(nights(portfolio.calendar, night.as_of + timedelta(days=1), night.as_of + timedelta(days=62)))
    return BACKFILL if night.scored_at > portfolio.due(following) else LIVE


def _first_events(portfolio: Portfolio, as_of: date) -> str:
    return (
        f"SELECT account_id, min(event_date) AS event_date FROM {lake.ALIAS}.raw.account_events "
        f"WHERE load_date <= {literal(as_of)} AND event_date <= {literal(as_of)} "
        f"AND event_type IN ({literals(list(portfolio.label.events))}) GROUP BY account_id"
    )


def _applications(as_of: date) -> str:
    """The newest version of each application known at a night."""
    return (
        f"SELECT application_id, account_id, applied_on, product, channel, state FROM {lake.ALIAS}.raw.applications "
        f"WHERE load_date <= {literal(as_of)} AND applied_on <= {literal(as_of)} "
        f"QUALIFY row_number() OVER (PARTITION BY application_id ORDER BY {_NEWEST}) = 1"
    )


def _scores_of(cohort: Cohort, as_of: date, record: ScoringRecord | None) -> str:
    if cohort.subject == "account":
        (day,) = cohort.nights
        # The account's newest statement at the score; older than two months it would not have been scored.
        return f"""
            SELECT s.account_id AS subject_id, s.account_id, s.as_of_date, s.log_odds, s.pd, s.grade, a.product,
                k.state, strftime(a.opened_on, '%Y-%m') AS vintage
            FROM {lake.ALIAS}.scores.account_scores s
            LEFT JOIN (
                SELECT account_id, product, opened_on FROM {lake.ALIAS}.raw.loan_servicing
                WHERE load_date <= {literal(day)} AND statement_date <= {literal(day)}
                    AND statement_date > {literal(add_months(day, -2))}
                QUALIFY row_number() OVER (PARTITION BY account_id ORDER BY statement_date DESC, {_NEWEST}) = 1
            ) a ON a.account_id = s.account_id
            LEFT JOIN (
                SELECT account_id, max_by(state, (load_date, load_id, source_row)) AS state
                FROM {lake.ALIAS}.raw.applications
                WHERE load_date <= {literal(day)} AND account_id IS NOT NULL GROUP BY account_id
            ) k ON k.account_id = s.account_id
            WHERE s.as_of_date = {literal(day)}
        """
    published = "" if record is None else f"AND run_id IN ({literals(sorted(set(record.runs.values())))})"
    return f"""
        SELECT s.application_id AS subject_id, k.account_id, s.as_of_date, s.log_odds, s.pd, s.grade, k.product,
            k.channel, k.state
        FROM (
            SELECT * FROM {lake.ALIAS}.scores.application_scores
            WHERE as_of_date <= {literal(cohort.nights[-1])} {published}
            QUALIFY row_number() OVER (PARTITION BY application_id ORDER BY as_of_date) = 1
        ) s
        JOIN ({_applications(as_of)}) k ON k.application_id = s.application_id
        WHERE s.as_of_date IN ({literals(list(cohort.nights))}) AND k.account_id IS NOT NULL
    """


def _learnt(cohort: Cohort, record: ScoringRecord | None) -> str:
    """Rows that the model was fitted to or stopped on. Without a record: members of any training set, if backfilled.

    A live score cannot have been trained on: its outcome was not known when it was made.
    """
    which = "false"
    if record is not None:
        sha256 = record.training_sets.get((cohort.model_name, cohort.model_version))
        which = f"training_set = {literal(sha256)}" if sha256 else "false"
    elif cohort.origin == BACKFILL:
        which = "true"
    return (
        f"SELECT DISTINCT subject_id, as_of_date FROM {lake.ALIAS}.training.members "
        f"WHERE {which} AND fold IN ({literals([TRAIN, VALID])}) AND as_of_date IN ({literals(list(cohort.nights))})"
    )
