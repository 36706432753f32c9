"""A comparison made at training time, while the holdout is at hand: what the lake adds to the arrays."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import lake
from pipeline.comparison.facts import Comparison
from pipeline.comparison.impact import UNKNOWN, fairness
from pipeline.comparison.measure import Holdout, Scored, compare
from pipeline.portfolio import ModelSpec, Portfolio
from pipeline.sql import ident, literal
from pipeline.training_set import HOLDOUT, PROTECTED, TRAIN, VALID, TrainingSet

FIRST = "a first model: there is no champion"


def compared(
    con: duckdb.DuckDBPyConnection,
    portfolio: Portfolio,
    spec: ModelSpec,
    data: TrainingSet,
    challenger: Scored,
    champion: Scored | None,
    *,
    champion_training_set: str | None = None,
    alone: str = "",
    threads: int = 0,
) -> Comparison:
    """The candidate against the champion on the training set's holdout; against nobody, ``alone`` says why.

    con: a connection to the lake, which is only read.
    """
    rows = data.rows(HOLDOUT)
    holdout = Holdout(data.labels[rows], data.subjects[rows], data.dates[rows])
    scores = {"champion": champion.log_odds} if champion is not None else {}
    members = pa.table(
        {
            "position": pa.array(np.arange(len(rows))),
            "subject_id": pa.array(holdout.subjects),
            "as_of_date": pa.array(holdout.dates),
        }
    )
    con.register("compared_rows", members)
    try:
        attributes = _protected(con, spec.subject, data)
        seen = _seen(con, champion_training_set) if champion is not None and champion_training_set else None
    finally:
        con.unregister("compared_rows")
    return compare(
        spec.name,
        data.sha256,
        holdout,
        challenger,
        champion,
        [(g.name, g.pd_up_to) for g in portfolio.grades],
        fairness(
            attributes,
            holdout.labels,
            {**scores, "challenger": challenger.log_odds},
            spec.cutoff_pd,
            spec.references,
        ),
        alone=alone if champion is None else "",
        seen_by_champion=seen,
        threads=threads,
    )


def _protected(
    con: duckdb.DuckDBPyConnection, subject: str, data: TrainingSet
) -> Mapping[str, NDArray[np.str_]]:  # fmt: skip
    """Attribute → group of each holdout row, as known at the training date; UNKNOWN where nothing was recorded."""
    names = ", ".join(f"coalesce(p.{ident(name)}, {literal(UNKNOWN)}) AS {ident(name)}" for name in PROTECTED)
    found = con.execute(
        f"""
        SELECT {names}
        FROM compared_rows r
        LEFT JOIN (
            SELECT * FROM {ident(lake.ALIAS, "raw", "applicant_protected")}
            WHERE subject_type = {literal(subject)}
                AND load_date <= {literal(data.as_of)} AND recorded_on <= {literal(data.as_of)}
            QUALIFY row_number() OVER (
                PARTITION BY subject_id ORDER BY load_date DESC, load_id DESC, source_file DESC, source_row DESC
            ) = 1
        ) p ON p.subject_id = r.subject_id
        ORDER BY r.position
        """
    ).to_arrow_table()
    return {name: found.column(name).to_numpy().astype(str) for name in PROTECTED}


def _seen(con: duckdb.DuckDBPyConnection, training_set: str) -> int:
    """How many of the holdout's rows the champion was itself fitted on: they flatter it."""
    folds = ", ".join(map(literal, (TRAIN, VALID)))
    row = con.execute(
        f"SELECT count(*) FROM compared_rows r JOIN {ident(lake.ALIAS, 'training', 'members')} m "
        "ON m.subject_id = r.subject_id::VARCHAR AND m.as_of_date = r.as_of_date "
        f"WHERE m.training_set = {literal(training_set)} AND m.fold IN ({folds})"
    ).fetchone()
    assert row is not None
    return int(row[0])
