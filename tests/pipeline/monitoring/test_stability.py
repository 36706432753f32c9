"""Distances between distributions: published numbers, closed forms, and what holds for any counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.monitoring import stability


def test_psi_of_the_feature_engine_frame() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    x, _ = datasets.make_classification(
        n_samples=1000,
        n_features=6,
        n_redundant=2,
        n_clusters_per_class=1,
        weights=[0.50],
        class_sep=2,
        random_state=1,
    )
    expected = [
        0.043828484052281,
        0.040929870747665395,
        0.04330418495156895,
        0.03773286532548153,
        0.05047388515663041,
    ]
    for column, value in enumerate(expected):
        edges = stability.quantile_edges(x[:500, column])
        counts = [stability.bin_counts(half, edges) for half in (x[:500, column], x[500:, column])]
        assert stability.psi(*counts) == pytest.approx(value, rel=1e-9)


def test_psi_closed_form_and_disjoint_deciles() -> None:
    assert stability.psi([0.5, 0.5], [0, 1]) == pytest.approx(4.60432, rel=1e-5)
    edges = stability.quantile_edges(np.arange(500))
    disjoint = stability.psi(
        stability.bin_counts(np.arange(500), edges), stability.bin_counts(np.arange(500, 1000), edges)
    )
    assert disjoint == pytest.approx(9 * (0.1 - 1e-4) * math.log(0.1 / 1e-4) + 0.9 * math.log(10), rel=1e-9)
    assert disjoint == pytest.approx(8.283089355027482, rel=1e-9)


def test_psi_critical_values() -> None:
    assert stability.psi_critical_value(500, 500, 10, 0.001) == pytest.approx(0.11150865948502628, rel=1e-9)
    assert stability.psi_critical_value(1000, 1500, 32, 0.05) == pytest.approx(0.07497557213394188, rel=1e-9)


def test_missing_values_have_their_own_bin() -> None:
    baseline = np.arange(100.0)
    edges = stability.quantile_edges(baseline)
    current = baseline.copy()
    current[:40] = np.nan
    assert stability.bin_counts(current, edges)[-1] == 40
    assert stability.psi(stability.bin_counts(baseline, edges), stability.bin_counts(current, edges)) > 1


def test_a_single_value_makes_one_bin() -> None:
    edges = stability.quantile_edges([3.0] * 10)
    assert stability.psi(stability.bin_counts([3.0] * 10, edges), stability.bin_counts([3.0] * 4, edges)) == 0.0


def test_psi_refuses_an_empty_side() -> None:
    with pytest.raises(ValueError, match="both sides"):
        stability.psi([1, 2], [0, 0])


counts = st.lists(st.integers(0, 1000), min_size=2, max_size=12)


@given(st.data())
def test_psi_is_a_symmetric_distance(data: st.DataObject) -> None:
    a = data.draw(counts.filter(any))
    b = data.draw(st.lists(st.integers(0, 1000), min_size=len(a), max_size=len(a)).filter(any))
    order = data.draw(st.permutations(range(len(a))))
    value = stability.psi(a, b)
    assert value >= 0
    assert value == pytest.approx(stability.psi(b, a), rel=1e-9, abs=1e-12)
    assert value == pytest.approx(stability.psi([a[i] for i in order], [b[i] for i in order]), rel=1e-9, abs=1e-12)
    assert stability.psi(a, a) == 0
    # Shares under the floor are raised to it, so only differences above the floor must show.
    if np.abs(np.array(a) / sum(a) - np.array(b) / sum(b)).max() > stability.SHARE_FLOOR:
        assert value > 0


@given(counts.filter(any), st.data())
def test_a_judged_psi_is_the_same_psi_with_its_chance(a: list[int], data: st.DataObject) -> None:
    b = data.draw(st.lists(st.integers(0, 1000), min_size=len(a), max_size=len(a)).filter(any))
    found = stability.judged_psi(a, b, alpha=0.05)
    assert found.value == stability.psi(a, b)
    assert found.bins == sum(1 for x, y in zip(a, b, strict=True) if x or y)
    tested = stability.tested_bins(a, b)
    assert [side.sum() for side in tested] == [sum(a), sum(b)]
    if len(tested[0]) > 1:
        critical = stability.psi_critical_value(sum(a), sum(b), len(tested[0]))
        assert found.critical == pytest.approx(critical, rel=1e-12)
        value = stability.psi(*tested)
        assert found.significant == (found.p_value < 0.05) == (value > critical) or value == pytest.approx(critical)
    else:
        assert (found.critical, found.significant) == (0.0, False)
    if found.bins == 1:
        assert found.value == 0.0


def test_an_emptied_bin_is_floored_and_says_so() -> None:
    assert stability.judged_psi([50, 50], [0, 100]).floored
    assert not stability.judged_psi([50, 50, 0], [40, 60, 0]).floored


def test_without_drift_one_night_in_twenty_is_significant_at_five_percent() -> None:
    """40,000 nights drawn from the baseline's own population: the rate's standard error is a tenth of a point."""
    rng = np.random.default_rng(20260314)
    shares = np.array([0.1] * 8 + [0.15, 0.05])
    nights, rows = 40_000, 5_000
    baseline = rng.multinomial(8_000, shares, size=nights)
    current = rng.multinomial(rows, shares, size=nights)
    alarms = sum(stability.judged_psi(e, a, alpha=0.05).significant for e, a in zip(baseline, current, strict=True))
    assert alarms / nights == pytest.approx(0.05, abs=0.005)


_ZIPF = 1 / np.arange(1, 31)


@pytest.mark.parametrize(
    ("shares", "rows"),
    [
        (np.array([0.098] * 10 + [0.02]), 120),
        (_ZIPF / _ZIPF.sum(), 120),
        (_ZIPF / _ZIPF.sum(), 1_000),
        (np.array([0.9, 0.03, 0.02, 0.02, 0.01, 0.01, 0.005, 0.005]), 200),
        (np.array([0.99, 0.01]), 120),
    ],
    ids=["deciles and few missing", "a code", "a code, more rows", "mostly zero", "a rare flag"],
)
def test_rare_bins_and_few_rows_raise_no_false_alarms(shares: np.ndarray, rows: int) -> None:
    """χ² is near enough where rare bins are put together: without that, up to 69 nights of 100 were significant."""
    rng = np.random.default_rng(20260314)
    nights = 4_000
    baseline, current = rng.multinomial(8_000, shares, size=nights), rng.multinomial(rows, shares, size=nights)
    p_values = np.array([stability.judged_psi(e, a).p_value for e, a in zip(baseline, current, strict=True)])
    assert (p_values < 0.05).mean() < 0.10
    assert (p_values < 0.001).mean() < 0.005


def test_what_fills_up_tonight_is_tested_by_itself() -> None:
    """However rare it was: a constant that moves, a category never seen, a feature that is missing tonight."""
    for before, tonight in (([8000, 0], [0, 120]), ([4000, 4000, 0], [54, 54, 12]), ([8000, 2], [60, 60])):
        assert stability.judged_psi(before, tonight).p_value < 1e-6
    assert stability.judged_psi([8000, 1], [119, 1]).p_value == 1.0, "a single row is chance"


@given(counts.filter(any), st.data())
def test_jensen_shannon_lies_between_equal_and_disjoint(a: list[int], data: st.DataObject) -> None:
    b = data.draw(st.lists(st.integers(0, 1000), min_size=len(a), max_size=len(a)).filter(any))
    value = stability.jensen_shannon(a, b)
    assert 0 <= value <= 1
    assert value == pytest.approx(stability.jensen_shannon(b, a), abs=1e-12)
    assert stability.jensen_shannon(a, a) == pytest.approx(0, abs=1e-15)
    from scipy.spatial.distance import jensenshannon

    assert value == pytest.approx(jensenshannon(a, b, base=2) ** 2, abs=1e-9)


def test_disjoint_shares_are_one_bit_apart() -> None:
    assert stability.jensen_shannon([5, 0], [0, 9]) == 1.0


def test_wasserstein_is_how_far_everything_was_carried() -> None:
    assert stability.wasserstein([0, 1, 2], [5, 6, 7]) == pytest.approx(5.0)
    assert stability.wasserstein([0.0, math.nan], [0.0]) == 0.0
    with pytest.raises(ValueError, match="both sides"):
        stability.wasserstein([math.nan], [1.0])


def test_binned_wasserstein_comes_near_the_samples_own() -> None:
    rng = np.random.default_rng(3)
    baseline, current = rng.normal(0, 1, 40_000), rng.normal(0.2, 1, 40_000)
    edges = np.quantile(baseline, np.arange(1, 200) / 200)
    inner = [np.bincount(np.searchsorted(edges, side), minlength=len(edges) + 1) for side in (baseline, current)]
    assert stability.binned_wasserstein(*inner, edges) == pytest.approx(
        stats.wasserstein_distance(baseline, current), rel=0.05
    )
    assert math.isnan(stability.binned_wasserstein([1, 2], [2, 1], [0.0])), "a flag has no length"


def test_characteristic_stability_is_the_points_that_the_shift_costs() -> None:
    assert stability.characteristic_stability([50, 50], [40, 60], [10.0, 30.0]) == pytest.approx(2.0)
    assert stability.characteristic_stability([50, 50], [500, 500], [10.0, 30.0]) == 0.0
    mean_before, mean_after = 0.5 * 10 + 0.5 * 30, 0.4 * 10 + 0.6 * 30
    assert mean_after - mean_before == pytest.approx(2.0)
