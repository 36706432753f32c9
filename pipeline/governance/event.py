"""A record of the audit log as an event that state is folded from: its time a moment, its detail a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipeline.governance.chain import Record


@dataclass(frozen=True)
class Event:
    """One thing that happened: by whom, and about what."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any] = field(repr=False)


def event_of(r: Record) -> Event:
    """Raises RecordDamaged when the detail is no JSON object."""
    return Event(r.seq, datetime.fromisoformat(r.at), r.actor, r.action, r.subject, r.facts)
