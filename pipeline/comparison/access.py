"""Whose scores moved: the ids of the largest movers are for those who may see personal data, and that is on record."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Engine

from pipeline.comparison.facts import Comparison
from pipeline.comparison.store import Kept
from pipeline.governance import audit, guard
from pipeline.governance.access import Actor


def without_ids(found: Comparison) -> Comparison:
    """The comparison as anybody may see it."""
    return replace(found, movers=tuple(replace(mover, subject="") for mover in found.movers))


def with_ids(engine: Engine, actor: Actor, kept: Kept, found: Comparison) -> Comparison:
    """The comparison as it is kept. Raises AccessDenied; that somebody saw it, or was refused, is recorded."""
    subject = f"model:{kept.model}/{kept.challenger_version}"
    guard.require(engine, actor, "personal_data.read", subject)
    about = {"what": "subjects of the largest movers", "comparison_sha256": kept.sha256}
    audit.append(engine, actor=actor.name, action="personal_data.read", subject=subject, detail=about)
    return found
