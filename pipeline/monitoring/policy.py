"""What a lender watches and when it is told: the ``monitoring:`` section of a portfolio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ARRIVAL = "arrival"
SEGMENTS = ("product", "state", "vintage", "grade", ARRIVAL, "channel")


@dataclass(frozen=True)
class DriftPolicy:
    """Bounds of the drift statistics and alerts.

    segments: how the book is split, each way by itself, for drift and for outcomes; ``arrival`` parts what has news of
    this night from the rest (drift only), ``channel`` parts applications (outcomes only).
    watched: split → on how many of the last ``of`` nights a moderate drift of one of its segments must stand; only
    these splits' segments raise an alert alone. For ``arrival`` one night is enough: its rows are new every night.
    moderate, high: PSI from which on a feature has drifted. alpha: chance of a single significant PSI without drift.
    false_alarms: chance that a night without drift raises any alert of a model; shared out among all its tests.
    nights, of: on how many of the last nights a moderate drift of the whole book must stand; a high one is told at
    once.
    importance: only features up to this rank of the model's gain raise an alert. minimum_rows: neither do segments
    with fewer rows. launch_nights: a version's first nights; an alert needs drift against them too, so that what
    was so on the day a version took over is shown and not told each night. launch_days: for arrivals these are the
    first nights whose day of the month is at most so many away, since what arrives follows the calendar.
    calibration_ratio: observed over expected events beyond which, or below whose inverse, a model is off.
    volume_window: loads that a load is compared with when a cause is looked for.
    sample: subjects whose contributions are computed each night. acknowledge_days: for how long at most somebody
    answers for an alert at a time.
    """

    segments: tuple[str, ...] = SEGMENTS
    watched: Mapping[str, int] = field(default_factory=lambda: {ARRIVAL: 1})
    moderate: float = 0.10
    high: float = 0.25
    alpha: float = 0.05
    false_alarms: float = 0.001
    nights: int = 3
    of: int = 5
    importance: int = 40
    minimum_rows: int = 100
    launch_nights: int = 7
    launch_days: int = 3
    calibration_ratio: float = 1.25
    volume_window: int = 28
    sample: int = 400
    acknowledge_days: int = 90

    def nights_of(self, dimension: str) -> int:
        """On how many of the last nights a moderate drift must stand: of the whole book, or of a split's segment."""
        return self.watched.get(dimension, self.nights)

    def band(self, psi: float | None) -> str:
        """``stable``, ``moderate`` or ``high``; ``none`` where there is no PSI."""
        if psi is None:
            return "none"
        return "high" if psi >= self.high else "moderate" if psi >= self.moderate else "stable"


def parse(raw: Mapping[str, Any]) -> DriftPolicy:
    """The policy of a ``monitoring:`` section over the defaults. Raises ValueError naming what is wrong."""
    values = dict(raw)
    try:
        if "segments" in values:
            values["segments"] = tuple(map(str, values["segments"]))
        if "watched" in values:
            values["watched"] = {str(split): int(nights) for split, nights in values["watched"].items()}
        policy = DriftPolicy(**values)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"monitoring: {error}") from error
    if unknown := (set(policy.segments) - set(SEGMENTS)) | (policy.watched.keys() - set(policy.segments)):
        raise ValueError(f"monitoring: no such segments: {', '.join(sorted(unknown))}; known: {', '.join(SEGMENTS)}")
    if not 0 < policy.moderate < policy.high:
        raise ValueError("monitoring: the bands must rise: 0 < moderate < high")
    if not (0 < policy.alpha < 1 and 0 < policy.false_alarms < 1):
        raise ValueError("monitoring: alpha and false_alarms are chances between 0 and 1")
    if not all(1 <= nights <= policy.of for nights in (policy.nights, *policy.watched.values())):
        raise ValueError("monitoring: nights, and those of each watched split, must lie between 1 and of")
    if policy.launch_days < 0:
        raise ValueError("monitoring: launch_days is at least 0")
    for name in ("importance", "minimum_rows", "launch_nights", "volume_window", "sample", "acknowledge_days"):
        if getattr(policy, name) < 1:
            raise ValueError(f"monitoring: {name} is at least 1")
    return policy
