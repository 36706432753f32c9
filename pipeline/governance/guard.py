"""The access table at the door of a service function: what it refuses is put on record."""

from __future__ import annotations

from sqlalchemy import Engine

from pipeline.errors import AccessDenied
from pipeline.governance import access, audit
from pipeline.governance.access import Actor
from pipeline.governance.texts import shown


def require(engine: Engine, actor: Actor, action: str, about: str) -> None:
    """Return when the actor may; otherwise record the refusal and raise AccessDenied.

    about: what it was asked of, as the audit log names it: ``account:100``, ``night:2026-03-14``.
    """
    try:
        access.require(actor, action)
    except AccessDenied:
        detail = {"rule": action, "roles": sorted(actor.roles)}
        subject = shown(" ".join(about.split()), most=200)
        audit.append(engine, actor=actor.name, action="access.refused", subject=subject, detail=detail)
        raise
