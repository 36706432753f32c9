"""The portal's reads of the published lake, cached per publication. Nothing here writes or computes a score.

A publication never changes, so what was read of it is never stale. Each query runs on a cursor that is attached
at the publication's snapshot: a reader sees a whole night or another whole night.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import streamlit as st

from app import connections, orders
from app.filters import ORDERS, Filter, join_previous, table_of, where
from app.session import Reader
from pipeline.sql import ident, literals

PAGE_SIZE = 50
MAX_IDS = 200
_BIGINT = re.compile(r"[+-]?\d{1,19}")


@dataclass(frozen=True)
class Score:
    """One subject's score at one as-of date, with the night before's beside it where it was asked for."""

    id: int | str
    as_of: date
    pd: float
    log_odds: float
    points: int
    grade: str
    model_name: str
    model_version: int
    model_digest: str
    run_id: str
    feature_snapshot: int
    scored_at: datetime
    previous_pd: float | None = None
    previous_grade: str | None = None


@dataclass(frozen=True)
class Reason:
    """One stored contribution to a score's log-odds."""

    rank: int
    feature: str
    value: float | None
    contribution: float


def nightly_summary(reader: Reader, since: date) -> pd.DataFrame:
    """Accounts, sum of PD and model version by night and grade since a date: as_of, grade, accounts, pd_sum, model."""
    dates = [d for d in reader.home.dates if since <= d <= reader.as_of]
    return _nightly_summary(connections.key(reader), reader, tuple(dates)) if dates else _NO_SUMMARY.copy()


def page(reader: Reader, chosen: Filter, order: str, number: int) -> tuple[Score, ...]:
    """Page ``number`` (from 1) of the night's scores, each with the score of the night before."""
    return _page(connections.key(reader), reader, chosen, order, number)


def matching(reader: Reader, chosen: Filter) -> int:
    """How many scores of the night a filter keeps."""
    return _matching(connections.key(reader), reader, chosen)


def grade_counts(reader: Reader, subject: str) -> dict[str, int]:
    """Scores of the night by grade."""
    return _grade_counts(connections.key(reader), reader, subject)


def listed(reader: Reader, chosen: Filter, order: str, most: int) -> pa.Table:
    """The first ``most`` scores that a filter keeps, in its order, as a table with the columns of a stored score and
    what the list shows of the night before."""
    sql, values = _listed(reader, chosen, order, whole=True)
    return connections.on_night(reader).execute(f"{sql} LIMIT ?", [*values, most]).to_arrow_table()


def find(reader: Reader, subject: str, ids: Sequence[str]) -> tuple[Score, ...]:
    """The night's scores of these ids, in the order given; an id that names nothing is left out."""
    wanted = tuple(_typed(reader, ids))
    return _in_order(wanted, _find(connections.key(reader), reader, subject, wanted)) if wanted else ()


def last(reader: Reader, subject: str, ids: Sequence[str]) -> tuple[Score, ...]:
    """The newest published score up to the night of each of these ids that has one, in the order given."""
    wanted = tuple(_typed(reader, ids))
    return _in_order(wanted, _last(connections.key(reader), reader, subject, wanted)) if wanted else ()


def _in_order(wanted: Sequence[int | str], scores: Sequence[Score]) -> tuple[Score, ...]:
    """The scores in the order of the ids that were wanted, each once."""
    by_id = {score.id: score for score in scores}
    return tuple(by_id[i] for i in dict.fromkeys(wanted) if i in by_id)


def history(reader: Reader, subject: str, subject_id: str) -> tuple[Score, ...]:
    """Every published score of one subject up to the night, oldest first; empty when the id names nothing."""
    wanted = _typed(reader, [subject_id])
    return _history(connections.key(reader), reader, subject, wanted[0]) if wanted else ()


def reasons(reader: Reader, subject: str, score: Score) -> tuple[Reason, ...]:
    """The contributions stored with a score, strongest first; empty when the night stored none."""
    return _reasons(connections.key(reader), reader, subject, score.id, score.as_of, score.run_id)


def rows_of_night(reader: Reader, table: str) -> tuple[int, bool] | None:
    """Rows of ``schema.table``, and whether they are the night's alone: where it is kept by night. None for an unknown
    table."""
    return _rows_of_night(connections.key(reader), reader, table)


# ── the queries ──────────────────────────────────────────────────────────────────────────────────────────────

_NO_SUMMARY = pd.DataFrame(columns=["as_of", "grade", "accounts", "pd_sum", "model"])
_SCORE = (
    "s.{id}, s.as_of_date, s.pd, s.log_odds, s.score_points, s.grade, s.model_name, s.model_version, "
    "s.model_digest, s.run_id, s.feature_snapshot, s.scored_at"
)


@st.cache_data(show_spinner=False, max_entries=64)
def _nightly_summary(key: str, _reader: Reader, dates: tuple[date, ...]) -> pd.DataFrame:
    return (
        connections.on_night(_reader)
        .execute(
            "SELECT as_of_date AS as_of, grade, count(*) AS accounts, sum(pd) AS pd_sum, "
            "any_value(model_name || ' v' || model_version) AS model "
            f"FROM scores.account_scores WHERE as_of_date IN ({literals(list(dates))}) "
            "GROUP BY as_of_date, grade ORDER BY as_of_date, grade"
        )
        .df()
    )


@st.cache_data(show_spinner=False, max_entries=512)
def _page(key: str, _reader: Reader, chosen: Filter, order: str, number: int) -> tuple[Score, ...]:
    sql, values = _listed(_reader, chosen, order)
    cursor = connections.on_night(_reader)
    rows = cursor.execute(f"{sql} LIMIT ? OFFSET ?", [*values, PAGE_SIZE, (number - 1) * PAGE_SIZE]).fetchall()
    return _with_previous(cursor, _reader, chosen.subject, rows)


_BEFORE = "p.pd AS previous_pd, p.grade AS previous_grade, s.pd - p.pd AS pd_change"


def _listed(reader: Reader, chosen: Filter, order: str, *, whole: bool = False) -> tuple[str, list[Any]]:
    """The SELECT of what a filter keeps, in an order that is the same on every visit, with its values. whole: with the
    columns of the night before."""
    subject_id = ident(f"{chosen.subject}_id")
    keys = [key.format(id=subject_id) for key in ORDERS[orders.name(order)][1]]
    ranking = [f"{key} {'DESC' if order.startswith('-') else 'ASC'} NULLS LAST" for key in keys]
    compares = whole or any("p." in key for key in keys) or chosen.move != "any"
    kept, values = where(reader, chosen)
    sql = (
        f"SELECT {_SCORE.format(id=subject_id)}{f', {_BEFORE}' if whole else ''} FROM {table_of(chosen.subject)} s "
        f"{join_previous(chosen.subject) if compares else ''} WHERE {kept} "
        f"ORDER BY {', '.join(ranking)}, s.{subject_id}"
    )
    return sql, [*([reader.previous] if compares else []), *values]


@st.cache_data(show_spinner=False, max_entries=512)
def _matching(key: str, _reader: Reader, chosen: Filter) -> int:
    kept, values = where(_reader, chosen)
    join = join_previous(chosen.subject) if chosen.move != "any" else ""
    before = [_reader.previous] if join else []
    row = (
        connections.on_night(_reader)
        .execute(f"SELECT count(*) FROM {table_of(chosen.subject)} s {join} WHERE {kept}", [*before, *values])
        .fetchone()
    )
    assert row is not None
    return int(row[0])


@st.cache_data(show_spinner=False, max_entries=128)
def _grade_counts(key: str, _reader: Reader, subject: str) -> dict[str, int]:
    rows = (
        connections.on_night(_reader)
        .execute(
            f"SELECT grade, count(*) FROM {table_of(subject)} WHERE as_of_date = ? GROUP BY grade", [_reader.as_of]
        )
        .fetchall()
    )
    return {grade: int(n) for grade, n in rows}


@st.cache_data(show_spinner=False, max_entries=256)
def _find(key: str, _reader: Reader, subject: str, ids: tuple[int | str, ...]) -> tuple[Score, ...]:
    subject_id = ident(f"{subject}_id")
    cursor = connections.on_night(_reader)
    rows = cursor.execute(
        f"SELECT {_SCORE.format(id=subject_id)} FROM {table_of(subject)} s "
        f"WHERE s.as_of_date = ? AND s.{subject_id} IN ({literals(list(ids))})",
        [_reader.as_of],
    ).fetchall()
    return _with_previous(cursor, _reader, subject, rows)


@st.cache_data(show_spinner=False, max_entries=256)
def _last(key: str, _reader: Reader, subject: str, ids: tuple[int | str, ...]) -> tuple[Score, ...]:
    published = [d for d in _reader.home.dates if d <= _reader.as_of]
    column = ident(f"{subject}_id")
    rows = connections.on_night(_reader).execute(
        f"SELECT {_SCORE.format(id=column)} FROM {table_of(subject)} s WHERE s.{column} IN ({literals(list(ids))}) "
        f"AND s.as_of_date IN ({literals(published)}) "
        f"QUALIFY row_number() OVER (PARTITION BY s.{column} ORDER BY s.as_of_date DESC) = 1"
    )
    return tuple(Score(*row) for row in rows.fetchall())


@st.cache_data(show_spinner=False, max_entries=256)
def _history(key: str, _reader: Reader, subject: str, subject_id: int | str) -> tuple[Score, ...]:
    published = [d for d in _reader.home.dates if d <= _reader.as_of]
    column = ident(f"{subject}_id")
    rows = (
        connections.on_night(_reader)
        .execute(
            f"SELECT {_SCORE.format(id=column)} FROM {table_of(subject)} s WHERE s.{column} = ? "
            f"AND s.as_of_date IN ({literals(published)}) ORDER BY s.as_of_date",
            [subject_id],
        )
        .fetchall()
    )
    scores: list[Score] = []
    for row in rows:
        score, before = Score(*row), scores[-1] if scores else None
        scores.append(replace(score, previous_pd=before.pd, previous_grade=before.grade) if before else score)
    return tuple(scores)


@st.cache_data(show_spinner=False, max_entries=256)
def _reasons(
    key: str, _reader: Reader, subject: str, subject_id: int | str, as_of: date, run_id: str
) -> tuple[Reason, ...]:
    rows = (
        connections.on_night(_reader)
        .execute(
            f"SELECT rank, feature, value, contribution FROM {ident('scores', f'{subject}_reasons')} "
            f"WHERE as_of_date = ? AND {ident(f'{subject}_id')} = ? AND run_id = ? ORDER BY rank",
            [as_of, subject_id, run_id],
        )
        .fetchall()
    )
    return tuple(Reason(*row) for row in rows)


@st.cache_data(show_spinner=False, max_entries=256)
def _rows_of_night(key: str, _reader: Reader, table: str) -> tuple[int, bool] | None:
    schema, _, name = table.partition(".")
    cursor = connections.on_night(_reader)
    found = cursor.execute(
        "SELECT list(column_name) FROM duckdb_columns() WHERE database_name = current_database() "
        "AND schema_name = ? AND table_name = ?",
        [schema, name],
    ).fetchone()
    if not found or not found[0]:
        return None
    by_night = "as_of_date" in found[0]
    # A landed table holds what came later, too, where a night is older than the load of its rows.
    dated = "as_of_date =" if by_night else "load_date <=" if "load_date" in found[0] and schema == "raw" else ""
    where, values = (f"WHERE {dated} ?", [_reader.as_of]) if dated else ("", [])
    row = cursor.execute(f"SELECT count(*) FROM {ident(schema, name)} {where}", values).fetchone()
    return (int(row[0]), by_night) if row else None


def _with_previous(
    cursor: duckdb.DuckDBPyConnection, reader: Reader, subject: str, rows: Sequence[tuple[Any, ...]]
) -> tuple[Score, ...]:
    """Scores from rows, with the night before's PD and grade: looked up for these few ids only."""
    before: dict[Any, tuple[float, str]] = {}
    if rows and reader.previous:
        column = ident(f"{subject}_id")
        before = {
            i: (probability, grade)
            for i, probability, grade in cursor.execute(
                f"SELECT {column}, pd, grade FROM {table_of(subject)} "
                f"WHERE as_of_date = ? AND {column} IN ({literals([row[0] for row in rows])})",
                [reader.previous],
            ).fetchall()
        }
    nothing: tuple[float | None, str | None] = (None, None)
    found = []
    for row in rows:
        probability, grade = before.get(row[0], nothing)
        found.append(replace(Score(*row), previous_pd=probability, previous_grade=grade))
    return tuple(found)


def _typed(reader: Reader, ids: Sequence[str]) -> list[int | str]:
    """The ids that can be one at all: whole 64-bit numbers where the portfolio's ids are numbers."""
    if reader.home.portfolio.id_type != "BIGINT":
        return [i for i in ids if i and "\x00" not in i]
    numbers = [int(i) for i in ids if _BIGINT.fullmatch(i)]
    return [n for n in numbers if -(2**63) <= n < 2**63]
