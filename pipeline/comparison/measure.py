"""The comparison itself, as pure functions of arrays: measures, migration of grades, the largest movers and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import isotonic_regression

from pipeline import booster as native
from pipeline.comparison.facts import Comparison, Difference, Driver, Fairness, Measures, Migration, Mover, Reason, Side
from pipeline.monitoring import stability, statistics

if TYPE_CHECKING:
    from lightgbm import Booster

Floats = NDArray[np.float64]

MOVERS = 10
REASONS = 5
SAMPLE = 256
"""Rows whose contributions say which way a feature drives: contributions are slow, a few hundred rows a second."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A model and what it says of the holdout: its features in order, its matrix (rows × features), its log-odds."""

    version: int | None
    digest: str
    booster: Booster
    features: tuple[str, ...]
    matrix: Floats
    log_odds: Floats


@dataclass(frozen=True, eq=False)
class Holdout:
    """The rows that both models are measured on, in key order."""

    labels: NDArray[np.int8]
    subjects: NDArray[Any]
    dates: NDArray[np.datetime64]


def compare(
    model: str,
    training_set: str,
    holdout: Holdout,
    challenger: Scored,
    champion: Scored | None,
    grades: Sequence[tuple[str, float]],
    fairness: Fairness,
    *,
    alone: str = "",
    seen_by_champion: int | None = None,
    threads: int = 0,
) -> Comparison:
    """Both models on the same holdout. grades: (name, PD up to and including), best first.

    alone: why there is no champion to compare with; empty when there is one. Raises ValueError unless each class has
    two rows.
    """
    y = holdout.labels
    difference = psi = correlation = migration = None
    movers: tuple[Mover, ...] = ()
    if champion is not None:
        delong = statistics.delong_test(y, challenger.log_odds, champion.log_odds)
        difference = Difference(delong.difference, delong.low, delong.high, delong.p_value)
        edges = stability.quantile_edges(champion.log_odds)
        before, after = (stability.bin_counts(side.log_odds, edges) for side in (champion, challenger))
        psi = stability.psi(before, after)
        correlation = spearman(champion.log_odds, challenger.log_odds)
        migration = migrated(champion.log_odds, challenger.log_odds, grades)
        movers = largest_movers(holdout, champion, challenger, grades, threads)
    return Comparison(
        model=model,
        training_set=training_set,
        rows=len(y),
        events=int(y.sum()),
        challenger=_side(challenger, y),
        champion=_side(champion, y) if champion is not None else None,
        alone=alone,
        difference=difference,
        psi=psi,
        rank_correlation=correlation,
        migration=migration,
        movers=movers,
        seen_by_champion=seen_by_champion,
        fairness=fairness,
        drivers=drivers(challenger, threads),
    )


def migrated(champion: Floats, challenger: Floats, grades: Sequence[tuple[str, float]]) -> Migration:
    """How many rows each pair of grades holds. champion, challenger: log-odds of the same rows."""
    size = len(grades)
    pairs = grade_of(champion, grades) * size + grade_of(challenger, grades)
    counts = np.bincount(pairs, minlength=size * size).reshape(size, size)
    return Migration(tuple(name for name, _ in grades), tuple(tuple(map(int, line)) for line in counts))


def grade_of(log_odds: Floats, grades: Sequence[tuple[str, float]]) -> NDArray[np.int64]:
    """Index of each row's grade: the first whose bound is not below its PD."""
    return np.searchsorted(np.array([bound for _, bound in grades]), native.probability(log_odds), side="left")


def largest_movers(
    holdout: Holdout, champion: Scored, challenger: Scored, grades: Sequence[tuple[str, float]], threads: int = 0
) -> tuple[Mover, ...]:
    """The rows whose log-odds differ most, ties in key order; none that do not differ.

    Contributions add up to a row's log-odds in each model (Lundberg et al. 2020), so their differences by feature,
    with the difference of the bases, add up to the difference of the two scores.
    """
    difference = challenger.log_odds - champion.log_odds
    order = np.argsort(-np.abs(difference), kind="stable")[:MOVERS]
    order = order[difference[order] != 0]
    if not len(order):
        return ()
    first = native.contributions(champion.booster, champion.matrix[order], threads)
    second = native.contributions(challenger.booster, challenger.matrix[order], threads)
    before, after = (grade_of(side.log_odds, grades) for side in (champion, challenger))
    pd_before, pd_after = (native.probability(side.log_odds[order]) for side in (champion, challenger))
    found = []
    for i, row in enumerate(order.tolist()):
        by_champion = dict(zip(champion.features, first[i, :-1].tolist(), strict=True))
        by_challenger = dict(zip(challenger.features, second[i, :-1].tolist(), strict=True))
        values = dict(zip(champion.features, champion.matrix[row].tolist(), strict=True))
        values |= dict(zip(challenger.features, challenger.matrix[row].tolist(), strict=True))
        reasons = _reasons(by_champion, by_challenger, values)
        base = float(second[i, -1] - first[i, -1])
        moved = float(difference[row])
        named = sum(r.difference for r in reasons)
        found.append(
            Mover(
                subject=str(holdout.subjects[row]),
                as_of=str(holdout.dates[row]),
                event=bool(holdout.labels[row]),
                champion_pd=float(pd_before[i]),
                challenger_pd=float(pd_after[i]),
                champion_grade=grades[before[row]][0],
                challenger_grade=grades[after[row]][0],
                difference=moved,
                reasons=reasons,
                base=base,
                others=moved - base - named,
            )
        )
    return tuple(found)


def drivers(scored: Scored, threads: int = 0) -> tuple[Driver, ...]:
    """Every feature that moves the log-odds of some n-th row of the holdout, largest effect first, and which way."""
    step = max(1, len(scored.matrix) // SAMPLE)
    rows = scored.matrix[::step][:SAMPLE]
    effects = native.contributions(scored.booster, rows, threads)[:, :-1]
    means = np.abs(effects).mean(axis=0)
    order = sorted(range(len(means)), key=lambda i: (-means[i], scored.features[i]))
    return tuple(
        Driver(scored.features[i], float(means[i]), direction(rows[:, i], effects[:, i])) for i in order if means[i]
    )


def spearman(first: Floats, second: Floats) -> float | None:
    """Rank correlation with mid-ranks; None where one side is the same for all rows."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1])


def direction(values: Floats, effects: Floats) -> int:
    """+1 where a feature's effect rises with its value, −1 where it falls, 0 where neither tells most of it.

    Measured by what the effect is worth and not by ranks, which a nearly flat stretch would decide: the share of the
    effect's variance that its best rising curve explains, or its best falling one (isotonic regression: Barlow et al.
    1972). The larger counts, where it is at least a half and twice the other. Rows without a value say nothing.
    """
    known = ~np.isnan(values)
    _, place, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    if len(counts) < 2 or np.ptp(effects[known]) == 0:
        return 0
    means = np.bincount(place, effects[known]) / counts
    middle, whole = np.average(means, weights=counts), float(np.square(effects[known] - effects[known].mean()).sum())
    rising, falling = (
        float((counts * np.square(isotonic_regression(means, weights=counts, increasing=up).x - middle)).sum()) / whole
        for up in (True, False)
    )
    larger, smaller = max(rising, falling), min(rising, falling)
    if larger < 0.5 or larger < 2 * smaller:
        return 0
    return 1 if rising > falling else -1


def _reasons(
    champion: Mapping[str, float], challenger: Mapping[str, float], values: Mapping[str, float]
) -> tuple[Reason, ...]:
    found = [
        Reason(
            name,
            None if math.isnan(values[name]) else values[name],
            champion.get(name, 0.0),
            challenger.get(name, 0.0),
        )
        for name in values
    ]
    found.sort(key=lambda r: (-abs(r.difference), r.feature))
    return tuple(r for r in found[:REASONS] if r.difference)


def _side(scored: Scored, y: NDArray[np.int8]) -> Side:
    return Side(scored.version, scored.digest, measures(y, scored.log_odds))


def measures(y: NDArray[np.int8], log_odds: Floats) -> Measures:
    """One model's measures on labelled rows. Raises ValueError unless each class has two rows."""
    pd, c = native.probability(log_odds), statistics.calibration(y, log_odds)
    return Measures(
        auc=statistics.delong_interval(y, log_odds),
        ks=statistics.ks(y, log_odds),
        brier=statistics.brier(y, pd),
        ece=statistics.expected_calibration_error(y, pd),
        slope=None if math.isnan(c.slope) else c.slope,
        intercept=c.intercept,
        observed=c.observed,
        expected=c.expected,
        ratio=c.ratio,
    )
