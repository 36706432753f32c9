"""Performance of scored rows, aggregated in DuckDB: the same figures as ``statistics``, without the rows in Python.

Rows are a temporary table with the columns ``log_odds``, ``pd``, ``grade``, ``label`` and one per segment. They are
grouped by score once; windows over the groups give each score's placement among events and others, in whole numbers,
so AUC, DeLong's variance and KS are exact and do not depend on the order of threads. Sums of probabilities are
decimals for the same reason. Without labels the same figures are estimated from the PDs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb

from pipeline.monitoring.calibration import HosmerLemeshow, hosmer_lemeshow_of_groups
from pipeline.monitoring.interval import Interval
from pipeline.monitoring.statistics import ks_at_cut, mean_interval, two_sided
from pipeline.sql import ident, literal

ALL = "all"
BINS = 10
_STEPS = 50
_SUM = "DECIMAL(38, 18)"  # twenty digits before the point: billions of rows

Key = tuple[str, str]
"""A segment's name and value; ``("all", "")`` is every row."""


@dataclass(frozen=True)
class Band:
    """Rows of one grade or of one reliability bin. events is None where outcomes are not known yet."""

    name: str
    n: int
    events: int | None
    expected: float


@dataclass(frozen=True)
class Performance:
    """One segment's figures. What the sample cannot give (one class only, no outcomes) is None.

    expected: the sum of the PDs. estimated: computed from the PDs alone, under the assumption that they are right;
    then events, slope, intercept and Hosmer-Lemeshow are None, for the assumption is what they would test.
    """

    segment: str
    value: str
    estimated: bool
    n: int
    events: int | None
    expected: float
    auc: Interval | None
    ks: Interval | None
    brier: Interval
    ece: float | None
    slope: float | None
    intercept: float | None
    hosmer_lemeshow: HosmerLemeshow | None
    grades: tuple[Band, ...]
    bins: tuple[Band, ...]


def measure(con: duckdb.DuckDBPyConnection, rows: str, segments: Sequence[str] = ()) -> tuple[Performance, ...]:
    """Figures of a table of labelled rows, over all of them and by each value of each segment, in that order.

    rows: a temporary table; label is 0 or 1. Rows whose segment is NULL are in no group of it. Hosmer-Lemeshow has g
    degrees of freedom: published scores are out of sample.
    """
    _group(con, rows, segments, labelled=True)
    ranks = {(r[0], r[1]): r[2:] for r in con.execute(_RANKS).fetchall()}
    grades, bins, risk = (_bands(con, by) for by in (_GRADE, _BIN, _RISK))
    cox = _cox(con)
    found = []
    for key in _ordered(ranks, segments):
        m, others, ea, eaa, ob, obb, cut, error, squares, expected = ranks[key]
        n = int(m + others)
        groups = risk[key]
        slope, intercept = cox.get(key, (None, None))
        found.append(
            Performance(
                *key,
                estimated=False,
                n=n,
                events=int(m),
                expected=float(expected),
                auc=auc_of_placements(int(m), int(others), int(ea), int(eaa), int(ob), int(obb)),
                ks=ks_at_cut(int(m), int(others), int(cut["e"]), int(cut["o"])) if m and others else None,
                brier=mean_interval(n, float(error), float(squares)),
                ece=sum(abs((b.events or 0) - b.expected) for b in bins[key]) / n,
                slope=slope,
                intercept=intercept,
                hosmer_lemeshow=hosmer_lemeshow_of_groups(
                    [b.n for b in groups], [b.events or 0 for b in groups], [b.expected for b in groups]
                ),
                grades=grades[key],
                bins=bins[key],
            )
        )
    return tuple(found)


def estimate(con: duckdb.DuckDBPyConnection, rows: str, segments: Sequence[str] = ()) -> tuple[Performance, ...]:
    """What the figures will be if the PDs are right: confidence-based performance estimation (CBPE).

    Each row counts as PD of an event and 1 − PD of a non-event; AUC, KS and Brier follow from these expected counts.
    The method is NannyML's (its documentation, "Confidence-based Performance Estimation"), without the calibrator: the
    PDs are held to be calibrated, which the matured months show or do not. It sees covariate shift and is blind to a
    changed relation of features and outcome.
    """
    _group(con, rows, segments, labelled=False)
    ranks = {(r[0], r[1]): r[2:] for r in con.execute(_EXPECTED_RANKS).fetchall()}
    grades, bins = _bands(con, _GRADE), _bands(con, _BIN)
    found = []
    for key in _ordered(ranks, segments):
        n, expected, won, gap, brier = ranks[key]
        events, others = float(expected), float(Decimal(n) - expected)
        both = events > 0 and others > 0
        area = float(won) / (2 * events * others) if both else None
        found.append(
            Performance(
                *key,
                estimated=True,
                n=int(n),
                events=None,
                expected=events,
                auc=None if area is None else Interval(area, math.nan, math.nan),
                ks=Interval(float(gap), math.nan, math.nan) if both else None,
                brier=Interval(float(brier / n), math.nan, math.nan),
                ece=None,
                slope=None,
                intercept=None,
                hosmer_lemeshow=None,
                grades=grades[key],
                bins=bins[key],
            )
        )
    return tuple(found)


def auc_of_placements(
    events: int, others: int, ea: int, eaa: int, ob: int, obb: int, level: float = 0.95
) -> Interval | None:
    """AUC and DeLong's interval from whole sums; None for one class only, limits NaN under two rows of a class.

    With a = 2·(non-events scored lower) + (non-events scored the same) of an event, and b likewise of a non-event
    among the events: ea = Σ a and eaa = Σ a² over events, ob = Σ b and obb = Σ b² over non-events. Placements are
    a / 2n and 1 − b / 2m, AUC is the mean of the first, and the variance is S₁₀ / m + S₀₁ / n of their sample variances
    (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988).
    """
    if not events or not others:
        return None
    area = float(Fraction(ea, 2 * events * others))
    if events < 2 or others < 2:
        return Interval(area, math.nan, math.nan)
    variance = Fraction(eaa * events - ea * ea, 4 * others**2 * events**2 * (events - 1)) + Fraction(
        obb * others - ob * ob, 4 * events**2 * others**2 * (others - 1)
    )
    half = two_sided(level) * math.sqrt(variance)
    return Interval(area, max(0.0, area - half), min(1.0, area + half))


def _group(con: duckdb.DuckDBPyConnection, rows: str, segments: Sequence[str], *, labelled: bool) -> None:
    """Fill temp.grouped_scores: rows and weight by segment, value and score, and both of that score and lower ones.

    The weight is the events, or without labels the expected ones.
    """
    parts = [f"SELECT {literal(ALL)} AS segment, '' AS value, log_odds, pd, grade, label FROM temp.{ident(rows)}"]
    parts += [
        f"SELECT {literal(s)}, {ident(s)}, log_odds, pd, grade, label FROM temp.{ident(rows)} "
        f"WHERE {ident(s)} IS NOT NULL"
        for s in segments
    ]
    # Rows of one score have one PD and one grade: both rise with the log-odds. One sort gives every placement.
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE grouped_scores AS
        WITH counted AS (
            SELECT
                segment, value, log_odds, min(pd) AS pd, min(grade) AS grade,
                count(*) AS n, CAST(sum(label) AS BIGINT) AS events
            FROM ({" UNION ALL ".join(parts)})
            GROUP BY segment, value, log_odds
        ),
        weighed AS (SELECT *, {"events" if labelled else f"CAST(n * pd AS {_SUM})"} AS weight FROM counted)
        SELECT *, CAST(sum(n) OVER up_to AS BIGINT) AS n_to, sum(weight) OVER up_to AS weight_to
        FROM weighed
        WINDOW up_to AS (PARTITION BY segment, value ORDER BY log_odds ROWS UNBOUNDED PRECEDING)
        """
    )


_TOTALS = """
    totals AS (
        SELECT segment, value, CAST(sum(n) AS BIGINT) AS total, sum(weight) AS weights
        FROM grouped_scores GROUP BY segment, value
    )
"""

_RANKS = f"""
    WITH {_TOTALS},
    placed AS (
        SELECT
            g.segment, g.value, g.pd, g.events, g.n - g.events AS others, g.weight_to AS events_to,
            g.n_to - g.weight_to AS others_to, t.weights AS all_events, t.total - t.weights AS all_others,
            2 * (g.n_to - g.weight_to) - (g.n - g.events) AS a, 2 * g.weight_to - g.events AS b
        FROM grouped_scores g JOIN totals t ON t.segment = g.segment AND t.value = g.value
    )
    SELECT
        segment, value, sum(events), sum(others),
        sum(events * a), sum(events * a * a), sum(others * b), sum(others * b * b),
        max({{'gap': abs(events_to * all_others - others_to * all_events), 'e': events_to, 'o': others_to}}),
        sum(CAST(events * (1 - pd) ** 2 + others * pd ** 2 AS {_SUM})),
        sum(CAST(events * (1 - pd) ** 4 + others * pd ** 4 AS {_SUM})),
        sum(CAST((events + others) * pd AS {_SUM}))
    FROM placed
    GROUP BY segment, value
"""

_EXPECTED_RANKS = f"""
    WITH {_TOTALS},
    placed AS (
        SELECT
            g.segment, g.value, g.pd, g.n, g.weight,
            CAST(g.weight AS DOUBLE) AS events,
            CAST(g.n - g.weight AS DOUBLE) AS others,
            CAST(g.weight_to AS DOUBLE) AS events_to,
            CAST(g.n_to - g.weight_to AS DOUBLE) AS others_to,
            CAST(t.weights AS DOUBLE) AS all_events,
            CAST(t.total - t.weights AS DOUBLE) AS all_others
        FROM grouped_scores g JOIN totals t ON t.segment = g.segment AND t.value = g.value
    )
    SELECT
        segment, value, CAST(sum(n) AS BIGINT), sum(weight),
        sum(CAST(events * (2 * others_to - others) AS DECIMAL(38, 12))),
        max(abs(events_to / nullif(all_events, 0) - others_to / nullif(all_others, 0))),
        sum(CAST(n * pd * (1 - pd) AS {_SUM}))
    FROM placed
    GROUP BY segment, value
"""

_GRADE = "g.grade"
_BIN = f"least(greatest(CAST(ceil(g.pd * {BINS}) AS INTEGER) - 1, 0), {BINS - 1})"
_RISK = f"CAST({BINS} * (2 * (g.n_to - g.n) + g.n) // (2 * t.total) AS INTEGER)"


def _bands(con: duckdb.DuckDBPyConnection, by: str) -> dict[Key, tuple[Band, ...]]:
    """Rows, events and expected events by segment, value and a band of the score."""
    found: dict[Key, tuple[Band, ...]] = {}
    for segment, value, band, n, events, expected in con.execute(
        f"""
        WITH {_TOTALS}
        SELECT g.segment, g.value, {by} AS band, CAST(sum(g.n) AS BIGINT), CAST(sum(g.events) AS BIGINT),
            sum(CAST(g.n * g.pd AS {_SUM}))
        FROM grouped_scores g JOIN totals t ON t.segment = g.segment AND t.value = g.value
        GROUP BY ALL ORDER BY g.segment, g.value, band
        """
    ).fetchall():
        found[segment, value] = (*found.get((segment, value), ()), Band(str(band), n, events, float(expected)))
    return found


def _cox(con: duckdb.DuckDBPyConnection) -> dict[Key, tuple[float | None, float | None]]:
    """Cox's slope and intercept of every group by Newton steps, one scan of the grouped scores a step.

    As ``statistics.calibration`` does it; a group without both classes, or that does not settle, has neither.
    """
    found: dict[Key, tuple[float | None, float | None]] = {}
    at: dict[Key, _Step] = {}
    for segment, value, lowest, highest, n, events in con.execute(
        "SELECT segment, value, min(log_odds), max(log_odds), sum(n), sum(events) FROM grouped_scores "
        "GROUP BY segment, value HAVING sum(events) BETWEEN 1 AND sum(n) - 1"
    ).fetchall():
        if lowest == highest:
            found[segment, value] = (None, math.log(float(events) / float(n - events)) - lowest)
        else:
            at[segment, value] = _Step(1.0, 0.0)
    for _ in range(_STEPS):
        if not at:
            break
        for key, sums in _newton_sums(con, at).items():
            step = at.pop(key).next(*sums)
            if step is not None and step.settled:
                found[key] = (step.slope, step.base)
            elif step is not None:
                at[key] = step
    return found


@dataclass(frozen=True)
class _Step:
    """Where Newton's method stands, the step that led there, and how far the next one may go."""

    slope: float
    base: float
    along: float = 0.0
    up: float = 0.0
    reach: float = 5.0
    settled: bool = False

    def next(self, h00: float, h01: float, h11: float, g0: float, g1: float) -> _Step | None:
        """The next point from the second and first derivatives there; None where they say nothing."""
        determinant = h00 * h11 - h01 * h01
        if determinant <= 0:
            return None
        # The last step went past the summit: without shorter ones, Newton can step to and fro for ever.
        reach = self.reach / 2 if g0 * self.up + g1 * self.along < 0 else self.reach
        up, along = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
        longest = max(abs(up), abs(along))
        part = min(1.0, reach / longest) if longest else 1.0
        up, along = up * part, along * part
        return _Step(self.slope + along, self.base + up, along, up, reach, longest < 1e-10)


def _newton_sums(con: duckdb.DuckDBPyConnection, at: dict[Key, _Step]) -> dict[Key, tuple[float, ...]]:
    con.execute("CREATE OR REPLACE TEMP TABLE cox_steps (segment VARCHAR, value VARCHAR, slope DOUBLE, base DOUBLE)")
    con.executemany(
        "INSERT INTO cox_steps VALUES (?, ?, ?, ?)", [(*key, step.slope, step.base) for key, step in at.items()]
    )
    found = con.execute(
        f"""
        WITH predicted AS (
            SELECT s.segment, s.value, s.n, s.events, s.log_odds AS z,
                1 / (1 + exp(-greatest(-700, least(700, c.base + c.slope * s.log_odds)))) AS p
            FROM grouped_scores s JOIN cox_steps c ON s.segment = c.segment AND s.value = c.value
        ),
        weighted AS (SELECT *, n * greatest(p * (1 - p), 1e-12) AS w, events - n * p AS r FROM predicted)
        SELECT segment, value, sum(CAST(w AS {_SUM})), sum(CAST(w * z AS {_SUM})), sum(CAST(w * z * z AS {_SUM})),
            sum(CAST(r AS {_SUM})), sum(CAST(r * z AS {_SUM}))
        FROM weighted GROUP BY segment, value
        """
    ).fetchall()
    return {(segment, value): tuple(map(float, sums)) for segment, value, *sums in found}


def _ordered(found: dict[Key, Any], segments: Sequence[str]) -> list[Key]:
    position = {name: i for i, name in enumerate((ALL, *segments))}
    return sorted(found, key=lambda key: (position[key[0]], key[1]))
