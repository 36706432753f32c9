"""Fairness of published scores by protected group: approval at the policy's cut-off, and the scores themselves.

Protected attributes are read from ``raw.applicant_protected`` here and nowhere else; what leaves is counts by group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb

from pipeline import lake
from pipeline.monitoring.cohorts import Cohort, ScoringRecord
from pipeline.monitoring.fairness import Moments, adverse_impact, standardized_mean_difference
from pipeline.sql import ident, literal, literals
from pipeline.training_set import PROTECTED

NOT_RECORDED = "(not recorded)"
SMALLEST = 30


def by_group(
    con: duckdb.DuckDBPyConnection,
    cohort: Cohort,
    as_of: date,
    cut_off: Decimal | None,
    record: ScoringRecord | None = None,
    smallest: int = SMALLEST,
) -> list[dict[str, Any]]:
    """One row per protected attribute and group of a cohort's scores, ordered by both.

    cut_off: the model's ``cutoff_pd``, as its validation is judged by; selected is a PD up to it. Without one nothing
    is decided and there is no ratio. ``smd`` is of score points (higher is safer) against the reference: the group with
    the highest approval rate, without a cut-off the largest. Who has no such attribute on record is counted as ``(not
    recorded)`` and not judged.
    """
    subject = cohort.subject
    key = ident(f"{subject}_id")
    published = "" if record is None else f"AND run_id IN ({literals(sorted(set(cohort.runs)))})"
    selected = "false" if cut_off is None else f"pd <= {literal(cut_off)}"
    each = " UNION ALL ".join(
        f"SELECT {literal(name)} AS attribute, coalesce({ident(name)}, {literal(NOT_RECORDED)}) AS group_name, "
        "points, selected FROM judged"
        for name in PROTECTED
    )
    counted = con.execute(
        f"""
        WITH scored AS (
            SELECT {key} AS subject_id, score_points::BIGINT AS points, {selected} AS selected
            FROM {ident(lake.ALIAS, "scores", f"{subject}_scores")}
            WHERE as_of_date IN ({literals(list(cohort.nights))}) {published}
            QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY as_of_date) = 1
        ),
        protected AS (
            SELECT subject_id, {", ".join(map(ident, PROTECTED))} FROM {lake.ALIAS}.raw.applicant_protected
            WHERE subject_type = {literal(subject)}
                AND load_date <= {literal(as_of)} AND recorded_on <= {literal(as_of)}
            QUALIFY row_number() OVER (
                PARTITION BY subject_id ORDER BY load_date DESC, load_id DESC, source_file DESC, source_row DESC
            ) = 1
        ),
        judged AS (SELECT s.points, s.selected, p.* FROM scored s LEFT JOIN protected p ON p.subject_id = s.subject_id)
        SELECT attribute, group_name, count(*), count(*) FILTER (selected), sum(points), sum(points * points)
        FROM ({each}) GROUP BY attribute, group_name ORDER BY attribute, group_name
        """
    ).fetchall()
    found: list[dict[str, Any]] = []
    for attribute in sorted(PROTECTED):
        groups = {row[1]: row[2:] for row in counted if row[0] == attribute}
        if set(groups) - {NOT_RECORDED}:
            found += _rows(attribute, groups, cut_off, smallest)
    return found


def _rows(
    attribute: str, groups: Mapping[str, tuple[Any, ...]], cut_off: Decimal | None, smallest: int
) -> list[dict[str, Any]]:
    known = {name: facts for name, facts in groups.items() if name != NOT_RECORDED}
    total = {name: int(facts[0]) for name, facts in known.items()}
    if cut_off is not None:
        impact = adverse_impact({name: int(facts[1]) for name, facts in known.items()}, total, smallest=smallest)
        reference, judged = impact.reference, {g.group: g for g in impact.groups}
    else:
        large = [name for name in known if total[name] >= smallest]
        reference, judged = min(large, key=lambda name: (-total[name], name), default=None), {}
    scores = {name: _moments(*facts) for name, facts in groups.items()}
    rows = []
    for name, facts in groups.items():
        n, selected = int(facts[0]), int(facts[1])
        verdict = judged.get(name)
        compared = reference is not None and total.get(name, 0) >= max(smallest, 2)
        smd = standardized_mean_difference(scores[name], scores[reference]) if reference and compared else None
        rows.append(
            {
                "attribute": attribute,
                "group_name": name,
                "reference": reference,
                "n": n,
                "selected": selected if cut_off is not None else None,
                "cut_off": float(cut_off) if cut_off is not None else None,
                "rate": selected / n if cut_off is not None else None,
                "ratio": verdict.ratio if verdict else None,
                "passes": verdict.passes if verdict else None,
                "too_small": n < smallest,
                "mean_points": scores[name].mean,
                "smd": smd if smd is not None and math.isfinite(smd) else None,
            }
        )
    return rows


def _moments(n: int, _: int, total: int, squares: int) -> Moments:
    """Mean and variance from whole sums: exact up to the last division."""
    n, total, squares = int(n), int(total), int(squares)
    variance = float(Fraction(squares * n - total * total, n * (n - 1))) if n > 1 else math.nan
    return Moments(n, float(Fraction(total, n)), variance)
