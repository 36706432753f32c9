"""Published numbers, and the properties that hold for any sample."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        edges = statistics.quantile_edges(x[:500, column])
        counts = [statistics.bin_counts(half, edges) for half in (x[:500, column], x[500:, column])]
        assert statistics.psi(*counts) == pytest.approx(value, rel=1e-9)


def test_psi_closed_form_and_disjoint_deciles() -> None:
    assert statistics.psi([0.5, 0.5], [0, 1]) == pytest.approx(4.60432, rel=1e-5)
    edges = statistics.quantile_edges(np.arange(500))
    disjoint = statistics.psi(
        statistics.bin_counts(np.arange(500), edges), statistics.bin_counts(np.arange(500, 1000), edges)
    )
    assert disjoint == pytest.approx(9 * (0.1 - 1e-4) * math.log(0.1 / 1e-4) + 0.9 * math.log(10), rel=1e-9)
    assert disjoint == pytest.approx(8.283089355027482, rel=1e-9)


def test_psi_critical_values() -> None:
    assert statistics.psi_critical_value(500, 500, 10, 0.001) == pytest.approx(0.11150865948502628, rel=1e-9)
    assert statistics.psi_critical_value(1000, 1500, 32, 0.05) == pytest.approx(0.07497557213394188, rel=1e-9)


def test_missing_values_have_their_own_bin() -> None:
    baseline = np.arange(100.0)
    edges = statistics.quantile_edges(baseline)
    current = baseline.copy()
    current[:40] = np.nan
    assert statistics.bin_counts(current, edges)[-1] == 40
    assert statistics.psi(statistics.bin_counts(baseline, edges), statistics.bin_counts(current, edges)) > 1


def test_a_single_value_makes_one_bin() -> None:
    edges = statistics.quantile_edges([3.0] * 10)
    assert statistics.psi(statistics.bin_counts([3.0] * 10, edges), statistics.bin_counts([3.0] * 4, edges)) == 0.0


def test_psi_refuses_an_empty_side() -> None:
    with pytest.raises(ValueError, match="both sides"):
        statistics.psi([1, 2], [0, 0])


counts = st.lists(st.integers(0, 1000), min_size=2, max_size=12)


@given(st.data())
def test_psi_is_a_symmetric_distance(data: st.DataObject) -> None:
    a = data.draw(counts.filter(any))
    b = data.draw(st.lists(st.integers(0, 1000), min_size=len(a), max_size=len(a)).filter(any))
    order = data.draw(st.permutations(range(len(a))))
    value = statistics.psi(a, b)
    assert value >= 0
    assert value == pytest.approx(statistics.psi(b, a), rel=1e-9, abs=1e-12)
    assert value == pytest.approx(statistics.psi([a[i] for i in order], [b[i] for i in order]), rel=1e-9, abs=1e-12)
    assert statistics.psi(a, a) == 0
    # Shares under the floor are raised to it, so only differences above the floor must show.
    if np.abs(np.array(a) / sum(a) - np.array(b) / sum(b)).max() > statistics.SHARE_FLOOR:
        assert value > 0


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
