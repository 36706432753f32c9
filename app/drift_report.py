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
from pipeline.monitoring.score_drift import Moved, between
from pipeline.portfolio import Portfolio


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
    dimension, part = _split(portfolio, segment)
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


def scores_moved(
    settings: Settings, start: date, end: date, *, model: str | None = None, segment: str | None = None
) -> Moved:
    """Why the mean score of two nights differs, by feature. segment: ``product=card``; None is the whole book.

    Raises NotFound for a model, a split or a night of which nothing is stored.
    """
    portfolio, _ = open_home(settings)
    spec = portfolio.model(model) if model else portfolio.models[0]
    dimension, part = _split(portfolio, segment)
    if dimension and not part:
        raise NotFound(f"--segment {dimension} names no part of the split", f"name one, such as {dimension}=VALUE")
    with closing(lake.connect(settings)) as con:
        return between(con, spec, start, end, dimension=dimension, segment=part)


def _split(portfolio: Portfolio, segment: str | None) -> tuple[str, str]:
    """``product=card`` as split and part. Raises NotFound for a split that the portfolio does not declare."""
    dimension, _, part = (segment or "").partition("=")
    if dimension and dimension not in portfolio.monitoring.segments:
        raise NotFound(
            f"the book is not split by {dimension!r}",
            f"{portfolio.name} declares {', '.join(portfolio.monitoring.segments)} (of {', '.join(SEGMENTS)})",
        )
    return dimension, part
