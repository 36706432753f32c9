"""Published numbers, and the properties that hold for any sample."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.config import REPOSITORY
from pipeline.monitoring import statistics

ORACLES = REPOSITORY.parent / "shared" / "data" / "oracles"


def test_auc_of_the_scikit_learn_example() -> None:
    assert statistics.auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75


def test_ties_count_one_half() -> None:
    assert statistics.auc([0, 1], [0.5, 0.5]) == 0.5


def test_one_class_has_no_auc_and_no_ks() -> None:
    for measure in (statistics.auc, statistics.ks):
        with pytest.raises(ValueError, match="one class"):
            measure([1, 1], [0.1, 0.2])


def test_paired_delong_of_the_asah_patients() -> None:
    path = ORACLES / "aSAH.csv"
    if not path.is_file():
        pytest.skip(f"the published data set {path} is not on this machine")
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    y = [int(r["outcome"] == "Poor") for r in rows]
    wfns = [float(r["wfns"]) for r in rows]
    s100b = [float(r["s100b"]) for r in rows]
    result = statistics.delong_test(y, wfns, s100b)
    assert result.z == pytest.approx(2.20898359144091, rel=1e-9)
    assert result.p_value == pytest.approx(0.0271757822291882, rel=1e-9)
    assert result.low == pytest.approx(0.0104061769564846, rel=1e-9)
    assert result.high == pytest.approx(0.174214419249478, rel=1e-9)
    assert result.first == statistics.auc(y, wfns)
    alone = statistics.delong_interval(y, wfns)
    assert alone.low < alone.estimate < alone.high <= 1


def test_a_score_compared_with_itself_is_no_better() -> None:
    y, score = [0, 1, 0, 1, 0], [0.1, 0.4, 0.3, 0.2, 0.25]
    result = statistics.delong_test(y, score, score)
    assert (result.difference, result.z, result.p_value, result.low, result.high) == (0, 0, 1, 0, 0)


def test_brier_of_the_scikit_learn_example() -> None:
    assert statistics.brier([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3]) == pytest.approx(0.0375, rel=1e-9)


def test_ece_of_the_worked_example() -> None:
    y, p = [0, 0, 1, 1, 1], [0.25, 0.25, 0.55, 0.75, 0.75]
    assert statistics.expected_calibration_error(y, p, bins=2) == pytest.approx(0.29, rel=1e-9)


def test_ks_of_separated_and_of_equal_classes() -> None:
    assert statistics.ks([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == 1.0
    assert statistics.ks([0, 1, 0, 1], [0.3, 0.3, 0.7, 0.7]) == 0.0
    assert statistics.ks([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4]) == 0.5


def test_intervals_by_hand() -> None:
    """KS: F₁ = 0.2 and F₀ = 0.8 at the cut, √(0.16 / 10 + 0.16 / 40) = 0.1414. Brier: squares of the errors by hand."""
    y = [1] * 10 + [0] * 40
    score = [0] * 2 + [1] * 8 + [0] * 32 + [1] * 8
    found = statistics.ks_interval(y, score)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.6, 0.322819, 0.877181), abs=1e-6)
    errors = [0.01, 0.01, 0.04, 0.09]
    spread = math.sqrt(np.var(errors, ddof=1) / 4) * 1.959964
    brier = statistics.brier_interval([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3])
    assert (brier.low, brier.high) == pytest.approx((0.0375 - spread, 0.0375 + spread), rel=1e-6)
    assert math.isnan(statistics.ks_interval([0, 1, 1], [0.1, 0.2, 0.3]).low)
    assert math.isnan(statistics.brier_interval([1], [0.3]).high)
    same = 0.16105159414601886
    rounded = statistics.mean_interval(3, 3 * same, math.nextafter(3 * same * same, 1))
    assert rounded.low == rounded.high == rounded.estimate, "values that are all the same, whatever sums make of them"


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Two normal distributions 1.2 apart have KS 2·Φ(0.6) − 1; a PD of its own logistic model has Brier E[p(1 − p)].

    That of KS knows nothing of the choice of its cut, and says so.
    """
    draw = np.random.default_rng(20260314)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    rate = 1 / (1 + np.exp(3 - nodes))
    truth = 2 * stats.norm.cdf(0.6) - 1, float((weights * rate * (1 - rate)).sum() / weights.sum())
    held = np.zeros(2)
    for _ in range(400):
        y = np.r_[np.ones(150), np.zeros(2_850)]
        ks = statistics.ks_interval(y, draw.normal(size=3_000) + 1.2 * y)
        p = 1 / (1 + np.exp(3 - draw.normal(size=3_000)))
        brier = statistics.brier_interval(draw.random(3_000) < p, p)
        held += [ks.low <= truth[0] <= ks.high, brier.low <= truth[1] <= brier.high]
    assert list(held / 400) == pytest.approx([0.90, 0.95], abs=0.03)


def test_calibration_recovers_a_known_distortion() -> None:
    rng = np.random.default_rng(7)
    truth = rng.normal(-2.0, 1.5, 200_000)
    y = (rng.random(len(truth)) < 1 / (1 + np.exp(-truth))).astype(int)
    fair = statistics.calibration(y, truth)
    assert fair.slope == pytest.approx(1.0, abs=0.02)
    assert fair.intercept == pytest.approx(0.0, abs=0.03)
    assert fair.ratio == pytest.approx(1.0, abs=0.02)
    stretched = statistics.calibration(y, 2.0 * truth + 1.0)
    assert stretched.slope == pytest.approx(0.5, abs=0.02)
    assert stretched.intercept == pytest.approx(-0.5, abs=0.03)


def test_calibration_of_a_constant_and_of_separated_classes_is_defined() -> None:
    flat = statistics.calibration([0, 1, 0, 0], [0.0, 0.0, 0.0, 0.0])
    assert math.isnan(flat.slope)
    assert flat.intercept == pytest.approx(math.log(0.25 / 0.75))
    assert math.isfinite(statistics.calibration([0, 0, 1, 1], [-2.0, -1.0, 1.0, 2.0]).slope)


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 5)), min_size=4, max_size=40).filter(
        lambda rows: len({y for y, _ in rows}) == 2
    )
)
def test_auc_counts_pairs(rows: list[tuple[int, int]]) -> None:
    events = [s for y, s in rows if y]
    others = [s for y, s in rows if not y]
    won = sum((e > o) + 0.5 * (e == o) for e in events for o in others)
    y, score = zip(*rows, strict=True)
    assert statistics.auc(y, score) == pytest.approx(won / (len(events) * len(others)), rel=1e-12)
    assert statistics.auc(y, [-s for s in score]) == pytest.approx(1 - statistics.auc(y, score), abs=1e-12)
