"""Discrimination and calibration of a scored sample, as pure functions of arrays.

Every function takes ``y`` (0 or 1, 1 is the event) and ``p`` or ``score`` (higher is riskier), one entry a row,
and does not depend on the order of the rows beyond the last bits of a float sum. Samples that hold one class only
have no AUC and no KS: these raise ValueError, and the caller says what that means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pipeline.monitoring.interval import Interval

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AucComparison:
    """Two scores of the same rows. ``difference`` is first minus second; ``p_value`` is two-sided."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    z: float
    p_value: float


@dataclass(frozen=True)
class Calibration:
    """Cox's recalibration: logit P(y) = intercept + slope · logit(p). Perfect is slope 1, intercept 0.

    observed and expected are rates; ``ratio`` is observed over expected.
    """

    slope: float
    intercept: float
    observed: float
    expected: float

    @property
    def ratio(self) -> float:
        return self.observed / self.expected


def auc(y: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve: P(score of an event > score of a non-event), ties counting one half.

    Computed from mid-ranks (Mann and Whitney 1947). Raises ValueError unless both classes are present.
    """
    events, others = _split(y, score)
    ranks = stats.rankdata(np.concatenate([events, others]))
    m, n = len(events), len(others)
    return float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))


def delong_interval(y: ArrayLike, score: ArrayLike, level: float = 0.95) -> Interval:
    """AUC with DeLong's confidence interval, cut to [0, 1].

    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837-845; computed by mid-ranks after Sun and Xu,
    IEEE Signal Processing Letters 21 (2014) 1389-1393.
    """
    areas, covariance = _delong(y, [score])
    half = two_sided(level) * float(np.sqrt(covariance[0, 0]))
    return Interval(float(areas[0]), max(0.0, float(areas[0]) - half), min(1.0, float(areas[0]) + half))


def gini_interval(y: ArrayLike, score: ArrayLike, level: float = 0.95) -> Interval:
    """Gini (accuracy ratio, Somers' D) = 2 · AUC − 1, with the limits of DeLong's interval under the same map."""
    area = delong_interval(y, score, level)
    return Interval(2 * area.estimate - 1, 2 * area.low - 1, 2 * area.high - 1)


def delong_test(y: ArrayLike, first: ArrayLike, second: ArrayLike, level: float = 0.95) -> AucComparison:
    """DeLong's paired test of two scores on the same rows (sources as for ``delong_interval``).

    Scores that rank all pairs alike have no variance of their difference: z is 0, p is 1 and the interval is the
    difference itself.
    """
    areas, covariance = _delong(y, [first, second])
    difference = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = float(np.sqrt(max(variance, 0.0)))
    half = two_sided(level) * error
    z = difference / error if error > 0 else 0.0
    return AucComparison(
        first=float(areas[0]),
        second=float(areas[1]),
        difference=difference,
        low=difference - half,
        high=difference + half,
        z=z,
        p_value=float(2 * stats.norm.sf(abs(z))),
    )


def ks(y: ArrayLike, score: ArrayLike) -> float:
    """Kolmogorov-Smirnov: the largest gap between the score distributions of events and non-events, in [0, 1]."""
    return ks_interval(y, score).estimate


def ks_interval(y: ArrayLike, score: ArrayLike, level: float = 0.95) -> Interval:
    """KS with its interval, as ``ks_at_cut`` has it for the cut where the gap is largest."""
    events, others = _split(y, score)
    at = np.unique(np.concatenate([events, others]))
    caught = np.searchsorted(np.sort(events), at, side="right")
    taken = np.searchsorted(np.sort(others), at, side="right")
    gap = np.abs(caught * len(others) - taken * len(events))  # whole numbers: equal gaps are equal
    cut = np.flatnonzero(gap == gap.max())[-1]
    return ks_at_cut(len(events), len(others), int(caught[cut]), int(taken[cut]), level)


def ks_at_cut(events: int, others: int, events_to: int, others_to: int, level: float = 0.95) -> Interval:
    """|F₁ − F₀| of events and others up to a cut, with normal limits; NaN limits under two rows of a class.

    At a given cut F₁ and F₀ are two independent shares: the variance is F₁(1 − F₁) / m + F₀(1 − F₀) / n, which
    Schisterman et al. (Epidemiology 16, 2005) use for Youden's index, the same gap at its best cut. That the cut was
    chosen as the best is not in it: the estimate lies a little high (by 0.03 at 150 events, 0.005 at 2,000), as does
    the interval, which at 95 % holds the truth in 0.90 and 0.92 of samples.
    """
    first, second = events_to / events, others_to / others
    estimate = float(abs(Fraction(events_to, events) - Fraction(others_to, others)))
    if min(events, others) < 2:
        return Interval(estimate, math.nan, math.nan)
    half = two_sided(level) * math.sqrt(first * (1 - first) / events + second * (1 - second) / others)
    return Interval(estimate, max(0.0, estimate - half), min(1.0, estimate + half))


def brier(y: ArrayLike, p: ArrayLike) -> float:
    """Mean squared error of the probabilities (Brier, Monthly Weather Review 78, 1950)."""
    outcome, probability = outcomes(y, p)
    return float(np.mean((probability - outcome) ** 2))


def brier_interval(y: ArrayLike, p: ArrayLike, level: float = 0.95) -> Interval:
    """The Brier score with the interval of a mean, as ``mean_interval`` has it for the rows' squared errors."""
    outcome, probability = outcomes(y, p)
    error = (probability - outcome) ** 2
    return mean_interval(len(error), float(error.sum()), float((error**2).sum()), level)


def mean_interval(n: int, total: float, squares: float, level: float = 0.95) -> Interval:
    """A mean with normal limits from Σx and Σx² of values in [0, 1]; NaN limits under two rows.

    Bradley, Schwartz and Hashino (Weather and Forecasting 23, 2008) derive it for the Brier score. Sums lose the last
    digits: a variance below 1e-12 of the mean's square is what rounding leaves of values that are all the same.
    """
    mean = total / n
    if n < 2:
        return Interval(mean, math.nan, math.nan)
    variance = squares / n - mean * mean
    half = two_sided(level) * math.sqrt(variance / (n - 1)) if variance > 1e-12 * mean * mean else 0.0
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))


def expected_calibration_error(y: ArrayLike, p: ArrayLike, bins: int = 10) -> float:
    """Σ over equal-width bins of (share of rows) · |observed rate − mean p|.

    Bins are right-closed, the first also holds 0 (Naeini, Cooper and Hauskrecht, AAAI 2015).
    """
    outcome, probability = outcomes(y, p)
    index = np.clip(np.ceil(probability * bins).astype(np.int64) - 1, 0, bins - 1)
    rows = np.bincount(index, minlength=bins)
    gap = np.abs(np.bincount(index, outcome, bins) - np.bincount(index, probability, bins))
    return float(gap[rows > 0].sum() / len(outcome))


def calibration(y: ArrayLike, log_odds: ArrayLike) -> Calibration:
    """Observed against expected rate, and Cox's slope and intercept (Cox, Biometrika 45, 1958), by Newton steps.

    A score that is the same for all rows has no slope: slope is NaN, and the intercept is the shift in log-odds.
    Raises ValueError unless both classes are present and all log-odds are finite.
    """
    outcome, z = _pair(y, log_odds)
    _both_classes(outcome)
    if not np.isfinite(z).all():
        raise ValueError("a log-odds is infinite")
    observed = float(outcome.mean())
    expected = float(_logistic(z).mean())
    if np.ptp(z) == 0:
        shift = float(np.log(observed / (1 - observed)) - z[0])
        return Calibration(float("nan"), shift, observed, expected)
    design = np.column_stack([np.ones_like(z), z])
    beta, taken, reach = np.array([0.0, 1.0]), np.zeros(2), 5.0
    for _ in range(50):
        p = _logistic(design @ beta)
        weight = np.maximum(p * (1 - p), 1e-12)
        gradient = design.T @ (outcome - p)
        # The last step went past the summit: without shorter ones, Newton can step to and fro for ever.
        if gradient @ taken < 0:
            reach /= 2
        step = np.linalg.solve(design.T @ (design * weight[:, None]), gradient)
        # Perfectly separated classes have no finite slope; a bounded step ends at a large one instead of overflowing.
        taken = step * min(1.0, reach / max(np.abs(step).max(), 1e-300))
        beta = beta + taken
        if np.abs(step).max() < 1e-10:
            break
    return Calibration(float(beta[1]), float(beta[0]), observed, expected)


def outcomes(y: ArrayLike, p: ArrayLike) -> tuple[Floats, Floats]:
    """Outcomes and probabilities as two vectors. Raises ValueError for outcomes other than 0 and 1, probabilities
    outside [0, 1] or NaN, unequal lengths, and an empty sample."""
    outcome, probability = _pair(y, p)
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError("a probability is not between 0 and 1")
    return outcome, probability


def _delong(y: ArrayLike, scores: list[ArrayLike]) -> tuple[Floats, Floats]:
    """AUCs of k scores and their k × k covariance, from the placement values of events and non-events."""
    placements_events, placements_others, areas = [], [], []
    for score in scores:
        events, others = _split(y, score)
        m, n = len(events), len(others)
        if m < 2 or n < 2:
            raise ValueError("DeLong's variance needs at least two rows of each class")
        joint = stats.rankdata(np.concatenate([events, others]))
        placements_events.append((joint[:m] - stats.rankdata(events)) / n)
        placements_others.append(1.0 - (joint[m:] - stats.rankdata(others)) / m)
        areas.append((joint[:m].sum() - m * (m + 1) / 2) / (m * n))
    covariance = np.atleast_2d(np.cov(np.vstack(placements_events))) / m
    covariance = covariance + np.atleast_2d(np.cov(np.vstack(placements_others))) / n
    return np.array(areas), covariance


def two_sided(level: float) -> float:
    """How many standard errors a two-sided normal interval of this level reaches to each side."""
    return float(stats.norm.ppf(0.5 + level / 2))


def _logistic(z: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(z, -700, 700)))


def _pair(y: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
    outcome = np.asarray(y, dtype=np.float64)
    values = np.asarray(score, dtype=np.float64)
    if outcome.shape != values.shape or outcome.ndim != 1 or not len(outcome):
        raise ValueError("outcomes and scores must be two vectors of the same length, and not empty")
    if not np.isin(outcome, (0.0, 1.0)).all():
        raise ValueError("outcomes must be 0 or 1")
    if np.isnan(values).any():
        raise ValueError("a score is NaN")
    return outcome, values


def _both_classes(outcome: Floats) -> None:
    if outcome.min() == outcome.max():
        raise ValueError("the sample holds one class only")


def _split(y: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
    """Scores of the events, and of the others."""
    outcome, values = _pair(y, score)
    _both_classes(outcome)
    return values[outcome == 1], values[outcome == 0]
