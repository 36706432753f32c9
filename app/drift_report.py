"""What ``scoretrace drift`` prints: stored drift, read and never computed."""

from __future__ import annotations

from contextlib import closing
from datetime import date

from pipeline import lake
from pipeline.config import Settings
from pipeline.errors import NotFound
from pipeline.home import open_home
from pipeline.monitoring.drift import Drift, history
from pipeline.monitoring.policy import SEGMENTS


def drift_between(
    settings: Settings,
    start: date,
    end: date,
    *,
    feature: str | None = None,
    segment: str | None = None,
    model: str | None = None,
    version: int | None = None,
) -> tuple[Drift, ...]:
    """Stored drift of the nights in [start, end]. segment: ``product`` or ``product=card``; None is the whole book.

    version: against that version's baseline. Raises NotFound naming what is there when nothing matches.
    """
    portfolio, _ = open_home(settings)
    if model is not None:
        portfolio.model(model)
    elif version is not None:
        model = portfolio.models[0].name
    dimension, _, part = (segment or "").partition("=")
    if dimension and dimension not in portfolio.monitoring.segments:
        raise NotFound(
            f"the book is not split by {dimension!r}",
            f"{portfolio.name} declares {', '.join(portfolio.monitoring.segments)} (of {', '.join(SEGMENTS)})",
        )
    with closing(lake.connect(settings)) as con:
        found = history(
            con, start, end, model=model, version=version, feature=feature, dimension=dimension, segment=part or None
        )
    if not found:
        named = " ".join(filter(None, [feature, segment, f"against version {version}" if version else ""]))
        against = f" --baseline {version}" if version else ""
        raise NotFound(
            f"no drift is stored between {start} and {end}" + (f" for {named}" if named else ""),
            f"`scoretrace monitor --as-of DATE{against}` stores a published night's",
        )
    return found
