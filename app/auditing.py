"""Where the two faces write down what people did: the function that is handed to whatever changes something."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine

from pipeline.governance import audit


def record(where: Engine | Connection, *, actor: str, action: str, subject: str, detail: dict[str, Any]) -> None:
    """One record at the end of the audit log."""
    audit.append(where, actor=actor, action=action, subject=subject, detail=detail)
