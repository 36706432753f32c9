"""Reads of stored drift, for pages: which baselines there are, and how one feature's rows fill the bins.

Like the outcomes, drift is written after a night is published: these read the lake as it is now.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import duckdb

from pipeline import lake
from pipeline.monitoring.bins import WHOLE
from pipeline.sql import ident


@dataclass(frozen=True)
class Watched:
    """The nights of one model that are stored against the baseline of one version; ``own``: that it scored."""

    model: str
    version: int
    nights: tuple[date, ...]
    own: tuple[date, ...]


@dataclass(frozen=True)
class Filled:
    """Rows by bin of one feature; ``labels`` are the bins, the last is missing values.

    against_segment: whether ``baseline`` is that of the segment itself, and not the whole training set.
    """

    labels: tuple[str, ...]
    baseline: tuple[int, ...]
    night: tuple[int, ...]
    against_segment: bool


def watched(con: duckdb.DuckDBPyConnection) -> tuple[Watched, ...]:
    """Every model and baseline with stored nights, the nights in order; nothing for a lake without drift."""
    if not _there(con):
        return ()
    found = con.execute(
        "SELECT model_name, model_version, list(DISTINCT as_of_date ORDER BY as_of_date), "
        "list(DISTINCT as_of_date ORDER BY as_of_date) FILTER (scored_by = model_version) "
        f"FROM {_table('statistics')} GROUP BY model_name, model_version ORDER BY model_name, model_version"
    ).fetchall()
    return tuple(Watched(model, version, tuple(nights), tuple(own or ())) for model, version, nights, own in found)


def segments(con: duckdb.DuckDBPyConnection, model: str, as_of: date) -> tuple[tuple[str, str], ...]:
    """The (dimension, segment) pairs that a night has statistics of, in order; the whole book is not among them."""
    return tuple(
        con.execute(
            f"SELECT DISTINCT dimension, segment FROM {_table('segment_statistics')} "
            "WHERE model_name = ? AND as_of_date = ? ORDER BY dimension, segment",
            [model, as_of],
        ).fetchall()
    )


def filled(
    con: duckdb.DuckDBPyConnection,
    model: str,
    version: int,
    feature: str,
    as_of: date,
    key: tuple[str, str] = WHOLE,
    *,
    minimum_rows: int = 0,
) -> Filled | None:
    """A night's rows of a feature beside the baseline's, in the version's bins; None for what is not stored.

    A segment is compared with its own part of the baseline where that has ``minimum_rows``, as the stored PSI is.
    """
    bins = con.execute(
        f"SELECT label FROM {_table('bins')} WHERE model_name = ? AND model_version = ? AND feature = ? ORDER BY bin",
        [model, version, feature],
    ).fetchall()
    night = _rows(con, "counts", model, version, feature, key, as_of)
    if not bins or not night:
        return None
    own = _rows(con, "baselines", model, version, feature, key)
    of_segment = key == WHOLE or sum(own.values()) >= max(1, minimum_rows)
    base = own if of_segment else _rows(con, "baselines", model, version, feature, WHOLE)
    at = range(len(bins))
    return Filled(
        tuple(label for (label,) in bins),
        tuple(base.get(i, 0) for i in at),
        tuple(night.get(i, 0) for i in at),
        of_segment and key != WHOLE,
    )


def contribution_nights(con: duckdb.DuckDBPyConnection, model: str) -> tuple[date, ...]:
    """The nights whose mean contributions are stored, in order."""
    return tuple(
        day
        for (day,) in con.execute(
            f"SELECT DISTINCT as_of_date FROM {_table('contributions')} WHERE model_name = ? ORDER BY 1", [model]
        ).fetchall()
    )


def _rows(
    con: duckdb.DuckDBPyConnection,
    table: str,
    model: str,
    version: int,
    feature: str,
    key: tuple[str, str],
    as_of: date | None = None,
) -> dict[int, int]:
    """Bin → rows; zeros are not stored."""
    at = " AND as_of_date = ?" if as_of else ""
    return dict(
        con.execute(
            f"SELECT bin, rows FROM {_table(table)} WHERE model_name = ? AND model_version = ? AND feature = ? "
            f"AND dimension = ? AND segment = ?{at}",
            [model, version, feature, *key, *([as_of] if as_of else [])],
        ).fetchall()
    )


def _there(con: duckdb.DuckDBPyConnection) -> bool:
    row = con.execute(
        "SELECT count(*) FROM information_schema.tables WHERE table_catalog = ? AND table_schema = 'drift' "
        "AND table_name = 'statistics'",
        [lake.ALIAS],
    ).fetchone()
    return bool(row and row[0])


def _table(name: str) -> str:
    return ident(lake.ALIAS, "drift", name)
