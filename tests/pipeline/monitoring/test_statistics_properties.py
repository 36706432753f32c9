"""What holds for any sample: row order says nothing, ties are fair, and what has no answer is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.monitoring import statistics
from pipeline.monitoring.statistics import calibration, delong_interval, gini_interval

Measure = Callable[[Sequence[float], Sequence[float]], object]

TWO_CLASSES: tuple[Measure, ...] = (statistics.auc, statistics.ks, delong_interval, gini_interval, calibration)
ANY_SAMPLE: tuple[Measure, ...] = (statistics.brier, statistics.expected_calibration_error)

sample = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=4, max_size=50)
both = sample.filter(lambda rows: 2 <= sum(y for y, _ in rows) <= len(rows) - 2)


def apart(rows: list[tuple[int, int]]) -> tuple[list[int], list[float]]:
    return [y for y, _ in rows], [s / 20 for _, s in rows]


@given(both, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows: list[tuple[int, int]], random_: object) -> None:
    shuffled = list(rows)
    random_.shuffle(shuffled)  # type: ignore[attr-defined]
    for measure in (statistics.auc, statistics.ks, statistics.brier, statistics.expected_calibration_error):
        assert measure(*apart(rows)) == pytest.approx(measure(*apart(shuffled)), rel=1e-9, abs=1e-12)
    one, other = gini_interval(*apart(rows)), gini_interval(*apart(shuffled))
    assert (one.estimate, one.low, one.high) == pytest.approx((other.estimate, other.low, other.high), abs=1e-9)


@given(both)
def test_any_rising_map_of_the_score_keeps_ranks(rows: list[tuple[int, int]]) -> None:
    y, score = apart(rows)
    stretched = [math.exp(3 * s) for s in score]
    assert statistics.auc(y, stretched) == pytest.approx(statistics.auc(y, score), rel=1e-12)
    assert statistics.ks(y, stretched) == pytest.approx(statistics.ks(y, score), rel=1e-12)


@given(both)
def test_all_tied_is_no_discrimination(rows: list[tuple[int, int]]) -> None:
    y, score = apart([(label, 7) for label, _ in rows])
    assert (statistics.auc(y, score), statistics.ks(y, score), gini_interval(y, score).estimate) == (0.5, 0.0, 0.0)


@given(sample)
def test_slope_and_intercept_solve_the_score_equations(rows: list[tuple[int, int]]) -> None:
    y, z = (np.array(part, dtype=float) for part in apart(rows))
    mixed = len(set(y)) == 2 and np.ptp(z) > 0
    if not (mixed and z[y == 1].min() < z[y == 0].max() and z[y == 0].min() < z[y == 1].max()):
        return
    found = calibration(y, z)
    left = y - 1 / (1 + np.exp(-(found.intercept + found.slope * z)))
    assert (left.sum(), (left * z).sum()) == pytest.approx((0, 0), abs=1e-6)


@pytest.mark.parametrize("measure", TWO_CLASSES)
@pytest.mark.parametrize("y", [[0, 0, 0, 0], [1, 1, 1, 1]])
def test_one_class_is_refused(measure: Measure, y: list[int]) -> None:
    with pytest.raises(ValueError, match="one class"):
        measure(y, [0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("measure", TWO_CLASSES + ANY_SAMPLE)
def test_nan_and_an_empty_sample_are_refused_by_name(measure: Measure) -> None:
    with pytest.raises(ValueError, match="NaN"):
        measure([0, 1, 0, 1], [0.1, math.nan, 0.3, 0.4])
    with pytest.raises(ValueError, match="not empty"):
        measure([], [])
    with pytest.raises(ValueError, match="0 or 1"):
        measure([0, math.nan, 0, 1], [0.1, 0.2, 0.3, 0.4])
    with pytest.raises(ValueError, match="same length"):
        measure([0, 1, 0, 1], [0.1, 0.2])


@pytest.mark.parametrize("value", [-0.1, 1.1, math.inf, -math.inf])
@pytest.mark.parametrize("measure", ANY_SAMPLE)
def test_what_is_no_probability_is_refused(measure: Measure, value: float) -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        measure([0, 1, 0, 1], [0.1, value, 0.3, 0.4])


def test_infinite_log_odds_have_no_slope() -> None:
    for value in (math.inf, -math.inf):
        with pytest.raises(ValueError, match="infinite"):
            calibration([0, 1, 0, 1], [0.1, value, 0.3, 0.4])
