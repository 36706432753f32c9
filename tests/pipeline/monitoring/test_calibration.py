"""Hosmer and Lemeshow by hand and under a true model; the reliability curve and its intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.monitoring import statistics
from pipeline.monitoring.calibration import (
    DEVELOPMENT,
    hosmer_lemeshow,
    hosmer_lemeshow_of_groups,
    reliability_curve,
    wilson_interval,
)

rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=1, max_size=60)


def test_two_groups_by_hand() -> None:
    """PD 0.1 and 0.5, ten rows each, 2 and 6 events: (2−1)²/0.9 + (6−5)²/2.5."""
    y, p = [1] * 2 + [0] * 8 + [1] * 6 + [0] * 4, [0.1] * 10 + [0.5] * 10
    found = hosmer_lemeshow(y, p, groups=2)
    assert found.statistic == pytest.approx(1 / 0.9 + 1 / 2.5, rel=1e-12)
    assert (found.degrees_of_freedom, found.sample, found.groups) == (2, "out_of_sample", 2)
    assert found.p_value == pytest.approx(math.exp(-found.statistic / 2), rel=1e-12)


def test_degrees_of_freedom_say_which_sample() -> None:
    rng = np.random.default_rng(3)
    p = rng.uniform(0.05, 0.6, 1_000)
    y = (rng.random(1_000) < p).astype(int)
    seen, unseen = hosmer_lemeshow(y, p, sample=DEVELOPMENT), hosmer_lemeshow(y, p)
    assert (seen.degrees_of_freedom, unseen.degrees_of_freedom) == (8, 10)
    assert seen.statistic == unseen.statistic
    assert seen.p_value == pytest.approx(stats.chi2.sf(seen.statistic, 8), rel=1e-12)


def test_a_true_model_is_rejected_as_often_as_it_should_be() -> None:
    rng = np.random.default_rng(5)
    p = rng.uniform(0.05, 0.6, 2_000)
    rejected = [hosmer_lemeshow(rng.random(len(p)) < p, p).p_value < 0.05 for _ in range(600)]
    # Binomial(600, 0.05) lies in 14..47 with all but one in ten thousand.
    assert 14 <= sum(rejected) <= 47


def test_certain_groups_are_right_or_infinitely_wrong() -> None:
    assert hosmer_lemeshow_of_groups([5, 5], [0, 5], [0.0, 5.0]).statistic == 0
    assert hosmer_lemeshow_of_groups([5, 5], [1, 5], [0.0, 5.0]).p_value == 0


def test_what_cannot_be_tested() -> None:
    for n, sample, says in (
        ([], "out_of_sample", "groups with rows"),
        ([0], "out_of_sample", "groups with rows"),
        ([3, 3], "development", "no degree"),
        ([3], "holdout", "'holdout'"),
    ):
        with pytest.raises(ValueError, match=says):
            hosmer_lemeshow_of_groups(n, [0] * len(n), [1.0] * len(n), sample)
    for y, p, says in (
        ([], [], "not empty"),
        ([1], [math.nan], "NaN"),
        ([2], [0.5], "0 or 1"),
        ([1], [1.5], "not between"),
    ):
        with pytest.raises(ValueError, match=says):
            hosmer_lemeshow(y, p)
        with pytest.raises(ValueError, match=says):
            reliability_curve(y, p)


@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_rows_and_ties_change_nothing(sample: list[tuple[int, int]], random_: object) -> None:
    y, p = np.array([a for a, _ in sample]), np.array([b / 20 for _, b in sample])
    order = list(range(len(sample)))
    random_.shuffle(order)  # type: ignore[attr-defined]
    one, other = hosmer_lemeshow(y, p), hosmer_lemeshow(y[order], p[order])
    assert one.groups == other.groups <= len(set(p))
    assert one.statistic == pytest.approx(other.statistic, rel=1e-9, abs=1e-9)


@given(rows)
def test_the_curve_adds_up_to_the_calibration_error(sample: list[tuple[int, int]]) -> None:
    y, p = [a for a, _ in sample], [b / 20 for _, b in sample]
    curve = reliability_curve(y, p)
    assert sum(b.n for b in curve) == len(y) and sum(b.events for b in curve) == sum(y)
    error = sum(b.n * abs(b.observed.estimate - b.mean_pd) for b in curve) / len(y)
    assert error == pytest.approx(statistics.expected_calibration_error(y, p), rel=1e-9, abs=1e-12)
    for method in ("jeffreys", "wilson"):
        for b in reliability_curve(y, p, method=method):
            assert 0 <= b.observed.low <= b.observed.estimate <= b.observed.high <= 1


def test_wilson_by_its_formula() -> None:
    z, n, share = stats.norm.ppf(0.975), 20, 0.25
    centre, half = share + z * z / 40, z * math.sqrt(share * 0.75 / n + z * z / (4 * n * n))
    found = wilson_interval(n, 5)
    assert found.low == pytest.approx((centre - half) / (1 + z * z / n), rel=1e-9)
    assert found.high == pytest.approx((centre + half) / (1 + z * z / n), rel=1e-9)
    with pytest.raises(ValueError, match="'normal'"):
        reliability_curve([1], [0.5], method="normal")


def test_gini_is_twice_the_area_less_one() -> None:
    y, score = [0, 0, 1, 1, 0, 1], [0.1, 0.4, 0.35, 0.8, 0.2, 0.9]
    area, gini = statistics.delong_interval(y, score), statistics.gini_interval(y, score)
    assert (gini.estimate, gini.low, gini.high) == tuple(2 * v - 1 for v in (area.estimate, area.low, area.high))
    assert gini.estimate == pytest.approx(stats.somersd(y, score).statistic, rel=1e-9)


def test_a_slope_is_found_where_newton_alone_steps_to_and_fro() -> None:
    """Three rows, one event between: the summit is where both score equations are nought."""
    y, z = np.array([0, 0, 1]), np.array([0.0, -2.3, -2.2])
    found = statistics.calibration(y, z)
    left = y - 1 / (1 + np.exp(-(found.intercept + found.slope * z)))
    assert left.sum() == pytest.approx(0, abs=1e-9)
    assert (left * z).sum() == pytest.approx(0, abs=1e-9)
