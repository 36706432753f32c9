"""The gate as a table: each measure that is not good enough fails its own line, and only that one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.evaluation import Check, Evaluation, challenger_checks, evaluate, first_model_checks
from pipeline.monitoring.interval import Interval
from pipeline.monitoring.statistics import AucComparison, Calibration

GOOD = Evaluation(
    rows=10_000,
    events=500,
    auc=Interval(0.78, 0.76, 0.80),
    ks=0.42,
    brier=0.04,
    ece=0.005,
    calibration=Calibration(1.0, 0.0, 0.05, 0.05),
    psi=0.02,
)
FLOORS = {"auc": 0.72, "ks": 0.30, "calibration": 0.20, "psi": 0.25}
TOLERANCES = {"auc": 0.005, "ks": 0.02, "calibration": 0.05, "psi": 0.05}


def failed(checks: tuple[Check, ...]) -> list[str]:
    return [c.check for c in checks if not c.passed]


def observed(rate: float) -> Calibration:
    return Calibration(1.0, 0.0, rate, 0.05)


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({}, []),
        ({"auc": Interval(0.72, 0.70, 0.74)}, []),
        ({"auc": Interval(0.7199, 0.70, 0.74)}, ["auc"]),
        ({"ks": 0.29}, ["ks"]),
        ({"calibration": observed(0.063)}, []),  # 26% too many: 20% allowed, 8.5% chance at 500 events
        ({"calibration": observed(0.066)}, ["calibration"]),
        ({"calibration": observed(0.034)}, ["calibration"]),
        ({"psi": 0.26}, ["stability"]),
        ({"auc": Interval(0.6, 0.5, 0.7), "ks": 0.1, "psi": 1.0}, ["auc", "ks", "stability"]),
    ],
)
def test_a_first_model_is_held_to_the_floors(change: dict[str, object], lines: list[str]) -> None:
    assert failed(first_model_checks(replace(GOOD, **change), FLOORS)) == lines  # type: ignore[arg-type]


def test_floors_that_a_portfolio_does_not_name_have_a_default() -> None:
    assert failed(first_model_checks(replace(GOOD, psi=0.9), {})) == ["stability"]


def compared(difference: float, low: float) -> AucComparison:
    return AucComparison(0.78 + difference, 0.78, difference, low, 2 * difference - low, 0.0, 1.0)


@pytest.mark.parametrize(
    ("auc", "change", "lines"),
    [
        (compared(0.01, 0.002), {}, []),
        (compared(0.001, -0.02), {}, []),  # ranks better, though not surely
        (compared(-0.001, -0.004), {}, []),  # shown not to be worse by the tolerance
        (compared(-0.001, -0.006), {}, ["auc"]),
        (compared(0.0, -0.02), {}, ["auc"]),
        (compared(0.01, 0.002), {"ks": 0.401}, []),
        (compared(0.01, 0.002), {"ks": 0.399}, ["ks"]),
        (compared(0.01, 0.002), {"calibration": observed(0.0524)}, []),
        (compared(0.01, 0.002), {"calibration": observed(0.0526)}, ["calibration"]),
        (compared(0.01, 0.002), {"calibration": observed(0.047)}, ["calibration"]),
        (compared(0.01, 0.002), {"psi": 0.08}, ["stability"]),
    ],
)
def test_a_challenger_is_held_to_the_incumbent(auc: AucComparison, change: dict[str, object], lines: list[str]) -> None:
    candidate = replace(GOOD, **change)  # type: ignore[arg-type]
    assert failed(challenger_checks(candidate, GOOD, auc, TOLERANCES)) == lines


def test_better_calibration_than_the_incumbent_is_never_a_fault() -> None:
    poor = replace(GOOD, calibration=observed(0.10))
    assert failed(challenger_checks(GOOD, poor, compared(0.01, 0.0), TOLERANCES)) == []
    assert failed(challenger_checks(poor, GOOD, compared(0.01, 0.0), TOLERANCES)) == ["calibration"]


def test_evaluate_measures_what_it_is_given() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(-2, 1, 20_000)
    y = (rng.random(len(truth)) < 1 / (1 + np.exp(-truth))).astype(np.int8)
    found = evaluate(y[:10_000], truth[:10_000], truth[10_000:])
    metrics = found.metrics()
    assert metrics["auc_low"] < metrics["auc"] < metrics["auc_high"]
    assert metrics["gini"] == pytest.approx(2 * metrics["auc"] - 1)
    assert metrics["observed_over_expected"] == pytest.approx(1, abs=0.06)
    assert metrics["psi"] < 0.01
    assert all(type(v) is float and math.isfinite(v) for v in metrics.values())
    shifted = evaluate(y[:10_000], truth[:10_000] + 1, truth[10_000:])
    assert shifted.auc == found.auc
    assert shifted.psi > 0.25


def test_a_constant_score_has_no_slope_among_its_metrics() -> None:
    y = np.array([0, 1, 0, 1, 0, 0], dtype=np.int8)
    assert "calibration_slope" not in evaluate(y, np.zeros(6), np.zeros(6)).metrics()
