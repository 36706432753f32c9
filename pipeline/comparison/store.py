"""Comparisons kept: the document in the archive under its SHA-256, and a row that says whose it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Select, insert, select

from pipeline import archive
from pipeline.comparison.facts import Comparison, read
from pipeline.config import Settings
from pipeline.control import comparisons
from pipeline.errors import NotFound
from pipeline.governance import canonical_json, coverage


@dataclass(frozen=True)
class Kept:
    """Which comparison there is, without its figures."""

    run_id: str
    model: str
    challenger_version: int | None
    challenger_digest: str
    champion_version: int | None
    sha256: str
    made_at: datetime


def keep(settings: Settings, comparison: Comparison) -> str:
    """Put a comparison into the archive; returns its SHA-256."""
    return archive.keep(settings, canonical_json.encode(comparison.document()))


def record(
    connection: Connection, run_id: str, comparison: Comparison, sha256: str
) -> dict[str, dict[str, dict[str, str]]]:
    """Say which training run made it, in that run's own transaction; returns what its audit record says of the row."""
    champion = comparison.champion
    made = connection.execute(
        insert(comparisons).values(
            run_id=run_id,
            model_name=comparison.model,
            challenger_version=comparison.challenger.version,
            challenger_digest=comparison.challenger.digest,
            champion_version=champion.version if champion else None,
            champion_digest=champion.digest if champion else None,
            sha256=sha256,
            made_at=datetime.now(UTC),
        )
    )
    return coverage.of(connection, comparisons, made.inserted_primary_key or ())


def of_model(engine: Engine, model: str) -> tuple[Kept, ...]:
    """Every comparison of a model, oldest first."""
    return _found(engine, select(comparisons).where(comparisons.c.model_name == model).order_by(comparisons.c.id))


def of_training(engine: Engine, run_id: str, digest: str) -> Kept | None:
    """The comparison that a training run made of the bytes it registered; None for a run from before there were any."""
    c = comparisons
    query = select(c).where(c.c.run_id == run_id, c.c.challenger_digest == digest).order_by(c.c.id)
    found = _found(engine, query)
    return found[-1] if found else None


def load(settings: Settings, sha256: str) -> Comparison:
    """A comparison by its hash. Raises NotFound when the archive has lost or changed it."""
    return read(json.loads(archive.read_text(settings, sha256)))


def between(settings: Settings, engine: Engine, model: str, champion: int, challenger: int) -> tuple[Kept, Comparison]:
    """The newest comparison of two versions. Raises NotFound naming what there is to look at instead."""
    found = of_model(engine, model)
    for kept in reversed(found):
        if (kept.champion_version, kept.challenger_version) == (champion, challenger):
            return kept, load(settings, kept.sha256)
    pairs = [
        f"{k.champion_version} {k.challenger_version}" for k in found if k.challenger_version and k.champion_version
    ]
    first = [str(k.challenger_version) for k in found if k.challenger_version and not k.champion_version]
    raise NotFound(
        f"version {challenger} of {model} was not compared with version {champion} when it was trained",
        f"kept are, champion first: {'; '.join(dict.fromkeys(pairs)) or 'none'}"
        + (f" (without a champion: version {', '.join(dict.fromkeys(first))})" if first else ""),
    )


def _found(engine: Engine, query: Select[Any]) -> tuple[Kept, ...]:
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return tuple(
        Kept(
            r["run_id"],
            r["model_name"],
            r["challenger_version"],
            r["challenger_digest"],
            r["champion_version"],
            r["sha256"],
            r["made_at"] if r["made_at"].tzinfo else r["made_at"].replace(tzinfo=UTC),
        )
        for r in rows
    )
