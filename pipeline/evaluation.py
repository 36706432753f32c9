"""How good a model is on rows it never saw, and whether that is good enough: measures, then checks over them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import booster as native
from pipeline.monitoring import stability, statistics
from pipeline.monitoring.interval import Interval
from pipeline.monitoring.statistics import AucComparison, Calibration

Floats = NDArray[np.float64]

# What a first model must reach, and how much worse than the incumbent a candidate may be, unless the portfolio says.
# calibration: distance of observed over expected from 1. psi: of the score, training rows against holdout.
FLOORS: Mapping[str, float] = {"auc": 0.65, "ks": 0.20, "calibration": 0.25, "psi": 0.25}
TOLERANCES: Mapping[str, float] = {"auc": 0.005, "ks": 0.02, "calibration": 0.05, "psi": 0.05}


@dataclass(frozen=True)
class Evaluation:
    """A model on the holdout. ``psi`` compares its scores there with those on its training rows."""

    rows: int
    events: int
    auc: Interval
    ks: float
    brier: float
    ece: float
    calibration: Calibration
    psi: float

    @property
    def miscalibration(self) -> float:
        """How far observed over expected events is from 1."""
        return abs(self.calibration.ratio - 1)

    def metrics(self) -> dict[str, float]:
        """Flat and finite, as the ledger and MLflow keep them."""
        found = {
            "holdout_rows": float(self.rows),
            "holdout_events": float(self.events),
            "auc": self.auc.estimate,
            "auc_low": self.auc.low,
            "auc_high": self.auc.high,
            "gini": 2 * self.auc.estimate - 1,
            "ks": self.ks,
            "brier": self.brier,
            "ece": self.ece,
            "calibration_slope": self.calibration.slope,
            "calibration_intercept": self.calibration.intercept,
            "observed_rate": self.calibration.observed,
            "expected_rate": self.calibration.expected,
            "observed_over_expected": self.calibration.ratio,
            "psi": self.psi,
        }
        return {name: float(value) for name, value in found.items() if math.isfinite(value)}


@dataclass(frozen=True)
class Check:
    """One line of the gate: what was looked at, what was seen, what was asked for."""

    check: str
    passed: bool
    observed: float
    bound: str

    def record(self) -> dict[str, Any]:
        return {"check": self.check, "passed": self.passed, "observed": self.observed, "bound": self.bound}


def evaluate(y: NDArray[np.int8], log_odds: Floats, training_log_odds: Floats) -> Evaluation:
    """Measure a model on the holdout's labels and log-odds. Raises ValueError unless each class has two rows."""
    pd = native.probability(log_odds)
    edges = stability.quantile_edges(training_log_odds)
    return Evaluation(
        rows=len(y),
        events=int(y.sum()),
        auc=statistics.delong_interval(y, log_odds),
        ks=statistics.ks(y, log_odds),
        brier=statistics.brier(y, pd),
        ece=statistics.expected_calibration_error(y, pd),
        calibration=statistics.calibration(y, log_odds),
        psi=stability.psi(stability.bin_counts(training_log_odds, edges), stability.bin_counts(log_odds, edges)),
    )


def first_model_checks(candidate: Evaluation, floors: Mapping[str, float]) -> tuple[Check, ...]:
    """A model without an incumbent must reach fixed floors.

    Calibration allows for chance: the event count of a perfectly calibrated model is off by √((1 − rate) / events) of
    itself in one standard error, so 1.96 of those are added to the floor.
    """
    bound = {**FLOORS, **floors}
    chance = 1.96 * math.sqrt((1 - candidate.calibration.observed) / candidate.events)
    return (
        Check("auc", candidate.auc.estimate >= bound["auc"], candidate.auc.estimate, f"at least {bound['auc']:.3f}"),
        Check("ks", candidate.ks >= bound["ks"], candidate.ks, f"at least {bound['ks']:.3f}"),
        Check(
            "calibration",
            candidate.miscalibration <= bound["calibration"] + chance,
            candidate.calibration.ratio,
            f"observed over expected within {bound['calibration']:.3f} of 1, and {chance:.3f} for chance",
        ),
        Check("stability", candidate.psi <= bound["psi"], candidate.psi, f"PSI at most {bound['psi']:.3f}"),
    )


def challenger_checks(
    candidate: Evaluation, incumbent: Evaluation, auc: AucComparison, tolerances: Mapping[str, float]
) -> tuple[Check, ...]:
    """A candidate against the incumbent, both on the same holdout rows.

    auc is DeLong's paired comparison, candidate minus incumbent: the candidate must rank better, or be shown at 95%
    not to rank worse by more than the tolerance. On the other measures it may be worse by the tolerance.
    """
    allowed = {**TOLERANCES, **tolerances}
    return (
        Check(
            "auc",
            auc.difference > 0 or auc.low > -allowed["auc"],
            auc.difference,
            f"difference above 0, or its lower 95% limit ({auc.low:+.4f}) above {-allowed['auc']:.4f}",
        ),
        Check(
            "ks",
            candidate.ks >= incumbent.ks - allowed["ks"],
            candidate.ks,
            f"at least {incumbent.ks - allowed['ks']:.3f} (incumbent {incumbent.ks:.3f})",
        ),
        Check(
            "calibration",
            candidate.miscalibration <= incumbent.miscalibration + allowed["calibration"],
            candidate.calibration.ratio,
            f"observed over expected within {incumbent.miscalibration + allowed['calibration']:.3f} of 1 "
            f"(incumbent {incumbent.calibration.ratio:.3f})",
        ),
        Check(
            "stability",
            candidate.psi <= incumbent.psi + allowed["psi"],
            candidate.psi,
            f"PSI at most {incumbent.psi + allowed['psi']:.3f} (incumbent {incumbent.psi:.3f})",
        ),
    )
