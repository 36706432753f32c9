"""Where the two faces write down what people did: the function that is handed to whatever changes something."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine


def record(where: Engine | Connection, *, actor: str, action: str, subject: str, detail: dict[str, Any]) -> None:
    """Keep nothing: until the audit log is joined here, the events of users and promotions are the only record."""
