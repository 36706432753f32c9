"""When do outcomes say that a model is not what it was held to be? A pure function: stored figures in, findings out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pipeline.monitoring.alert_rules import CALIBRATION, HIGH, MODERATE, PERFORMANCE, Finding
from pipeline.monitoring.cohorts import LIVE, MATURED
from pipeline.monitoring.outcome_reads import Holdout, StoredPerformance
from pipeline.monitoring.performance import ALL
from pipeline.monitoring.policy import DriftPolicy


def outcome_findings(
    cohorts: Iterable[StoredPerformance], holdouts: Iterable[Holdout], policy: DriftPolicy
) -> list[Finding]:
    """What the newest matured month of each model's version in force asks to be told.

    In force is the version of the newest month that was scored: what an earlier one did is answered by its
    replacement.

    Performance: the month's AUC lies below the holdout's by more than chance, that is, DeLong's intervals of the two
    are apart. Calibration: observed over expected is outside [1/r, r] with r the policy's ``calibration_ratio``, and
    the count of events is one that the PDs give by chance with less than the policy's ``false_alarms`` (normal
    approximation; Spiegelhalter's variance taken at the mean PD, which is never too small). Estimates and backfilled
    scores ask for nothing.
    """
    held: Mapping[tuple[str, int], Mapping[str, float]] = {(h.model_name, h.model_version): h.metrics for h in holdouts}
    live = sorted(
        (row for row in cohorts if (row.origin, row.segment) == (LIVE, ALL)),
        key=lambda row: (row.month, row.model_version),
    )
    in_force = {row.model_name: row.model_version for row in live}
    newest = {
        row.model_name: row for row in live if row.kind == MATURED and row.model_version == in_force[row.model_name]
    }
    found = []
    for model, row in sorted(newest.items()):
        version = row.model_version
        reached = held.get((model, version), {}).get("auc_low")
        if row.auc is not None and row.auc_high is not None and reached is not None and row.auc_high < reached:
            message = (
                f"{model} v{version}: AUC {row.auc:.4f} (up to {row.auc_high:.4f}) on the scores of {row.month:%B %Y}, "
                f"n {row.n:,}; on its holdout it was at least {reached:.4f}"
            )
            found.append(Finding(f"{PERFORMANCE}/{model}", PERFORMANCE, HIGH, message, (f"{model}/{version}",)))
        if off := _off_calibration(row, policy):
            found.append(off)
    return found


def _off_calibration(row: StoredPerformance, policy: DriftPolicy) -> Finding | None:
    if row.events is None or not 0 < row.mean_pd < 1 or row.n < policy.minimum_rows:
        return None
    ratio = row.events / row.expected
    spread = math.sqrt(row.n * row.mean_pd * (1 - row.mean_pd))
    p_value = math.erfc(abs(row.events - row.expected) / spread / math.sqrt(2))
    most = policy.calibration_ratio
    if 1 / most <= ratio <= most or p_value > policy.false_alarms:
        return None
    message = (
        f"{row.model_name} v{row.model_version}: {row.events:,} events came true on the scores of {row.month:%B %Y}, "
        f"{row.expected:,.1f} were expected (ratio {ratio:.2f}, p {p_value:.1e}, n {row.n:,})"
    )
    level = HIGH if ratio > most else MODERATE  # a PD that is too low is the one that costs
    return Finding(
        f"{CALIBRATION}/{row.model_name}", CALIBRATION, level, message, (f"{row.model_name}/{row.model_version}",)
    )
