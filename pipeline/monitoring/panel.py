"""Every statistic of a night at once: all features of all segments against their baseline, without a loop over them.

The same figures as ``stability`` gives one by one (a test holds this), computed over the bins side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.monitoring.bins import CATEGORY, WHOLE, BinCounts, Counts
from pipeline.monitoring.stability import LEAST_ROWS, SHARE_FLOOR

Floats = NDArray[np.float64]
SEGMENT, BOOK = "segment", "whole"


@dataclass(frozen=True, eq=False)
class Panel:
    """Statistics as keys × features. ``against`` says for each key what it was compared with: the baseline's own
    segment, or the whole baseline where that segment is not in it or too small. NaN where a side has no rows.
    """

    keys: tuple[tuple[str, str], ...]
    features: tuple[str, ...]
    against: tuple[str, ...]
    n: Counts
    psi: Floats = field(repr=False)
    psi_without_missing: Floats = field(repr=False)
    critical: Floats = field(repr=False)
    p_value: Floats = field(repr=False)
    bins: Counts = field(repr=False)
    floored: NDArray[np.bool_] = field(repr=False)
    missing_rate: Floats = field(repr=False)
    new_category_rate: Floats = field(repr=False)
    wasserstein: Floats = field(repr=False)
    jensen_shannon: Floats = field(repr=False)


def compare(baseline: BinCounts, current: BinCounts, *, alpha: float, minimum_rows: int) -> Panel:
    """All statistics of ``current`` (a night's counts, in the baseline's bins) against ``baseline``.

    Keys are those of the night, then the baseline's segments that are empty tonight.
    """
    if baseline.bins != current.bins:
        raise ValueError("a night is compared with a baseline in the baseline's own bins")
    keys = (*current.keys, *(k for k in baseline.keys if k not in current.keys))
    starts, width = current.starts, current.matrix.shape[1]
    known = {k: i for i, k in enumerate(baseline.keys)}
    size = baseline.matrix[:, : current.bins[0].size].sum(axis=1)
    chosen = [known[k] if k in known and size[known[k]] >= minimum_rows else known[WHOLE] for k in keys]
    e = baseline.matrix[chosen]
    a = np.vstack([current.matrix, np.zeros((len(keys) - len(current.keys), width), dtype=np.int64)])

    last = np.zeros(width, dtype=bool)
    last[[s + b.size - 1 for s, b in zip(starts, current.bins, strict=True)]] = True
    n, m = _sums(e, starts), _sums(a, starts)
    share_e, share_a = _shares(e, n, starts, width), _shares(a, m, starts, width)
    values = _sums(_terms(share_e, share_a), starts)
    without = _without_missing(e, a, last, starts, width)
    used = _sums(((e > 0) | (a > 0)).astype(np.int64), starts)
    critical, p_value = _by_chance(current, e, a, n, m, alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = (share_e + share_a) / 2
        js = sum(_sums(np.where(p > 0, p * np.log2(p / middle), 0.0), starts) / 2 for p in (share_e, share_a))
        missing = a[:, last] / m
    both = (n > 0) & (m > 0)
    floored = ((share_e < SHARE_FLOOR) | (share_a < SHARE_FLOOR)) & (share_e != share_a)
    return Panel(
        keys=keys,
        features=tuple(b.feature for b in current.bins),
        against=tuple(SEGMENT if k != WHOLE and c != known[WHOLE] else BOOK for k, c in zip(keys, chosen, strict=True)),
        n=m[:, 0] if m.size else np.zeros(len(keys), dtype=np.int64),
        psi=np.where(both, values, np.nan),
        psi_without_missing=without,
        critical=np.where(both, critical, np.nan),
        p_value=np.where(both, p_value, np.nan),
        bins=np.where(both, used, 0),
        floored=both & (_sums(floored.astype(np.int64), starts) > 0),
        missing_rate=missing,
        new_category_rate=_new_categories(current, a, m),
        wasserstein=_distances(current, e, a),
        jensen_shannon=np.where(both, np.clip(js, 0.0, 1.0), np.nan),
    )


def compare_same(reference: BinCounts, current: BinCounts) -> tuple[Floats, Floats]:
    """PSI and p-value of each segment against the very same segment of ``reference``; NaN where it has no rows."""
    known = {k: i for i, k in enumerate(reference.keys)}
    width, starts = current.matrix.shape[1], current.starts
    e = np.array([reference.matrix[known[k]] if k in known else np.zeros(width, dtype=np.int64) for k in current.keys])
    a = current.matrix
    n, m = _sums(e, starts), _sums(a, starts)
    values = _sums(_terms(_shares(e, n, starts, width), _shares(a, m, starts, width)), starts)
    _, p_value = _by_chance(current, e, a, n, m)
    both = (n > 0) & (m > 0)
    return np.where(both, values, np.nan), np.where(both, p_value, np.nan)


def _by_chance(
    current: BinCounts, e: Counts, a: Counts, n: Counts, m: Counts, alpha: float = 0.05
) -> tuple[Floats, Floats]:
    """Critical value and p-value of each PSI, over ``stability.tested_bins`` of all keys at once."""
    smaller, keys = np.minimum(n, m), np.arange(len(e))
    sides: tuple[list[Counts], list[Counts]] = ([], [])
    with np.errstate(divide="ignore", invalid="ignore"):
        for i, (start, bins) in enumerate(zip(current.starts, current.bins, strict=True)):
            here = slice(start, start + bins.size)
            totals, least = (n[:, i], m[:, i]), smaller[:, i]
            blocks = e[:, here], a[:, here]
            size = np.maximum(*(b / t[:, None] for b, t in zip(blocks, totals, strict=True))) * least[:, None]
            rare = size < LEAST_ROWS
            rest = [np.where(rare, b, 0).sum(axis=1) for b in blocks]
            apart = np.maximum(*(r / t for r, t in zip(rest, totals, strict=True))) * least >= LEAST_ROWS
            apart |= rare.all(axis=1)
            smallest = np.where(rare, np.inf, size).argmin(axis=1)
            for side, block, r in zip(sides, blocks, rest, strict=True):
                kept = np.where(rare, 0, block)
                kept[keys, smallest] += np.where(apart, 0, r)
                side += [kept, np.where(apart, r, 0)[:, None]]
        tested_e, tested_a = (np.concatenate(side, axis=1) for side in sides)
        starts, width = current.starts + np.arange(len(current.bins)), tested_e.shape[1]
        used = _sums(((tested_e > 0) | (tested_a > 0)).astype(np.int64), starts)
        values = _sums(_terms(_shares(tested_e, n, starts, width), _shares(tested_a, m, starts, width)), starts)
        scale, freedom = 1 / n + 1 / m, np.maximum(used - 1, 1)
        several = (used > 1) & np.isfinite(values)
        critical = np.where(several, special.chdtri(freedom, alpha) * scale, 0.0)
        return critical, np.where(several, special.chdtrc(freedom, values / scale), 1.0)


def _sums(matrix: NDArray[Any], starts: NDArray[np.intp]) -> NDArray[Any]:
    """Sums over each feature's bins: keys × features."""
    return np.add.reduceat(matrix, starts, axis=1) if matrix.size else matrix


def _shares(counts: Counts, totals: Counts, starts: NDArray[np.intp], width: int) -> Floats:
    sizes = np.diff(np.append(starts, width))
    with np.errstate(divide="ignore", invalid="ignore"):
        return counts / np.repeat(totals, sizes, axis=1)


def _terms(e: Floats, a: Floats) -> Floats:
    raised_e, raised_a = np.maximum(e, SHARE_FLOOR), np.maximum(a, SHARE_FLOOR)
    return (raised_a - raised_e) * np.log(raised_a / raised_e)


def _without_missing(e: Counts, a: Counts, last: NDArray[np.bool_], starts: NDArray[np.intp], width: int) -> Floats:
    there_e, there_a = np.where(last, 0, e), np.where(last, 0, a)
    n, m = _sums(there_e, starts), _sums(there_a, starts)
    terms = _terms(_shares(there_e, n, starts, width), _shares(there_a, m, starts, width))
    return np.where((n > 0) & (m > 0), _sums(np.where(last, 0.0, terms), starts), np.nan)


def _new_categories(current: BinCounts, a: Counts, m: Counts) -> Floats:
    found = np.full(m.shape, np.nan)
    for i, (start, bins) in enumerate(zip(current.starts, current.bins, strict=True)):
        if bins.kind == CATEGORY:
            with np.errstate(divide="ignore", invalid="ignore"):
                found[:, i] = a[:, start + bins.size - 2] / m[:, i]
    return found


def _distances(current: BinCounts, e: Counts, a: Counts) -> Floats:
    """``stability.binned_wasserstein`` of each feature that is a number, over all keys at once."""
    found = np.full((len(a), len(current.bins)), np.nan)
    for i, (start, bins) in enumerate(zip(current.starts, current.bins, strict=True)):
        if bins.kind == CATEGORY or len(bins.points) < 2:
            continue
        inner = slice(start, start + bins.size - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            of_e, of_a = (side[:, inner] / side[:, inner].sum(axis=1, keepdims=True) for side in (e, a))
        gap = np.abs(np.cumsum(of_e, axis=1) - np.cumsum(of_a, axis=1))[:, :-1]
        found[:, i] = np.trapezoid(gap, np.array(bins.points), axis=1)
    return found
