"""What DuckDB aggregates equals what NumPy, SciPy and scikit-learn compute from the rows, ties and all."""

from __future__ import annotations

import math
from collections.abc import Iterator

import duckdb
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sklearn import metrics

from pipeline.monitoring import statistics
from pipeline.monitoring.calibration import hosmer_lemeshow, reliability_curve
from pipeline.monitoring.performance import Performance, estimate, measure

Row = tuple[int, int, str | None]  # label, log-odds in tenths, segment

# An example is some twenty queries: shrinking a failure would take minutes.
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)

labelled = st.lists(
    st.tuples(st.integers(0, 1), st.integers(-40, 20), st.sampled_from(["x", "y", None])), min_size=1, max_size=80
)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def load(con: duckdb.DuckDBPyConnection, rows: list[Row], *, labels: bool = True) -> None:
    con.execute(
        "CREATE OR REPLACE TEMP TABLE sample (log_odds DOUBLE, pd DOUBLE, grade VARCHAR, label TINYINT, part VARCHAR)"
    )
    values = [(z / 10, pd_of(z), "A" if z < 0 else "B", y if labels else None, part) for y, z, part in rows]
    if values:
        con.executemany("INSERT INTO sample VALUES (?, ?, ?, ?, ?)", values)


def pd_of(tenths: int) -> float:
    return 1 / (1 + math.exp(-tenths / 10))


def close(value: float | None, wanted: float, tolerance: float = 1e-9) -> None:
    assert value == pytest.approx(wanted, rel=tolerance, abs=1e-12)


def same_interval(found: statistics.Interval, wanted: statistics.Interval) -> None:
    for one, other in zip(vars(found).values(), vars(wanted).values(), strict=True):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-9, nan_ok=True)


def agrees(found: Performance, rows: list[Row]) -> None:
    y, z = np.array([r[0] for r in rows]), np.array([r[1] / 10 for r in rows])
    p = np.array([pd_of(r[1]) for r in rows])
    assert (found.n, found.events) == (len(rows), y.sum())
    close(found.expected, p.sum())
    close(found.brier.estimate, metrics.brier_score_loss(y, p, labels=[0, 1]))
    same_interval(found.brier, statistics.brier_interval(y, p))
    close(found.ece, statistics.expected_calibration_error(y, p))
    test = hosmer_lemeshow(y, p)
    assert found.hosmer_lemeshow is not None
    assert found.hosmer_lemeshow.degrees_of_freedom == test.degrees_of_freedom == test.groups
    close(found.hosmer_lemeshow.statistic, test.statistic, 1e-8)
    curve = reliability_curve(y, p)
    assert [(b.n, b.events) for b in found.bins] == [(b.n, b.events) for b in curve]
    assert sum(b.n for b in found.grades) == len(rows)
    if len(set(y)) < 2:
        assert (found.auc, found.ks, found.slope) == (None, None, None)
        return
    assert found.auc is not None
    close(found.auc.estimate, metrics.roc_auc_score(y, z))
    false_rate, true_rate, _ = metrics.roc_curve(y, z, drop_intermediate=False)
    assert found.ks is not None
    close(found.ks.estimate, np.abs(true_rate - false_rate).max())
    same_interval(found.ks, statistics.ks_interval(y, z))
    if 2 <= y.sum() <= len(y) - 2:
        wanted = statistics.delong_interval(y, z)
        close(found.auc.low, wanted.low, 1e-8)
        close(found.auc.high, wanted.high, 1e-8)
    else:
        assert math.isnan(found.auc.low)
    cox = statistics.calibration(y, z)
    overlap = z[y == 1].min() < z[y == 0].max() and z[y == 0].min() < z[y == 1].max()
    if math.isnan(cox.slope):
        assert found.slope is None
        close(found.intercept, cox.intercept)
    elif overlap and abs(cox.slope) < 20:
        assert found.slope == pytest.approx(cox.slope, rel=1e-6, abs=1e-6)
        assert found.intercept == pytest.approx(cox.intercept, rel=1e-6, abs=1e-6)


@settings(max_examples=40, deadline=None, phases=UNSHRUNK)
@given(labelled, st.randoms(use_true_random=False))
def test_sql_equals_the_libraries(con: duckdb.DuckDBPyConnection, rows: list[Row], random_: object) -> None:
    load(con, rows)
    found = measure(con, "sample", ("part",))
    assert [(f.segment, f.value) for f in found] == [
        ("all", ""), *(("part", v) for v in sorted({r[2] for r in rows if r[2]}))
    ]  # fmt: skip
    for part in found:
        agrees(part, [r for r in rows if part.segment == "all" or r[2] == part.value])
    random_.shuffle(rows)  # type: ignore[attr-defined]
    load(con, rows)
    assert measure(con, "sample", ("part",)) == found  # not close: the same bits


def test_more_rows_than_one_thread_takes_give_the_same_bits(con: duckdb.DuckDBPyConnection) -> None:
    """Half a million rows in row groups of both threads, stored in two orders."""
    draw = (
        "SELECT i, (hash(i) % 20001) / 2500.0 - 6 AS z, hash(i, 1) % 1000003 / 1000003.0 AS u FROM range(500000) r(i)"
    )
    seen = []
    for threads, order in ((1, "i"), (2, "hash(i, 7)")):
        con.execute(f"SET threads = {threads}")
        con.execute(
            f"""CREATE OR REPLACE TEMP TABLE sample AS
            SELECT z::DOUBLE AS log_odds, (1 / (1 + exp(-z)))::DOUBLE AS pd, if(z < -3, 'A', 'B') AS grade,
                (u < 1 / (1 + exp(-z)))::TINYINT AS label, (i % 3)::VARCHAR AS part
            FROM ({draw}) ORDER BY {order}"""
        )
        seen.append((measure(con, "sample", ("part",)), estimate(con, "sample", ("part",))))
    assert seen[0] == seen[1]
    matured, estimated = seen[0][0][0], seen[0][1][0]
    assert matured.slope == pytest.approx(1, abs=0.02)
    assert matured.auc is not None and estimated.auc is not None
    assert matured.auc.low < estimated.auc.estimate < matured.auc.high


def test_four_rows_by_hand(con: duckdb.DuckDBPyConnection) -> None:
    """Scores of scikit-learn's example: three of four pairs in order, DeLong's variance 1/8 + 1/8 halved."""
    load(con, [(0, -22, None), (0, -4, None), (1, -6, None), (1, 14, None)])
    (found,) = measure(con, "sample")
    assert found.auc is not None
    assert found.auc.estimate == 0.75
    # Placements of the events: ½ and 1; of the others: 1 and ½. Sample variances 1/8 each; (1/8)/2 + (1/8)/2 = 1/8.
    assert found.auc.low == pytest.approx(0.75 - 1.959963984540054 * math.sqrt(1 / 8), rel=1e-9)
    assert found.auc.high == 1.0
    # At the cut −0.4 lie half of the events and all of the others: the variance is ½ · ½ / 2 + 0, its root 0.354.
    assert found.ks == statistics.Interval(0.5, 0.0, 1.0)


def test_an_estimate_by_hand(con: duckdb.DuckDBPyConnection) -> None:
    """PDs p < q: an event beats a non-event with q(1−p) + ½(p(1−p) + q(1−q)) of (p+q)(2−p−q)."""
    load(con, [(0, -20, None), (0, 5, None)], labels=False)
    (found,) = estimate(con, "sample")
    p, q = pd_of(-20), pd_of(5)
    won = q * (1 - p) + (p * (1 - p) + q * (1 - q)) / 2
    assert found.estimated and found.events is None and found.slope is None and found.ece is None
    assert found.auc is not None
    close(found.auc.estimate, won / ((p + q) * (2 - p - q)))
    assert found.ks is not None
    close(found.ks.estimate, abs(p / (p + q) - (1 - p) / (2 - p - q)))
    close(found.brier.estimate, (p * (1 - p) + q * (1 - q)) / 2)
    assert [b.events for b in found.grades] == [None, None]


@settings(max_examples=40, deadline=None, phases=UNSHRUNK)
@given(labelled)
def test_an_estimate_is_what_weighted_rows_give(con: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    load(con, rows, labels=False)
    found = estimate(con, "sample")[0]
    p = np.array([pd_of(r[1]) for r in rows])
    twice = np.concatenate([p, p])
    y = np.repeat([1, 0], len(p))
    assert found.auc is not None
    close(found.auc.estimate, metrics.roc_auc_score(y, twice, sample_weight=np.concatenate([p, 1 - p])))
    close(found.brier.estimate, float(np.mean(p * (1 - p))))


def test_no_rows_are_no_figures(con: duckdb.DuckDBPyConnection) -> None:
    load(con, [])
    assert measure(con, "sample", ("part",)) == () == estimate(con, "sample")
