"""Fairness of decisions and scores between groups: adverse impact ratio and standardised mean difference.

Both say how far groups are apart, neither says why. Groups too small to say anything are named and not judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class GroupImpact:
    """One group's selections. ``rate`` is selected over total (None for an empty group).

    ``ratio`` is the group's rate over the reference's and ``passes`` whether it reaches the threshold; both are None
    where the group is too small, or where nobody of the reference was selected.
    """

    group: str
    selected: int
    total: int
    rate: float | None
    ratio: float | None
    passes: bool | None


@dataclass(frozen=True)
class AdverseImpact:
    """Every group by name. ``reference`` is None where no group is large enough to be compared with."""

    reference: str | None
    threshold: float
    smallest: int
    groups: tuple[GroupImpact, ...]

    @property
    def too_small(self) -> tuple[str, ...]:
        """Groups that were not judged for their size."""
        return tuple(g.group for g in self.groups if g.total < self.smallest)

    @property
    def adverse(self) -> tuple[str, ...]:
        """Groups whose ratio is under the threshold."""
        return tuple(g.group for g in self.groups if g.passes is False)

    @property
    def lowest(self) -> float | None:
        """The smallest ratio of a group other than the reference; None where none was judged."""
        return min((g.ratio for g in self.groups if g.ratio is not None and g.group != self.reference), default=None)

    @property
    def passes(self) -> bool | None:
        """Whether every judged group reaches the threshold; None where no group was compared with the reference."""
        return None if self.lowest is None else not self.adverse


@dataclass(frozen=True)
class Moments:
    """Size, mean and sample variance (divisor n − 1) of one group's scores; the variance is NaN for n < 2."""

    n: int
    mean: float
    variance: float


def adverse_impact(
    selected: Mapping[str, int],
    total: Mapping[str, int],
    reference: str | None = None,
    threshold: float = 0.8,
    smallest: int = 30,
) -> AdverseImpact:
    """Adverse impact ratio: (selected_g / total_g) / (selected_r / total_r) of each group g to a reference r.

    The four-fifths rule of the Uniform Guidelines on Employee Selection Procedures, 29 CFR 1607.4(D): a ratio under
    ``threshold`` is evidence of adverse impact, the threshold itself passes. Ratios are compared as fractions, and a
    float threshold as the decimal it is written as, so 48 of 60 against 60 of 60 is exactly 0.8.

    selected, total: people by group; a group missing in ``selected`` had none selected. reference: by default the
    group with the highest rate (then the larger, then by name) among those with at least ``smallest`` people.
    Raises ValueError for no groups, counts that cannot be, and a reference that is unknown or too small.
    """
    if not total:
        raise ValueError("the adverse impact ratio needs at least one group")
    if smallest < 1 or not threshold > 0:
        raise ValueError("the threshold must be above 0, and the smallest group at least 1")
    unknown = sorted(set(selected) - set(total))
    if unknown:
        raise ValueError(f"groups {unknown} were selected from but have no total")
    counts = {group: (selected.get(group, 0), total[group]) for group in sorted(total)}
    for group, (chosen, people) in counts.items():
        if not 0 <= chosen <= people:
            raise ValueError(f"group {group!r}: {chosen} selected of {people} cannot be")
    rates = {group: Fraction(*pair) for group, pair in counts.items() if pair[1]}
    large = [group for group, (_, people) in counts.items() if people >= smallest]
    if reference is None:
        reference = min(large, key=lambda g: (-rates[g], -total[g], g), default=None)
    elif reference not in counts:
        raise ValueError(f"the reference group {reference!r} is none of {list(counts)}")
    elif reference not in large:
        raise ValueError(f"the reference group {reference!r} has {total[reference]} people, under {smallest}")
    base = Fraction(0) if reference is None else rates[reference]
    least = Fraction(repr(float(threshold)))
    groups = []
    for group, (chosen, people) in counts.items():
        ratio = rates[group] / base if group in large and base else None
        groups.append(
            GroupImpact(
                group,
                chosen,
                people,
                float(rates[group]) if people else None,
                None if ratio is None else float(ratio),
                None if ratio is None else ratio >= least,
            )
        )
    return AdverseImpact(reference, threshold, smallest, tuple(groups))


def moments(scores: ArrayLike) -> Moments:
    """Size, mean and sample variance of a vector of scores. Raises ValueError for an empty one, NaN or infinities."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError("the scores of a group must be one vector, and not empty")
    if np.isnan(values).any():
        raise ValueError("a score is NaN")
    if np.isinf(values).any():
        raise ValueError("a score is infinite")
    variance = float(values.var(ddof=1)) if len(values) > 1 else math.nan
    return Moments(len(values), float(values.mean()), variance)


def standardized_mean_difference(group: Moments, reference: Moments) -> float:
    """SMD = (mean_g − mean_r) / s, with the pooled s² = ((n_g−1)·s_g² + (n_r−1)·s_r²) / (n_g + n_r − 2).

    Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd edition (1988), 2.2. Positive: the group's
    scores are higher. Two groups of constant scores give 0 where they are equal, otherwise an infinity of that sign.
    Raises ValueError where a group has fewer than two rows.
    """
    if group.n < 2 or reference.n < 2:
        raise ValueError("a standardised mean difference needs at least two rows in each group")
    spread = (group.n - 1) * group.variance + (reference.n - 1) * reference.variance
    pooled = math.sqrt(spread / (group.n + reference.n - 2))
    difference = group.mean - reference.mean
    if pooled == 0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / pooled
