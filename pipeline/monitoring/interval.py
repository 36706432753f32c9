"""A figure and how sure it is. Alone here: whoever reads what was measured loads no statistics to measure with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A point estimate with its confidence limits."""

    estimate: float
    low: float
    high: float
