"""What a lender watches and when it is told: the ``monitoring:`` section of a portfolio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SEGMENTS = ("product", "state", "vintage", "grade", "arrival")


@dataclass(frozen=True)
class DriftPolicy:
    """Bounds of the drift statistics and alerts.

    segments: how the book is split, each way by itself; ``arrival`` parts what has news of this night from the rest.
    watched: the splits whose segments may raise an alert alone; the whole book always may.
    moderate, high: PSI from which on a feature has drifted. alpha: chance of a single significant PSI without drift.
    false_alarms: chance that a night without drift raises any alert of a model; shared out among all its tests.
    nights, of: on how many of the last nights a moderate drift must stand; a high one is told at once.
    importance: only features up to this rank of the model's gain raise an alert. minimum_rows: neither do segments
    with fewer rows. launch_nights: a version's first nights; an alert needs drift against them too, so that what
    was so on the day a version took over is shown and not told each night.
    volume_window: loads that a load is compared with when a cause is looked for.
    sample: subjects whose contributions are computed each night.
    """

    segments: tuple[str, ...] = SEGMENTS
    watched: tuple[str, ...] = ("arrival",)
    moderate: float = 0.10
    high: float = 0.25
    alpha: float = 0.05
    false_alarms: float = 0.001
    nights: int = 3
    of: int = 5
    importance: int = 40
    minimum_rows: int = 100
    launch_nights: int = 7
    volume_window: int = 28
    sample: int = 400

    def band(self, psi: float | None) -> str:
        """``stable``, ``moderate`` or ``high``; ``none`` where there is no PSI."""
        if psi is None:
            return "none"
        return "high" if psi >= self.high else "moderate" if psi >= self.moderate else "stable"


def parse(raw: Mapping[str, Any]) -> DriftPolicy:
    """The policy of a ``monitoring:`` section over the defaults. Raises ValueError naming what is wrong."""
    values: dict[str, Any] = {k: tuple(map(str, v)) if k in ("segments", "watched") else v for k, v in raw.items()}
    try:
        policy = DriftPolicy(**values)
    except TypeError as error:
        raise ValueError(f"monitoring: {error}") from error
    if unknown := (set(policy.segments) - set(SEGMENTS)) | (set(policy.watched) - set(policy.segments)):
        raise ValueError(f"monitoring: no such segments: {', '.join(sorted(unknown))}; known: {', '.join(SEGMENTS)}")
    if not 0 < policy.moderate < policy.high:
        raise ValueError("monitoring: the bands must rise: 0 < moderate < high")
    if not (0 < policy.alpha < 1 and 0 < policy.false_alarms < 1):
        raise ValueError("monitoring: alpha and false_alarms are chances between 0 and 1")
    if not 1 <= policy.nights <= policy.of:
        raise ValueError("monitoring: nights must lie between 1 and of")
    if min(policy.importance, policy.minimum_rows, policy.launch_nights, policy.volume_window, policy.sample) < 1:
        raise ValueError("monitoring: importance, minimum_rows, launch_nights, volume_window, sample: at least 1")
    return policy
