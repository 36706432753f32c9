"""Adverse impact by protected group, as policy figures: approval rates at the cut-off, and scores apart. Pure.

Protected attributes come in here and nowhere else: no model reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline import booster as native
from pipeline.comparison.facts import Fairness, Group, Impact
from pipeline.monitoring.fairness import AdverseImpact, adverse_impact, moments, standardized_mean_difference

THRESHOLD, SMALLEST = 0.8, 30
UNKNOWN = ""
"""The group of a row whose attribute is not on record; it is counted and not judged."""


def fairness(
    attributes: Mapping[str, NDArray[np.str_]],
    labels: NDArray[np.int8],
    log_odds: Mapping[str, NDArray[np.float64]],
    cutoff_pd: float | None,
    references: Mapping[str, str] | None = None,
) -> Fairness:
    """Figures of each attribute under each model.

    attributes: attribute → group of each row, UNKNOWN where not recorded. log_odds: ``champion`` or ``challenger`` →
    one number a row. references: attribute → group that the others are compared with; by default the one approved
    most often among those that are large enough.
    """
    known = {name: groups for name, groups in attributes.items() if (groups != UNKNOWN).any()}
    unknown = int(len(labels) - np.max([(g != UNKNOWN).sum() for g in known.values()])) if known else len(labels)
    impacts = [
        _impact(name, groups, labels, model, scores, cutoff_pd, (references or {}).get(name))
        for name, groups in known.items()
        for model, scores in log_odds.items()
    ]
    why = "" if known else "no protected attribute is on record for these rows"
    return Fairness(cutoff_pd, THRESHOLD, SMALLEST, unknown, tuple(impacts), why)


def _impact(
    attribute: str,
    groups: NDArray[np.str_],
    labels: NDArray[np.int8],
    model: str,
    log_odds: NDArray[np.float64],
    cutoff_pd: float | None,
    reference: str | None,
) -> Impact:
    names = sorted(set(groups.tolist()) - {UNKNOWN})
    rows = {name: groups == name for name in names}
    totals = {name: int(chosen.sum()) for name, chosen in rows.items()}
    if reference is not None and totals.get(reference, 0) < SMALLEST:
        reference = None
    approved = None if cutoff_pd is None else native.probability(log_odds) <= cutoff_pd
    judged: AdverseImpact | None = None
    if approved is not None:
        selected = {name: int(approved[chosen].sum()) for name, chosen in rows.items()}
        judged = adverse_impact(selected, totals, reference, THRESHOLD, SMALLEST)
        reference = judged.reference
    else:
        large = [name for name in names if totals[name] >= SMALLEST]
        reference = reference or max(large, key=lambda name: (totals[name], name), default=None)
    apart = _apart(names, rows, totals, log_odds, reference)
    by_name = {g.group: g for g in judged.groups} if judged else {}
    found = tuple(
        Group(
            group=name,
            rows=totals[name],
            events=int(labels[rows[name]].sum()),
            approved=by_name[name].selected if judged else None,
            rate=by_name[name].rate if judged else None,
            air=by_name[name].ratio if judged else None,
            passes=by_name[name].passes if judged else None,
            smd=apart.get(name),
        )
        for name in names
    )
    return Impact(attribute, model, reference, tuple(n for n in names if totals[n] < SMALLEST), found)


def _apart(
    names: Sequence[str],
    rows: Mapping[str, NDArray[np.bool_]],
    totals: Mapping[str, int],
    log_odds: NDArray[np.float64],
    reference: str | None,
) -> dict[str, float]:
    """Standardised mean difference of each large group's log-odds to the reference's; only what is finite."""
    if reference is None:
        return {}
    base = moments(log_odds[rows[reference]])
    found = {
        name: standardized_mean_difference(moments(log_odds[rows[name]]), base)
        for name in names
        if totals[name] >= SMALLEST and name != reference
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}
