"""Rating grades against what came true: exact tests of each grade's PD, and whether the grades rank.

Grades come as counts: ``n`` rows, ``events`` of them, and the ``pd`` that was predicted for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from scipy import stats

from pipeline.monitoring.interval import Interval


@dataclass(frozen=True)
class Reversal:
    """Two grades whose observed rates stand the wrong way round: the safer one had the higher rate.

    safer, riskier: positions in the sequence of grades. p_value: one-sided, of no difference between the two.
    significant: p_value is under α over the number of pairs compared (Bonferroni).
    """

    safer: int
    riskier: int
    p_value: float
    significant: bool


@dataclass(frozen=True)
class RankOrdering:
    """Whether observed default rates rise from grade to grade.

    monotone: no pair is the wrong way round. reversals: every pair that is. z, p_value: Cochran-Armitage, one-sided,
    of no rising trend (NaN where there is nothing to compare).
    """

    monotone: bool
    reversals: tuple[Reversal, ...]
    z: float
    p_value: float

    @property
    def reversed(self) -> bool:
        """A pair the wrong way round by more than chance."""
        return any(pair.significant for pair in self.reversals)


def jeffreys_p_value(n: int, events: int, pd: float) -> float:
    """p-value of "the PD is not understated": the Beta(D + ½, N − D + ½) distribution function at the PD.

    ECB, Instructions for reporting the validation results of internal models (February 2019), 2.5.3.1. Small
    values say that the PD is too low. Raises ValueError for an empty grade and for counts that cannot be.
    """
    _require_counts(n, events, pd)
    return float(stats.beta.cdf(pd, events + 0.5, n - events + 0.5))


def binomial_p_value(n: int, events: int, pd: float) -> float:
    """P(X ≥ D) for X ~ Binomial(N, PD): one-sided, of "the PD is not understated".

    Basel Committee, Working Paper 14 (2005), Studies on the Validation of Internal Rating Systems. It takes defaults
    for independent; correlated ones are found significant too often. Raises ValueError as ``jeffreys_p_value``.
    """
    _require_counts(n, events, pd)
    return float(stats.binom.sf(events - 1, n, pd))


def jeffreys_interval(n: int, events: int, level: float = 0.95) -> Interval:
    """Observed rate with the Jeffreys interval: Beta(D + ½, N − D + ½) quantiles, 0 at no and 1 at only events.

    Brown, Cai and DasGupta, Statistical Science 16 (2001) 101-133. Raises ValueError for an empty sample.
    """
    _require_counts(n, events, 0.5)
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, events + 0.5, n - events + 0.5)) if events else 0.0
    high = float(stats.beta.ppf(1 - tail, events + 0.5, n - events + 0.5)) if events < n else 1.0
    return Interval(events / n, low, high)


def rank_ordering(n: Sequence[int], events: Sequence[int], alpha: float = 0.05) -> RankOrdering:
    """Whether default rates rise over grades given from the safest to the riskiest; empty grades are passed over.

    Trend: Cochran-Armitage with the grades' positions as scores, z = Σ t(D − N·p̄) / √(p̄(1−p̄)(Σ N·t² − (Σ N·t)² / ΣN))
    (Armitage, Biometrics 11 (1955) 375-386). Pairs: Fisher's exact test, one-sided, at α over the number of pairs.
    Raises ValueError for unequal lengths, counts that cannot be, and no rows at all.
    """
    if len(n) != len(events):
        raise ValueError("rank ordering needs one count of events for each grade")
    for rows, found in zip(n, events, strict=True):
        if not 0 <= found <= rows:
            raise ValueError(f"{found} events of {rows} rows cannot be")
    filled = [(i, n[i], events[i]) for i in range(len(n)) if n[i]]
    if not filled:
        raise ValueError("rank ordering needs at least one grade with rows")
    pairs = list(combinations(filled, 2))
    reversals = []
    for (i, n_i, d_i), (j, n_j, d_j) in pairs:
        if d_i * n_j > d_j * n_i:
            p_value = float(stats.fisher_exact([[d_i, n_i - d_i], [d_j, n_j - d_j]], alternative="greater")[1])
            reversals.append(Reversal(i, j, p_value, p_value < alpha / len(pairs)))
    z = _trend(filled)
    return RankOrdering(not reversals, tuple(reversals), z, float(stats.norm.sf(z)))


def _trend(filled: Sequence[tuple[int, int, int]]) -> float:
    rows = sum(n for _, n, _ in filled)
    defaults = sum(d for _, _, d in filled)
    # Whole numbers up to the last step: N² times numerator and variance.
    numerator = sum(t * (d * rows - n * defaults) for t, n, d in filled)
    spread = rows * sum(n * t * t for t, n, _ in filled) - sum(n * t for t, n, _ in filled) ** 2
    variance = defaults * (rows - defaults) * spread
    return numerator * math.sqrt(rows) / math.sqrt(variance) if variance else math.nan


def _require_counts(n: int, events: int, pd: float) -> None:
    if n < 1:
        raise ValueError("a grade without rows cannot be tested")
    if not 0 <= events <= n:
        raise ValueError(f"{events} events of {n} rows cannot be")
    if not 0 <= pd <= 1:
        raise ValueError(f"the PD {pd} is not between 0 and 1")
