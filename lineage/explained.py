"""Why a score, without its rows: the features as stored and what each adds to the log-odds.

This is what a page shows at once; ``trace`` goes on to the rows and the proof. Personal values are masked here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import duckdb
from sqlalchemy import Engine

from lineage import rescore
from lineage.personal_data import MASK, personal_features, shown
from lineage.recording import Recording, meta_of
from lineage.subjects import resolved
from pipeline.config import Settings
from pipeline.errors import NotFound
from pipeline.governance import guard
from pipeline.governance.access import Actor
from pipeline.portfolio import Portfolio


@dataclass(frozen=True)
class ExplainedFeature:
    """One feature's stored value, masked where it is personal, and what it means. contribution: None when not read."""

    name: str
    value: Any
    contribution: float | None
    description: str
    declared: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Explained:
    """A score as its base and the contributions of its features, the largest first; with ``together`` they sum to
    ``log_odds``.

    personal: the features that are personal data, whether or not this subject has a value for them. together: what
    those with a value contribute, as one sum; their own contributions are withheld. None when there are none.
    """

    recorded: Recording = field(repr=False)
    base: float
    log_odds: float
    features: tuple[ExplainedFeature, ...] = field(repr=False)
    personal: frozenset[str] = field(repr=False)
    together: float | None = None


def explained(
    settings: Settings,
    engine: Engine,
    portfolio: Portfolio,
    subject: str,
    as_of: date,
    *,
    actor: Actor,
    kind: str | None = None,
    run_id: str | None = None,
    con: duckdb.DuckDBPyConnection | None = None,
) -> Explained:
    """Split one published score by feature. Arguments and errors as ``trace.trace``; NotFound, too, when the night's
    features are no longer kept: a trace computes them again."""
    guard.require(engine, actor, "trace.read", f"subject:{subject}")
    with resolved(settings, engine, portfolio, subject, as_of, kind, run_id, con) as (recorded, id_, at):
        values, score = rescore.stored(at, recorded, id_)
    if values is None or score is None:
        raise NotFound(
            f"the features of {as_of} are no longer kept", "prove the score: that computes them again from the rows"
        )
    parts = rescore.contributions(rescore.recorded_booster(settings, recorded.scored), values)
    personal = personal_features(recorded)
    features = [
        ExplainedFeature(
            name,
            shown(name, values.get(name), personal),
            # What a masked value contributes narrows it: it is told of all of them together.
            None if _hidden(name, values, personal) else parts.by_feature.get(name),
            str(recorded.target.columns[name].get("description", "")),
            meta_of(recorded.target.columns[name]),
        )
        for name in recorded.features
    ]
    features.sort(key=lambda f: (f.contribution is None, -abs(f.contribution or 0.0), f.name))
    apart = [parts.by_feature[f.name] for f in features if f.value == MASK and f.name in parts.by_feature]
    together = math.fsum(apart) if apart else None
    return Explained(recorded, parts.base, float(score["log_odds"]), tuple(features), personal, together)


def _hidden(name: str, values: Mapping[str, Any], personal: frozenset[str]) -> bool:
    return bool(shown(name, values.get(name), personal) == MASK)
