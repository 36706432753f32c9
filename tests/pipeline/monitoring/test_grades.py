"""Grades: the published p-values, the order of grades, and what is refused."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.config import REPOSITORY
from pipeline.monitoring import grades

TEST_DATA = REPOSITORY.parent / "shared" / "data" / "oracles" / "pd_test_data.csv"


def test_published_p_values_of_grade_a() -> None:
    """The digits published are seven; half a unit of the last one is all that may differ."""
    if not TEST_DATA.is_file():
        pytest.skip(f"the published data set {TEST_DATA} is not on this machine")
    with TEST_DATA.open(newline="", encoding="utf-8") as handle:
        rows = [r for r in csv.DictReader(handle) if r["ratings"] == "A"]
    n, events = len(rows), sum(int(r["default_flag"]) for r in rows)
    assert (n, events) == (406, 55)
    pd = float(np.mean([float(r["predicted_pd"]) for r in rows]))
    assert grades.jeffreys_p_value(n, events, pd) == pytest.approx(0.01995857, abs=5e-9)
    assert grades.binomial_p_value(n, events, pd) == pytest.approx(0.02389227, abs=5e-9)


@given(st.integers(1, 30), st.data(), st.floats(0.001, 0.999))
def test_binomial_by_its_definition_and_jeffreys_beside_it(n: int, data: st.DataObject, pd: float) -> None:
    events = data.draw(st.integers(0, n))
    tail = sum(math.comb(n, k) * pd**k * (1 - pd) ** (n - k) for k in range(events, n + 1))
    assert grades.binomial_p_value(n, events, pd) == pytest.approx(tail, rel=1e-9)
    # The exact binomial tail is Beta(D, N − D + 1) and lies above the Jeffreys value, which is Beta(D + ½, N − D + ½).
    assert grades.jeffreys_p_value(n, events, pd) <= grades.binomial_p_value(n, events, pd) + 1e-12


def test_jeffreys_interval_at_its_ends_and_between() -> None:
    none, every, some = (grades.jeffreys_interval(10, d) for d in (0, 10, 4))
    assert (none.estimate, none.low) == (0.0, 0.0)
    assert (every.estimate, every.high) == (1.0, 1.0)
    assert none.high == pytest.approx(1 - every.low, rel=1e-9)
    assert stats.beta.cdf(some.high, 4.5, 6.5) - stats.beta.cdf(some.low, 4.5, 6.5) == pytest.approx(0.95, rel=1e-9)


@pytest.mark.parametrize(("n", "events", "pd"), [(0, 0, 0.1), (5, 6, 0.1), (5, -1, 0.1), (5, 1, 1.1), (5, 1, math.nan)])
def test_impossible_counts_are_refused(n: int, events: int, pd: float) -> None:
    for measure in (grades.jeffreys_p_value, grades.binomial_p_value):
        with pytest.raises(ValueError, match=r"without rows|cannot be|not between"):
            measure(n, events, pd)


def test_rising_rates_are_in_order() -> None:
    found = grades.rank_ordering([1000, 1000, 0, 1000], [10, 20, 0, 60])
    assert found.monotone and not found.reversed and found.reversals == ()
    assert found.p_value < 1e-6


def test_a_reversal_counts_only_beyond_chance() -> None:
    chance = grades.rank_ordering([100, 100, 100], [2, 5, 4])
    assert not chance.monotone and not chance.reversed
    (pair,) = chance.reversals
    assert (pair.safer, pair.riskier) == (1, 2)
    assert pair.p_value == pytest.approx(stats.fisher_exact([[5, 95], [4, 96]], alternative="greater")[1])
    real = grades.rank_ordering([1000, 1000, 1000], [20, 100, 40])
    assert real.reversed and [(r.safer, r.riskier) for r in real.reversals if r.significant] == [(1, 2)]


def test_nothing_to_compare_is_no_trend() -> None:
    assert math.isnan(grades.rank_ordering([10, 0], [1, 0]).z)
    assert math.isnan(grades.rank_ordering([10, 10], [0, 0]).p_value)
    with pytest.raises(ValueError, match="at least one grade"):
        grades.rank_ordering([0, 0], [0, 0])
    with pytest.raises(ValueError, match="one count"):
        grades.rank_ordering([1, 2], [0])
    with pytest.raises(ValueError, match="3 events of 2"):
        grades.rank_ordering([2], [3])


counted = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(st.lists(counted, min_size=2, max_size=6))
def test_trend_is_the_correlation_of_outcome_and_position(rows: list[tuple[int, int]]) -> None:
    """Cochran-Armitage's z is √N times Pearson's correlation of the outcomes with the grades' positions."""
    n, events = zip(*rows, strict=True)
    found = grades.rank_ordering(n, events)
    y = [int(k < d) for size, d in rows for k in range(size)]
    t = [i for i, (size, _) in enumerate(rows) for _ in range(size)]
    if len(set(y)) == 2:
        assert found.z == pytest.approx(np.corrcoef(y, t)[0, 1] * math.sqrt(len(y)), rel=1e-9, abs=1e-9)
    mirrored = grades.rank_ordering(n[::-1], events[::-1])
    rates = [d / size for size, d in rows]
    assert found.monotone == (sorted(rates) == rates)
    if not math.isnan(found.z):
        assert mirrored.z == pytest.approx(-found.z, rel=1e-9, abs=1e-9)
