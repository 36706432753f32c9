"""Calibration by groups of risk: Hosmer and Lemeshow's test, and the reliability curve with its intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from pipeline.monitoring.grades import jeffreys_interval
from pipeline.monitoring.interval import Interval
from pipeline.monitoring.statistics import outcomes

DEVELOPMENT, OUT_OF_SAMPLE = "development", "out_of_sample"


@dataclass(frozen=True)
class HosmerLemeshow:
    """The statistic, the degrees of freedom it was held to, and why: ``sample`` is development or out_of_sample."""

    statistic: float
    degrees_of_freedom: int
    p_value: float
    groups: int
    sample: str


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose PD lies in (low, high]: how many, their mean PD, and their observed rate with its interval."""

    low: float
    high: float
    n: int
    events: int
    mean_pd: float
    observed: Interval


def hosmer_lemeshow(y: ArrayLike, p: ArrayLike, groups: int = 10, sample: str = OUT_OF_SAMPLE) -> HosmerLemeshow:
    """Hosmer and Lemeshow's test over groups of equal size by risk; rows of equal PD stay in one group.

    The group of a row is ⌊g · (mid-rank − ½) / N⌋. Statistic and degrees of freedom: ``hosmer_lemeshow_of_groups``.
    Raises ValueError for an empty sample, NaN, outcomes other than 0 and 1, and probabilities outside [0, 1].
    """
    outcome, probability = outcomes(y, p)
    # Twice the mid-rank is whole, so that no rounding decides about a group.
    doubled = np.rint(2 * stats.rankdata(probability)).astype(np.int64) - 1
    group = groups * doubled // (2 * len(outcome))
    rows = np.bincount(group, minlength=groups)
    held = rows > 0
    return hosmer_lemeshow_of_groups(
        rows[held].tolist(),
        np.bincount(group, outcome, groups)[held].tolist(),
        np.bincount(group, probability, groups)[held].tolist(),
        sample,
    )


def hosmer_lemeshow_of_groups(
    n: Sequence[int], events: Sequence[float], expected: Sequence[float], sample: str = OUT_OF_SAMPLE
) -> HosmerLemeshow:
    """H = Σ (O − E)² / (E · (1 − E / n)) over g groups with O observed and E = Σ PD expected events.

    Hosmer and Lemeshow, Communications in Statistics 9 (1980) 1043-1069. Under a true model H is χ² with g − 2
    degrees of freedom on the rows that the model was fitted to (``development``), and with g on rows it never saw
    (``out_of_sample``; Hosmer, Lemeshow and Sturdivant, Applied Logistic Regression, 3rd edition, 5.2.2).
    Raises ValueError for an unknown sample, an empty group, or fewer than three groups of a development sample.
    """
    if sample not in (DEVELOPMENT, OUT_OF_SAMPLE):
        raise ValueError(f"the sample is {sample!r}; it must be {DEVELOPMENT} or {OUT_OF_SAMPLE}")
    if not n or min(n) < 1:
        raise ValueError("Hosmer and Lemeshow's test needs groups with rows")
    freedom = len(n) - 2 if sample == DEVELOPMENT else len(n)
    if freedom < 1:
        raise ValueError(f"{len(n)} groups of a development sample leave no degree of freedom")
    statistic = 0.0
    for rows, observed, wanted in zip(n, events, expected, strict=True):
        variance = wanted * (1 - wanted / rows)
        if variance > 0:
            statistic += (observed - wanted) ** 2 / variance
        elif observed != wanted:
            statistic = math.inf
    return HosmerLemeshow(statistic, freedom, float(stats.chi2.sf(statistic, freedom)), len(n), sample)


def wilson_interval(n: int, events: int, level: float = 0.95) -> Interval:
    """Observed rate with the Wilson score interval (Wilson, JASA 22, 1927). Raises ValueError for an empty sample."""
    limits = stats.binomtest(events, n).proportion_ci(level, method="wilson")
    return Interval(events / n, float(limits.low), float(limits.high))


def reliability_curve(
    y: ArrayLike, p: ArrayLike, bins: int = 10, level: float = 0.95, method: str = "jeffreys"
) -> tuple[ReliabilityBin, ...]:
    """Observed against predicted over equal-width bins, as ``expected_calibration_error`` makes them; empty ones go.

    method: ``jeffreys`` or ``wilson``. Raises ValueError for another method and as ``hosmer_lemeshow``.
    """
    outcome, probability = outcomes(y, p)
    index = np.clip(np.ceil(probability * bins).astype(np.int64) - 1, 0, bins - 1)
    rows = np.bincount(index, minlength=bins)
    events = np.rint(np.bincount(index, outcome, bins)).astype(np.int64)
    total = np.bincount(index, probability, bins)
    return tuple(
        ReliabilityBin(
            i / bins,
            (i + 1) / bins,
            int(rows[i]),
            int(events[i]),
            float(total[i] / rows[i]),
            rate_interval(int(rows[i]), int(events[i]), level, method),
        )
        for i in np.flatnonzero(rows)
    )


def rate_interval(n: int, events: int, level: float = 0.95, method: str = "jeffreys") -> Interval:
    """The interval of an observed rate by the named method. Raises ValueError for another, or an empty sample."""
    if method == "jeffreys":
        return jeffreys_interval(n, events, level)
    if method == "wilson":
        return wilson_interval(n, events, level)
    raise ValueError(f"the method is {method!r}; it must be jeffreys or wilson")
