"""The score computed again: recorded model bytes over replayed features, compared with what was stored, bit for bit."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from lineage.recording import Recording
from pipeline import archive, lake
from pipeline import booster as native
from pipeline.config import Settings
from pipeline.errors import ModelRefused, NotFound
from pipeline.ledger import ScoredModel
from pipeline.portfolio import Portfolio
from pipeline.registry import Registry
from pipeline.score import grades, score_points

if TYPE_CHECKING:
    from lightgbm import Booster

SCORE_COLUMNS = ("pd", "log_odds", "score_points", "grade")


@dataclass(frozen=True)
class Difference:
    """One value that did not come out as stored."""

    name: str
    stored: Any
    replayed: Any


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each feature the model reads adds to the log-odds of one subject; with ``base`` they sum to the score."""

    base: float
    by_feature: Mapping[str, float] = field(repr=False)


@lru_cache(maxsize=8)
def recorded_booster(settings: Settings, model: ScoredModel) -> Booster:
    """The model that scored, from the archive's bytes, or the registry's where a night kept none in the archive.

    Raises NotFound when neither has it any more; the digest is checked before the bytes are parsed.
    """
    try:
        return native.parse(archive.read_text(settings, model.digest))
    except NotFound as gone:
        registry = Registry(settings)
        try:
            version = registry.get(model.name, model.version)
            if version.digest != model.digest:
                raise gone
            return registry.load(version)
        except (NotFound, ModelRefused) as error:
            raise NotFound(
                f"the bytes of {model.name} version {model.version} (SHA-256 {model.digest}) are gone from the archive "
                "and the registry, so nothing it scored can be computed again",
                "restore the home's archive folder from a backup",
            ) from error


def score_again(booster: Booster, portfolio: Portfolio, features: Mapping[str, Any]) -> dict[str, Any]:
    """The score of one subject as the night writes it: pd, log_odds, score_points, grade."""
    raw = native.log_odds(booster, one_row(booster, features), 1)
    pd = native.probability(raw)
    return {
        "pd": float(pd[0]),
        "log_odds": float(raw[0]),
        "score_points": int(score_points(raw, portfolio.points)[0]),
        "grade": portfolio.grades[int(grades(pd, portfolio.grades)[0])].name,
    }


def contributions(booster: Booster, features: Mapping[str, Any]) -> Contributions:
    """Exact Shapley contributions in log-odds of one subject's features."""
    parts = native.contributions(booster, one_row(booster, features), 1)[0]
    return Contributions(float(parts[-1]), dict(zip(native.features(booster), parts[:-1].tolist(), strict=True)))


def one_row(booster: Booster, features: Mapping[str, Any]) -> NDArray[np.float64]:
    """The model's matrix of one subject, missing values as NaN. Raises NotFound naming a feature that is not there."""
    wanted = native.features(booster)
    if missing := [name for name in wanted if name not in features]:
        raise NotFound(
            f"the model reads {', '.join(missing)}, which the feature table does not have",
            "the run's record and its model do not belong together",
        )
    return np.array([[np.nan if features[name] is None else float(features[name]) for name in wanted]])


def same(stored: Any, replayed: Any) -> bool:
    """Equal to the bit: NULL only equals NULL, and 0.0 is not -0.0."""
    if isinstance(stored, float) and isinstance(replayed, float):
        return struct.pack("<d", stored) == struct.pack("<d", replayed)
    return type(stored) is type(replayed) and bool(stored == replayed)


def differences(stored: Mapping[str, Any], replayed: Mapping[str, Any], names: Sequence[str]) -> tuple[Difference, ...]:
    """The named values that are not the same, in the order of ``names``."""
    return tuple(
        Difference(name, stored.get(name), replayed.get(name))
        for name in names
        if not same(stored.get(name), replayed.get(name))
    )


def rows_of(con: duckdb.DuckDBPyConnection, relation: str, where: str = "true", *values: Any) -> list[dict[str, Any]]:
    """Rows of a relation by column name."""
    found = con.execute(f"SELECT * FROM {relation} WHERE {where}", list(values))
    names = [c[0] for c in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def stored(
    con: duckdb.DuckDBPyConnection, recorded: Recording, subject_id: int | str
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The feature row of one subject (None when its partition is no longer kept) and its score, as published.

    con: the lake at the publication's snapshot.
    """
    return (
        _stored(con, recorded, f"features.{recorded.target.name}", subject_id),
        _stored(con, recorded, f"scores.{recorded.subject}_scores", subject_id),
    )


def _stored(
    con: duckdb.DuckDBPyConnection, recorded: Recording, table: str, subject_id: int | str
) -> dict[str, Any] | None:
    where = f"{recorded.key} = ? AND as_of_date = ?"
    return next(iter(rows_of(con, f"{lake.ALIAS}.{table}", where, subject_id, recorded.as_of)), None)
