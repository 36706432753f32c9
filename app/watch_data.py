"""The Watch pages' reads of the lake as it is now, kept until the next night was watched.

A night's drift and outcomes are written after it was published: its own snapshot does not hold them. What is shown
is what was known of the night that the page is at, by whatever was stored since.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import streamlit as st

from app import connections
from app.session import Home
from lineage.causes import Search
from pipeline.errors import NotFound
from pipeline.monitoring import drift, drift_reads, outcome_reads, score_drift
from pipeline.monitoring.alert_rules import DRIFT, HIGH, Finding
from pipeline.monitoring.alert_state import Cause
from pipeline.monitoring.drift import Drift
from pipeline.monitoring.drift_reads import Filled, Watched
from pipeline.monitoring.outcome_reads import (
    Foreseen,
    Holdout,
    StoredBin,
    StoredGrade,
    StoredGroup,
    StoredPerformance,
    StoredVintage,
)
from pipeline.monitoring.score_drift import Moved


@dataclass(frozen=True)
class Outcomes:
    """Everything stored of one model's outcomes up to a night."""

    performance: tuple[StoredPerformance, ...]
    grades: tuple[StoredGrade, ...]
    reliability: tuple[StoredBin, ...]
    foreseen: tuple[Foreseen, ...]
    fairness: tuple[StoredGroup, ...]
    vintages: tuple[StoredVintage, ...]
    holdout: tuple[Holdout, ...]


def watched(home: Home) -> tuple[Watched, ...]:
    """The models and baselines that nights are stored of."""
    return _read(home, "watched", drift_reads.watched)  # type: ignore[no-any-return]


def segments(home: Home, model: str, as_of: date) -> tuple[tuple[str, str], ...]:
    """The (dimension, segment) pairs of a night."""
    return _read(home, f"segments|{model}|{as_of}", lambda con: drift_reads.segments(con, model, as_of))  # type: ignore[no-any-return]


def history(
    home: Home,
    start: date,
    end: date,
    model: str,
    version: int | None,
    key: tuple[str, str],
    feature: str | None = None,
) -> tuple[Drift, ...]:
    """Stored drift of one segment between two nights; ``version``: against that one's baseline, else each its own."""
    dimension, segment = key
    return _read(  # type: ignore[no-any-return]
        home,
        f"history|{start}|{end}|{model}|{version}|{key}|{feature}",
        lambda con: drift.history(
            con, start, end, model=model, version=version, feature=feature, dimension=dimension,
            segment=segment if dimension else None,
        ),
    )  # fmt: skip


def by_segment(home: Home, as_of: date, model: str, version: int, feature: str) -> tuple[Drift, ...]:
    """One feature's stored drift of a night in every segment, split by split."""
    dimensions = tuple(dict.fromkeys(d for d, _ in segments(home, model, as_of)))
    return _read(  # type: ignore[no-any-return]
        home,
        f"by_segment|{as_of}|{model}|{version}|{feature}",
        lambda con: tuple(
            row
            for dimension in dimensions
            for row in sorted(
                drift.history(con, as_of, as_of, model=model, version=version, feature=feature, dimension=dimension),
                key=lambda d: d.segment,
            )
        ),
    )


def filled(home: Home, model: str, version: int, feature: str, as_of: date, key: tuple[str, str]) -> Filled | None:
    """A night's rows by bin beside the baseline's."""
    least = home.portfolio.monitoring.minimum_rows
    return _read(  # type: ignore[no-any-return]
        home,
        f"filled|{model}|{version}|{feature}|{as_of}|{key}|{least}",
        lambda con: drift_reads.filled(con, model, version, feature, as_of, key, minimum_rows=least),
    )


def contribution_nights(home: Home, model: str) -> tuple[date, ...]:
    """The nights whose mean contributions are stored."""
    return _read(home, f"contributions|{model}", lambda con: drift_reads.contribution_nights(con, model))  # type: ignore[no-any-return]


def moved(home: Home, model: str, start: date, end: date, key: tuple[str, str]) -> Moved | None:
    """Why the sample's mean log-odds is another than on the earlier night; None where one is not stored."""

    spec = home.portfolio.model(model)

    def between(con: duckdb.DuckDBPyConnection) -> Moved | None:
        try:
            return score_drift.between(con, spec, start, end, dimension=key[0], segment=key[1])
        except NotFound:
            return None

    return _read(home, f"moved|{model}|{start}|{end}|{key}", between)  # type: ignore[no-any-return]


def outcomes(home: Home, as_of: date, model: str) -> Outcomes:
    """What was known at a night of how one model's scores came true."""

    def read(con: duckdb.DuckDBPyConnection) -> Outcomes:
        return Outcomes(
            outcome_reads.performance(con, as_of, model=model),
            outcome_reads.grades(con, as_of, model=model),
            outcome_reads.reliability(con, as_of, model=model),
            tuple(f for f in outcome_reads.foreseen(con, as_of, model=model) if f.matured.segment == "all"),
            outcome_reads.fairness(con, as_of, model=model),
            outcome_reads.vintages(con, as_of),
            outcome_reads.holdout(home.engine, as_of, model=model),
        )

    return _read(home, f"outcomes|{as_of}|{model}", read)  # type: ignore[no-any-return]


@st.cache_data(show_spinner=False, max_entries=128)
def causes(identity: str, run_id: str, column: str, _home: Home) -> tuple[Cause, ...]:
    """What a run recorded that may have moved a feature (``schema.table.column``), likeliest first. Takes seconds."""
    search = Search(_home.settings, _home.engine, _home.portfolio, run_id)
    return search.causes(Finding("asked", DRIFT, HIGH, "", (), (column,)))


def _read(home: Home, asked: str, read: Callable[[duckdb.DuckDBPyConnection], Any]) -> Any:
    """What ``read`` finds in the newest state of the lake; asked once until a night's monitor has ended again.

    Other tasks of a night make a snapshot a second, and none of them what is read here.
    """
    return _stored(f"{home.identity}|{home.watched}|{asked}", read, home)


@st.cache_data(show_spinner=False, max_entries=256)
def _stored(asked: str, _read: Callable[[duckdb.DuckDBPyConnection], Any], _home: Home) -> Any:
    """An answer is never older than the count that it is kept under."""
    con = connections.current(_home)
    con.execute("BEGIN")  # one state of the lake, however many questions
    try:
        return _read(con)
    finally:
        con.execute("ROLLBACK")
        con.close()
