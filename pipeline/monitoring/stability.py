"""How far one distribution has moved from another: PSI and its kin, as pure functions of counts or samples.

Counts are vectors over the same bins, in the same order. Nothing here depends on the order of the bins, nor on which
rows were counted first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

SHARE_FLOOR = 1e-4
"""Smallest share a bin is given in the PSI, so that an emptied bin counts heavily instead of being dropped."""


LEAST_ROWS = 10
"""Rows that a bin must have on one side, scaled to the smaller side, to be tested by itself (see ``tested_bins``)."""


@dataclass(frozen=True)
class Psi:
    """A PSI with what it takes to judge it.

    bins: those with rows on either side. floored: a bin that only one side has was given the smallest share. The rest
    is about ``tested_bins``. critical: what their PSI exceeds by chance alone with probability ``alpha``; p_value: how
    often chance alone reaches it; significant: less often than alpha.
    """

    value: float
    critical: float
    p_value: float
    bins: int
    floored: bool
    significant: bool


def psi(baseline: ArrayLike, current: ArrayLike, floor: float = SHARE_FLOOR) -> float:
    """Population stability index Σ(a − e)·ln(a / e) of two vectors of counts or shares, bin by bin.

    Shares under ``floor`` are raised to it and not renormalised; a bin that is empty on both sides adds nothing.
    Siddiqi, Credit Risk Scorecards (2006). Raises ValueError for an empty side or unequal lengths.
    """
    e, a = _shares(baseline, current)
    return float(_terms(e, a, floor).sum())


def judged_psi(baseline: ArrayLike, current: ArrayLike, alpha: float = 0.05, floor: float = SHARE_FLOOR) -> Psi:
    """The PSI of two vectors of counts, with its critical value and p-value (see ``psi_critical_value``).

    One bin to test, or the same counts: nothing is significant. Raises ValueError as ``psi`` does.
    """
    e, a = _shares(baseline, current)
    n, m = float(np.sum(baseline)), float(np.sum(current))
    value = float(_terms(e, a, floor).sum())
    bins = int(((e > 0) | (a > 0)).sum())
    floored = bool((((e < floor) | (a < floor)) & (e != a)).any())
    tested_e, tested_a = tested_bins(baseline, current)
    freedom, scale = len(tested_e) - 1, 1 / n + 1 / m
    if freedom < 1:
        return Psi(value, 0.0, 1.0, bins, floored, False)
    critical = float(special.chdtri(freedom, alpha) * scale)
    p_value = float(special.chdtrc(freedom, _terms(tested_e / n, tested_a / m, floor).sum() / scale))
    return Psi(value, critical, p_value, bins, floored, p_value < alpha)


def tested_bins(baseline: ArrayLike, current: ArrayLike) -> tuple[Floats, Floats]:
    """Two vectors of counts as a test wants them: bins without rows left out, rare ones put together.

    χ² is the law of a PSI without drift only where no bin is rare (Cochran, Biometrics 10, 1954, for Pearson's
    statistic; the logarithm's tail is heavier, hence ``LEAST_ROWS``). A bin is rare when neither side has that many
    rows in it, the larger side scaled to the smaller. Rare bins are one; if they are rare even so, they join the
    smallest of the others. A bin that fills up tonight is not rare, and is tested by itself.
    """
    e, a = np.asarray(baseline, dtype=np.float64), np.asarray(current, dtype=np.float64)
    n, m = e.sum(), a.sum()
    size = np.maximum(e / n, a / m) * min(n, m)
    rare = size < LEAST_ROWS
    kept_e, kept_a = e[~rare], a[~rare]
    rest_e, rest_a = e[rare].sum(), a[rare].sum()
    if not (rest_e or rest_a):
        return kept_e, kept_a
    if not len(kept_e) or max(rest_e / n, rest_a / m) * min(n, m) >= LEAST_ROWS:
        return np.append(kept_e, rest_e), np.append(kept_a, rest_a)
    smallest = int(np.argmin(size[~rare]))
    kept_e[smallest] += rest_e
    kept_a[smallest] += rest_a
    return kept_e, kept_a


def psi_critical_value(baseline_rows: int, current_rows: int, bins: int, alpha: float = 0.05) -> float:
    """PSI that chance alone exceeds with probability ``alpha``: χ²(1−α, B−1) · (1/N + 1/M) (Yurdakul 2018)."""
    return float(special.chdtri(bins - 1, alpha) * (1 / baseline_rows + 1 / current_rows))


def jensen_shannon(baseline: ArrayLike, current: ArrayLike) -> float:
    """Jensen-Shannon divergence of two vectors of counts, in bits: 0 for equal shares, 1 for disjoint ones.

    ½·KL(e‖m) + ½·KL(a‖m) with m their mean (Lin, IEEE Transactions on Information Theory 37, 1991). Raises ValueError
    as ``psi`` does.
    """
    e, a = _shares(baseline, current)
    middle = (e + a) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        each = [np.where(p > 0, p * np.log2(p / middle), 0.0).sum() / 2 for p in (e, a)]
    return float(min(1.0, max(0.0, each[0] + each[1])))


def wasserstein(baseline: ArrayLike, current: ArrayLike) -> float:
    """Earth mover's distance of two samples, in the feature's own unit; NaN is left out.

    ∫|F_e − F_a| (Vallender 1974), by SciPy. Raises ValueError for a side without numbers.
    """
    from scipy import stats  # a second to load, and only this needs it

    sides = [np.asarray(side, dtype=np.float64) for side in (baseline, current)]
    e, a = (side[~np.isnan(side)] for side in sides)
    if not len(e) or not len(a):
        raise ValueError("a distance needs numbers on both sides")
    return float(stats.wasserstein_distance(e, a))


def binned_wasserstein(baseline: ArrayLike, current: ArrayLike, edges: ArrayLike) -> float:
    """Earth mover's distance as far as bins show it: ∫|F_e − F_a| from the first edge to the last, by trapezes.

    ``edges`` are the inner edges, so there is one count more than edges; at each edge both distributions are known
    exactly. In the feature's own unit; what moved within the outer, infinite bins is not seen, and with one edge only
    (a flag) nothing is: NaN. Raises ValueError as ``psi`` does.
    """
    e, a = _shares(baseline, current)
    at = np.asarray(edges, dtype=np.float64)
    if len(at) != len(e) - 1:
        raise ValueError("there must be one bin more than inner edges")
    gap = np.abs(np.cumsum(e) - np.cumsum(a))[:-1]
    return float(np.trapezoid(gap, at)) if len(at) > 1 else float("nan")


def characteristic_stability(baseline: ArrayLike, current: ArrayLike, points: ArrayLike) -> float:
    """Characteristic stability index Σ(a − e)·points: what a shift between bins moves the mean score by.

    points: the score points, or mean contribution, of each bin (Siddiqi, Credit Risk Scorecards, 2006). It has a sign
    and is 0 when the bins that gained and lost weigh the same. Raises ValueError as ``psi`` does.
    """
    e, a = _shares(baseline, current)
    weights = np.asarray(points, dtype=np.float64)
    if weights.shape != e.shape:
        raise ValueError("there must be points for each bin")
    return float(((a - e) * weights).sum())


def quantile_edges(baseline: ArrayLike, bins: int = 10) -> Floats:
    """Inner edges of equal-frequency bins of the baseline; equal edges collapse, NaN is left out.

    Bins are right-closed and the outer ones are infinite, so ``len(edges) + 1`` bins cover every number.
    """
    values = np.asarray(baseline, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return np.empty(0)
    edges = np.quantile(values, np.arange(1, bins) / bins)
    # An edge at the maximum would leave the bin above it empty in the baseline itself.
    return np.unique(edges[edges < values.max()])


def bin_counts(values: ArrayLike, edges: ArrayLike) -> NDArray[np.int64]:
    """Rows per right-closed bin, with one last entry for NaN: ``len(edges) + 2`` counts."""
    numbers = np.asarray(values, dtype=np.float64)
    inner = np.asarray(edges, dtype=np.float64)
    index = np.searchsorted(inner, numbers, side="left")
    index[np.isnan(numbers)] = len(inner) + 1
    return np.bincount(index, minlength=len(inner) + 2)


def _shares(baseline: ArrayLike, current: ArrayLike) -> tuple[Floats, Floats]:
    e = np.asarray(baseline, dtype=np.float64)
    a = np.asarray(current, dtype=np.float64)
    if e.shape != a.shape or e.ndim != 1:
        raise ValueError("PSI needs two vectors over the same bins")
    if not (e.sum() > 0 and a.sum() > 0):
        raise ValueError("PSI needs rows on both sides")
    return e / e.sum(), a / a.sum()


def _terms(e: Floats, a: Floats, floor: float) -> Floats:
    raised_e, raised_a = np.maximum(e, floor), np.maximum(a, floor)
    return (raised_a - raised_e) * np.log(raised_a / raised_e)
